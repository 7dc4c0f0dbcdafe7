//! The two ends of a connection that uses code tables: one writes, the other reads, and each keeps its table.

use super::code_table::{CodeTable, CodeTableSize};
use super::error::BitsError;
use super::reader::Reader;
use super::writer::WrittenTable;
use super::{code, print};
use crate::codec::text::{Fault, Limits, Names};
use crate::message::{Message, WallTime};

/// Content beyond this many bytes never enters a code table: it would only push out words that are used again.
pub const CODE_TABLE_CONTENT_BYTES_MAX: usize = 1_024;

/// Writes messages to one connection, with a code table.
///
/// A message with a name, an address or a term that the table lacks has it taken up, together with all else that is
/// new in the message (header FB): the standard has no finer choice. Any other message leaves the table as it is
/// (header FC), so that content and ids, which hardly repeat, don't push out what does.
#[derive(Debug)]
pub struct Encoder {
    written: WrittenTable,
}

impl Encoder {
    /// An encoder with an empty table. The other end must use the same size.
    pub fn new(size: CodeTableSize) -> Self {
        Self { written: WrittenTable::new(size) }
    }

    /// Writes `message` to the end of `output`. Messages must reach the other end whole and in this order.
    ///
    /// Agents are named as by [`print`](super::print()).
    pub fn print(&mut self, message: &Message, names: &dyn Names, output: &mut Vec<u8>) {
        let start = output.len();
        self.written.begin();
        print::message(code::TABLE_KEPT, message, names, Some(&mut self.written), output);
        let is_learned = self.written.misses_lasting()
            && message.content().len() <= CODE_TABLE_CONTENT_BYTES_MAX
            // What is new stands in the output in full.
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
    /// A message was refused after it used the table, so the other end's table may differ.
    is_out_of_step: bool,
}

impl Decoder {
    /// A decoder with an empty table. The other end must use the same size.
    pub fn new(size: CodeTableSize) -> Self {
        Self { table: CodeTable::new(size), is_out_of_step: false }
    }

    /// Reads the message that `input` begins with, and says how many bytes it has. Relative dates count from `now`.
    ///
    /// # Errors
    /// The first thing that the input has wrong. If the message was one that uses the table (header FB or FC), the
    /// table may differ from the other end's from then on: every later message that uses it is refused, and the
    /// connection should begin again. Messages without a table (header FA) still can be read.
    pub fn parse(&mut self, input: &[u8], now: WallTime, limits: &Limits) -> Result<(Message, usize), BitsError> {
        let uses_table = matches!(input.first(), Some(&(code::TABLE | code::TABLE_KEPT)));
        if uses_table && self.is_out_of_step {
            let fault = Fault::Contradiction(
                "the code table is out of step, because a message that used it was refused: begin a new connection",
            );
            return Err(BitsError { offset: 0, fault });
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
