"""Names: directories, renames, removal, sizes, goals, listings."""

import time

import pytest

from cluster import BLOCK, MIB, random_bytes


def names(cluster, path="/"):
    return cluster.ok("ls", path).lines


def test_mkdir_and_its_refusals(cluster):
    cluster.ok("mkdir", "/a")
    assert "/a" in cluster.fails("mkdir", "/a").err
    cluster.fails("mkdir", "/no/such/parent")
    cluster.ok("mkdir", "-p", "/x/y/z")
    cluster.ok("mkdir", "-p", "/x/y/z")
    assert cluster.json("stat", "/x/y/z")["type"] == "directory"
    cluster.put_bytes(b"", "/x/f")
    cluster.fails("mkdir", "-p", "/x/f")
    cluster.fails("mkdir", "-p", "/x/f/g")


def test_ls_is_in_byte_order_and_shows_details(cluster):
    for name in ("b", "a", "B", "a0"):
        cluster.put_bytes(name.encode() * 3, "/" + name)
    cluster.ok("mkdir", "/dir")
    assert names(cluster) == ["B", "a", "a0", "b", "dir"]
    details = cluster.ok("ls", "-l", "/").lines
    assert len(details) == 5 and " 6 " in details[2] and details[4].endswith("dir")
    assert len(cluster.ok("ls", "-l", "/a0").lines) == 1
    assert "/nowhere" in cluster.fails("ls", "/nowhere").err
    assert names(cluster, "/dir") == []


def test_ls_recursive_shows_everything_below(cluster):
    cluster.ok("mkdir", "-p", "/d/e/f")
    cluster.put_bytes(b"1", "/d/e/f/deep")
    cluster.put_bytes(b"1", "/top")
    text = cluster.ok("ls", "-R", "/").text
    assert "deep" in text and "top" in text
    paths = {entry["path"] for entry in cluster.json("ls", "-R", "/")}
    assert paths == {"/d", "/d/e", "/d/e/f", "/d/e/f/deep", "/top"}


def test_tree_du_and_df(cluster):
    cluster.ok("mkdir", "-p", "/d/e")
    cluster.put_bytes(bytes(1000), "/d/one", "--goal", "1")
    cluster.put_bytes(bytes(500), "/d/e/two", "--goal", "3")
    text = cluster.ok("tree", "/d").text
    assert "one" in text and "two" in text and "2 files" in text
    usage = cluster.json("du", "/d")
    assert usage["size"] == 1500 and usage["files"] == 2
    df = cluster.json("df")
    assert df["files"] == 2 and df["servers_up"] == 3
    assert cluster.ok("df").text and cluster.ok("du", "/d").text
    cluster.fails("du", "/nowhere")
    cluster.fails("tree", "/nowhere")


def test_mv_of_files(cluster):
    cluster.put_bytes(b"1", "/a")
    cluster.put_bytes(b"22", "/b")
    cluster.ok("mv", "/a", "/c")
    assert names(cluster) == ["b", "c"]
    cluster.ok("mv", "/c", "/b")
    assert names(cluster) == ["b"] and cluster.get_bytes("/b") == b"1"
    assert "/nowhere" in cluster.fails("mv", "/nowhere", "/x").err
    cluster.fails("mv", "/b", "/no/such/dir")
    cluster.ok("mkdir", "/d")
    cluster.ok("mv", "/b", "/d")
    assert names(cluster, "/d") == ["b"]


def test_mv_of_directories_takes_all_below(cluster):
    cluster.ok("mkdir", "-p", "/a/b/c")
    cluster.put_bytes(b"deep", "/a/b/c/f")
    cluster.ok("mkdir", "/z")
    cluster.ok("mv", "/a/b", "/z/moved")
    assert cluster.get_bytes("/z/moved/c/f") == b"deep"
    assert names(cluster, "/a") == []
    assert not cluster.exists("/a/b")


def test_mv_of_a_directory_into_itself_is_refused(cluster):
    cluster.ok("mkdir", "-p", "/a/b/c")
    for target in ("/a/b/c/x", "/a/x", "/a/b/a"):
        cluster.fails("mv", "/a", target)
    assert cluster.json("stat", "/a/b/c")["type"] == "directory"
    cluster.fails("mv", "/", "/a/root")


def test_rm_of_files_directories_and_trees(cluster):
    cluster.ok("mkdir", "-p", "/d/e")
    cluster.put_bytes(b"1", "/d/e/f")
    cluster.put_bytes(b"1", "/f")
    cluster.ok("rm", "/f")
    assert not cluster.exists("/f")
    assert "/f" in cluster.fails("rm", "/f").err
    cluster.fails("rm", "/d")
    cluster.fails("rm", "/d/e")
    cluster.ok("rm", "-r", "/d")
    assert names(cluster) == []
    cluster.fails("rm", "-r", "/d")
    cluster.fails("rm", "-r", "/")


