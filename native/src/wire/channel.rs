//! A connection after its handshake: frames that wait to be sealed, bytes that wait to be frames.

use super::frames::Frames;
use super::records::Records;
use super::{shrink, Fault, Limits};
use snow::TransportState;

#[derive(Debug)]
pub struct Channel {
    records: Records,
    frames: Frames,
    /// Frames to be sent, not sealed yet. What lies before `sealed` is.
    pub pending: Vec<u8>,
    sealed: usize,
}

impl Channel {
    pub fn new(state: TransportState, limits: Limits) -> Self {
        let (records, frames) = (Records::new(state), Frames::new(limits));
        Self { records, frames, pending: Vec::new(), sealed: 0 }
    }

    pub fn records(&mut self) -> &mut Records {
        &mut self.records
    }

    /// Bytes that are not sealed yet.
    pub fn unsealed(&self) -> usize {
        self.pending.len() - self.sealed
    }

    /// Bytes of incomplete messages.
    pub fn kept(&self) -> usize {
        self.records.partial() + self.frames.kept()
    }

    /// Seal at most `limit` bytes of what is pending.
    pub fn seal(&mut self, limit: usize, out: &mut Vec<u8>) -> Result<usize, Fault> {
        let end = self.pending.len().min(self.sealed.saturating_add(limit));
        let count = end - self.sealed;
        self.records.seal(&self.pending[self.sealed..end], out)?;
        self.sealed = end;
        if self.sealed == self.pending.len() {
            self.pending.clear();
            self.sealed = 0;
            shrink(&mut self.pending);
        }
        Ok(count)
    }

    /// Take in what came from the other side and hand over the messages that it completes.
    pub fn feed<E: From<Fault>>(
        &mut self,
        data: &[u8],
        take: impl FnMut(u32, u8, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.records.open(data, &mut self.frames.plain)?;
        self.frames.drain(take)
    }
}
