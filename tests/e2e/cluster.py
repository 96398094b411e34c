"""A cluster under test: one master, some chunkservers, gfsctl; all in a folder of its own."""

import json
import os
import random
import subprocess

from daemon import BIN, Daemon
from waiting import SLOW, wait_until

MIB = 1 << 20
BLOCK = 65536
CTL_TIMEOUT_S = 60

# Shorter times than a real cluster has, so that its slow reactions fit into a test.
MASTER_OPTIONS = ["--heartbeat-ms", "200", "--dead-missed", "8", "--startup-wait-ms", "1000"]
SERVER_OPTIONS = ["--free-min", "16M"]


def random_bytes(size, seed=1):
    return random.Random(seed).randbytes(size)


class Result:
    def __init__(self, args, code, out, err):
        self.args = args
        self.code = code
        self.out = out
        self.err = err.decode(errors="replace")

    @property
    def text(self):
        return self.out.decode(errors="surrogateescape")

    @property
    def lines(self):
        return self.text.splitlines()

    def json(self):
        return json.loads(self.text)

    def __repr__(self):
        return f"gfsctl {self.args} -> {self.code}\nout: {self.out[:500]}\nerr: {self.err[:2000]}"


class Cluster:
    def __init__(self, folder, servers=3, master_options=(), server_options=(), racks=None):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.master = Daemon("gfs-master", "master", folder,
                             MASTER_OPTIONS + list(master_options))
        self.servers = []
        self.server_options = SERVER_OPTIONS + list(server_options)
        self.first_count = servers
        self.racks = racks

    def start(self):
        self.master.start()
        for index in range(self.first_count):
            rack = ["--rack", self.racks[index]] if self.racks else []
            self.add_server(*rack)
        self.wait_servers_up(len(self.servers))
        return self

    def add_server(self, *options, data=None, start=True):
        args = ["--master", self.master.addr] + self.server_options + list(options)
        server = Daemon("gfs-chunkserver", f"server{len(self.servers)}", self.folder, args, data)
        self.servers.append(server)
        if start:
            server.start()
        return server

    def daemons(self):
        return [self.master] + self.servers

    # ---- gfsctl --------------------------------------------------------------------------------
    def ctl_argv(self, *args):
        fixed = [arg if isinstance(arg, bytes) else str(arg) for arg in args]
        return [os.path.join(BIN, "gfsctl"), "--master", self.master.addr] + fixed

    def ctl(self, *args, stdin=b"", timeout_s=CTL_TIMEOUT_S, cwd=None):
        """Runs gfsctl to its end, whatever that is."""
        done = subprocess.run(self.ctl_argv(*args), input=stdin, capture_output=True, cwd=cwd,
                              timeout=timeout_s * SLOW)
        return Result(args, done.returncode, done.stdout, done.stderr)

    def ok(self, *args, **options):
        result = self.ctl(*args, **options)
        assert result.code == 0, result
        return result

    def fails(self, *args, **options):
        """Fails with 1 and one line on stderr, as the service's and local failures must."""
        result = self.ctl(*args, **options)
        assert result.code == 1, result
        assert result.err.count("\n") == 1 and result.err.endswith("\n"), result
        return result

    def popen(self, *args, **options):
        return subprocess.Popen(self.ctl_argv(*args), **options)

    def json(self, *args):
        return self.ok("--json", *args).json()

    def put_bytes(self, data, path, *options):
        self.ok("put", *options, "-", path, stdin=data)

    def get_bytes(self, path, *options):
        return self.ok(*options, "get", path, "-").out

    # ---- state ---------------------------------------------------------------------------------
    def server_list(self):
        """servers --json, or an empty list while the master is away."""
        result = self.ctl("--json", "--timeout", "2", "servers")
        return result.json() if result.code == 0 else []

    def count_up(self):
        return sum(server["state"] == "up" for server in self.server_list())

    def wait_servers_up(self, count):
        wait_until(lambda: self.count_up() == count, f"{count} chunkservers up")

    def chunk_total(self):
        return sum(server["chunks"] for server in self.server_list())

    def exists(self, path):
        result = self.ctl("stat", path)
        assert result.code in (0, 1), result
        return result.code == 0

    def replicas(self, path, state="ok"):
        """For each chunk, the servers (Daemon) whose replica is in that state."""
        by_addr = {server.addr: server for server in self.servers}
        return [[by_addr[replica["addr"]] for replica in chunk["replicas"]
                 if replica["state"] == state]
                for chunk in self.json("stat", path)["chunks"]]

    def wait_replicas_ok(self, path, count):
        wait_until(lambda: all(len(ok) == count for ok in self.replicas(path)),
                   f"{count} good replicas of {path}")

    # ---- end -----------------------------------------------------------------------------------
    def finish(self):
        """Stops everything; returns what was wrong with it."""
        wrong = []
        for daemon in reversed(self.daemons()):
            try:
                problem = daemon.check_end()
            except AssertionError as failure:
                problem = str(failure)
            if problem:
                wrong.append(problem)
        return wrong

    def kill_all(self):
        for daemon in self.daemons():
            daemon.kill()
