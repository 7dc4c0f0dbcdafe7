//! The bit-efficient form of messages (FIPA SC00069) and of transport envelopes (SC00088).
//!
//! [`parse`] reads one message, [`Messages`] several in a row, [`print()`] writes one; [`Encoder`] and [`Decoder`] do
//! the same for the two ends of a connection with a shared code table. [`parse_envelope`] and [`print_envelope`] are
//! for the envelope around a message. The guarantees of the [string form](super::text) apply here too:
//!
//! - A message that was written and read again equals itself, whatever bytes it carries, and equals what the string
//!   form gives.
//! - Input controls nothing but its own length: sizes, counts and nesting are checked against the [`Limits`] before
//!   memory is allocated. A code table, whose entries a message repeats with two bytes, is bounded too, and so is the
//!   size of a value built from it.
//! - Nothing is lost silently: what cannot be understood is refused with its position and the reason.
//!
//! # What is written
//!
//! | Value | Form |
//! |---|---|
//! | word | `10` word `00`, or `11` and its index |
//! | decimal number without a small `e` | `12` and half-bytes |
//! | content, and text that is not a word | `16`, `17` or `19`, length, bytes; or `18` and its index |
//! | string of a user-defined parameter | `14`, string literal of SC00070, `00`; or `15` and its index |
//! | expression in parentheses, date, other number | `ff` and its source text with its length |
//! | `reply-by` | `24` date `Z` |
//!
//! Content is written with its length because that is its shortest form and carries any bytes. An address or a protocol
//! that is not a word has no form in the standard; it too is written with its length.
//!
//! # What is accepted beyond the standard
//!
//! - Any value, including dates, where a word, a string or an expression belongs.
//! - Strings (`14`) without quotes, as other platforms write them; and any of the three codes of an index, whatever the
//!   entry is.
//! - A `reply-by` that is not a date, as in the string form.
//! - User-defined parameters whose names do not begin with `X-`, and names of agents that are not words.
//! - In envelopes, `to` and `intended-receiver` once for all agents or once for each.
//! - Envelopes whose length does not count its own three or seven bytes, numbers in envelopes without their code, and
//!   both codes in use for the user-defined parameters of identifiers there.
//!
//! Hexadecimal numbers (`13`) are read as `0x` and upper-case digits; they are not written. After a fused parenthesis
//! (`5x`, `7x`) the standard uses `8` for 32-bit lengths and `9` for indexes, the reverse of standalone tokens.
//!
//! # What the router adds
//!
//! Delivery options are encoded in the same user-defined parameters as in the [string form](super::text), and what has
//! no string form has none here.

mod code;
mod code_table;
mod connection;
mod envelope;
mod error;
mod expression;
mod number;
mod parse;
mod print;
mod reader;
mod writer;

use std::ops::Range;

pub use code_table::{CODE_TABLE_BYTES_MAX, CodeTableSize};
pub use connection::{CODE_TABLE_CONTENT_BYTES_MAX, Decoder, Encoder};
pub use envelope::{parse_envelope, print_envelope};
pub use error::BitsError;

use super::text::{Limits, Names};
use crate::message::{Message, WallTime};
use reader::Reader;

/// Reads exactly one message. Relative dates count from `now`. Any header is accepted, but without a connection there
/// is no code table to refer to.
///
/// # Errors
///
/// Returns the first fault in the input, with its position.
#[inline]
pub fn parse(input: &[u8], now: WallTime, limits: &Limits) -> Result<Message, BitsError> {
    let mut reader = Reader::new(input, 0, now, limits, None);
    let message = reader.message()?;
    if reader.position() < input.len() {
        return Err(reader.expected("the end of the input").into());
    }
    Ok(message)
}

/// Appends the bit-efficient form of `message` to `output`, without a code table (header FA).
///
/// Agents are written with the names they came with or that `names` returns. An agent without a known name is written
/// with its id as its name, as in the string form.
pub fn print(message: &Message, names: &dyn Names, output: &mut Vec<u8>) {
    print::message(code::NO_TABLE, message, names, None, output);
}

/// Reads consecutive messages without a code table. Nothing separates them, so nothing can be read after an error.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    input: &'a [u8],
    position: usize,
    now: WallTime,
    limits: Limits,
}

impl<'a> Messages<'a> {
    /// Creates a reader of `input`. Relative dates count from `now`.
    pub fn new(input: &'a [u8], now: WallTime, limits: &Limits) -> Self {
        Self { input, position: 0, now, limits: *limits }
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<(Message, Range<usize>), BitsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.input.len() {
            return None;
        }
        let start = self.position;
        let mut reader = Reader::new(self.input, start, self.now, &self.limits, None);
        match reader.message() {
            Ok(message) => {
                self.position = reader.position();
                Some(Ok((message, start..self.position)))
            }
            Err(refusal) => {
                self.position = self.input.len();
                Some(Err(refusal.into()))
            }
        }
    }
}
