"""Ctrl-C, SIGTERM and SIGKILL of put and get; the progress bar."""

import os
import pty
import re
import signal
import subprocess

import pytest

from cluster import MIB, random_bytes
from waiting import SLOW, wait_until

# A put without a name whose client is silent is collected after this.
TTL_OPTIONS = ["--anonymous-ttl-s", "2", "--collect-delay-s", "0"]


def half_put(cluster, path="/f"):
    """A put in its middle: some chunks are on servers, its input is not at its end."""
    put = cluster.popen("put", "--chunk-size", "1M", "-", path, stdin=subprocess.PIPE,
                        stderr=subprocess.PIPE)
    put.stdin.write(random_bytes(4 * MIB))
    put.stdin.flush()
    wait_until(lambda: cluster.chunk_total() > 0, "a chunk on a server")
    return put


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_put_leaves_nothing(make_cluster, signo):
    cluster = make_cluster(master_options=TTL_OPTIONS)
    put = half_put(cluster)
    assert not cluster.exists("/f")
    put.send_signal(signo)
    put.wait(20 * SLOW)
    put.communicate()
    assert put.returncode == -signo
    assert cluster.ok("ls", "/").out == b""
    wait_until(lambda: cluster.server_list() and cluster.chunk_total() == 0,
               "its chunks are collected", 30)
    cluster.put_bytes(b"again", "/f")
    assert cluster.get_bytes("/f") == b"again"


def test_an_ended_put_leaves_the_old_file(cluster):
    cluster.put_bytes(b"old", "/f")
    put = cluster.popen("put", "--force", "--chunk-size", "1M", "-", "/f", stdin=subprocess.PIPE)
    put.stdin.write(random_bytes(2 * MIB))
    put.stdin.flush()
    assert cluster.get_bytes("/f") == b"old"
    put.kill()
    put.communicate()
    assert cluster.get_bytes("/f") == b"old"


def test_a_slow_put_outlives_the_ttl_of_nameless_files(make_cluster):
    # A client tells the master every ten seconds that it lives.
    cluster = make_cluster(master_options=["--anonymous-ttl-s", "13", "--collect-delay-s", "0"])
    put = half_put(cluster)
    other = half_put(cluster, "/other")
    # Begun later, dead now: when it is collected, more than the ttl went by for the first, too.
    other.kill()
    other.communicate()
    both = cluster.json("df")["chunks"]
    wait_until(lambda: cluster.json("df")["chunks"] < both, "the killed one is collected", 40)
    put.stdin.close()
    assert put.wait(30 * SLOW) == 0, put.stderr.read()
    assert cluster.get_bytes("/f") == random_bytes(4 * MIB)


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_get_leaves_no_file(cluster, folder, signo):
    cluster.put_bytes(random_bytes(32 * MIB), "/f", "--chunk-size", "1M")
    # Frozen servers hold get in its middle.
    for server in cluster.servers:
        server.signal(signal.SIGSTOP)
    target = os.path.join(folder, "target")
    os.mkdir(target)
    get = cluster.popen("get", "/f", os.path.join(target, "f"), stderr=subprocess.PIPE)
    try:
        wait_until(lambda: os.listdir(target), "get began its file")
        get.send_signal(signo)
        assert get.wait(20 * SLOW) == -signo
        assert os.listdir(target) == []
    finally:
        for server in cluster.servers:
            server.signal(signal.SIGCONT)
        get.kill()
        get.communicate()


def run_on_terminal(argv, stdin=None):
    """Runs argv with stderr on a terminal; returns (exit code, what the terminal got)."""
    ours, theirs = pty.openpty()
    proc = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while True:
            piece = os.read(ours, 4096)
            if not piece:
                break
            seen += piece
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    return proc.wait(60 * SLOW), seen.decode()


def test_the_progress_bar_shows_on_a_terminal(cluster, folder):
    local = os.path.join(folder, "local")
    with open(local, "wb") as file:
        file.write(random_bytes(24 * MIB))
    code, seen = run_on_terminal(cluster.ctl_argv("put", local, "/f"))
    assert code == 0 and "\r" in seen and "100%" in seen
    assert re.search(r"[MK]i?B\S*/s", seen)
    code, seen = run_on_terminal(cluster.ctl_argv("get", "/f", local))
    assert code == 0 and "100%" in seen


def test_no_progress_bar_elsewhere(cluster, folder):
    local = os.path.join(folder, "local")
    with open(local, "wb") as file:
        file.write(random_bytes(24 * MIB))
    assert cluster.ok("put", local, "/f").err == ""
    assert cluster.ok("get", "/f", local).err == ""
