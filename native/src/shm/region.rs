//! A region as one process sees it: a part of a segment that has one owner, mapped as it is used.
//!
//! ```text
//! 0                                    half                                    len
//! | heads and small blocks, in windows | bodies of large blocks, in whole pages |
//! ```
//! A small block lies in one window, and a window is mapped with the first block that is looked at
//! in it. A body is mapped alone if it is large, else with its neighbours. What has no reader stays
//! mapped for a while, since mapping it again costs page faults, but goes as soon as address space
//! is short.

use crate::shm::segment::{Mapping, Segment, PAGE};
use crate::sys::damage::damaged;
use std::collections::BTreeMap;
use std::io::Result;
use std::sync::{Arc, Mutex, MutexGuard};

/// A window of small blocks, and what is mapped together of bodies.
const WINDOW: usize = 1 << 20;
/// So many windows; those behind are larger, or a process would need too many mappings.
const WINDOWS: usize = 16;
const WIDE: usize = WINDOW * WINDOWS;
/// Bytes of bodies that stay mapped although they have no reader. As much as a parent keeps: to map
/// them again costs a fault for each page.
const KEPT: usize = 1 << 30;
/// How many mappings in front of a place are asked whether they reach over it.
const GLANCE: usize = 4;

/// Some bytes of a mapping, which it keeps mapped.
#[derive(Debug, Clone)]
pub struct Span {
    map: Arc<Mapping>,
    at: usize,
    len: usize,
}

impl Span {
    pub fn len(&self) -> usize {
        self.len
    }

    /// The address of `len` bytes from `offset` on (checked).
    #[inline]
    pub fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.len && len <= self.len - offset, "outside of the block");
        self.map.at(self.at + offset, len)
    }

    /// All of them, as long as nothing writes to them.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped as long as this lives.
        unsafe { std::slice::from_raw_parts(self.at(0, self.len()), self.len()) }
    }

    /// Forget what was written privately into its pages.
    pub fn discard(&self) {
        self.map.discard(self.at, self.len.next_multiple_of(PAGE));
    }
}

#[derive(Debug, Default)]
struct Bodies {
    by_place: BTreeMap<usize, Arc<Mapping>>,
    total: usize,
    /// From how many mapped bytes on it pays to look for those without a reader.
    most: usize,
}

#[derive(Debug)]
pub struct Region {
    segment: Arc<Segment>,
    offset: u64,
    len: usize,
    /// Bodies are mapped privately: their readers may write.
    private: bool,
    windows: Mutex<Vec<Option<Arc<Mapping>>>>,
    bodies: Mutex<Bodies>,
}

impl Region {
    pub fn new(segment: &Arc<Segment>, offset: u64, len: usize, private: bool) -> Arc<Self> {
        let (windows, bodies) = (Mutex::default(), Mutex::default());
        Arc::new(Self { segment: segment.clone(), offset, len, private, windows, bodies })
    }

    /// Where the bodies begin.
    pub fn half(&self) -> usize {
        self.len / 2 / PAGE * PAGE
    }

    pub fn len(&self) -> usize {
        self.len / PAGE * PAGE
    }

    pub fn reserve(&self, place: usize, len: usize) -> Result<()> {
        self.segment.reserve_range(self.offset + place as u64, len)
    }

    pub fn punch(&self, place: usize, len: usize) -> Result<()> {
        self.segment.punch_range(self.offset + place as u64, len)
    }

    fn map(&self, place: usize, len: usize, private: bool) -> Result<Arc<Mapping>> {
        self.segment.map_range(self.offset + place as u64, len, private)
    }

