"""Local files that fail: unreadable, vanishing, shrinking; a full disk."""

import os
import shutil
import subprocess

import pytest

from cluster import BIN, MIB, random_bytes
from waiting import SLOW, wait_until

NOBODY = "65534"


def test_put_of_a_missing_local_file(cluster, folder):
    missing = os.path.join(folder, "missing")
    assert missing in cluster.fails("put", missing, "/f").err
    assert not cluster.exists("/f")


def test_put_of_a_local_directory(cluster, folder):
    assert folder in cluster.fails("put", folder, "/f").err
    assert not cluster.exists("/f")


@pytest.mark.root
def test_put_of_an_unreadable_local_file(cluster, folder):
    # Root may read everything, so gfsctl runs as nobody, from where nobody can reach it.
    program = shutil.copy(os.path.join(BIN, "gfsctl"), folder)
    secret = os.path.join(folder, "secret")
    with open(secret, "w") as file:
        file.write("secret")
    os.chmod(secret, 0o600)
    done = subprocess.run(["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups",
                           program, "--master", cluster.master.addr, "put", secret, "/f"],
                          capture_output=True, text=True, timeout=60 * SLOW)
    assert done.returncode == 1 and secret in done.stderr and "ermission" in done.stderr
    assert not cluster.exists("/f")


def test_a_local_file_that_shrinks_during_put(cluster, folder):
    local = os.path.join(folder, "shrinking")
    with open(local, "wb") as file:
        file.truncate(2 << 30)
    put = cluster.popen("put", local, "/f", stderr=subprocess.PIPE)
    fd_dir = f"/proc/{put.pid}/fd"

    def is_open():
        try:
            return local in [os.readlink(os.path.join(fd_dir, fd)) for fd in os.listdir(fd_dir)]
        except FileNotFoundError:  # one was closed while we looked
            return False
    wait_until(is_open, "put opened the file")
    os.truncate(local, 1000)
    err = put.communicate(timeout=60 * SLOW)[1].decode()
    assert put.returncode == 1 and local in err, err
    assert not cluster.exists("/f")


def test_a_local_file_that_vanishes_during_put_is_stored_whole(cluster, folder):
    data = random_bytes(8 * MIB)
    fifo = os.path.join(folder, "fifo")
    os.mkfifo(fifo)
    put = cluster.popen("put", fifo, "/f")
    with open(fifo, "wb") as writer:
        writer.write(data[:MIB])
        os.remove(fifo)
        writer.write(data[MIB:])
    assert put.wait(60 * SLOW) == 0
    assert cluster.get_bytes("/f") == data


@pytest.mark.root
def test_get_onto_a_full_disk_leaves_no_file(cluster, small_disk):
    disk = small_disk("2m")
    cluster.put_bytes(random_bytes(4 * MIB), "/f")
    result = cluster.fails("get", "/f", os.path.join(disk, "f"))
    assert "o space" in result.err
    assert os.listdir(disk) == []
    old = os.path.join(disk, "old")
    with open(old, "w") as file:
        file.write("old")
    cluster.fails("get", "/f", old)
    with open(old) as file:
        assert file.read() == "old"
    assert os.listdir(disk) == ["old"]


def test_get_to_a_full_stdout_fails(cluster):
    cluster.put_bytes(random_bytes(MIB), "/f")
    with open("/dev/full", "wb") as full:
        for command in (["get", "/f", "-"], ["cat", "/f"], ["ls", "/"]):
            get = cluster.popen(*command, stdout=full, stderr=subprocess.PIPE)
            err = get.communicate(timeout=60 * SLOW)[1]
            assert get.returncode == 1 and b"o space" in err, command


def test_get_into_a_missing_directory(cluster, folder):
    cluster.put_bytes(b"x", "/f")
    target = os.path.join(folder, "no", "such", "f")
    assert target in cluster.fails("get", "/f", target).err


def test_a_closed_pipe_ends_get(cluster):
    cluster.put_bytes(random_bytes(8 * MIB), "/f", "--chunk-size", "1M")
    get = cluster.popen("get", "/f", "-", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    get.stdout.read(1000)
    get.stdout.close()
    get.stderr.read()
    assert get.wait(60 * SLOW) != 0
