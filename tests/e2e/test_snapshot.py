"""Snapshots: instant, writable on both sides, sharing what nobody wrote since."""

import os
import subprocess

import pytest

from cluster import BLOCK, MIB, random_bytes
from daemon import BUILD, ROOT
from test_libgfs import build_with_pkg_config
from waiting import SLOW, pause, wait_until


@pytest.fixture
def pwrite(cluster, folder):
    """pwrite(path, offset, data): into the middle of a file, as no command does."""
    program = build_with_pkg_config(os.path.join(ROOT, "tests", "e2e", "programs", "pwrite.c"),
                                    os.path.join(folder, "pwrite"),
                                    os.path.join(BUILD, "lib", "pkgconfig"))
    env = dict(os.environ, LD_LIBRARY_PATH=os.path.join(BUILD, "lib"))

    def write(path, offset, data):
        done = subprocess.run([program, cluster.master.addr, path, str(offset)], input=data, env=env,
                              capture_output=True, timeout=60 * SLOW)
        assert done.returncode == 0, done.stderr
    return write


def io(server, name):
    with open(f"/proc/{server.pid}/io") as file:
        return int(dict(line.split(": ") for line in file.read().splitlines())[name])


def moved(server):
    """Bytes that the process has read and written so far, from disks and sockets together."""
    return io(server, "wchar") + io(server, "rchar")


def moved_when_quiet(server):
    """The same when the write buffer of what was stored before is on disk."""
    last = [moved(server)]

    def is_quiet():
        pause(0.7)
        before, last[0] = last[0], moved(server)
        return last[0] - before < 4096
    wait_until(is_quiet, f"{server.name} at rest")
    return last[0]


def used(cluster):
    return cluster.json("df")["used"]


def handles(cluster, path):
    return [chunk["handle"] for chunk in cluster.json("stat", path)["chunks"]]


def test_both_sides_can_be_written(cluster, pwrite):
    data = random_bytes(3 * MIB + 777)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    cluster.ok("snapshot", "/f", "/s")
    cluster.ok("snapshot", "/s", "/ss")
    assert handles(cluster, "/f") == handles(cluster, "/s") == handles(cluster, "/ss")
    pwrite("/f", MIB - 2000, b"F" * 4000)
    pwrite("/s", 2 * MIB + 5, b"S" * 100_000)
    pwrite("/ss", 3 * MIB + 700, b"grown" * 1000)
    f, s, ss = bytearray(data), bytearray(data), bytearray(data)
    f[MIB - 2000:MIB + 2000] = b"F" * 4000
    s[2 * MIB + 5:2 * MIB + 100_005] = b"S" * 100_000
    ss[3 * MIB + 700:] = b"grown" * 1000
    for path, expected in (("/f", f), ("/s", s), ("/ss", ss)):
        assert cluster.get_bytes(path) == expected, path
    # Only the chunks that were written are their own now.
    assert [a == b for a, b in zip(handles(cluster, "/f"), handles(cluster, "/s"))] == \
        [False, False, False, True]
    for path in ("/f", "/s", "/ss"):
        cluster.wait_replicas_ok(path, 3)
    cluster.ok("rm", "/f")
    cluster.ok("rm", "/s")
    assert cluster.get_bytes("/ss") == ss


def test_a_small_write_after_it_moves_little(cluster, pwrite):
    """4 KiB into a full chunk of 64 MiB: no copy of it, on the network or on disk."""
    data = random_bytes(64 * MIB)
    cluster.put_bytes(data, "/f")
    pwrite("/f", 0, data[:4096])
    cluster.ok("snapshot", "/f", "/s")
    wait_until(lambda: used(cluster) >= 3 * 64 * MIB, "all heartbeats with what is stored")
    quiet = {server: moved_when_quiet(server) for server in cluster.servers}
    stored = used(cluster)
    pwrite("/f", 10 * BLOCK + 100, b"x" * 4096)
    for server in cluster.servers:
        assert moved(server) - quiet[server] <= BLOCK, server.name
    assert handles(cluster, "/f") != handles(cluster, "/s")
    wait_until(lambda: 0 < used(cluster) - stored <= 3 * BLOCK, "the space that it took")
    assert cluster.get_bytes("/s") == data
    expected = bytearray(data)
    expected[10 * BLOCK + 100:10 * BLOCK + 100 + 4096] = b"x" * 4096
    assert cluster.get_bytes("/f") == expected


