//! The encoding of messages for raw guests.

use caxton_shards::api::is_notice;
use caxton_shards::message::{AgentId, Message, MessageId, Performative, WallTime};

use super::VERSION;

pub(super) const HEADER_BYTES: usize = 32;
const FRAME_BYTES: usize = 96;
/// Marks a performative outside of SC00037.
pub(super) const OTHER: u8 = u8::MAX;

/// Messages for one call, in the guest's encoding.
#[derive(Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    count: u32,
}

impl Frames {
    pub fn begin(&mut self, me: AgentId, now: WallTime) {
        self.bytes.clear();
        self.count = 0;
        self.bytes.extend_from_slice(&VERSION.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&now.0.to_le_bytes());
        self.bytes.extend_from_slice(&me.to_u128().to_le_bytes());
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn push(&mut self, message: &Message) {
        let content = message.content().as_bytes();
        let words = [message.protocol(), message.language(), message.ontology(), message.encoding()];
        let (performative, word) = code_of(message.performative());
        let texts = [words[0], words[1], words[2], words[3], word]
            .map(|text| text.map(str::as_bytes).filter(|text| u16::try_from(text.len()).is_ok()).unwrap_or_default());
        let mut frame = [0; FRAME_BYTES];
        let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
        let mut flags = u8::from(is_notice(message));
        put(8, &message.id().map_or(0, MessageId::to_u128).to_le_bytes());
        put(24, &message.sender().map_or(0, AgentId::to_u128).to_le_bytes());
        if let Some(conversation) = message.conversation() {
            flags |= 2;
            put(40, &conversation.to_u128().to_le_bytes());
        }
        if let Some(correlation) = message.reply_with() {
            flags |= 4;
            put(56, &correlation.get().to_le_bytes());
        }
        if let Some(correlation) = message.in_reply_to() {
            flags |= 8;
            put(64, &correlation.get().to_le_bytes());
        }
        if let Some(moment) = message.reply_by() {
            flags |= 16;
            put(72, &moment.0.to_le_bytes());
        }
        let length = FRAME_BYTES + content.len() + texts.iter().map(|text| text.len()).sum::<usize>();
        let padded = length.next_multiple_of(8);
        put(0, &u32::try_from(padded).unwrap_or(u32::MAX).to_le_bytes());
        put(4, &[performative, flags]);
        put(80, &u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (place, text) in texts.iter().enumerate() {
            put(84 + 2 * place, &u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
        }
        self.bytes.reserve(padded);
        self.bytes.extend_from_slice(&frame);
        self.bytes.extend_from_slice(content);
        for text in texts {
            self.bytes.extend_from_slice(text);
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.count += 1;
        self.bytes[4..8].copy_from_slice(&self.count.to_le_bytes());
    }
}

/// Returns a performative's number, and its word if it has none.
fn code_of(performative: Performative) -> (u8, Option<&'static str>) {
    // The acts are declared in alphabetical order.
    match Performative::STANDARD.iter().position(|act| *act == performative) {
        Some(place) => (u8::try_from(place).unwrap_or(OTHER), None),
        None => (OTHER, Some(performative.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_lies_where_the_documentation_says() {
        let me = AgentId::of_text("me");
        let message = Message::builder(Performative::Request)
            .sender(AgentId::of_text("ada"))
            .receiver(me)
            .protocol("fipa-request")
            .content("hello")
            .build()
            .expect("the message is legal");
        let mut frames = Frames::default();
        frames.begin(me, WallTime(7));
        frames.push(&message);
        frames.push(&message);
        let bytes = frames.bytes();
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        assert_eq!((number(0), number(4), number(8)), (1, 2, 7));
        assert_eq!(bytes[16..32], me.to_u128().to_le_bytes());
        let first = HEADER_BYTES;
        assert_eq!(number(first), 120, "96 + 5 + 12, padded");
        assert_eq!(Performative::STANDARD[usize::from(bytes[first + 4])], Performative::Request);
        assert_eq!(bytes[first + 24..first + 40], AgentId::of_text("ada").to_u128().to_le_bytes());
        assert_eq!(number(first + 80), 5);
        assert_eq!(&bytes[first + 96..first + 113], b"hellofipa-request");
        assert_eq!(number(first + 120), 120);
        assert_eq!(bytes.len(), HEADER_BYTES + 240);
    }

    #[test]
    fn performatives_are_in_alphabetical_order() {
        let mut words = Performative::STANDARD.map(Performative::as_str);
        words.sort_unstable();
        assert_eq!(words, Performative::STANDARD.map(Performative::as_str));
    }
}
