//! RecordCodec: bytes in, sealed pieces out, and back. The length is of the ciphertext.

use super::ProtocolError;
use snow::TransportState;

const HEAD: usize = 2;
const TAG: usize = 16;
/// What one record can carry.
pub const MOST: usize = 65_535 - TAG;
/// Records that are sealed with one key: 4 GiB at most, 2^28 blocks. AES-GCM is good for 2^34.5 of
/// them (RFC 8446, 5.5).
const REKEY_AFTER: u32 = 1 << 16;

/// One end of a connection after the handshake.
#[derive(Debug)]
pub struct RecordCodec {
    state: TransportState,
    /// The beginning of a record whose end has not come yet.
    partial: Vec<u8>,
    /// Records that were sealed, and opened, with the current key of that direction.
    sealed: u32,
    opened: u32,
    rekey_after: u32,
}

impl RecordCodec {
    pub fn new(state: TransportState) -> Self {
        let rekey_after = REKEY_AFTER;
        Self { state, partial: Vec::new(), sealed: 0, opened: 0, rekey_after }
    }

    #[cfg(test)]
    pub fn rekey_after(&mut self, records: u32) {
        self.rekey_after = records;
    }

    /// Append `plain` to `out`, in as many records as it takes.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        out.reserve(plain.len() + plain.len().div_ceil(MOST) * (HEAD + TAG));
        for piece in plain.chunks(MOST) {
            let (head, length) = (out.len(), piece.len() + TAG);
            out.resize(head + HEAD + length, 0);
            out[head..head + HEAD].copy_from_slice(&(length as u16).to_be_bytes());
            self.state.write_message(piece, &mut out[head + HEAD..]).map_err(|_| {
                ProtocolError::new("no more records can be sealed on this connection")
            })?;
            self.sealed += 1;
            if self.sealed == self.rekey_after {
                self.sealed = 0;
                self.state.rekey_outgoing();
            }
        }
        Ok(())
    }

    /// Take in what came and append to `out` what the complete records among it hold.
    pub fn open(&mut self, mut data: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        while !self.partial.is_empty() {
            let missing = missing(&self.partial)?;
            let (piece, rest) = data.split_at(missing.min(data.len()));
            self.partial.extend_from_slice(piece);
            data = rest;
            if piece.len() < missing {
                return Ok(());
            }
            // Complete, or only its length is.
            if self::missing(&self.partial)? == 0 {
                let record = std::mem::take(&mut self.partial);
                self.open_one(&record[HEAD..], out)?;
            }
        }
        while data.len() >= HEAD && missing(data)? == 0 {
            let (record, rest) = data.split_at(HEAD + length(data));
            self.open_one(&record[HEAD..], out)?;
            data = rest;
        }
        self.partial.extend_from_slice(data);
        Ok(())
    }

    fn open_one(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let start = out.len();
        // Room for the tag as well: the cipher works in place.
        out.resize(start + sealed.len(), 0);
        let opened = self.state.read_message(sealed, &mut out[start..]);
        out.truncate(start + *opened.as_ref().unwrap_or(&0));
        match opened {
            Ok(_) => {
                self.opened += 1;
                if self.opened == self.rekey_after {
                    self.opened = 0;
                    self.state.rekey_incoming();
                }
                Ok(())
            }
            Err(_) => Err(ProtocolError::new("a record that was not sealed by the other side")),
        }
    }

    /// Bytes of an incomplete record.
    pub fn partial(&self) -> usize {
        self.partial.len()
    }
}

fn length(data: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([data[0], data[1]]))
}

/// Bytes that the record needs beyond `data`; until its length is there, the bytes of that.
fn missing(data: &[u8]) -> Result<usize, ProtocolError> {
    if data.len() < HEAD {
        return Ok(HEAD - data.len());
    }
    let length = length(data);
    if length <= TAG {
        return Err(ProtocolError::of(format!(
            "a record of {length} bytes, which cannot hold anything"
        )));
    }
    Ok((HEAD + length).saturating_sub(data.len()))
}
