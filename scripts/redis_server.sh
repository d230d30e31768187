#!/bin/sh
# Installs Debian's redis-server for the tests of managers over Valkey, if there is no server yet and
# this is root. Without one those tests are skipped by name, so a failure here is only said.
if command -v valkey-server >/dev/null 2>&1 || command -v redis-server >/dev/null 2>&1; then
    exit 0
fi

say() {
    printf 'no valkey-server or redis-server: %s; the tests over Valkey are skipped\n' "$1" >&2
}

if [ "$(id -u)" -ne 0 ]; then
    say "install one as root (on Debian and Ubuntu: apt-get install redis-server)"
elif ! command -v apt-get >/dev/null 2>&1; then
    say "this system has no apt-get to install one with"
else
    log=$(mktemp)
    # RUNLEVEL: the package must not start a server of its own.
    if (apt-get update -q && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends redis-server) >"$log" 2>&1; then
        printf 'installed redis-server\n' >&2
    else
        say "apt-get could not install redis-server ($(tail -n 1 "$log"))"
    fi
    rm -f "$log"
fi
exit 0
