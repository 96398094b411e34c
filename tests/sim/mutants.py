"""Planted bugs: does the simulator find each of them? (make sim-mutants)

    BUILD=build tests/sim/mutants.py [--seeds 2000] [--only NAME]

Each is one replacement in one source file, made in a copy; the object is compiled in BUILD/mutants
and linked with the objects of BUILD/tests/sim, and seeds run until one fails that the program
without the bug passes. A mutant that no seed fails on shows a check, or a kind of work, that is
missing: then this fails. So does one whose text is not in the source any more.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BUILD", "build")
STEP = 100  # seeds of one run
FAILED = re.compile(r"seed (\d+): FAILED.*")

# name, file, text, replacement: the bug in words is the name
MUTANTS = [
    ("data is acknowledged before it is synced", "chunkserver/store_log.c",
     "kv_write(log->active->kv, log->batch, log->opts.sync)",
     "kv_write(log->active->kv, log->batch, false)"),
    ("a secondary that failed is taken for one that has it", "chunkserver/mutation_order.c",
     "} else if (err != GFS_OK) {\n        if (!op->failed)",
     "} else if (err == GFS_ERR_INVAL) {\n        if (!op->failed)"),
    ("the master's journal answers before it is durable", "master/journal_kv.c",
     "kv_write(arg, batch, true)", "kv_write(arg, batch, false)"),
    ("a version is granted before the journal has it", "master/lease.c",
     "    if (any) {\n        lease->state = LEASE_RECONCILING;\n    } else {\n        "
     "start_write(table, lease);\n    }",
     "    if (any) {\n        lease->state = LEASE_RECONCILING;\n    } else {\n        "
     "start_write(table, lease);\n        start_grant(table, lease);\n    }"),
    ("a lease is used past its margin", "chunkserver/orders.c",
     "lease_ms > margin_ms ? from_ms + lease_ms - margin_ms : from_ms",
     "from_ms + lease_ms + margin_ms"),
    ("replicas are not reconciled", "master/lease.c",
     "bool same = !lease->bad[i] && lease->serials[i] == lease->serials[source] &&",
     "bool same = true || lease->serials[i] == lease->serials[source] &&"),
    ("reconciliation takes over the serial and not the bytes", "chunkserver/sync.c",
     "    while (sync->block < sync->count && !block_differs(sync, sync->block))",
     "    while (sync->block < sync->count)"),
    ("a version may be carried on by one that gave no clear answer", "master/lease.c",
     "    if (unclear) {\n        start_raise(table, lease);\n        return false;\n    }\n", ""),
    ("a replica of an older version counts as good", "master/report.c",
     "if (replica->version < chunk->version)", "if (false)"),
    ("reads show what is not settled", "chunkserver/read.c",
     "return job->request->peer_role == GFS_ROLE_CHUNKSERVER || msg->unsettled ||",
     "return true || msg->unsettled ||"),
    ("what a stop leaves in doubt is taken for settled", "chunkserver/settle.c",
     "if (!chunks[i].unsettled)", "if (true)"),
    ("a retried append is not known", "chunkserver/mutation_order.c",
     "err = chunk->window ? window_find(chunk->window, op->producer, op->sequence, &entry)",
     "err = false ? window_find(chunk->window, op->producer, op->sequence, &entry)"),
    ("the window of appends is lost with the process", "chunkserver/grant.c",
     "if (entries[i].length_bytes > 0)", "if (entries[i].length_bytes == UINT32_MAX)"),
    ("an append is answered before the master knows the length", "chunkserver/append.c",
     "if (lease && lease->version == write->op.version && lease->told_bytes >= write->told_bytes)",
     "if (lease && lease->version == write->op.version)"),
    ("a copy on write is left out", "master/service_chunks.c",
     "if (chunk->references > 1) {", "if (false) {"),
    ("a snapshot does not end leases", "master/service_snapshot.c",
     "           (may_have_lease(snapshot->service, chunk) || "
     "may_be_in_doubt(snapshot->service, chunk));", "           false;"),
    ("what was not committed shows in a snapshot", "master/chunkmap.c",
     "            chunk->truncating = 1;\n", ""),
    ("the watermark moves without a flush", "chunkserver/store_index.c",
     "    kv_flush(index->kv);\n", ""),
    ("a copy keeps its source's serials", "chunkserver/store_stage.c",
     "        record.serial = copy_serial(item->mutation);\n", ""),
    ("a replayed copy asks the index", "chunkserver/store_delta.c",
     "return record->map != NULL ? apply_map(delta, record) : apply_copy(delta, record);",
     "return apply_copy(delta, record);"),
    ("a reader believes in a location that moved", "client/reader.c",
     "if (slot->real_bytes == 0 || slot->version == slot->location->version)", "if (true)"),
    ("an operation repeated by the network is done twice", "master/service_names.c",
     "return opwindow_find(service->parts.window, id.data, id.len, kind, &result);",
     "return false;"),
]


def slug(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def make_value(name):
    """A variable of the Makefile, as it is for this build."""
    out = subprocess.run(["make", "-s", "--no-print-directory", "-C", ROOT, f"BUILD={BUILD}",
                          f"print-{name}"], check=True, capture_output=True, text=True)
    return out.stdout.split()


class Tools:
    """What it takes to make one more tests/sim."""

    def __init__(self):
        self.compile = make_value("SIM_COMPILE")
        self.link = make_value("SIM_LINK")
        self.objects = make_value("SIM_OBJECTS")
        self.program = os.path.join(ROOT, BUILD, "tests", "sim")

    def build(self, file, text, folder):
        """Compiles the text in the place of the file. Returns the program."""
        source = os.path.join(folder, os.path.basename(file))
        with open(source, "w") as out:
            # Includes by name are looked for beside the original.
            out.write(f'#line 1 "{file}"\n' + text)
        made = os.path.join(folder, "mutant.o")
        subprocess.run(self.compile + [f"-I{os.path.dirname(file)}", "-w", "-c", "-o", made, source],
                       cwd=ROOT, check=True)
        own = os.path.join(BUILD, "obj", file.removesuffix(".c") + ".o")
        objects = [made if name == own else name for name in self.objects]
        if made not in objects:
            raise SystemExit(f"mutants: {own} is no part of the simulator")
        program = os.path.join(folder, "sim")
        command = [program if word == "PROGRAM" else word for word in self.link]
        at = command.index("OBJECTS")
        subprocess.run(command[:at] + objects + command[at + 1:], cwd=ROOT, check=True)
        return program


def simulate(program, *args):
    return subprocess.run([program, *args], capture_output=True, text=True, errors="replace")


def run(tools, mutant, seeds):
    """(caught, line)"""
    name, file, old, new = mutant
    with open(os.path.join(ROOT, file)) as source:
        text = source.read()
    if text.count(old) != 1:
        return False, f"{name}: its text is {text.count(old)} times in {file}"
    folder = os.path.join(ROOT, BUILD, "mutants", slug(name))
    os.makedirs(folder, exist_ok=True)
    program = tools.build(file, text.replace(old, new), folder)
    began = time.monotonic()
    for first in range(1, seeds + 1, STEP):
        done = simulate(program, "--seed", str(first), "--seeds", str(STEP), "--first")
        if done.returncode == 0:
            continue
        match = FAILED.search(done.stdout)
        if match and simulate(tools.program, "--seed", match[1]).returncode != 0:
            return False, f"{name}: the program without it fails too: {match[0][:150]}"
        line = match[0][:150] if match else "a crash"
        return True, f"{name}: caught in {time.monotonic() - began:.0f} s by {line}"
    return False, f"{name}: NOT CAUGHT by {seeds} seeds in {time.monotonic() - began:.0f} s"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--only", help="part of a name")
    args = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not args.only or args.only in mutant[0]]
    tools = Tools()
    passed = failed = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2) as pool:
        for caught, line in pool.map(lambda mutant: run(tools, mutant, args.seeds), chosen):
            print(line, flush=True)
            passed += caught
            failed += not caught
    with open(os.path.join(ROOT, BUILD, "results-mutants.json"), "w") as out:
        json.dump({"passed": passed, "failed": failed}, out)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
