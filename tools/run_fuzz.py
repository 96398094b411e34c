"""Runs every libFuzzer target of a build for a share of the time given.

    BUILD=build/fuzz tools/run_fuzz.py --seconds 60

New inputs stay in BUILD/corpus; a crash keeps its input in BUILD/crashes and fails the run.
"""

import argparse
import glob
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build/fuzz"))


def fuzz(name, seconds):
    """Returns True when the target found nothing."""
    seeds = os.path.join(ROOT, "tests", "fuzz", "corpus", name.removeprefix("fuzz_"))
    found = os.path.join(BUILD, "corpus", name)
    crashes = os.path.join(BUILD, "crashes", "")
    for folder in (found, crashes):
        os.makedirs(folder, exist_ok=True)
    argv = [os.path.join(BUILD, "fuzz", name), f"-max_total_time={seconds}", "-timeout=10",
            "-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={crashes}{name}-",
            found] + ([seeds] if os.path.isdir(seeds) else [])
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=seconds + 60)
    text = done.stdout.decode(errors="replace")
    runs = [line for line in text.splitlines() if "number_of_executed_units" in line]
    print(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'} {' '.join(runs)}", flush=True)
    if done.returncode != 0:
        print("\n".join(text.splitlines()[-60:]), flush=True)
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    args = parser.parse_args()
    sources = glob.glob(os.path.join(ROOT, "tests", "fuzz", "fuzz_*.c"))
    names = sorted(os.path.basename(source)[:-2] for source in sources)
    share = max(1, args.seconds // max(1, len(names)))
    results = [fuzz(name, share) for name in names]
    passed, failed = results.count(True), results.count(False)
    if not names:
        failed = 1
        print("no fuzz target")
    with open(os.path.join(BUILD, "results-fuzz.json"), "w") as out:
        json.dump({"passed": passed, "failed": failed}, out)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
