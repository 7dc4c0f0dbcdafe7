//! Streams of server-sent events.

use std::io::{self, BufRead as _, BufReader, Read as _};

use ureq::BodyReader;

/// Maximum length of an event of a stream, in bytes.
const EVENT_BYTES_MAX: u64 = 64 << 20;

/// An event that a router has sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// What it is; nothing for a message.
    pub kind: String,
    pub id: String,
    pub data: String,
}

/// The events of a response, as they come.
pub struct EventStream {
    reader: BufReader<BodyReader<'static>>,
}

impl EventStream {
    pub(super) fn new(body: BodyReader<'static>) -> Self {
        Self { reader: BufReader::new(body) }
    }

    /// Waits for the next event. Returns nothing once the stream has ended.
    ///
    /// # Errors
    ///
    /// The connection broke off.
    pub fn next(&mut self) -> io::Result<Option<ServerEvent>> {
        next_event(&mut self.reader)
    }
}

/// Reads an event. Comments are skipped.
fn next_event(reader: &mut impl io::BufRead) -> io::Result<Option<ServerEvent>> {
    let mut event = ServerEvent::default();
    let mut line = Vec::new();
    let mut is_empty = true;
    loop {
        line.clear();
        let read = reader.by_ref().take(EVENT_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.pop_if(|last| *last == b'\n').is_none() {
            return if read == 0 { Ok(None) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) };
        }
        if line.is_empty() {
            if is_empty {
                continue;
            }
            return Ok(Some(event));
        }
        let text = String::from_utf8_lossy(&line);
        let Some((name, value)) = text.split_once(':') else { continue };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut event.kind),
            "id" => value.clone_into(&mut event.id),
            "data" if event.data.is_empty() => value.clone_into(&mut event.data),
            "data" => event.data.extend(["\n", value]),
            _ => continue,
        }
        is_empty = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart_and_comments_are_skipped() {
        let text = b": attached\n\nid: m1\ndata: {\"a\":1}\n\n:\n\nevent: end\ndata: one\ndata: two\n\n";
        let mut reader = &text[..];
        let mut next = || next_event(&mut reader).expect("it is read");
        let event = |kind: &str, id: &str, data: &str| ServerEvent {
            kind: kind.to_owned(),
            id: id.to_owned(),
            data: data.to_owned(),
        };
        assert_eq!(next(), Some(event("", "m1", "{\"a\":1}")));
        assert_eq!(next(), Some(event("end", "", "one\ntwo")));
        assert_eq!(next(), None);
        assert!(next_event(&mut &b"data: broken o"[..]).is_err());
    }
}
