//! Frames: whole ones out of a stream of bytes, and messages out of their parts.

use super::{release_buffer, Limits, ProtocolError};
use std::collections::HashMap;
use std::time::{Duration, Instant};

pub const HEAD: usize = 9;
/// Set in a verb: another frame of the same number goes on with this message.
pub const MORE: u8 = 0x80;
/// A longer message is sent in parts of this size, so that others can go between.
pub const PART: usize = 1 << 16;
/// Messages of one peer that may have arrived in part at the same time.
const UNFINISHED: usize = 256;
/// Bytes by which an unfinished message has to grow within the limit.
const PROGRESS: usize = 1 << 20;

/// Append a frame, or as many as a long payload takes.
pub fn put(out: &mut Vec<u8>, number: u32, verb: u8, payload: &[u8]) {
    if payload.is_empty() {
        return head(out, 0, number, verb);
    }
    out.reserve(payload.len() + payload.len().div_ceil(PART) * HEAD);
    let mut parts = payload.chunks(PART).peekable();
    while let Some(part) = parts.next() {
        let more = if parts.peek().is_some() { MORE } else { 0 };
        head(out, part.len(), number, verb | more);
        out.extend_from_slice(part);
    }
}

pub fn head(out: &mut Vec<u8>, length: usize, number: u32, verb: u8) {
    out.extend_from_slice(&(length as u32).to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.push(verb);
}

/// Write the length of a payload that was appended behind its head.
pub fn close(out: &mut [u8], head: usize) {
    let length = (out.len() - head - HEAD) as u32;
    out[head..head + 4].copy_from_slice(&length.to_be_bytes());
}

/// How much of a message had arrived at some time.
#[derive(Debug, Clone, Copy)]
struct Mark {
    since: Instant,
    bytes: usize,
}

impl Mark {
    fn new(bytes: usize) -> Self {
        Self { since: Instant::now(), bytes }
    }

    /// Whether too little has come since, for too long; move on if enough has.
    fn is_stalled(&mut self, bytes: usize, limit: Duration) -> bool {
        if bytes >= self.bytes + PROGRESS {
            *self = Self::new(bytes);
            return false;
        }
        self.since.elapsed() > limit
    }
}

/// A message whose last part has not come yet.
#[derive(Debug)]
struct Unfinished {
    verb: u8,
    message: Vec<u8>,
    mark: Mark,
}

/// What has arrived and is not a whole message yet.
#[derive(Debug)]
pub struct Frames {
    limits: Limits,
    /// Opened bytes; records append here.
    pub plain: Vec<u8>,
    parts: HashMap<u32, Unfinished>,
    /// Of the incomplete frame in `plain`, if that was looked at.
    mark: Option<Mark>,
    /// Bytes in `parts`.
    held: usize,
}

impl Frames {
    pub fn new(limits: Limits) -> Self {
        Self { limits, plain: Vec::new(), parts: HashMap::new(), mark: None, held: 0 }
    }

    /// Bytes that are kept here.
    pub fn buffered(&self) -> usize {
        self.plain.len() + self.held
    }

    /// Whether an unfinished frame or message has hardly grown for so long; `partial` bytes of the
    /// frame have not been opened yet.
    ///
    /// Progress is noticed only when this is called: every second or so.
    pub fn is_stalled(&mut self, partial: usize, limit: Duration) -> bool {
        let tail = self.plain.len() + partial;
        let mut stalled = false;
        if tail > 0 {
            stalled = self.mark.get_or_insert_with(|| Mark::new(tail)).is_stalled(tail, limit);
        }
        for each in self.parts.values_mut() {
            stalled |= each.mark.is_stalled(each.message.len(), limit);
        }
        stalled
    }

    /// Hand over every whole message: its number, its verb, its payload.
    pub fn drain<E: From<ProtocolError>>(
        &mut self,
        mut take: impl FnMut(u32, u8, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut plain = std::mem::take(&mut self.plain);
        let mut rest: &[u8] = &plain;
        while let Some((frame, behind)) = self.split(rest)? {
            rest = behind;
            if let Some((number, verb)) = self.is_whole(&frame) {
                take(number, verb, frame.payload)?;
            } else if let Some((verb, message)) = self.joined(&frame)? {
                take(frame.number, verb, &message)?;
            }
        }
        let used = plain.len() - rest.len();
        if used > 0 {
            self.mark = None;
        }
        plain.drain(..used);
        if self.parts.is_empty() {
            release_buffer(&mut plain);
        }
        self.plain = plain;
        Ok(())
    }

    fn split<'a>(&self, data: &'a [u8]) -> Result<Option<(Frame<'a>, &'a [u8])>, ProtocolError> {
        let Some((head, behind)) = data.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length > self.limits.frame {
            let most = self.limits.frame;
            return Err(ProtocolError::of(format!(
                "a frame of {length} bytes, and {most} are the limit"
            )));
        }
        if behind.len() < length {
            return Ok(None);
        }
        let (payload, behind) = behind.split_at(length);
        let number = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        Ok(Some((Frame { number, verb: head[8], payload }, behind)))
    }

    fn is_whole(&self, frame: &Frame<'_>) -> Option<(u32, u8)> {
        let alone = frame.verb & MORE == 0 && !self.parts.contains_key(&frame.number);
        alone.then_some((frame.number, frame.verb))
    }

    /// Keep a part; the whole message with its last one.
    fn joined(&mut self, frame: &Frame<'_>) -> Result<Option<(u8, Vec<u8>)>, ProtocolError> {
        let verb = frame.verb & !MORE;
        if self.parts.len() >= UNFINISHED && !self.parts.contains_key(&frame.number) {
            return Err(ProtocolError::of(format!(
                "more than {UNFINISHED} messages begun at once"
            )));
        }
        self.held += frame.payload.len();
        if self.held > self.limits.message {
            let most = self.limits.message;
            return Err(ProtocolError::of(format!(
                "messages of more than {most} bytes, the limit"
            )));
        }
        let begin = || Unfinished { verb, message: Vec::new(), mark: Mark::new(0) };
        let unfinished = self.parts.entry(frame.number).or_insert_with(begin);
        if unfinished.verb != verb {
            return Err(ProtocolError::new("a message that goes on with another verb"));
        }
        unfinished.message.extend_from_slice(frame.payload);
        if frame.verb & MORE != 0 {
            return Ok(None);
        }
        let whole = self.parts.remove(&frame.number);
        self.held -= whole.as_ref().map_or(0, |each| each.message.len());
        Ok(whole.map(|each| (each.verb, each.message)))
    }
}

struct Frame<'a> {
    number: u32,
    verb: u8,
    payload: &'a [u8],
}
