"""Records: appended whole, by many at once, each exactly once; read back one by one."""

import collections
import subprocess
import tempfile

import pytest

from cluster import MIB, random_bytes
from waiting import SLOW, wait_until

HEADER = 32
RECORD_MAX = MIB // 4 - HEADER  # of a file with chunks of 1 MiB


def make_file(cluster, path="/r", chunk_size="1M", goal=3):
    cluster.put_bytes(b"", path, "--chunk-size", chunk_size, "--goal", str(goal))
    return path


def payloads(cluster, path="/r"):
    """The records, none of which may hold a newline."""
    return cluster.ok("cat", "--records", path).out.split(b"\n")[:-1]


def finish(process, stdin=None):
    out, err = process.communicate(stdin, 60 * SLOW)
    assert process.returncode == 0, err.decode()
    return out


def begin_lines(cluster, lines, path="/r"):
    """A producer of all these lines, at work."""
    with tempfile.TemporaryFile() as file:
        file.write(b"".join(line + b"\n" for line in lines))
        file.seek(0)
        return cluster.popen("append", "--lines", path, stdin=file, stderr=subprocess.PIPE)


def each_once(cluster, expected, path="/r"):
    counts = collections.Counter(payloads(cluster, path))
    twice = [record for record, count in counts.items() if count > 1]
    assert not twice, f"there twice: {twice[:3]}"
    lost = set(expected) - set(counts)
    assert not lost, f"{len(lost)} lost: {sorted(lost)[:3]}"
    assert set(counts) == set(expected)


def replicas_are_identical(cluster, path="/r"):
    cluster.wait_replicas_ok(path, 3)
    sums = []
    for alone in cluster.servers:
        others = [server for server in cluster.servers if server is not alone]
        for server in others:
            server.kill()
        sums.append(cluster.ok("--timeout", "20", "get", path, "-").out)
        for server in others:
            server.start()
        cluster.wait_servers_up(len(cluster.servers))
    assert sums[0] == sums[1] == sums[2]


# ---- one producer -----------------------------------------------------------------------------
def test_standard_input_is_one_record(cluster):
    make_file(cluster)
    blob = random_bytes(100_000).replace(b"\n", b"n")
    cluster.ok("append", "/r", stdin=blob)
    cluster.ok("append", "/r", stdin=b"")
    cluster.ok("append", "/r", stdin=b"two\nlines")
    assert cluster.ok("cat", "--records", "/r").out == blob + b"\n\ntwo\nlines\n"


def test_lines_are_records_with_offsets(cluster):
    make_file(cluster)
    lines = [b"first", b"", b"\xff\x00bytes", b"without newline"]
    answer = cluster.ok("--json", "append", "--lines", "/r", stdin=b"\n".join(lines)).json()
    assert answer["records"] == 4 and payloads(cluster) == lines
    expected = [sum(len(line) + HEADER for line in lines[:i]) for i in range(4)]
    assert answer["offsets"] == expected
    one = cluster.ok("--json", "append", "/r", stdin=b"x").json()
    assert one == {"offsets": [expected[-1] + HEADER + len(lines[-1])], "records": 1}
    assert cluster.ok("append", "--lines", "/r").out == b""
    assert len(payloads(cluster)) == 5


def test_a_line_is_appended_as_soon_as_it_is_read(cluster):
    make_file(cluster)
    producer = cluster.popen("append", "--lines", "/r", stdin=subprocess.PIPE)
    for count in (1, 2, 3):
        producer.stdin.write(b"line %d\n" % count)
        producer.stdin.flush()
        wait_until(lambda want=count: len(payloads(cluster)) == want, "the line is in the file")
    finish(producer)


