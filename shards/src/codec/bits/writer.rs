//! The token writer: uses the shortest standard form that reads back as the same value.

use std::collections::HashMap;

use super::code_table::{CODE_TABLE_BYTES_MAX, CodeTable, CodeTableSize, Entry, EntryKind};
use super::{code, number};
use crate::codec::text::quotes;
use crate::message::date::write as write_date;
use crate::message::word::is_atom;
use crate::message::{ParameterValue, WallTime};

/// The code table of the writing end, with a map from text to codes.
#[derive(Debug)]
pub(super) struct WrittenTable {
    table: CodeTable,
    codes: HashMap<Entry, u16>,
    learns: bool,
    /// Whether a word that is likely to recur is missing from the table.
    misses_lasting: bool,
    /// Codes used by a message that leaves the table unchanged. They are marked as used only once that is certain:
    /// until then the table keeps the order of the previous message.
    used: Vec<u16>,
}

impl WrittenTable {
    pub fn new(size: CodeTableSize) -> Self {
        let (table, codes) = (CodeTable::new(size), HashMap::new());
        Self { table, codes, learns: false, misses_lasting: false, used: Vec::new() }
    }

    /// Begins a message that leaves the table unchanged.
    pub fn begin(&mut self) {
        self.learns = false;
        self.misses_lasting = false;
        self.used.clear();
    }

    /// Begins a message that enters new text into the table, instead of the one begun before.
    pub fn begin_learning(&mut self) {
        self.begin();
        self.learns = true;
    }

    /// Confirms that the message begun is the one sent.
    pub fn keep(&mut self) {
        for code in self.used.drain(..) {
            self.table.touch(code);
        }
    }

    pub fn misses_lasting(&self) -> bool {
        self.misses_lasting
    }

    /// Whether the table has room for this many bytes.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.table.bytes().saturating_add(bytes) <= CODE_TABLE_BYTES_MAX
    }

    /// Returns the code of text written before; otherwise `None`, and the text is entered if the message does that.
    fn code(&mut self, kind: EntryKind, bytes: &[u8], is_lasting: bool) -> Option<u16> {
        let entry = Entry { kind, bytes: bytes.into() };
        match self.codes.get(&entry) {
            Some(code) if self.learns => {
                self.table.touch(*code);
                return Some(*code);
            }
            Some(code) => {
                self.used.push(*code);
                return Some(*code);
            }
            None => self.misses_lasting |= is_lasting && kind == EntryKind::Word,
        }
        if self.learns {
            let (code, gone) = self.table.insert(entry.clone());
            for gone in gone {
                self.codes.remove(&gone);
            }
            self.codes.insert(entry, code);
        }
        None
    }
}

/// Appends tokens to a buffer.
pub(super) struct Writer<'a> {
    pub output: &'a mut Vec<u8>,
    table: Option<&'a mut WrittenTable>,
    /// Whether the words being written are likely to recur in later messages.
    pub is_lasting: bool,
}

impl<'a> Writer<'a> {
    pub fn new(output: &'a mut Vec<u8>, table: Option<&'a mut WrittenTable>) -> Self {
        Self { output, table, is_lasting: true }
    }

