//! LMDB opens its files by name alone; the linker has it ask `store::lmdb::files` instead.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["open", "open64"] {
        println!("cargo:rustc-link-arg=-Wl,--wrap={name}");
    }
}
