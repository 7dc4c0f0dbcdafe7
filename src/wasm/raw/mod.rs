//! The fast interface: core modules that take many messages in one call, through their linear memory.
//!
//! # What a raw module exports
//!
//! | export | type | what it does |
//! |---|---|---|
//! | `memory` | memory | the linear memory |
//! | `caxton_buffer_v1` | `(bytes: i32) -> i32` | returns where this many bytes of messages may be written: an address divisible by 8, or 0 if there is no room |
//! | `caxton_handle_v1` | `(address: i32, bytes: i32) -> i64` | handles the messages; returns the place of its actions: address in the upper half, length in the lower; 0 if there are none |
//! | `caxton_start_v1` | `() -> ()` | optional: called once before the first message |
//! | `caxton_stop_v1` | `() -> ()` | optional: called before the agent is removed |
//! | `_initialize` | `() -> ()` | optional: called before everything else, as in WASI reactors |
//!
//! The buffer is asked for when more room is needed than before, and is used again until then.
//!
//! # What it may import, from the module `caxton`
//!
//! | import | type | what it does |
//! |---|---|---|
//! | `now_ms` | `() -> i64` | milliseconds since 1970, at the beginning of the call |
//! | `random` | `() -> i64` | a pseudo-random number; the same seed gives the same numbers |
//! | `log` | `(level: i32, address: i32, bytes: i32)` | writes UTF-8 text into the log; 0 is trace, 4 is error |
//! | `discover` | `(address: i32, bytes: i32, out: i32, most: i32) -> i32` | writes up to `most` agents of 16 bytes that provide the capability; returns how many there are, or -1 for an invalid name |
//! | `get` | `(key: i32, bytes: i32, out: i32, most: i32) -> i32` | writes up to `most` bytes of a stored value; returns its length, or -1 if there is none |
//! | `put` | `(key: i32, bytes: i32, value: i32, length: i32) -> i32` | stores a value once the messages were handled, or removes it if `length` is -1; returns 0, or -1 if there is no room |
//!
//! # Messages
//!
//! All numbers are little-endian. The buffer begins with 32 bytes: version (4 bytes, 1), number of messages (4), milliseconds since
//! 1970 (8), the guest's own id (16). The messages follow, each at an address divisible by 8:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the whole message, up to the next one |
//! | 4 | 1 | performative: its index among the acts of SC00037 in alphabetical order, 0 to 21; 255 for another, whose word follows |
//! | 5 | 1 | flags: 1 from the router itself, 2 has a conversation, 4 has `reply-with`, 8 has `in-reply-to`, 16 has `reply-by` |
//! | 8 | 16 | message id |
//! | 24 | 16 | sender |
//! | 40 | 16 | conversation |
//! | 56 | 8 | `reply-with` |
//! | 64 | 8 | `in-reply-to` |
//! | 72 | 8 | `reply-by`, in milliseconds since 1970 |
//! | 80 | 4 | length of the content |
//! | 84 | 5 x 2 | lengths of protocol, language, ontology, encoding, and of the performative's word |
//! | 96 | | content, protocol, language, ontology, encoding, performative's word |
//!
//! Ids have their lower half first. Text of more than 65,535 bytes is left out.
//!
//! # Actions
//!
//! What the guest answers is a list of actions, each at an offset divisible by 8 and with the length of the whole action in its
//! first 4 bytes, then what it is (4 bytes) and the number of the message that it is about (4 bytes, from 0). A message without
//! an action is handled. What is sent because of a message goes out when that message was handled, and not if it failed.
//!
//! | action | from offset 12 |
//! |---|---|
//! | 1 fail | length of the text (4), text (16) |
//! | 2 reply | performative (1), length of its word (1), padding (2), length of the content (4), content (20), word |
//! | 3 send | see below |
//! | 4 timer | milliseconds (4), length of the content (4), content (20): delivered to the guest itself, with the ontology `caxton-timer` |
//! | 5 offer, 6 withdraw | length of the capability's name (4), name (16) |
//!
//! Send: performative (1 byte at 12), kind of receiver (1 at 13: 0 agent, 1 name, 2 any of a capability, 3 the next of it, 4 the
//! idlest, 5 all), flags (1 at 14: 2 conversation, 4 `reply-with`, 8 `in-reply-to`, 32 durable), priority (1 at 15: 0 normal, 1 low, 2 high,
//! 3 urgent), receiver (16 at 16), conversation (16 at 32), `reply-with` (8 at 48), `in-reply-to` (8 at 56), milliseconds for an answer (4 at
//! 64, 0 for none), milliseconds of lifetime (4 at 68, 0 for the router's own), length of the content (4 at 72), lengths of the
//! receiver's name or capability, protocol, language, ontology, encoding and performative's word (6 x 2 at 76), then at 88 the content and
//! these texts.

mod actions;
mod agent;
mod frames;
mod imports;

pub(super) use actions::{finish, timer};
pub(super) use agent::RawAgent;
pub(super) use imports::{linker, prepare};

/// The version of this interface.
pub const VERSION: u32 = 1;
