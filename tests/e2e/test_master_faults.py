"""The master killed at any moment: nothing acknowledged is lost, what runs finishes."""

import random
import socket
import subprocess
import threading
import time

import pytest

from cluster import MIB, random_bytes
from waiting import SLOW, pause, wait_until

WORKERS = 4
KILLS = 5
FINISH_S = 60


def test_a_master_killed_and_restarted_in_the_middle_of_put(cluster):
    data = random_bytes(24 * MIB + 1)
    put = cluster.popen("put", "--chunk-size", "1M", "-", "/f", stdin=subprocess.PIPE,
                        stderr=subprocess.PIPE)
    put.stdin.write(data[:8 * MIB])
    put.stdin.flush()
    wait_until(lambda: cluster.chunk_total() >= 1, "a chunk on a server")
    cluster.master.kill()
    feeder = threading.Thread(target=lambda: (put.stdin.write(data[8 * MIB:]), put.stdin.close()))
    feeder.start()
    cluster.master.start()
    feeder.join(FINISH_S * SLOW)
    assert put.wait(FINISH_S * SLOW) == 0, put.stderr.read()
    put.stderr.close()
    assert cluster.get_bytes("/f") == data
    cluster.wait_servers_up(3)
    # A chunkserver that is late to register with the new master may miss chunks; none has no replica.
    assert all(cluster.replicas("/f"))


def test_a_master_killed_and_restarted_in_the_middle_of_get(cluster):
    data = random_bytes(48 * MIB)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    get = cluster.popen("get", "/f", "-", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    head = get.stdout.read(4 * MIB)
    cluster.master.restart()
    assert head + get.stdout.read() == data
    assert get.wait(FINISH_S * SLOW) == 0
    get.communicate()


def test_a_restarted_master_waits_for_replicas_before_it_changes_a_chunk(make_cluster):
    cluster = make_cluster(master_options=["--startup-wait-ms", "20000"])
    data = random_bytes(MIB)
    cluster.put_bytes(data, "/f")
    cluster.master.kill()
    late = cluster.servers[2]
    late.kill()
    cluster.master.start()
    cluster.wait_servers_up(2)
    truncate = cluster.popen("truncate", "500000", "/f")
    # Time enough for those that are there to report: the two would do for a new version.
    wait_until(lambda: all(len(ok) == 2 for ok in cluster.replicas("/f")), "two replicas reported")
    late.start()
    assert truncate.wait(FINISH_S * SLOW) == 0
    assert cluster.get_bytes("/f") == data[:500000]
    cluster.wait_replicas_ok("/f", 3)


def test_a_short_absence_of_the_master_is_waited_for(cluster):
    cluster.put_bytes(b"x", "/f")
    cluster.master.kill()
    stat = cluster.popen("--json", "stat", "/f", stdout=subprocess.PIPE)
    pause(0.3)
    cluster.master.start()
    assert stat.communicate(timeout=FINISH_S * SLOW)[0] and stat.returncode == 0


def test_a_master_that_accepts_and_says_nothing_is_given_up_in_time(cluster):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        addr = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        result = cluster.ctl("--master", addr, "--timeout", "2", "ls", "/")
        assert result.code == 1 and addr in result.err
        assert time.monotonic() - began < 10 * SLOW


class Worker:
    """Makes, renames and removes names of its own; remembers what was acknowledged.

    state[name] is True (there), False (not there) or None (a failed operation: either).
    """

    def __init__(self, cluster, number):
        self.cluster = cluster
        self.base = f"/w{number}"
        self.random = random.Random(number)
        self.state = {}
        self.moves = []  # (from, to) of failed renames: exactly one of the two is there
        self.count = 0
        self.acknowledged = 0

    def run(self, stop):
        while not stop.is_set():
            self.step()

    def ctl(self, *args):
        result = self.cluster.ctl("--timeout", "1", *args)
        self.acknowledged += result.code == 0
        return result.code == 0

    def step(self):
        there = [name for name, state in self.state.items() if state]
        kind = self.random.choice(["make", "make", "mkdir", "move", "remove"])
        if kind in ("make", "mkdir") or not there:
            name = f"{self.base}-{self.count}"
            self.count += 1
            done = self.ctl("mkdir" if kind == "mkdir" else "touch", name)
            self.state[name] = True if done else None
        elif kind == "move":
            old, new = self.random.choice(there), f"{self.base}-{self.count}"
            self.count += 1
            if self.ctl("mv", old, new):
                self.state[old], self.state[new] = False, True
            else:
                self.state[old] = self.state[new] = None
                self.moves.append((old, new))
        else:
            name = self.random.choice(there)
            self.state[name] = False if self.ctl("rm", "-r", name) else None


def test_kills_at_random_times_lose_no_acknowledged_operation(make_cluster):
    cluster = make_cluster(servers=0)
    workers = [Worker(cluster, number) for number in range(WORKERS)]
    stop = threading.Event()
    threads = [threading.Thread(target=worker.run, args=(stop,)) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        moments = random.Random(7)
        for kill in range(KILLS):
            done = sum(worker.acknowledged for worker in workers)
            want = done + moments.randrange(5, 40)
            wait_until(lambda: sum(w.acknowledged for w in workers) >= want, "some progress")
            pause(moments.random() * 0.02)
            cluster.master.restart()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    cluster.master.restart()
    names = {"/" + name for name in cluster.ok("ls", "/").lines}
    for worker in workers:
        for name, state in worker.state.items():
            assert state is None or (name in names) == state, (name, state)
        for old, new in worker.moves:
            assert not (old in names and new in names), f"{old} and {new} are both there"
    known = {name for worker in workers for name in worker.state}
    assert names <= known


@pytest.mark.parametrize("victim", ["master", "all"])
def test_kills_after_acknowledged_puts_lose_no_byte(cluster, victim):
    stored = {}
    for turn in range(4):
        for index in range(4):
            path = f"/f{turn}-{index}"
            data = random_bytes(200_000 + 70_001 * index, seed=turn * 10 + index)
            cluster.put_bytes(data, path)
            stored[path] = data
        for daemon in cluster.daemons() if victim == "all" else [cluster.master]:
            daemon.kill()
        for daemon in cluster.daemons():
            if not daemon.is_alive():
                daemon.start()
        cluster.wait_servers_up(3)
    for path, data in stored.items():
        assert cluster.get_bytes(path) == data, path
        cluster.wait_replicas_ok(path, 3)
