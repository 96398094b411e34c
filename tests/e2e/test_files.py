"""Bytes in, the same bytes out: sizes, streams, overwriting, paths that are wrong."""

import os

import pytest

from cluster import BLOCK, MIB, random_bytes

SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, MIB - 1, MIB, MIB + 1, 3 * MIB, 5 * MIB + 777]
NAME_MAX = 255


def write_file(folder, data, name="local"):
    path = os.path.join(folder, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def test_every_size_comes_back_from_a_file_and_a_stream(cluster, folder):
    for size in SIZES:
        data = random_bytes(size, seed=size)
        local = write_file(folder, data)
        cluster.ok("put", "--chunk-size", "1M", local, f"/file{size}")
        cluster.put_bytes(data, f"/stream{size}", "--chunk-size", str(MIB))
        for path in (f"/file{size}", f"/stream{size}"):
            back = os.path.join(folder, "back")
            cluster.ok("get", path, back)
            assert read_file(back) == data, path
            stat = cluster.json("stat", path)
            assert stat["size"] == size
            assert sum(chunk["length"] for chunk in stat["chunks"]) == size
            assert len(stat["chunks"]) == max(1, -(-size // MIB)) or size == 0


def test_a_big_file_of_default_chunks(cluster, folder):
    data = random_bytes(70 * MIB + 12345)
    cluster.ok("put", write_file(folder, data), "/big")
    stat = cluster.json("stat", "/big")
    assert stat["chunk_size"] == 64 * MIB and len(stat["chunks"]) == 2
    assert [len(ok) for ok in cluster.replicas("/big")] == [3, 3]
    assert cluster.get_bytes("/big") == data


def test_a_stream_in_odd_pieces(cluster):
    data = random_bytes(3 * MIB + 11)
    put = cluster.popen("put", "--chunk-size", "1M", "-", "/odd", stdin=-1)
    for begin in range(0, len(data), 77777):
        put.stdin.write(data[begin:begin + 77777])
        put.stdin.flush()
    put.stdin.close()
    assert put.wait(60) == 0
    assert cluster.get_bytes("/odd") == data


def test_cat_joins_files(cluster):
    one, two = random_bytes(100, 1), random_bytes(BLOCK + 5, 2)
    cluster.put_bytes(one, "/one")
    cluster.put_bytes(two, "/two")
    assert cluster.ok("cat", "/one", "/two", "/one").out == one + two + one


def test_cat_of_a_missing_file_fails_and_names_it(cluster):
    cluster.put_bytes(b"x", "/there")
    result = cluster.ctl("cat", "/there", "/nowhere")
    assert result.code == 1 and "/nowhere" in result.err


def test_put_refuses_to_overwrite_without_force(cluster):
    cluster.put_bytes(b"old", "/f")
    assert "/f" in cluster.fails("put", "-", "/f", stdin=b"new").err
    assert cluster.get_bytes("/f") == b"old"
    cluster.ok("put", "--force", "-", "/f", stdin=b"newer")
    assert cluster.get_bytes("/f") == b"newer"


def test_put_into_a_directory_keeps_the_local_name(cluster, folder):
    cluster.ok("mkdir", "/d")
    cluster.ok("put", write_file(folder, b"abc", "name.txt"), "/d")
    assert cluster.get_bytes("/d/name.txt") == b"abc"


def test_get_into_a_directory_keeps_the_name(cluster, folder):
    cluster.put_bytes(b"abc", "/name.txt")
    cluster.ok("get", "/name.txt", folder)
    assert read_file(os.path.join(folder, "name.txt")) == b"abc"


def test_get_replaces_a_local_file_whole(cluster, folder):
    back = write_file(folder, b"long old content")
    cluster.put_bytes(b"new", "/f")
    cluster.ok("get", "/f", back)
    assert read_file(back) == b"new"
    assert not [n for n in os.listdir(folder) if n.startswith(".")]


def test_get_of_a_missing_path_fails_and_makes_nothing(cluster, folder):
    back = os.path.join(folder, "back")
    result = cluster.fails("get", "/nowhere", back)
    assert "/nowhere" in result.err and not os.path.exists(back)


@pytest.mark.parametrize("command", [["get", "/d", "-"], ["cat", "/d"], ["truncate", "0", "/d"],
                                     ["put", "-", "/d"], ["cp", "/d", "/e"], ["rm", "/d"]])
def test_a_path_that_is_a_directory_is_refused(cluster, command):
    cluster.ok("mkdir", "/d")
    assert "/d" in cluster.fails(*command).err
    assert cluster.json("stat", "/d")["type"] == "directory"


def test_a_path_through_a_file_is_refused(cluster):
    cluster.put_bytes(b"x", "/f")
    for command in (["put", "-", "/f/below"], ["mkdir", "/f/below"], ["stat", "/f/below"]):
        assert "/f/below" in cluster.fails(*command).err


def test_names_up_to_255_bytes(cluster):
    longest = "/" + "n" * NAME_MAX
    cluster.put_bytes(b"x", longest)
    assert cluster.get_bytes(longest) == b"x"
    for command in (["put", "-", longest + "n"], ["mkdir", longest + "n"],
                    ["mv", longest, longest + "n"], ["stat", longest + "n"]):
        assert "too long" in cluster.fails(*command).err


def test_paths_up_to_4096_bytes(cluster):
    # 16 components of 255 bytes with their slashes are 4096 bytes.
    path = ("/" + "d" * NAME_MAX) * 15
    cluster.ok("mkdir", "-p", path)
    cluster.put_bytes(b"deep", path + "/" + "f" * NAME_MAX)
    assert cluster.get_bytes(path + "/" + "f" * NAME_MAX) == b"deep"
    assert "longer than 4096" in cluster.fails("stat", path + "/" + "f" * 250 + "/12345").err


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/a/./b", "/..", "/.", ""])
def test_bad_paths_are_refused(cluster, path):
    for command in (["put", "-", path], ["mkdir", path]):
        result = cluster.ctl(*command)
        assert result.code in (1, 2) and result.err.count("\n") == 1, result
    assert cluster.ok("ls", "/").out == b""


def test_names_of_any_bytes(cluster):
    names = [b"caf\xe9", b"with space", b"tab\there", b"\xff\xfe", b"-dash", b"quote'\""]
    for name in names:
        cluster.ok("put", "-", b"/" + name, stdin=name)
    for name in names:
        assert cluster.ok("get", b"/" + name, "-").out == name
    assert len(cluster.json("ls", "/")) == len(names)


def test_goal_and_chunk_size_are_kept(cluster):
    cluster.put_bytes(random_bytes(3 * MIB), "/f", "--goal", "2", "--chunk-size", "2M")
    stat = cluster.json("stat", "/f")
    assert stat["goal"] == 2 and stat["chunk_size"] == 2 * MIB
    assert [len(ok) for ok in cluster.replicas("/f")] == [2, 2]


def test_a_file_is_replaced_by_a_smaller_one(cluster):
    cluster.put_bytes(random_bytes(5 * MIB), "/f", "--chunk-size", "1M")
    cluster.put_bytes(b"small", "/f", "--force")
    assert cluster.get_bytes("/f") == b"small"
    assert cluster.json("stat", "/f")["size"] == 5
