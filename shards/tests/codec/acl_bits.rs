//! The bit-efficient form of messages (FIPA SC00069) and envelopes (SC00088): what is written reads back and equals the
//! string form, errors are located, and hostile input costs time proportional to its length.
//!
//! Random tests print the failing input, and `PROPTEST_CASES` sets their number.

mod envelopes;
mod hostile;
mod random;
mod tables;
mod vectors;

use caxton_shards::codec::bits::{
    BitsError, CodeTableSize, Decoder, Encoder, Messages, parse, parse_envelope, print, print_envelope,
};
use caxton_shards::codec::text::{self, Limits, NoNames};
use caxton_shards::message::{
    AclRepresentation, Aid, Message, ParameterValue, ReceivedStamp, TransportEnvelope, UserParameter, WallTime,
};
use proptest::prelude::*;

use crate::linear::grows_with_its_input;

/// 2023-11-14T22:13:20Z
const NOW: WallTime = WallTime(1_700_000_000_000);

fn read(input: impl AsRef<[u8]>) -> Result<Message, BitsError> {
    parse(input.as_ref(), NOW, &Limits::default())
}

#[track_caller]
fn reads(input: impl AsRef<[u8]>) -> Message {
    read(&input).unwrap_or_else(|error| panic!("{error}: {:02x?}", input.as_ref()))
}

fn written(message: &Message) -> Vec<u8> {
    let mut output = Vec::new();
    print(message, &NoNames, &mut output);
    output
}

/// Returns the message that the string form gives.
#[track_caller]
fn from_text(text: &str) -> Message {
    text::parse(text.as_bytes(), NOW, &Limits::default()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn to_text(message: &Message) -> String {
    let mut output = Vec::new();
    text::print(message, &NoNames, &mut output);
    String::from_utf8_lossy(&output).into_owned()
}

/// Parses hexadecimal digits, with text between apostrophes.
fn bytes(notation: &str) -> Vec<u8> {
    let mut output = Vec::new();
    for (place, part) in notation.split('\'').enumerate() {
        if place % 2 == 1 {
            output.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u32> = part.chars().filter_map(|digit| digit.to_digit(16)).collect();
        assert!(digits.len().is_multiple_of(2), "{part}");
        output.extend(digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()));
    }
    output
}
