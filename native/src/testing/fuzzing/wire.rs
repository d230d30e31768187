//! What a peer sends: before it has proved the key, and after.

use super::Input;
use crate::net::channel::Channel;
use crate::net::client_protocol::ClientProtocol;
use crate::net::frames::Frames;
use crate::net::msgpack::{self, Budget, Reader, Token, DEPTH};
use crate::net::records::RecordCodec;
use crate::net::secure_channel::SecureChannel;
use crate::net::{Limits, ProtocolError};
use snow::params::NoiseParams;
use snow::resolvers::DefaultResolver;
use snow::{Builder, HandshakeState};

const LIMITS: Limits = Limits { frame: 1 << 12, message: 1 << 14 };
const KEY: [u8; 32] = [7; 32];
const PRIVATE: [u8; 32] = [3; 32];
/// Of ciphers in Rust alone: faster to begin with, and no foreign code.
const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// Messages of a handshake, some of which are what the other side would send with some bytes changed.
pub fn handshake(data: &[u8]) {
    let mut input = Input(data);
    let mut client = SecureChannel::of_client(&KEY, b"fuzz", LIMITS).expect("a pattern");
    let mut server = SecureChannel::of_server(&KEY, b"fuzz", LIMITS, &PRIVATE).expect("a pattern");
    let mut message = [0; SecureChannel::MAX_HANDSHAKE];
    for turn in 0..3 {
        let (sender, receiver) =
            if turn % 2 == 0 { (&mut client, &mut server) } else { (&mut server, &mut client) };
        let written = sender.write_handshake(input.piece(), &mut message);
        let received = match (input.byte() % 3, written) {
            (0, Ok(len)) => read(receiver, &message[..len]),
            (1, Ok(len)) => {
                let at = input.number() % len;
                message[at] ^= input.byte();
                read(receiver, &message[..len])
            }
            _ => read(receiver, input.piece()),
        };
        if received.is_err() {
            assert!(
                receiver.read_handshake(&[], &mut message).is_err(),
                "it goes on after an error"
            );
        }
    }
    for channel in [&mut client, &mut server] {
        let _ = channel.feed(input.piece(), |_, _, _| Ok::<(), ProtocolError>(()));
    }
}

fn read(channel: &mut SecureChannel, message: &[u8]) -> Result<usize, ProtocolError> {
    let mut payload = [0; SecureChannel::MAX_HANDSHAKE];
    let len = channel.read_handshake(message, &mut payload)?;
    assert!(len <= payload.len(), "a payload longer than its room");
    Ok(len)
}

/// Opened bytes in pieces: frames, messages, fields.
pub fn frames(data: &[u8]) {
    let mut input = Input(data);
    let mut frames = Frames::new(LIMITS);
    while !input.is_empty() {
        let piece = input.piece();
        frames.plain.extend_from_slice(piece);
        let drained = frames.drain(|_, _, payload| {
            let _ = fields(payload);
            Ok::<(), ProtocolError>(())
        });
        assert!(
            frames.buffered() <= LIMITS.message + LIMITS.frame + piece.len() + 9,
            "too much is kept"
        );
        if drained.is_err() {
            break;
        }
    }
}

/// All fields of a message, and that what is read is what is written.
fn fields(payload: &[u8]) -> Result<(), ProtocolError> {
    let mut reader = Reader::with_budget(payload, Budget::new(1 << 10));
    let mut open = vec![1_usize];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        let token = reader.token()?;
        if let Token::List(length) = token {
            if open.len() as u32 > DEPTH {
                return Err(ProtocolError::new("too deep"));
            }
            open.push(length);
        }
        assert_eq!(written(token), Ok(token).map(|token| format!("{token:?}")), "read and written");
    }
    reader.end()
}

