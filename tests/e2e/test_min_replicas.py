"""How many good replicas a write needs, and how long it stands still while one is lost."""

import os
import signal
import subprocess
import threading
import time

import pytest

from test_records import each_once, make_file, payloads
from waiting import SLOW, wait_until

LEASE_MS = 3000


@pytest.fixture
def soon(make_cluster):
    """Three servers whose loss is seen soon."""
    return make_cluster(master_options=["--lease-ms", str(LEASE_MS), "--heartbeat-ms", "200",
                                        "--dead-missed", "5"])


def may_have(cluster, records, record):
    """All of records, once, and perhaps `record`, once: its append had no answer in time."""
    assert [other for other in payloads(cluster) if other != record] == records
    assert payloads(cluster).count(record) <= 1


def test_one_of_three_dead_is_enough_to_write(soon):
    make_file(soon)
    soon.ok("append", "/r", stdin=b"first")
    soon.replicas("/r")[0][2].kill()
    soon.ok("append", "/r", stdin=b"second")
    soon.wait_replicas_ok("/r", 2)
    each_once(soon, [b"first", b"second"])


def test_two_of_three_dead_are_too_many_until_one_is_back(soon):
    make_file(soon)
    soon.ok("append", "/r", stdin=b"first")
    dead = soon.replicas("/r")[0][1:]
    for server in dead:
        server.kill()
    failed = soon.fails("--timeout", "4", "append", "/r", stdin=b"unknown")
    assert "/r" in failed.err and failed.out == b""
    assert payloads(soon) == [b"first"]  # what is there can be read, and no more
    dead[0].start()
    soon.wait_servers_up(2)
    soon.ok("append", "/r", stdin=b"second")
    may_have(soon, [b"first", b"second"], b"unknown")
    dead[1].start()
    soon.wait_servers_up(3)
    may_have(soon, [b"first", b"second"], b"unknown")


def test_with_min_replicas_1_the_last_one_is_enough(make_cluster):
    cluster = make_cluster(master_options=["--min-replicas", "1", "--lease-ms", str(LEASE_MS)])
    make_file(cluster)
    cluster.ok("append", "/r", stdin=b"first")
    for server in cluster.replicas("/r")[0][1:]:
        server.kill()
    cluster.ok("append", "/r", stdin=b"second")
    each_once(cluster, [b"first", b"second"])


def test_with_min_replicas_3_every_one_is_needed(make_cluster):
    cluster = make_cluster(master_options=["--min-replicas", "3", "--lease-ms", str(LEASE_MS)])
    make_file(cluster)
    cluster.ok("append", "/r", stdin=b"first")
    dead = cluster.replicas("/r")[0][1]
    dead.kill()
    cluster.fails("--timeout", "4", "append", "/r", stdin=b"unknown")
    assert payloads(cluster) == [b"first"]
    dead.start()
    cluster.wait_servers_up(3)
    cluster.ok("append", "/r", stdin=b"second")
    may_have(cluster, [b"first", b"second"], b"unknown")


def test_a_goal_of_1_needs_no_second(soon):
    """The option is for files that have as many; a goal below it is what is needed then."""
    make_file(soon, "/one", goal=1)
    soon.ok("append", "/one", stdin=b"first")
    keeper = soon.replicas("/one")[0][0]
    for server in soon.servers:
        if server is not keeper:
            server.kill()
    soon.ok("append", "/one", stdin=b"second")
    each_once(soon, [b"first", b"second"], "/one")
    keeper.kill()
    soon.fails("--timeout", "3", "append", "/one", stdin=b"nobody has it")
    keeper.start()
    soon.wait_servers_up(1)
    soon.ok("append", "/one", stdin=b"third")
    each_once(soon, [b"first", b"second", b"third"], "/one")


# ---- how long a stream of writes stands still ------------------------------------------------------
class Stream(threading.Thread):
    """Appends record after record, each durable before the next, and notes when each was."""

    def __init__(self, cluster):
        super().__init__()
        self.process = cluster.popen("--json", "append", "--lines", "/r", stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.times = []
        self.records = []
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.is_set():
            record = b"record %d" % len(self.records)
            self.process.stdin.write(record + b"\n")
            self.process.stdin.flush()
            if not os.read(self.process.stdout.fileno(), 4096):
                return  # it has failed: finish() says so
            self.records.append(record)
            self.times.append(time.monotonic())

    def finish(self):
        self.stopped.set()
        self.join()
        _, err = self.process.communicate(timeout=60 * SLOW)
        assert self.process.returncode == 0, err

    def longest_stall_s(self):
        return max(later - earlier for earlier, later in zip(self.times, self.times[1:]))


@pytest.mark.parametrize("role,how,bound_s", [
    ("primary", "killed", LEASE_MS / 1000 + 1), ("primary", "frozen", LEASE_MS / 1000 + 1),
    ("secondary", "killed", 1), ("secondary", "frozen", 2)])
def test_a_lost_server_stalls_a_stream_no_longer_than_promised(make_cluster, role, how, bound_s):
    """Of a frozen secondary a second is promised as well, and takes 0.9: gfs-bench failover says."""
    cluster = make_cluster(servers=3, master_options=["--lease-ms", str(LEASE_MS)])
    make_file(cluster, chunk_size="64M")
    stream = Stream(cluster)
    stream.start()
    wait_until(lambda: len(stream.times) > 50, "the stream flows")
    # While a lease is out, the primary is the first of the list.
    members = cluster.replicas("/r")[0]
    victim = members[0] if role == "primary" else members[-1]
    before = len(stream.times)
    if how == "killed":
        victim.kill()
    else:
        victim.signal(signal.SIGSTOP)
    wait_until(lambda: len(stream.times) > before + 50, "it flows again", 30)
    stream.finish()
    assert stream.longest_stall_s() <= bound_s * SLOW
    each_once(cluster, stream.records)
    if how == "frozen":
        victim.signal(signal.SIGCONT)
        each_once(cluster, stream.records)
