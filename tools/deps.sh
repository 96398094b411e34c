#!/bin/sh
# Installs the missing Debian packages of the groups named (see packages.txt), as root or with
# sudo; else says which are missing and fails. On a system without dpkg it only says so: there the
# compiler will tell what is missing.
set -eu
list=$(dirname "$0")/packages.txt

wanted=""
for group in "$@"; do
    names=$(sed -n "s/^$group //p" "$list")
    if [ -z "$names" ]; then
        echo "deps: no package group $group in $list" >&2
        exit 2
    fi
    wanted="$wanted $names"
done

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "deps: not a Debian system; these packages' equivalents are needed:" $wanted >&2
    exit 0
fi

missing=""
for name in $wanted; do
    state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null || true)
    case $state in
    ii*) ;;
    *) missing="$missing $name" ;;
    esac
done
if [ -z "$missing" ]; then
    exit 0
fi

if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "deps: missing packages; as root run: apt-get install$missing" >&2
    exit 1
fi

echo "deps: installing$missing"
install_missing() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        $missing >/dev/null
}
# The package lists may be absent or old on a fresh machine: try, then update once and try again.
if ! install_missing 2>/dev/null; then
    $as_root apt-get update -qq
    install_missing
fi
