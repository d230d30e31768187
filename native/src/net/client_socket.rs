//! A client's socket. The thread that waits first reads and writes for all.

use super::client_protocol::{ClientProtocol, End, Fate};
use super::secure_channel::SecureChannel;
use super::socket::{self, is_passing, RECEIVE};
use super::MessageTooLong;
use crate::host::Host;
use crate::sys::deadline::{Deadline, LIVENESS_CHECK_INTERVAL};
use crate::sys::descriptor::{file_behind, File};
use std::io::{Error, Result};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Requests that are only queued are sent when they are that many bytes.
const QUEUED: usize = 1 << 16;
const CLOSED: i32 = -1;
/// A server that was heard so recently is there.
const FRESH: Duration = Duration::from_millis(2);

/// A connection of a client, after its handshake.
#[derive(Debug)]
pub struct ClientSocket {
    fd: AtomicI32,
    file: Option<File>,
    max_message: usize,
    state: Mutex<State>,
    /// Something came, or a role is free.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    protocol: ClientProtocol,
    scratch: Vec<u8>,
    reading: bool,
    writing: bool,
    sleepers: usize,
    /// When something came last.
    heard: Instant,
}

/// How a wait for a reply has ended.
#[derive(Debug)]
pub enum Waited {
    /// The reply's status and its payload.
    Reply(u8, Vec<u8>),
    Ended(End, Fate),
    /// No reply to expect: another thread has taken it.
    Taken,
    TimedOut,
}

/// What one thread does for all.
#[derive(Clone, Copy)]
struct Role {
    reads: bool,
    writes: bool,
}

impl ClientSocket {
    /// Take over a socket, which must be one that blocks, and the connection on it.
    pub fn new<E>(channel: &mut SecureChannel, fd: i32) -> std::result::Result<Self, E>
    where
        E: From<Error> + From<super::ProtocolError>,
    {
        socket::limit_waits(fd)?;
        let max_message = channel.max_message();
        let state = State {
            protocol: ClientProtocol::new(channel.hand_over()?),
            scratch: Vec::new(),
            reading: false,
            writing: false,
            sleepers: 0,
            heard: Instant::now(),
        };
        let (fd, file) = (AtomicI32::new(fd), file_behind(fd));
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok(Self { fd, file, max_message, state, changed })
    }

    /// Queue a request; its number. It is sent now, or with others.
    pub fn ask(
        &self,
        verb: u8,
        payload: &[u8],
        at_once: bool,
    ) -> std::result::Result<u32, MessageTooLong> {
        MessageTooLong::check(payload.len(), self.max_message)?;
        let mut state = self.lock();
        let fd = self.fd();
        state.notice_end(fd);
        let number = state.protocol.ask(verb, payload);
        if at_once || state.protocol.unsent() > QUEUED {
            state.send(fd);
        }
        Ok(number)
    }

    /// Send what is queued, as far as it goes without waiting; `wait` sends the rest.
    pub fn flush(&self) {
        self.lock().send(self.fd());
    }

    /// Why nothing can be asked any more, if that is so.
    pub fn end_reason(&self) -> Option<String> {
        self.lock().protocol.end().map(|end| end.reason.clone())
    }

    /// End the connection; threads that wait for replies learn the reason.
    pub fn close(&self, reason: String) {
        let mut state = self.lock();
        let fd = self.fd();
        state.protocol.finish(reason);
        if fd != CLOSED {
            socket::shut_down(fd);
        }
        self.notify(&state);
        if !state.reading && !state.writing {
            self.close_fd();
        }
    }

    /// In a forked child: close this process's descriptor and leave the connection to the parent.
    pub fn abandon(&self) {
        // Not locked: the thread that has the lock may not exist here.
        self.close_fd();
    }

    /// Drop the reply to a request when it comes, and tell the server that no caller waits for it.
    pub fn cancel(&self, number: u32) {
        let mut state = self.lock();
        state.protocol.cancel(number);
        state.send(self.fd());
    }

    /// Drop the reply to a request when it comes.
    pub fn ignore(&self, number: u32) {
        self.lock().protocol.ignore(number);
    }

    /// Wait for the reply to a request.
    pub fn wait<H: Host>(
        &self,
        host: H,
        number: u32,
        deadline: &Deadline,
    ) -> std::result::Result<Waited, H::Error> {
        loop {
            if let Some(waited) = host.blocking(|| self.wait_interval(number, deadline)) {
                return Ok(waited);
            }
            host.check_signals()?;
            if deadline.is_over() {
                return Ok(Waited::TimedOut);
            }
        }
    }

