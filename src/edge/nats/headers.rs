//! The headers of NATS messages: `NATS/1.0`, an optional status, and lines `Name: value`, up to an empty line.

use memchr::memchr;

/// The version with which a block of headers begins.
const VERSION: &[u8] = b"NATS/1.0";

/// A block of headers is malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MalformedHeaders;

/// A block of headers, read where it stands. Names are compared without regard to case; the first of several values of
/// one name counts.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    /// The lines behind the first one.
    lines: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Reads a block. An empty one has no headers.
    ///
    /// # Errors
    ///
    /// The block does not begin with the version, does not end with an empty line, has a line without a colon, or a
    /// name that is empty or has blanks.
    pub fn read(block: &'a [u8]) -> Result<Self, MalformedHeaders> {
        if block.is_empty() {
            return Ok(Self { lines: b"" });
        }
        let rest = block.strip_prefix(VERSION).ok_or(MalformedHeaders)?;
        let lines = rest.strip_suffix(b"\r\n").ok_or(MalformedHeaders)?;
        let end = memchr(b'\n', lines).ok_or(MalformedHeaders)?;
        if lines[..end] != *b"\r" && !lines[..end].starts_with(b" ") {
            return Err(MalformedHeaders);
        }
        let headers = Self { lines: &lines[end + 1..] };
        let well_formed = |line: &[u8]| {
            memchr(b':', line).is_some_and(|colon| colon > 0 && !line[..colon].iter().any(u8::is_ascii_whitespace))
        };
        if !headers.lines.is_empty() && !headers.lines.ends_with(b"\r\n") || !headers.split().all(well_formed) {
            return Err(MalformedHeaders);
        }
        Ok(headers)
    }

    fn split(self) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.lines.strip_suffix(b"\r\n").map_or([].as_slice(), |lines| lines);
        lines.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter({
            let none = self.lines.is_empty();
            move |_| !none
        })
    }

    /// Returns the names and values in their order. Values have no blanks around them.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.split().filter_map(|line| {
            let colon = memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// Returns the first value of a name.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }
}

/// Writes a block of headers to the end of a buffer.
#[derive(Debug)]
pub struct HeaderWriter<'a> {
    output: &'a mut Vec<u8>,
}

impl<'a> HeaderWriter<'a> {
    /// Begins a block.
    pub fn new(output: &'a mut Vec<u8>) -> Self {
        output.extend_from_slice(b"NATS/1.0\r\n");
        Self { output }
    }

    /// Begins a block with a status, such as 503 for no responders.
    pub fn with_status(output: &'a mut Vec<u8>, status: &str) -> Self {
        output.extend_from_slice(b"NATS/1.0 ");
        output.extend_from_slice(status.as_bytes());
        output.extend_from_slice(b"\r\n");
        Self { output }
    }

    /// Returns a name as it is written: without what would end it.
    pub fn name_of(name: &str) -> String {
        name.chars().filter(|letter| *letter > ' ' && *letter != ':').collect()
    }

    /// Adds a header. What would end its line becomes a blank, and what would end its name is left out.
    pub fn put(&mut self, name: &str, value: &[u8]) {
        self.output.extend(name.bytes().filter(|byte| *byte > b' ' && *byte != b':'));
        self.output.extend_from_slice(b": ");
        self.output.extend(value.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
        self.output.extend_from_slice(b"\r\n");
    }

    /// Ends the block.
    pub fn end(self) {
        self.output.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(block: &str) -> Option<Vec<(String, String)>> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it is text");
        let headers = Headers::read(block.as_bytes()).ok()?;
        Some(headers.iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    #[test]
    fn blocks_are_read() {
        assert_eq!(pairs(""), Some(vec![]));
        assert_eq!(pairs("NATS/1.0\r\n\r\n"), Some(vec![]));
        assert_eq!(pairs("NATS/1.0 503 No Responders\r\n\r\n"), Some(vec![]));
        let two = [("A", "1"), ("a", "b: c"), ("B", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(pairs("NATS/1.0\r\nA: 1\r\na:b: c \r\nB:\r\n\r\n"), Some(two.to_vec()));
        let headers = Headers::read(b"NATS/1.0\r\nA: 1\r\na: 2\r\n\r\n").expect("it is well formed");
        assert_eq!((headers.get("a"), headers.get("b")), (Some(b"1".as_slice()), None));
    }

    #[test]
    fn malformed_blocks_are_refused() {
        for block in [
            "NATS/1.0",
            "NATS/1.0\r\n",
            "NATS/2.0\r\n\r\n",
            "NATS/1.0x\r\n\r\n",
            "NATS/1.0\r\nno colon\r\n\r\n",
            "NATS/1.0\r\n: x\r\n\r\n",
            "NATS/1.0\r\na b: x\r\n\r\n",
            "NATS/1.0\r\na: x\r\n",
            "NATS/1.0\r\n\r\na: x\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert_eq!(pairs(block), None, "{block:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec(("[!-9;-~]{1,12}", "[!-~]([ -~]{0,20}[!-~])?"), 0..8)) {
            let mut block = Vec::new();
            let mut writer = HeaderWriter::new(&mut block);
            for (name, value) in &values {
                writer.put(name, value.as_bytes());
            }
            writer.end();
            prop_assert_eq!(pairs(std::str::from_utf8(&block).expect("it is text")), Some(values));
        }

        #[test]
        fn no_value_adds_a_line(name in "[!-9;-~]{1,5}", value in any::<Vec<u8>>()) {
            let mut block = Vec::new();
            let mut writer = HeaderWriter::with_status(&mut block, "503");
            writer.put(&name, &value);
            writer.end();
            prop_assert_eq!(Headers::read(&block).expect("it is well formed").iter().count(), 1);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
            if let Ok(headers) = Headers::read(&bytes) {
                headers.iter().count();
            }
            let block = [b"NATS/1.0\r\n".as_slice(), &bytes, b"\r\n\r\n"].concat();
            if let Ok(headers) = Headers::read(&block) {
                headers.iter().count();
            }
        }
    }
}
