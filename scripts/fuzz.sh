#!/bin/sh
# Fuzz every target so many seconds, or those that are named: fuzz.sh SECONDS [TARGET...]
#
# Targets of the core need a nightly toolchain and cargo-fuzz (cargo install cargo-fuzz), and are
# skipped with a word where these are missing. New inputs are kept below target/fuzz/work; a
# failing one is printed with its file. What is committed is in native/fuzz/corpus and
# tests/fuzzing/corpora: a find goes there, beside its own test.
set -u
cd "$(dirname "$0")/.." || exit 2
root=$(pwd)
seconds=$1
shift
work=$root/target/fuzz/work
python=${PYTHON:-.venv-test/bin/python}
case $python in /*) ;; *) python=$root/$python ;; esac
failed=

native=$(ls native/fuzz/corpus)
pure=$(ls tests/fuzzing/corpora)
wanted=${*:-$native $pure wire}

ready=yes
if ! cargo +nightly --version >/dev/null 2>&1; then
    ready="no nightly toolchain (rustup toolchain install nightly)"
elif ! cargo fuzz --version >/dev/null 2>&1; then
    ready="no cargo-fuzz (cargo install cargo-fuzz --locked)"
fi

fuzz_native() {
    if [ "$ready" != yes ]; then
        printf '%s: skipped, %s\n' "$1" "$ready"
        return 0
    fi
    mkdir -p "$work/$1"
    CARGO_TARGET_DIR=$root/target/fuzz cargo +nightly fuzz run --fuzz-dir native/fuzz "$1" \
        "$work/$1" "native/fuzz/corpus/$1" -- \
        -max_total_time="$seconds" -timeout=20 -detect_leaks=0 -rss_limit_mb=4096 -max_len=2048 \
        -artifact_prefix="$work/" -print_final_stats=1
}

for target in $wanted; do
    echo "== $target, $seconds s"
    if [ "$target" = wire ]; then
        (cd tests && "$python" -m net.fuzz --seconds "$seconds")
    elif [ -d "native/fuzz/corpus/$target" ]; then
        fuzz_native "$target"
    else
        (cd tests && "$python" -m fuzzing.run "$target" --seconds "$seconds" --work "$work")
    fi || failed="$failed $target"
done
[ -z "$failed" ] || echo "failed:$failed" >&2
[ -z "$failed" ]
