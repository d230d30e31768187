//! A client's end after the handshake: requests that wait, replies that came. Its caller does the
//! system calls: the first waiter reads for all.

use super::channel::Channel;
use super::msgpack::{Reader, Token};
use super::{frames, ProtocolError};
use std::collections::hash_map::{Entry, HashMap};

/// A reply's status for what the service has done, and for what it has refused.
pub const DONE: u8 = 0;
pub const REFUSED: u8 = 1;
/// The server's last word: a text, whether it ends for good, the requests that it has begun only.
pub const BYE: u8 = 2;

/// A request's verb: what was asked under this number is not waited for any more.
pub const CANCEL: u8 = 0x7f;

#[derive(Debug)]
enum Slot {
    /// Asked; sent when so many bytes are.
    Waiting(u64),
    Arrived(u8, Vec<u8>),
}

/// What became of a request whose reply will never come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It never left, or the server says that it has not begun it.
    Undone,
    Unknown,
}

/// Why no reply comes any more.
#[derive(Debug, Clone)]
pub struct End {
    pub reason: String,
    pub for_good: bool,
    /// With a farewell: the requests that the server has begun.
    begun: Option<Vec<u32>>,
}

#[derive(Debug)]
pub struct ClientProtocol {
    channel: Channel,
    next: u32,
    slots: HashMap<u32, Slot>,
    end: Option<End>,
}

impl ClientProtocol {
    pub fn new(channel: Channel) -> Self {
        Self { channel, next: 1, slots: HashMap::new(), end: None }
    }

    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Nothing more will come; the first reason is the one that counts.
    pub fn finish(&mut self, reason: String) {
        self.end.get_or_insert(End { reason, for_good: false, begun: None });
    }

    /// Queue a request; its number.
    pub fn ask(&mut self, verb: u8, payload: &[u8]) -> u32 {
        let number = self.free_number();
        self.put(number, verb, payload);
        self.slots.insert(number, Slot::Waiting(self.channel.queued_ever()));
        number
    }

    fn put(&mut self, number: u32, verb: u8, payload: &[u8]) {
        frames::put(&mut self.channel.pending, number, verb, payload);
    }

    fn free_number(&mut self) -> u32 {
        loop {
            let number = self.next;
            self.next = self.next.checked_add(1).unwrap_or(1);
            if !self.slots.contains_key(&number) {
                return number;
            }
        }
    }

    /// No caller waits for this reply any more.
    pub fn cancel(&mut self, number: u32) {
        if let Some(Slot::Waiting(_)) = self.slots.remove(&number) {
            self.put(number, CANCEL, &[0x90]);
        }
    }

    /// Drop the reply when it comes.
    pub fn ignore(&mut self, number: u32) {
        self.slots.remove(&number);
    }

    /// Whether a caller waits for this reply.
    pub fn expects(&self, number: u32) -> bool {
        self.slots.contains_key(&number)
    }

    /// Bytes to be sent now; none if there is nothing.
    pub fn unsent_bytes(&mut self) -> Result<&[u8], ProtocolError> {
        self.channel.unsent_bytes()
    }

    pub fn was_sent(&mut self, count: usize) {
        self.channel.was_sent(count);
    }

    /// Bytes that are not sent yet.
    pub fn unsent(&self) -> usize {
        self.channel.unsent()
    }

    /// The reply, if it is here.
    pub fn reply(&mut self, number: u32) -> Option<(u8, Vec<u8>)> {
        let Entry::Occupied(slot) = self.slots.entry(number) else {
            return None;
        };
        match slot.get() {
            Slot::Waiting(_) => None,
            Slot::Arrived(..) => match slot.remove() {
                Slot::Arrived(status, payload) => Some((status, payload)),
                Slot::Waiting(_) => None,
            },
        }
    }

    /// What can be said of a request after the end.
    pub fn fate(&self, number: u32) -> Fate {
        let unsent = matches!(self.slots.get(&number), Some(Slot::Waiting(mark)) if *mark > self.channel.sent_ever());
        let begun = self.end.as_ref().and_then(|end| end.begun.as_ref());
        if unsent || begun.is_some_and(|begun| !begun.contains(&number)) {
            Fate::Undone
        } else {
            Fate::Unknown
        }
    }

    /// Take in what came.
    pub fn feed(&mut self, data: &[u8]) -> Result<(), ProtocolError> {
        let Self { channel, slots, end, .. } = self;
        channel.feed(data, |number, status, payload| match status {
            DONE | REFUSED => {
                if let Some(slot @ Slot::Waiting(_)) = slots.get_mut(&number) {
                    *slot = Slot::Arrived(status, payload.to_vec());
                }
                Ok(())
            }
            BYE => {
                end.get_or_insert(farewell(payload)?);
                Ok(())
            }
            _ => {
                Err(ProtocolError::of(format!("a reply of a kind that does not exist ({status})")))
            }
        })
    }
}

fn farewell(payload: &[u8]) -> Result<End, ProtocolError> {
    let mut reader = Reader::new(payload);
    let shape = (reader.token()?, reader.token()?, reader.token()?, reader.token()?);
    let (Token::List(3), Token::Text(reason), Token::Bool(for_good), Token::List(count)) = shape
    else {
        return Err(ProtocolError::new("a farewell that cannot be read"));
    };
    let mut begun = Vec::new();
    for _ in 0..count {
        let Token::Int(number) = reader.token()? else {
            return Err(ProtocolError::new("a farewell that cannot be read"));
        };
        begun.push(number as u32);
    }
    Ok(End { reason: reason.to_owned(), for_good, begun: Some(begun) })
}
