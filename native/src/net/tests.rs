use super::channel::Channel;
use super::frames::{self, Frames, MORE, PART};
use super::msgpack::{self, Budget, Reader, Token};
use super::secure_channel::{Identity, SecureChannel};
use super::{Limits, ProtocolError};
use std::time::Duration;

const LIMITS: Limits = Limits { frame: 1 << 21, message: 1 << 23 };

fn pair() -> (Channel, Channel) {
    let (mut one, mut other) = ends();
    (one.hand_over().unwrap(), other.hand_over().unwrap())
}

/// A client's and a server's end, after their handshake.
fn ends() -> (SecureChannel, SecureChannel) {
    let identity = Identity::generate().unwrap();
    let mut client = SecureChannel::of_client(&[7; 32], b"test", LIMITS).unwrap();
    let mut server =
        SecureChannel::of_server(&[7; 32], b"test", LIMITS, &identity.private).unwrap();
    let mut message = [0; SecureChannel::MAX_HANDSHAKE];
    let mut payload = [0; SecureChannel::MAX_HANDSHAKE];
    let length = client.write_handshake(&[], &mut message).unwrap();
    server.read_handshake(&message[..length], &mut payload).unwrap();
    let length = server.write_handshake(&[], &mut message).unwrap();
    client.read_handshake(&message[..length], &mut payload).unwrap();
    assert_eq!(client.server(), Some(&identity.public));
    assert_eq!(server.server(), None);
    (client, server)
}

fn send(channel: &mut Channel, number: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frames::put(&mut channel.pending, number, 3, payload);
    loop {
        let data = channel.unsent_bytes().unwrap();
        if data.is_empty() {
            return out;
        }
        out.extend_from_slice(data);
        let count = data.len();
        channel.was_sent(count);
    }
}

fn received(channel: &mut Channel, data: &[u8]) -> Result<Vec<(u32, u8, Vec<u8>)>, ProtocolError> {
    let mut messages = Vec::new();
    channel.feed(data, |number, verb, payload| {
        messages.push((number, verb, payload.to_vec()));
        Ok::<(), ProtocolError>(())
    })?;
    Ok(messages)
}

