"""Peers that send rubbish, lie about sizes or never finish: the daemons live and stay small."""

import os
import random
import socket
import struct
import subprocess

import pytest

import wire
from cluster import BIN, MIB, random_bytes
from waiting import SLOW, wait_until

GROWTH_MAX_BYTES = 200 * MIB * SLOW  # sanitizers multiply memory, too
CONNECTIONS = 150
SILENT_S = 20


def connect(daemon):
    sock = socket.create_connection(("127.0.0.1", daemon.port), 10)
    sock.settimeout(SILENT_S * SLOW)
    return sock


def is_closed_by_peer(sock):
    """True once the daemon has ended the connection; what it still says is read and dropped."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        pass
    except socket.timeout:
        return False
    return True


def send_all(sock, data):
    """Sends what the peer takes."""
    try:
        sock.sendall(data)
    except OSError:
        pass


def end_of_input(sock):
    """Closes our direction; the peer may have ended the connection already."""
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def check_serves(cluster, seed):
    data = random_bytes(100_000, seed)
    cluster.put_bytes(data, f"/after-{seed}", "--force")
    assert cluster.get_bytes(f"/after-{seed}") == data
    assert all(daemon.is_alive() for daemon in cluster.daemons())


def both(cluster):
    return [cluster.master, cluster.servers[0]]


def test_random_bytes_end_the_connection_and_nothing_else(cluster):
    source = random.Random(5)
    for daemon in both(cluster):
        before = daemon.rss_bytes()
        for _ in range(CONNECTIONS):
            with connect(daemon) as sock:
                send_all(sock, source.randbytes(source.randrange(1, 20000)))
                if source.randrange(3) == 0:
                    end_of_input(sock)
        with connect(daemon) as sock:
            send_all(sock, source.randbytes(4096))
            assert is_closed_by_peer(sock)
        assert daemon.rss_bytes() - before < GROWTH_MAX_BYTES
    check_serves(cluster, 1)


BAD_FRAMES = {
    "wrong magic": wire.frame(wire.HELLO, magic=0x12345678),
    "huge message": wire.frame(wire.HELLO, message_bytes=0xFFFFFFFF),
    "message over the limit": wire.frame(wire.HELLO, message_bytes=(1 << 20) + 1),
    "huge payload": wire.frame(wire.HELLO, payload_bytes=0xFFFFFFFF),
    "wrong crc": wire.frame(wire.HELLO, wire.field(5, 1), bad_crc=True),
    "not protobuf": wire.frame(wire.HELLO, b"\xff" * 50),
    "no hello first": wire.frame(wire.PING),
    "unknown role": wire.hello(role=77),
    "a reply to nothing": wire.frame(wire.HELLO, flags=wire.FLAG_REPLY),
    "unknown version": wire.frame(wire.HELLO, wire.field(1, 900) + wire.field(2, 901) +
                                  wire.field(5, 1), version=900),
    "another cluster": wire.hello(cluster=b"\xab" * 16),
}


@pytest.mark.parametrize("name", sorted(BAD_FRAMES))
def test_a_bad_first_frame_ends_the_connection(cluster, name):
    for daemon in both(cluster):
        with connect(daemon) as sock:
            send_all(sock, BAD_FRAMES[name])
            assert is_closed_by_peer(sock), f"{daemon.name} keeps the connection"
    check_serves(cluster, 2)


def greeted(daemon, role=wire.ROLE_CLIENT):
    sock = connect(daemon)
    sock.sendall(wire.hello(role))
    kind, flags, _, _ = wire.read_frame(sock)
    assert kind == wire.HELLO and flags == wire.FLAG_REPLY
    return sock


@pytest.mark.parametrize("name,daemon_index,kind", [
    ("a client may not register as a server", 0, wire.REGISTER),
    ("a client may not delete chunks", 1, wire.DELETE_CHUNKS),
    ("a client may not raise versions", 1, wire.SET_VERSION),
    ("a client may not grant leases", 1, wire.GRANT_LEASE),
    ("a client may not order as a primary", 1, wire.APPLY),
    ("an unknown type", 0, 4242),
    ("an unknown type", 1, 4242),
])
def test_what_a_role_may_not_send_ends_the_connection(cluster, name, daemon_index, kind):
    daemon = both(cluster)[daemon_index]
    with greeted(daemon) as sock:
        send_all(sock, wire.frame(kind))
        assert is_closed_by_peer(sock), name
    check_serves(cluster, 3)


def test_a_client_that_claims_anothers_lease_version_or_handle(cluster):
    """Orders to write under what it was not given: refused by every server, nothing changed."""
    data = bytes(range(256)) * 1000
    cluster.put_bytes(data, "/f")
    chunk = cluster.json("stat", "/f")["chunks"][0]
    handle, version = int(chunk["handle"], 16), chunk["version"]
    harm = b"harm" * 10
    crc = struct.pack("<I", wire.crc32c(harm))
    for server in cluster.servers:
        for claimed in ((handle, version), (handle, version + 1), (handle, version - 1),
                        (handle + 1000, 1)):
            order = (wire.field(1, claimed[0]) + wire.field(2, claimed[1]) +
                     wire.field(4, len(harm)) + wire.field(5, bytes(16)) +
                     wire.field(7, 65536) + wire.field(8, crc))
            with greeted(server) as sock:
                send_all(sock, wire.frame(wire.WRITE, order, harm, request=9))
                kind, flags, _, _ = wire.read_frame(sock)
                assert kind == wire.WRITE and flags & wire.FLAG_ERROR, (server.name, claimed)
    assert cluster.get_bytes("/f") == data
    check_serves(cluster, 5)


def test_data_pushed_and_never_written_is_bounded_and_goes(make_cluster):
    cluster = make_cluster(server_options=["--push-buffer-bytes", "8M", "--push-ttl-s", "1"])
    block = bytes(65536)
    crc = struct.pack("<I", wire.crc32c(block))

    def push(sock, number):
        """True: it was taken in."""
        part = (wire.field(1, struct.pack("<QQ", number, 7)) + wire.field(3, len(block)) +
                wire.field(4, 65536) + wire.field(5, crc))
        send_all(sock, wire.frame(wire.PUSH, part, block, request=number + 1))
        _, flags, _, _ = wire.read_frame(sock)
        return not flags & wire.FLAG_ERROR
    with greeted(cluster.servers[0]) as sock:
        taken = sum(push(sock, number) for number in range(256))  # 16 MiB
        assert 0 < taken <= 128
        wait_until(lambda: push(sock, 1000), "there is room again")
    check_serves(cluster, 6)


def test_rubbish_in_well_formed_frames(cluster):
    """Every message type gets random message bytes, and plausible ones with random numbers."""
    source = random.Random(11)
    for daemon in both(cluster):
        for kind in list(range(100, 123)) + list(range(140, 143)) + list(range(200, 204)):
            for role in (wire.ROLE_CLIENT, wire.ROLE_CHUNKSERVER):
                message = b"".join(wire.field(number, source.choice(
                    [source.getrandbits(63), source.randbytes(source.randrange(40)), 0]))
                    for number in range(1, 7))
                with greeted(daemon, role) as sock:
                    send_all(sock, wire.frame(kind, message, source.randbytes(100), request=5))
                    send_all(sock, wire.frame(kind, source.randbytes(30), request=6))
                    end_of_input(sock)
                    is_closed_by_peer(sock)
        assert daemon.is_alive(), daemon.log(40)
    check_serves(cluster, 4)


def test_half_open_connections_cost_little_and_are_ended(cluster):
    for daemon in both(cluster):
        before = daemon.rss_bytes()
        silent = [connect(daemon) for _ in range(CONNECTIONS)]
        half = [connect(daemon) for _ in range(CONNECTIONS)]
        for sock in half:
            sock.sendall(wire.hello()[:17])
        assert daemon.rss_bytes() - before < GROWTH_MAX_BYTES
        check_serves(cluster, 5)
        # A peer that has not said hello in time is ended.
        assert is_closed_by_peer(silent[0]) and is_closed_by_peer(half[0])
        for sock in silent + half:
            sock.close()


def test_big_frames_begun_and_never_finished_stay_bounded(cluster):
    start = wire.frame(wire.PUSH, wire.field(1, bytes(16)), payload_bytes=4 * MIB)
    for daemon in both(cluster):
        before = daemon.rss_bytes()
        socks = []
        for _ in range(CONNECTIONS):
            try:
                sock = greeted(daemon)
            except (OSError, TypeError):
                continue  # refused: as good
            sock.settimeout(1)
            send_all(sock, start + bytes(1000))
            socks.append(sock)
        grown = daemon.rss_bytes() - before
        assert grown < GROWTH_MAX_BYTES, f"{daemon.name} grew by {grown // MIB} MiB"
        check_serves(cluster, 6)
        for sock in socks:
            sock.close()


def test_a_reader_that_never_reads_stays_bounded(cluster):
    """Requests without end, replies never taken: the connection is not read any more."""
    for daemon in both(cluster):
        before = daemon.rss_bytes()
        with greeted(daemon) as sock:
            sock.settimeout(2)
            request = wire.frame(wire.PING) * 1000
            try:
                for _ in range(400):
                    sock.sendall(request)
            except OSError:
                pass
            assert daemon.rss_bytes() - before < GROWTH_MAX_BYTES
            check_serves(cluster, 7)


def test_a_daemon_out_of_descriptors_lives(make_cluster):
    cluster = make_cluster(servers=3)
    for daemon in both(cluster):
        subprocess.run(["prlimit", "--pid", str(daemon.pid), "--nofile=64:"], check=True)
        socks = []
        try:
            for _ in range(100):
                socks.append(socket.create_connection(("127.0.0.1", daemon.port), 5))
        except OSError:
            pass
        for sock in socks:
            sock.close()
        subprocess.run(["prlimit", "--pid", str(daemon.pid), "--nofile=4096:"], check=True)
        assert daemon.is_alive()
    wait_until(lambda: cluster.ctl("--timeout", "2", "put", "--force", "-", "/f",
                                   stdin=b"x").code == 0, "it serves again")


def test_gfsctl_survives_a_master_that_talks_rubbish():
    source = random.Random(3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20 * SLOW)
        addr = f"127.0.0.1:{server.getsockname()[1]}"
        ctl = subprocess.Popen([os.path.join(BIN, "gfsctl"), "--master", addr, "--timeout", "2",
                                "ls", "/"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        peer, _ = server.accept()
        send_all(peer, source.randbytes(4096))
        peer.close()
        # Further tries are taken and closed until it gives up.
        server.settimeout(0.1)
        while ctl.poll() is None:
            try:
                server.accept()[0].close()
            except socket.timeout:
                pass
        err = ctl.stderr.read().decode()
        assert ctl.returncode == 1 and addr in err and err.count("\n") == 1
        ctl.stderr.close()
