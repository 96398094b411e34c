"""libgfs as its users meet it: through pkg-config, from C, with threads; `make install`."""

import os
import re
import subprocess

from cluster import random_bytes
from daemon import BUILD, ROOT
from waiting import SLOW

SANITIZE = os.environ.get("SANITIZE", "")
LIB = os.path.join(BUILD, "lib")


def run(argv, **options):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120 * SLOW, **options)
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_with_pkg_config(source, target, pkg_config_path):
    env = dict(os.environ, PKG_CONFIG_PATH=pkg_config_path)
    flags = run(["pkg-config", "--cflags", "--libs", "gfs"], env=env).split()
    sanitize = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
    run(["gcc", "-Wall", "-Wextra", "-Werror", "-O1", "-g", *sanitize, "-o", target, source, *flags,
         "-lpthread"])
    return target


def run_with_library(argv, lib):
    return run(argv, env=dict(os.environ, LD_LIBRARY_PATH=lib))


def test_the_example_is_built_and_runs(cluster, folder):
    example = build_with_pkg_config(os.path.join(ROOT, "client", "examples", "copy.c"),
                                    os.path.join(folder, "copy"), os.path.join(LIB, "pkgconfig"))
    local = os.path.join(folder, "local")
    with open(local, "wb") as file:
        file.write(random_bytes(3_000_001))
    assert run_with_library([example, cluster.master.addr, local, "/example"], LIB)
    assert cluster.get_bytes("/example") == random_bytes(3_000_001)


def test_a_program_with_threads_uses_all_of_it(cluster, folder):
    program = build_with_pkg_config(
        os.path.join(ROOT, "tests", "e2e", "programs", "api.c"), os.path.join(folder, "api"),
        os.path.join(LIB, "pkgconfig"))
    assert run_with_library([program, cluster.master.addr], LIB) == "ok\n"


def test_a_file_truncated_while_it_is_written(cluster, folder):
    program = build_with_pkg_config(
        os.path.join(ROOT, "tests", "e2e", "programs", "truncate.c"),
        os.path.join(folder, "truncate"), os.path.join(LIB, "pkgconfig"))
    assert run_with_library([program, cluster.master.addr], LIB) == "ok\n"


def test_the_shared_library_exports_gfs_names_only():
    lines = run(["nm", "-D", "--defined-only", os.path.join(LIB, "libgfs.so")]).splitlines()
    names = {line.split()[-1].split("@")[0] for line in lines}
    assert names and all(re.match("gfs_[a-z]", name) for name in names), sorted(names)
    with open(os.path.join(ROOT, "include", "gfs.h")) as header:
        declared = set(re.findall(r"^GFS_API [^;(]*?\b(gfs_\w+)\(", header.read(), re.M))
    assert declared <= names, declared - names


def test_the_shared_library_has_a_soname():
    assert "SONAME" in run(["readelf", "-d", os.path.join(LIB, "libgfs.so")])
    assert os.readlink(os.path.join(LIB, "libgfs.so")) == "libgfs.so.0"


def test_the_header_serves_cxx(folder):
    source = os.path.join(folder, "user.cc")
    with open(source, "w") as file:
        file.write("#include <gfs.h>\nint main() { return gfs_version() == nullptr; }\n")
    run(["g++", "-Wall", "-Werror", "-fsyntax-only", "-I", os.path.join(ROOT, "include"), source])


def test_an_installed_copy_is_complete(cluster, folder):
    dest, prefix = os.path.join(folder, "dest"), "/opt/gfs"
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    run(["make", "-s", "-C", ROOT, "install", f"DESTDIR={dest}", f"PREFIX={prefix}",
         f"BUILD={os.path.relpath(BUILD, ROOT)}"] + ([f"SANITIZE={SANITIZE}"] if SANITIZE else []), env=env)
    installed = dest + prefix
    for path in ("bin/gfs-master", "bin/gfs-chunkserver", "bin/gfsctl", "bin/gfs-bench",
                 "include/gfs/gfs.h", "lib/libgfs.a", "lib/libgfs.so", "lib/libgfs.so.0",
                 "lib/pkgconfig/gfs.pc", "lib/systemd/system/gfs-master.service"):
        assert os.path.exists(os.path.join(installed, path)), path
    with open(os.path.join(installed, "lib/systemd/system/gfs-master.service")) as unit:
        assert f"{prefix}/bin/gfs-master" in unit.read()
    assert run([os.path.join(installed, "bin", "gfsctl"), "--master", cluster.master.addr, "df"])
    with open(os.path.join(installed, "lib/pkgconfig/gfs.pc")) as file:
        assert f"libdir={prefix}/lib" in file.read()
