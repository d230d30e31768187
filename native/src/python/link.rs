//! `Link`: a client's socket. Whoever waits first reads and writes for all, without the GIL.

use super::errors::LinkBroken;
use super::fields;
use super::finalizing::without_gil;
use super::noise::Noise;
use super::socket::{self, is_passing, RECEIVE};
use crate::net::client::{Client, End, Fate};
use crate::sys::deadline::Deadline;
use crate::sys::deadline::LIVENESS_CHECK_INTERVAL;
use crate::sys::descriptor::{file_behind, File};
use pyo3::exceptions::{PyOverflowError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::io::{Error, ErrorKind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Requests that are only queued are sent when they are that many bytes.
const QUEUED: usize = 1 << 16;
const GONE: i32 = -1;
/// A server that was heard so short a time ago is there.
const FRESH: Duration = Duration::from_millis(2);

/// A connection of a client, after its handshake.
#[pyclass(frozen, weakref, module = "garrison._core")]
pub struct Link {
    fd: AtomicI32,
    file: Option<File>,
    most: usize,
    state: Mutex<State>,
    /// Something came, or a role is free.
    news: Condvar,
}

struct State {
    client: Client,
    scratch: Vec<u8>,
    reading: bool,
    writing: bool,
    sleepers: usize,
    /// When something came last.
    heard: Instant,
}

/// How one slice of waiting has ended.
enum Turn {
    Reply(u8, Vec<u8>),
    End(End, Fate),
    /// Nobody may expect a reply to this.
    Gone,
    Nothing,
}

#[pymethods]
impl Link {
    /// Take over a socket, which must be one that blocks, and the connection on it.
    #[new]
    fn new(noise: &mut Noise, fd: i32) -> PyResult<Self> {
        limit_waits(fd)?;
        let (channel, most) = noise.hand_over()?;
        let state = State {
            client: Client::new(channel),
            scratch: Vec::new(),
            reading: false,
            writing: false,
            sleepers: 0,
            heard: Instant::now(),
        };
        let file = file_behind(fd);
        Ok(Self {
            fd: AtomicI32::new(fd),
            file,
            most,
            state: Mutex::new(state),
            news: Condvar::new(),
        })
    }

    /// Send a request and wait for its reply: its status and its fields.
    #[pyo3(signature = (verb, fields, timeout=None))]
    fn ask<'py>(
        &self,
        py: Python<'py>,
        verb: u8,
        fields: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(u8, Bound<'py, PyList>)> {
        let patience = crate::python::convert::deadline_of_timeout(timeout)?;
        let payload = self.encoded(fields)?;
        let number = {
            let mut state = self.lock();
            state.notice_end(self.fd());
            let number = state.client.ask(verb, &payload);
            state.send(self.fd());
            number
        };
        drop(payload);
        let waited = self.wait_for(py, number, &patience);
        if !matches!(waited, Ok(Some(_))) {
            self.forget(number);
        }
        waited.map(|reply| reply.expect("nobody else knows the number"))
    }

    /// Send what is queued, as far as it goes without waiting; `wait` sends the rest.
    fn flush(&self) {
        self.lock().send(self.fd());
    }

    /// Why nothing can be asked any more, or None.
    #[getter]
    fn broken(&self) -> Option<String> {
        self.lock().client.end().map(|end| end.reason.clone())
    }

    /// Take in what came while nobody waited, such as a farewell; whether the link still stands.
    fn look(&self) -> bool {
        let mut state = self.lock();
        if !state.reading && state.client.end().is_none() {
            state.receive_all(self.fd());
        }
        state.client.end().is_none()
    }

    /// End the connection: who waits is told why.
    fn close(&self, reason: String) {
        let fd = self.fd();
        let mut state = self.lock();
        state.client.finish(reason);
        if fd != GONE {
            // SAFETY: the descriptor is ours until this object is dropped.
            unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
        }
        self.tell(&state);
        if !state.reading && !state.writing {
            self.close_fd();
        }
    }

    /// In a forked child: close this process's descriptor and leave the connection to the parent.
    fn abandon(&self) {
        // Not locked: the thread that has the lock may not exist here.
        self.close_fd();
    }
}

impl Link {
    /// The socket; none if the program has closed it, and the number is another file's by now.
    fn fd(&self) -> i32 {
        let fd = self.fd.load(Ordering::Relaxed);
        if file_behind(fd) == self.file {
            fd
        } else {
            GONE
        }
    }

    /// Never held while a system call waits, nor while Python runs.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("never poisoned")
    }

    fn encoded(&self, fields: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
        let mut payload = Vec::with_capacity(64);
        fields::write(fields, &mut payload)?;
        if payload.len() > self.most {
            return Err(PyOverflowError::new_err(format!(
                "a message of {} bytes, and {} are the limit (max_message); send it in pieces",
                payload.len(),
                self.most
            )));
        }
        Ok(payload)
    }

    /// Queue a request: its number. It is sent by `flush`, or with others.
    pub fn put(&self, verb: u8, fields: &Bound<'_, PyAny>) -> PyResult<u32> {
        let payload = self.encoded(fields)?;
        let mut state = self.lock();
        state.notice_end(self.fd());
        let number = state.client.ask(verb, &payload);
        if state.client.owed() > QUEUED {
            state.send(self.fd());
        }
        Ok(number)
    }

    /// Drop the reply to a request when it comes, and tell the server that nobody waits for it.
    fn forget(&self, number: u32) {
        let mut state = self.lock();
        state.client.forget(number);
        state.send(self.fd());
    }

    /// Drop the reply to a request when it comes.
    pub fn ignore(&self, number: u32) {
        self.lock().client.ignore(number);
    }

    /// Wait for the reply to a request; None if it was taken already.
    pub fn wait_for<'py>(
        &self,
        py: Python<'py>,
        number: u32,
        patience: &Deadline,
    ) -> PyResult<Option<(u8, Bound<'py, PyList>)>> {
        loop {
            match without_gil(py, || self.turn(number, patience)) {
                Turn::Reply(status, payload) => {
                    return match fields::read(py, &payload) {
                        Ok(fields) => Ok(Some((status, fields))),
                        Err(error) => Err(error.into()),
                    }
                }
                Turn::End(end, fate) => {
                    let unknown = fate == Fate::Unknown;
                    return Err(LinkBroken::new_err((end.reason, unknown, end.for_good)));
                }
                Turn::Gone => return Ok(None),
                Turn::Nothing => {}
            }
            py.check_signals()?;
            if patience.is_over() {
                return Err(PyTimeoutError::new_err("no reply in time"));
            }
        }
    }

    /// Wait for at most a slice, in whatever role is free.
    fn turn(&self, number: u32, patience: &Deadline) -> Turn {
        let fd = self.fd();
        let limit = patience.left().min(LIVENESS_CHECK_INTERVAL);
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            if let Some((status, payload)) = state.client.reply(number) {
                return Turn::Reply(status, payload);
            }
            if !state.client.expects(number) {
                return Turn::Gone;
            }
            if let Some(end) = state.client.end() {
                return Turn::End(end.clone(), state.client.fate(number));
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Turn::Nothing;
            }
            let (reads, writes) = (!state.reading, !state.writing && state.client.owed() > 0);
            if !reads && !writes {
                state.sleepers += 1;
                (state, _) = self.news.wait_timeout(state, left).expect("never poisoned");
                state.sleepers -= 1;
                continue;
            }
            state.reading |= reads;
            state.writing |= writes;
            let interrupted;
            if reads && !state.client.owed() > 0 && left > LIVENESS_CHECK_INTERVAL / 2 {
                // One system call instead of two.
                let mut scratch = state.scratch();
                drop(state);
                let came = socket::receive(fd, &mut scratch, true);
                state = self.lock();
                state.scratch = scratch;
                interrupted = !state.took(came);
                state.reading = false;
            } else {
                drop(state);
                interrupted = !poll(fd, reads, writes, left);
                state = self.lock();
                if reads {
                    state.reading = false;
                    state.receive(fd);
                }
            }
            if writes {
                state.writing = false;
                state.send(fd);
            }
            self.tell(&state);
            if interrupted {
                return Turn::Nothing;
            }
        }
    }

    fn tell(&self, state: &State) {
        if state.sleepers > 0 {
            self.news.notify_all();
        }
    }
}

