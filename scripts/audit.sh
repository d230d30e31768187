#!/bin/sh
# Licences, sources and duplicates of the crates, by cargo-deny; known vulnerabilities, where the
# advisory database (github.com/rustsec/advisory-db) can be had. What is missing is said.
set -u
cd "$(dirname "$0")/.." || exit 2
failed=

"${PYTHON:-.venv-test/bin/python}" scripts/licences.py --check || failed="$failed notices"

if cargo deny --version >/dev/null 2>&1; then
    for manifest in native/Cargo.toml native/fuzz/Cargo.toml; do
        cargo deny --manifest-path $manifest --locked check --config deny.toml \
            licenses sources bans || failed="$failed $manifest"
    done
    if cargo deny fetch --config deny.toml db >/dev/null 2>&1; then
        cargo deny --manifest-path native/Cargo.toml --locked check --config deny.toml \
            advisories || failed="$failed advisories"
    else
        echo "advisories: skipped, the advisory database cannot be had here"
    fi
elif cargo audit --version >/dev/null 2>&1; then
    cargo audit --file native/Cargo.lock || failed="$failed advisories"
else
    echo "skipped: no cargo-deny (cargo install cargo-deny --locked)"
fi
[ -z "$failed" ] || echo "failed:$failed" >&2
[ -z "$failed" ]
