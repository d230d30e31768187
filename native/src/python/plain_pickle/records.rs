//! Objects of the program's classes that are records: attributes, and no code that says how they are
//! pickled, made or filled. Most dataclasses are.

use super::super::reducer::{Reducer, Rules};
use pyo3::ffi::{self, PyObject, PyTypeObject};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule, PyString, PyType};
use std::ptr::null_mut;

extern "C" {
    /// As `getattr(type, name)` without any binding: borrowed, or null. No code of the user runs.
    fn _PyType_Lookup(kind: *mut PyTypeObject, name: *mut PyObject) -> *mut PyObject;
}

/// Module and name.
type ByName<'py> = (Bound<'py, PyString>, Bound<'py, PyString>);

/// Classes of one pass of which Python is asked: for each the pass begins again.
const MOST_ASKED: usize = 8;

/// What a class has under a name, itself or from its bases; null if nothing.
pub fn lookup(kind: *mut PyTypeObject, name: &Bound<'_, PyString>) -> *mut PyObject {
    // SAFETY: a type and a name, both alive.
    unsafe { _PyType_Lookup(kind, name.as_ptr()) }
}

/// Whether an object of this class is its attributes, and nothing else.
pub fn is_record(py: Python<'_>, kind: *mut PyTypeObject) -> bool {
    // SAFETY: types are alive as long as their objects are; the fields are as CPython has them.
    unsafe {
        let (this, object) = (&*kind, &raw mut ffi::PyBaseObject_Type);
        let pointer = size_of::<*mut PyObject>() as ffi::Py_ssize_t;
        let own = [this.tp_dictoffset, this.tp_weaklistoffset];
        let own = own.into_iter().filter(|&offset| offset > 0).count() as ffi::Py_ssize_t;
        let is_plain = this.tp_flags & ffi::Py_TPFLAGS_HEAPTYPE != 0
            && this.tp_flags & ffi::Py_TPFLAGS_IS_ABSTRACT == 0
            && this.tp_dictoffset != 0
            && this.tp_itemsize == 0
            && this.tp_basicsize == (*object).tp_basicsize + own * pointer
            && this.tp_new.map(|new| new as usize) == (*object).tp_new.map(|new| new as usize);
        if !is_plain {
            return false;
        }
        let names = [
            intern!(py, "__reduce_ex__"),
            intern!(py, "__reduce__"),
            intern!(py, "__getstate__"),
            intern!(py, "__setstate__"),
            intern!(py, "__getnewargs_ex__"),
            intern!(py, "__getnewargs__"),
            intern!(py, "__getattribute__"),
            intern!(py, "__getattr__"),
            intern!(py, "__class__"),
        ];
        let dict = lookup(kind, intern!(py, "__dict__"));
        names.into_iter().all(|name| lookup(kind, name) == lookup(object, name))
            && !dict.is_null()
            && ffi::Py_TYPE(dict) == &raw mut ffi::PyGetSetDescr_Type
    }
}

/// Whether assigning to this attribute would run code of the class.
pub fn is_descriptor(kind: *mut PyTypeObject, name: &Bound<'_, PyString>) -> bool {
    let found = lookup(kind, name);
    // SAFETY: alive: the class has it.
    !found.is_null() && unsafe { (*ffi::Py_TYPE(found)).tp_descr_set.is_some() }
}

/// The classes whose records one pass may write.
pub struct Classes<'a, 'py> {
    rules: &'a Bound<'py, Rules>,
    first: Option<&'a Bound<'py, PyDict>>,
    /// Those that Python has said are found by name.
    asked: Vec<Bound<'py, PyType>>,
}

impl<'a, 'py> Classes<'a, 'py> {
    pub fn new(rules: &'a Bound<'py, Rules>, first: Option<&'a Bound<'py, PyDict>>) -> Self {
        Self { rules, first, asked: Vec::new() }
    }

