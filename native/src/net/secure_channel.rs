//! One end of an encrypted connection: its handshake, then records, then frames.

use super::channel::Channel;
use super::socket::{self, RECEIVE};
use super::{Limits, MessageTooLong, ProtocolError};
use snow::{Builder, HandshakeState};
use std::cell::RefCell;
use std::io::Error;
use std::time::Duration;

/// Fresh keys for each connection (25519), mutual proof of the shared key (psk0), and the server's
/// proof of its own key, which the client may know (NX); AES-GCM is what processors have
/// instructions for.
const PATTERN: &str = "Noise_NXpsk0_25519_AESGCM_BLAKE2s";
/// The longest payload of a message of the handshake.
const MAX_HANDSHAKE_PAYLOAD: usize = 256;

/// What one `send` sends at most: others wait as well.
const SENT_AT_ONCE: usize = 1 << 20;

thread_local!(static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });

/// What one `receive` has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    Bytes,
    Nothing,
    /// The other side has closed the connection.
    End,
}

#[derive(Debug)]
enum Stage {
    Handshake(Box<HandshakeState>),
    Open(Box<Channel>),
    /// Broken, or handed over.
    Over,
}

/// What a server proves to be itself with; clients may know the public key.
#[derive(Clone)]
pub struct Identity {
    pub private: [u8; 32],
    pub public: [u8; 32],
}

impl Identity {
    pub fn generate() -> Result<Self, ProtocolError> {
        let pair = Builder::new(PATTERN.parse().expect("a known pattern")).generate_keypair();
        let pair = pair.map_err(|error| ProtocolError::of(error.to_string()))?;
        let (private, public) = (pair.private.try_into(), pair.public.try_into());
        let short = || ProtocolError::new("a key pair of another length");
        Ok(Self { private: private.map_err(|_| short())?, public: public.map_err(|_| short())? })
    }
}

/// One end of a connection. After an error it is over.
#[derive(Debug)]
pub struct SecureChannel {
    stage: Stage,
    limits: Limits,
    /// The server's public key, once it has proved to have the private one.
    server: Option<[u8; 32]>,
}

impl SecureChannel {
    /// A message of the handshake, with its keys.
    pub const MAX_HANDSHAKE: usize = MAX_HANDSHAKE_PAYLOAD + 112;

    /// The client's end.
    pub fn of_client(
        psk: &[u8; 32],
        prologue: &[u8],
        limits: Limits,
    ) -> Result<Self, ProtocolError> {
        let state = Self::builder(psk, prologue).and_then(Builder::build_initiator);
        Self::new(state, limits)
    }

    /// The server's end; `private` is the key of its identity.
    pub fn of_server(
        psk: &[u8; 32],
        prologue: &[u8],
        limits: Limits,
        private: &[u8; 32],
    ) -> Result<Self, ProtocolError> {
        let builder = Self::builder(psk, prologue);
        let state = builder
            .and_then(|builder| builder.local_private_key(private))
            .and_then(Builder::build_responder);
        Self::new(state, limits)
    }

    fn builder<'a>(psk: &'a [u8; 32], prologue: &'a [u8]) -> Result<Builder<'a>, snow::Error> {
        let builder = Builder::new(PATTERN.parse().expect("a known pattern"));
        builder.psk(0, psk).and_then(|builder| builder.prologue(prologue))
    }

    fn new(
        state: Result<HandshakeState, snow::Error>,
        limits: Limits,
    ) -> Result<Self, ProtocolError> {
        let state = state.map_err(|error| ProtocolError::of(error.to_string()))?;
        Ok(Self { stage: Stage::Handshake(Box::new(state)), limits, server: None })
    }

    /// The server's public key, at the client's end after the handshake.
    pub fn server(&self) -> Option<&[u8; 32]> {
        self.server.as_ref()
    }

    /// Write the next message of the handshake; its length.
    pub fn write_handshake(
        &mut self,
        payload: &[u8],
        message: &mut [u8; Self::MAX_HANDSHAKE],
    ) -> Result<usize, ProtocolError> {
        let written = self.handshake()?.write_message(payload, message);
        let length = written
            .map_err(|error| ProtocolError::of(format!("no handshake can be sent: {error}")));
        let length = self.checked(length)?;
        self.open_if_finished()?;
        Ok(length)
    }

    /// Read the other side's message of the handshake; the length of its payload.
    pub fn read_handshake(
        &mut self,
        message: &[u8],
        payload: &mut [u8; Self::MAX_HANDSHAKE],
    ) -> Result<usize, ProtocolError> {
        if message.len() > payload.len() {
            let error = ProtocolError::new("a message of the handshake that is too long");
            return self.checked(Err(error));
        }
        let read = self.handshake()?.read_message(message, payload);
        let other_key = |_| ProtocolError::new("a handshake that was made with another key");
        let length = self.checked(read.map_err(other_key))?;
        self.open_if_finished()?;
        Ok(length)
    }

    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    pub fn max_message(&self) -> usize {
        self.limits.message
    }

