//! A long part of a segment, mapped window by window as it is looked at. A window stays mapped, so
//! that what lies there has one address for the life of the process.

use crate::shm::segment::{Mapping, Segment};
use std::io::Result;
use std::sync::{Arc, OnceLock};

#[derive(Debug)]
pub struct Windows {
    segment: Arc<Segment>,
    offset: u64,
    /// Bytes of a window.
    size: usize,
    maps: Box<[OnceLock<Arc<Mapping>>]>,
}

impl Windows {
    /// `count` windows of `size` bytes each, from `offset` on; nothing is mapped yet.
    pub fn new(segment: &Arc<Segment>, offset: usize, size: usize, count: usize) -> Self {
        let maps = (0..count).map(|_| OnceLock::new()).collect();
        Self { segment: segment.clone(), offset: offset as u64, size, maps }
    }

    /// Map the window of this byte: what cannot be mapped is an error here, and nowhere else.
    #[inline]
    pub fn ensure(&self, at: usize) -> Result<()> {
        if self.maps[at / self.size].get().is_none() {
            self.map(at / self.size)?;
        }
        Ok(())
    }

    #[cold]
    fn map(&self, number: usize) -> Result<()> {
        let offset = self.offset + (number * self.size) as u64;
        let map = self.segment.map_range(offset, self.size, false)?;
        let _ = self.maps[number].set(map);
        Ok(())
    }

    /// The address of `len` bytes from `at` on, which lie in one window.
    #[inline]
    pub fn at(&self, at: usize, len: usize) -> *mut u8 {
        let number = at / self.size;
        if let Some(map) = self.maps[number].get() {
            return map.at(at % self.size, len);
        }
        // The callers that can be told of a failure have called `ensure`.
        self.map(number).expect("address space for the task table; see `ulimit -v`");
        self.maps[number].get().expect("mapped just now").at(at % self.size, len)
    }
}
