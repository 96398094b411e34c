"""Blocks that go bad on a disk: found by the scrub, fetched from a good replica, replaced."""

import pytest

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