    pub fn byte(&mut self, byte: u8) {
        self.output.push(byte);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Writes a word where the standard allows only words. Other text has no form there and is written with its length,
    /// so that it arrives.
    pub fn word(&mut self, text: &str) {
        if is_word(text.as_bytes()) { self.plain_word(text.as_bytes()) } else { self.counted(text.as_bytes()) }
    }

    /// Writes a word that needs no check.
    pub fn plain_word(&mut self, word: &[u8]) {
        if !self.indexed(code::WORD_INDEX, EntryKind::Word, word) {
            self.byte(code::WORD);
            self.terminated(word);
        }
    }

    /// Ends a word that is already written after `start`, the position of its code. It needs no check.
    pub fn end_word(&mut self, start: usize) {
        if self.table.is_some() {
            let word = self.output.split_off(start + 1);
            self.output.truncate(start);
            self.plain_word(&word);
        } else {
            self.byte(code::TERMINATOR);
        }
    }

    /// Writes text where any expression is allowed.
    pub fn text(&mut self, text: &str) {
        let bytes = text.as_bytes();
        if is_word(bytes) {
            self.plain_word(bytes);
        } else if is_atom(bytes) && number::has_half_bytes(bytes) {
            self.byte(code::DECIMAL);
            number::write(bytes, self.output);
        } else {
            self.counted(bytes);
        }
    }

    /// Writes the value of a user-defined parameter.
    pub fn value(&mut self, value: &ParameterValue) {
        match value {
            ParameterValue::Atom(text) if is_word(text.as_bytes()) => self.plain_word(text.as_bytes()),
            ParameterValue::Atom(text) if is_atom(text.as_bytes()) => {
                if number::has_half_bytes(text.as_bytes()) {
                    self.byte(code::DECIMAL);
                    number::write(text.as_bytes(), self.output);
                } else {
                    self.source(text);
                }
            }
            ParameterValue::List(expression) => self.source(expression.as_str()),
            // An invalid word or list would read back as something else.
            ParameterValue::Atom(text) | ParameterValue::Text(text) => self.string(text),
            ParameterValue::Binary(bytes) => self.counted(bytes),
        }
    }

    /// Writes an expression as its source text.
    fn source(&mut self, source: &str) {
        self.byte(code::SOURCE);
        self.counted(source.as_bytes());
    }

    /// Writes a string. Text that ends in a backslash has no string literal and is written with its length.
    fn string(&mut self, text: &str) {
        if text.ends_with('\\') {
            return self.counted(text.as_bytes());
        }
        let start = self.output.len();
        self.byte(code::STRING);
        string_form(text, self.output);
        if self.table.is_some() {
            let form = self.output.split_off(start + 1);
            if self.indexed_at(start, code::STRING_INDEX, EntryKind::String, &form) {
                return;
            }
            self.bytes(&form);
        }
        self.byte(code::TERMINATOR);
    }

    /// Writes any bytes, prefixed with their length.
    #[allow(clippy::cast_possible_truncation)] // Each length was checked against the range of its form.
    pub fn counted(&mut self, bytes: &[u8]) {
        if self.indexed(code::BYTES_INDEX, EntryKind::Bytes, bytes) {
            return;
        }
        match bytes.len() {
            length @ ..=0xff => self.bytes(&[code::BYTES_8, length as u8]),
            length @ ..=0xffff => {
                self.byte(code::BYTES_16);
                self.bytes(&(length as u16).to_be_bytes());
            }
            length => {
                // Content is at most 1 GiB long, and every other text far shorter.
                debug_assert!(u32::try_from(length).is_ok());
                self.byte(code::BYTES_32);
                self.bytes(&(length as u32).to_be_bytes());
            }
        }
        self.bytes(bytes);
    }

    pub fn terminated(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
        self.byte(code::TERMINATOR);
    }

    /// Writes an absolute time in UTC.
    pub fn date(&mut self, moment: WallTime) {
        self.byte(code::DATE | code::DESIGNATED);
        number::write_date(&write_date(moment), self.output);
        self.byte(b'Z');
    }

    #[inline]
    fn indexed(&mut self, code: u8, kind: EntryKind, bytes: &[u8]) -> bool {
        self.table.is_some() && self.indexed_at(self.output.len(), code, kind, bytes)
    }

    /// Replaces what is at `start` with its index, if the table has one.
    #[cold]
    fn indexed_at(&mut self, start: usize, code: u8, kind: EntryKind, bytes: &[u8]) -> bool {
        let Some(written) = self.table.as_deref_mut() else { return false };
        let Some(index) = written.code(kind, bytes, self.is_lasting) else { return false };
        let width = written.table.size().code_bytes();
        self.output.truncate(start);
        self.byte(code);
        self.output.extend_from_slice(&index.to_be_bytes()[2 - width..]);
        true
    }
}

/// Writes text as a standard string without its terminator: a literal, or with its length if it contains a terminator.
pub(super) fn string_form(text: &str, output: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    if memchr::memchr(code::TERMINATOR, bytes).is_some() {
        return counted_form(bytes, output);
    }
    output.push(b'"');
    let mut copied = 0;
    for quote in quotes(bytes) {
        output.extend_from_slice(&bytes[copied..quote]);
        output.push(b'\\');
        copied = quote;
    }
    output.extend_from_slice(&bytes[copied..]);
    output.push(b'"');
}

/// Writes `#n"` and the bytes.
pub(super) fn counted_form(bytes: &[u8], output: &mut Vec<u8>) {
    output.push(b'#');
    output.extend_from_slice(bytes.len().to_string().as_bytes());
    output.push(b'"');
    output.extend_from_slice(bytes);
}

/// Whether `bytes` are a word of SC00070, rather than a number or a date.
fn is_word(bytes: &[u8]) -> bool {
    !matches!(bytes.first(), None | Some(b'-' | b'0'..=b'9')) && is_atom(bytes)
}
