//! Writes pickles of plain objects.

use super::memo::Memo;
use super::output::Output;
use super::records::Classes;
use super::*;
use pyo3::ffi::{self, PyObject};
use pyo3::types::PyType;

pub struct Writer<'a, 'py, O> {
    to: &'a mut O,
    /// Objects that it may still write.
    left: usize,
    /// Nesting that it may still follow.
    deeper: u32,
    memo: Memo,
    /// References of an object that is in one place.
    once: ffi::Py_ssize_t,
    /// Of which records may be written; None: of none.
    classes: Option<&'a Classes<'a, 'py>>,
    /// A class of which Python has to be asked before its records can be written.
    pub wanted: Option<Bound<'py, PyType>>,
}

impl<'a, 'py, O: Output> Writer<'a, 'py, O> {
    pub fn new(to: &'a mut O, objects: usize, classes: Option<&'a Classes<'a, 'py>>) -> Self {
        Self {
            to,
            left: objects,
            deeper: DEEPEST,
            memo: Memo::new(),
            once: 1,
            classes,
            wanted: None,
        }
    }

    /// Write but a list of scalars, which are elsewhere too: an array of which it was made.
    pub fn copied(mut self) -> Self {
        (self.deeper, self.once) = (1, 2);
        self
    }

    /// Write an object's pickle; false if it cannot.
    pub fn write(&mut self, object: &Bound<'py, PyAny>) -> bool {
        // It would run finalizers, when a dict is made of a record's attributes.
        let _pause = self.classes.map(|_| CollectorPause::new());
        // SAFETY: the object is alive and the interpreter is held: nothing changes meanwhile.
        self.to.put(&PROTO) && unsafe { self.value(object.as_ptr()) } && self.to.put(&[STOP])
    }

    /// Write any object. No code but the interpreter's own runs.
    ///
    /// # Safety
    /// The object is alive, and the interpreter is held.
    unsafe fn value(&mut self, object: *mut PyObject) -> bool {
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        // SAFETY: each call is for objects of the exact type that was asked.
        unsafe {
            let kind = ffi::Py_TYPE(object);
            let is = |of: *mut ffi::PyTypeObject| kind == of;
            if is(&raw mut ffi::PyLong_Type) {
                return self.int(object);
            }
            if is(&raw mut ffi::PyFloat_Type) {
                return self.word(FLOAT, ffi::PyFloat_AS_DOUBLE(object).to_be_bytes());
            }
            if is(&raw mut ffi::PyBool_Type) {
                return self.to.put(&[if object == ffi::Py_True() { TRUE } else { FALSE }]);
            }
            if object == ffi::Py_None() {
                return self.to.put(&[NONE]);
            }
            if let Some(number) = self.known(object) {
                return self.get(number);
            }
            if is(&raw mut ffi::PyUnicode_Type) {
                self.text(object)
            } else if is(&raw mut ffi::PyBytes_Type) {
                let (start, len) = (ffi::PyBytes_AS_STRING(object), ffi::PyBytes_Size(object));
                let bytes = std::slice::from_raw_parts(start.cast(), len as usize);
                self.sized([SHORT_BYTES, BYTES, LONG_BYTES], bytes) && self.memoize(object)
            } else {
                self.container(object)
            }
        }
    }

    /// # Safety
    /// As for `value`.
    unsafe fn container(&mut self, object: *mut PyObject) -> bool {
        let Some(deeper) = self.deeper.checked_sub(1) else { return false };
        self.deeper = deeper;
        // SAFETY: each call is for objects of the exact type that was asked.
        let done = unsafe {
            let kind = ffi::Py_TYPE(object);
            if kind == &raw mut ffi::PyDict_Type {
                self.dict(object)
            } else if kind == &raw mut ffi::PyTuple_Type {
                self.tuple(object)
            } else if kind == &raw mut ffi::PyList_Type {
                self.list(object)
            } else {
                self.record(object)
            }
        };
        self.deeper += 1;
        done
    }

    /// The number of an object that is in the pickle already.
    unsafe fn known(&self, object: *mut PyObject) -> Option<u32> {
        // SAFETY: alive.
        if unsafe { ffi::Py_REFCNT(object) } > self.once {
            self.memo.find(object)
        } else {
            None
        }
    }

    fn get(&mut self, number: u32) -> bool {
        match u8::try_from(number) {
            Ok(small) => self.to.put(&[GET, small]),
            Err(_) => self.word(LONG_GET, number.to_le_bytes()),
        }
    }

    /// An opcode with its argument, of at most eight bytes.
    fn word<const N: usize>(&mut self, opcode: u8, argument: [u8; N]) -> bool {
        let mut both = [opcode; 9];
        both[1..=N].copy_from_slice(&argument);
        self.to.put(&both[..=N])
    }

    /// The object just written may come again: number it.
    unsafe fn memoize(&mut self, object: *mut PyObject) -> bool {
        // SAFETY: alive.
        if unsafe { ffi::Py_REFCNT(object) } > self.once {
            return self.memo.add(object) && self.to.put(&[MEMOIZE]);
        }
        true
    }

