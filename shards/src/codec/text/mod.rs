//! The string form of messages (FIPA SC00070).
//!
//! [`parse`] reads one message, [`Messages`] a file of them, [`print()`] writes one. Reading accepts everything that is
//! unambiguous; writing follows the standard to the letter. Guarantees:
//!
//! - A message that was read, written and read again equals itself, whatever bytes it carries.
//! - Input controls nothing but its own length: sizes, counts and nesting are checked against the [`Limits`] before
//!   memory is allocated, and reading takes time proportional to the length of the input, even if all of it is
//!   malformed.
//! - Nothing is lost silently: what cannot be understood is refused with its line, its column and the reason.
//!
//! # Strings
//!
//! The standard knows one escape, `\"`; every other backslash stands for itself. A quote after a backslash therefore
//! belongs to its string, so a text that ends in a backslash is written with its length: `#4"dir\`. The same form
//! carries content that is not UTF-8 or contains a NUL.
//!
//! Other platforms write such a text as a literal anyway: `"C:\logs\"`. If a message cannot be read by the rule above,
//! and exactly one choice of quotes after backslashes as string ends gives a message, followed by another message or
//! nothing, then that reading is used. A message with two such readings is refused.
//!
//! # What is accepted beyond the standard
//!
//! - Any case of performatives, parameter names and the words `agent-identifier`, `set` and `sequence`.
//! - Names of agents that are not words, written as strings: `"Night Porter@plant"`.
//! - One identifier where a set or a sequence belongs, `set` for `sequence` and the reverse, a bare name for an
//!   identifier, and a string for a name or an address.
//! - A word, number, date, string or parenthesised expression for any textual parameter and for the content. Words may
//!   begin with any character but `"`, `:` and parentheses.
//! - No white space where a string or a parenthesis already separates, none between messages, `\r\n`, a byte order
//!   mark, and a quote after a byte-length-encoded string.
//! - A `reply-by` that is not a date, which sets no deadline and is kept as the user-defined parameter `X-reply-by`.
//! - The receiver `(set)`, which means the same as none.
//!
//! [`Strictness`] decides whether names that are not words and strings that end in a backslash are read or refused.
//!
//! Refused are unknown parameters without the prefix `X-` (SC00061), repeated standard parameters, and values that are
//! invalid for a parameter. User-defined parameters may repeat; all of them are kept, in order.
//!
//! # Dates
//!
//! Times are absolute (`20250131T235959999Z`) or relative to the time of reading (`+00000000T000100000`, a minute). A
//! time with another type designator than `Z`, or with none, is taken as UTC: the standard calls it local without
//! saying where, and RFC 5322 settled on the same reading for the single letters.
//!
//! # What the router adds
//!
//! Delivery options are encoded in parameters that SC00061 leaves to users, under the router's own prefix. Other
//! platforms' parameters, such as an `X-priority`, mean nothing to the router and are kept:
//!
//! | Parameter | Values |
//! |---|---|
//! | `X-caxton-priority` | `low`, `normal`, `high`, `urgent` |
//! | `X-caxton-reliability` | `volatile`, `durable` |
//! | `X-caxton-receipt` | `none`, `delivered`, `processed` |
//! | `X-caxton-when-unavailable` | `wait`, `fail-fast` |
//! | `X-caxton-attempts-max` | 1 to 255 |
//! | `X-caxton-time-to-live-ms` | 1 to 300,000 |
//! | `X-caxton-deliver-at` | a date |
//! | `X-caxton-message-id` | `m` and 32 hexadecimal digits |
//! | `X-caxton-traceparent` | a W3C trace context |
//! | `X-caxton-capability` | a capability's name, in a message without receiver |
//! | `X-caxton-choice` | `any`, `all`, `round-robin`, `least-loaded`, beside `X-caxton-capability` |
//! | `X-caxton-user-defined` | `(name value)`: a user-defined parameter that came without `X-` in another form |
//!
//! # What has no string form
//!
//! - The sender's role in a conversation, and its initiator. The router resolves both when it admits the message.
//! - An agent without a known name. Its id is written as a name, `a` and 32 hexadecimal digits, which reads back as
//!   another agent.
//! - Which of several receivers a copy is for: it names all of them. A message addressed by capability names the
//!   provider once that is chosen, and no longer the capability.
//! - Times after the year 9999, which become its last millisecond, and a trace of zeros, which is none.

