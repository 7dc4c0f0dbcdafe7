//! The client protocol of NATS: bytes to operations and back, without I/O.
//!
//! [`Parser::next`] reads one operation from the front of a buffer and borrows its parts from there; nothing is copied
//! or allocated. The functions `put_*` append what a server says.
//!
//! Invariants: whatever the pieces in which bytes arrive, the operations are the same; no input makes the parser panic;
//! it never wants more bytes at once than a control line and the largest allowed payload; bytes that are not enough for
//! an operation are not read again before there are enough of them.

use std::fmt;

/// Maximum length of a control line without its end, in bytes.
pub const CONTROL_LINE_BYTES_MAX: usize = 4_096;
/// Maximum size of a message's headers, in bytes.
pub const HEADERS_BYTES_MAX: usize = 64 << 10;

/// What is wrong with the bytes of a client. The connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The bytes are no operation of the protocol.
    UnknownOperation,
    /// A control line is longer than [`CONTROL_LINE_BYTES_MAX`].
    ControlLineTooLong,
    /// A message is larger than the limit.
    PayloadTooLarge,
}

impl ProtocolError {
    /// Returns the text of the error as nats-server writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownOperation => "Unknown Protocol Operation",
            Self::ControlLineTooLong => "Maximum Control Line Exceeded",
            Self::PayloadTooLarge => "Maximum Payload Violation",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::error::Error for ProtocolError {}

/// A message that a client publishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publication<'a> {
    /// The subject.
    pub subject: &'a [u8],
    /// The subject for replies, if there is one.
    pub reply: Option<&'a [u8]>,
    /// The headers with their first line and the empty line at the end; empty if there are none.
    pub headers: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// An operation of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation<'a> {
    /// The client's options, in JSON.
    Connect(&'a [u8]),
    /// A message.
    Publish(Publication<'a>),
    /// A subscription.
    Subscribe {
        /// The subject, which may have wildcards.
        subject: &'a [u8],
        /// The queue group, if there is one.
        queue: Option<&'a [u8]>,
        /// The client's name for the subscription.
        sid: &'a [u8],
    },
    /// The end of a subscription.
    Unsubscribe {
        /// The client's name for the subscription.
        sid: &'a [u8],
        /// The number of messages after which it ends; at once if absent.
        after: Option<u64>,
    },
    /// A question whether the server is there.
    Ping,
    /// The reply to the server's own question.
    Pong,
    /// An acknowledgement, which means nothing from a client.
    Ok,
    /// An error that the client reports before it closes the connection.
    Error(&'a [u8]),
}

/// Reads operations from the front of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Parser {
    payload_max: usize,
    /// The number of bytes without which the next call finds no operation.
    wanted: usize,
    /// Bytes at the front of the buffer that were searched for the end of a line.
    searched: usize,
}

impl Parser {
    /// Creates a parser for messages of up to `payload_max` bytes, headers included.
    pub fn new(payload_max: usize) -> Self {
        Self { payload_max, wanted: 0, searched: 0 }
    }

    /// Returns the number of bytes without which [`Parser::next`] finds no operation; zero if that is not known.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Returns the first operation in `input` and its length, or nothing if it is not complete. The next call gets the
    /// bytes behind it, or the same ones and more of them.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with the bytes. No further call makes sense then.
    #[inline]
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<(Operation<'a>, usize)>, ProtocolError> {
        if input.len() < self.wanted {
            return Ok(None);
        }
        let Some(end) = memchr::memchr(b'\n', &input[self.searched..]).map(|end| end + self.searched) else {
            self.searched = input.len();
            // A carriage return belongs to the end of the line.
            return if input.len() > CONTROL_LINE_BYTES_MAX + 1 {
                Err(ProtocolError::ControlLineTooLong)
            } else {
                begins_an_operation(input).then_some(None).ok_or(ProtocolError::UnknownOperation)
            };
        };
        let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
        if line.len() > CONTROL_LINE_BYTES_MAX {
            return Err(ProtocolError::ControlLineTooLong);
        }
        let (operation, length) = match parse_line(line)? {
            Line::Complete(operation) => (operation, end + 1),
            Line::Message { subject, reply, headers, total } => {
                if total > self.payload_max || headers > HEADERS_BYTES_MAX {
                    return Err(ProtocolError::PayloadTooLarge);
                }
                let (begin, payload) = (end + 1, end + 1 + total);
                if input.len() < payload + 2 {
                    // The line is read again, once, when the payload is there.
                    (self.wanted, self.searched) = (payload + 2, end);
                    return Ok(None);
                }
                if &input[payload..payload + 2] != b"\r\n" {
                    return Err(ProtocolError::UnknownOperation);
                }
                let (headers, payload) = input[begin..payload].split_at(headers);
                (Operation::Publish(Publication { subject, reply, headers, payload }), begin + total + 2)
            }
        };
        (self.wanted, self.searched) = (0, 0);
        Ok(Some((operation, length)))
    }
}

/// Whether an unfinished line may become an operation, so that a peer that speaks another protocol is not waited for.
fn begins_an_operation(line: &[u8]) -> bool {
    let verb = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).next().unwrap_or_default();
    let known: [&[u8]; 9] = [b"CONNECT", b"PUB", b"HPUB", b"SUB", b"UNSUB", b"PING", b"PONG", b"+OK", b"-ERR"];
    let complete = verb.len() < line.len();
    known.iter().any(|known| {
        let begins = known.get(..verb.len()).is_some_and(|start| start.eq_ignore_ascii_case(verb));
        begins && (!complete || known.len() == verb.len())
    })
}

enum Line<'a> {
    Complete(Operation<'a>),
    /// The line of a message; `headers` and `total` are lengths.
    Message {
        subject: &'a [u8],
        reply: Option<&'a [u8]>,
        headers: usize,
        total: usize,
    },
}

#[inline]
fn parse_line(line: &[u8]) -> Result<Line<'_>, ProtocolError> {
    let blank = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    let (verb, arguments) = line.split_at(blank);
    let is = |known: &[u8]| verb.eq_ignore_ascii_case(known);
    match verb.len() {
        3 if is(b"PUB") => {
            let (words, count) = words::<3>(arguments)?;
            let (subject, reply, size) = match count {
                2 => (words[0], None, words[1]),
                3 => (words[0], Some(words[1]), words[2]),
                _ => return Err(ProtocolError::UnknownOperation),
            };
            Ok(Line::Message { subject, reply, headers: 0, total: size_of_message(size)? })
        }
        4 if is(b"HPUB") => {
            let (words, count) = words::<4>(arguments)?;
            let (subject, reply, headers, total) = match count {
                3 => (words[0], None, words[1], words[2]),
                4 => (words[0], Some(words[1]), words[2], words[3]),
                _ => return Err(ProtocolError::UnknownOperation),
            };
            let (headers, total) = (size_of_message(headers)?, size_of_message(total)?);
            if headers > total {
                return Err(ProtocolError::UnknownOperation);
            }
            Ok(Line::Message { subject, reply, headers, total })
        }
        3 if is(b"SUB") => {
            let (words, count) = words::<3>(arguments)?;
            match count {
                2 => Ok(Line::Complete(Operation::Subscribe { subject: words[0], queue: None, sid: words[1] })),
                3 => {
                    Ok(Line::Complete(Operation::Subscribe { subject: words[0], queue: Some(words[1]), sid: words[2] }))
                }
                _ => Err(ProtocolError::UnknownOperation),
            }
        }
        5 if is(b"UNSUB") => {
            let (words, count) = words::<2>(arguments)?;
            let after = match count {
                1 => None,
                2 => Some(number(words[1]).ok_or(ProtocolError::UnknownOperation)?).filter(|after| *after > 0),
                _ => return Err(ProtocolError::UnknownOperation),
            };
            Ok(Line::Complete(Operation::Unsubscribe { sid: words[0], after }))
        }
        7 if is(b"CONNECT") => Ok(Line::Complete(Operation::Connect(arguments.trim_ascii()))),
        4 if is(b"PING") => Ok(Line::Complete(Operation::Ping)),
        4 if is(b"PONG") => Ok(Line::Complete(Operation::Pong)),
        3 if is(b"+OK") => Ok(Line::Complete(Operation::Ok)),
        4 if is(b"-ERR") => Ok(Line::Complete(Operation::Error(arguments.trim_ascii()))),
        _ => Err(ProtocolError::UnknownOperation),
    }
}

