"""Power cuts in the middle of puts: nothing acknowledged may be lost.

    sudo BUILD=build tests/power/powercut.py --cuts 20          on XFS and 20 on ext4
    sudo tests/power/powercut.py --fs xfs --cuts 500 --seed 3

Two disks: `one` holds the first chunkserver, `rest` the master and the other two. Writers put files
and remove some of them; each acknowledgement (exit code 0) is kept outside, here. Then the power of
all disks, or of `one`, is cut, the daemons are killed, the disks mounted again, the daemons started,
and what was acknowledged is read back. A cut of `one` must also not stop the writers.

At the end each chunkserver alone must give every file of which the master calls its replicas good.
The control: the same with the chunkservers' syncs switched off must show loss, or the rig is blind.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))

from cluster import Cluster  # noqa: E402
from daemon import BUILD  # noqa: E402
from disk import Disk  # noqa: E402
from waiting import pause, wait_until  # noqa: E402

WRITERS = 3
READERS = 16
CUTS_PER_CLUSTER = 25  # then a new one, so that the images do not fill
CONTROL_CUTS = 5
ACKS_BEFORE_CUT = 8
MOMENT_S = 0.3
SIZE_MAX_BYTES = 300_000
OLDER_SAMPLE = 15
SERVER_OPTIONS = ["--free-min", "1M", "--write-buffer", "1M", "--data-db-max-bytes", "16M",
                  "--report-interval-ms", "200"]
MASTER_OPTIONS = ["--startup-wait-ms", "1000", "--collect-delay-s", "1"]


class Loss(Exception):
    """An acknowledged thing is not as it was acknowledged."""


class Ledger:
    """What was acknowledged. Kept here, on a disk whose power stays on."""

    def __init__(self):
        self.lock = threading.Lock()
        self.files = {}  # path -> sha256
        self.removed = set()
        self.fresh = []  # acknowledged since the last check
        self.acks = 0
        self.dark = False

    def power(self, is_on):
        """A machine without power acknowledges nothing. Here its processes outlive the cut by a
        moment, and ext4's fdatasync can return success for a transaction that the cut has just
        aborted: what arrives after the cut began is not an acknowledgement."""
        with self.lock:
            self.dark = not is_on

    def put(self, path, digest):
        with self.lock:
            if self.dark:
                return
            self.files[path] = digest
            self.fresh.append(path)
            self.acks += 1

    def begin_remove(self, source):
        """Picks a file; until the removal is acknowledged it may be there or not."""
        with self.lock:
            if len(self.files) < 20:
                return None
            path = source.choice(sorted(self.files))
            del self.files[path]
            if path in self.fresh:
                self.fresh.remove(path)
            return path

    def remove(self, path):
        with self.lock:
            if self.dark:
                return
            self.removed.add(path)
            self.acks += 1


class Writer(threading.Thread):
    def __init__(self, rig, number, seed):
        super().__init__()
        self.rig = rig
        self.number = number
        self.random = random.Random(seed)
        self.stop = threading.Event()
        self.proc = None
        self.count = 0

    def run(self):
        while not self.stop.is_set():
            if self.random.randrange(8) == 0:
                path = self.rig.ledger.begin_remove(self.random)
                if path and self.call(["rm", path], b""):
                    self.rig.ledger.remove(path)
                continue
            data = self.random.randbytes(self.random.randrange(1, SIZE_MAX_BYTES))
            path = f"/{self.rig.turn:04d}-{self.number}-{self.count:05d}"
            self.count += 1
            if self.call(["put", "-", path], data):
                self.rig.ledger.put(path, hashlib.sha256(data).hexdigest())

    def call(self, args, data):
        proc = self.rig.cluster.popen("--timeout", "20", *args, stdin=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL)
        self.proc = proc
        if self.stop.is_set():
            proc.kill()
        proc.communicate(data)
        return proc.returncode == 0

    def end(self):
        """Kills what it is doing: not acknowledged, so nothing is promised."""
        self.stop.set()
        if self.proc is not None:
            self.proc.kill()
        self.join()


class Rig:
    """One cluster on two disks of one kind."""

    def __init__(self, folder, kind, seed, server_options=()):
        self.folder = folder
        self.random = random.Random(seed)
        self.ledger = Ledger()
        self.turn = 0
        self.disks = {}
        self.cluster = Cluster(os.path.join(folder, "run"), servers=0,
                               master_options=MASTER_OPTIONS,
                               server_options=SERVER_OPTIONS + list(server_options))
        for name in ("one", "rest"):
            self.disks[name] = Disk(folder, name, kind)
        self.cluster.master.data = self.disks["rest"].path + "/master"
        self.cluster.master.start()
        for name, disk in (("server0", "one"), ("server1", "rest"), ("server2", "rest")):
            self.cluster.add_server(data=f"{self.disks[disk].path}/{name}")
        self.cluster.wait_servers_up(3)

    def close(self):
        self.cluster.kill_all()
        for disk in self.disks.values():
            disk.remove()

    # ---- one cut -------------------------------------------------------------------------------
    def cut_in_the_middle(self, names):
        """Starts writers, cuts the power of the disks, stops what was on them."""
        self.turn += 1
        writers = [Writer(self, number, self.random.random()) for number in range(WRITERS)]
        before = self.ledger.acks
        for writer in writers:
            writer.start()
        try:
            wait_until(lambda: self.ledger.acks >= before + ACKS_BEFORE_CUT, "puts go on", 40)
            pause(self.random.random() * MOMENT_S)
            self.ledger.power("rest" not in names)
            for name in names:
                self.disks[name].cut()
            if "rest" not in names:
                after = self.ledger.acks
                wait_until(lambda: self.ledger.acks >= after + 2 * WRITERS,
                           "puts go on without the cut server", 40)
            else:
                pause(self.random.random() * MOMENT_S / 3)
        finally:
            for daemon in self.cluster.daemons():
                if any(daemon.data.startswith(self.disks[name].path + "/") for name in names):
                    daemon.kill()
            for writer in writers:
                writer.end()

    def power_on(self, names):
        self.ledger.power(True)
        for name in names:
            self.disks[name].unmount()
            self.disks[name].mount()
        for daemon in self.cluster.daemons():
            if not daemon.is_alive():
                daemon.start()
        self.cluster.wait_servers_up(3)

    def cut(self):
        """One cut and the check after it."""
        names = ["one"] if self.turn % 3 == 2 else ["one", "rest"]
        self.cut_in_the_middle(names)
        self.power_on(names)
        fresh, self.ledger.fresh = self.ledger.fresh, []
        older = [path for path in self.ledger.files if path not in fresh]
        self.check(fresh + self.random.sample(older, min(OLDER_SAMPLE, len(older))))
        if "rest" in names:
            self.check_replicas(fresh)
        self.check_removed()
        return len(fresh)

    # ---- checks --------------------------------------------------------------------------------
    def check(self, paths):
        for loss in self.losses(paths):
            raise loss

    def losses(self, paths):
        """Side by side: where a server alone cannot tell what is settled, each read waits for the
        others before it takes what is there."""
        with ThreadPoolExecutor(READERS) as pool:
            return [loss for loss in pool.map(self.loss, paths) if loss]

    def loss(self, path):
        result = self.cluster.ctl("--timeout", "10", "get", path, "-")
        if result.code != 0:
            return Loss(f"{path}: {result.err.strip()}")
        if hashlib.sha256(result.out).hexdigest() != self.ledger.files[path]:
            return Loss(f"{path}: other bytes than were acknowledged")
        return None

    def check_replicas(self, paths):
        """All servers were up when these were acknowledged: each must still have its replica."""
        for path in paths:
            try:
                self.cluster.wait_replicas_ok(path, 3)
            except AssertionError:
                states = self.cluster.json("stat", path)["chunks"]
                raise Loss(f"{path}: an acknowledged replica is gone: {states}") from None

    def check_removed(self):
        names = {"/" + name for name in self.cluster.ok("ls", "/").lines}
        back = names & self.ledger.removed
        if back:
            raise Loss(f"removed files are there again: {sorted(back)}")
        missing = set(self.ledger.files) - names
        if missing:
            raise Loss(f"files are not listed: {sorted(missing)}")

    def check_each_server_alone(self):
        self.check(self.ledger.files)
        good = {path: self.cluster.replicas(path) for path in self.ledger.files}
        for server in self.cluster.servers:
            others = [other for other in self.cluster.servers if other is not server]
            for other in others:
                other.kill()
            self.check([path for path, chunks in good.items()
                        if all(server in replicas for replicas in chunks)])
            for other in others:
                other.start()
            self.cluster.wait_servers_up(3)


def run_cuts(folder, kind, cuts, seed):
    """Returns (passed, failed): each cut and the last look at a cluster is one check."""
    passed = failed = acknowledged = done = 0
    began = time.monotonic()
    while done < cuts:
        rig = Rig(tempfile.mkdtemp(dir=folder), kind, seed + done)
        try:
            for _ in range(min(CUTS_PER_CLUSTER, cuts - done)):
                acknowledged += rig.cut()
                done += 1
                passed += 1
            rig.check_each_server_alone()
            passed += 1
        except (Loss, AssertionError, RuntimeError) as failure:
            failed += 1
            done += 1
            print(f"powercut {kind}: cut {done} (--seed {seed}): {failure}", flush=True)
            for daemon in rig.cluster.daemons():
                print(f"--- {daemon.name}\n{daemon.log()}")
            if failed >= 3:
                break
        finally:
            rig.close()
    print(f"powercut {kind}: {done} cuts, {acknowledged} files acknowledged in the middle of them, "
          f"{failed} failed, {time.monotonic() - began:.0f} s", flush=True)
    return passed, failed


def run_control(folder, kind, seed):
    """With syncs switched off loss must show."""
    rig = Rig(tempfile.mkdtemp(dir=folder), kind, seed, ["--debug-no-sync"])
    try:
        for number in range(CONTROL_CUTS):
            rig.cut_in_the_middle(["one", "rest"])
            rig.power_on(["one", "rest"])
            lost = len(rig.losses(rig.ledger.fresh))
            print(f"powercut {kind}: control without syncs: {lost} of {len(rig.ledger.fresh)} "
                  f"acknowledged files lost in cut {number + 1}", flush=True)
            if lost:
                return 1, 0
            rig.ledger.fresh = []
    except (AssertionError, RuntimeError) as failure:
        print(f"powercut {kind}: control: {failure}")
        return 0, 1
    finally:
        rig.close()
    print(f"powercut {kind}: the rig is blind: no loss without syncs")
    return 0, 1


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=20, help="on each file system")
    parser.add_argument("--fs", choices=["xfs", "ext4"], action="append")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-control", action="store_true", help="skip the run without syncs")
    args = parser.parse_args()

    passed = failed = 0
    if os.geteuid() != 0:
        print("powercut: skipped: needs root, for loop mounts")
        failed = 1 if os.environ.get("CI") else 0
    else:
        folder = tempfile.mkdtemp(prefix="gfs-power-")
        try:
            for kind in args.fs or ["xfs", "ext4"]:
                results = [run_cuts(folder, kind, args.cuts, args.seed)]
                if not args.no_control:
                    results.append(run_control(folder, kind, args.seed))
                passed += sum(result[0] for result in results)
                failed += sum(result[1] for result in results)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    with open(os.path.join(BUILD, "results-powercut.json"), "w") as out:
        json.dump({"passed": passed, "failed": failed}, out)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
