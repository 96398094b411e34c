"""Runs the tests of a build and ends in one line "N passed, N failed".

    BUILD=build tools/run_tests.py --name test unit replay sim e2e

Suites: unit (every cmocka program in BUILD/tests), replay (every fuzz target over its corpus), sim
(SIM_SEEDS seeds of BUILD/tests/sim, 50 of them a test), e2e (pytest in tests/e2e against the
programs in BUILD/bin). A program that crashes or hangs counts as a
failure. With CI set, a skipped test counts as a failure too. The numbers also go to
BUILD/results-NAME.json.
"""

import argparse
import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
SANITIZE = os.environ.get("SANITIZE", "")
PROGRAM_TIMEOUT_S = 300 if SANITIZE else 120
E2E_TIMEOUT_S = 1200 if SANITIZE else 300
E2E_WORKERS = (os.cpu_count() or 2) + 1  # tests wait more than they compute
E2E_LONG = ("faults.py", "partitions.py", "hostile.py", "corruption.py", "namespace.py")
PYTEST_NO_TESTS = 5
SIM_SEEDS = int(os.environ.get("SIM_SEEDS", "500"))
SIM_PART = 50
SIM_TWICE = 10  # seeds that are run twice: the same seed gives the same run


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        self.failures = []

    def fail(self, what):
        self.failed += 1
        self.failures.append(what)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures


def environment():
    """Sanitizers end a program at the first finding, with a code that no test expects."""
    env = dict(os.environ, BUILD=BUILD)
    supp = os.path.join(ROOT, "tests", "tsan.supp")
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:exitcode=99")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1:exitcode=99")
    env.setdefault("TSAN_OPTIONS", f"exitcode=99:halt_on_error=1:suppressions={supp}")
    return env


def command(argv):
    """ThreadSanitizer cannot live with much address randomisation; its children inherit this."""
    return ["setarch", "-R"] + argv if "thread" in SANITIZE else argv


def run_program(argv, env):
    """Returns (exit code or None for a hang, output)."""
    try:
        done = subprocess.run(command(argv), env=env, cwd=ROOT, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=PROGRAM_TIMEOUT_S)
        return done.returncode, done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as late:
        return None, (late.stdout or b"").decode(errors="replace")


def run_unit_program(program):
    tally = Tally()
    name = os.path.basename(program)
    with tempfile.TemporaryDirectory(prefix="gfs-unit-") as tmp:
        env = dict(environment(), CMOCKA_MESSAGE_OUTPUT="TAP", TMPDIR=tmp)
        code, out = run_program([program], env)
    for line in out.splitlines():
        match = re.match(r"(not ok|ok) \d+(?: - )?(.*)", line)
        if not match:
            continue
        if "# SKIP" in line:
            tally.skipped += 1
        elif match[1] == "ok":
            tally.passed += 1
        else:
            tally.fail(f"{name}: {match[2].strip()}")
    how = "hung" if code is None else f"exit code {code}"
    if code != 0 and not tally.failed:
        tally.fail(f"{name}: {how}")
    if code == 0 and tally.passed + tally.skipped == 0:
        tally.fail(f"{name}: ran no test")
    if tally.failed:
        print(f"--- {name} ({how})\n{out}", flush=True)
    return tally


def run_many(job, items):
    tally = Tally()
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        for result in pool.map(job, items):
            tally.add(result)
    return tally


def suite_unit(args):
    programs = sorted(p for p in glob.glob(os.path.join(BUILD, "tests", "test_*"))
                      if os.access(p, os.X_OK))
    sources = glob.glob(os.path.join(ROOT, "tests", "unit", "test_*.c"))
    known = {os.path.basename(s)[:-2] for s in sources}
    tally = run_many(run_unit_program, [p for p in programs if os.path.basename(p) in known])
    for missing in sorted(known - {os.path.basename(p) for p in programs}):
        tally.fail(f"{missing}: not built")
    return tally


def replay_program(program):
    tally = Tally()
    name = os.path.basename(program)
    corpus = os.path.join(ROOT, "tests", "fuzz", "corpus", name.removeprefix("fuzz_"))
    files = sorted(glob.glob(os.path.join(corpus, "*")))
    code, out = run_program([program] + files, environment())
    if code == 0 and files:
        tally.passed += 1
    else:
        tally.fail(f"replay of {name}: {'no corpus' if not files else code}")
        print(f"--- replay of {name}\n{out}", flush=True)
    return tally


def suite_replay(args):
    sources = sorted(glob.glob(os.path.join(ROOT, "tests", "fuzz", "fuzz_*.c")))
    return run_many(replay_program, [os.path.join(BUILD, "replay", os.path.basename(s)[:-2])
                                     for s in sources])


