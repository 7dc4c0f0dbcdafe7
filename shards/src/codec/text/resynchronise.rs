//! Several messages in one text, and resynchronisation after a malformed one.
//!
//! If the parentheses of a malformed message balance, treating strings as strings, the next message is searched for
//! after them: the inside of a string is never taken for a message. If they do not balance, because a quote or a
//! parenthesis is missing, the next message begins at the next line that begins with a parenthesis. Bytes other than
//! white space between messages are an error too, which ends at such a line.
//!
//! A quote after a backslash belongs to its string. If a malformed message contains one and does not even have the form
//! of a message that way, the quote may have ended its string: then the next message begins at the first place where
//! the parentheses may balance, so that one backslash never costs the messages that follow.
//!
//! In all these cases some bytes are read twice. Their total is bounded by a multiple of the input's length; once it is
//! used up, reading continues after everything already looked at. Reading time is therefore proportional to the input,
//! and every error makes progress.

use std::ops::Range;

use super::error::{BYTE_ORDER_MARK, ParseError, Place, Refusal};
use super::lexer::{Lexer, behind_space};
use super::parse::{Reader, another_reading, has_escaped_quote};
use super::readings::first_end;
use super::{Limits, Strictness};
use crate::message::{Message, WallTime};

/// How many bytes may be read again, for each byte of the input.
pub(super) const REREAD_PER_BYTE: usize = 8;

/// A value with its position in the input.
#[derive(Clone, PartialEq, Debug)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// The line on which it begins, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// Its bytes.
    pub range: Range<usize>,
}

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
    /// How many more bytes may be read again.
    reread_left: usize,
    /// Whether more input may follow.
    may_go_on: bool,
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
            reread_left: input.len().saturating_mul(REREAD_PER_BYTE),
            may_go_on: false,
        }
    }

    /// Treats the input as a prefix of more to come. Messages whose reading depends on what follows are then not
    /// returned.
    #[must_use]
    pub fn may_go_on(mut self) -> Self {
        self.may_go_on = true;
        self
    }

    /// Returns the number of bytes consumed: they contain all messages so far, including malformed ones.
    pub fn taken(&self) -> usize {
        self.position
    }

    /// Whether the reading of the message at `start`, looked at up to `reached`, depends on what follows the input.
    fn depends_on_more(&self, start: usize, reached: usize) -> bool {
        if !self.may_go_on || reached > start + self.limits.message_bytes_max {
            return false;
        }
        let resume = match self.input[start] {
            b'(' => Lexer::new(self.input, start, &self.limits).past_balanced(),
            _ => Some(self.behind_garbage(start)),
        };
        reached >= self.input.len() || resume.is_none_or(|resume| resume >= self.input.len())
    }

    /// Reads a message that is malformed by the standard's rule in the only reading in which strings end in
    /// backslashes, and returns where it ends. If there is no such reading, the refusal stands. The bytes `seen` of the
    /// message were looked at.
    #[cold]
    fn read_again(&mut self, seen: Range<usize>, refusal: Refusal) -> Result<(Message, usize), Refusal> {
        match another_reading(self.input, seen, self.now, &self.limits, &mut self.reread_left) {
            Some(mut reader) => reader.message().map(|message| (message, reader.lexer.position())),
            None => Err(refusal),
        }
    }

    /// Returns where reading continues after the malformed message at `start`, looked at up to `reached`.
    fn behind_malformed(&mut self, start: usize, reached: usize) -> usize {
        if self.input[start] != b'(' {
            return self.behind_garbage(start);
        }
        if let Some(end) = self.first_end(start..reached) {
            return end;
        }
        let window = Limits { message_bytes_max: self.reread_left, ..self.limits };
        let mut lexer = Lexer::new(self.input, start, &window);
        let balanced = lexer.past_balanced();
        let resume = balanced.unwrap_or_else(|| self.next_line_start(start));
        let seen = reached.max(lexer.position());
        match self.reread_left.checked_sub(seen - start) {
            Some(left) => {
                self.reread_left = left;
                resume
            }
            None => self.next_line_start(seen.max(resume)),
        }
    }

    /// Returns where the next message begins after a malformed one that contains a quote after a backslash and does not
    /// even have the form of a message if that quote belongs to its string. The quote may then have ended the string,
    /// which must not reach into the messages that follow.
    fn first_end(&mut self, seen: Range<usize>) -> Option<usize> {
        if self.limits.strictness == Strictness::Strict
            || !has_escaped_quote(self.input, seen.clone(), &mut self.reread_left)
        {
            return None;
        }
        let window = Lexer::new(self.input, seen.start, &self.limits).window();
        first_end(window, seen.start, self.limits.nesting_max, &mut self.reread_left)
    }

    /// Closing parentheses are surplus ones of the previous message, which the next message may follow immediately.
    fn behind_garbage(&self, start: usize) -> usize {
        let closing = self.input[start..].iter().take_while(|byte| **byte == b')').count();
        if closing > 0 { start + closing } else { self.next_line_start(start) }
    }

    /// Returns the next opening parenthesis at the beginning of a line after `offset`, ignoring blanks before it, or
    /// the end.
    fn next_line_start(&self, offset: usize) -> usize {
        let rest = &self.input[offset..];
        memchr::memchr_iter(b'\n', rest)
            .find_map(|end| {
                let line = &rest[end + 1..];
                let blanks = line.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                (line.get(blanks) == Some(&b'(')).then_some(offset + end + 1 + blanks)
            })
            .unwrap_or(self.input.len())
    }

    /// Continues after a malformed message.
    fn refused(&mut self, start: usize, reached: usize, refusal: Refusal) -> ParseError {
        let resume = self.behind_malformed(start, reached.max(refusal.offset));
        self.go_on_at(resume);
        let mut place = self.place;
        place.advance(self.input, refusal.offset);
        refusal.at(place)
    }

    fn go_on_at(&mut self, position: usize) {
        assert!(position > self.position, "reading moves forward");
        self.position = position;
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Located<Message>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = behind_space(self.input, self.position);
        if start == self.input.len() {
            return None;
        }
        self.position = start;
        self.place.advance(self.input, start);
        let mut reader = Reader::new(self.input, start, self.now, &self.limits);
        let read = reader.message();
        let reached = reader.lexer.position();
        Some(match read {
            Ok(value) => {
                self.go_on_at(reached);
                Ok(Located { value, line: self.place.line, column: self.place.column, range: start..reached })
            }
            Err(_) if self.depends_on_more(start, reached) => return None,
            Err(refusal) => match self.read_again(start..reached, refusal) {
                Ok((value, reached)) => {
                    self.go_on_at(reached);
                    Ok(Located { value, line: self.place.line, column: self.place.column, range: start..reached })
                }
                Err(refusal) => Err(self.refused(start, reached, refusal)),
            },
        })
    }
}
