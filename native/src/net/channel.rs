//! A connection after its handshake: frames that wait to be sealed, bytes that wait to be frames.

use super::frames::Frames;
use super::records::RecordCodec;
use super::{frames, release_buffer, Limits, MessageTooLong, ProtocolError};
use snow::TransportState;
use std::time::Duration;

/// Bytes that are sealed in one go: what fits into a cache.
const SEAL_AT_ONCE: usize = super::records::MOST;

#[derive(Debug)]
pub struct Channel {
    records: RecordCodec,
    frames: Frames,
    /// Frames to be sent, of which those before `sealed` are sealed.
    pub pending: Vec<u8>,
    sealed: usize,
    /// Sealed bytes to be sent, of which those before `gone` are.
    out: Vec<u8>,
    sent: usize,
    /// Bytes of the largest message since nothing was unsent.
    largest: usize,
    /// Bytes of frames that were sealed so far, and those that were sent.
    sealed_ever: u64,
    sent_ever: u64,
}

impl Channel {
    pub fn new(state: TransportState, limits: Limits) -> Self {
        Self {
            records: RecordCodec::new(state),
            frames: Frames::new(limits),
            pending: Vec::new(),
            sealed: 0,
            out: Vec::new(),
            sent: 0,
            largest: 0,
            sealed_ever: 0,
            sent_ever: 0,
        }
    }

    pub fn records(&mut self) -> &mut RecordCodec {
        &mut self.records
    }

    /// Bytes that are not sent yet.
    pub fn unsent(&self) -> usize {
        self.pending.len() - self.sealed + self.out.len() - self.sent
    }

    /// Queue a message whose fields are what `write` appends, or leave everything as it was.
    pub fn put<E: From<MessageTooLong>>(
        &mut self,
        number: u32,
        verb: u8,
        limit: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let pending = &mut self.pending;
        let head = pending.len();
        frames::head(pending, 0, number, verb);
        let written = write(pending);
        let length = pending.len() - head - frames::HEAD;
        if let Err(error) = written.and_then(|()| Ok(MessageTooLong::check(length, limit)?)) {
            pending.truncate(head);
            return Err(error);
        }
        if length > frames::PART {
            let payload = pending.split_off(head + frames::HEAD);
            pending.truncate(head);
            frames::put(pending, number, verb, &payload);
        } else {
            frames::close(pending, head);
        }
        self.largest = self.largest.max(length);
        Ok(())
    }

    /// Bytes that are not sent yet, besides the largest message: one of any size may be.
    pub fn excess(&self) -> usize {
        self.unsent().saturating_sub(self.largest)
    }

    /// Bytes of frames that were queued so far, and of those the ones that were sent.
    pub fn queued_ever(&self) -> u64 {
        self.sealed_ever + (self.pending.len() - self.sealed) as u64
    }

    pub fn sent_ever(&self) -> u64 {
        self.sent_ever
    }

    /// Bytes of incomplete messages.
    pub fn buffered(&self) -> usize {
        self.records.partial() + self.frames.buffered()
    }

    /// Whether a message that has arrived in part has hardly grown for so long, as far as asked.
    pub fn is_stalled(&mut self, limit: Duration) -> bool {
        self.frames.is_stalled(self.records.partial(), limit)
    }

    /// Bytes to be sent now; none if there is nothing.
    pub fn unsent_bytes(&mut self) -> Result<&[u8], ProtocolError> {
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
            self.seal()?;
        }
        Ok(&self.out[self.sent..])
    }

    pub fn was_sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent == self.out.len() {
            self.sent_ever = self.sealed_ever;
            if self.pending.is_empty() {
                self.largest = 0;
                self.out.clear();
                self.sent = 0;
                release_buffer(&mut self.out);
            }
        }
    }

    fn seal(&mut self) -> Result<(), ProtocolError> {
        let end = self.pending.len().min(self.sealed + SEAL_AT_ONCE);
        self.records.seal(&self.pending[self.sealed..end], &mut self.out)?;
        self.sealed_ever += (end - self.sealed) as u64;
        self.sealed = end;
        if self.sealed == self.pending.len() {
            self.pending.clear();
            self.sealed = 0;
            release_buffer(&mut self.pending);
        }
        Ok(())
    }

    /// Take in what came from the other side and hand over the messages that it completes.
    pub fn feed<E: From<ProtocolError>>(
        &mut self,
        data: &[u8],
        take: impl FnMut(u32, u8, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.records.open(data, &mut self.frames.plain)?;
        self.frames.drain(take)
    }
}
