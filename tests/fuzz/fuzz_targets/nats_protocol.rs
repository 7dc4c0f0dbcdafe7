//! Reads arbitrary bytes as what a client of NATS says.
//!
//! Reading must terminate, make progress and never panic; it must find the same operations in the same bytes whatever
//! the pieces in which they arrive; and headers and subjects must be read without a panic wherever they occur.

#![no_main]

// The door for NATS is private to the router's crate, so these files are included here.
#[path = "../../../src/edge/nats/headers.rs"]
#[allow(dead_code)] // The door uses more of it than this target.
mod headers;
#[path = "../../../src/edge/nats/protocol.rs"]
#[allow(dead_code)] // The door uses more of it than this target.
mod protocol;
#[path = "../../../src/edge/nats/subjects.rs"]
#[allow(dead_code)] // The door uses more of it than this target.
mod subjects;

use libfuzzer_sys::fuzz_target;

use self::headers::Headers;
use self::protocol::{Operation, Parser, ProtocolError};

const PAYLOAD_BYTES_MAX: usize = 1_024;

fuzz_target!(|input: &[u8]| {
    let whole = read(&mut std::iter::once(input));
    assert_eq!(read(&mut input.chunks(1)), whole);
    let (first, second) = input.split_at(input.len() / 2);
    assert_eq!(read(&mut [first, second].into_iter()), whole);
});

/// Returns the operations in these pieces, and the error after them.
fn read(pieces: &mut dyn Iterator<Item = &[u8]>) -> (Vec<String>, Option<ProtocolError>) {
    let (mut parser, mut held, mut found) = (Parser::new(PAYLOAD_BYTES_MAX), Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let length = match parser.next(&held) {
                Ok(Some((operation, length))) => {
                    assert!(0 < length && length <= held.len());
                    examine(&operation);
                    found.push(format!("{operation:?}"));
                    length
                }
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            };
            held.drain(..length);
        }
    }
    (found, None)
}

fn examine(operation: &Operation<'_>) {
    match operation {
        Operation::Publish(publication) => {
            if let Ok(headers) = Headers::read(publication.headers) {
                for (name, value) in headers.iter() {
                    assert!(!name.is_empty() && name.len() + value.len() <= publication.headers.len());
                }
            }
            if subjects::is_literal(publication.subject) {
                assert!(subjects::matches(publication.subject, publication.subject));
                assert!(subjects::matches(b">", publication.subject));
            }
            if let Some(name) = subjects::decode(publication.subject) {
                let mut encoded = Vec::new();
                subjects::encode(&name, &mut encoded);
                assert_eq!(subjects::decode(&encoded).as_deref(), Some(&*name));
            }
        }
        Operation::Subscribe { subject, .. } => {
            assert!(subjects::is_pattern(subject) || !subjects::is_literal(subject));
        }
        _ => {}
    }
}