def read_report(report, tally):
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname', '').split('.')[-1]}: {case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            tally.fail(name)
        elif case.find("skipped") is not None:
            tally.skipped += 1
            print(f"skipped {name}: {case.find('skipped').get('message')}")
        else:
            tally.passed += 1


def run_e2e_file(path, extra):
    """One pytest process a file: tests have folders and ports of their own, so files may overlap."""
    tally = Tally()
    name = os.path.basename(path)[:-3]
    report = os.path.join(BUILD, f"e2e-{name}.xml")
    if os.path.exists(report):
        os.remove(report)
    began = time.monotonic()
    argv = ["/usr/bin/python3", "-B", "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider",
            f"--junit-xml={report}", "--durations=3", path] + extra
    with subprocess.Popen(command(argv), env=environment(), cwd=ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as proc:
        try:
            out = proc.communicate(timeout=E2E_TIMEOUT_S)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            # SIGINT lets it end the daemons it started.
            proc.send_signal(signal.SIGINT)
            out = proc.communicate()[0].decode(errors="replace")
            tally.fail(f"{name}: not done after {E2E_TIMEOUT_S} s")
    if os.path.exists(report):
        read_report(report, tally)
    elif proc.returncode != PYTEST_NO_TESTS:
        tally.fail(f"{name}: pytest ended with {proc.returncode} and no report")
    print(f"-- {name}: {tally.passed} passed, {tally.failed} failed, "
          f"{time.monotonic() - began:.0f} s", flush=True)
    if tally.failed:
        print(out, flush=True)
    return tally


def suite_e2e(args):
    left_out = {f"test_{name}.py" for name in args.skip}
    files = [path for path in glob.glob(os.path.join(ROOT, "tests", "e2e", "test_*.py"))
             if os.path.basename(path) not in left_out]
    # The long ones first, so that none is left running alone at the end.
    files.sort(key=lambda path: (not path.endswith(E2E_LONG), path))
    with ThreadPoolExecutor(max_workers=E2E_WORKERS) as pool:
        tally = Tally()
        for result in pool.map(lambda path: run_e2e_file(path, args.pytest), files):
            tally.add(result)
    if tally.passed + tally.failed + tally.skipped == 0:
        tally.fail("e2e: ran no test")
    return tally


def suite_sim(args):
    tally = Tally()
    program = os.path.join(BUILD, "tests", "sim")
    parts = [(f"seeds {first} to {first + SIM_PART - 1}", first, SIM_PART, [])
             for first in range(1, SIM_SEEDS + 1, SIM_PART)]
    parts.append((f"the same run twice, seeds 1 to {SIM_TWICE}", 1, SIM_TWICE, ["--twice"]))
    for name, first, count, more in parts:
        code, out = run_program([program, "--seed", str(first), "--seeds", str(count), "--jobs",
                                 str(os.cpu_count() or 2)] + more, environment())
        print(f"-- sim: {name}: {(out.splitlines() or ['no output'])[-1]}", flush=True)
        if code == 0:
            tally.passed += 1
            continue
        tally.fail(f"sim: {name}: " + ("hung" if code is None else f"exit code {code}"))
        print(out, flush=True)
    return tally


SUITES = {"unit": suite_unit, "replay": suite_replay, "sim": suite_sim, "e2e": suite_e2e}


def main():
    parser = argparse.ArgumentParser(description="run the tests of a build")
    parser.add_argument("--name", default="test")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME",
                        help="leave out tests/e2e/test_NAME.py")
    parser.add_argument("--pytest", action="append", default=[], metavar="ARG",
                        help="an argument more for pytest")
    parser.add_argument("suites", nargs="+", choices=sorted(SUITES))
    args = parser.parse_args()

    total = Tally()
    for suite in args.suites:
        began = time.monotonic()
        print(f"== {args.name}: {suite}", flush=True)
        tally = SUITES[suite](args)
        print(f"== {args.name}: {suite}: {tally.passed} passed, {tally.failed} failed, "
              f"{tally.skipped} skipped in {time.monotonic() - began:.0f} s", flush=True)
        total.add(tally)
    if os.environ.get("CI") and total.skipped:
        total.failures.append(f"{total.skipped} skipped: CI skips none")
        total.failed += total.skipped
    for failure in total.failures:
        print(f"FAILED {failure}")
    with open(os.path.join(BUILD, f"results-{args.name}.json"), "w") as out:
        json.dump({"passed": total.passed, "failed": total.failed}, out)
    print(f"{args.name}: {'FAIL' if total.failed else 'PASS'}")
    print(f"{total.passed} passed, {total.failed} failed")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
