//! Fields in msgpack, as far as they are used here: no maps, no extensions.

use super::ProtocolError;

/// How deep lists may lie in lists.
pub const DEPTH: u32 = 16;
/// Lists in one message: each costs its reader far more than it costs its writer.
const LISTS: usize = 1 << 20;
/// Values in one message, unless its reader allows fewer.
pub const VALUES: usize = 1 << 25;

/// How many lists and values one message may still have: its reader needs more memory for them than
/// they take in the message.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    lists: usize,
    values: usize,
    most: usize,
}

impl Budget {
    pub const UNLIMITED: Self = Self { lists: usize::MAX, values: usize::MAX, most: usize::MAX };

    pub fn new(values: usize) -> Self {
        Self { lists: LISTS, values, most: values }
    }

    /// Account for a list of so many values; the error says which limit it exceeds.
    pub fn spend(&mut self, length: usize) -> Result<(), String> {
        match (self.lists.checked_sub(1), self.values.checked_sub(length)) {
            (Some(lists), Some(values)) => {
                (self.lists, self.values) = (lists, values);
                Ok(())
            }
            (None, _) => Err(format!("more than {LISTS} lists in one message")),
            (_, None) => Err(format!("more than {} values in one message", self.most)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    /// Above the range of `Int`.
    Big(u64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// So many values follow.
    List(usize),
}

/// One value after the other out of a payload.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    budget: Budget,
}

impl<'a> Reader<'a> {
    pub fn new(payload: &'a [u8]) -> Self {
        Self::with_budget(payload, Budget::new(VALUES))
    }

    pub fn with_budget(payload: &'a [u8], budget: Budget) -> Self {
        Self { rest: payload, budget }
    }

    /// Nothing may be left behind the last value.
    pub fn end(&self) -> Result<(), ProtocolError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(ProtocolError::of(format!("{left} bytes behind the last field"))),
        }
    }

    pub fn token(&mut self) -> Result<Token<'a>, ProtocolError> {
        let [tag] = self.array()?;
        Ok(match tag {
            0x00..=0x7f => Token::Int(i64::from(tag)),
            0x90..=0x9f => self.list(usize::from(tag & 0x0f))?,
            0xa0..=0xbf => self.text(usize::from(tag & 0x1f))?,
            0xc0 => Token::Nil,
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4..=0xc6 => {
                let length = self.length(tag - 0xc4)?;
                Token::Bytes(self.take(length)?)
            }
            0xca => Token::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Token::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Token::Int(i64::from(u8::from_be_bytes(self.array()?))),
            0xcd => Token::Int(i64::from(u16::from_be_bytes(self.array()?))),
            0xce => Token::Int(i64::from(u32::from_be_bytes(self.array()?))),
            0xcf => {
                let number = u64::from_be_bytes(self.array()?);
                i64::try_from(number).map_or(Token::Big(number), Token::Int)
            }
            0xd0 => Token::Int(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => Token::Int(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => Token::Int(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => Token::Int(i64::from_be_bytes(self.array()?)),
            0xd9..=0xdb => {
                let length = self.length(tag - 0xd9)?;
                self.text(length)?
            }
            0xdc | 0xdd => {
                let length = self.length(tag - 0xdb)?;
                self.list(length)?
            }
            0xe0..=0xff => Token::Int(i64::from(tag as i8)),
            0x80..=0x8f | 0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 | 0xde | 0xdf => {
                return Err(ProtocolError::of(format!(
                    "a field of a kind that is not allowed ({tag:#04x})"
                )))
            }
        })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtocolError> {
        if length > self.rest.len() {
            return Err(ProtocolError::new("a field that is longer than its message"));
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("as long as asked for"))
    }

    /// A length in one, two or four bytes.
    fn length(&mut self, width: u8) -> Result<usize, ProtocolError> {
        Ok(match width {
            0 => usize::from(u8::from_be_bytes(self.array()?)),
            1 => usize::from(u16::from_be_bytes(self.array()?)),
            _ => u32::from_be_bytes(self.array()?) as usize,
        })
    }

    fn text(&mut self, length: usize) -> Result<Token<'a>, ProtocolError> {
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map(Token::Text)
            .map_err(|_| ProtocolError::new("text that is no UTF-8"))
    }

    fn list(&mut self, length: usize) -> Result<Token<'a>, ProtocolError> {
        if length > self.rest.len() {
            return Err(ProtocolError::new("a list that is longer than its message"));
        }
        self.budget.spend(length).map_err(ProtocolError::of)?;
        Ok(Token::List(length))
    }
}

pub fn put_nil(out: &mut Vec<u8>) {
    out.push(0xc0);
}

pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(0xc2 + u8::from(value));
}

pub fn put_int(out: &mut Vec<u8>, value: i64) {
    match value {
        -32..=0x7f => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => tagged(out, 0xcd, &(value as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => tagged(out, 0xce, &(value as u32).to_be_bytes()),
        -0x80..=-33 => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000..=-0x81 => tagged(out, 0xd1, &(value as i16).to_be_bytes()),
        -0x8000_0000..=-0x8001 => tagged(out, 0xd2, &(value as i32).to_be_bytes()),
        0x1_0000_0000.. => put_big(out, value as u64),
        _ => tagged(out, 0xd3, &value.to_be_bytes()),
    }
}

pub fn put_big(out: &mut Vec<u8>, value: u64) {
    tagged(out, 0xcf, &value.to_be_bytes());
}

pub fn put_float(out: &mut Vec<u8>, value: f64) {
    tagged(out, 0xcb, &value.to_be_bytes());
}

/// False if it is too long for the format.
#[must_use]
pub fn put_bytes(out: &mut Vec<u8>, value: &[u8]) -> bool {
    let fits = put_length(out, None, [0xc4, 0xc5, 0xc6], value.len());
    out.extend_from_slice(if fits { value } else { &[] });
    fits
}

#[must_use]
pub fn put_text(out: &mut Vec<u8>, value: &str) -> bool {
    let fits = put_length(out, Some((0xa0, 32)), [0xd9, 0xda, 0xdb], value.len());
    out.extend_from_slice(if fits { value.as_bytes() } else { &[] });
    fits
}

#[must_use]
pub fn put_list(out: &mut Vec<u8>, length: usize) -> bool {
    // There is no list with a length of one byte: 0xdc and 0xdd are of two and four.
    let (short, tags) = (Some((0x90, 16)), [0xdc, 0xdc, 0xdd]);
    match length {
        16..=0xff => tagged(out, 0xdc, &(length as u16).to_be_bytes()),
        _ => return put_length(out, short, tags, length),
    }
    true
}

fn put_length(out: &mut Vec<u8>, short: Option<(u8, usize)>, tags: [u8; 3], length: usize) -> bool {
    match (short, length) {
        (Some((tag, below)), _) if length < below => out.push(tag | length as u8),
        (_, 0..=0xff) => out.extend_from_slice(&[tags[0], length as u8]),
        (_, 0x100..=0xffff) => tagged(out, tags[1], &(length as u16).to_be_bytes()),
        (_, 0x1_0000..=0xffff_ffff) => tagged(out, tags[2], &(length as u32).to_be_bytes()),
        _ => return false,
    }
    true
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}
