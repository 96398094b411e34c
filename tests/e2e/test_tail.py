"""The end of a file, and following it: the reader is told when there is more."""

import signal
import subprocess
import threading

import pytest

from cluster import MIB, random_bytes
from waiting import SLOW, wait_until


class Follower:
    """A tail -f whose output is gathered as it comes."""

    def __init__(self, cluster, *args):
        self.process = cluster.popen("tail", "-f", *args, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE)
        self.out = b""
        self.thread = threading.Thread(target=self.gather, daemon=True)
        self.thread.start()

    def gather(self):
        while True:
            piece = self.process.stdout.read1(65536)
            if not piece:
                return
            self.out += piece

    def wait_for(self, expected):
        wait_until(lambda: len(self.out) >= len(expected) or self.process.poll() is not None,
                   f"{len(expected)} bytes, {len(self.out)} are there", 30)
        assert self.out == expected, self.process.poll()

    def end(self, signo=signal.SIGINT):
        if signo is not None:
            self.process.send_signal(signo)
        code = self.process.wait(20 * SLOW)
        self.thread.join(20 * SLOW)
        err = self.process.stderr.read().decode()
        self.process.stderr.close()
        self.process.stdout.close()
        return code, err


def make_records(cluster, path, count, size=1000):
    cluster.put_bytes(b"", path, "--chunk-size", "1M")
    records = [b"%d " % i + b"r" * size for i in range(count)]
    cluster.ok("append", "--lines", path, stdin=b"".join(r + b"\n" for r in records))
    return cluster.ok("cat", "--records", path).out.split(b"\n")[:-1]


# ---- the end ----------------------------------------------------------------------------------
@pytest.mark.parametrize("data", [
    b"", b"\n", b"one line", b"one line\n", b"\n\n\n", b"a\nb", b"a\nb\n", b"a\n\nb\n\n",
    b"".join(b"%d\n" % i for i in range(30)), b"".join(b"%d\n" % i for i in range(30))[:-1],
    b"x" * 200_000 + b"\nshort\n" + b"y" * 200_000,
], ids=lambda data: f"{len(data)} bytes, {data.count(10)} lines")
def test_it_prints_what_tail_prints(cluster, data):
    cluster.put_bytes(data, "/f")
    for count in (None, 0, 1, 2, 3, 10, 1000000):
        options = [] if count is None else ["-n", str(count)]
        expected = subprocess.run(["tail", *options], input=data, capture_output=True).stdout
        assert cluster.ok("tail", *options, "/f").out == expected, count


def test_the_last_records(cluster):
    records = make_records(cluster, "/r", 2500)
    assert len(records) == 2500 and len(cluster.json("stat", "/r")["chunks"]) == 3
    for count in (0, 1, 9, 480, 481, 482, 1200, 2499, 2500, 9999999):
        expected = records[max(len(records) - count, 0):]
        out = cluster.ok("tail", "--records", f"-n{count}", "/r").out
        assert out == b"".join(r + b"\n" for r in expected), count
    assert cluster.ok("tail", "--records", "/r").out.count(b"\n") == 10
    cluster.put_bytes(b"", "/empty")
    assert cluster.ok("tail", "--records", "/empty").out == b""


@pytest.mark.parametrize("path,word", [("/missing", "no such"), ("/", "directory"),
                                       ("relative", "path"), ("/f/below", "directory")])
def test_there_is_no_tail_of_that(cluster, path, word):
    cluster.put_bytes(b"x", "/f")
    for options in ((), ("--records",), ("-f",)):
        failed = cluster.fails("tail", *options, path)
        assert word in failed.err and failed.out == b""


# ---- following --------------------------------------------------------------------------------
def test_bytes_that_are_added_are_followed(cluster):
    cluster.put_bytes(b"old\n" * 20, "/f", "--chunk-size", "1M")
    follower = Follower(cluster, "-n", "2", "/f")
    follower.wait_for(b"old\n" * 2)
    expected = b"old\n" * 2
    for size in (81, 100_000, MIB, MIB + 1, 3 * MIB):
        cluster.ok("truncate", size, "/f")
        expected += b"\0" * (size - 80 - (len(expected) - 8))
        follower.wait_for(expected)
    assert follower.end() == (-signal.SIGINT, "")


def test_records_are_followed_each_once(cluster):
    cluster.put_bytes(b"", "/r", "--chunk-size", "1M")
    followers = [Follower(cluster, "--records", "/r") for _ in range(3)]
    expected = b""
    for i in range(5):
        lines = b"".join(b"%d/%d %s\n" % (i, j, b"x" * 10_000) for j in range(25))
        cluster.ok("append", "--lines", "/r", stdin=lines)
        expected = cluster.ok("cat", "--records", "/r").out
        for follower in followers:
            follower.wait_for(expected)
    assert expected.count(b"\n") == 125
    for follower in followers:
        assert follower.end(signal.SIGTERM) == (-signal.SIGTERM, "")


