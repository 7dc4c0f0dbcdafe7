//! A JSON form of messages. FIPA defines none; this one is the router's own.
//!
//! [`from_json`] reads one message, [`Messages`] a text of them (JSON lines, or objects with white space or nothing
//! between them), [`to_json`] writes one on a line. Guarantees:
//!
//! - A message that was written and read again equals itself, whatever bytes it carries, and equals what the other
//!   forms give.
//! - Sizes, counts and nesting are checked against the [`Limits`] before memory is allocated, and reading takes time
//!   proportional to the length of the input.
//! - Reading is strict: unknown members, repeated members and values of the wrong type are refused, with their
//!   position.
//!
//! # Members of a message
//!
//! They are named like the parameters of the string form. Only `performative` is mandatory; the order does not matter.
//!
//! | Member | Type | Limit |
//! |---|---|---|
//! | `performative` | string: an act of SC00037 in any case, or a word | 64 bytes |
//! | `sender` | agent | |
//! | `receiver`, `reply-to` | array of agents | 10,000 agents |
//! | `content` | string, or `{"base64": string}` for bytes that are not text | the content limit |
//! | `language`, `encoding`, `ontology`, `protocol` | string | 65,536 bytes |
//! | `conversation-id`, `reply-with`, `in-reply-to` | string | 65,536 bytes |
//! | `reply-by` | string: a date as in the [string form](super::text), such as `"20250131T235959999Z"` | |
//! | `X-caxton-priority`, `X-caxton-reliability`, `X-caxton-receipt`, `X-caxton-when-unavailable` | string, with the words of the string form | |
//! | `X-caxton-attempts-max` | number | 1 to 255 |
//! | `X-caxton-time-to-live-ms` | number | 1 to 300,000 |
//! | `X-caxton-deliver-at` | string: a date | |
//! | `X-caxton-message-id`, `X-caxton-traceparent`, `X-caxton-capability`, `X-caxton-choice` | string, as in the string form | |
//! | `user-defined` | array of parameters | 64 parameters |
//!
//! An **agent** is its name as a string, or an object:
//!
//! | Member | Type | Limit |
//! |---|---|---|
//! | `name` | string, mandatory | 512 bytes |
//! | `addresses` | array of strings | 64 of 65,536 bytes |
//! | `resolvers` | array of agents | 64, nested 8 levels deep |
//! | `user-defined` | array of parameters | 64 parameters |
//!
//! A **parameter** is an object with `name`, a word, and one of `word`, `string`, `list` (all strings) and `base64` (a
//! string: bytes in base64), which are the kinds of values of the string form.
//!
//! ```json
//! {"performative":"inform","sender":"a@x","receiver":[{"name":"b@x","addresses":["http://x/acc"]}],"content":"hello",
//!  "X-caxton-priority":"high","user-defined":[{"name":"X-trail","word":"north"}]}
//! ```

mod parse;
mod print;
mod several;
mod value;

pub use parse::from_json;
pub use print::to_json;
pub use several::Messages;

use super::text::Limits;
use crate::domain::ContentLimit;

/// Returns the default limits for messages with content of up to `content_max`: those of the XML form, which has
/// content in base64 too.
pub fn limits(content_max: ContentLimit) -> Limits {
    super::xml::limits(content_max)
}
