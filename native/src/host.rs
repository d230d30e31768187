//! What the core needs of the program around it. For a Python program that is the interpreter;
//! tests have none.

use crate::owners::wait_graph::WaiterInfo;
use std::borrow::Cow;
use std::cell::{RefCell, RefMut};

/// The program around the core, as seen by a thread that may have to wait.
pub trait Host: Copy {
    /// What ends an operation early; in Python any exception.
    type Error: From<Failure>;

    /// Run something that takes a while and calls nothing of the host: other threads go on.
    fn blocking<T>(self, run: impl FnOnce() -> T) -> T;

    /// Run the handlers of signals that have arrived. An error of theirs ends the wait.
    fn check_signals(self) -> Result<(), Self::Error>;

    /// Where in the program the calling thread is, to be shown to others.
    fn location(self) -> String {
        String::new()
    }
}

/// What the core itself has to refuse.
#[derive(Debug)]
pub enum Failure {
    /// The system refused memory, or a descriptor, for this purpose.
    System { error: std::io::Error, what: Cow<'static, str> },
    /// The system refused something else.
    Io(std::io::Error),
    /// A signal handler has forked in the middle of a wait, and this is the child.
    ForkedWhileWaiting,
    /// These wait for each other.
    Deadlock(Vec<WaiterInfo>),
    /// Released more often than acquired.
    NotHeld,
    /// A recursive lock is held by another thread.
    NotOwner,
    /// The caller does not hold the condition's lock.
    ConditionNotOwned(&'static str),
    /// So many wait for one condition already.
    ConditionFull(usize),
    /// An item of so many bytes does not fit beside others.
    ItemTooLarge(&'static str),
    /// What should be items one after the other is not.
    Torn(&'static str),
    /// As many tasks as there can be are waiting or at work.
    TableFull(usize),
    /// The workers do not know this function.
    UnknownFunction(u32),
    /// The pool is of the process that this one was forked from.
    OtherProcess,
    /// The call does not fit the state of a task or a worker.
    WrongState(&'static str),
}

impl Failure {
    /// For `map_err`: what an error of the system was about.
    pub fn of(what: impl Into<Cow<'static, str>>) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self::System { error, what: what.into() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// A program without an interpreter and without signals.
#[cfg(all(test, loom))]
#[derive(Debug, Clone, Copy)]
pub struct NoHost;

#[cfg(all(test, loom))]
impl Host for NoHost {
    type Error = Failure;

    fn blocking<T>(self, run: impl FnOnce() -> T) -> T {
        run()
    }

    fn check_signals(self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A host that one thread at a time has, but for what runs in `blocking`: in Python the GIL.
///
/// # Safety
/// While a thread has such a host and is not in `blocking`, no other thread has one.
pub unsafe trait ExclusiveHost: Host {}

/// State of a process that only threads with the host look at.
#[derive(Debug, Default)]
pub struct HostCell<T>(RefCell<T>);

// SAFETY: borrowed only by the one thread that has the host.
unsafe impl<T: Send> Sync for HostCell<T> {}

impl<T> HostCell<T> {
    pub fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    /// Not to be kept while something is `blocking`, nor while code of the host runs.
    #[inline]
    pub fn borrow<H: ExclusiveHost>(&self, _host: H) -> RefMut<'_, T> {
        self.0.borrow_mut()
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}
