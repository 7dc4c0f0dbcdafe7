//! The frames of a WebSocket (RFC 6455): a pure codec, with the server's side of the handshake.
//!
//! What comes from a client has to be masked, and whole before it is returned: fragments of a message are put together,
//! up to a limit. Extensions are not negotiated, so reserved bits are errors.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// What the handshake appends to the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Maximum length of the payload of a control frame, in bytes.
const CONTROL_BYTES_MAX: usize = 125;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Returns the value that proves to a client that its key was read.
pub(super) fn accept_of(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()))
}

/// What a client has sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Frame {
    /// A whole message of text.
    Text(String),
    /// It wants this back.
    Ping(Vec<u8>),
    /// It is still there.
    Pong,
    /// It sends nothing more.
    Close,
}

/// What a client has sent is not as it should be. The number is the status of the closing frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Violation(pub u16);

const PROTOCOL_ERROR: Violation = Violation(1002);
const UNSUPPORTED: Violation = Violation(1003);
const NOT_TEXT: Violation = Violation(1007);
const TOO_LARGE: Violation = Violation(1009);

/// Reads frames out of the bytes of a connection.
pub(super) struct Reader {
    bytes_max: usize,
    buffer: Vec<u8>,
    /// The beginning of the buffer that was read.
    read: usize,
    /// The fragments of a message so far.
    message: Option<Vec<u8>>,
}

/// A frame in a buffer.
struct Header {
    is_last: bool,
    operation: u8,
    mask: [u8; 4],
    payload: std::ops::Range<usize>,
}

impl Reader {
    /// Creates a reader of messages of up to `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, buffer: Vec::new(), read: 0, message: None }
    }

    /// Adds bytes that were received.
    pub fn add(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next frame or whole message, if it is there.
    pub fn next(&mut self) -> Result<Option<Frame>, Violation> {
        while let Some(Header { is_last, operation, mask, payload }) = self.header()? {
            self.read = payload.end;
            let mut payload = self.buffer[payload].to_vec();
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            match operation {
                PING => return Ok(Some(Frame::Ping(payload))),
                PONG => return Ok(Some(Frame::Pong)),
                CLOSE => return Ok(Some(Frame::Close)),
                BINARY => return Err(UNSUPPORTED),
                TEXT if self.message.is_none() => self.message = Some(payload),
                CONTINUATION => self.message.as_mut().ok_or(PROTOCOL_ERROR)?.append(&mut payload),
                _ => return Err(PROTOCOL_ERROR),
            }
            if is_last && let Some(message) = self.message.take() {
                return String::from_utf8(message).map(|text| Some(Frame::Text(text))).map_err(|_| NOT_TEXT);
            }
        }
        Ok(None)
    }

    /// Returns the next frame if it is whole.
    fn header(&self) -> Result<Option<Header>, Violation> {
        let bytes = &self.buffer[self.read..];
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let (is_last, operation) = (first & 0x80 != 0, first & 0xf);
        let is_control = operation & 8 != 0;
        if first & 0x70 != 0 || second & 0x80 == 0 || (is_control && !is_last) {
            return Err(PROTOCOL_ERROR);
        }
        let long = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if rest.len() < long + 4 {
            return Ok(None);
        }
        let length = match long {
            0 => u64::from(second & 0x7f),
            long => rest[..long].iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte)),
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let before = self.message.as_ref().map_or(0, Vec::len);
        if is_control && length > CONTROL_BYTES_MAX {
            return Err(PROTOCOL_ERROR);
        }
        if !is_control && length.saturating_add(before) > self.bytes_max {
            return Err(TOO_LARGE);
        }
        let begin = self.read + 2 + long + 4;
        if self.buffer.len() - begin < length {
            return Ok(None);
        }
        let mask = [rest[long], rest[long + 1], rest[long + 2], rest[long + 3]];
        Ok(Some(Header { is_last, operation, mask, payload: begin..begin + length }))
    }
}

