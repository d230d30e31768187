//! `Noise`: both ends of an encrypted connection, without any socket.

use super::errors::ChannelError;
use super::fields::{self, Unread};
use super::socket::{self, RECEIVE};
use crate::net::channel::Channel;
use crate::net::{frames, Fault, Limits};
use pyo3::exceptions::{PyEOFError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use snow::{Builder, HandshakeState};
use std::cell::RefCell;

/// A fresh key for each connection (25519), mutual proof of the shared key (psk0); AES-GCM is what
/// processors have instructions for.
const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_BLAKE2s";
/// The longest payload of a message of the handshake.
const PAYLOAD: usize = 256;

/// What one `send` sends at most: others wait as well.
const SENT_AT_ONCE: usize = 1 << 20;

thread_local!(static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });

pub fn channel_error(fault: &Fault) -> PyErr {
    ChannelError::new_err(fault.to_string())
}

impl From<Unread> for PyErr {
    fn from(error: Unread) -> Self {
        match error {
            Unread::Fault(fault) => channel_error(&fault),
            Unread::Python(error) => error,
        }
    }
}

enum Stage {
    Handshake(Box<HandshakeState>),
    Open(Box<Channel>),
    /// Broken, or in other hands.
    Over,
}

/// One end of a connection: its handshake, then records, then frames.
#[pyclass(module = "garrison._core")]
pub struct Noise {
    stage: Stage,
    limits: Limits,
    max_message: usize,
}

#[pymethods]
impl Noise {
    #[new]
    #[pyo3(signature = (initiator, psk, prologue, max_frame=1 << 28, max_message=1 << 32))]
    fn new(
        initiator: bool,
        psk: &[u8],
        prologue: &[u8],
        max_frame: usize,
        max_message: usize,
    ) -> PyResult<Self> {
        let psk: &[u8; 32] =
            psk.try_into().map_err(|_| PyValueError::new_err("psk must have 32 bytes"))?;
        let builder = Builder::new(PATTERN.parse().expect("a known pattern"))
            .psk(0, psk)
            .and_then(|builder| builder.prologue(prologue));
        let state =
            builder
                .and_then(|builder| {
                    if initiator {
                        builder.build_initiator()
                    } else {
                        builder.build_responder()
                    }
                })
                .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let limits = Limits { frame: max_frame, message: max_message };
        Ok(Self { stage: Stage::Handshake(Box::new(state)), limits, max_message })
    }

    /// The next message of the handshake.
    #[pyo3(signature = (payload=b"".as_slice()))]
    fn write_handshake<'py>(
        &mut self,
        py: Python<'py>,
        payload: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut message = [0; PAYLOAD + 64];
        let length = match self.handshake()?.write_message(payload, &mut message) {
            Ok(length) => length,
            Err(error) => return Err(self.broken(&format!("no handshake can be sent: {error}"))),
        };
        self.advance()?;
        Ok(PyBytes::new(py, &message[..length]))
    }

    /// Read the other side's; its payload.
    fn read_handshake<'py>(
        &mut self,
        py: Python<'py>,
        message: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut payload = [0; PAYLOAD + 64];
        if message.len() > payload.len() {
            return Err(self.broken("a message of the handshake that is too long"));
        }
        let length = match self.handshake()?.read_message(message, &mut payload) {
            Ok(length) => length,
            Err(_) => return Err(self.broken("a handshake that was made with another key")),
        };
        self.advance()?;
        Ok(PyBytes::new(py, &payload[..length]))
    }

    #[getter]
    fn finished(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Seal bytes, without frames.
    fn seal<'py>(&mut self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::new();
        let sealed = self.channel()?.records().seal(data, &mut out);
        self.checked(sealed)?;
        Ok(PyBytes::new(py, &out))
    }

    /// The bytes in the complete records of what came, without frames.
    fn open<'py>(&mut self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::new();
        let opened = self.channel()?.records().open(data, &mut out);
        self.checked(opened)?;
        Ok(PyBytes::new(py, &out))
    }

    /// Queue a frame.
    fn put(&mut self, number: u32, verb: u8, fields: &Bound<'_, PyAny>) -> PyResult<()> {
        let most = self.max_message;
        put(self.channel()?, number, verb, fields, most)
    }

    /// Sealed bytes of the queued frames, some at a time; none if there are none.
    fn take<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let channel = self.channel()?;
        let taken = channel.to_send().map(|data| PyBytes::new(py, data));
        if let Ok(data) = &taken {
            channel.was_sent(data.as_bytes().len());
        }
        taken.map_err(|fault| self.broken(&fault.to_string()))
    }

    /// Send what goes without waiting; how many bytes went.
    fn send(&mut self, fd: i32) -> PyResult<usize> {
        let channel = self.channel()?;
        let mut total = 0;
        while total < SENT_AT_ONCE {
            let data = match channel.to_send() {
                Ok([]) => break,
                Ok(data) => data,
                Err(fault) => return Err(self.broken(&fault.to_string())),
            };
            match socket::send(fd, data) {
                Ok(count) => {
                    channel.was_sent(count);
                    total += count;
                }
                Err(error) if socket::is_passing(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(total)
    }

    /// Bytes that are queued and not sent yet.
    #[getter]
    fn pending(&self) -> usize {
        match &self.stage {
            Stage::Open(channel) => channel.owed(),
            _ => 0,
        }
    }

    /// The same, less the largest message.
    #[getter]
    fn excess(&self) -> usize {
        match &self.stage {
            Stage::Open(channel) => channel.excess(),
            _ => 0,
        }
    }

    /// Bytes of messages that have arrived in part.
    #[getter]
    fn kept(&self) -> usize {
        match &self.stage {
            Stage::Open(channel) => channel.kept(),
            _ => 0,
        }
    }

    /// Take in what came; the messages that it completes, as (number, verb, fields).
    fn feed<'py>(&mut self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        let messages = PyList::empty(py);
        let fed = self.channel()?.feed(data, |number, verb, payload| -> Result<(), Unread> {
            messages.append((number, verb, fields::read(py, payload)?))?;
            Ok(())
        });
        if let Err(error) = fed {
            self.stage = Stage::Over;
            return Err(error.into());
        }
        Ok(messages)
    }

    /// Receive once and feed that; None if there was nothing to receive.
    fn receive<'py>(&mut self, py: Python<'py>, fd: i32) -> PyResult<Option<Bound<'py, PyList>>> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(RECEIVE, 0);
            match socket::receive(fd, scratch, false) {
                Ok(0) => Err(PyEOFError::new_err("the other side has closed the connection")),
                Ok(count) => self.feed(py, &scratch[..count]).map(Some),
                Err(error) if socket::is_passing(&error) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }
}

