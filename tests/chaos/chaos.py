"""Chaos: a cluster in network namespaces, clients that write down what they see, faults without
pause, and a checker.

    sudo make chaos SEED=7 MINUTES=30
    sudo BUILD=build tests/chaos/chaos.py --seed 7 --minutes 30

Rounds: clients on two hosts work on the round's own files while faults come and go; then all is
healed, everything is read once more, and the history must be one that a single correct copy could
have given: acknowledged writes read back, histories linearizable per region and per name, every
acknowledged record there once and no record twice (tests/sim/history.h; a request that failed or
timed out may have happened or not). Then every chunk's good replicas must be identical.

The seed gives the faults, their times and the clients' choices; the processes' own timing is real,
so a seed replays the plan and not each interleaving.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
for folder in ("e2e", "power"):
    sys.path.insert(0, os.path.join(HERE, "..", folder))
sys.path.insert(0, HERE)

import faults  # noqa: E402
from daemon import BIN, BUILD, Daemon  # noqa: E402
from disk import Disk  # noqa: E402
from net import Net  # noqa: E402
from waiting import SLOW, pause, wait_until  # noqa: E402

SERVERS = 5
CLIENT_HOSTS = 2
RACKS = ["a", "a", "b", "b", "c"]
ROUND_S = 25
PAUSE_S = (0.3, 3.0)  # between the beginnings of two faults
HEAL_S = 60
ROUND_DEADLINE_S = 120
MASTER_OPTIONS = ["--heartbeat-ms", "200", "--dead-missed", "15", "--startup-wait-ms", "1000",
                  "--lease-ms", "4000", "--lease-margin-ms", "500", "--collect-delay-s", "2",
                  "--set-version-timeout-ms", "1000", "--chunk-size", "1M"]
SERVER_OPTIONS = ["--free-min", "1M", "--write-buffer", "1M", "--data-db-max-bytes", "16M",
                  "--report-interval-ms", "300", "--apply-timeout-ms", "2000",
                  "--gap-timeout-ms", "1000"]


class Wrong(Exception):
    """A promise was broken."""


class NodeDaemon(Daemon):
    """A daemon in its host's namespace, on a fixed address."""

    def __init__(self, program, host, folder, args, data, port):
        super().__init__(program, host.name, folder, args, data)
        self.host = host
        self.addr = f"{host.ip}:{port}"

    def command(self, listen):
        return self.host.wrap(super().command(listen))


class Node:
    def __init__(self, name, host, daemon, disk, kinds):
        self.name = name
        self.host = host
        self.daemon = daemon
        self.disk = disk
        self.faults = kinds
        self.fault = None
        self.fault_ends = 0.0


