//! The string form of messages (FIPA SC00070): what is written reads back, errors are located, and hostile input costs
//! time proportional to its length.
//!
//! Random tests print the failing input, and `PROPTEST_CASES` sets their number.

mod grammar;
mod leniency;
mod limits;
mod platforms;
mod random;
mod refusals;
mod several;
mod strict_form;

use std::num::{NonZeroU8, NonZeroU64};

use caxton_shards::codec::text::{
    EXCERPT_CHARACTERS_MAX, Limits, Located, Messages, NoNames, ParseError, ParseErrorKind, parse, print,
};
use caxton_shards::domain::{AgentName, CapabilityName, ContentLimit, LifetimeMs, Priority};
use caxton_shards::message::{
    AgentId, Aid, Choice, ConversationId, Correlation, Message, MessageId, ParameterValue, Performative, RECEIVERS_MAX,
    Receipt, Receiver, Reliability, USER_PARAMETERS_MAX, WallTime, WhenUnavailable,
};
use proptest::prelude::*;

use crate::linear::grows_with_its_input;

/// 2023-11-14T22:13:20Z
const NOW: WallTime = WallTime(1_700_000_000_000);

fn read(input: impl AsRef<[u8]>) -> Result<Message, ParseError> {
    parse(input.as_ref(), NOW, &Limits::default())
}

#[track_caller]
fn reads(input: impl AsRef<[u8]>) -> Message {
    read(&input).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(input.as_ref())))
}

fn written(message: &Message) -> Vec<u8> {
    let mut output = Vec::new();
    print(message, &NoNames, &mut output);
    output
}

#[track_caller]
fn writes(input: &str, expected: &str) {
    let output = written(&reads(input));
    assert_eq!(String::from_utf8_lossy(&output), expected);
    assert_eq!(written(&reads(&output)), output);
}

fn user_values(message: &Message) -> Vec<(&str, &ParameterValue)> {
    let parameters = message.details().map_or(&[][..], |details| &details.user_parameters);
    parameters.iter().map(|parameter| (&*parameter.name, &parameter.value)).collect()
}