impl Noise {
    fn handshake(&mut self) -> PyResult<&mut HandshakeState> {
        match &mut self.stage {
            Stage::Handshake(state) => Ok(state),
            _ => Err(ChannelError::new_err("the handshake is over")),
        }
    }

    fn channel(&mut self) -> PyResult<&mut Channel> {
        match &mut self.stage {
            Stage::Open(channel) => Ok(channel),
            Stage::Handshake(_) => Err(ChannelError::new_err("the handshake is not over")),
            Stage::Over => Err(ChannelError::new_err("this connection is broken")),
        }
    }

    fn advance(&mut self) -> PyResult<()> {
        if !matches!(&self.stage, Stage::Handshake(state) if state.is_handshake_finished()) {
            return Ok(());
        }
        let Stage::Handshake(state) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Ok(());
        };
        let state =
            state.into_transport_mode().map_err(|e| PyValueError::new_err(e.to_string()))?;
        self.stage = Stage::Open(Box::new(Channel::new(state, self.limits)));
        Ok(())
    }

    fn broken(&mut self, text: &str) -> PyErr {
        self.stage = Stage::Over;
        ChannelError::new_err(text.to_owned())
    }

    fn checked(&mut self, done: Result<(), Fault>) -> PyResult<()> {
        done.map_err(|fault| self.broken(&fault.to_string()))
    }

    /// Hand the connection over to who does its reading and writing.
    pub fn hand_over(&mut self) -> PyResult<(Channel, usize)> {
        self.channel()?;
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Open(channel) => Ok((*channel, self.max_message)),
            _ => unreachable!("asked just now"),
        }
    }
}

/// Queue a frame, or leave everything as it was.
pub fn put(
    channel: &mut Channel,
    number: u32,
    verb: u8,
    fields: &Bound<'_, PyAny>,
    most: usize,
) -> PyResult<()> {
    let pending = &mut channel.pending;
    let head = pending.len();
    frames::head(pending, 0, number, verb);
    if let Err(error) = fields::write(fields, pending) {
        pending.truncate(head);
        return Err(error);
    }
    let length = pending.len() - head - frames::HEAD;
    if length > most {
        pending.truncate(head);
        return Err(PyOverflowError::new_err(format!(
            "a message of {length} bytes, and {most} are the limit (max_message); send it in pieces"
        )));
    }
    if length > frames::PART {
        let payload = pending.split_off(head + frames::HEAD);
        pending.truncate(head);
        frames::put(pending, number, verb, &payload);
    } else {
        frames::close(pending, head);
    }
    channel.was_queued(length);
    Ok(())
}
