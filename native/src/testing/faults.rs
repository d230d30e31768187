//! Where in native code a fatal signal came from: for a crash that no second run shows.
//!
//! `faulthandler` says where Python was, and that only. What stands here comes before it.

use std::ffi::{c_int, c_void};
use std::io::Write;
use std::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

extern "C" {
    fn backtrace(frames: *mut *mut c_void, most: c_int) -> c_int;
    fn backtrace_symbols_fd(frames: *const *mut c_void, count: c_int, fd: c_int);
}

const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];
const FRAMES: usize = 256;

/// What the signals did before; null until then.
static BEFORE: AtomicPtr<[libc::sigaction; 2]> = AtomicPtr::new(std::ptr::null_mut());
static TO: AtomicI32 = AtomicI32::new(-1);
/// Children of it die on purpose.
static PROCESS: AtomicI32 = AtomicI32::new(0);

/// From now on write down where this process is in native code when it gets a fatal signal, and why.
pub fn trace_faults(fd: c_int) {
    TO.store(fd, Ordering::Relaxed);
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_fault;
    // SAFETY: system calls with structs of numbers, of which zeros are the default.
    unsafe {
        PROCESS.store(libc::getpid(), Ordering::Relaxed);
        if !BEFORE.load(Ordering::Relaxed).is_null() {
            return;
        }
        // Its first call loads a library.
        backtrace([std::ptr::null_mut(); 1].as_mut_ptr(), 1);
        let before: &'static mut [libc::sigaction; 2] = Box::leak(Box::new(std::mem::zeroed()));
        BEFORE.store(before, Ordering::Relaxed);
        for (signal, before) in SIGNALS.into_iter().zip(before) {
            let mut wanted: libc::sigaction = std::mem::zeroed();
            wanted.sa_sigaction = handler as usize;
            wanted.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigaction(signal, &raw const wanted, before);
        }
    }
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    let place = SIGNALS.iter().position(|&each| each == signal).unwrap_or(0);
    // SAFETY: the kernel has filled the struct; the action is one that the process had.
    unsafe {
        if libc::getpid() == PROCESS.load(Ordering::Relaxed) {
            write_trace(signal, &*info);
        }
        let before: *const libc::sigaction = BEFORE.load(Ordering::Relaxed).cast();
        libc::sigaction(signal, before.add(place), std::ptr::null_mut());
        // A fault comes again with its instruction; what a process has sent does not.
        if (*info).si_code <= 0 {
            libc::raise(signal);
        }
    }
}

/// # Safety
/// As in a handler of a fault.
unsafe fn write_trace(signal: c_int, info: &libc::siginfo_t) {
    let mut text = [0_u8; 160];
    let mut rest = &mut text[..];
    let code = info.si_code;
    // SAFETY: which of the two is there, the code says.
    let done = unsafe {
        if code > 0 {
            writeln!(
                rest,
                "\nsignal {signal}, code {code}, at {:p}; in native code:",
                info.si_addr()
            )
        } else {
            writeln!(rest, "\nsignal {signal}, sent by process {}; in native code:", info.si_pid())
        }
    };
    let left = rest.len();
    if done.is_ok() {
        let len = text.len() - left;
        write_stack(&text[..len]);
    }
}

/// Write down something, and where this process is in native code, to where `trace_faults` was told.
pub fn write_stack(text: &[u8]) {
    let fd = TO.load(Ordering::Relaxed);
    let mut frames = [std::ptr::null_mut(); FRAMES];
    // SAFETY: arrays of these lengths.
    unsafe {
        libc::write(fd, text.as_ptr().cast(), text.len());
        let count = backtrace(frames.as_mut_ptr(), FRAMES as c_int);
        let mut was_python = false;
        for frame in &frames[..count as usize] {
            let is_python = is_interpreters(*frame);
            if !(is_python && was_python) {
                backtrace_symbols_fd(frame, 1, fd);
            }
            was_python = is_python;
        }
    }
}

/// Whether code is the interpreter's: dozens of such frames in a row would hide the others.
///
/// # Safety
/// As in a handler of a fault.
unsafe fn is_interpreters(frame: *mut c_void) -> bool {
    // SAFETY: a struct of pointers, which the call fills; a name is a C string.
    unsafe {
        let mut found: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(frame, &raw mut found) == 0 || found.dli_fname.is_null() {
            return false;
        }
        let name = std::ffi::CStr::from_ptr(found.dli_fname).to_bytes();
        let base = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
        [&b"libpython"[..], b"python"].iter().any(|begin| base.starts_with(begin))
    }
}
