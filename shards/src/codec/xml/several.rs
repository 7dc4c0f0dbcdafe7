//! Several messages in one text, and resynchronisation after a malformed one.
//!
//! After a malformed message the next one begins at the next `<fipa-message` after the position of the error. That may
//! be inside a comment or a `CDATA` section of the malformed message; then it gives one more error, and reading
//! continues.
//!
//! Some bytes are read again that way. Their total is bounded by a multiple of the input's length; once it is used up,
//! reading continues after everything already looked at. Reading time is therefore proportional to the input.

use memchr::memmem;

use super::parse::Reader;
use crate::codec::text::{BYTE_ORDER_MARK, Limits, Located, ParseError, Place, Read};
use crate::codec::window::{REREAD_PER_BYTE, Readable};
use crate::message::{Message, WallTime};

/// Reads a text of any number of messages, one document after the other.
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

    /// Returns where reading continues after the malformed message at `start`, looked at up to `reached`.
    fn behind_malformed(&mut self, start: usize, error: usize, reached: usize) -> usize {
        let from = error.max(start + 1).min(self.input.len());
        match self.reread_left.checked_sub(reached.saturating_sub(from)) {
            Some(left) => {
                self.reread_left = left;
                self.next_message(from)
            }
            None => self.next_message(reached.max(from).min(self.input.len())),
        }
    }

    fn next_message(&self, from: usize) -> usize {
        let rest = &self.input[from..];
        memmem::find(rest, b"<fipa-message").map_or(self.input.len(), |distance| from + distance)
    }

    fn read(&mut self, reader: &mut Reader<'a>) -> Option<Read<(usize, Message)>> {
        match reader.cursor.root("a message, which begins with <fipa-message") {
            Ok(None) => None,
            Ok(Some(tag)) => Some(reader.message_of(&tag, self.now).map(|message| (tag.offset, message))),
            Err(refusal) => Some(Err(refusal)),
        }
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Located<Message>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.input.len() {
            return None;
        }
        let start = self.position;
        let (window, end) = self.readable.window(start, self.limits.message_bytes_max);
        let mut reader = Reader::new(window, start, end, &self.limits);
        let read = self.read(&mut reader)?;
        let reached = reader.cursor.position();
        Some(match read {
            Ok((offset, value)) => {
                assert!(reached > start, "reading moves forward");
                self.position = reached;
                self.place.advance(self.input, offset);
                Ok(Located { value, line: self.place.line, column: self.place.column, range: offset..reached })
            }
            Err(refusal) => {
                self.place.advance(self.input, start);
                let mut place = self.place;
                place.advance(self.input, refusal.offset.max(start));
                self.position = self.behind_malformed(start, refusal.offset, reached);
                Err(refusal.at(place))
            }
        })
    }
}