def test_cp_copies_bytes_goal_and_chunk_size(cluster):
    data = random_bytes(3 * MIB + 5)
    cluster.put_bytes(data, "/f", "--goal", "2", "--chunk-size", "1M")
    cluster.ok("cp", "/f", "/g")
    stat = cluster.json("stat", "/g")
    assert (stat["goal"], stat["chunk_size"], stat["size"]) == (2, MIB, len(data))
    assert cluster.get_bytes("/g") == data
    cluster.ok("rm", "/f")
    assert cluster.get_bytes("/g") == data
    cluster.ok("mkdir", "/d")
    cluster.ok("cp", "/g", "/d")
    assert cluster.get_bytes("/d/g") == data
    cluster.fails("cp", "/nowhere", "/h")


def test_touch_makes_a_file_and_moves_its_time(cluster):
    cluster.ok("touch", "/f")
    first = cluster.json("stat", "/f")
    assert first["size"] == 0 and first["chunks"] == []
    cluster.put_bytes(b"abc", "/g")
    old = cluster.json("stat", "/g")["mtime"]
    cluster.ok("touch", "/g")
    assert cluster.json("stat", "/g")["mtime"] >= old
    assert cluster.get_bytes("/g") == b"abc"
    cluster.ok("mkdir", "/d")
    cluster.ok("touch", "/d")


def test_times_are_of_this_world(cluster):
    before = time.time()
    cluster.put_bytes(b"abc", "/f")
    mtime = cluster.json("stat", "/f")["mtime"]
    assert before - 5 <= mtime <= time.time() + 5


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, MIB - 1, MIB, MIB + 1,
                                  2 * MIB + 4321, 3 * MIB, 3 * MIB + 1, 4 * MIB, 6 * MIB + 99])
def test_truncate_cuts_and_extends_with_zeros(cluster, size):
    data = random_bytes(3 * MIB)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    cluster.ok("truncate", str(size), "/f")
    assert cluster.json("stat", "/f")["size"] == size
    want = data[:size] + bytes(max(0, size - len(data)))
    assert cluster.get_bytes("/f") == want
    # What was cut off must not come back.
    cluster.ok("truncate", "4M", "/f")
    assert cluster.get_bytes("/f") == (want + bytes(4 * MIB))[:4 * MIB]


def test_truncate_survives_a_kill_of_everything(cluster):
    data = random_bytes(2 * MIB)
    cluster.put_bytes(data, "/f", "--chunk-size", "1M")
    cluster.ok("truncate", "1500000", "/f")
    cluster.kill_all()
    for daemon in cluster.daemons():
        daemon.start()
    cluster.wait_servers_up(3)
    cluster.ok("truncate", "2M", "/f")
    assert cluster.get_bytes("/f") == data[:1500000] + bytes(2 * MIB - 1500000)


def test_setgoal_of_files_and_trees(cluster):
    cluster.ok("mkdir", "-p", "/d/e")
    cluster.put_bytes(b"1", "/d/f")
    cluster.put_bytes(b"1", "/d/e/g")
    cluster.ok("setgoal", "2", "/d/f")
    assert cluster.json("stat", "/d/f")["goal"] == 2
    assert cluster.json("stat", "/d/e/g")["goal"] == 3
    cluster.ok("setgoal", "1", "/d")
    cluster.put_bytes(b"1", "/d/new")
    assert cluster.json("stat", "/d/new")["goal"] == 1
    assert cluster.json("stat", "/d/e/g")["goal"] == 3
    cluster.ok("setgoal", "-R", "2", "/d")
    for path in ("/d", "/d/f", "/d/e", "/d/e/g", "/d/new"):
        assert cluster.json("stat", path)["goal"] == 2, path
    cluster.fails("setgoal", "2", "/nowhere")


def test_a_tree_is_renamed_and_removed_whole_over_a_restart(cluster):
    cluster.ok("mkdir", "-p", "/a/b")
    for index in range(5):
        cluster.put_bytes(str(index).encode(), f"/a/b/f{index}")
    cluster.ok("mv", "/a", "/c")
    cluster.ok("mkdir", "-p", "/gone/below")
    cluster.put_bytes(b"x", "/gone/below/f")
    cluster.ok("rm", "-r", "/gone")
    cluster.master.restart()
    cluster.wait_servers_up(3)
    assert names(cluster) == ["c"]
    assert [cluster.get_bytes(f"/c/b/f{index}") for index in range(5)] == [
        str(index).encode() for index in range(5)]
