//! The XML form of messages (FIPA SC00071).
//!
//! [`from_xml`] reads one message, [`Messages`] a text of them, [`to_xml`] writes one; [`envelope_from_xml`] and
//! [`envelope_to_xml`] do the same for transport envelopes (SC00085). Guarantees:
//!
//! - A message that was written and read again equals itself, whatever bytes it carries, and equals what the other
//!   forms give.
//! - Nothing is expanded. The five predefined entities and character references are known; document type declarations
//!   and all other entities are refused. Sizes, counts and nesting are checked against the [`Limits`] before memory is
//!   allocated, and reading takes time proportional to the length of the input.
//! - Nothing is lost silently: elements, attributes and text that have no place are refused, with their position.
//! - Input that is not well-formed by XML 1.0 is refused: illegal characters, `<` in attributes, `]]>` in text,
//!   repeated attributes, invalid names, and the like.
//!
//! # What is written
//!
//! ```xml
//! <fipa-message act="inform"><sender><agent-identifier><name id="a@x"/><addresses><url href="http://x/acc"/></addresses>
//! </agent-identifier></sender><receiver>...</receiver><content>...</content><language>fipa-sl0</language>
//! <reply-by time="20250131T235959999Z"/><X-caxton-priority>high</X-caxton-priority></fipa-message>
//! ```
//!
//! (on one line). The parameters are in the order of the string form. The conversation id is an element: the attribute
//! of that name is an XML `ID`, which most conversation ids are not, and JADE reads only the element.
//!
//! | What | How |
//! |---|---|
//! | A delivery option, such as `X-caxton-priority` | `<X-caxton-priority>high</X-caxton-priority>`, with the values of the [string form](super::text) |
//! | A user-defined parameter | `<X-name>value</X-name>`, as in JADE; without `X-`, or if XML allows no element of that name, `<user-defined name="name">`, or `name-base64` |
//! | Its kind: word, string or list | what the value looks like; if it is another one, `type="word"`, `"string"` or `"list"` |
//! | A binary value | `encoding="base64"` without `type` |
//! | Text that XML cannot represent: control characters, U+FFFE, U+FFFF | `encoding="base64"` beside the value |
//! | Content that is not UTF-8, has such characters, or needs more than 65,536 references | `<content encoding="base64">` |
//!
//! JADE marks content in base64 with the user-defined parameter `X-JADE-Encoding`. That is an agreement between agents,
//! valid in the string form too: such content and its parameter are left unchanged.
//!
//! # What is accepted beyond that
//!
//! - A declaration (`encoding` UTF-8 or US-ASCII), comments, processing instructions, `CDATA` sections, namespace
//!   prefixes, any order of elements, and any case of their names and of performatives.
//! - White space around elements and around values other than content, whose white space is significant.
//! - `<receiver>`, `<reply-to>` and `<resolvers>` once for all agents or once for each, as in JADE.
//! - `<name>a</name>`, `refid`, `<url>b</url>` and `<reply-by>date</reply-by>` with their values between the tags.
//! - `<user-defined href="X-name">`, as in FIPA's document types.
//! - `conversation-id` and other textual parameters as attributes of `fipa-message`.
//! - A `reply-by` that is not a date, kept as in the string form.
//!
//! `href` on `<content>` and on other parameters is refused: the router fetches nothing.

mod cursor;
mod envelope;
mod escape;
mod parse;
mod print;
mod several;
mod well_formed;

pub use envelope::{envelope_from_xml, envelope_to_xml};
pub(super) use escape::{read_base64, write_base64};
pub use parse::from_xml;
pub use print::to_xml;
pub use several::Messages;

use super::text::{Limits, OVERHEAD_BYTES_MAX};
use crate::domain::ContentLimit;

/// Returns the default limits for messages with content of up to `content_max`: room for the content in base64, and as
/// much for everything else as in the string form.
pub fn limits(content_max: ContentLimit) -> Limits {
    let content = content_max.as_usize().saturating_add(2) / 3 * 4;
    Limits { message_bytes_max: content.saturating_add(OVERHEAD_BYTES_MAX), ..Limits::with_content(content_max) }
}
