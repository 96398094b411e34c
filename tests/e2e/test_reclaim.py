"""Space comes back: chunks of removed, replaced and cut files leave the chunkservers."""

from cluster import MIB, random_bytes
from waiting import wait_until

FAST = ["--collect-delay-s", "0", "--collect-quarantine-s", "1"]
SERVER_FAST = ["--report-interval-ms", "200"]
COLLECT_S = 30


def chunks_are(cluster, count):
    servers = cluster.server_list()
    return len(servers) == 3 and sum(server["chunks"] for server in servers) == count


def wait_chunks(cluster, count):
    wait_until(lambda: chunks_are(cluster, count), f"{count} chunks on the servers", COLLECT_S)


def test_chunks_of_removed_files_are_collected(make_cluster):
    cluster = make_cluster(master_options=FAST, server_options=SERVER_FAST)
    cluster.ok("mkdir", "-p", "/d/e")
    for path in ("/f", "/d/f", "/d/e/f"):
        cluster.put_bytes(random_bytes(2 * MIB), path, "--chunk-size", "1M")
    wait_chunks(cluster, 18)
    cluster.ok("rm", "/f")
    wait_chunks(cluster, 12)
    cluster.ok("rm", "-r", "/d")
    wait_chunks(cluster, 0)
    assert cluster.json("df")["chunks"] == 0


def test_chunks_of_replaced_and_cut_files_are_collected(make_cluster):
    cluster = make_cluster(master_options=FAST, server_options=SERVER_FAST)
    cluster.put_bytes(random_bytes(4 * MIB), "/f", "--chunk-size", "1M")
    cluster.put_bytes(random_bytes(2 * MIB, 2), "/f", "--chunk-size", "1M", "--force")
    wait_chunks(cluster, 6)
    cluster.put_bytes(random_bytes(MIB, 3), "/g", "--chunk-size", "1M")
    cluster.ok("mv", "/g", "/f")
    wait_chunks(cluster, 3)
    cluster.put_bytes(random_bytes(4 * MIB), "/h", "--chunk-size", "1M")
    cluster.ok("truncate", "1000000", "/h")
    wait_chunks(cluster, 6)
    assert cluster.get_bytes("/f") == random_bytes(MIB, 3)
    assert cluster.get_bytes("/h") == random_bytes(4 * MIB)[:1000000]


def test_chunks_removed_while_a_server_was_away_are_collected_later(make_cluster):
    cluster = make_cluster(master_options=FAST, server_options=SERVER_FAST)
    cluster.put_bytes(random_bytes(2 * MIB), "/f", "--chunk-size", "1M")
    cluster.put_bytes(b"stays", "/stays")
    cluster.servers[0].kill()
    cluster.ok("rm", "/f")
    wait_until(lambda: cluster.count_up() == 2, "it is seen down")
    cluster.servers[0].start()
    wait_chunks(cluster, 3)
    cluster.master.restart()
    cluster.wait_servers_up(3)
    assert cluster.get_bytes("/stays") == b"stays"
    wait_chunks(cluster, 3)


def test_a_removed_file_stays_readable_for_nobody_and_others_stay(make_cluster):
    cluster = make_cluster(master_options=FAST, server_options=SERVER_FAST)
    kept = random_bytes(MIB + 5)
    cluster.put_bytes(kept, "/kept")
    for turn in range(3):
        cluster.put_bytes(random_bytes(MIB, turn), "/gone")
        cluster.ok("rm", "/gone")
    cluster.fails("get", "/gone", "-")
    wait_chunks(cluster, 3)
    assert cluster.get_bytes("/kept") == kept