impl Link {
    fn close_fd(&self) {
        let fd = self.fd.swap(GONE, Ordering::Relaxed);
        if fd != GONE && file_behind(fd) == self.file {
            // SAFETY: the descriptor was ours, and nobody else closes it.
            unsafe { libc::close(fd) };
        }
    }
}

impl State {
    /// Send what can be sent without waiting.
    fn send(&mut self, fd: i32) {
        while self.client.end().is_none() {
            let data = match self.client.to_send() {
                Ok([]) => return,
                Ok(data) => data,
                Err(fault) => return self.client.finish(fault.to_string()),
            };
            match socket::send(fd, data) {
                Ok(count) => self.client.was_sent(count),
                Err(error) => return self.sending_failed(fd, &error),
            }
        }
    }

    fn sending_failed(&mut self, fd: i32, error: &Error) {
        if !is_passing(error) {
            // The server's last words may still be there to be read.
            self.receive_all(fd);
            self.client.finish(format!("sending to the server failed: {error}"));
        }
    }

    fn scratch(&mut self) -> Vec<u8> {
        let scratch = std::mem::take(&mut self.scratch);
        if scratch.is_empty() {
            return vec![0; RECEIVE];
        }
        scratch
    }

    /// Read once without waiting; whether there may be more.
    fn receive(&mut self, fd: i32) -> bool {
        self.scratch = self.scratch();
        let came = socket::receive(fd, &mut self.scratch, false);
        let full = came.as_ref().is_ok_and(|&count| count == RECEIVE);
        self.took(came);
        full
    }