#[inline]
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Splits arguments into words, and returns their number.
#[inline]
fn words<const MAX: usize>(arguments: &[u8]) -> Result<([&[u8]; MAX], usize), ProtocolError> {
    let mut words: [&[u8]; MAX] = [&[]; MAX];
    let mut count = 0;
    for word in arguments.split(|byte| is_blank(*byte)).filter(|word| !word.is_empty()) {
        *words.get_mut(count).ok_or(ProtocolError::UnknownOperation)? = word;
        count += 1;
    }
    Ok((words, count))
}

/// Returns the number that decimal digits stand for.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Returns a size; one that no message has is larger than every limit.
fn size_of_message(digits: &[u8]) -> Result<usize, ProtocolError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ProtocolError::UnknownOperation);
    }
    Ok(number(digits).and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX))
}

/// A message to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery<'a> {
    /// The subject that it was sent to.
    pub subject: &'a [u8],
    /// The client's name for the subscription.
    pub sid: &'a [u8],
    /// The subject for replies, if there is one.
    pub reply: Option<&'a [u8]>,
    /// The headers with their first line and the empty line at the end; empty if there are none.
    pub headers: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

/// Appends a message: `HMSG` if it has headers, else `MSG`.
#[inline]
pub fn put_message(output: &mut Vec<u8>, message: &Delivery<'_>) {
    let Delivery { subject, sid, reply, headers, payload } = *message;
    let reply_bytes = reply.map_or(0, <[u8]>::len);
    output.reserve(subject.len() + sid.len() + reply_bytes + headers.len() + payload.len() + 64);
    output.extend_from_slice(if headers.is_empty() { b"MSG " } else { b"HMSG " });
    output.extend_from_slice(subject);
    output.push(b' ');
    output.extend_from_slice(sid);
    output.push(b' ');
    if let Some(reply) = reply {
        output.extend_from_slice(reply);
        output.push(b' ');
    }
    if !headers.is_empty() {
        put_number(output, headers.len());
        output.push(b' ');
    }
    put_number(output, headers.len() + payload.len());
    output.extend_from_slice(b"\r\n");
    output.extend_from_slice(headers);
    output.extend_from_slice(payload);
    output.extend_from_slice(b"\r\n");
}

