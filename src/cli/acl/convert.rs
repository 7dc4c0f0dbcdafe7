//! `caxton acl convert`: the messages of a file in another form.

use std::io::{self, BufWriter, Write as _};

use super::diagnostic::diagnostic;
use super::form::Form;
use crate::cli::input::Source;

/// Writes each message in the form `to`, and tells of each malformed one. The answer is how many are malformed.
pub fn convert(source: &Source, from: Form, to: Form) -> io::Result<usize> {
    let mut output = BufWriter::new(io::stdout().lock());
    let mut malformed = 0;
    let mut written = Vec::new();
    for message in from.read(source) {
        match message {
            Ok(located) => {
                written.clear();
                to.write(&located.value, &mut written);
                output.write_all(&written)?;
            }
            Err(error) => {
                malformed += 1;
                // What was written before comes first on a terminal too.
                output.flush()?;
                crate::cli::complain(diagnostic(source, from, &error).trim_end());
            }
        }
    }
    output.flush()?;
    Ok(malformed)
}