class Rig:
    def __init__(self, folder, seed):
        self.folder = folder
        self.random = random.Random(seed)
        self.seed = seed
        self.net = Net()
        self.nodes = []
        self.disks = []
        self.servers_faulty_max = 2
        self.fault_counts = {}
        self.began = time.monotonic()
        self.master = self.add_daemon("master", "gfs-master", 7400, MASTER_OPTIONS,
                                      faults.ON_MASTER)
        self.servers = []
        for index in range(SERVERS):
            options = SERVER_OPTIONS + ["--master", self.master.daemon.addr,
                                        "--rack", RACKS[index]]
            self.servers.append(self.add_daemon(
                f"server{index}", "gfs-chunkserver", 7401, options,
                faults.ON_ROTTEN if index == 0 else faults.ON_SERVERS))
        self.clients = []
        for index in range(CLIENT_HOSTS):
            host = self.net.add_host(f"client{index}")
            node = Node(host.name, host, None, None, faults.ON_CLIENTS)
            self.clients.append(node)
            self.nodes.append(node)

    def add_daemon(self, name, program, port, options, kinds):
        host = self.net.add_host(name)
        disk = Disk(self.folder, f"disk-{name}", "xfs")
        self.disks.append(disk)
        daemon = NodeDaemon(program, host, self.folder, options, os.path.join(disk.path, "data"),
                            port)
        node = Node(name, host, daemon, disk, kinds)
        self.nodes.append(node)
        return node

    def say(self, text):
        print(f"{time.monotonic() - self.began:7.1f} {text}", flush=True)

    def start(self):
        for node in self.nodes:
            if node.daemon:
                node.daemon.start()
        self.wait_up()

    # ---- tools, on the first client's host -----------------------------------------------------
    def tool(self, program, *args, timeout_s=60):
        argv = self.clients[0].host.wrap([program] + [str(arg) for arg in args])
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s * SLOW)

    def ctl(self, *args):
        return self.tool(os.path.join(BIN, "gfsctl"), "--master", self.master.daemon.addr,
                         "--timeout", "5", *args)

    def servers_up(self):
        done = self.ctl("servers")
        return done.returncode == 0 and sum(" up " in f" {line} " for line in
                                            done.stdout.splitlines()) == SERVERS

    def wait_up(self):
        wait_until(self.servers_up, "all chunkservers up", HEAL_S)

    # ---- faults --------------------------------------------------------------------------------
    def begin_fault(self):
        fault = faults.draw(self, self.random)
        if fault is None:
            return
        fault.begin()
        name = type(fault).__name__
        self.fault_counts[name] = self.fault_counts.get(name, 0) + 1
        seconds = self.random.uniform(*fault.seconds)
        fault.node.fault = fault
        fault.node.fault_ends = time.monotonic() + seconds
        self.say(f"{fault}, for {seconds:.1f} s")

    def end_faults(self, now):
        for node in self.nodes:
            if node.fault is not None and now >= node.fault_ends:
                fault, node.fault = node.fault, None
                fault.end()

    def check_alive(self):
        """A daemon that no fault has killed must live."""
        for node in self.nodes:
            if node.daemon and node.fault is None and not node.daemon.is_alive():
                raise Wrong(f"{node.name} died with {node.daemon.proc.returncode}:\n"
                            f"{node.daemon.log(40)}")

    def run_faults(self, seconds):
        ends = time.monotonic() + seconds
        next_fault = time.monotonic()
        while time.monotonic() < ends:
            now = time.monotonic()
            self.end_faults(now)
            self.check_alive()
            if now >= next_fault:
                self.begin_fault()
                next_fault = now + self.random.uniform(*PAUSE_S)
            pause(0.05)

    def heal(self):
        self.end_faults(float("inf"))
        self.net.heal()
        self.check_alive()

    # ---- a round -------------------------------------------------------------------------------
    def client_args(self, mode, number, history):
        return [os.path.join(BUILD, "tests", "chaos_client"), mode, "--master",
                self.master.daemon.addr, "--folder", f"/round{number}", "--out", history]

    def round(self, number, seconds):
        histories = [os.path.join(self.folder, f"round{number}.{node.name}.history")
                     for node in self.clients]
        final = os.path.join(self.folder, f"round{number}.final.history")
        procs = []
        made = self.tool(*self.client_args("make", number, final))
        if made.returncode != 0:
            raise Wrong(f"the round's files could not be made: {made.stderr}")
        try:
            for index, node in enumerate(self.clients):
                argv = self.client_args("work", number, histories[index]) + [
                    "--seed", str(self.random.randrange(1 << 30)), "--seconds", str(seconds),
                    "--client", str(index)]
                procs.append(subprocess.Popen(node.host.wrap(argv), stderr=subprocess.PIPE,
                                              stdin=subprocess.DEVNULL, text=True))
            self.run_faults(seconds)
            self.heal()
            self.wait_up()
            for proc in procs:
                _, err = proc.communicate(timeout=ROUND_DEADLINE_S * SLOW)
                if proc.returncode != 0:
                    raise Wrong(f"a client ended with {proc.returncode}: {err}")
        finally:
            for proc in procs:
                if proc.poll() is None:
                    proc.kill()
                    proc.wait()
        self.check_round(number, histories, final)

    def check_round(self, number, histories, final):
        done = self.tool(*self.client_args("final", number, final), timeout_s=120)
        if done.returncode != 0:
            raise Wrong(f"after all was healed not everything could be read: {done.stderr}")
        whole = os.path.join(self.folder, f"round{number}.history")
        with open(whole, "w") as out:
            for path in histories + [final]:
                with open(path) as part:
                    shutil.copyfileobj(part, out)
        done = subprocess.run([os.path.join(BUILD, "tests", "check_history"), whole],
                              capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise Wrong(f"the history is not one of a correct store:\n"
                        f"{done.stdout[-4000:]}{done.stderr[-2000:]}")
        self.say(f"round {number}: {done.stdout.strip().splitlines()[-1]}")
        same = None

        def compare():
            nonlocal same
            same = self.tool(*self.client_args("compare", number, final), timeout_s=60)
            return same.returncode == 0
        try:
            wait_until(compare, "good replicas identical", HEAL_S)
        except AssertionError as late:
            raise Wrong(f"{late}: {same.stdout}{same.stderr}") from None
        for path in histories + [final, whole]:
            os.remove(path)

    def finish(self):
        """Everything must end in order."""
        wrong = []
        for node in reversed(self.nodes):
            if node.daemon:
                problem = node.daemon.check_end()
                if problem:
                    wrong.append(problem)
        if wrong:
            raise Wrong("\n".join(wrong))

    def close(self):
        for node in self.nodes:
            if node.daemon:
                node.daemon.kill()
        for disk in self.disks:
            disk.remove()
        self.net.close()


def run(args, folder):
    rig = Rig(folder, args.seed)
    rounds = 0
    try:
        rig.start()
        ends = time.monotonic() + args.minutes * 60
        while rounds == 0 or time.monotonic() + ROUND_S < ends:
            rig.round(rounds, ROUND_S)
            rounds += 1
        rig.finish()
    finally:
        rig.close()
    return rig, rounds


def main():
    parser = argparse.ArgumentParser(description="faults without pause, and a checker")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--keep", metavar="DIR", help="work here and leave everything behind")
    parser.add_argument("--results", metavar="FILE", help="write the counts here, as JSON")
    args = parser.parse_args()
    if os.geteuid() != 0:
        print("chaos needs root: network namespaces and mounts")
        return 2
    folder = args.keep or tempfile.mkdtemp(prefix="gfs-chaos-")
    os.makedirs(folder, exist_ok=True)
    began = time.monotonic()
    failed = 0
    try:
        rig, rounds = run(args, folder)
        minutes = (time.monotonic() - began) / 60
        total = sum(rig.fault_counts.values())
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(rig.fault_counts.items()))
        print(f"{rounds} rounds in {minutes:.1f} min, {total} faults "
              f"({total / minutes * 60:.0f} an hour): {kinds}")
        passed = rounds
    except (Wrong, AssertionError) as wrong:
        print(f"FAILED with --seed {args.seed}: {wrong}")
        print(f"histories and logs are left in {folder}")
        passed, failed = 0, 1
    if not failed and not args.keep:
        shutil.rmtree(folder)
    if args.results:
        with open(args.results, "w") as out:
            out.write(f'{{"passed": {passed}, "failed": {failed}}}')
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
