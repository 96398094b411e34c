#!/bin/sh
# The story: a cluster of a master and three chunkservers, 256 MiB of this machine's /usr stored in
# three replicas, one chunkserver killed with SIGKILL, the file read back and compared. Ends in one
# line "demo: PASS ..." or "demo: FAIL ..."; leaves nothing behind.
set -eu
BUILD=${BUILD:-build}
case $BUILD in /*) ;; *) BUILD=$(cd "$(dirname "$0")/.." && pwd)/$BUILD ;; esac
export BUILD
HERE=$(cd "$(dirname "$0")" && pwd)
SIZE_BYTES=268447801 # 256 MiB and a bit: the last block is a short one
MIN_FREE_KIB=$((4 * 1024 * 1024))

WORK=$(mktemp -d "$BUILD/demo-XXXXXX")
export CLUSTER_DIR="$WORK/cluster" QUIET=1
step="starting"
verdict=""

finish() {
    code=$?
    trap - EXIT INT TERM
    "$HERE/cluster.sh" stop || true
    if [ -z "$verdict" ]; then
        for log in "$CLUSTER_DIR"/*.log; do
            [ -f "$log" ] && echo "--- $(basename "$log")" >&2 && tail -5 "$log" >&2
        done
        verdict="demo: FAIL while $step"
        [ "$code" -ne 0 ] || code=1
    fi
    rm -rf "$WORK"
    echo "$verdict"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() {
    echo "demo: $*"
}
now_ms() {
    date +%s%3N
}
rate() { # MILLISECONDS -> text
    awk -v bytes="$SIZE_BYTES" -v ms="$1" \
        'BEGIN { printf "%.1f s, %.0f MB/s", ms / 1000, bytes / 1000 / (ms > 0 ? ms : 1) }'
}

free_kib=$(df -Pk "$WORK" | awk 'NR == 2 { print $4 }')
if [ "$free_kib" -lt "$MIN_FREE_KIB" ]; then
    step="looking for 4 GiB of free disk space in $BUILD"
    exit 1
fi

step="making the input"
say "a tar of /usr, cut at 256 MiB"
input=$WORK/usr.tar
: >"$input"
size=0
while [ "$size" -lt "$SIZE_BYTES" ]; do
    { tar -C / -cf - usr 2>/dev/null || true; } | head -c $((SIZE_BYTES - size)) >>"$input"
    size=$(stat -c %s "$input")
done

step="starting the cluster"
say "one master, three chunkservers"
"$HERE/cluster.sh" start
GFS_MASTER=$(cat "$CLUSTER_DIR/master.addr")
export GFS_MASTER
gfsctl=$BUILD/bin/gfsctl
"$gfsctl" servers

step="storing the file"
say "put usr.tar /demo/usr.tar at goal 3"
"$gfsctl" mkdir /demo
began=$(now_ms)
"$gfsctl" put --goal 3 "$input" /demo/usr.tar
put_ms=$(($(now_ms) - began))
"$gfsctl" ls -l /demo
"$gfsctl" stat /demo/usr.tar

step="killing a chunkserver"
victim=$(cat "$CLUSTER_DIR/chunkserver2.pid")
say "kill -9 chunkserver2 (pid $victim)"
kill -KILL "$victim"

step="reading the file back"
say "get /demo/usr.tar"
began=$(now_ms)
"$gfsctl" get /demo/usr.tar "$WORK/back.tar"
get_ms=$(($(now_ms) - began))

step="comparing the bytes"
cmp "$input" "$WORK/back.tar"
verdict="demo: PASS $SIZE_BYTES bytes in 3 replicas ($(rate "$put_ms")), one chunkserver killed, \
read back identical ($(rate "$get_ms"))"
