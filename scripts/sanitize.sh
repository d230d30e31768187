#!/bin/sh
# AddressSanitizer over Rust's tests, the C of LMDB and ring included; Miri over those of pure code.
# Both need a nightly toolchain, Miri its component; what is missing is skipped with a word.
set -u
cd "$(dirname "$0")/.." || exit 2
host=$(rustc -vV | sed -n 's/^host: //p')
crate="--manifest-path native/Cargo.toml --locked --no-default-features --lib"
failed=

# Modules whose tests call nothing foreign: no system call but those that Miri knows, no C.
pure="store::encoding store::pages store::records store::sums net:: queue::tests tasks:: sys::shared_text \
    testing::fuzzing"

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi

echo "== AddressSanitizer"
# cc takes CFLAGS for LMDB and ring: the runtime is the one that rustc links.
CARGO_TARGET_DIR=target/asan RUSTFLAGS="-Zsanitizer=address" \
    CFLAGS="-fsanitize=address -fno-omit-frame-pointer" \
    ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1" \
    cargo +nightly test $crate --target "$host" --profile sanitize || failed="$failed asan"

echo "== Miri"
if cargo +nightly miri --version >/dev/null 2>&1; then
    CARGO_TARGET_DIR=target/miri MIRIFLAGS="-Zmiri-disable-isolation" \
        cargo +nightly miri test $crate -- $pure || failed="$failed miri"
else
    echo "skipped: no Miri (rustup component add --toolchain nightly miri rust-src)"
fi
[ -z "$failed" ] || echo "failed:$failed" >&2
[ -z "$failed" ]