/// Appends a message of text.
pub(super) fn write_text(text: &[u8], output: &mut Vec<u8>) {
    write(TEXT, text, output);
}

/// Appends a ping.
pub(super) fn write_ping(output: &mut Vec<u8>) {
    write(PING, &[], output);
}

/// Appends the response to a ping.
pub(super) fn write_pong(payload: &[u8], output: &mut Vec<u8>) {
    write(PONG, payload, output);
}

/// Appends a closing frame with this status.
pub(super) fn write_close(status: u16, output: &mut Vec<u8>) {
    write(CLOSE, &status.to_be_bytes(), output);
}

#[allow(clippy::cast_possible_truncation)] // Each length fits where it stands.
fn write(operation: u8, payload: &[u8], output: &mut Vec<u8>) {
    output.push(0x80 | operation);
    match payload.len() {
        length @ 0..=125 => output.push(length as u8),
        length @ 126..=0xffff => {
            output.push(126);
            output.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            output.push(127);
            output.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    output.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a client's frame.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write(0, payload, &mut frame);
        let begin = frame.len() - payload.len();
        frame[0] = first;
        frame[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let payload: Vec<u8> = mask.into_iter().chain(payload).collect();
        frame.splice(begin.., payload);
        frame
    }

    /// Reads bytes that arrive in pieces of this length.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, Violation> {
        let mut reader = Reader::new(70_000);
        let mut frames = Vec::new();
        for piece in bytes.chunks(piece) {
            reader.add(piece);
            while let Some(frame) = reader.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn the_handshake_is_that_of_the_standard() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_are_read_however_they_arrive() {
        let long = "x".repeat(66_000);
        let mut bytes = masked(0x81, b"hello");
        bytes.extend(masked(0x01, b"a "));
        bytes.extend(masked(0x89, b"there?"));
        bytes.extend(masked(0x80, "b\u{e9}".as_bytes()));
        bytes.extend(masked(0x8a, b""));
        bytes.extend(masked(0x81, &long.as_bytes()[..200]));
        bytes.extend(masked(0x81, long.as_bytes()));
        bytes.extend(masked(0x88, &[3, 232]));
        let text = |text: &str| Frame::Text(text.to_owned());
        let expected = [
            text("hello"),
            Frame::Ping(b"there?".to_vec()),
            text("a b\u{e9}"),
            Frame::Pong,
            text(&long[..200]),
            text(&long),
            Frame::Close,
        ];
        for piece in [1, 2, 7, 1_000, bytes.len()] {
            assert_eq!(read(&bytes, piece).as_deref(), Ok(&expected[..]), "{piece}");
        }
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        let mut plain = Vec::new();
        write_text(b"not masked", &mut plain);
        for (bytes, violation) in [
            (plain, PROTOCOL_ERROR),
            (masked(0xc1, b"x"), PROTOCOL_ERROR),
            (masked(0x09, b"x"), PROTOCOL_ERROR),
            (masked(0x89, &[0; 126]), PROTOCOL_ERROR),
            (masked(0x80, b"x"), PROTOCOL_ERROR),
            ([masked(0x01, b"x"), masked(0x81, b"y")].concat(), PROTOCOL_ERROR),
            (masked(0x83, b"x"), PROTOCOL_ERROR),
            (masked(0x82, b"x"), UNSUPPORTED),
            (masked(0x81, b"\xff"), NOT_TEXT),
            (masked(0x81, "x".repeat(70_001).as_bytes()), TOO_LARGE),
            (
                [masked(0x01, "x".repeat(60_000).as_bytes()), masked(0x80, "x".repeat(10_001).as_bytes())].concat(),
                TOO_LARGE,
            ),
        ] {
            assert_eq!(read(&bytes, bytes.len()), Err(violation), "{:?}", &bytes[..2]);
        }
        let huge = [&[0x81, 0xff][..], &[0xff; 8], &[0; 4]].concat();
        assert_eq!(read(&huge, huge.len()), Err(TOO_LARGE));
    }
}
