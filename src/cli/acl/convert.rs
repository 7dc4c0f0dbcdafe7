//! `caxton acl convert`: converts the messages of a file to another form.

use std::io::{self, BufWriter, Write as _};

use caxton_router::Message;
use caxton_router::codec::text::{Located, NoNames, ParseError, ParseErrorKind, Strictness, check_strict};
use caxton_router::config::MessageConfig;

use super::diagnostic::diagnostic;
use super::form::Form;
use crate::cli::input::Source;

/// Writes each message in the form `to`, and reports each malformed one. Returns how many are malformed.
pub fn convert(source: &Source, from: Form, to: Form, how: &MessageConfig) -> io::Result<usize> {
    let mut output = BufWriter::new(io::stdout().lock());
    let mut malformed = 0;
    let mut written = Vec::new();
    for message in from.read(source, how.reading) {
        match message.and_then(|located| writable(located, how.writing)) {
            Ok(located) => {
                written.clear();
                to.write(&located.value, &mut written);
                output.write_all(&written)?;
            }
            Err(error) => {
                malformed += 1;
                // Keeps the order of output and errors on a terminal.
                output.flush()?;
                crate::cli::complain(diagnostic(source, from, &error).trim_end());
            }
        }
    }
    output.flush()?;
    Ok(malformed)
}

/// Returns the message if it can be written with this strictness.
fn writable(located: Located<Message>, strictness: Strictness) -> Result<Located<Message>, ParseError> {
    match check_strict(&located.value, &NoNames) {
        Err(why) if strictness == Strictness::Strict => {
            let Located { line, column, range, .. } = located;
            Err(ParseError { line, column, offset: range.start, kind: ParseErrorKind::NotStrict(why) })
        }
        _ => Ok(located),
    }
}
