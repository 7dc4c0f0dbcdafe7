//! A text of messages, read completely and within a limit, because messages are parsed from a slice.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use caxton_router::codec::text::{Limits, Messages, Strictness};
use caxton_router::message::WallTime;

/// Maximum length of the input: 1 GiB.
const INPUT_BYTES_MAX: u64 = 1 << 30;
/// The name of the standard input.
const STANDARD_INPUT: &str = "-";

/// A text of messages.
pub struct Source {
    /// The file's name, or a hyphen for the standard input.
    pub name: String,
    /// The complete text.
    pub bytes: Vec<u8>,
    /// The time from which relative dates count, however often the text is parsed.
    pub read_at: WallTime,
}

impl Source {
    /// Reads a file or, if its name is a hyphen, the standard input.
    ///
    /// # Errors
    ///
    /// A sentence with the file's name: it cannot be read, is a directory, or is too long.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display().to_string();
        let bytes = if is_standard_input(path) {
            read_within_limit(&mut io::stdin().lock(), INPUT_BYTES_MAX)
        } else {
            read_file(path)
        };
        let bytes = bytes.map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { name, bytes, read_at: now() })
    }

    /// Returns the messages in string form and the errors, in order.
    pub fn messages(&self, strictness: Strictness) -> Messages<'_> {
        Messages::new(&self.bytes, self.read_at, &Limits::default().with_strictness(strictness))
    }
}

/// Whether the name means the standard input.
pub fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == STANDARD_INPUT
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("cannot read the file: {error}");
    let mut file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    if metadata.is_dir() {
        return Err("this is a directory; give a file of messages, or - for the standard input".to_owned());
    }
    if metadata.len() > INPUT_BYTES_MAX {
        return Err(too_long(INPUT_BYTES_MAX));
    }
    // Pipes and devices have no length, and a file may grow meanwhile.
    read_within_limit(&mut file, INPUT_BYTES_MAX)
}

fn read_within_limit(input: &mut impl Read, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot read: {error}"))?;
    if bytes.len() as u64 > limit { Err(too_long(limit)) } else { Ok(bytes) }
}

fn too_long(limit: u64) -> String {
    format!("too long: the limit is {limit} bytes; split it between two messages")
}

/// Returns the current time.
pub fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_longer_than_the_limit_is_refused() {
        assert_eq!(read_within_limit(&mut &b"12345"[..], 5), Ok(b"12345".to_vec()));
        let error = read_within_limit(&mut io::repeat(b'('), 5).expect_err("it never ends");
        assert!(error.contains("the limit is 5 bytes"), "{error}");
    }
}
