"""A network link that can be cut: a TCP proxy in front of one address.

While cut it forwards nothing, in either direction, and closes nothing: what a lost route looks
like. New connections are taken by the kernel and hang, too.
"""

import select
import socket
import threading

PIECE_BYTES = 1 << 18


class Link:
    def __init__(self, target=None):
        """target: "host:port"; may be set later, before the first connection."""
        self.target = target
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addr = f"127.0.0.1:{self.server.getsockname()[1]}"
        self.pairs = {}  # socket -> its other side
        self.waiting = {}  # socket -> bytes read from it that the other side has not taken
        self.is_cut = threading.Event()
        self.is_over = threading.Event()
        self.wake_out, self.wake_in = socket.socketpair()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def cut(self):
        self.is_cut.set()
        self.wake_in.send(b"w")

    def mend(self):
        self.is_cut.clear()
        self.wake_in.send(b"w")

    def close(self):
        self.is_over.set()
        self.wake_in.send(b"w")
        self.thread.join()
        for sock in [self.server, self.wake_in, self.wake_out] + list(self.pairs):
            sock.close()

    def run(self):
        while not self.is_over.is_set():
            readers, writers = [self.wake_out], []
            if not self.is_cut.is_set():
                readers += [self.server] + [s for s in self.pairs if s not in self.waiting]
                writers = [self.pairs[s] for s in self.waiting]
            readable, writable, _ = select.select(readers, writers, [])
            for sock in readable:
                if sock is self.wake_out:
                    sock.recv(100)
                elif sock is self.server:
                    self.accept()
                elif sock in self.pairs:
                    self.read(sock)
            for sock in writable:
                if sock in self.pairs:
                    self.write(self.pairs[sock])

    def accept(self):
        near, _ = self.server.accept()
        host, port = self.target.rsplit(":", 1)
        try:
            far = socket.create_connection((host, int(port)), 1)
        except OSError:
            near.close()
            return
        for sock, other in ((near, far), (far, near)):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.pairs[sock] = other

    def read(self, sock):
        try:
            data = sock.recv(PIECE_BYTES)
        except OSError:
            data = b""
        if not data:
            self.drop(sock)
            return
        self.waiting[sock] = data
        self.write(sock)

    def write(self, sock):
        """Sends on what was read from sock."""
        data = self.waiting.get(sock, b"")
        try:
            data = data[self.pairs[sock].send(data):]
        except BlockingIOError:
            pass
        except OSError:
            self.drop(sock)
            return
        if data:
            self.waiting[sock] = data
        else:
            self.waiting.pop(sock, None)

    def drop(self, sock):
        other = self.pairs.pop(sock, None)
        self.waiting.pop(sock, None)
        if other is not None:
            # What is still on its way to the other side gets there before the end.
            self.pairs.pop(other, None)
            self.waiting.pop(other, None)
            other.close()
        sock.close()