#[test]
#[cfg_attr(miri, ignore = "the cipher is not written in Rust")]
fn messages_arrive_whole_however_they_are_cut() {
    for size in [0, 1, 40, 65_519, 65_520, 200_000, PART, PART + 1, 5 * PART] {
        let payload: Vec<u8> = (0..size).map(|at| at as u8).collect();
        for step in [1, 7, 4096, usize::MAX] {
            if size / step.min(size + 1) > 300_000 {
                continue;
            }
            let (mut one, mut other) = pair();
            let data = send(&mut one, 9, &payload);
            let mut messages = Vec::new();
            for piece in data.chunks(step) {
                messages.extend(received(&mut other, piece).unwrap());
            }
            assert!(messages == [(9, 3, payload.clone())], "{size} in steps of {step}");
            assert_eq!(other.buffered(), 0);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "the cipher is not written in Rust")]
fn a_changed_replayed_or_reordered_record_is_found() {
    let (mut one, mut other) = pair();
    let first = send(&mut one, 1, b"first");
    let second = send(&mut one, 2, b"second");
    for at in 0..first.len() {
        let (mut one, mut other) = pair();
        let mut data = send(&mut one, 1, b"first");
        data[at] ^= 1;
        data.extend_from_slice(&[0; 300]);
        assert!(received(&mut other, &data).is_err(), "byte {at}");
    }
    assert!(received(&mut other, &second).is_err());
    assert!(received(&mut other, &first).is_ok());
    assert!(received(&mut other, &first).is_err());
}

#[test]
fn parts_of_several_messages_may_lie_between_each_other() {
    let mut stream = Frames::new(LIMITS);
    for (number, verb, part) in
        [(1, MORE, "a"), (2, MORE | 1, "c"), (3, 2, "e"), (1, 0, "b"), (2, 1, "d")]
    {
        frames::head(&mut stream.plain, 1, number, verb);
        stream.plain.extend_from_slice(part.as_bytes());
    }
    let mut messages = Vec::new();
    stream
        .drain(|number, verb, payload| {
            messages.push((number, verb, String::from_utf8(payload.to_vec()).unwrap()));
            Ok::<(), ProtocolError>(())
        })
        .unwrap();
    let found: Vec<_> = messages.iter().map(|(n, v, text)| (*n, *v, text.as_str())).collect();
    assert_eq!(found, [(3, 2, "e"), (1, 0, "ab"), (2, 1, "cd")]);
    assert_eq!(stream.buffered(), 0);
}

fn error_of(limits: Limits, sent: &[(usize, u32, u8)]) -> Option<String> {
    let mut stream = Frames::new(limits);
    for &(size, number, verb) in sent {
        frames::head(&mut stream.plain, size, number, verb);
        stream.plain.resize(stream.plain.len() + size, 0);
    }
    stream.drain(|_, _, _| Ok::<(), ProtocolError>(())).err().map(|error| error.to_string())
}

#[test]
fn limits_are_kept() {
    let limits = Limits { frame: 100, message: 250 };
    assert_eq!(error_of(limits, &[(100, 1, 0)]), None);
    assert_eq!(error_of(limits, &[(100, 1, MORE), (100, 1, MORE), (50, 1, 0)]), None);
    let error = error_of(limits, &[(101, 1, 0)]);
    assert_eq!(error.as_deref(), Some("a frame of 101 bytes, and 100 are the limit"));
    let error = error_of(limits, &[(100, 1, MORE), (100, 2, MORE), (51, 1, 0)]);
    assert_eq!(error.as_deref(), Some("messages of more than 250 bytes, the limit"));
    let error = error_of(limits, &[(1, 1, MORE), (1, 1, 5)]);
    assert_eq!(error.as_deref(), Some("a message that goes on with another verb"));
    let many: Vec<_> = (0..300).map(|number| (0, number, MORE)).collect();
    assert_eq!(error_of(limits, &many).as_deref(), Some("more than 256 messages begun at once"));
}

#[test]
fn message_that_does_not_grow_is_stalled() {
    let limit = Duration::ZERO;
    let mut stream = Frames::new(LIMITS);
    assert!(!stream.is_stalled(0, limit));
    // A frame without its end.
    frames::head(&mut stream.plain, 100, 1, 5);
    assert!(stream.is_stalled(0, limit));
    assert!(!stream.is_stalled(0, Duration::MAX));
    stream.plain.resize(stream.plain.len() + 100, 0);
    stream.drain(|_, _, _| Ok::<(), ProtocolError>(())).unwrap();
    assert!(!stream.is_stalled(0, limit));
    // A record without its end.
    assert!(stream.is_stalled(9, limit));
    // A message without its last part, while other messages are completed.
    for (number, verb) in [(2, MORE), (3, 0)] {
        frames::head(&mut stream.plain, 0, number, verb);
    }
    stream.drain(|_, _, _| Ok::<(), ProtocolError>(())).unwrap();
    assert_eq!(stream.buffered(), 0);
    assert!(stream.is_stalled(0, limit));
}

#[test]
fn message_that_grows_is_not_stalled() {
    let mut stream = Frames::new(LIMITS);
    let limit = Duration::from_millis(1);
    for _ in 0..3 {
        frames::head(&mut stream.plain, 1 << 20, 1, MORE);
        stream.plain.extend_from_slice(&vec![0; 1 << 20]);
        stream.drain(|_, _, _| Ok::<(), ProtocolError>(())).unwrap();
        std::thread::sleep(2 * limit);
        assert!(!stream.is_stalled(0, limit));
    }
    std::thread::sleep(2 * limit);
    assert!(stream.is_stalled(0, limit));
}

#[test]
fn budget_bounds_lists_and_values() {
    let mut list = Vec::new();
    assert!(msgpack::put_list(&mut list, 3));
    list.extend_from_slice(&[1, 2, 3]);
    assert!(Reader::with_budget(&list, Budget::new(3)).token().is_ok());
    let error = Reader::with_budget(&list, Budget::new(2)).token().unwrap_err();
    assert_eq!(error.to_string(), "more than 2 values in one message");
}

#[test]
fn numbers_and_lengths_come_back() {
    for number in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 1 << 32, i64::MAX, -1, -32, -33, -128]
        .into_iter()
        .chain([-129, -32_769, i64::MIN])
    {
        let mut out = Vec::new();
        msgpack::put_int(&mut out, number);
        assert_eq!(Reader::new(&out).token(), Ok(Token::Int(number)));
    }
    for length in [0, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
        let (mut text, mut bytes, mut list) = (Vec::new(), Vec::new(), Vec::new());
        let content = "x".repeat(length);
        assert!(msgpack::put_text(&mut text, &content));
        assert!(msgpack::put_bytes(&mut bytes, content.as_bytes()));
        assert!(msgpack::put_list(&mut list, length));
        list.resize(list.len() + length, 0);
        assert_eq!(Reader::new(&text).token(), Ok(Token::Text(&content)));
        assert_eq!(Reader::new(&bytes).token(), Ok(Token::Bytes(content.as_bytes())));
        assert_eq!(Reader::new(&list).token(), Ok(Token::List(length)));
    }
}

#[test]
fn any_bytes_are_tokens_or_an_error() {
    let mut state = 1_u64;
    for _ in 0..if cfg!(miri) { 1_000 } else { 200_000 } {
        let bytes: [u8; 24] = std::array::from_fn(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        let mut reader = Reader::new(&bytes);
        while reader.token().is_ok() {}
    }
}

#[test]
#[cfg_attr(miri, ignore = "the cipher is not written in Rust")]
fn both_ends_change_the_key_after_the_same_record() {
    let (mut one, mut other) = pair();
    one.records().rekey_after(3);
    other.records().rekey_after(3);
    for number in 1..20 {
        let data = send(&mut one, number, b"there");
        assert_eq!(received(&mut other, &data).unwrap().len(), 1);
        let data = send(&mut other, number, b"and back");
        assert_eq!(received(&mut one, &data).unwrap().len(), 1);
    }
    // It is another key: an end that keeps the old one cannot go on.
    let (mut one, mut other) = pair();
    one.records().rekey_after(3);
    for number in 1..=3 {
        let data = send(&mut one, number, b"there");
        assert!(received(&mut other, &data).is_ok());
    }
    let data = send(&mut one, 4, b"there");
    assert!(received(&mut other, &data).is_err());
}
