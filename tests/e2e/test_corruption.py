"""Bits flipped in what a chunkserver keeps on disk: no reader ever sees them."""

import os

import pytest

from cluster import BLOCK, MIB, random_bytes
from waiting import wait_until

SAMPLE_BYTES = 48


def flip_bit(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x10]))


def find_data(folder, sample):
    """(file, position) of every copy of the sample below the folder."""
    found = []
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                content = file.read()
            position = content.find(sample)
            while position >= 0:
                found.append((path, position))
                position = content.find(sample, position + 1)
    return found


def flip_stored(server, data, offset):
    """Flips a bit of data[offset] wherever the server keeps it."""
    places = find_data(server.data, data[offset:offset + SAMPLE_BYTES])
    assert places, "the data is not found on disk as it was written"
    for path, position in places:
        flip_bit(path, position)


def read_alone(cluster, server, path):
    """What get does when only this server is up: (exit code, bytes, stderr)."""
    for other in cluster.servers:
        if other is not server:
            other.kill()
    result = cluster.ctl("--timeout", "4", "get", path, "-")
    for other in cluster.servers:
        if other is not server:
            other.start()
    return result


@pytest.mark.parametrize("in_tables", [False, True], ids=["log", "table"])
@pytest.mark.parametrize("stopped", [True, False], ids=["while stopped", "while serving"])
def test_a_flipped_bit_is_never_read(make_cluster, in_tables, stopped):
    # A write buffer far smaller than the data moves most of it into tables.
    options = ["--write-buffer", "1M"] if in_tables else []
    cluster = make_cluster(servers=3, server_options=options)
    data = random_bytes(6 * MIB + 100)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    bad = cluster.servers[0]
    if stopped:
        bad.kill()
    for offset in (5, MIB + 3 * BLOCK + 77, 6 * MIB + 10):
        flip_stored(bad, data, offset)
    if stopped:
        bad.start()
        cluster.wait_servers_up(3)
    for _ in range(8):
        assert cluster.get_bytes("/f") == data
    # From the bad server alone: the right bytes (repaired, or never lost from memory), or an error.
    result = read_alone(cluster, bad, "/f")
    assert bad.is_alive(), bad.log()
    if result.code == 0:
        assert result.out == data
    else:
        assert result.code == 1 and data.startswith(result.out)
    cluster.wait_servers_up(3)
    assert cluster.get_bytes("/f") == data


def test_a_corrupt_replica_is_made_good_from_another(make_cluster):
    cluster = make_cluster(servers=3)
    data = random_bytes(MIB)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    bad = cluster.servers[1]
    bad.kill()
    flip_stored(bad, data, 3 * BLOCK + 5)
    bad.start()
    cluster.wait_servers_up(3)

    def is_repaired():
        assert cluster.get_bytes("/f") == data
        return "event=replica_sync" in cluster.master.log(1000)
    wait_until(is_repaired, "the bad replica is brought up to date", 30)
    cluster.wait_replicas_ok("/f", 3)
    result = read_alone(cluster, bad, "/f")
    assert result.code == 0 and result.out == data


def test_a_truncated_database_file_is_never_served(cluster):
    data = random_bytes(4 * MIB)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    bad = cluster.servers[2]
    bad.kill()
    for path, position in find_data(bad.data, data[2 * MIB + 7:2 * MIB + 7 + SAMPLE_BYTES]):
        os.truncate(path, position)
    bad.start()
    cluster.wait_servers_up(3)
    for _ in range(4):
        assert cluster.get_bytes("/f") == data
    # Repaired from the others by now, or an error: never something else.
    result = read_alone(cluster, bad, "/f")
    assert data.startswith(result.out) and (result.code == 1 or result.out == data)


def test_a_chunkserver_whose_files_are_gone_serves_nothing_wrong(cluster):
    data = random_bytes(4 * MIB)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    bad = cluster.servers[2]
    bad.kill()
    for where, _, names in os.walk(bad.data):
        for name in names:
            if name.endswith((".log", ".ldb")):
                os.remove(os.path.join(where, name))
    bad.spawn()
    bad.may_be_dead = True  # It may refuse to start, with a reason.
    wait_until(lambda: bad.listening() or bad.proc.poll() is not None, "it serves or ends")
    if not bad.listening():
        assert bad.proc.returncode == 1 and "level=error" in bad.log()
    assert cluster.get_bytes("/f") == data
