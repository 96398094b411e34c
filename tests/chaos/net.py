"""A network of its own: each node in a namespace, all on one bridge; what a fault does to it.

    node ns --veth-- bridge ns        addresses 10.91.0.N

Faults are iptables rules in the namespace of the node that suffers: packets vanish, nobody is told.
Root only. Everything made here carries the process id in its name and is gone after close().
"""

import itertools
import os
import subprocess

PREFIX = "10.91.0."


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")


class Host:
    """One namespace with one address."""

    def __init__(self, net, name, number):
        self.net = net
        self.name = name
        self.ip = f"{PREFIX}{number}"
        self.space = f"{net.tag}-{name}"
        self.lock_options = ["-w", "5"]
        run("ip", "netns", "add", self.space)
        inner, outer = f"i{net.pid}x{number}", f"o{net.pid}x{number}"
        run("ip", "link", "add", inner, "netns", self.space, "type", "veth",
            "peer", "name", outer, "netns", net.bridge)
        run("ip", "-n", net.bridge, "link", "set", outer, "master", "br0", "up")
        run("ip", "-n", self.space, "addr", "add", f"{self.ip}/24", "dev", inner)
        run("ip", "-n", self.space, "link", "set", inner, "up")
        run("ip", "-n", self.space, "link", "set", "lo", "up")

    def wrap(self, argv):
        """The command, run in this namespace: same process id. Not by `ip netns exec`, which gives
        it mounts of its own too: a disk would stay in use by all that ran when it was unmounted."""
        return ["nsenter", f"--net=/run/netns/{self.space}", *argv]

    def table(self, *args):
        run(*self.wrap(["iptables", *self.lock_options, *args]))

    def drop_from(self, peer=None, probability=None):
        """Incoming packets vanish: all, those of a peer, or some."""
        source = ["-s", peer.ip] if peer else []
        self.table("-A", "INPUT", "!", "-i", "lo", *source, *self.some(probability), "-j", "DROP")

    def drop_to(self, peer=None, probability=None):
        target = ["-d", peer.ip] if peer else []
        self.table("-A", "OUTPUT", "!", "-o", "lo", *target, *self.some(probability), "-j", "DROP")

    @staticmethod
    def some(probability):
        if probability is None:
            return []
        return ["-m", "statistic", "--mode", "random", "--probability", f"{probability:.3f}"]

    def heal(self):
        self.table("-F")


class Net:
    def __init__(self):
        self.pid = os.getpid()
        self.tag = f"gfs{self.pid}"
        self.bridge = f"{self.tag}-sw"
        self.hosts = []
        self.numbers = itertools.count(1)
        run("ip", "netns", "add", self.bridge)
        run("ip", "-n", self.bridge, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.bridge, "link", "set", "br0", "up")

    def add_host(self, name):
        host = Host(self, name, next(self.numbers))
        self.hosts.append(host)
        return host

    def heal(self):
        for host in self.hosts:
            host.heal()

    def close(self):
        """Every process in the namespaces must have ended."""
        for space in [host.space for host in self.hosts] + [self.bridge]:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)
