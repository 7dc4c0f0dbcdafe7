//! Several messages in one text, and resynchronisation after a malformed one.
//!
//! A JSON value that is not a message ends where the value ends. After invalid JSON, the next message begins at the
//! next line that begins with `{`: no line can begin inside a string.
//!
//! Some bytes are read again that way. Their total is bounded by a multiple of the input's length; once it is used up,
//! reading continues after everything already looked at. Reading time is therefore proportional to the input.

use super::parse::Reader;
use super::value::Node;
use crate::codec::text::{BYTE_ORDER_MARK, Limits, Located, ParseError, Place, Refusal};
use crate::codec::window::{REREAD_PER_BYTE, Readable};
use crate::message::{Message, WallTime};

/// Reads a text of any number of messages, with white space or nothing between them.
///
/// Ends after the last message. Each malformed message yields one error, and reading continues after it.
#[derive(Debug)]
pub struct Messages<'a> {
    input: &'a [u8],
    now: WallTime,
    limits: Limits,
    position: usize,
    /// The last position whose line is known, at or before `position`.
    place: Place,
    readable: Readable<'a>,
    /// How many more bytes may be read again.
    reread_left: usize,
}

impl<'a> Messages<'a> {
    /// Reads `input` from the beginning. Relative dates count from `now`.
    pub fn new(input: &'a [u8], now: WallTime, limits: &Limits) -> Self {
        Self {
            input,
            now,
            limits: *limits,
            position: if input.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 },
            place: Place::START,
            readable: Readable::new(input),
            reread_left: input.len().saturating_mul(REREAD_PER_BYTE),
        }
    }

    /// Returns where reading continues after invalid JSON at `start`, looked at up to `reached`.
    fn behind_malformed(&mut self, start: usize, reached: usize) -> usize {
        let resume = self.next_line_start(start);
        match self.reread_left.checked_sub(reached.saturating_sub(resume)) {
            Some(left) => {
                self.reread_left = left;
                resume
            }
            None => self.next_line_start(reached.max(resume).min(self.input.len())),
        }
    }

    /// Returns the next line after `offset` that begins with a message, or the end.
    fn next_line_start(&self, offset: usize) -> usize {
        let rest = &self.input[offset..];
        memchr::memchr_iter(b'\n', rest)
            .find_map(|end| (rest.get(end + 1) == Some(&b'{')).then_some(offset + end + 1))
            .unwrap_or(self.input.len())
    }

    fn error(&self, refusal: Refusal) -> ParseError {
        let mut place = self.place;
        place.advance(self.input, refusal.offset);
        refusal.at(place)
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Located<Message>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.position + self.input[self.position..].iter().take_while(|byte| is_space(**byte)).count();
        self.position = start;
        if start == self.input.len() {
            return None;
        }
        self.place.advance(self.input, start);
        let (source, end) = self.readable.window(start, self.limits.message_bytes_max);
        let window = Node { source, offset: start, end };
        let node = match window.value() {
            Ok(Some(node)) => node,
            Ok(None) => return None,
            Err(refusal) => {
                let error = self.error(refusal);
                // An error at the end of the window means that all of it was looked at; any other, that no more was.
                self.position = self.behind_malformed(start, error.offset);
                return Some(Err(error));
            }
        };
        self.position = node.offset + node.source.len();
        Some(match Reader::new(&self.limits, self.now).message(node) {
            Ok(value) => Ok(Located {
                value,
                line: self.place.line,
                column: self.place.column,
                range: node.offset..self.position,
            }),
            Err(refusal) => Err(self.error(refusal)),
        })
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
