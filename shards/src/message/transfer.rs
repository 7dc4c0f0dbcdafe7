//! The encoding of a message that goes to another node. It is that of the journal; the remaining lifetime is passed
//! separately.
//!
//! A message's lifetime counts from its admission. A node passes on how much of it is left. So the time on the way so
//! far counts, and the nodes' clocks need not agree.

use std::time::Duration;

use super::Message;
use super::bytes::{Reader, RecordError};
use super::stored::Extent;

/// Appends the encoded message to `out`.
pub fn encode(message: &Message, out: &mut Vec<u8>) {
    message.store(out, Extent::Whole);
}

/// Decodes a message written by [`encode`]. `remaining` becomes its lifetime, rounded down to milliseconds, but at
/// least one and at most `u32::MAX`. `None` leaves its lifetime as it is.
///
/// # Errors
///
/// The bytes are not a message of this version, or its act is a new word and the vocabulary has no room for it.
pub fn decode(bytes: &[u8], remaining: Option<Duration>) -> Result<Message, RecordError> {
    let mut reader = Reader::new(bytes);
    let mut message = Message::restore(&mut reader)?;
    reader.end()?;
    if let Some(remaining) = remaining {
        message.0.time_to_live_ms = u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX).max(1);
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::LifetimeMs;
    use crate::message::{AgentId, DeliveryOptions, Performative, Reliability};

    fn encoded(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(message, &mut bytes);
        bytes
    }

    #[test]
    fn a_message_arrives_as_it_left_with_the_rest_of_its_lifetime() {
        let options = DeliveryOptions {
            reliability: Reliability::Durable,
            time_to_live: LifetimeMs::try_new(9_000).ok(),
            ..DeliveryOptions::default()
        };
        let draft = Message::builder(Performative::Request).sender("seller").receiver("buyer").ontology("trade");
        let message = draft.options(options).content("x".repeat(1_000)).build().unwrap();
        let bytes = encoded(&message);
        assert_eq!(decode(&bytes, None).unwrap(), message);
        let later = decode(&bytes, Some(Duration::from_millis(700))).unwrap();
        assert_eq!(later.options().time_to_live, LifetimeMs::try_new(700).ok());
        assert_eq!((later.target(), later.content()), (Some(AgentId::of_text("buyer")), message.content()));
        assert_eq!(decode(&bytes, Some(Duration::ZERO)).unwrap().time_to_live_ms(), 1);
        assert_eq!(decode(&bytes, Some(Duration::MAX)).unwrap().time_to_live_ms(), u32::MAX);
    }

    #[test]
    fn bytes_that_are_not_one_message_are_refused() {
        let message = Message::builder(Performative::Inform).receiver("buyer").content("sold").build().unwrap();
        let mut bytes = encoded(&message);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], None).is_err(), "{length} bytes");
        }
        bytes.push(0);
        assert_eq!(decode(&bytes, None), Err(RecordError::TooLong(1)));
    }
}