def test_a_tree_at_one_moment(cluster):
    for name in ("a", "b", "sub/c", "sub/deep/d"):
        cluster.ok("mkdir", "-p", os.path.dirname("/t/" + name))
        cluster.put_bytes(name.encode() * 1000, "/t/" + name)
    before = cluster.ok("ls", "-R", "/t").lines
    stored = 3 * 1000 * len("ab" "sub/c" "sub/deep/d")
    wait_until(lambda: used(cluster) == stored, "all heartbeats with what is stored")
    cluster.ok("snapshot", "/t", "/copy")
    assert cluster.ok("ls", "-R", "/copy").text == "".join(
        line.replace("/t", "/copy", 1) + "\n" for line in before)
    assert used(cluster) == stored
    cluster.put_bytes(b"new", "/t/a", "--force")
    cluster.put_bytes(b"more", "/copy/sub/e")
    cluster.ok("rm", "-r", "/t/sub")
    for name in ("a", "b", "sub/c", "sub/deep/d"):
        assert cluster.get_bytes("/copy/" + name) == name.encode() * 1000
    assert cluster.get_bytes("/t/a") == b"new"
    assert cluster.ok("ls", "/t").lines == ["a", "b"]


def test_records_go_on_on_both_sides(cluster):
    cluster.put_bytes(b"", "/r", "--chunk-size", "1M")
    cluster.ok("append", "--lines", "/r", stdin=b"1\n2\n3\n")
    cluster.ok("snapshot", "/r", "/s")
    for i in range(3):
        cluster.ok("append", "/r", stdin=b"r%d" % i)
        cluster.ok("append", "/s", stdin=b"s%d" % i)
    assert cluster.ok("cat", "--records", "/r").out == b"1\n2\n3\nr0\nr1\nr2\n"
    assert cluster.ok("cat", "--records", "/s").out == b"1\n2\n3\ns0\ns1\ns2\n"


def test_it_is_taken_while_many_append(cluster):
    """What was acknowledged before is in it, nothing of what came after, and no half record."""
    cluster.put_bytes(b"", "/r", "--chunk-size", "1M")
    producers = [cluster.popen("append", "--lines", "/r", stdin=subprocess.PIPE) for _ in range(4)]
    acknowledged = []

    def feed(count):
        for i, producer in enumerate(producers):
            lines = [b"%d.%d.%d %s" % (i, count, j, b"x" * 500) for j in range(40)]
            producer.stdin.write(b"".join(line + b"\n" for line in lines))
            producer.stdin.flush()
            acknowledged.extend(lines)

    def there(path="/r"):
        return cluster.ok("cat", "--records", path).out.split(b"\n")[:-1]
    for count in range(3):
        feed(count)
        wait_until(lambda: len(there()) == len(acknowledged), "all are there")
        cluster.ok("snapshot", "/r", f"/s{count}")
        before = len(acknowledged)
        feed(count + 10)
        assert set(there(f"/s{count}")) == set(acknowledged[:before])
        assert len(there(f"/s{count}")) == before
    for producer in producers:
        producer.stdin.close()
        assert producer.wait(60 * SLOW) == 0
    assert sorted(there()) == sorted(acknowledged)


def test_a_snapshot_in_the_middle_of_appends_holds_whole_records(cluster):
    cluster.put_bytes(b"", "/r", "--chunk-size", "1M")
    lines = [b"%d %s" % (i, b"x" * 1000) for i in range(3000)]
    producer = cluster.popen("append", "--lines", "/r", stdin=subprocess.PIPE)
    producer.stdin.write(b"".join(line + b"\n" for line in lines[:2000]))
    for i in range(4):
        cluster.ok("snapshot", "/r", f"/s{i}")
        producer.stdin.write(b"".join(line + b"\n" for line in lines[2000 + i * 250:2250 + i * 250]))
    producer.stdin.close()
    assert producer.wait(60 * SLOW) == 0
    assert sorted(cluster.ok("cat", "--records", "/r").out.split(b"\n")[:-1]) == sorted(lines)
    for i in range(4):
        held = cluster.ok("cat", "--records", f"/s{i}").out.split(b"\n")[:-1]
        assert len(set(held)) == len(held) and set(held) <= set(lines)


@pytest.mark.parametrize("source,target,word", [
    ("/d", "/d/inside", "outside"), ("/d", "/d", "exist"), ("/", "/copy", "outside"),
    ("/f", "/g", "exist"), ("/f", "/d", "exist"), ("/d", "/f", "exist"), ("/f", "/", "exist"),
    ("/missing", "/x", "no such"), ("/f", "/missing/x", "no such"), ("/f", "/g/x", "directory"),
    ("/f/x", "/y", "directory"), ("f", "/x", "path"), ("/f", "x", "path"),
    ("/f", "/" + 300 * "x", "long"), ("/f", "", "path"), ("", "/x", "path"),
])
def test_what_cannot_be_done_changes_nothing(cluster, source, target, word):
    cluster.put_bytes(b"f", "/f")
    cluster.put_bytes(b"g", "/g")
    cluster.ok("mkdir", "/d")
    cluster.put_bytes(b"in", "/d/in")
    before = cluster.ok("ls", "-R", "/").out
    failed = cluster.fails("snapshot", source, target)
    assert word in failed.err.lower() and failed.out == b""
    assert word != "exist" or f"{source} to {target}" in failed.err
    assert cluster.ok("ls", "-R", "/").out == before
    assert cluster.get_bytes("/g") == b"g" and cluster.get_bytes("/d/in") == b"in"