def test_it_waits_without_polling(cluster):
    cluster.put_bytes(b"", "/r")
    follower = Follower(cluster, "--records", "/r")
    cluster.ok("append", "/r", stdin=b"begin")
    follower.wait_for(b"begin\n")
    with open(f"/proc/{follower.process.pid}/stat") as stat:
        ticks = sum(int(field) for field in stat.read().rsplit(")", 1)[1].split()[11:13])
    for i in range(20):
        cluster.ok("append", "/r", stdin=b"%d" % i)
        follower.wait_for(b"begin\n" + b"".join(b"%d\n" % j for j in range(i + 1)))
    with open(f"/proc/{follower.process.pid}/stat") as stat:
        used = sum(int(field) for field in stat.read().rsplit(")", 1)[1].split()[11:13]) - ticks
    assert used < 20 * SLOW, f"{used} ticks of processor time"
    follower.end()


def test_a_file_that_is_removed(cluster):
    records = make_records(cluster, "/r", 3)
    shown = b"".join(r + b"\n" for r in records)
    for remove in (["rm", "/r"], ["rm", "-r", "/d"]):
        followers = [Follower(cluster, "--records", remove[-1].replace("/d", "/d/r")),
                     Follower(cluster, "-n", "0", remove[-1].replace("/d", "/d/r"))]
        followers[0].wait_for(shown)
        cluster.ok(*remove)
        for follower in followers:
            code, err = follower.end(None)
            assert code == 1 and "removed" in err and err.count("\n") == 1, err
        cluster.ok("mkdir", "-p", "/d")
        make_records(cluster, "/d/r", 3)


def test_a_file_that_is_renamed_or_replaced(cluster):
    make_records(cluster, "/r", 1, 0)
    follower = Follower(cluster, "--records", "/r")
    follower.wait_for(b"0 \n")
    cluster.ok("mv", "/r", "/other")
    cluster.ok("append", "/other", stdin=b"by its new name")
    follower.wait_for(b"0 \nby its new name\n")
    cluster.put_bytes(b"", "/other", "--force")
    code, err = follower.end(None)
    assert code == 1 and "removed" in err


def test_a_file_that_is_cut(cluster):
    cluster.put_bytes(b"a long line that goes away\n", "/f")
    follower = Follower(cluster, "/f")
    follower.wait_for(b"a long line that goes away\n")
    cluster.ok("truncate", 6, "/f")
    # It goes on at the end that it finds when it looks: the bytes before are not said again.
    assert b"was cut to 6 bytes" in follower.process.stderr.readline()
    cluster.ok("truncate", 9, "/f")
    follower.wait_for(b"a long line that goes away\n\0\0\0")
    follower.end()


def test_a_reader_that_goes_away_ends_it(cluster):
    make_records(cluster, "/r", 3)
    tail = cluster.popen("tail", "-f", "--records", "/r", stdout=subprocess.PIPE)
    tail.stdout.readline()
    tail.stdout.close()
    assert tail.wait(30 * SLOW) == -signal.SIGPIPE  # though nothing is added


def test_servers_and_master_that_come_and_go(cluster):
    make_records(cluster, "/r", 2, 0)
    follower = Follower(cluster, "--records", "/r")
    follower.wait_for(b"0 \n1 \n")
    cluster.master.restart()
    cluster.wait_servers_up(3)
    cluster.ok("append", "/r", stdin=b"after the master")
    follower.wait_for(b"0 \n1 \nafter the master\n")
    for server in cluster.servers:
        server.restart()
        cluster.wait_servers_up(3)
        cluster.ok("append", "/r", stdin=server.name.encode())
    follower.wait_for(b"0 \n1 \nafter the master\nserver0\nserver1\nserver2\n")
    assert follower.end() == (-signal.SIGINT, "")


def test_a_large_file_is_not_read_from_its_start(cluster):
    data = random_bytes(40 * MIB).replace(b"\n", b" ")[:-6] + b"\nthe\nend\n"
    cluster.put_bytes(data, "/f")
    servers = [f"/proc/{server.pid}/io" for server in cluster.servers]

    def moved():
        return sum(int(open(path).readline().split()[1]) for path in servers)
    before = moved()
    assert cluster.ok("tail", "-n", "2", "/f").out == b"the\nend\n"
    assert moved() - before < 10 * MIB
