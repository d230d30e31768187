//! As the core's own build script: what is linked with LMDB has its calls wrapped.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["open", "open64", "ftruncate", "ftruncate64", "fcntl", "fcntl64"] {
        println!("cargo:rustc-link-arg=-Wl,--wrap={name}");
    }
}