mod aid;
mod delivery;
mod error;
mod lexer;
mod named;
mod parse;
mod print;
pub(crate) mod readings;
mod resynchronise;
mod strictness;

use std::borrow::Cow;

pub(super) use delivery::{Delivery, for_each_option};
pub(super) use error::{BYTE_ORDER_MARK, Place, Refusal, excerpt};
pub use error::{EXCERPT_CHARACTERS_MAX, ParseError, ParseErrorKind};
pub(super) use lexer::{Read, is_list, quotes, unescape};
pub use named::{NamedParameters, for_each_own_parameter};
pub(super) use parse::{Parameters, REPLY_BY_KEPT, check_user_parameters, user_defined};
pub use print::print;
pub use resynchronise::{Located, Messages};
pub use strictness::{Strictness, StrictnessError, check_strict};

use crate::domain::{AgentName, ContentLimit};
use crate::message::date;
use crate::message::{AgentId, Message, RECEIVERS_MAX, WallTime};

/// Default limit for the length of a message beyond its content, in bytes.
pub const OVERHEAD_BYTES_MAX: usize = 4 << 20;
/// Default limit for the nesting depth of parentheses. The message's own are the first level.
pub const NESTING_MAX: usize = 64;
/// Default limit for the number of agent identifiers in all parameters of a message.
pub const AIDS_MAX: usize = 3 * RECEIVERS_MAX;

/// Limits of one message, besides those that apply to every message whatever its form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Maximum length of a message, in bytes of its string form.
    pub message_bytes_max: usize,
    /// Maximum length of content, in bytes after escapes are resolved.
    pub content_max: ContentLimit,
    /// Maximum nesting depth of parentheses outside strings. The message's own are the first level.
    pub nesting_max: usize,
    /// Maximum number of agent identifiers in all parameters together, including resolvers.
    pub aids_max: usize,
    /// Whether extensions of the standard are read or refused.
    pub strictness: Strictness,
}

impl Limits {
    /// Returns the default limits for content of up to `content_max`.
    pub fn with_content(content_max: ContentLimit) -> Self {
        let message_bytes_max = content_max.as_usize().saturating_add(OVERHEAD_BYTES_MAX);
        Self {
            message_bytes_max,
            content_max,
            nesting_max: NESTING_MAX,
            aids_max: AIDS_MAX,
            strictness: Strictness::default(),
        }
    }

    /// Returns the same limits with another strictness.
    #[must_use]
    pub fn with_strictness(self, strictness: Strictness) -> Self {
        Self { strictness, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::with_content(ContentLimit::default())
    }
}

/// Parses a date. A relative one counts from `now`.
pub(crate) fn moment(text: &str, now: WallTime) -> Option<WallTime> {
    date::read(text.as_bytes(), now)
}

/// Reads exactly one message, with optional white space around it. Relative dates count from `now`.
///
/// # Errors
///
/// Returns the first fault in the input, with its position.
pub fn parse(input: &[u8], now: WallTime, limits: &Limits) -> Result<Message, ParseError> {
    parse::single(input, now, limits).map_err(|refusal| refusal.locate(input))
}

/// Looks up agents' names. Messages of native agents carry only ids; their string form contains names.
pub trait Names {
    /// Returns the name of the agent, if it is known.
    fn name_of(&self, agent: AgentId) -> Option<Cow<'_, AgentName>>;
}

/// Knows no names.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {
    fn name_of(&self, _: AgentId) -> Option<Cow<'_, AgentName>> {
        None
    }
}

impl<Look: Fn(AgentId) -> Option<AgentName>> Names for Look {
    fn name_of(&self, agent: AgentId) -> Option<Cow<'_, AgentName>> {
        self(agent).map(Cow::Owned)
    }
}
