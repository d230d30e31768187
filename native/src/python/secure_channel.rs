//! `SecureChannel`: both ends of an encrypted connection.

use super::errors::ChannelError;
use super::msgpack;
use crate::net::msgpack::{Budget, VALUES};
use crate::net::secure_channel::{Identity, Received, SecureChannel};
use crate::net::{Limits, MessageTooLong, ProtocolError};
use pyo3::exceptions::{PyEOFError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::time::Duration;

impl From<ProtocolError> for PyErr {
    fn from(error: ProtocolError) -> Self {
        ChannelError::new_err(error.to_string())
    }
}

impl From<MessageTooLong> for PyErr {
    fn from(error: MessageTooLong) -> Self {
        PyOverflowError::new_err(error.to_string())
    }
}

fn key_of(bytes: &[u8], name: &str) -> PyResult<[u8; 32]> {
    bytes.try_into().map_err(|_| PyValueError::new_err(format!("{name} must have 32 bytes")))
}

/// A new key pair of a server: private and public key.
#[pyfunction]
pub fn generate_identity(py: Python<'_>) -> PyResult<(Bound<'_, PyBytes>, Bound<'_, PyBytes>)> {
    let made = Identity::generate()?;
    Ok((PyBytes::new(py, &made.private), PyBytes::new(py, &made.public)))
}

/// One end of a connection: its handshake, then records, then frames.
#[pyclass(name = "SecureChannel", module = "garrison._core")]
pub struct PySecureChannel {
    pub channel: SecureChannel,
    /// Of each message to the other side: a client keeps to what a server accepts.
    pub written: Budget,
    /// Of each message of the other side.
    read: Budget,
}

#[pymethods]
impl PySecureChannel {
    #[new]
    #[pyo3(signature = (initiator, psk, prologue, max_frame=1 << 28, max_message=1 << 32, max_values=1 << 25, private=None))]
    fn new(
        initiator: bool,
        psk: &[u8],
        prologue: &[u8],
        max_frame: usize,
        max_message: usize,
        max_values: usize,
        private: Option<&[u8]>,
    ) -> PyResult<Self> {
        let psk = key_of(psk, "psk")?;
        let limits = Limits { frame: max_frame, message: max_message };
        let channel = match (initiator, private) {
            (true, _) => SecureChannel::of_client(&psk, prologue, limits),
            (false, Some(private)) => {
                SecureChannel::of_server(&psk, prologue, limits, &key_of(private, "private")?)
            }
            (false, None) => Identity::generate().and_then(|identity| {
                SecureChannel::of_server(&psk, prologue, limits, &identity.private)
            }),
        };
        let channel = channel.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let (requests, most) = (Budget::new(max_values), Budget::new(VALUES));
        let (written, read) =
            if initiator { (requests, most) } else { (Budget::UNLIMITED, requests) };
        Ok(Self { channel, written, read })
    }

    /// The next message of the handshake.
    #[pyo3(signature = (payload=b"".as_slice()))]
    fn write_handshake<'py>(
        &mut self,
        py: Python<'py>,
        payload: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut message = [0; SecureChannel::MAX_HANDSHAKE];
        let length = self.channel.write_handshake(payload, &mut message)?;
        Ok(PyBytes::new(py, &message[..length]))
    }

    /// Read the other side's; its payload.
    fn read_handshake<'py>(
        &mut self,
        py: Python<'py>,
        message: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut payload = [0; SecureChannel::MAX_HANDSHAKE];
        let length = self.channel.read_handshake(message, &mut payload)?;
        Ok(PyBytes::new(py, &payload[..length]))
    }

    /// The server's public key, at the client's end after the handshake.
    #[getter]
    fn server(&self) -> Option<&[u8]> {
        self.channel.server().map(|key| key.as_slice())
    }

    #[getter]
    fn finished(&self) -> bool {
        self.channel.is_open()
    }

    /// Seal bytes, without frames.
    fn seal<'py>(&mut self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.channel.seal(data)?))
    }

    /// The bytes in the complete records of what came, without frames.
    fn open<'py>(&mut self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.channel.open(data)?))
    }

    /// Queue a frame.
    fn put(&mut self, number: u32, verb: u8, fields: &Bound<'_, PyAny>) -> PyResult<()> {
        let written = self.written;
        self.channel.put(number, verb, |out| msgpack::write(fields, out, written))
    }

    /// Sealed bytes of the queued frames, some at a time; none if there are none.
    fn take<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(self.channel.take(|data| PyBytes::new(py, data))?)
    }

    /// Send what goes without waiting; how many bytes went.
    fn send(&mut self, fd: i32) -> PyResult<usize> {
        self.channel.send(fd)
    }

    /// Bytes that are queued and not sent yet.
    #[getter]
    fn pending(&self) -> usize {
        self.channel.unsent()
    }

    /// The same, less the largest message.
    #[getter]
    fn excess(&self) -> usize {
        self.channel.excess()
    }

    /// Bytes of messages that have arrived in part.
    #[getter]
    fn buffered(&self) -> usize {
        self.channel.buffered()
    }

    /// Whether a message that has arrived in part has hardly grown for so long.
    fn is_stalled(&mut self, seconds: f64) -> PyResult<bool> {
        let limit = Duration::try_from_secs_f64(seconds)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(self.channel.is_stalled(limit))
    }

    /// Take in what came; the messages that it completes, as (number, verb, fields).
    fn feed<'py>(&mut self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        let messages = PyList::empty(py);
        self.channel.feed(data, append_to(&messages, self.read))?;
        Ok(messages)
    }

    /// Receive once and feed that; None if there was nothing to receive.
    fn receive<'py>(&mut self, py: Python<'py>, fd: i32) -> PyResult<Option<Bound<'py, PyList>>> {
        let messages = PyList::empty(py);
        match self.channel.receive(fd, append_to(&messages, self.read))? {
            Received::Bytes => Ok(Some(messages)),
            Received::Nothing => Ok(None),
            Received::End => Err(PyEOFError::new_err("the other side has closed the connection")),
        }
    }
}

fn append_to<'a>(
    messages: &'a Bound<'_, PyList>,
    budget: Budget,
) -> impl FnMut(u32, u8, &[u8]) -> PyResult<()> + 'a {
    move |number, verb, payload| {
        messages.append((number, verb, msgpack::read(messages.py(), payload, budget)?))
    }
}
