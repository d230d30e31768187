//! Every input of the corpora once more: what was found stays mended.

use std::fs;
use std::path::Path;

fn replay(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    assert!(!paths.is_empty(), "{folder:?} is empty");
    paths.sort();
    // Miri takes seconds for a handshake.
    let most = if cfg!(miri) { 6 } else { paths.len() };
    for path in paths.iter().take(most) {
        println!("{}", path.display());
        run(&fs::read(path).expect("an input"));
    }
}

#[test]
#[cfg_attr(miri, ignore = "the connection's own cipher is not written in Rust")]
fn handshake() {
    replay("handshake", super::handshake);
}

#[test]
fn frames() {
    replay("frames", super::frames);
}

#[test]
fn records() {
    replay("records", super::records);
}

#[test]
fn replies() {
    replay("replies", super::replies);
}

#[test]
fn store_records() {
    replay("store_records", super::store_records);
}

#[test]
fn store_pages() {
    replay("store_pages", super::store_pages);
}

#[test]
fn the_stores_among_the_pages_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/store_pages");
    for name in ["fresh", "store", "tiny"] {
        let bytes = fs::read(folder.join(name)).expect("an input");
        assert_eq!(crate::store::pages::check(&bytes[..]), Ok(()), "{name}");
        assert!(crate::store::pages::report(&bytes[..]).unwrap().damage.is_empty(), "{name}");
    }
}

#[test]
fn keys() {
    replay("keys", super::keys);
}

#[test]
#[cfg_attr(miri, ignore = "it maps files")]
fn queue_items() {
    replay("queue_items", super::queue_items);
}

#[test]
#[cfg_attr(miri, ignore = "it maps files")]
fn task_cells() {
    replay("task_cells", super::task_cells);
}
