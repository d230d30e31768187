//! A descriptor that is readable exactly while a queue has an item, for waits on several.
//!
//! ```text
//! queue empty      pipe empty       the thread sleeps where getters sleep
//! an item          one byte in it   the thread sleeps where putters sleep
//! ```
//! A thread of this process keeps the pipe in step with the queue, whichever process has put or
//! taken; it needs no GIL. What this process itself puts and takes is in the pipe when the call
//! returns, so that no thread is told of an item that it has taken itself. A forked child has
//! no such thread, and makes a pipe of its own when it asks for one.
//!
//! The thread tells how much it has seen. A process that has put or taken waits for that at its end
//! (`Queue::await_watch`), so that the descriptor is right when the process is seen to have ended.

use super::file::QueueFile;
use super::shared::QueueShared;
use crate::sys::atomic::{fence, Ordering};
use crate::sys::deadline::LIVENESS_CHECK_INTERVAL;
use crate::sys::futex;
use crate::sys::process::generation;
use std::io::{Error, Result};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A pipe, by the numbers of its ends and by what they must be: a number alone may be another
/// file's by now.
#[derive(Debug)]
struct Pipe {
    reading: i32,
    writing: i32,
    identity: (u64, u64),
}

fn identity(fd: i32) -> Option<(u64, u64)> {
    // SAFETY: an all-zero stat is one, and the call fills it or fails.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    let known = unsafe { libc::fstat(fd, &raw mut found) } == 0;
    known.then_some((found.st_dev, found.st_ino))
}

impl Pipe {
    fn new() -> Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: writes two numbers.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } == -1 {
            return Err(Error::last_os_error());
        }
        let [reading, writing] = ends;
        let identity = identity(reading).ok_or_else(Error::last_os_error)?;
        Ok(Self { reading, writing, identity })
    }

    fn is_ours(&self, fd: i32) -> bool {
        identity(fd) == Some(self.identity)
    }

    fn fill(&self) {
        if self.is_ours(self.writing) {
            // SAFETY: one byte of a constant.
            unsafe { libc::write(self.writing, [1_u8].as_ptr().cast(), 1) };
        }
    }

    fn drain(&self) {
        let mut byte = 0_u8;
        if self.is_ours(self.reading) {
            // SAFETY: one byte into a local.
            unsafe { libc::read(self.reading, (&raw mut byte).cast(), 1) };
        }
    }

    /// Take over the numbers of another pipe, whose ends they are no longer.
    fn replace(&mut self, other: &Pipe) {
        for (mine, theirs) in
            [(&mut self.reading, other.reading), (&mut self.writing, other.writing)]
        {
            // SAFETY: both are pipe ends of ours (checked), and no thread here uses the other pipe.
            if other.is_ours(theirs) && unsafe { libc::dup3(*mine, theirs, libc::O_CLOEXEC) } != -1
            {
                unsafe { libc::close(*mine) };
                *mine = theirs;
            }
        }
    }

    fn close(&self) {
        for fd in [self.reading, self.writing] {
            if self.is_ours(fd) {
                // SAFETY: an end of ours.
                unsafe { libc::close(fd) };
            }
        }
    }
}

#[derive(Debug)]
struct Signal {
    file: Arc<QueueFile>,
    /// This process, as an owner.
    me: u32,
    pipe: Pipe,
    /// Whether there is a byte in the pipe.
    up: Mutex<bool>,
    over: AtomicBool,
}

impl Drop for Signal {
    fn drop(&mut self) {
        self.pipe.close();
    }
}

impl Signal {
    /// Bring the pipe in step with the queue; whether there is an item.
    fn refresh(&self) -> bool {
        let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = self.file.log().changes();
        let some = !self.file.log().is_empty();
        if some != *up && !self.over.load(Ordering::Relaxed) {
            if some {
                self.pipe.fill();
            } else {
                self.pipe.drain();
            }
            *up = some;
        }
        let shared = self.file.shared();
        if shared.seen.swap(changes, Ordering::SeqCst) != changes {
            futex::wake(&shared.seen, i32::MAX);
        }
        some
    }

    fn follow(&self) {
        let shared = self.file.shared();
        while !self.over.load(Ordering::Relaxed) {
            let up = self.refresh();
            let bell = if up { &shared.putters } else { &shared.getters };
            let count = bell.prepare();
            if self.file.log().is_empty() != up && !self.over.load(Ordering::Relaxed) {
                futex::wait(&bell.count, count, LIVENESS_CHECK_INTERVAL);
            }
        }
    }
}

/// A queue's descriptor in this process.
#[derive(Debug)]
pub struct Watch {
    signal: Arc<Signal>,
    generation: u64,
}

impl Watch {
    /// Start to watch; `before` is what the process that this one was forked from had.
    pub fn new(file: &Arc<QueueFile>, me: u32, before: Option<Self>) -> Result<Self> {
        let mut pipe = Pipe::new()?;
        if let Some(before) = before {
            pipe.replace(&before.signal.pipe);
        }
        let (file, over) = (file.clone(), AtomicBool::new(false));
        // Each putter or taker has to wake more than one from now on.
        file.shared().wake_all.fetch_or(QueueShared::WATCHED, Ordering::SeqCst);
        let signal = Arc::new(Signal { file, me, pipe, up: Mutex::new(false), over });
        signal.refresh();
        let followed = signal.clone();
        let thread = thread::Builder::new().name("garrison-watch".into()).stack_size(64 << 10);
        without_signals(|| thread.spawn(move || followed.follow()))?;
        Ok(Self { signal, generation: generation() })
    }

    /// Whether its thread is one of this process.
    pub fn is_here(&self) -> bool {
        self.generation == generation()
    }

    /// Have other processes wait at their end for what this one has seen.
    pub fn announce(&self) {
        self.signal.file.shared().watcher.store(self.signal.me, Ordering::SeqCst);
        // [put->watched] pairs with the fence in wake(): we see the item, or its process sees us
        fence(Ordering::SeqCst);
        self.signal.refresh();
    }

    pub fn descriptor(&self, putting: bool) -> i32 {
        let pipe = &self.signal.pipe;
        // There is never more than a byte in the pipe.
        if putting {
            pipe.writing
        } else {
            pipe.reading
        }
    }

    /// Bring the descriptor in step at once.
    pub fn refresh(&self) {
        if self.is_here() {
            self.signal.refresh();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_here() {
            // The thread that would close it has stayed in the parent.
            return self.signal.pipe.close();
        }
        self.signal.over.store(true, Ordering::Relaxed);
        let shared = self.signal.file.shared();
        let me = self.signal.me;
        let _ = shared.watcher.compare_exchange(me, 0, Ordering::SeqCst, Ordering::SeqCst);
        futex::wake(&shared.seen, i32::MAX);
        for bell in [&shared.getters, &shared.putters] {
            futex::wake(&bell.count, i32::MAX);
        }
    }
}

/// Start a thread that has all signals blocked: they are for the threads that the program knows.
fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: fills local sets and changes this thread's own mask, which the new one inherits.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let started = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        started
    }
}
