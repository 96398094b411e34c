"""The command lines: help, versions, wrong usage. Others script against these."""

import os
import subprocess

import pytest

from cluster import BIN

PROGRAMS = ["gfs-master", "gfs-chunkserver", "gfsctl", "gfs-bench"]
COMMANDS = ["put", "get", "cat", "ls", "stat", "mkdir", "rm", "mv", "cp", "touch", "truncate",
            "setgoal", "du", "df", "servers", "tree", "append", "tail", "snapshot", "checksum", "scrub"]
DAEMON_OPTIONS = {
    "gfs-master": ["--data", "--listen", "--config"],
    "gfs-chunkserver": ["--data", "--master", "--listen", "--rack", "--net-threads",
                        "--store-threads", "--config"],
}


def run(*args, **options):
    return subprocess.run([os.path.join(BIN, args[0]), *args[1:]], capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL, **options)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_goes_to_stdout_and_succeeds(program):
    done = run(program, "--help")
    assert done.returncode == 0 and program in done.stdout and done.stderr == ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_version_names_the_program_and_a_number(program):
    done = run(program, "--version")
    assert done.returncode == 0
    assert program in done.stdout and any(c.isdigit() for c in done.stdout)


@pytest.mark.parametrize("program", sorted(DAEMON_OPTIONS))
def test_help_of_a_daemon_lists_its_options(program):
    text = run(program, "--help").stdout
    missing = [option for option in DAEMON_OPTIONS[program] if option not in text]
    assert not missing


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    done = run("gfsctl", command, "--help")
    assert done.returncode == 0 and command in done.stdout and done.stderr == ""
    assert command in run("gfsctl", "--help").stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_unknown_option_is_wrong_usage(program, folder):
    done = run(program, "--data", folder, "--no-such-option", cwd=folder)
    assert done.returncode == 2 and done.stdout == ""
    assert "no-such-option" in done.stderr or "--data" in done.stderr
    assert os.listdir(folder) == [], "a refused start made files"


@pytest.mark.parametrize("args", [
    [],
    ["no-such-command"],
    ["put"], ["put", "one"], ["put", "a", "/b", "/c"],
    ["get", "/a"], ["cat"], ["stat"], ["mkdir"], ["rm"], ["mv", "/a"], ["cp", "/a"],
    ["touch"], ["truncate", "5"], ["setgoal", "3"], ["du"], ["tree"], ["df", "/x"],
    ["servers", "x"], ["ls", "/a", "/b"],
    ["put", "--goal", "0", "a", "/b"], ["put", "--goal", "17", "a", "/b"],
    ["put", "--goal", "x", "a", "/b"], ["put", "--goal"],
    ["put", "--chunk-size", "3M", "a", "/b"], ["put", "--chunk-size", "512K", "a", "/b"],
    ["put", "--chunk-size", "2G", "a", "/b"], ["put", "--chunk-size", "-1", "a", "/b"],
    ["truncate", "-5", "/a"], ["truncate", "5X", "/a"], ["setgoal", "0", "/a"],
    ["setgoal", "99", "/a"], ["ls", "--force"], ["--timeout", "x", "ls"],
    ["append"], ["append", "--lines"], ["append", "/a", "/b"], ["append", "--records", "/a"],
    ["append", "--lines=yes", "/a"], ["cat", "--records"],
    ["tail"], ["tail", "/a", "/b"], ["tail", "-n"], ["tail", "-n", "x", "/a"],
    ["tail", "-n", "-1", "/a"], ["tail", "-n", "99999999999999999999", "/a"],
    ["tail", "--lines", "/a"], ["snapshot"], ["snapshot", "/a"], ["snapshot", "/a", "/b", "/c"],
    ["snapshot", "-r", "/a", "/b"], ["checksum"], ["checksum", "/a", "/b"],
    ["checksum", "--records", "/a"], ["scrub"], ["scrub", "/a", "/b"], ["scrub", "no-port"],
    ["scrub", ":1"], ["scrub", "10.0.0.1:port"], ["scrub", "10.0.0.1:99999"],
], ids=lambda args: " ".join(args) or "nothing")
def test_wrong_usage_exits_2_without_asking_the_master(args):
    done = run("gfsctl", "--master", "127.0.0.1:1", *args)
    assert done.returncode == 2, done
    assert done.stdout == "" and done.stderr != ""


@pytest.mark.parametrize("program,args", [
    ("gfs-master", []),
    ("gfs-chunkserver", ["--master", "127.0.0.1:1"]),
    ("gfs-master", ["--data", "d", "--listen", "nonsense:port"]),
    ("gfs-chunkserver", ["--data", "d", "--master", "127.0.0.1:1", "--net-threads", "many"]),
    ("gfs-chunkserver", ["--data", "d", "--master", "127.0.0.1:1", "--net-threads", "9999"]),
    ("gfs-master", ["--data", "d", "--config", "no-such-file"]),
], ids=lambda value: " ".join(value) if isinstance(value, list) else value)
def test_a_daemon_refuses_bad_options(program, args, folder):
    done = run(program, *args, cwd=folder)
    assert done.returncode in (1, 2), done
    assert done.stderr != "" and "listening" not in done.stdout


def test_a_config_file_gives_options_and_the_command_line_wins(folder):
    config = os.path.join(folder, "master.conf")
    with open(config, "w") as file:
        file.write(f"# a comment\ndata = {folder}/data\nno_such_option = 1\n")
    done = run("gfs-master", "--config", config, cwd=folder)
    assert done.returncode == 2 and "no_such_option" in done.stderr
    assert not os.path.exists(os.path.join(folder, "data"))


def test_a_missing_master_is_an_error_within_the_deadline():
    done = run("gfsctl", "--master", "127.0.0.1:1", "--timeout", "2", "ls", "/")
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_master_is_taken_from_the_environment():
    done = run("gfsctl", "--timeout", "1", "ls", "/", env=dict(os.environ, GFS_MASTER="127.0.0.1:2"))
    assert done.returncode == 1 and "127.0.0.1:2" in done.stderr
