//! The string form of messages (FIPA SC00070): what people write, what other platforms send.
//!
//! [`parse`] reads one message, [`Messages`] a file of them, [`print()`] writes one. Reading accepts whatever has one
//! meaning only; writing keeps to the standard to the letter. What holds:
//!
//! - A message that was read, written and read again equals itself, whatever bytes it carries.
//! - Input decides over nothing but its own length: sizes, counts and nesting are compared with the [`Limits`] before
//!   memory is taken for them, and the time to read grows with the length of the input alone, also when all of it is
//!   malformed.
//! - Nothing is lost silently: what can't be understood is refused with its line, its column and the reason.
//!
//! # Strings
//!
//! The standard knows one escape, `\"`; every other backslash stands for itself. A quote after a backslash therefore
//! belongs to its string, so that a text which ends in a backslash is written with its length in front: `#4"dir\`. The
//! same form carries content that is not UTF-8 or has a NUL.
//!
//! Platforms write such a text as a literal all the same: `"C:\logs\"`. Where a message can't be read by the rule above,
//! and there is exactly one choice of quotes behind backslashes which end their strings and give a message, with another
//! message or nothing behind it, that is what it says. A message with two such readings is refused.
//!
//! # What is accepted beyond the standard
//!
//! - Any case of performatives, parameter names and the words `agent-identifier`, `set` and `sequence`.
//! - Names of agents that are no words, written as strings: `"Night Porter@plant"`.
//! - One identifier where a set or a sequence belongs, `set` for `sequence` and the reverse, a bare name for an
//!   identifier, and a string for a name or an address.
//! - A word, number, date, string or parenthesised expression for any textual parameter and for the content. Words may
//!   begin with any character but `"`, `:` and parentheses.
//! - No white space where a string or a parenthesis already separates, none between messages, `\r\n`, a byte order
//!   mark, and a quote after a byte-length-encoded string.
//! - A `reply-by` that is no date, which sets no deadline and is kept as the user-defined parameter `X-reply-by`.
//! - The receiver `(set)`, which says as much as none.
//!
//! [`Strictness`] says whether names that are no words and strings that end in a backslash are read or refused.
//!
//! Refused are unknown parameters without the prefix `X-` (SC00061), a standard parameter given twice, and values that
//! a parameter can't have. User-defined parameters may repeat; all of them are kept, in their order.
//!
//! # Dates
//!
//! Moments are absolute (`20250131T235959999Z`) or relative to the time of reading (`+00000000T000100000`, a minute).
//! A moment with another type designator than `Z`, or with none, is taken as UTC: the standard calls it local without
//! saying whose, and RFC 5322 settled on the same reading for the single letters.
//!
//! # What the router adds
//!
//! Options of delivery travel in parameters that SC00061 leaves to users, under a prefix that is the router's own. Other
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
//! - The sender's part in a conversation, and who began it. The router finds both out when it admits the message.
//! - An agent whose name nobody knows. Its id is written as a name, `a` and 32 hexadecimal digits, which reads back as
//!   another agent.
//! - Which of several receivers a copy is for: it names all of them. A message that was addressed by capability names
//!   the provider once that is chosen, and the capability no longer.
//! - Moments after the year 9999, which become its last millisecond, and a trace of zeros, which is none.

mod aid;
mod delivery;
mod error;
mod lexer;
mod parse;
mod print;
pub(crate) mod readings;
mod resynchronise;
mod strictness;

use std::borrow::Cow;

pub(super) use delivery::{Delivery, patience_word, receipt_word, reliability_word};
pub(super) use error::{BYTE_ORDER_MARK, Place, Refusal, excerpt};
pub use error::{EXCERPT_CHARACTERS_MAX, Fault, ParseError};
pub(super) use lexer::{Read, is_list, quotes, unescape};
pub(super) use parse::{Parameters, REPLY_BY_KEPT, check_user_parameters, user_defined};
pub use print::print;
pub use resynchronise::{Located, Messages};
pub use strictness::{NotStrict, Strictness, check_strict};

use crate::domain::{AgentName, ContentLimit};
use crate::message::date;
use crate::message::{AgentId, Message, RECEIVERS_MAX, WallTime};

/// How much longer than its content a message may be, in bytes, unless the limits say otherwise.
pub const OVERHEAD_BYTES_MAX: usize = 4 << 20;
/// How deep parentheses may nest, unless the limits say otherwise. The message's own are the first level.
pub const NESTING_MAX: usize = 64;
/// How many agent identifiers a message may hold in all its parameters, unless the limits say otherwise.
pub const AIDS_MAX: usize = 3 * RECEIVERS_MAX;

/// What one message may take, beside the limits that hold for every message whatever its form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The longest message, in bytes of its string form.
    pub message_bytes_max: usize,
    /// The longest content, in bytes after escapes are resolved.
    pub content_max: ContentLimit,
    /// The deepest nesting of parentheses outside strings. The message's own are the first level.
    pub nesting_max: usize,
    /// The most agent identifiers in all parameters together, resolvers included.
    pub aids_max: usize,
    /// Whether what goes beyond the letter of the standard is read or refused.
    pub strictness: Strictness,
}

impl Limits {
    /// The usual limits around content of up to `content_max`.
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

    /// The same limits with another strictness.
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

/// The moment that a text names as a date, if it is one. A relative one counts from `now`.
pub(crate) fn moment(text: &str, now: WallTime) -> Option<WallTime> {
    date::read(text.as_bytes(), now)
}

/// Reads exactly one message, with white space around it. Relative dates count from `now`.
///
/// # Errors
/// The first thing that the input has wrong, with its position. Nothing else happened.
pub fn parse(input: &[u8], now: WallTime, limits: &Limits) -> Result<Message, ParseError> {
    parse::single(input, now, limits).map_err(|refusal| refusal.locate(input))
}

/// Who knows agents by name. Messages of native agents carry ids alone; their string form has names.
pub trait Names {
    /// The name of the agent, if it is known.
    fn name_of(&self, agent: AgentId) -> Option<Cow<'_, AgentName>>;
}

/// Knows nobody.
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