    pub fn py(&self) -> Python<'py> {
        self.rules.py()
    }

    /// The module and name under which the receiver finds a class of records. None: its metaclass has
    /// ways of its own, it has a reducer, it is not what is found by name, or no such class.
    pub fn name_of(&self, kind: &Bound<'py, PyType>) -> Option<ByName<'py>> {
        let has_reducer = || {
            let first = self.first.is_some_and(|first| first.contains(kind).unwrap_or(true));
            first || self.rules.get().has_reducer(kind)
        };
        let is_usual = is_usual(kind) && is_record(kind.py(), kind.as_type_ptr());
        if !is_usual || has_reducer() {
            return None;
        }
        found_by_name(kind)
    }

    /// Whether it is known that the receiver has this class, without running any code.
    pub fn has(&self, kind: &Bound<'py, PyType>) -> bool {
        self.asked.iter().any(|each| each.is(kind)) || self.rules.get().goes_by_name(kind)
    }

    /// Ask Python about a class; false if its objects are for `pickle`.
    pub fn ask(&mut self, kind: &Bound<'py, PyType>) -> bool {
        if self.asked.len() >= MOST_ASKED || self.name_of(kind).is_none() {
            return false;
        }
        let first = self.first.map(|first| first.clone().unbind());
        let reducer = Reducer::new(self.rules.clone().unbind(), first);
        let goes_by_name =
            reducer.reduce(kind.as_any()).is_ok_and(|answer| answer.is(kind.py().NotImplemented()));
        if goes_by_name {
            self.asked.push(kind.clone());
        }
        goes_by_name
    }
}

/// Whether a class is compared and named as any other, whatever its metaclass.
fn is_usual(kind: &Bound<'_, PyType>) -> bool {
    let py = kind.py();
    let meta = kind.get_type().as_type_ptr();
    let names = [
        intern!(py, "__qualname__"),
        intern!(py, "__hash__"),
        intern!(py, "__eq__"),
        intern!(py, "__getattribute__"),
    ];
    names.into_iter().all(|name| lookup(meta, name) == lookup(&raw mut ffi::PyType_Type, name))
}

/// What an imported module has under a name; no code runs.
fn imported<'py>(
    module: &Bound<'py, PyString>,
    name: &Bound<'py, PyString>,
) -> Option<Bound<'py, PyAny>> {
    let py = module.py();
    // SAFETY: the dict of the interpreter's modules, borrowed.
    let modules = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyImport_GetModuleDict()) }?;
    let module = modules.cast_exact::<PyDict>().ok()?.get_item(module).ok()??;
    module.cast_exact::<PyModule>().ok()?.dict().get_item(name).ok()?
}

/// The module and name of a class, if that is where it is.
fn found_by_name<'py>(kind: &Bound<'py, PyType>) -> Option<ByName<'py>> {
    let py = kind.py();
    let name = kind.qualname().ok()?;
    let module = lookup(kind.as_type_ptr(), intern!(py, "__module__"));
    // SAFETY: borrowed of the class, or null.
    let module = unsafe { Bound::from_borrowed_ptr_or_opt(py, module) }?;
    let module = module.cast_into_exact::<PyString>().ok()?;
    let extensions = imported(intern!(py, "copyreg"), intern!(py, "_extension_registry"))?;
    let mut parts = name.to_str().ok()?.split('.');
    let mut found = imported(&module, &PyString::new(py, parts.next()?))?;
    for part in parts {
        let outer = found.cast_into::<PyType>().ok()?;
        let inner = lookup(outer.as_type_ptr(), &PyString::new(py, part));
        // SAFETY: borrowed of the outer class, or null.
        found = unsafe { Bound::from_borrowed_ptr_or_opt(py, inner) }?;
    }
    let is_text = |text: &Bound<'_, PyString>| text.to_str().is_ok_and(|text| !text.contains('\n'));
    let is_usual = extensions.len().ok()? == 0 && is_text(&module) && is_text(&name);
    (found.is(kind) && is_usual).then_some((module, name))
}

/// A new object of a class of records, without attributes.
pub fn make<'py>(kind: &Bound<'py, PyType>) -> Option<Bound<'py, PyAny>> {
    let py = kind.py();
    // SAFETY: `is_record` holds, so this is `object.__new__`, which wants an empty tuple.
    unsafe {
        let nothing = Bound::from_owned_ptr_or_opt(py, ffi::PyTuple_New(0))?;
        let new = (*kind.as_type_ptr()).tp_new?;
        let made = new(kind.as_type_ptr(), nothing.as_ptr(), null_mut());
        Bound::from_owned_ptr_or_err(py, made).ok()
    }
}