    unsafe fn int(&mut self, object: *mut PyObject) -> bool {
        let mut overflow = 0;
        // SAFETY: it is an int.
        let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(object, &raw mut overflow) };
        if overflow != 0 {
            return false;
        }
        if let Ok(small) = u8::try_from(value) {
            self.to.put(&[INT_1, small])
        } else if let Ok(small) = i32::try_from(value) {
            self.word(INT_4, small.to_le_bytes())
        } else {
            self.to.put(&[LONG, 8]) && self.to.put(&value.to_le_bytes())
        }
    }

    unsafe fn text(&mut self, object: *mut PyObject) -> bool {
        let mut len = 0;
        // SAFETY: it is a str, which keeps these bytes as long as it lives.
        unsafe {
            let start = ffi::PyUnicode_AsUTF8AndSize(object, &raw mut len);
            if start.is_null() {
                ffi::PyErr_Clear();
                return false;
            }
            let bytes = std::slice::from_raw_parts(start.cast(), len as usize);
            self.sized([SHORT_STR, STR, LONG_STR], bytes) && self.memoize(object)
        }
    }

    fn sized(&mut self, [short, long, longest]: [u8; 3], bytes: &[u8]) -> bool {
        let len = bytes.len();
        let begun = if let Ok(len) = u8::try_from(len) {
            self.to.put(&[short, len])
        } else if let Ok(len) = u32::try_from(len) {
            self.word(long, len.to_le_bytes())
        } else {
            self.word(longest, (len as u64).to_le_bytes())
        };
        begun && self.to.put(bytes)
    }

    unsafe fn tuple(&mut self, object: *mut PyObject) -> bool {
        if !self.to.put(&[MARK]) {
            return false;
        }
        // SAFETY: it is a tuple, which has these items.
        unsafe {
            for index in 0..ffi::PyTuple_GET_SIZE(object) {
                if !self.value(ffi::PyTuple_GET_ITEM(object, index)) {
                    return false;
                }
            }
            // A tuple that contains itself, by way of a list, was written in there as another one.
            self.known(object).is_none() && self.to.put(&[TUPLE]) && self.memoize(object)
        }
    }

    unsafe fn list(&mut self, object: *mut PyObject) -> bool {
        // SAFETY: it is a list, which has these items.
        unsafe {
            if !(self.to.put(&[LIST]) && self.memoize(object) && self.to.put(&[MARK])) {
                return false;
            }
            for index in 0..ffi::PyList_GET_SIZE(object) {
                if !self.value(ffi::PyList_GET_ITEM(object, index)) {
                    return false;
                }
            }
        }
        self.to.put(&[APPENDS])
    }

    unsafe fn dict(&mut self, object: *mut PyObject) -> bool {
        let (mut place, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: it is a dict, which nothing changes meanwhile.
        unsafe {
            if !(self.to.put(&[DICT]) && self.memoize(object) && self.to.put(&[MARK])) {
                return false;
            }
            while ffi::PyDict_Next(object, &raw mut place, &raw mut key, &raw mut value) != 0 {
                // The reader asks a record that is a key for its hash: code of the program.
                let classes = self.classes.take();
                let has_key = self.value(key);
                self.classes = classes;
                if !has_key || !self.value(value) {
                    return false;
                }
            }
        }
        self.to.put(&[SETITEMS])
    }

    unsafe fn record(&mut self, object: *mut PyObject) -> bool {
        let Some(classes) = self.classes else { return false };
        // SAFETY: alive; its dict is its own, and kept until the end.
        unsafe {
            let kind = ffi::Py_TYPE(object).cast();
            let begun = match self.memo.find(kind) {
                Some(number) => self.get(number),
                None => self.class(classes, kind),
            };
            if !(begun && self.to.put(&NEW_RECORD) && self.memoize(object)) {
                return false;
            }
            let dict = ffi::PyObject_GenericGetDict(object, std::ptr::null_mut());
            if dict.is_null() {
                ffi::PyErr_Clear();
                return false;
            }
            let done = self.attributes(dict) && self.to.put(&[BUILD]);
            ffi::Py_DECREF(dict);
            done
        }
    }

    /// Write the attributes of a record; false if others know of their dict.
    unsafe fn attributes(&mut self, dict: *mut PyObject) -> bool {
        let (mut place, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: alive, and nothing changes meanwhile.
        unsafe {
            let is_own =
                ffi::Py_REFCNT(dict) == 2 && ffi::Py_TYPE(dict) == &raw mut ffi::PyDict_Type;
            if !is_own || !self.to.put(&[DICT, MARK]) {
                return false;
            }
            while ffi::PyDict_Next(dict, &raw mut place, &raw mut key, &raw mut value) != 0 {
                let is_name = ffi::Py_TYPE(key) == &raw mut ffi::PyUnicode_Type;
                if !is_name || !self.value(key) || !self.value(value) {
                    return false;
                }
            }
        }
        self.to.put(&[SETITEMS])
    }

    /// Write a class by its name, if that is known to be right.
    #[cold]
    unsafe fn class(&mut self, classes: &Classes<'_, 'py>, kind: *mut PyObject) -> bool {
        let py = classes.py();
        // SAFETY: a type, which lives as long as its object.
        let kind = unsafe { Bound::from_borrowed_ptr(py, kind) };
        let Ok(kind) = kind.cast_into::<PyType>() else { return false };
        let Some((module, name)) = classes.name_of(&kind) else { return false };
        if !classes.has(&kind) {
            self.wanted = Some(kind);
            return false;
        }
        let (Ok(module), Ok(name)) = (module.to_str(), name.to_str()) else { return false };
        let parts: [&[u8]; 5] = [&[CLASS], module.as_bytes(), b"\n", name.as_bytes(), b"\n"];
        parts.into_iter().all(|part| self.to.put(part))
            && self.memo.add(kind.as_ptr())
            && self.to.put(&[MEMOIZE])
    }
}
