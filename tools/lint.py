"""Checks of the source: format, static analysis, floors, sizes, unfinished work.

One line a finding (path:line: what); each check counts as passed or failed. Every tracked file is
looked at. See CONTRIBUTING.md and floors.py for the rules.
"""

import json
import os
import re
import subprocess
import sys
import time

import floors

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
CPPCHECK_TIMEOUT_S = 300


def tracked(*suffixes):
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [f for f in out.stdout.splitlines()
            if f.endswith(suffixes) and os.path.exists(os.path.join(ROOT, f))]


def lines_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()


def check_format():
    """clang-format agrees with every C file."""
    done = subprocess.run(["clang-format", "--dry-run", "-Werror"] + tracked(".c", ".h"), cwd=ROOT,
                          capture_output=True, text=True)
    return [line for line in done.stderr.splitlines() if "error:" in line]


def check_cppcheck():
    """cppcheck finds nothing."""
    argv = ["cppcheck", "--quiet", f"-j{os.cpu_count() or 2}", "--error-exitcode=1", "--inline-suppr",
            "--enable=warning,performance,portability", "--std=c11", "-D_GNU_SOURCE",
            "--suppress=missingIncludeSystem", "--suppress=unmatchedSuppression",
            f"--suppressions-list={os.path.join(ROOT, 'tools', 'cppcheck.supp')}",
            "--include=/usr/include/uthash.h", "--include=/usr/include/utlist.h",
            "-I.", "-Iinclude", "-Icommon"]
    files = [f for f in tracked(".c") if not f.startswith("tests/")]
    if not files:
        return ["no C file"]
    try:
        done = subprocess.run(argv + files, cwd=ROOT, capture_output=True, text=True,
                              timeout=CPPCHECK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return [f"cppcheck: not done after {CPPCHECK_TIMEOUT_S} s"]
    return done.stderr.splitlines() if done.returncode else []


def check_floors():
    """Nothing includes upward, across roles, or a library outside its place."""
    return floors.check(ROOT, tracked(".c", ".h"))


def functions(lines):
    """(first line number, name, length) of each function: the body's braces are at column 0."""
    begin = None
    for number, line in enumerate(lines):
        if line == "{":
            begin = number
            while begin > 0 and lines[begin - 1] and not re.match(r"[#/}]| \*|.*[;/]$",
                                                                  lines[begin - 1]):
                begin -= 1
        elif line.startswith("}") and begin is not None:
            yield begin + 1, lines[begin].split("(")[0].split()[-1].lstrip("*"), number - begin + 1
            begin = None


def check_sizes():
    """Files and functions stay short."""
    findings = []
    for path in tracked(".c", ".h", ".py", ".sh"):
        lines = lines_of(path)
        if len(lines) > FILE_LINES_MAX:
            findings.append(f"{path}: {len(lines)} lines, at most {FILE_LINES_MAX}")
        if not path.endswith(".c"):
            continue
        for number, name, length in functions(lines):
            if length > FUNCTION_LINES_MAX:
                findings.append(f"{path}:{number}: {name} has {length} lines, at most "
                                f"{FUNCTION_LINES_MAX}")
    return findings


def check_unfinished():
    """No note of unfinished work, no sleep in a test."""
    findings = []
    for path in tracked(".c", ".h", ".py", ".sh", ".proto", ".tbl", ".md", "Makefile", "run"):
        for number, line in enumerate(lines_of(path), 1):
            if UNFINISHED.search(line) and path != "CONTRIBUTING.md":
                findings.append(f"{path}:{number}: {line.strip()}")
            slept = re.search(r"\b(time\.sleep|usleep|nanosleep|sleep) ?\(", line)
            if slept and path.startswith("tests/"):
                findings.append(f"{path}:{number}: a test waits on a condition, never for luck")
    return findings


def check_scripts():
    """Scripts parse."""
    findings = []
    for path in tracked(".sh", ".ci/run"):
        done = subprocess.run(["sh", "-n", path], cwd=ROOT, capture_output=True, text=True)
        findings += done.stderr.splitlines()
    for path in tracked(".py"):
        try:
            compile("\n".join(lines_of(path)), path, "exec")
        except SyntaxError as wrong:
            findings.append(f"{path}:{wrong.lineno}: {wrong.msg}")
    return findings


CHECKS = [check_format, check_floors, check_sizes, check_unfinished, check_scripts, check_cppcheck]


def main():
    passed = failed = 0
    for check in CHECKS:
        began = time.monotonic()
        findings = check()
        for finding in findings:
            print(finding)
        name = check.__name__.removeprefix("check_")
        verdict = f"{len(findings)} findings" if findings else "ok"
        print(f"lint {name}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
        passed += not findings
        failed += bool(findings)
    os.makedirs(BUILD, exist_ok=True)
    with open(os.path.join(BUILD, "results-lint.json"), "w") as out:
        json.dump({"passed": passed, "failed": failed}, out)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