def test_records_fill_chunks_without_crossing_their_ends(cluster):
    make_file(cluster)
    lines = [random_bytes(200_000, seed).replace(b"\n", b"n") for seed in range(12)]
    answer = cluster.ok("--json", "append", "--lines", "/r",
                        stdin=b"".join(line + b"\n" for line in lines)).json()
    ends = [offset + HEADER + len(line) - 1 for offset, line in zip(answer["offsets"], lines)]
    assert all(offset // MIB == end // MIB for offset, end in zip(answer["offsets"], ends))
    assert collections.Counter(payloads(cluster)) == collections.Counter(lines)
    assert len(cluster.json("stat", "/r")["chunks"]) == 3


def test_the_largest_record_and_one_byte_more(cluster):
    make_file(cluster)
    largest = b"x" * RECORD_MAX
    cluster.ok("append", "/r", stdin=largest)
    for options, stdin in ((), largest + b"y"), (("--lines",), b"fits\n" + largest + b"y\nafter\n"):
        failed = cluster.fails("append", *options, "/r", stdin=stdin)
        assert str(RECORD_MAX) in failed.err
    assert payloads(cluster) == [largest, b"fits"]


def test_input_without_end_is_not_read_for_ever(cluster):
    make_file(cluster)
    with open("/dev/zero", "rb") as zeros:
        for options in (), ("--lines",):
            process = cluster.popen("append", *options, "/r", stdin=zeros, stderr=subprocess.PIPE)
            _, err = process.communicate(timeout=30 * SLOW)
            assert process.returncode == 1 and str(RECORD_MAX).encode() in err
            zeros.seek(0)
    assert payloads(cluster) == []


@pytest.mark.parametrize("path,word", [
    ("/missing", "touch"), ("/", "directory"), ("/d", "directory"), ("relative", "path"),
    ("/r/below", "directory"), ("/" + 300 * "x", "long"),
])
def test_a_record_has_no_place_there(cluster, path, word):
    make_file(cluster)
    cluster.ok("mkdir", "/d")
    failed = cluster.fails("append", path, stdin=b"x")
    assert word in failed.err.lower() and failed.out == b""
    assert sorted(cluster.ok("ls", "/").lines) == ["d", "r"]


def test_bytes_that_are_no_records(cluster):
    cluster.put_bytes(random_bytes(5000), "/f")
    failed = cluster.fails("cat", "--records", "/f")
    assert "offset 0" in failed.err and failed.out == b""
    cluster.ok("append", "/f", stdin=b"behind")
    assert cluster.fails("cat", "--records", "/f").out == b""
    # The good ones before a bad one are printed.
    make_file(cluster)
    cluster.ok("append", "/r", stdin=b"good")
    cluster.ok("append", "/r", stdin=b"cut")
    cluster.ok("truncate", HEADER + 4 + HEADER + 1, "/r")
    assert cluster.fails("cat", "--records", "/r").out == b"good\n"
    assert "no record" in cluster.fails("tail", "--records", "-n", "1", "/f").err


# ---- many at once -----------------------------------------------------------------------------
def test_concurrent_producers_exactly_once(cluster):
    make_file(cluster)
    lines = {p: [b"%d/%d " % (p, i) + b"x" * (p * 997 + i) for i in range(50)] for p in range(8)}
    producers = [begin_lines(cluster, lines[p]) for p in lines]
    for producer in producers:
        finish(producer)
    each_once(cluster, sum(lines.values(), []))
    replicas_are_identical(cluster)


@pytest.mark.parametrize("role", ["primary", "secondary"])
def test_a_server_killed_while_many_append(make_cluster, role):
    cluster = make_cluster(servers=4, master_options=["--lease-ms", "3000"])
    make_file(cluster)
    cluster.ok("append", "/r", stdin=b"begin")
    lines = {p: [b"%d/%d " % (p, i) + b"x" * 2000 for i in range(1000)] for p in range(6)}
    producers = [begin_lines(cluster, lines[p]) for p in lines]
    wait_until(lambda: cluster.json("stat", "/r")["size"] > MIB // 2, "they are at it", 30)
    # While a lease is out, the primary is the first of the list.
    members = cluster.replicas("/r")[-1]
    victim = members[0] if role == "primary" else members[-1]
    victim.kill()
    assert any(producer.poll() is None for producer in producers)
    for producer in producers:
        finish(producer)
    each_once(cluster, sum(lines.values(), [b"begin"]))
    victim.start()
    cluster.wait_servers_up(4)
    each_once(cluster, sum(lines.values(), [b"begin"]))


def test_the_master_is_restarted_while_many_append(cluster):
    make_file(cluster)
    lines = {p: [b"%d/%d " % (p, i) + b"x" * 1000 for i in range(1000)] for p in range(4)}
    producers = [begin_lines(cluster, lines[p]) for p in lines]
    wait_until(lambda: cluster.json("stat", "/r")["size"] > MIB // 8, "they are at it", 30)
    cluster.master.kill()
    assert any(producer.poll() is None for producer in producers)
    cluster.master.start()
    for producer in producers:
        finish(producer)
    cluster.wait_servers_up(3)
    each_once(cluster, sum(lines.values(), []))


def test_a_producer_that_is_killed_leaves_whole_records(cluster):
    make_file(cluster)
    lines = [b"%d " % i + b"x" * 3000 for i in range(2000)]
    producer = begin_lines(cluster, lines)
    wait_until(lambda: cluster.json("stat", "/r")["size"] > 0, "it is at it", 30)
    producer.kill()
    producer.wait()
    there = payloads(cluster)
    assert len(there) == len(set(there)) and set(there) <= set(lines)
    cluster.ok("append", "/r", stdin=b"after")
    assert payloads(cluster)[-1] == b"after" and len(payloads(cluster)) >= len(there) + 1


def test_without_any_server_it_fails_and_nothing_is_there(make_cluster):
    cluster = make_cluster(servers=1)
    make_file(cluster, goal=1)
    cluster.ok("append", "/r", stdin=b"one")
    cluster.servers[0].kill()
    failed = cluster.fails("--timeout", "2", "append", "/r", stdin=b"two")
    assert "/r" in failed.err
    cluster.servers[0].start()
    cluster.wait_servers_up(1)
    cluster.ok("append", "/r", stdin=b"three")
    assert payloads(cluster)[0] == b"one" and payloads(cluster)[-1] == b"three"
