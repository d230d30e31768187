//! LMDB opens its files by name alone, cuts them to the length of its map, and begins its table of
//! readers anew where nobody has a lock on it; the linker has it ask `store::lmdb::files` instead.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_CFG_LOOM").is_some() {
        return; // no store is part of that build
    }
    for name in ["open", "open64", "ftruncate", "ftruncate64", "fcntl", "fcntl64"] {
        println!("cargo:rustc-link-arg=-Wl,--wrap={name}");
    }
}
