"""The floor check: a file includes only its own floor and lower ones.

    0 include/ · 1 base · 2 machine · 3 format, generated protobuf · 4 runtime
    5 role cores (sans-I/O) · 6 role shells · 7 mains · 8 tests and benchmarks

A file says its floor in its opening comment ("Floor 4."); a .c file has its header's. Where none is
said: include/ is 0, role files are 6, main.c and client/gfsctl/ are 7, tests/ and bench/ are 8. A
file of common/ must say it. Cores reach no clock, socket, disk or thread.
"""

import os
import re

FLOOR_DEFAULT = [
    ("include/", 0), ("client/gfsctl/", 7), ("client/examples/", 7), ("master/main.c", 7),
    ("chunkserver/main.c", 7), ("master/", 6), ("chunkserver/", 6), ("client/", 6),
    ("tests/", 8), ("bench/", 8),
]
ROLES = ("master/", "chunkserver/", "client/")
# (include pattern, files that may have it)
LIBRARIES = [
    (r"<event2/|<event\.h>", r"common/(loop|conn|rpc|http)[^/]*\.[ch]$"),
    (r"<leveldb/", r"common/kv[^/]*\.[ch]$|bench/[^/]*engine[^/]*\.c$"),
    (r"<openssl/", r"common/(digest|uuid|rand|auth|tls)[^/]*\.[ch]$"),
]
CORE_FORBIDDEN = re.compile(r"<(unistd|time|fcntl|pthread|signal|sys/[a-z]+|netinet/[a-z]+|"
                            r"arpa/[a-z]+)\.h>|\"(common/)?(loop|rpc|kv|log|files|clock)\.h\"")
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"][^>"]+[>"])')
HEAD_LINES = 40


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()


def said_floor(lines):
    match = re.search(r"\bFloor (\d)\b", "\n".join(lines[:HEAD_LINES]))
    return int(match[1]) if match else None


def floor_of(path, said):
    """The floor of a file, or None when it must say one and does not."""
    if said.get(path) is not None:
        return said[path]
    header = re.sub(r"\.c$", ".h", path)
    if said.get(header) is not None:
        return said[header]
    for prefix, floor in FLOOR_DEFAULT:
        if path.startswith(prefix):
            return floor
    return None


def resolve(name, path, files):
    """The tracked file that #include "name" in path means, or None."""
    folder = os.path.dirname(path)
    for candidate in (os.path.join(folder, name), name, "include/" + name, "common/" + name):
        if os.path.normpath(candidate) in files:
            return os.path.normpath(candidate)
    return None


def check_include(path, include, floors, files):
    """What is wrong with one include, or None."""
    for pattern, allowed in LIBRARIES:
        if re.search(pattern, include) and not re.search(allowed, path):
            return f"{include} belongs in {allowed}"
    if floors[path] == 5 and CORE_FORBIDDEN.search(include):
        return f"a core includes {include}: cores are pure state machines"
    if include.startswith("<"):
        return None
    target = resolve(include.strip('"'), path, files)
    if target is None:
        return None  # generated, or a table
    if floors.get(target) is not None and floors[target] > floors[path]:
        return f"floor {floors[path]} includes {target} of floor {floors[target]}"
    role = next((r for r in ROLES if path.startswith(r)), None)
    other = next((r for r in ROLES if target.startswith(r)), None)
    if role and other and role != other:
        return f"{role} includes {other}: roles never include each other"
    return None


def check(root, paths):
    """One line a finding."""
    text = {path: read(root, path) for path in paths}
    said = {path: said_floor(lines) for path, lines in text.items()}
    floors = {path: floor_of(path, said) for path in paths}
    findings = []
    for path in paths:
        if floors[path] is None:
            findings.append(f"{path}: does not say its floor")
            floors[path] = 8
    for path in paths:
        for number, line in enumerate(text[path], 1):
            match = INCLUDE.match(line)
            wrong = match and check_include(path, match[1], floors, text)
            if wrong:
                findings.append(f"{path}:{number}: {wrong}")
    return findings
