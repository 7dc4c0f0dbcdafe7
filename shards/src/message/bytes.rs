//! Encoding and decoding of records: little-endian numbers, and length-prefixed text.
//!
//! Lengths are checked against the available input before anything is allocated, and no input makes the reader panic.

use crate::domain::AgentName;
use crate::message::{AgentId, ConversationId, MessageId};

/// Bytes are not a valid record of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The record ends too early.
    #[error("the record ends within its {0}")]
    Truncated(&'static str),
    /// A number has no known meaning.
    #[error("the record's {what} is {value}, which has no meaning in this version")]
    Unknown {
        /// The field that was read.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// A value is invalid.
    #[error("the record's {0} is invalid")]
    Illegal(&'static str),
    /// Bytes are left over after the record.
    #[error("the record has {0} bytes too many")]
    TooLong(usize),
}

/// Appends the parts of a record to a buffer.
pub(crate) trait Write {
    fn put(&mut self, bytes: &[u8]);

    #[inline]
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    #[inline]
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    #[inline]
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    #[inline]
    fn put_u128(&mut self, value: u128) {
        self.put(&value.to_le_bytes());
    }

    /// Appends length-prefixed bytes. Lengths beyond 32 bits are cut, which no limit allows.
    #[inline]
    fn put_bytes(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.put_u32(length);
        self.put(&bytes[..length as usize]);
    }

    #[inline]
    fn put_text(&mut self, text: &str) {
        self.put_bytes(text.as_bytes());
    }

    fn put_optional_text(&mut self, text: Option<&str>) {
        self.put_u8(u8::from(text.is_some()));
        if let Some(text) = text {
            self.put_text(text);
        }
    }

    fn put_count(&mut self, count: usize) {
        self.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

impl Write for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Reads the parts of a record from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_empty(self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that nothing is left.
    pub fn end(self) -> Result<(), RecordError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RecordError::TooLong(self.rest.len())) }
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], RecordError> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else { return Err(RecordError::Truncated(what)) };
        self.rest = rest;
        Ok(taken)
    }

    fn array<const LENGTH: usize>(&mut self, what: &'static str) -> Result<[u8; LENGTH], RecordError> {
        let taken = self.take(LENGTH, what)?;
        taken.try_into().map_err(|_| RecordError::Truncated(what))
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, RecordError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, RecordError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, RecordError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub fn u128(&mut self, what: &'static str) -> Result<u128, RecordError> {
        Ok(u128::from_le_bytes(self.array(what)?))
    }

    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], RecordError> {
        let length = self.u32(what)? as usize;
        self.take(length, what)
    }

    pub fn text(&mut self, what: &'static str) -> Result<&'a str, RecordError> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| RecordError::Illegal(what))
    }

    pub fn optional_text(&mut self, what: &'static str) -> Result<Option<Box<str>>, RecordError> {
        match self.u8(what)? {
            0 => Ok(None),
            1 => Ok(Some(self.text(what)?.into())),
            value => Err(RecordError::Unknown { what, value: value.into() }),
        }
    }

    /// Reads a count of items, of at least one byte each and `most` in number.
    pub fn count(&mut self, most: usize, what: &'static str) -> Result<usize, RecordError> {
        let count = self.u32(what)? as usize;
        if count > most {
            return Err(RecordError::Illegal(what));
        }
        if count > self.rest.len() {
            return Err(RecordError::Truncated(what));
        }
        Ok(count)
    }

    pub fn agent(&mut self, what: &'static str) -> Result<AgentId, RecordError> {
        AgentId::from_u128(self.u128(what)?).ok_or(RecordError::Illegal(what))
    }

    pub fn message_id(&mut self, what: &'static str) -> Result<MessageId, RecordError> {
        MessageId::from_u128(self.u128(what)?).ok_or(RecordError::Illegal(what))
    }

    pub fn conversation(&mut self, what: &'static str) -> Result<ConversationId, RecordError> {
        ConversationId::from_u128(self.u128(what)?).ok_or(RecordError::Illegal(what))
    }

    pub fn name(&mut self, what: &'static str) -> Result<AgentName, RecordError> {
        AgentName::try_new(self.text(what)?).map_err(|_| RecordError::Illegal(what))
    }
}