/// What a token is after it was written and read once more.
fn written(token: Token<'_>) -> Result<String, ProtocolError> {
    let mut out = Vec::new();
    let mut fits = true;
    match token {
        Token::Nil => msgpack::put_nil(&mut out),
        Token::Bool(value) => msgpack::put_bool(&mut out, value),
        Token::Int(value) => msgpack::put_int(&mut out, value),
        Token::Big(value) => msgpack::put_big(&mut out, value),
        Token::Float(value) => msgpack::put_float(&mut out, value),
        Token::Text(value) => fits = msgpack::put_text(&mut out, value),
        Token::Bytes(value) => fits = msgpack::put_bytes(&mut out, value),
        Token::List(length) => {
            fits = msgpack::put_list(&mut out, length);
            out.resize(out.len() + length, 0xc0);
        }
    }
    assert!(fits, "it came in a message");
    Ok(format!("{:?}", Reader::new(&out).token()?))
}

/// What a server replies to a client that has asked for something.
pub fn replies(data: &[u8]) {
    let mut sealed = Vec::new();
    let Some((mut protocol, mut server)) = asked() else { return };
    for piece in data.chunks(200) {
        if server.seal(piece, &mut sealed).is_err() {
            return;
        }
    }
    let _ = protocol.feed(&sealed);
    for number in 0..5 {
        let _ = (protocol.reply(number), protocol.fate(number), protocol.expects(number));
        protocol.cancel(number);
    }
}

/// A client with requests, and the server's end of its connection.
fn asked() -> Option<(ClientProtocol, RecordCodec)> {
    let (client, server) = established()?;
    let channel = Channel::new(client.into_transport_mode().ok()?, LIMITS);
    let mut protocol = ClientProtocol::new(channel);
    for verb in 1..4 {
        protocol.ask(verb, &[0x90]);
    }
    Some((protocol, RecordCodec::new(server.into_transport_mode().ok()?)))
}

/// Sealed records, cut and changed. Nothing but what was sealed may come out.
pub fn records(data: &[u8]) {
    let mut input = Input(data);
    let Some((client, server)) = established() else { return };
    let (Ok(client), Ok(server)) = (client.into_transport_mode(), server.into_transport_mode())
    else {
        return;
    };
    let (mut sender, mut receiver) = (RecordCodec::new(client), RecordCodec::new(server));
    let (mut sent, mut opened) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let plain = input.piece();
        let mut sealed = Vec::new();
        sender.seal(plain, &mut sealed).expect("few records");
        sent.extend_from_slice(plain);
        match input.byte() % 4 {
            0 => {}
            1 if !sealed.is_empty() => {
                let at = input.number() % sealed.len();
                sealed[at] ^= input.byte();
            }
            2 => sealed.truncate(input.number() % (sealed.len() + 1)),
            _ => sealed.extend_from_slice(input.piece()),
        }
        let step = usize::from(input.byte()) + 1;
        for piece in sealed.chunks(step) {
            if receiver.open(piece, &mut opened).is_err() {
                assert!(sent.starts_with(&opened), "what was not sealed comes out");
                return;
            }
        }
    }
    assert!(sent.starts_with(&opened), "what was not sealed comes out");
    assert!(receiver.partial() <= 2 + 65_535, "more than a record is kept");
}

/// Both ends of a connection after its handshake.
fn established() -> Option<(HandshakeState, HandshakeState)> {
    let pattern: NoiseParams = PATTERN.parse().ok()?;
    let builder =
        || Builder::with_resolver(pattern.clone(), Box::new(DefaultResolver)).psk(0, &KEY).ok();
    let (mut client, mut server) =
        (builder()?.build_initiator().ok()?, builder()?.build_responder().ok()?);
    let (mut message, mut payload) = ([0; 128], [0; 128]);
    let len = client.write_message(&[], &mut message).ok()?;
    server.read_message(&message[..len], &mut payload).ok()?;
    let len = server.write_message(&[], &mut message).ok()?;
    client.read_message(&message[..len], &mut payload).ok()?;
    Some((client, server))
}