    /// Seal bytes, without frames.
    pub fn seal(&mut self, data: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        let mut out = Vec::new();
        let sealed = self.channel()?.records().seal(data, &mut out);
        self.checked(sealed)?;
        Ok(out)
    }

    /// The bytes in the complete records of what came, without frames.
    pub fn open(&mut self, data: &[u8]) -> Result<Vec<u8>, ProtocolError> {
        let mut out = Vec::new();
        let opened = self.channel()?.records().open(data, &mut out);
        self.checked(opened)?;
        Ok(out)
    }

    /// Queue a message whose fields are what `write` appends.
    pub fn put<E: From<ProtocolError> + From<MessageTooLong>>(
        &mut self,
        number: u32,
        verb: u8,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let limit = self.limits.message;
        self.channel()?.put(number, verb, limit, write)
    }

    /// Show sealed bytes of the queued frames, some at a time; none if there are none. They count as sent.
    pub fn take<T>(&mut self, show: impl FnOnce(&[u8]) -> T) -> Result<T, ProtocolError> {
        let channel = self.channel()?;
        let taken = channel.unsent_bytes().map(|data| (show(data), data.len()));
        let taken = taken.inspect(|(_, length)| channel.was_sent(*length));
        Ok(self.checked(taken)?.0)
    }

    /// Send what goes without waiting; how many bytes went.
    pub fn send<E: From<ProtocolError> + From<Error>>(&mut self, fd: i32) -> Result<usize, E> {
        let channel = self.channel()?;
        let mut total = 0;
        while total < SENT_AT_ONCE {
            let data = match channel.unsent_bytes() {
                Ok([]) => break,
                Ok(data) => data,
                Err(error) => return Ok(self.checked(Err(error))?),
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
    pub fn unsent(&self) -> usize {
        self.channel_if_open().map_or(0, Channel::unsent)
    }

    /// These, less the largest message.
    pub fn excess(&self) -> usize {
        self.channel_if_open().map_or(0, Channel::excess)
    }

    /// Bytes of messages that have arrived in part.
    pub fn buffered(&self) -> usize {
        self.channel_if_open().map_or(0, Channel::buffered)
    }

    /// Whether a message that has arrived in part has hardly grown for so long, as far as asked.
    pub fn is_stalled(&mut self, limit: Duration) -> bool {
        match &mut self.stage {
            Stage::Open(channel) => channel.is_stalled(limit),
            _ => false,
        }
    }

    /// Take in what came, and hand over the messages that it completes: number, verb, payload.
    pub fn feed<E: From<ProtocolError>>(
        &mut self,
        data: &[u8],
        take: impl FnMut(u32, u8, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let fed = self.channel()?.feed(data, take);
        self.checked(fed)
    }

    /// Receive once without waiting, and feed that.
    pub fn receive<E: From<ProtocolError> + From<Error>>(
        &mut self,
        fd: i32,
        take: impl FnMut(u32, u8, &[u8]) -> Result<(), E>,
    ) -> Result<Received, E> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(RECEIVE, 0);
            match socket::receive(fd, scratch, false) {
                Ok(0) => Ok(Received::End),
                Ok(count) => self.feed(&scratch[..count], take).map(|()| Received::Bytes),
                Err(error) if socket::is_passing(&error) => Ok(Received::Nothing),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Hand the connection over to the object that does its reading and writing.
    pub fn hand_over(&mut self) -> Result<Channel, ProtocolError> {
        self.channel()?;
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Open(channel) => Ok(*channel),
            _ => unreachable!("asked just now"),
        }
    }

    fn handshake(&mut self) -> Result<&mut HandshakeState, ProtocolError> {
        match &mut self.stage {
            Stage::Handshake(state) => Ok(state),
            _ => Err(ProtocolError::new("the handshake is over")),
        }
    }

    fn channel(&mut self) -> Result<&mut Channel, ProtocolError> {
        match &mut self.stage {
            Stage::Open(channel) => Ok(channel),
            Stage::Handshake(_) => Err(ProtocolError::new("the handshake is not over")),
            Stage::Over => Err(ProtocolError::new("this connection is broken")),
        }
    }

    fn channel_if_open(&self) -> Option<&Channel> {
        match &self.stage {
            Stage::Open(channel) => Some(channel),
            _ => None,
        }
    }

    fn open_if_finished(&mut self) -> Result<(), ProtocolError> {
        if !matches!(&self.stage, Stage::Handshake(state) if state.is_handshake_finished()) {
            return Ok(());
        }
        let Stage::Handshake(state) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Ok(());
        };
        self.server = state.get_remote_static().and_then(|key| key.try_into().ok());
        let state =
            state.into_transport_mode().map_err(|error| ProtocolError::of(error.to_string()))?;
        self.stage = Stage::Open(Box::new(Channel::new(state, self.limits)));
        Ok(())
    }

    /// After an error the connection is over.
    fn checked<T, E>(&mut self, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.stage = Stage::Over;
        }
        result
    }
}
