//! The two ends of a connection that uses code tables: each keeps its own table.

use super::code_table::{CodeTable, CodeTableSize};
use super::error::BitsError;
use super::reader::Reader;
use super::writer::WrittenTable;
use super::{code, print};
use crate::codec::text::{Limits, Names, ParseErrorKind};
use crate::message::{Message, WallTime};

/// Maximum size of content entered into a code table, in bytes: longer content would only displace words that are used
/// again.
pub const CODE_TABLE_CONTENT_BYTES_MAX: usize = 1_024;

/// Writes messages to one connection, with a code table.
///
/// If a message contains a name, an address or a term that the table lacks, everything new in the message is entered
/// (header FB); the standard offers no finer choice. Any other message leaves the table unchanged (header FC), so that
/// content and ids, which rarely repeat, do not displace what does.
#[derive(Debug)]
pub struct Encoder {
    written: WrittenTable,
}

impl Encoder {
    /// Creates an encoder with an empty table. The other end must use the same size.
    pub fn new(size: CodeTableSize) -> Self {
        Self { written: WrittenTable::new(size) }
    }

    /// Appends `message` to `output`. Messages must reach the other end complete and in this order.
    ///
    /// Agents are named as in [`print`](super::print()).
    pub fn print(&mut self, message: &Message, names: &dyn Names, output: &mut Vec<u8>) {
        let start = output.len();
        self.written.begin();
        print::message(code::TABLE_KEPT, message, names, Some(&mut self.written), output);
        let is_learned = self.written.misses_lasting()
            && message.content().len() <= CODE_TABLE_CONTENT_BYTES_MAX
            // New entries are spelled out in the output.
            && self.written.has_room(output.len() - start);
        if is_learned {
            output.truncate(start);
            self.written.begin_learning();
            print::message(code::TABLE, message, names, Some(&mut self.written), output);
        } else {
            self.written.keep();
        }
    }
}

/// Reads messages from one connection, with or without a code table.
#[derive(Debug)]
pub struct Decoder {
    table: CodeTable,
    /// Whether a message was refused after it used the table, so that the other end's table may differ.
    is_out_of_step: bool,
}

impl Decoder {
    /// Creates a decoder with an empty table. The other end must use the same size.
    pub fn new(size: CodeTableSize) -> Self {
        Self { table: CodeTable::new(size), is_out_of_step: false }
    }

    /// Reads the message at the start of `input` and returns its length in bytes. Relative dates count from `now`.
    ///
    /// # Errors
    ///
    /// Returns the first fault in the input. If the message used the table (header FB or FC), the table may differ from
    /// the other end's from then on: later messages that use it are refused, and the connection should be restarted.
    /// Messages without a table (header FA) can still be read.
    pub fn parse(&mut self, input: &[u8], now: WallTime, limits: &Limits) -> Result<(Message, usize), BitsError> {
        let uses_table = matches!(input.first(), Some(&(code::TABLE | code::TABLE_KEPT)));
        if uses_table && self.is_out_of_step {
            let fault = ParseErrorKind::Contradiction(
                "the code table is out of step, because a message that used it was refused: begin a new connection",
            );
            return Err(BitsError { offset: 0, kind: fault });
        }
        let mut reader = Reader::new(input, 0, now, limits, Some(&mut self.table));
        match reader.message() {
            Ok(message) => Ok((message, reader.position())),
            Err(refusal) => {
                self.is_out_of_step |= uses_table;
                Err(refusal.into())
            }
        }
    }
}
