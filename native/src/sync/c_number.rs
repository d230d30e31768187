//! Numbers of C in shared memory: read and written under a lock, or in single steps without one.

use std::ffi::CStr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicU8};

/// What the bytes of a number mean. Everything else is left to ctypes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberKind {
    Bool,
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
}

/// Work on the atomic word of a kind's width; `Word` is its type in the body.
macro_rules! by_width {
    ($kind:expr, $place:expr, |$cell:ident| $body:expr) => {
        // SAFETY: whatever made `place` says that such a word lies there, aligned.
        match $kind.size() {
            1 => by_width!(@one u8, AtomicU8, $place, $cell, $body),
            2 => by_width!(@one u16, AtomicU16, $place, $cell, $body),
            4 => by_width!(@one u32, AtomicU32, $place, $cell, $body),
            _ => by_width!(@one u64, AtomicU64, $place, $cell, $body),
        }
    };
    (@one $word:ident, $atomic:ident, $place:expr, $cell:ident, $body:expr) => {{
        #[allow(dead_code)]
        type Word = $word;
        let $cell = unsafe { &*$place.0.cast::<$atomic>() };
        #[allow(clippy::unnecessary_cast)]
        { $body }
    }};
}

/// The address of a number that lives as long as the object it belongs to, aligned to its size.
#[derive(Debug, Clone, Copy)]
pub struct NumberAt(pub *mut u8);

// SAFETY: memory that other processes write as well; it is only looked at through atomics.
unsafe impl Send for NumberAt {}
unsafe impl Sync for NumberAt {}

impl NumberKind {
    /// The kind that a format of the buffer protocol and a size name, if it is a number of ours.
    pub fn of(format: &[u8], size: usize) -> Option<Self> {
        let code = match format {
            [code] | [b'<' | b'@' | b'=', code] => code,
            _ => return None,
        };
        Some(match (code, size) {
            (b'?', 1) => Self::Bool,
            (b'b', 1) => Self::I8,
            (b'B', 1) => Self::U8,
            (b'h', 2) => Self::I16,
            (b'H', 2) => Self::U16,
            (b'i' | b'l', 4) => Self::I32,
            (b'I' | b'L', 4) => Self::U32,
            (b'l' | b'q', 8) => Self::I64,
            (b'L' | b'Q', 8) => Self::U64,
            (b'f', 4) => Self::F32,
            (b'd', 8) => Self::F64,
            _ => return None,
        })
    }

    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// Its native code in the buffer protocol, which `memoryview` and numpy understand alike.
    pub fn format(self) -> &'static CStr {
        match self {
            Self::Bool => c"?",
            Self::I8 => c"b",
            Self::U8 => c"B",
            Self::I16 => c"h",
            Self::U16 => c"H",
            Self::I32 => c"i",
            Self::U32 => c"I",
            Self::I64 => c"q",
            Self::U64 => c"Q",
            Self::F32 => c"f",
            Self::F64 => c"d",
        }
    }

    /// Whether one can add to it.
    pub fn is_number(self) -> bool {
        self != Self::Bool
    }

    /// Read a number whose lock is held, or of which only a glimpse is wanted.
    #[inline]
    pub fn read(self, place: NumberAt) -> u64 {
        by_width!(self, place, |cell| cell.load(Relaxed) as u64)
    }

    #[inline]
    pub fn write(self, place: NumberAt, bits: u64) {
        by_width!(self, place, |cell| cell.store(bits as Word, Relaxed));
    }

    pub fn atomic_load(self, place: NumberAt) -> u64 {
        by_width!(self, place, |cell| cell.load(SeqCst) as u64)
    }

    pub fn atomic_store(self, place: NumberAt, bits: u64) {
        by_width!(self, place, |cell| cell.store(bits as Word, SeqCst));
    }

    pub fn atomic_exchange(self, place: NumberAt, bits: u64) -> u64 {
        by_width!(self, place, |cell| cell.swap(bits as Word, SeqCst) as u64)
    }

    pub fn atomic_compare_exchange(self, place: NumberAt, expected: u64, desired: u64) -> bool {
        by_width!(self, place, |cell| {
            cell.compare_exchange(expected as Word, desired as Word, SeqCst, SeqCst).is_ok()
        })
    }

    /// Add to a number; what was there before. Integers wrap around, as atomics do.
    #[inline]
    pub fn atomic_add(self, place: NumberAt, bits: u64) -> u64 {
        match self {
            Self::F64 => {
                self.add_by(place, |old| (f64::from_bits(old) + f64::from_bits(bits)).to_bits())
            }
            Self::F32 => self.add_by(place, |old| {
                let (old, more) = (f32::from_bits(old as u32), f32::from_bits(bits as u32));
                u64::from((old + more).to_bits())
            }),
            _ => by_width!(self, place, |cell| cell.fetch_add(bits as Word, SeqCst) as u64),
        }
    }

    fn add_by(self, place: NumberAt, sum: impl Fn(u64) -> u64) -> u64 {
        loop {
            let old = self.read(place);
            if self.atomic_compare_exchange(place, old, sum(old)) {
                return old;
            }
        }
    }
}
