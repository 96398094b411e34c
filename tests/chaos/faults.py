"""What can happen to a node, each with a beginning and an end, and how often each is drawn.

A fault must be one that the promises cover: bytes rot on one server only, so that a good replica of
every chunk lives; of the disks at most one is without power at a time.
"""

import glob
import os
import random
import signal


class Fault:
    """begin() once, end() once, in this order; a node has one fault at a time."""

    seconds = (0.3, 3.0)

    def __init__(self, rig, node, source):
        self.rig = rig
        self.node = node
        self.random = source

    def __str__(self):
        return f"{type(self).__name__} {self.node.name}"

    def begin(self):
        raise NotImplementedError

    def end(self):
        pass


class Kill(Fault):
    """SIGKILL, and back after a while."""

    def begin(self):
        self.node.daemon.kill()

    def end(self):
        self.node.daemon.start()


class Freeze(Fault):
    """SIGSTOP: neither dead nor alive."""

    seconds = (0.5, 8.0)

    def begin(self):
        self.node.daemon.signal(signal.SIGSTOP)

    def end(self):
        self.node.daemon.signal(signal.SIGCONT)


class Cut(Fault):
    """No packet in or out."""

    seconds = (0.5, 10.0)

    def begin(self):
        self.node.host.drop_from()
        self.node.host.drop_to()

    def end(self):
        self.node.host.heal()


class Deaf(Fault):
    """It sends, and hears nothing."""

    seconds = (0.5, 6.0)

    def begin(self):
        self.node.host.drop_from()

    def end(self):
        self.node.host.heal()


class Mute(Fault):
    """It hears and executes, and its replies vanish."""

    seconds = (0.5, 6.0)

    def begin(self):
        self.node.host.drop_to()

    def end(self):
        self.node.host.heal()


class Apart(Fault):
    """One way or both, between two nodes only."""

    seconds = (0.5, 10.0)

    def begin(self):
        others = [host for host in self.rig.net.hosts if host is not self.node.host]
        self.peer = self.random.choice(others)
        way = self.random.randrange(3)
        if way != 0:
            self.node.host.drop_from(self.peer)
        if way != 1:
            self.node.host.drop_to(self.peer)

    def end(self):
        self.node.host.heal()

    def __str__(self):
        return f"{super().__str__()} from {self.peer.name if hasattr(self, 'peer') else '?'}"


class Loss(Fault):
    """Some packets vanish, both ways."""

    seconds = (1.0, 6.0)

    def begin(self):
        self.node.host.drop_from(probability=self.random.uniform(0.02, 0.3))
        self.node.host.drop_to(probability=self.random.uniform(0.02, 0.3))

    def end(self):
        self.node.host.heal()


class PowerCut(Fault):
    """The file system stops at once: what was not synced is gone."""

    def begin(self):
        self.node.disk.cut()
        self.node.daemon.kill()
        self.node.disk.unmount()

    def end(self):
        self.node.disk.mount()
        self.node.daemon.start()


class Rot(Fault):
    """Bytes of a table on the disk change, under the running server."""

    seconds = (0.1, 0.5)
    flips = 8

    def begin(self):
        tables = [path for path in glob.glob(f"{self.node.daemon.data}/**/*.ldb", recursive=True)
                  if "index" not in os.path.relpath(path, self.node.daemon.data)]
        for path in self.random.sample(sorted(tables), min(len(tables), 2)):
            try:
                self.rot(path)
            except FileNotFoundError:  # compacted away meanwhile
                pass

    def rot(self, path):
        with open(path, "r+b", buffering=0) as table:
            size = table.seek(0, os.SEEK_END)
            for _ in range(self.flips):
                # The last bytes are LevelDB's own index: a table without them is another fault.
                at = self.random.randrange(max(1, size * 3 // 4))
                table.seek(at)
                byte = table.read(1)
                if byte:
                    table.seek(at)
                    table.write(bytes([byte[0] ^ 1 << self.random.randrange(8)]))


ON_SERVERS = [(Kill, 5), (Freeze, 4), (Cut, 3), (Deaf, 2), (Mute, 3), (Apart, 4), (Loss, 3),
              (PowerCut, 3)]
ON_ROTTEN = ON_SERVERS + [(Rot, 6)]
ON_MASTER = [(Kill, 3), (Freeze, 2), (Cut, 1), (Mute, 1), (Apart, 2), (Loss, 1), (PowerCut, 1)]
ON_CLIENTS = [(Cut, 1), (Deaf, 2), (Mute, 2), (Apart, 3), (Loss, 2)]


def draw(rig, source: random.Random):
    """A fault on a node that has none; None when all have one, or too many servers do."""
    free = [node for node in rig.nodes if node.fault is None]
    faulty_servers = sum(node.fault is not None for node in rig.servers)
    if faulty_servers >= rig.servers_faulty_max:
        free = [node for node in free if node not in rig.servers]
    # Mostly the servers: there the data is.
    weights = [6 if node in rig.servers else 2 if node is rig.master else 1 for node in free]
    if not free:
        return None
    node = source.choices(free, weights)[0]
    kinds = node.faults
    if any(isinstance(other.fault, PowerCut) for other in rig.nodes):
        kinds = [(kind, weight) for kind, weight in kinds if kind is not PowerCut]
    kind = source.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
    return kind(rig, node, source)
