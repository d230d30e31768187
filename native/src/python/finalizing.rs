//! Threads that come back from a wait while the interpreter is going away.
//!
//! CPython before 3.14 ends such a thread by `pthread_exit` where it asks for the GIL. That unwinds
//! through Rust's frames, which must not be unwound, and aborts the process. So the thread stays
//! here for ever, as CPython itself does from 3.14 on.

use std::sync::OnceLock;

type Ask = unsafe extern "C" fn() -> libc::c_int;

fn is_finalizing() -> bool {
    static ASK: OnceLock<Option<Ask>> = OnceLock::new();
    let ask = ASK.get_or_init(|| {
        [c"Py_IsFinalizing", c"_Py_IsFinalizing"].into_iter().find_map(|name| {
            // SAFETY: looks a symbol up; both functions have this signature.
            unsafe {
                let found = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
                (!found.is_null()).then(|| std::mem::transmute::<*mut libc::c_void, Ask>(found))
            }
        })
    });
    // SAFETY: an atomic read, allowed without the GIL.
    ask.is_some_and(|ask| unsafe { ask() != 0 })
}

/// To be called without the GIL, before asking for it again.
pub fn park_if_finalizing() {
    // SAFETY: both calls cannot fail.
    let main = unsafe { libc::syscall(libc::SYS_gettid) == libc::c_long::from(libc::getpid()) };
    if main {
        // The main thread is the one that finalizes.
        return;
    }
    while is_finalizing() {
        // SAFETY: waits for a signal; the process is about to end.
        unsafe { libc::pause() };
    }
}