    /// See whether the server has gone while nobody read: what is sent now would be of unknown fate.
    fn notice_end(&mut self, fd: i32) {
        let unheard = !self.reading && self.client.end().is_none() && self.heard.elapsed() > FRESH;
        if unheard {
            self.receive_all(fd);
            self.heard = Instant::now();
        }
    }

    /// What lies in `scratch` has come; false if nothing has because a signal or the time did.
    fn took(&mut self, came: Result<usize, Error>) -> bool {
        match came {
            Ok(0) => self.client.finish("the server has closed the connection".to_owned()),
            Ok(count) => {
                self.heard = Instant::now();
                if let Err(fault) = self.client.feed(&self.scratch[..count]) {
                    self.client.finish(format!("the server has sent {fault}"));
                }
            }
            Err(error) if is_passing(&error) => return false,
            Err(error) => {
                self.client.finish(format!("receiving from the server failed: {error}"));
            }
        }
        true
    }

    fn receive_all(&mut self, fd: i32) {
        while self.receive(fd) && self.client.end().is_none() {}
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close_fd();
    }
}

/// No `recv` that waits does so for longer than a slice.
fn limit_waits(fd: i32) -> Result<(), Error> {
    let time = libc::timeval {
        tv_sec: 0,
        tv_usec: LIVENESS_CHECK_INTERVAL.as_micros() as libc::suseconds_t,
    };
    let size = size_of::<libc::timeval>() as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVTIMEO);
    // SAFETY: points to a local of the size that is told.
    let done = unsafe { libc::setsockopt(fd, level, option, (&raw const time).cast(), size) };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}

/// Wait until the socket can be used; false if a signal came first.
fn poll(fd: i32, reads: bool, writes: bool, limit: Duration) -> bool {
    let wanted = if reads { libc::POLLIN } else { 0 } | if writes { libc::POLLOUT } else { 0 };
    let mut entry = libc::pollfd { fd, events: wanted, revents: 0 };
    let time = libc::timespec {
        tv_sec: limit.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos() as i32),
    };
    // SAFETY: both point to locals, and no signal mask is given.
    let found = unsafe { libc::ppoll(&raw mut entry, 1, &raw const time, std::ptr::null()) };
    found >= 0 || Error::last_os_error().kind() != ErrorKind::Interrupted
}
