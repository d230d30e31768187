//! Damage: a word of shared memory that cannot be what was written there.

use std::borrow::Cow;
use std::fmt;
use std::io::{Error, ErrorKind};

#[derive(Debug)]
struct Damage(Cow<'static, str>);

impl fmt::Display for Damage {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "shared memory is damaged: {}", self.0)
    }
}

impl std::error::Error for Damage {}

/// The error for a value that was read from shared memory and cannot be.
#[cold]
pub fn damaged(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidData, Damage(what.into()))
}

/// Whether an error says that shared memory is damaged.
pub fn is_damage(error: &Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Damage>)
}
