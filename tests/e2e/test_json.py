"""--json: what programs may rely on."""

import re
import uuid

from cluster import MIB, random_bytes

REPLICA_STATES = {"ok", "stale", "corrupt", "missing"}


def check(value, schema, where="$"):
    """value has at least the schema's keys, of its types. A schema: type, [schema], {key: schema}."""
    if isinstance(schema, dict):
        assert isinstance(value, dict), where
        for key, inner in schema.items():
            assert key in value, f"{where}.{key} is missing"
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(schema, list):
        assert isinstance(value, list), where
        for index, item in enumerate(value):
            check(item, schema[0], f"{where}[{index}]")
    elif schema is float:
        assert isinstance(value, (int, float)) and not isinstance(value, bool), where
    else:
        is_bool = isinstance(value, bool)
        assert isinstance(value, schema) and is_bool == (schema is bool), f"{where}: {value!r}"


STAT = {
    "path": str, "type": str, "size": int, "goal": int, "chunk_size": int, "mtime": float,
    "chunks": [{"index": int, "handle": str, "version": int, "length": int,
                "replicas": [{"server": str, "addr": str, "state": str}]}],
}
SERVERS = [{"id": str, "addr": str, "rack": str, "state": str, "capacity": int, "used": int,
            "chunks": int}]


def test_stat_of_a_file(cluster):
    cluster.put_bytes(random_bytes(2 * MIB + 10), "/f", "--chunk-size", "1M")
    stat = cluster.json("stat", "/f")
    check(stat, STAT)
    assert (stat["path"], stat["type"], stat["size"]) == ("/f", "file", 2 * MIB + 10)
    assert [chunk["index"] for chunk in stat["chunks"]] == [0, 1, 2]
    assert [chunk["length"] for chunk in stat["chunks"]] == [MIB, MIB, 10]
    handles = {chunk["handle"] for chunk in stat["chunks"]}
    assert len(handles) == 3 and all(re.fullmatch("[0-9a-f]{16}", h) for h in handles)
    addrs = {server.addr for server in cluster.servers}
    ids = {server["id"] for server in cluster.server_list()}
    for chunk in stat["chunks"]:
        assert chunk["version"] >= 1
        assert {replica["addr"] for replica in chunk["replicas"]} == addrs
        assert {replica["server"] for replica in chunk["replicas"]} == ids
        assert {replica["state"] for replica in chunk["replicas"]} <= REPLICA_STATES


def test_stat_of_a_directory(cluster):
    cluster.ok("mkdir", "/d")
    stat = cluster.json("stat", "/d")
    check(stat, {"path": str, "type": str, "mtime": float, "goal": int})
    assert stat["type"] == "directory"


def test_servers(make_cluster):
    cluster = make_cluster(servers=3, racks=["r1", "r2", "r2"])
    cluster.put_bytes(random_bytes(MIB), "/f")
    servers = cluster.json("servers")
    check(servers, SERVERS)
    assert sorted(server["rack"] for server in servers) == ["r1", "r2", "r2"]
    assert {server["state"] for server in servers} == {"up"}
    assert len({uuid.UUID(server["id"]) for server in servers}) == 3
    assert all(server["capacity"] > server["used"] >= 0 for server in servers)


def test_ls_du_df_and_tree(cluster):
    cluster.ok("mkdir", "/d")
    cluster.put_bytes(b"abc", "/d/f")
    entry = {"path": str, "type": str, "size": int, "goal": int, "mtime": float}
    check(cluster.json("ls", "/d"), [entry])
    check(cluster.json("ls", "-l", "-R", "/"), [entry])
    check(cluster.json("du", "/"), {"size": int, "files": int})
    check(cluster.json("df"), {"capacity": int, "used": int, "files": int, "chunks": int,
                               "servers_up": int, "servers_down": int})
    assert cluster.json("tree", "/")["children"][0]["children"][0]["size"] == 3


def test_an_error_prints_no_json(cluster):
    result = cluster.fails("--json", "stat", "/nowhere")
    assert result.out == b""
