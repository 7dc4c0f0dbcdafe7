//! Several messages in one text, and how reading goes on behind a malformed one.
//!
//! Where the parentheses of a malformed message balance, strings taken as strings, the next message is looked for
//! behind them: what stands inside a string is never taken for a message. Where they don't, because a quote or a
//! parenthesis is missing, the next message begins at the next line that begins with a parenthesis. Bytes between
//! messages that are no white space are an error too, and end at such a line.
//!
//! A quote behind a backslash belongs to its string. Where a malformed message has one and not even the form of a message
//! that way, the quote may have ended its string: then the next message begins at the first place where parentheses may
//! balance, so that one backslash never costs the messages that follow.
//!
//! All ways read some bytes twice. The total of these is bounded by a multiple of the input's length; when it is used
//! up, reading goes on behind everything that was looked at. So no input is read for longer than its length deserves,
//! and every error moves forward.

use std::ops::Range;

use super::error::{BYTE_ORDER_MARK, ParseError, Place, Refusal};
use super::lexer::{Lexer, behind_space};
use super::parse::{Reader, another_reading, has_escaped_quote};
use super::readings::first_end;
use super::{Limits, Strictness};
use crate::message::{Message, WallTime};

/// How many bytes may be read again, for each byte of the input.
pub(super) const REREAD_PER_BYTE: usize = 8;

/// A value and where it stood in the input.
#[derive(Clone, PartialEq, Debug)]
pub struct Located<T> {
    /// What stood there.
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
/// Ends after the last message. Each malformed one gives one error, and reading goes on behind it.
#[derive(Debug)]
pub struct Messages<'a> {
    input: &'a [u8],
    now: WallTime,
    limits: Limits,
    position: usize,
    /// The last place whose line is known, at or before `position`.
    place: Place,
    /// How many more bytes may be read again.
    reread_left: usize,
    /// The input may go on behind its end.
    may_go_on: bool,
}

impl<'a> Messages<'a> {
    /// Reads `input` from its beginning. Relative dates count from `now`.
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

    /// Has the input be a beginning, as far as it has come. Then there is no next message where it would depend on what
    /// follows whether and how it can be read.
    #[must_use]
    pub fn may_go_on(mut self) -> Self {
        self.may_go_on = true;
        self
    }

    /// How many bytes were read: all messages so far, malformed ones too, lie in them.
    pub fn taken(&self) -> usize {
        self.position
    }

    /// Whether it depends on what follows the input how the message at `start` is to be read, of which all up to `reached`
    /// was looked at.
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

    /// The message that can't be read as it stands in the one reading in which strings end in backslashes, and where it
    /// ends. If there is no such reading, the refusal stands. Of the message the bytes `seen` were looked at.
    #[cold]
    fn read_again(&mut self, seen: Range<usize>, refusal: Refusal) -> Result<(Message, usize), Refusal> {
        match another_reading(self.input, seen, self.now, &self.limits, &mut self.reread_left) {
            Some(mut reader) => reader.message().map(|message| (message, reader.lexer.position())),
            None => Err(refusal),
        }
    }

    /// Where reading goes on after the malformed message at `start`, of which all up to `reached` was looked at.
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

    /// Where the next message begins behind a malformed one in which a quote stands behind a backslash, and which does not
    /// even have the form of a message if that quote belongs to a string: then it may have ended the string, and the string
    /// must not reach into the messages that follow.
    fn first_end(&mut self, seen: Range<usize>) -> Option<usize> {
        if self.limits.strictness == Strictness::Strict
            || !has_escaped_quote(self.input, seen.clone(), &mut self.reread_left)
        {
            return None;
        }
        let window = Lexer::new(self.input, seen.start, &self.limits).window();
        first_end(window, seen.start, self.limits.nesting_max, &mut self.reread_left)
    }

    /// Closing parentheses are surplus ones of the message before, which the next message may follow at once.
    fn behind_garbage(&self, start: usize) -> usize {
        let closing = self.input[start..].iter().take_while(|byte| **byte == b')').count();
        if closing > 0 { start + closing } else { self.next_line_start(start) }
    }

    /// The next parenthesis that opens at the beginning of a line after `offset`, blanks before it aside; or the end.
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

    /// Goes on behind a malformed message.
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
