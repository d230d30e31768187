#!/bin/sh
# Says in plain words what a build is missing. Called by make with the Python to use.
python=$1
failed=0

complain() {
    printf 'garrison cannot be built here: %s\n' "$1" >&2
    failed=1
}

if ! command -v "$python" >/dev/null 2>&1; then
    complain "'$python' was not found. Install CPython 3.10 or newer, or say: make PYTHON=/path/to/python3"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    complain "'$python' is $("$python" --version 2>&1), 3.10 or newer is needed. Say: make PYTHON=/path/to/python3"
elif ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    complain "'$python' has no venv or no ensurepip (on Debian and Ubuntu: apt-get install python3-venv)"
fi
command -v cargo >/dev/null 2>&1 ||
    complain "cargo was not found. Install Rust 1.83 or newer with rustup or your system's packages"
command -v cc >/dev/null 2>&1 ||
    complain "cc was not found. Install a C toolchain (on Debian and Ubuntu: apt-get install build-essential)"
exit $failed
