"""Daemons: start, readiness, stop, identity, locks, what they refuse."""

import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from cluster import MIB, random_bytes
from daemon import BIN, Daemon
from waiting import SLOW, wait_until


def run_to_end(argv, timeout_s=20):
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=timeout_s * SLOW)


def test_port_0_is_told_on_stdout(cluster):
    for daemon in cluster.daemons():
        with open(daemon.out_path) as out:
            lines = out.read().splitlines()
        assert len(lines) == 1
        match = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)", lines[0])
        assert match and int(match[1]) > 0
        socket.create_connection(("127.0.0.1", daemon.port), 5).close()


@pytest.mark.parametrize("program", ["gfs-master", "gfs-chunkserver"])
def test_sd_notify_tells_readiness(program, cluster, folder):
    path = os.path.join(folder, "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(20 * SLOW)
        args = ["--master", cluster.master.addr] if program == "gfs-chunkserver" else []
        daemon = Daemon(program, "notifier", folder, args)
        daemon.env["NOTIFY_SOCKET"] = path
        try:
            daemon.start()
            seen = listener.recv(4096).decode()
            while "READY=1" not in seen:
                seen += "\n" + listener.recv(4096).decode()
            assert daemon.terminate() == 0
        finally:
            daemon.kill()


def test_sigterm_stops_with_0_and_the_data_stays(cluster):
    data = random_bytes(2 * MIB + 9)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    for daemon in cluster.daemons():
        assert daemon.terminate() == 0, daemon.log()
    for daemon in cluster.daemons():
        daemon.start()
    cluster.wait_servers_up(3)
    assert cluster.get_bytes("/f") == data
    cluster.wait_replicas_ok("/f", 3)


def test_sigterm_under_load_stops_with_0(cluster):
    put = cluster.popen("--timeout", "2", "put", "--chunk-size", "1M", "-", "/f",
                        stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        put.stdin.write(random_bytes(4 * MIB))
        put.stdin.flush()
        wait_until(lambda: cluster.chunk_total() > 0, "a chunk on a server")
        for daemon in reversed(cluster.daemons()):
            assert daemon.terminate() == 0, daemon.log()
    finally:
        put.kill()
        put.communicate()


def test_logs_are_one_key_value_line_an_event(cluster):
    cluster.put_bytes(b"x", "/f")
    cluster.servers[0].kill()
    wait_until(lambda: cluster.count_up() == 2, "a server seen down")
    for daemon in cluster.daemons():
        lines = daemon.log(1000).splitlines()
        assert lines
        for line in lines:
            assert re.match(r"\S+Z level=\w+ event=\S+", line), line


def test_a_second_process_on_a_data_directory_is_refused(cluster):
    cluster.put_bytes(b"x", "/f")
    for daemon in (cluster.master, cluster.servers[0]):
        done = run_to_end([os.path.join(BIN, daemon.program), "--data", daemon.data, "--listen",
                           "127.0.0.1:0"] + daemon.args)
        assert done.returncode == 1, done
        assert daemon.data in done.stderr and "use" in done.stderr
        assert "listening" not in done.stdout
    assert cluster.get_bytes("/f") == b"x"


def test_a_chunkserver_of_another_cluster_is_refused(make_cluster):
    ours = make_cluster(servers=1)
    other = make_cluster(servers=1)
    assert other.servers[0].terminate() == 0
    stranger = ours.add_server(data=other.servers[0].data, start=False)
    stranger.spawn()
    stranger.may_be_dead = True
    try:
        wait_until(lambda: "cluster" in stranger.log() and re.search("level=(error|warn)",
                                                                     stranger.log()),
                   "a refusal in the log")
        assert len(ours.server_list()) == 1
    finally:
        stranger.kill()
    # Its own cluster still takes it, data and all.
    other.servers[0].start()
    other.wait_servers_up(1)


def test_directories_that_are_not_ours_are_left_alone(cluster, folder):
    foreign = os.path.join(folder, "foreign")
    os.mkdir(foreign)
    with open(os.path.join(foreign, "precious"), "w") as file:
        file.write("mine")
    for daemon in (cluster.master, cluster.servers[0]):
        argv = [os.path.join(BIN, daemon.program), "--data", foreign, "--listen", "127.0.0.1:0"]
        done = run_to_end(argv + daemon.args)
        assert done.returncode == 1 and foreign in done.stderr, done
    with open(os.path.join(foreign, "precious")) as file:
        assert file.read() == "mine"


def test_a_directory_of_another_role_is_refused(cluster):
    master, server = cluster.master, cluster.servers[0]
    master.terminate()
    server.terminate()
    swapped = [(server, master.data), (master, server.data)]
    for daemon, data in swapped:
        done = run_to_end([os.path.join(BIN, daemon.program), "--data", data, "--listen",
                           "127.0.0.1:0"] + daemon.args)
        assert done.returncode == 1 and data in done.stderr, done


def test_a_format_of_the_future_is_refused(cluster):
    for daemon in (cluster.servers[0], cluster.master):
        daemon.terminate()
        stamp = os.path.join(daemon.data, "STAMP")
        with open(stamp) as file:
            text = file.read()
        assert "format=1" in text
        with open(stamp, "w") as file:
            file.write(text.replace("format=1", "format=999"))
        done = run_to_end([os.path.join(BIN, daemon.program), "--data", daemon.data, "--listen",
                           "127.0.0.1:0"] + daemon.args)
        assert done.returncode == 1 and daemon.data in done.stderr, done


def test_a_port_in_use_is_an_error_that_names_it(cluster, folder):
    for daemon in (cluster.master, cluster.servers[0]):
        done = run_to_end([os.path.join(BIN, daemon.program), "--data",
                           os.path.join(folder, "new-" + daemon.name), "--listen",
                           cluster.master.addr] + daemon.args)
        assert done.returncode == 1, done
        assert f"cannot listen on {cluster.master.addr}: Address already in use" in done.stderr, done


def test_a_data_directory_that_cannot_be_made(cluster, folder):
    path = os.path.join(folder, "file")
    with open(path, "w"):
        pass
    for daemon in (cluster.master, cluster.servers[0]):
        for data in (path, "/proc/nowhere"):
            done = run_to_end([os.path.join(BIN, daemon.program), "--data", data, "--listen",
                               "127.0.0.1:0"] + daemon.args)
            assert done.returncode == 1 and data in done.stderr, done


def test_a_chunkserver_waits_for_its_master(make_cluster):
    cluster = make_cluster(servers=2)
    cluster.master.kill()
    late = cluster.add_server(start=False)
    late.spawn()
    cluster.servers[0].restart()
    cluster.master.start()
    cluster.wait_servers_up(3)
    wait_until(late.listening, "the late server's line")
    late.addr = late.listening()


def test_a_chunkserver_is_its_uuid_not_its_address(cluster):
    data = random_bytes(MIB + 3)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    before = {server["id"] for server in cluster.server_list()}
    moved = cluster.servers[1]
    old = moved.addr
    moved.kill()
    moved.addr = None
    moved.data = shutil.move(moved.data, moved.data + "-moved")
    moved.start()
    wait_until(lambda: moved.addr in {s["addr"] for s in cluster.server_list()}, "the new address")
    servers = cluster.server_list()
    assert {server["id"] for server in servers} == before
    assert old == moved.addr or old not in {server["addr"] for server in servers}
    cluster.wait_servers_up(3)
    cluster.wait_replicas_ok("/f", 3)
    cluster.servers[0].kill()
    cluster.servers[2].kill()
    assert cluster.get_bytes("/f") == data


def test_a_killed_chunkserver_is_seen_down_and_up_again(cluster):
    cluster.servers[0].kill()
    wait_until(lambda: cluster.count_up() == 2, "it is down")
    states = {server["addr"]: server["state"] for server in cluster.server_list()}
    assert states[cluster.servers[0].addr] == "down"
    cluster.servers[0].start()
    cluster.wait_servers_up(3)


def test_a_frozen_chunkserver_is_seen_down(cluster):
    cluster.servers[0].signal(signal.SIGSTOP)
    try:
        wait_until(lambda: cluster.count_up() == 2, "it is down")
    finally:
        cluster.servers[0].signal(signal.SIGCONT)
    cluster.wait_servers_up(3)
