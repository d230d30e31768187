//! Sleeping on a word of shared memory, and waking those that sleep there.
//!
//! Loom knows no system calls; where it explores a wait, a model stands in for the kernel.

#[cfg(not(loom))]
mod kernel;
#[cfg(loom)]
pub mod model;

#[cfg(not(loom))]
pub use kernel::{wait, wait_either, wake};
#[cfg(loom)]
pub use model::{wait, wait_either, wake};

use crate::sys::atomic::{AtomicU32, AtomicU64};

/// Why a wait ended. Every cause is a hint: the caller looks at the word again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// A waker called [`wake`], or the word was no longer `expected`.
    Changed,
    TimedOut,
    /// A signal arrived; its handler may want to run.
    Interrupted,
}

/// A word that can be slept on.
pub trait FutexWord {
    /// What the system knows it by.
    fn address(&self) -> *const u32;

    /// What the kernel compares, under the lock of its queue.
    #[cfg(loom)]
    fn value(&self) -> u32;
}

impl FutexWord for AtomicU32 {
    #[cfg(not(loom))]
    fn address(&self) -> *const u32 {
        self.as_ptr()
    }

    #[cfg(loom)]
    fn address(&self) -> *const u32 {
        std::ptr::from_ref(self).cast()
    }

    #[cfg(loom)]
    fn value(&self) -> u32 {
        self.load(std::sync::atomic::Ordering::Acquire)
    }
}

/// The half of a state word that holds its low bits.
#[derive(Clone, Copy)]
pub struct LowHalf<'a>(pub &'a AtomicU64);

impl FutexWord for LowHalf<'_> {
    fn address(&self) -> *const u32 {
        std::ptr::from_ref(self.0)
            .cast::<u32>()
            .wrapping_add(usize::from(cfg!(target_endian = "big")))
    }

    #[cfg(loom)]
    fn value(&self) -> u32 {
        self.0.load(std::sync::atomic::Ordering::Acquire) as u32
    }
}
