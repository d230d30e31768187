//! What travels between a Manager and its clients, and nothing that reads or writes a socket.
//!
//! ```text
//! fields    msgpack, a strict subset: nil, bool, int, float, str, bin, array
//! frames    u32 length | u32 number of the request | u8 verb or status | fields
//! records   u16 length | ciphertext and tag            (Noise, after its handshake)
//! ```
//!
//! Whatever the other side sends ends in bytes that were asked for or in a [`Fault`].

pub mod channel;
pub mod client;
pub mod fields;
pub mod frames;
pub mod records;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

/// The other side has broken the protocol; the text says how.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault(pub Cow<'static, str>);

impl Fault {
    pub const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    pub fn of(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much one side takes from the other.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one frame.
    pub frame: usize,
    /// Bytes of one message, and of all messages that have arrived in part.
    pub message: usize,
}

/// Give memory back that a large message has needed: most peers are idle, and there may be many.
pub fn shrink(buffer: &mut Vec<u8>) {
    const KEPT: usize = 1 << 13;
    if buffer.capacity() > KEPT && buffer.len() < buffer.capacity() / 4 {
        // In another place: what stays behind in the old one would keep its neighbours apart.
        *buffer = buffer.as_slice().to_vec();
    }
}
