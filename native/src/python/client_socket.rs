//! `ClientSocket`: requests of a client, and their replies.

use super::convert::deadline_of_timeout;
use super::errors::LinkBroken;
use super::msgpack;
use super::secure_channel::PySecureChannel;
use crate::net::client_protocol::Fate;
use crate::net::client_socket::{ClientSocket, Waited};
use crate::net::msgpack::{Budget, VALUES};
use crate::sys::deadline::Deadline;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use pyo3::types::PyList;

/// A connection of a client, after its handshake.
#[pyclass(frozen, weakref, name = "ClientSocket", module = "garrison._core")]
pub struct PyClientSocket {
    pub socket: ClientSocket,
    requests: Budget,
}

#[pymethods]
impl PyClientSocket {
    /// Take over a socket, which must be one that blocks, and the connection on it.
    #[new]
    fn new(channel: &mut PySecureChannel, fd: i32) -> PyResult<Self> {
        let socket = ClientSocket::new::<PyErr>(&mut channel.channel, fd)?;
        Ok(Self { socket, requests: channel.written })
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
        let deadline = deadline_of_timeout(timeout)?;
        let number = self.put(verb, fields, true)?;
        let waited = self.wait(py, number, &deadline);
        if !matches!(waited, Ok(Some(_))) {
            self.socket.cancel(number);
        }
        waited.map(|reply| reply.expect("nobody else knows the number"))
    }

    /// Send what is queued, as far as it goes without waiting; a wait sends the rest.
    fn flush(&self) {
        self.socket.flush();
    }

    /// Why nothing can be asked any more, or None.
    #[getter]
    fn broken(&self) -> Option<String> {
        self.socket.end_reason()
    }

    /// End the connection; threads that wait for replies learn the reason.
    fn close(&self, reason: String) {
        self.socket.close(reason);
    }

    /// In a forked child: close this process's descriptor and leave the connection to the parent.
    fn abandon(&self) {
        self.socket.abandon();
    }
}

impl PyClientSocket {
    /// Queue a request; its number. It is sent now, or by `flush`, or with others.
    pub fn put(&self, verb: u8, fields: &Bound<'_, PyAny>, at_once: bool) -> PyResult<u32> {
        let mut payload = Vec::with_capacity(64);
        msgpack::write(fields, &mut payload, self.requests)?;
        Ok(self.socket.ask(verb, &payload, at_once)?)
    }

    /// Wait for the reply to a request; None if another thread has taken it.
    pub fn wait<'py>(
        &self,
        py: Python<'py>,
        number: u32,
        deadline: &Deadline,
    ) -> PyResult<Option<(u8, Bound<'py, PyList>)>> {
        match self.socket.wait(py, number, deadline)? {
            Waited::Reply(status, payload) => {
                let fields = msgpack::read(py, &payload, Budget::new(VALUES))?;
                Ok(Some((status, fields)))
            }
            Waited::Ended(end, fate) => {
                let unknown = fate == Fate::Unknown;
                Err(LinkBroken::new_err((end.reason, unknown, end.for_good)))
            }
            Waited::Taken => Ok(None),
            Waited::TimedOut => Err(PyTimeoutError::new_err("no reply in time")),
        }
    }
}
