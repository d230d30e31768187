//! What travels between a Manager and its clients.
//!
//! ```text
//! fields    msgpack, a strict subset: nil, bool, int, float, str, bin, array
//! frames    u32 length | u32 number of the request | u8 verb or status | fields
//! records   u16 length | ciphertext and tag            (Noise, after its handshake)
//! ```
//!
//! Whatever the other side sends ends in bytes that were asked for or in a [`ProtocolError`].

pub mod channel;
pub mod client_protocol;
pub mod client_socket;
pub mod frames;
pub mod msgpack;
pub mod records;
pub mod secure_channel;
pub mod socket;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

/// The other side has broken the protocol; the text says how.
#[derive(Debug, PartialEq, Eq)]
pub struct ProtocolError(pub Cow<'static, str>);

impl ProtocolError {
    pub const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    pub fn of(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message of our own is longer than any may be.
#[derive(Debug)]
pub struct MessageTooLong {
    length: usize,
    limit: usize,
}

impl MessageTooLong {
    pub fn check(length: usize, limit: usize) -> Result<(), Self> {
        if length > limit {
            return Err(Self { length, limit });
        }
        Ok(())
    }
}

impl fmt::Display for MessageTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, limit } = self;
        let remedy = "send it in pieces";
        write!(f, "a message of {length} bytes, and {limit} are the limit (max_message); {remedy}")
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
pub fn release_buffer(buffer: &mut Vec<u8>) {
    const KEPT: usize = 1 << 13;
    if buffer.capacity() > KEPT && buffer.len() < buffer.capacity() / 4 {
        // In another place: what stays behind in the old one would keep its neighbours apart.
        *buffer = buffer.as_slice().to_vec();
    }
}
