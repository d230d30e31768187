//! Threads that come back from a wait while the interpreter is going away.
//!
//! CPython before 3.14 ends such a thread by `pthread_exit` where it asks for the GIL. That unwinds
//! through Rust's frames, which must not be unwound, and aborts the process. So the thread stays
//! here for ever, as CPython itself does from 3.14 on.
//!
//! To ask first is not enough: the interpreter may begin to go while the thread queues for the GIL.
//! So the one frame between `pthread_exit` and the rest of ours is [`Attach::drop`], which goes no
//! further.

use pyo3::ffi;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicPtr, Ordering};

type Ask = unsafe extern "C" fn() -> libc::c_int;

fn is_finalizing() -> bool {
    let ask = ASK.load(Ordering::Relaxed);
    // SAFETY: `find` has put it there, if it is not null; it is an atomic read, allowed without the GIL.
    !ask.is_null() && unsafe { std::mem::transmute::<*mut libc::c_void, Ask>(ask)() != 0 }
}

/// CPython's function that tells, or null. No `OnceLock`: it is asked for without the GIL, and a child
/// that is forked while another thread fills a `OnceLock` waits for that thread for ever.
static ASK: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Look CPython's function up, while the module is imported.
pub fn find() {
    for name in [c"Py_IsFinalizing", c"_Py_IsFinalizing"] {
        // SAFETY: looks a symbol up; both functions have the signature of `Ask`.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        if !found.is_null() {
            ASK.store(found, Ordering::Relaxed);
            return;
        }
    }
}

mod raw {
    use pyo3::ffi::PyThreadState;
    extern "C-unwind" {
        pub fn PyEval_RestoreThread(state: *mut PyThreadState);
    }
}

/// Run something that takes a while and does not touch Python, while other threads have the GIL.
///
/// In the place of [`Python::detach`], which a `pthread_exit` would unwind.
pub fn without_gil<T>(_py: Python<'_>, run: impl FnOnce() -> T) -> T {
    // SAFETY: the GIL is held, as `_py` shows, and `Attach` takes it again, whatever happens in `run`.
    let _attach = Attach(unsafe { ffi::PyEval_SaveThread() });
    run()
}

struct Attach(*mut ffi::PyThreadState);

impl Drop for Attach {
    fn drop(&mut self) {
        park_if_finalizing();
        let stay = Stay;
        // SAFETY: the state that this thread has saved; nothing has restored it since.
        unsafe { raw::PyEval_RestoreThread(self.0) };
        std::mem::forget(stay);
    }
}

/// Dropped only while the thread is being unwound, which ends here.
struct Stay;

impl Drop for Stay {
    fn drop(&mut self) {
        stay()
    }
}

fn stay() -> ! {
    loop {
        // SAFETY: waits for a signal; the process is about to end.
        unsafe { libc::pause() };
    }
}

fn park_if_finalizing() {
    // The main thread is the one that finalizes. Asked last: that takes two system calls.
    if is_finalizing() && !is_main() {
        stay()
    }
}

fn is_main() -> bool {
    // SAFETY: both calls cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) == libc::c_long::from(libc::getpid()) }
}
