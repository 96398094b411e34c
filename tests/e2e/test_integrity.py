"""Blocks that go bad on a disk: found by the scrub, fetched from a good replica, replaced; and the
checksum of a whole file, from what is stored beside its blocks."""

import pytest

import wire
from cluster import BLOCK, MIB, random_bytes
from test_corruption import flip_stored
from waiting import wait_until

# Tables on disk soon, so that a read meets the flipped bit and not LevelDB's write buffer.
ON_DISK = ["--write-buffer", "1M"]
OFF = ["--scrub-rate", "0"]


def store_with_bad_block(cluster, size=6 * MIB + 100, offset=2 * MIB + 3 * BLOCK + 77):
    """A file of three replicas, one of which has a flipped bit: (data, server)."""
    data = random_bytes(size)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    bad = cluster.servers[1]
    bad.kill()
    flip_stored(bad, data, offset)
    bad.start()
    cluster.wait_servers_up(3)
    return data, bad


def each_alone_has(cluster, path, data):
    """Every server, when it is the only one up, serves the whole file."""
    for alone in cluster.servers:
        others = [server for server in cluster.servers if server is not alone]
        for server in others:
            server.kill()
        assert cluster.get_bytes(path, "--timeout", "20") == data
        for server in others:
            server.start()
        cluster.wait_servers_up(len(cluster.servers))


def test_the_scrub_of_idle_chunks_finds_and_repairs(make_cluster):
    cluster = make_cluster(
        server_options=ON_DISK + ["--scrub-rate", "64M", "--scrub-pause-s", "1"])
    data, bad = store_with_bad_block(cluster)
    wait_until(lambda: "scrub_bad" in bad.log(1000), "the bad block is found")
    wait_until(lambda: "replica_sync" in cluster.master.log(1000), "the repair begins")
    cluster.wait_replicas_ok("/f", 3)
    each_alone_has(cluster, "/f", data)


# ---- on demand ----------------------------------------------------------------------------------
@pytest.mark.parametrize("target", ["path", "server"])
def test_a_scrub_on_demand_finds_and_repairs(make_cluster, target):
    cluster = make_cluster(server_options=ON_DISK + OFF)
    data, bad = store_with_bad_block(cluster)
    target = "/f" if target == "path" else bad.addr
    found = cluster.ctl("--json", "scrub", target)
    assert found.code == 1, found
    report = found.json()
    assert report["bad"] == 1, report
    wait_until(lambda: cluster.ctl("scrub", target).code == 0, "it is repaired")
    cluster.wait_replicas_ok("/f", 3)
    each_alone_has(cluster, "/f", data)


def test_a_scrub_of_good_replicas_says_so(cluster):
    cluster.put_bytes(random_bytes(MIB + 1), "/f", "--chunk-size", "1M")
    cluster.put_bytes(b"", "/empty")
    for target in ("/f", "/empty", cluster.servers[0].addr):
        cluster.ok("scrub", target)


def test_what_cannot_be_scrubbed(cluster):
    cluster.ok("mkdir", "/d")
    assert "/d" in cluster.fails("scrub", "/d").err
    assert "/missing" in cluster.fails("scrub", "/missing").err
    down = cluster.servers[2]
    down.kill()
    assert down.addr in cluster.fails("--timeout", "3", "scrub", down.addr).err
    assert "127.0.0.1:1" in cluster.fails("--timeout", "3", "scrub", "127.0.0.1:1").err
    assert cluster.master.addr in cluster.fails("--timeout", "3", "scrub", cluster.master.addr).err


# ---- checksum -----------------------------------------------------------------------------------
def crc32c(data):
    return f"{wire.crc32c(data):08x}"


def checksum_is(cluster, path, data):
    assert cluster.json("checksum", path) == {"path": path, "crc32c": crc32c(data),
                                              "size": len(data)}


def test_the_checksum_is_that_of_the_whole_file(cluster):
    assert crc32c(b"123456789") == "e3069283"
    for size in (0, 1, BLOCK - 1, BLOCK, MIB, 2 * MIB + 3 * BLOCK + 5):
        data = random_bytes(size)
        cluster.put_bytes(data, f"/{size}", "--chunk-size", "1M")
        checksum_is(cluster, f"/{size}", data)
    cluster.ok("truncate", BLOCK + 7, f"/{MIB}")
    cluster.ok("truncate", MIB + 2 * BLOCK, f"/{MIB}")
    cut = cluster.get_bytes(f"/{MIB}")
    assert cut.endswith(bytes(MIB + BLOCK - 7))
    checksum_is(cluster, f"/{MIB}", cut)


def test_the_checksum_of_records_and_of_a_snapshot(cluster):
    cluster.put_bytes(b"", "/r", "--chunk-size", "1M")
    for size in (100, 100_000, 200_000, 262_000, 262_000, 262_000):
        cluster.ok("append", "/r", stdin=random_bytes(size))
    cluster.ok("snapshot", "/r", "/s")
    before = cluster.get_bytes("/s")
    assert len(before) > MIB
    cluster.ok("append", "/r", stdin=b"one more")
    checksum_is(cluster, "/s", before)
    checksum_is(cluster, "/r", cluster.get_bytes("/r"))


def test_a_bad_block_does_not_change_the_checksum(make_cluster):
    cluster = make_cluster(server_options=ON_DISK + OFF)
    data, _ = store_with_bad_block(cluster)
    checksum_is(cluster, "/f", data)


def test_what_has_no_checksum(cluster):
    cluster.ok("mkdir", "/d")
    assert "/d" in cluster.fails("checksum", "/d").err
    assert "/missing" in cluster.fails("checksum", "/missing").err
    cluster.put_bytes(b"some", "/f")
    for server in cluster.servers:
        server.kill()
    assert "/f" in cluster.fails("--timeout", "2", "checksum", "/f").err
