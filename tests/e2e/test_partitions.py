"""Links that are cut while every process lives: between servers, clients and the master."""

import subprocess

import pytest

from cluster import MIB, random_bytes
from link import Link
from waiting import SLOW, wait_until

FINISH_S = 60


@pytest.fixture
def links(make_cluster):
    """links(servers) -> (cluster, data links, master links): each server is reached by clients and
    other servers through its data link, and reaches the master through its master link."""
    made = []

    def make(servers=3, **options):
        cluster = make_cluster(servers=0, **options)
        data_links, master_links = [], []
        for _ in range(servers):
            to_server, to_master = Link(), Link(cluster.master.addr)
            made.extend([to_server, to_master])
            server = cluster.add_server("--advertise", to_server.addr, start=False)
            server.args[server.args.index("--master") + 1] = to_master.addr
            # The target is known when it listens; nobody connects before it is registered.
            server.start()
            to_server.target = server.addr
            data_links.append(to_server)
            master_links.append(to_master)
        cluster.wait_servers_up(servers)
        return cluster, data_links, master_links

    yield make
    for link in made:
        link.close()


def begin_put(cluster, data, fed):
    put = cluster.popen("put", "--chunk-size", "1M", "-", "/f", stdin=subprocess.PIPE,
                        stderr=subprocess.PIPE)
    put.stdin.write(data[:fed])
    put.stdin.flush()
    wait_until(lambda: cluster.chunk_total() >= 1, "a chunk on a server")
    return put


def finish_put(put, rest):
    err = put.communicate(rest, timeout=FINISH_S * SLOW)[1]
    assert put.returncode == 0, err


def alone(cluster, keep, path):
    """What the server alone gives, the others killed and started again."""
    others = [server for server in cluster.servers if server is not keep]
    for other in others:
        other.kill()
    data = cluster.get_bytes(path)
    for other in others:
        other.start()
    return data


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_put_finishes_when_a_server_is_cut_off_from_all_but_the_master(links, victim):
    cluster, data_links, _ = links()
    data = random_bytes(12 * MIB)
    put = begin_put(cluster, data, 4 * MIB)
    data_links[victim].cut()
    finish_put(put, data[4 * MIB:])
    assert cluster.get_bytes("/f") == data
    data_links[victim].mend()
    assert cluster.get_bytes("/f") == data


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_put_finishes_when_a_server_is_cut_off_from_the_master(links, victim):
    cluster, _, master_links = links(master_options=["--lease-ms", "3000"])
    data = random_bytes(12 * MIB)
    put = begin_put(cluster, data, 4 * MIB)
    master_links[victim].cut()
    wait_until(lambda: cluster.count_up() == 2, "it is seen down")
    finish_put(put, data[4 * MIB:])
    assert cluster.get_bytes("/f") == data
    master_links[victim].mend()
    cluster.wait_servers_up(3)
    assert cluster.get_bytes("/f") == data


def test_get_finishes_when_a_server_cannot_be_reached(links):
    cluster, data_links, _ = links()
    data = random_bytes(24 * MIB)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    get = cluster.popen("get", "/f", "-", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    head = get.stdout.read(2 * MIB)
    data_links[1].cut()
    rest, err = get.communicate(timeout=FINISH_S * SLOW)
    assert get.returncode == 0, err
    assert head + rest == data


def test_replicas_called_good_after_a_partition_are_good(links):
    cluster, data_links, master_links = links(master_options=["--lease-ms", "3000"])
    data = random_bytes(10 * MIB)
    put = begin_put(cluster, data, 4 * MIB)
    data_links[0].cut()
    master_links[0].cut()
    finish_put(put, data[4 * MIB:])
    data_links[0].mend()
    master_links[0].mend()
    cluster.wait_servers_up(3)
    good = [{replica["addr"] for replica in chunk["replicas"] if replica["state"] == "ok"}
            for chunk in cluster.json("stat", "/f")["chunks"]]
    for server, link in zip(cluster.servers, data_links):
        if all(link.addr in addrs for addrs in good):
            assert alone(cluster, server, "/f") == data
            cluster.wait_servers_up(3)


def test_a_master_that_nobody_reaches_fails_calls_in_time(cluster):
    link = Link(cluster.master.addr)
    try:
        assert cluster.ctl("--master", link.addr, "ls", "/").code == 0
        link.cut()
        result = cluster.ctl("--master", link.addr, "--timeout", "2", "ls", "/", timeout_s=15)
        assert result.code == 1 and link.addr in result.err
    finally:
        link.close()