    fn windows(&self) -> MutexGuard<'_, Vec<Option<Arc<Mapping>>>> {
        self.windows.lock().expect("never poisoned")
    }

    fn bodies(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().expect("never poisoned")
    }

    /// `len` bytes of the part of small blocks, all in one window.
    pub fn small(&self, place: usize, len: usize) -> Result<Span> {
        let outside = || damaged(format!("{len} bytes at {place} are in no window of a heap"));
        if place >= self.half() {
            return Err(outside());
        }
        let (number, start, end) = window(place);
        let end = end.min(self.half());
        if place.checked_add(len).is_none_or(|last| last > end) {
            return Err(outside());
        }
        let mut windows = self.windows();
        if let Some(Some(map)) = windows.get(number) {
            return Ok(Span { map: map.clone(), at: place - start, len });
        }
        let map = self.map(start, end - start, false).or_else(|_| {
            self.forget_bodies();
            self.map(start, end - start, false)
        })?;
        if windows.len() <= number {
            windows.resize(number + 1, None);
        }
        windows[number] = Some(map.clone());
        Ok(Span { map, at: place - start, len })
    }

    /// `len` bytes of the part of bodies.
    pub fn body(&self, place: usize, len: usize) -> Result<Span> {
        let inside = place >= self.half() && place % PAGE == 0;
        let end = place.checked_add(len).and_then(|end| end.checked_next_multiple_of(PAGE));
        let Some(end) = end.filter(|&end| inside && end <= self.len()) else {
            return Err(damaged(format!("{len} bytes at {place} are no body of a block")));
        };
        let mut bodies = self.bodies();
        let near = bodies.by_place.range(..=place).rev().take(GLANCE);
        let found =
            near.map(|(&start, map)| (start, map)).find(|(start, map)| start + map.len() >= end);
        if let Some((start, map)) = found {
            return Ok(Span { map: map.clone(), at: place - start, len });
        }
        if bodies.total > bodies.most {
            bodies.forget(kept());
        }
        let (start, map) = self.map_body(&mut bodies, place, end)?;
        bodies.total += map.len();
        if let Some(old) = bodies.by_place.insert(start, map.clone()) {
            bodies.total -= old.len();
        }
        Ok(Span { map, at: place - start, len })
    }

    /// With its neighbours if it is small; alone if there is no address space for that.
    fn map_body(
        &self,
        bodies: &mut Bodies,
        place: usize,
        end: usize,
    ) -> Result<(usize, Arc<Mapping>)> {
        if end - place < WINDOW {
            let start = (place / WINDOW * WINDOW).max(self.half());
            let stop = end.next_multiple_of(WINDOW).min(self.len());
            if let Ok(map) = self.map(start, stop - start, self.private) {
                return Ok((start, map));
            }
        }
        let map = self.map(place, end - place, self.private).or_else(|_| {
            bodies.forget(0);
            self.map(place, end - place, self.private)
        })?;
        Ok((place, map))
    }

    /// Unmap bodies that have no reader.
    pub fn forget_bodies(&self) {
        self.bodies().forget(0);
    }
}

impl Bodies {
    /// Unmap what has no reader, until so many bytes of it are left.
    fn forget(&mut self, kept: usize) {
        let mut unused = 0;
        self.by_place.retain(|_, map| {
            if Arc::strong_count(map) > 1 {
                return true;
            }
            unused += map.len();
            let stays = unused <= kept;
            if !stays {
                unused -= map.len();
                self.total -= map.len();
            }
            stays
        });
        // Amortised: the bodies with readers must have doubled before all are asked again.
        self.most = kept.max(2 * (self.total - unused));
    }
}

/// How much may stay mapped without a reader: less if address space is limited.
fn kept() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes to a local.
    unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) };
    KEPT.min(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX) / 16)
}

/// The window of a place in the part of small blocks: its number, beginning and end.
pub fn window(place: usize) -> (usize, usize, usize) {
    if place < WIDE {
        let number = place / WINDOW;
        return (number, number * WINDOW, (number + 1) * WINDOW);
    }
    let number = place / WIDE;
    (WINDOWS - 1 + number, number * WIDE, (number + 1) * WIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(private: bool) -> Arc<Region> {
        let segment = Segment::create(PAGE, 1 << 30).expect("a memfd");
        if private { segment.others_region(0) } else { segment.own_region(0) }.expect("a region")
    }

    #[test]
    fn windows_follow_each_other() {
        let mut end = 0;
        for number in 0..40 {
            assert_eq!(window(end), (number, end, window(end).2));
            assert_eq!(window(window(end).2 - 1).0, number);
            end = window(end).2;
        }
    }

    #[test]
    fn a_place_keeps_its_address() {
        let region = region(false);
        let span = region.small(3 * WINDOW + 64, 100).expect("mapped");
        let again = region.small(3 * WINDOW + 64, 100).expect("mapped");
        assert_eq!(span.at(0, 100), again.at(0, 100));
        assert!(region.small(WINDOW - 64, 100).is_err(), "over the end of a window");
        assert!(region.small(region.half() - 64, 100).is_err(), "over the end of the part");
    }

    #[test]
    fn bodies_share_mappings_and_are_forgotten() {
        let region = region(true);
        let half = region.half();
        let small: Vec<_> =
            (0..16).map(|n| region.body(half + n * 65536, 65536).unwrap()).collect();
        assert_eq!(region.bodies().by_place.len(), 1);
        let large = region.body(half + 8 * WINDOW, 5 * WINDOW).expect("mapped");
        assert_eq!(region.bodies().total, 6 * WINDOW);
        drop(large);
        region.forget_bodies();
        assert_eq!(region.bodies().total, WINDOW);
        drop(small);
        region.forget_bodies();
        assert_eq!(region.bodies().total, 0);
        assert!(region.body(half + 1, 10).is_err());
        assert!(region.body(half, region.len()).is_err());
        assert!(region.body(half, usize::MAX).is_err());
    }
}
