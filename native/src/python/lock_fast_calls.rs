//! The way most calls of a lock take: by C functions of our own, without what PyO3 puts around a
//! method. That costs more than taking a lock does.
//!
//! What is not quite ordinary goes to the methods of [`PyLock`].

use super::lock::PyLock;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// `acquire`, `release`, `__enter__` and `__exit__` of a lock.
pub fn methods<'py>(lock: &Bound<'py, PyLock>) -> PyResult<Bound<'py, PyTuple>> {
    let bind = |method: &'static Method| {
        let method = std::ptr::from_ref(&method.0).cast_mut();
        // SAFETY: the definition is never written to, and lives for ever.
        unsafe {
            let made = ffi::PyCFunction_NewEx(method, lock.as_ptr(), std::ptr::null_mut());
            Bound::from_owned_ptr_or_err(lock.py(), made)
        }
    };
    let made = [&ACQUIRE, &RELEASE, &ENTER, &EXIT].map(bind);
    PyTuple::new(lock.py(), made.into_iter().collect::<PyResult<Vec<_>>>()?)
}

struct Method(ffi::PyMethodDef);

// SAFETY: it is only read, and what it points to is static.
unsafe impl Sync for Method {}

static ACQUIRE: Method = Method(ffi::PyMethodDef {
    ml_name: c"acquire".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: acquire },
    ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
    ml_doc: c"acquire($self, block=True, timeout=None)\n--\n\nTake the lock; False if it could not be had in time.".as_ptr(),
});

static RELEASE: Method = Method(ffi::PyMethodDef {
    ml_name: c"release".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunction: release },
    ml_flags: ffi::METH_NOARGS,
    ml_doc: c"release($self)\n--\n\nRelease the lock.".as_ptr(),
});

static ENTER: Method = Method(ffi::PyMethodDef {
    ml_name: c"__enter__".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunction: enter },
    ml_flags: ffi::METH_NOARGS,
    ml_doc: std::ptr::null(),
});

static EXIT: Method = Method(ffi::PyMethodDef {
    ml_name: c"__exit__".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: exit },
    ml_flags: ffi::METH_FASTCALL,
    ml_doc: std::ptr::null(),
});

/// # Safety
/// `object` is a lock, and the GIL is held.
unsafe fn of<'a>(object: *mut PyObject) -> &'a PyLock {
    // SAFETY: only `methods` makes functions of these, and with a lock, which they keep.
    unsafe {
        let py = Python::assume_attached();
        let object: Borrowed<'a, '_, PyAny> = Borrowed::from_ptr(py, object);
        &*std::ptr::from_ref(object.cast_unchecked::<PyLock>().get())
    }
}

unsafe extern "C" fn acquire(
    object: *mut PyObject,
    args: *const *mut PyObject,
    count: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: called by the interpreter, with the lock that it was made for.
    unsafe {
        // Whether it would wait does not matter where there is nothing to wait for.
        if count <= 1 && names.is_null() && of(object).lock.try_acquire_fast() {
            return ffi::Py_NewRef(ffi::Py_True());
        }
        let method = ffi::PyObject_GetAttrString(object, ACQUIRE.0.ml_name);
        if method.is_null() {
            return method;
        }
        let answer = ffi::PyObject_Vectorcall(method, args, count as usize, names);
        ffi::Py_DECREF(method);
        answer
    }
}

unsafe extern "C" fn enter(object: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        if of(object).lock.try_acquire_fast() {
            return ffi::Py_NewRef(ffi::Py_True());
        }
        call(object, &ENTER)
    }
}

unsafe extern "C" fn release(object: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe {
        if of(object).lock.try_release_fast() {
            return ffi::Py_NewRef(ffi::Py_None());
        }
        call(object, &RELEASE)
    }
}

unsafe extern "C" fn exit(
    object: *mut PyObject,
    _: *mut *mut PyObject,
    _: ffi::Py_ssize_t,
) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { release(object, std::ptr::null_mut()) }
}

/// # Safety
/// As for `of`.
unsafe fn call(object: *mut PyObject, method: &Method) -> *mut PyObject {
    // SAFETY: an ordinary call, with a name that does not end.
    unsafe {
        let method = ffi::PyObject_GetAttrString(object, method.0.ml_name);
        if method.is_null() {
            return method;
        }
        let answer = ffi::PyObject_CallNoArgs(method);
        ffi::Py_DECREF(method);
        answer
    }
}