    /// Wait for at most an interval, in whatever role is free.
    fn wait_interval(&self, number: u32, deadline: &Deadline) -> Option<Waited> {
        let fd = self.fd();
        let limit = deadline.left().min(LIVENESS_CHECK_INTERVAL);
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            if let Some(waited) = state.outcome(number) {
                return Some(waited);
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return None;
            }
            let writes = !state.writing && state.protocol.unsent() > 0;
            let role = Role { reads: !state.reading, writes };
            if role.reads || role.writes {
                let interrupted;
                (state, interrupted) = self.serve(state, fd, role, left);
                if interrupted {
                    return None;
                }
            } else {
                state.sleepers += 1;
                (state, _) = self.changed.wait_timeout(state, left).expect("never poisoned");
                state.sleepers -= 1;
            }
        }
    }

    /// Read and write once for all; whether a signal or the time has interrupted that.
    fn serve<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        fd: i32,
        role: Role,
        left: Duration,
    ) -> (MutexGuard<'a, State>, bool) {
        state.reading |= role.reads;
        state.writing |= role.writes;
        let interrupted;
        if role.reads && state.protocol.unsent() == 0 && left > LIVENESS_CHECK_INTERVAL / 2 {
            // One system call instead of two.
            let mut scratch = state.take_scratch();
            drop(state);
            let came = socket::receive(fd, &mut scratch, true);
            state = self.lock();
            state.scratch = scratch;
            interrupted = !state.received(came);
            state.reading = false;
        } else {
            drop(state);
            interrupted = !socket::poll(fd, role.reads, role.writes, left);
            state = self.lock();
            if role.reads {
                state.reading = false;
                state.receive(fd);
            }
        }
        if role.writes {
            state.writing = false;
            state.send(fd);
        }
        self.notify(&state);
        (state, interrupted)
    }

    fn notify(&self, state: &State) {
        if state.sleepers > 0 {
            self.changed.notify_all();
        }
    }

    /// The socket; none if the program has closed it, and the number is another file's by now.
    fn fd(&self) -> i32 {
        let fd = self.fd.load(Ordering::Relaxed);
        if file_behind(fd) == self.file {
            fd
        } else {
            CLOSED
        }
    }

    /// Never held while a system call waits, nor while code of the host runs.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("never poisoned")
    }

    fn close_fd(&self) {
        let fd = self.fd.swap(CLOSED, Ordering::Relaxed);
        if fd != CLOSED && file_behind(fd) == self.file {
            socket::close(fd);
        }
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        self.close_fd();
    }
}

impl State {
    /// How the wait for this reply has ended, if it has.
    fn outcome(&mut self, number: u32) -> Option<Waited> {
        if let Some((status, payload)) = self.protocol.reply(number) {
            return Some(Waited::Reply(status, payload));
        }
        if !self.protocol.expects(number) {
            return Some(Waited::Taken);
        }
        let end = self.protocol.end()?.clone();
        Some(Waited::Ended(end, self.protocol.fate(number)))
    }

    /// Send what can be sent without waiting.
    fn send(&mut self, fd: i32) {
        while self.protocol.end().is_none() {
            let data = match self.protocol.unsent_bytes() {
                Ok([]) => return,
                Ok(data) => data,
                Err(error) => return self.protocol.finish(error.to_string()),
            };
            match socket::send(fd, data) {
                Ok(count) => self.protocol.was_sent(count),
                Err(error) => return self.sending_failed(fd, &error),
            }
        }
    }

    fn sending_failed(&mut self, fd: i32, error: &Error) {
        if !is_passing(error) {
            // The server's last words may still be there to be read.
            self.receive_all(fd);
            self.protocol.finish(format!("sending to the server failed: {error}"));
        }
    }

    fn take_scratch(&mut self) -> Vec<u8> {
        let scratch = std::mem::take(&mut self.scratch);
        if scratch.is_empty() {
            return vec![0; RECEIVE];
        }
        scratch
    }

    /// Read once without waiting; whether there may be more.
    fn receive(&mut self, fd: i32) -> bool {
        self.scratch = self.take_scratch();
        let came = socket::receive(fd, &mut self.scratch, false);
        let full = came.as_ref().is_ok_and(|&count| count == RECEIVE);
        self.received(came);
        full
    }

    fn receive_all(&mut self, fd: i32) {
        while self.receive(fd) && self.protocol.end().is_none() {}
    }

    /// See whether the server has gone while no thread read: a request sent now has no known fate.
    fn notice_end(&mut self, fd: i32) {
        let unheard =
            !self.reading && self.protocol.end().is_none() && self.heard.elapsed() > FRESH;
        if unheard {
            self.receive_all(fd);
            self.heard = Instant::now();
        }
    }

    /// What lies in `scratch` has come; false if nothing has because a signal or the time did.
    fn received(&mut self, came: Result<usize>) -> bool {
        match came {
            Ok(0) => self.protocol.finish("the server has closed the connection".to_owned()),
            Ok(count) => {
                self.heard = Instant::now();
                if let Err(error) = self.protocol.feed(&self.scratch[..count]) {
                    self.protocol.finish(format!("the server has sent {error}"));
                }
            }
            Err(error) if is_passing(&error) => return false,
            Err(error) => {
                self.protocol.finish(format!("receiving from the server failed: {error}"));
            }
        }
        true
    }
}
