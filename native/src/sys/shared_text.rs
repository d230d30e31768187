//! Short texts in shared memory, only to be shown: they may be read while they are written.

use crate::sys::atomic::{AtomicU64, Ordering};

/// Write as much of the end of a text as fits: the end of a path says more than its beginning.
pub fn write(words: &[AtomicU64], text: &str) {
    let room = words.len() * 8;
    let mut start = text.len().saturating_sub(room);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let mut bytes = text.as_bytes()[start..].iter().copied();
    for word in words {
        let part: [u8; 8] = std::array::from_fn(|_| bytes.next().unwrap_or(0));
        word.store(u64::from_ne_bytes(part), Ordering::Relaxed);
    }
}

/// As many characters from the beginning as fit into so many bytes.
pub fn beginning(text: &str, room: usize) -> &str {
    let mut end = room.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

pub fn read(words: &[AtomicU64]) -> String {
    let bytes: Vec<u8> =
        words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_text_is_kept() {
        let words = [const { AtomicU64::new(0) }; 2];
        write(&words, "short");
        assert_eq!(read(&words), "short");
        write(&words, "/a/very/long/path/\u{e4}nd.py");
        assert_eq!(read(&words), "ong/path/\u{e4}nd.py");
        assert_eq!(beginning("a\u{e4}b", 2), "a");
    }
}
