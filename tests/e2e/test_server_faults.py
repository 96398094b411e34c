"""Chunkservers that die, freeze, fill up or are too few: puts and gets finish, or say why not."""

import os
import re
import signal
import subprocess

import pytest

from cluster import MIB, random_bytes
from waiting import SLOW, wait_until

FINISH_S = 60


def begin_put(cluster, data, fed, path="/f", *options):
    """A put that has been fed `fed` bytes and has chunks on servers; finish_put feeds the rest."""
    put = cluster.popen("put", "--chunk-size", "1M", *options, "-", path, stdin=subprocess.PIPE,
                        stderr=subprocess.PIPE)
    put.stdin.write(data[:fed])
    put.stdin.flush()
    wait_until(lambda: cluster.chunk_total() >= 1, "a chunk on a server")
    return put


def finish_put(put, data, fed):
    try:
        put.stdin.write(data[fed:])
        put.stdin.close()
    except BrokenPipeError:
        pass
    err = put.stderr.read().decode()
    put.stderr.close()
    assert put.wait(FINISH_S * SLOW) == 0, err


def begin_get(cluster, path, first):
    """A get that has delivered `first` bytes and is held by its reader."""
    get = cluster.popen("get", path, "-", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return get, get.stdout.read(first)


def finish_get(get, head):
    data = head + get.stdout.read()
    get.stdout.close()
    err = get.stderr.read().decode()
    get.stderr.close()
    assert get.wait(FINISH_S * SLOW) == 0, err
    return data


@pytest.mark.parametrize("victim", [0, 1, 2])
@pytest.mark.parametrize("servers", [3, 4])
def test_a_chunkserver_killed_in_the_middle_of_put(make_cluster, servers, victim):
    cluster = make_cluster(servers=servers)
    data = random_bytes(24 * MIB + 17)
    put = begin_put(cluster, data, 12 * MIB)
    cluster.servers[victim].kill()
    finish_put(put, data, 12 * MIB)
    assert cluster.get_bytes("/f") == data
    # What was acknowledged is on every replica counted, the dead one not among them.
    for index, replicas in enumerate(cluster.replicas("/f")):
        assert replicas, f"chunk {index} has no good replica"
    cluster.servers[victim].start()
    cluster.wait_servers_up(servers)
    assert cluster.get_bytes("/f") == data


def test_two_of_three_killed_in_the_middle_of_put(make_cluster):
    cluster = make_cluster(master_options=["--min-replicas", "1"])
    data = random_bytes(16 * MIB)
    put = begin_put(cluster, data, 6 * MIB)
    cluster.servers[0].kill()
    cluster.servers[2].kill()
    finish_put(put, data, 6 * MIB)
    assert cluster.get_bytes("/f") == data


def test_a_chunkserver_killed_and_restarted_in_the_middle_of_put(cluster):
    data = random_bytes(24 * MIB)
    put = begin_put(cluster, data, 8 * MIB)
    cluster.servers[1].restart()
    finish_put(put, data, 8 * MIB)
    assert cluster.get_bytes("/f") == data
    # Whatever replicas are called good must be: read each server's alone.
    wait_until(lambda: cluster.count_up() == 3, "all are up")
    good = cluster.replicas("/f")
    for server in cluster.servers:
        if not all(server in replicas for replicas in good):
            continue
        others = [other for other in cluster.servers if other is not server]
        for other in others:
            other.kill()
        assert cluster.get_bytes("/f") == data
        for other in others:
            other.start()
        cluster.wait_servers_up(3)


def test_a_chunkserver_frozen_in_the_middle_of_put(cluster):
    data = random_bytes(16 * MIB)
    put = begin_put(cluster, data, 6 * MIB)
    cluster.servers[1].signal(signal.SIGSTOP)
    try:
        finish_put(put, data, 6 * MIB)
        assert cluster.get_bytes("/f") == data
    finally:
        cluster.servers[1].signal(signal.SIGCONT)
    cluster.wait_servers_up(3)
    assert cluster.get_bytes("/f") == data


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_chunkserver_killed_in_the_middle_of_get(cluster, victim):
    data = random_bytes(48 * MIB + 3)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    get, head = begin_get(cluster, "/f", 4 * MIB)
    cluster.servers[victim].kill()
    assert finish_get(get, head) == data


def test_two_of_three_killed_in_the_middle_of_get(cluster):
    data = random_bytes(48 * MIB)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    get, head = begin_get(cluster, "/f", 4 * MIB)
    cluster.servers[0].kill()
    cluster.servers[1].kill()
    assert finish_get(get, head) == data


def test_a_chunkserver_frozen_in_the_middle_of_get(cluster):
    data = random_bytes(48 * MIB)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    get, head = begin_get(cluster, "/f", 4 * MIB)
    cluster.servers[2].signal(signal.SIGSTOP)
    try:
        assert finish_get(get, head) == data
    finally:
        cluster.servers[2].signal(signal.SIGCONT)


def test_a_goal_above_the_number_of_servers(make_cluster):
    cluster = make_cluster(servers=2)
    data = random_bytes(2 * MIB)
    cluster.ok("put", "--goal", "3", "--chunk-size", "1M", "-", "/f", stdin=data)
    stat = cluster.json("stat", "/f")
    assert stat["goal"] == 3
    assert [len(ok) for ok in cluster.replicas("/f")] == [2, 2]
    assert cluster.json("df")["under_replicated_chunks"] == 2
    assert "fewer" in cluster.ok("stat", "/f").text
    assert cluster.get_bytes("/f") == data


def test_without_chunkservers_put_fails_and_names_still_work(make_cluster):
    cluster = make_cluster(servers=0)
    result = cluster.fails("--timeout", "3", "put", "-", "/f", stdin=b"x")
    assert "chunkserver" in result.err
    assert not cluster.exists("/f")
    cluster.ok("mkdir", "/d")
    cluster.ok("touch", "/d/empty")
    assert cluster.get_bytes("/d/empty") == b""


def test_all_replicas_down_is_an_error_that_names_the_chunk(cluster, folder):
    cluster.put_bytes(random_bytes(2 * MIB), "/f", "--goal", "1", "--chunk-size", "1M")
    chunks = cluster.json("stat", "/f")["chunks"]
    holders = {replica["addr"] for chunk in chunks for replica in chunk["replicas"]}
    for server in cluster.servers:
        if server.addr in holders:
            server.kill()
    target = os.path.join(folder, "target")
    os.mkdir(target)
    for path in (os.path.join(target, "f"), "-"):
        result = cluster.fails("--timeout", "4", "get", "/f", path)
        assert any(chunk["handle"] in result.err for chunk in chunks), result.err
    assert os.listdir(target) == []
    for server in cluster.servers:
        if not server.is_alive():
            server.start()
    cluster.wait_servers_up(3)
    assert len(cluster.get_bytes("/f")) == 2 * MIB


def test_lost_chunks_are_reported(cluster):
    cluster.put_bytes(random_bytes(MIB), "/f", "--goal", "1")
    holder = cluster.replicas("/f")[0][0]
    holder.kill()
    wait_until(lambda: cluster.json("df")["lost_chunks"] == 1, "df reports the lost chunk")
    assert re.search("missing", cluster.ok("stat", "/f").text)


def test_everything_killed_after_put_and_started_again(cluster):
    data = random_bytes(8 * MIB + 5)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    cluster.kill_all()
    for daemon in cluster.daemons():
        daemon.start()
    cluster.wait_servers_up(3)
    assert cluster.get_bytes("/f") == data
    cluster.wait_replicas_ok("/f", 3)


def test_every_replica_alone_gives_the_file(cluster):
    data = random_bytes(8 * MIB + 5)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    for index in range(3):
        cluster.kill_all()
        cluster.master.start()
        cluster.servers[index].start()
        cluster.wait_servers_up(1)
        assert cluster.get_bytes("/f") == data


@pytest.mark.root
@pytest.mark.parametrize("free_min", ["40M", "1"], ids=["at its watermark", "to the last byte"])
def test_a_chunkserver_whose_disk_fills_is_left_for_another(make_cluster, small_disk, free_min):
    cluster = make_cluster(servers=2)
    # The third place of every chunk, until it is full: there is no other.
    tight = cluster.add_server("--free-min", free_min, "--write-buffer", "1M",
                               data=os.path.join(small_disk("64m"), "data"))
    cluster.wait_servers_up(3)
    data = random_bytes(80 * MIB)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    assert cluster.get_bytes("/f") == data
    assert tight.is_alive(), tight.log()
    good = cluster.replicas("/f")
    assert tight in good[0] and tight not in good[-1]
    assert all(len(replicas) >= 2 for replicas in good)
    assert "event=read_only" in tight.log(200)
    # What it holds it still gives.
    assert tight in cluster.replicas("/f")[0]
    # Another is chosen as soon as there is one.
    cluster.add_server()
    cluster.wait_servers_up(4)
    cluster.put_bytes(data[:4 * MIB], "/g", "--chunk-size", "1M")
    for replicas in cluster.replicas("/g"):
        assert len(replicas) == 3


@pytest.mark.root
def test_all_disks_full_is_an_error_and_nothing_is_lost(make_cluster, small_disk):
    cluster = make_cluster(servers=0)
    for _ in range(3):
        cluster.add_server("--free-min", "8M", "--write-buffer", "1M",
                           data=os.path.join(small_disk("40m"), "data"))
    cluster.wait_servers_up(3)
    cluster.put_bytes(b"precious", "/before")
    result = cluster.fails("--timeout", "5", "put", "--chunk-size", "1M", "-", "/big",
                           stdin=random_bytes(64 * MIB))
    assert "/big" in result.err or "chunkserver" in result.err
    assert not cluster.exists("/big")
    assert cluster.get_bytes("/before") == b"precious"
    assert all(server.is_alive() for server in cluster.servers)