/// Appends the server's description of itself, a JSON object.
pub fn put_info(output: &mut Vec<u8>, json: &str) {
    output.extend_from_slice(b"INFO ");
    output.extend_from_slice(json.as_bytes());
    output.extend_from_slice(b"\r\n");
}

/// Appends an error. Quotes and ends of lines within it become blanks.
pub fn put_error(output: &mut Vec<u8>, text: &str) {
    output.extend_from_slice(b"-ERR '");
    output.extend(text.bytes().map(|byte| if byte < b' ' || byte == b'\'' { b' ' } else { byte }));
    output.extend_from_slice(b"'\r\n");
}

/// Appends the acknowledgement of an operation, for clients that want it.
pub fn put_ok(output: &mut Vec<u8>) {
    output.extend_from_slice(b"+OK\r\n");
}

/// Appends the question whether the client is there.
pub fn put_ping(output: &mut Vec<u8>) {
    output.extend_from_slice(b"PING\r\n");
}

/// Appends the reply to the client's question.
pub fn put_pong(output: &mut Vec<u8>) {
    output.extend_from_slice(b"PONG\r\n");
}

/// Appends a number in decimal digits.
#[inline]
#[allow(clippy::cast_possible_truncation)] // A digit fits.
fn put_number(output: &mut Vec<u8>, mut number: usize) {
    let mut digits = [0; 20];
    let mut begin = digits.len();
    loop {
        begin -= 1;
        digits[begin] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    output.extend_from_slice(&digits[begin..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1_000;

    /// Reads all operations of bytes that arrive in these pieces, as texts, up to the first error.
    fn read(pieces: &[&[u8]]) -> (Vec<String>, Option<ProtocolError>, usize) {
        let (mut parser, mut held, mut found) = (Parser::new(MAX), Vec::new(), Vec::new());
        for piece in pieces {
            held.extend_from_slice(piece);
            loop {
                match parser.next(&held) {
                    Ok(Some((operation, length))) => {
                        found.push(format!("{operation:?}"));
                        held.drain(..length);
                    }
                    Ok(None) => break,
                    Err(error) => return (found, Some(error), held.len()),
                }
            }
        }
        (found, None, held.len())
    }

    fn one(input: &[u8]) -> Operation<'_> {
        let (operation, length) = Parser::new(MAX).next(input).expect("it is valid").expect("it is complete");
        assert_eq!(length, input.len());
        operation
    }

    fn refused(input: &[u8]) -> ProtocolError {
        Parser::new(MAX).next(input).expect_err("it is refused")
    }

    #[test]
    fn every_operation_is_read() {
        let plain = Publication { subject: b"a.b", reply: None, headers: b"", payload: b"hello" };
        assert_eq!(one(b"PUB a.b 5\r\nhello\r\n"), Operation::Publish(plain));
        assert_eq!(one(b"pub\ta.b   5 \r\nhello\r\n"), Operation::Publish(plain));
        assert_eq!(one(b"PUB a.b 5\nhello\r\n"), Operation::Publish(plain));
        let asked = Publication { reply: Some(b"_INBOX.1"), payload: b"\r\n", ..plain };
        assert_eq!(one(b"PUB a.b _INBOX.1 2\r\n\r\n\r\n"), Operation::Publish(asked));
        let headed = Publication { headers: b"NATS/1.0\r\n\r\n", ..plain };
        assert_eq!(one(b"HPUB a.b 12 17\r\nNATS/1.0\r\n\r\nhello\r\n"), Operation::Publish(headed));
        let both = Publication { reply: Some(b"r"), payload: b"", ..headed };
        assert_eq!(one(b"HPUB a.b r 12 12\r\nNATS/1.0\r\n\r\n\r\n"), Operation::Publish(both));
        let subscribe = |queue| Operation::Subscribe { subject: b"a.>", queue, sid: b"7" };
        assert_eq!(one(b"SUB a.> 7\r\n"), subscribe(None));
        assert_eq!(one(b"SUB a.> workers 7\r\n"), subscribe(Some(b"workers".as_slice())));
        assert_eq!(one(b"UNSUB 7\r\n"), Operation::Unsubscribe { sid: b"7", after: None });
        assert_eq!(one(b"UNSUB 7 0\r\n"), Operation::Unsubscribe { sid: b"7", after: None });
        assert_eq!(one(b"UNSUB 7 10\r\n"), Operation::Unsubscribe { sid: b"7", after: Some(10) });
        assert_eq!(one(b"CONNECT {\"verbose\":false}\r\n"), Operation::Connect(b"{\"verbose\":false}"));
        assert_eq!([one(b"PING\r\n"), one(b"ping\n"), one(b"PING \r\n")], [Operation::Ping; 3]);
        assert_eq!((one(b"PONG\r\n"), one(b"+OK\r\n")), (Operation::Pong, Operation::Ok));
        assert_eq!(one(b"-ERR 'x'\r\n"), Operation::Error(b"'x'"));
    }

    #[test]
    fn what_is_no_operation_is_refused() {
        for input in [
            "\r\n",
            "GET / HTTP/1.1\r\n",
            "GET /",
            "PUBX",
            "X",
            "PUB\r\n",
            "PUB a\r\n",
            "PUB a b c 1\r\n",
            "PUB a -1\r\n",
            "PUB a 1x\r\n",
            "PUB a +1\r\n",
            "PUB a 1\r\nxyz",
            "PUB a 0\r\n\n\n",
            "HPUB a 5 4\r\n",
            "HPUB a 5\r\n",
            "SUB a\r\n",
            "SUB a b c d\r\n",
            "UNSUB\r\n",
            "UNSUB 1 x\r\n",
            "UNSUB 1 99999999999999999999\r\n",
            "INFO {}\r\n",
            "MSG a 1 0\r\n\r\n",
        ] {
            assert_eq!(refused(input.as_bytes()), ProtocolError::UnknownOperation, "{input:?}");
        }
    }

    #[test]
    fn limits_hold_before_anything_is_waited_for() {
        assert_eq!(refused(b"PUB a 1001\r\n"), ProtocolError::PayloadTooLarge);
        assert_eq!(refused(b"PUB a 99999999999999999999999\r\n"), ProtocolError::PayloadTooLarge);
        assert_eq!(refused(b"HPUB a 70000 70000\r\n"), ProtocolError::PayloadTooLarge);
        let longest = format!("PUB {} 0\r\n\r\n", "a".repeat(CONTROL_LINE_BYTES_MAX - 6));
        one(longest.as_bytes());
        for end in ["\r\n", "\n", ""] {
            let line = format!("PUB {} 0{end}", "a".repeat(CONTROL_LINE_BYTES_MAX));
            assert_eq!(refused(line.as_bytes()), ProtocolError::ControlLineTooLong);
        }
    }

    #[test]
    fn what_a_server_says() {
        let mut output = Vec::new();
        let message = Delivery { subject: b"a", sid: b"1", reply: None, headers: b"", payload: b"xyz" };
        put_message(&mut output, &message);
        put_message(&mut output, &Delivery { reply: Some(b"r"), headers: b"NATS/1.0\r\n\r\n", ..message });
        put_error(&mut output, "it's\r\nso");
        put_ok(&mut output);
        put_ping(&mut output);
        put_pong(&mut output);
        put_info(&mut output, "{}");
        let expected = "MSG a 1 3\r\nxyz\r\nHMSG a 1 r 12 15\r\nNATS/1.0\r\n\r\nxyz\r\n-ERR 'it s  so'\r\n+OK\r\nPING\r\n\
                        PONG\r\nINFO {}\r\n";
        assert_eq!(String::from_utf8(output).expect("it is text"), expected);
    }

    /// Bytes of operations, now and then with a mistake.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"PING\r\n".to_vec()),
            Just(b"PONG\n".to_vec()),
            Just(b"SUB a.* q 1\r\n".to_vec()),
            Just(b"UNSUB 1 5\r\n".to_vec()),
            Just(b"CONNECT {}\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|payload| {
                [format!("PUB a {}\r\n", payload.len()).as_bytes(), &payload, b"\r\n"].concat()
            }),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|payload| {
                [format!("HPUB a r 12 {}\r\nNATS/1.0\r\n\r\n", payload.len() + 12).as_bytes(), &payload, b"\r\n"]
                    .concat()
            }),
            proptest::collection::vec(any::<u8>(), 0..6),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn the_pieces_in_which_bytes_arrive_do_not_matter(bytes in stream(), cuts in proptest::collection::vec(any::<u16>(), 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| usize::from(cut) % (bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let (whole, error, left) = read(&[&bytes]);
            for pieces in [&pieces, &single] {
                let (found, other, rest) = read(pieces);
                prop_assert_eq!(&found, &whole);
                prop_assert_eq!(other, error);
                prop_assert!(error.is_some() || left == rest);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&[&bytes]);
        }

        #[test]
        fn numbers_are_written_in_decimal(number in any::<usize>()) {
            let mut output = Vec::new();
            put_number(&mut output, number);
            prop_assert_eq!(String::from_utf8(output).expect("digits"), number.to_string());
        }
    }
}
