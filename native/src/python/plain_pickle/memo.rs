//! The objects of a pickle that may come again, by their addresses.

use pyo3::ffi::PyObject;

/// So many are looked for one by one: most pickles have no more.
const FEW: usize = 12;
const SMALLEST: usize = 64;

/// The number of each object that was added: 0, 1, ...
pub struct Memo {
    first: [*mut PyObject; FEW],
    count: u32,
    /// All of them once they are many, else nothing. The size is a power of two; half of it is free,
    /// with null in the place of an object.
    places: Vec<(*mut PyObject, u32)>,
}

impl Memo {
    pub fn new() -> Self {
        Self { first: [std::ptr::null_mut(); FEW], count: 0, places: Vec::new() }
    }

    #[inline]
    pub fn find(&self, object: *mut PyObject) -> Option<u32> {
        if self.places.is_empty() {
            let first = &self.first[..self.count as usize];
            return first.iter().position(|&each| each == object).map(|place| place as u32);
        }
        let (found, number) = self.places[self.place(object)];
        (!found.is_null()).then_some(number)
    }

    /// Where an object is, or would be.
    fn place(&self, object: *mut PyObject) -> usize {
        const ODD: usize = 0x9e37_79b9_7f4a_7c15;
        let mask = self.places.len() - 1;
        let mut place = (object as usize >> 4).wrapping_mul(ODD) >> 32 & mask;
        loop {
            let (found, _) = self.places[place];
            if found.is_null() || found == object {
                return place;
            }
            place = (place + 1) & mask;
        }
    }

    /// Number an object that is not there yet; false if there is no memory for it.
    #[inline]
    pub fn add(&mut self, object: *mut PyObject) -> bool {
        if self.places.is_empty() && (self.count as usize) < FEW {
            self.first[self.count as usize] = object;
        } else if !self.add_to_many(object) {
            return false;
        }
        self.count += 1;
        true
    }

    fn add_to_many(&mut self, object: *mut PyObject) -> bool {
        if self.count as usize * 2 >= self.places.len() && !self.grow() {
            return false;
        }
        let place = self.place(object);
        self.places[place] = (object, self.count);
        true
    }

    #[cold]
    fn grow(&mut self) -> bool {
        let size = (self.places.len() * 4).max(SMALLEST);
        let mut places = Vec::new();
        if u32::try_from(size).is_err() || places.try_reserve_exact(size).is_err() {
            return false;
        }
        places.resize(size, (std::ptr::null_mut(), 0));
        let old = std::mem::replace(&mut self.places, places);
        let few = if old.is_empty() { &self.first[..] } else { &[] };
        let few = few.iter().copied().zip(0..);
        for (object, number) in few.chain(old).filter(|(object, _)| !object.is_null()) {
            let place = self.place(object);
            self.places[place] = (object, number);
        }
        true
    }
}
