#!/bin/sh
# A local cluster: one master and SERVERS chunkservers on free ports of 127.0.0.1, everything under
# CLUSTER_DIR. Used by `make cluster` and by demo.sh.
#
#   tools/cluster.sh start | stop | status
#
# CLUSTER_DIR/NAME.pid, NAME.out (stdout), NAME.log (stderr), NAME/ (data); CLUSTER_DIR/master.addr.
# A second start continues with the data of the first.
set -eu
BUILD=${BUILD:-build}
case $BUILD in /*) ;; *) BUILD=$(cd "$(dirname "$0")/.." && pwd)/$BUILD ;; esac
CLUSTER_DIR=${CLUSTER_DIR:-$BUILD/cluster}
SERVERS=${SERVERS:-3}
START_TIMEOUT_S=20
STOP_TIMEOUT_S=20

# The pid file may be older than the last boot: the process must be one of ours.
is_running() {
    [ -f "$CLUSTER_DIR/$1.pid" ] || return 1
    pid=$(cat "$CLUSTER_DIR/$1.pid")
    { tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null | grep -q -- "--data $CLUSTER_DIR/$1 "
}

# start_daemon NAME PROGRAM [ARG...]: returns once it listens, its address in $addr.
start_daemon() {
    name=$1
    program=$2
    shift 2
    if is_running "$name"; then
        echo "cluster: $name already runs in $CLUSTER_DIR (make cluster-stop)" >&2
        return 1
    fi
    rm -f "$CLUSTER_DIR/$name.out"
    setsid "$BUILD/bin/$program" --data "$CLUSTER_DIR/$name" --listen 127.0.0.1:0 "$@" \
        >"$CLUSTER_DIR/$name.out" 2>>"$CLUSTER_DIR/$name.log" </dev/null &
    pid=$!
    echo "$pid" >"$CLUSTER_DIR/$name.pid"
    tries=$((START_TIMEOUT_S * 20))
    while [ "$tries" -gt 0 ]; do
        addr=$(sed -n 's/^listening on //p' "$CLUSTER_DIR/$name.out")
        [ -n "$addr" ] && return 0
        kill -0 "$pid" 2>/dev/null || break
        tries=$((tries - 1))
        sleep 0.05
    done
    echo "cluster: $name did not start:" >&2
    tail -5 "$CLUSTER_DIR/$name.log" >&2
    return 1
}

servers_up() {
    "$BUILD/bin/gfsctl" --master "$1" --json servers 2>/dev/null |
        tr ',' '\n' | grep -c '"state" *: *"up"' || true
}

start() {
    mkdir -p "$CLUSTER_DIR"
    start_daemon master gfs-master
    master=$addr
    echo "$master" >"$CLUSTER_DIR/master.addr"
    i=1
    while [ "$i" -le "$SERVERS" ]; do
        start_daemon "chunkserver$i" gfs-chunkserver --master "$master" --rack "rack$i"
        i=$((i + 1))
    done
    tries=$((START_TIMEOUT_S * 20))
    while [ "$(servers_up "$master")" -lt "$SERVERS" ]; do
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then
            echo "cluster: the chunkservers did not register" >&2
            return 1
        fi
        sleep 0.05
    done
}

stop() {
    for file in "$CLUSTER_DIR"/chunkserver*.pid "$CLUSTER_DIR"/master.pid; do
        [ -f "$file" ] || continue
        name=$(basename "$file" .pid)
        if is_running "$name"; then
            kill -TERM "$pid"
            tries=$((STOP_TIMEOUT_S * 20))
            while kill -0 "$pid" 2>/dev/null && [ "$tries" -gt 0 ]; do
                tries=$((tries - 1))
                sleep 0.05
            done
            if kill -0 "$pid" 2>/dev/null; then
                echo "cluster: $name did not stop in time, killed" >&2
                kill -KILL "$pid"
            fi
        fi
        rm -f "$file"
    done
}

case ${1:-} in
start)
    if ! start; then
        stop
        exit 1
    fi
    [ -n "${QUIET:-}" ] || cat <<TEXT
The cluster runs: one master, $SERVERS chunkservers, data and logs in $CLUSTER_DIR
    export GFS_MASTER=$master PATH=$BUILD/bin:\$PATH
    gfsctl put README.md /hello; gfsctl ls -l; gfsctl stat /hello; gfsctl servers
Stop it with: make cluster-stop      (its data stays; remove $CLUSTER_DIR for a new one)
TEXT
    ;;
stop)
    stop
    [ -n "${QUIET:-}" ] || echo "The cluster in $CLUSTER_DIR is stopped."
    ;;
status)
    for file in "$CLUSTER_DIR"/*.pid; do
        [ -f "$file" ] || continue
        name=$(basename "$file" .pid)
        if is_running "$name"; then echo "$name up, pid $pid"; else echo "$name down"; fi
    done
    ;;
*)
    echo "usage: $0 start | stop | status" >&2
    exit 2
    ;;
esac
