//! The codes of SC00069 and SC00088, by the names of their grammars.

/// First byte of a message without a code table.
pub const NO_TABLE: u8 = 0xfa;
/// First byte of a message with a code table that is updated.
pub const TABLE: u8 = 0xfb;
/// First byte of a message with a code table that stays unchanged.
pub const TABLE_KEPT: u8 = 0xfc;
/// First byte of an envelope added by a channel on the way.
pub const EXTERNAL_ENVELOPE: u8 = 0xfd;
/// First byte of the envelope added by the sender's platform.
pub const BASE_ENVELOPE: u8 = 0xfe;
/// Version 1.0 of the coding.
pub const VERSION: u8 = 0x10;

/// Ends a message, an envelope, an identifier or a collection.
pub const END: u8 = 0x01;
/// Introduces a performative, parameter or representation without a code; its name follows.
pub const USER_DEFINED: u8 = 0x00;

pub const SENDER: u8 = 0x02;
pub const RECEIVER: u8 = 0x03;
pub const CONTENT: u8 = 0x04;
pub const REPLY_WITH: u8 = 0x05;
pub const REPLY_BY: u8 = 0x06;
pub const IN_REPLY_TO: u8 = 0x07;
pub const REPLY_TO: u8 = 0x08;
pub const LANGUAGE: u8 = 0x09;
pub const ENCODING: u8 = 0x0a;
pub const ONTOLOGY: u8 = 0x0b;
pub const PROTOCOL: u8 = 0x0c;
pub const CONVERSATION_ID: u8 = 0x0d;

pub const IDENTIFIER: u8 = 0x02;
pub const ADDRESSES: u8 = 0x02;
pub const RESOLVERS: u8 = 0x03;
pub const IDENTIFIER_PARAMETER: u8 = 0x04;

pub const WORD: u8 = 0x10;
pub const WORD_INDEX: u8 = 0x11;
pub const DECIMAL: u8 = 0x12;
pub const HEXADECIMAL: u8 = 0x13;
pub const STRING: u8 = 0x14;
pub const STRING_INDEX: u8 = 0x15;
pub const BYTES_8: u8 = 0x16;
pub const BYTES_16: u8 = 0x17;
pub const BYTES_INDEX: u8 = 0x18;
pub const BYTES_32: u8 = 0x19;
/// Ends words and strings.
pub const TERMINATOR: u8 = 0x00;

pub const DATE: u8 = 0x20;
pub const DATE_LATER: u8 = 0x21;
pub const DATE_EARLIER: u8 = 0x22;
/// Added to the code of a date that is followed by a type designator.
pub const DESIGNATED: u8 = 0x04;

/// Closes a parenthesis.
pub const UP: u8 = 0x40;
/// Closes a parenthesis; the low four bits encode what follows.
pub const UP_AND: u8 = 0x50;
/// Opens a parenthesis.
pub const DOWN: u8 = 0x60;
/// Opens a parenthesis; the low four bits encode what follows.
pub const DOWN_AND: u8 = 0x70;
/// An expression given as a string of its source text.
pub const SOURCE: u8 = 0xff;

/// Returns the code of the token after a fused parenthesis. There the standard swaps the codes of 32-bit lengths and of
/// indexes.
pub fn fused(code: u8) -> u8 {
    match code & 0x0f {
        0x8 => BYTES_32,
        0x9 => BYTES_INDEX,
        low => WORD | low,
    }
}

/// Codes of parameters of envelopes (SC00088).
pub mod envelope {
    pub const TO: u8 = 0x02;
    pub const FROM: u8 = 0x03;
    pub const ACL_REPRESENTATION: u8 = 0x04;
    pub const COMMENTS: u8 = 0x05;
    pub const PAYLOAD_LENGTH: u8 = 0x06;
    pub const PAYLOAD_ENCODING: u8 = 0x07;
    pub const INTENDED_RECEIVER: u8 = 0x09;
    pub const RECEIVED: u8 = 0x0a;
    pub const TRANSPORT_BEHAVIOUR: u8 = 0x0b;

    pub const STAMP_FROM: u8 = 0x02;
    pub const STAMP_ID: u8 = 0x03;
    pub const STAMP_VIA: u8 = 0x04;

    pub const BIT_EFFICIENT: u8 = 0x10;
    pub const STRING: u8 = 0x11;
    pub const XML: u8 = 0x12;

    /// In identifiers inside envelopes, some writers use this code instead of
    /// [`IDENTIFIER_PARAMETER`](super::IDENTIFIER_PARAMETER).
    pub const IDENTIFIER_PARAMETER_ALSO: u8 = 0x05;
}
