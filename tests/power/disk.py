"""A disk whose power can be cut: a file system on a loop-mounted sparse image.

cut() is what `xfs_io -x -c shutdown MNT` does: the file system stops at once, without writing its
log or any dirty page; what was not synced before is gone after the next mount. ext4 takes the same
request. Root only.
"""

import fcntl
import os
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

from waiting import wait_until  # noqa: E402

GOING_DOWN = 0x8004587D  # XFS_IOC_GOINGDOWN, EXT4_IOC_SHUTDOWN: _IOR('X', 125, u32)
NO_LOG_FLUSH = 2
IMAGE_BYTES = 1 << 30
MKFS = {
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"],
}


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")


class Disk:
    def __init__(self, folder, name, kind):
        self.image = os.path.join(folder, name + ".img")
        self.path = os.path.join(folder, name)
        self.is_mounted = False
        os.mkdir(self.path)
        with open(self.image, "wb") as image:
            image.truncate(IMAGE_BYTES)
        run(*MKFS[kind], self.image)
        self.mount()

    def mount(self):
        run("mount", "-o", "loop", self.image, self.path)
        self.is_mounted = True

    def cut(self):
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, GOING_DOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def unmount(self):
        """Every process with files on it must have ended."""
        def try_it():
            return subprocess.run(["umount", self.path], capture_output=True).returncode == 0
        wait_until(try_it, f"umount {self.path}", 20)
        self.is_mounted = False

    def remove(self):
        if self.is_mounted:
            subprocess.run(["umount", "-l", self.path], capture_output=True)
            self.is_mounted = False
        os.remove(self.image)
