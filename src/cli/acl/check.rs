//! `caxton acl check`: reports malformed messages in a file.

use std::io::{self, Write as _};

use caxton_router::codec::text::Strictness;
use serde_json::json;

use super::diagnostic::diagnostic;
use super::form::Form;
use crate::cli::input::Source;
use crate::cli::{printable, printable_lines};

/// Reports each malformed message, then the number of messages of each kind. Returns how many are malformed.
pub fn check(source: &Source, form: Form, strictness: Strictness, as_json: bool) -> io::Result<usize> {
    let mut output = io::stdout().lock();
    let (mut read, mut malformed) = (0_usize, 0_usize);
    for message in form.read(source, strictness) {
        let Err(error) = message else {
            read += 1;
            continue;
        };
        malformed += 1;
        if as_json {
            let told = json!({
                "file": printable(&source.name),
                "line": error.line,
                "column": error.column,
                "offset": error.offset,
                "error": error.kind.to_string(),
            });
            writeln!(output, "{}", printable_lines(&told.to_string()))?;
        } else {
            crate::cli::complain(diagnostic(source, form, &error).trim_end());
        }
    }
    if as_json {
        let summary = json!({ "form": form.name(), "messages": read + malformed, "malformed": malformed });
        writeln!(output, "{}", json!({ "summary": summary }))?;
    } else {
        let messages = if read + malformed == 1 { "message" } else { "messages" };
        let name = printable(&source.name);
        writeln!(output, "{name}: {} {messages} in the form {form}, {malformed} malformed", read + malformed)?;
    }
    output.flush()?;
    Ok(malformed)
}
