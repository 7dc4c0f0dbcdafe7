//! The entries of a frame of data.
//!
//! Layout, little-endian: kind (1 byte), length (4), and as many bytes. An entry is written in place at the end of the
//! frame that is being filled, without an allocation of its own.

use std::time::Duration;

use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, Message, transfer};

use super::event::{Credit, REASON_BYTES_MAX, Tag};
use super::frame::{Cursor, FrameError};
use super::names::NAMES_MAX;

/// The name of a sender, under a number.
const NAME: u8 = 1;
const MESSAGE: u8 = 2;
/// A message in the name of the router.
const NOTICE: u8 = 3;
const SETTLED: u8 = 4;
const REFUSED: u8 = 5;
const CREDIT: u8 = 6;
const GONE: u8 = 7;

/// Length of an entry's kind and length fields.
const PREFIX_BYTES: usize = 5;
/// Length of an entry with a credit.
pub(super) const CREDIT_BYTES: usize = PREFIX_BYTES + 16 + 4 + 8;
/// Length of an entry that says that an agent is gone.
pub(super) const GONE_BYTES: usize = PREFIX_BYTES + 16;
/// Maximum length of an entry with a reason.
pub(super) const REFUSED_BYTES_MAX: usize = PREFIX_BYTES + 8 + REASON_BYTES_MAX;
/// Returns the length of an entry with this many settled tags.
pub(super) const fn settled_bytes(tags: usize) -> usize {
    PREFIX_BYTES + 8 * tags
}

/// An entry that was read. Messages are not decoded yet.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    Name { number: u16, name: AgentName },
    Message(Transfer<'a>),
    Settled(&'a [u8]),
    Refused { tag: Tag, reason: &'a str },
    Credit { target: AgentId, credit: Credit },
    Gone(AgentId),
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer<'a> {
    pub tag: Option<Tag>,
    /// The number of the sender's name; none for a notice of the router.
    pub sender: Option<u16>,
    pub target: AgentId,
    pub remaining: Option<Duration>,
    pub encoded: &'a [u8],
}

/// Appends an entry whose body `write` appends. Returns what `write` does.
fn put<T>(out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    out.push(kind);
    let place = out.len();
    out.extend([0; 4]);
    let result = write(out);
    let length = u32::try_from(out.len() - place - 4).unwrap_or(u32::MAX);
    out[place..place + 4].copy_from_slice(&length.to_le_bytes());
    result
}

pub(super) fn put_name(out: &mut Vec<u8>, number: u16, name: &AgentName) {
    put(out, NAME, |out| {
        out.extend(number.to_le_bytes());
        out.extend(name.as_ref().as_bytes());
    });
}

/// Appends a message, or a notice if it has no sender's number. Returns how many bytes the message takes by itself.
pub(super) fn put_message(out: &mut Vec<u8>, head: &Transfer<'_>, message: &Message) -> u64 {
    put(out, if head.sender.is_some() { MESSAGE } else { NOTICE }, |out| {
        out.extend(head.tag.map_or(0, Tag::get).to_le_bytes());
        if let Some(number) = head.sender {
            out.extend(number.to_le_bytes());
        }
        out.extend(head.target.to_u128().to_le_bytes());
        // Zero means that no remaining lifetime is given, so what is left of a lifetime is at least one millisecond.
        let milliseconds = |rest: Duration| u32::try_from(rest.as_millis()).unwrap_or(u32::MAX).max(1);
        out.extend(head.remaining.map_or(0, milliseconds).to_le_bytes());
        let place = out.len();
        transfer::encode(message, out);
        (out.len() - place) as u64
    })
}

pub(super) fn put_settled(out: &mut Vec<u8>, tags: impl Iterator<Item = Tag>) {
    put(out, SETTLED, |out| {
        for tag in tags {
            out.extend(tag.get().to_le_bytes());
        }
    });
}

pub(super) fn put_refused(out: &mut Vec<u8>, tag: Tag, reason: &str) {
    put(out, REFUSED, |out| {
        out.extend(tag.get().to_le_bytes());
        out.extend(reason.as_bytes());
    });
}

pub(super) fn put_credit(out: &mut Vec<u8>, target: AgentId, credit: Credit) {
    put(out, CREDIT, |out| {
        out.extend(target.to_u128().to_le_bytes());
        out.extend(credit.messages.to_le_bytes());
        out.extend(credit.bytes.to_le_bytes());
    });
}

pub(super) fn put_gone(out: &mut Vec<u8>, agent: AgentId) {
    put(out, GONE, |out| out.extend(agent.to_u128().to_le_bytes()));
}

/// Reads the entries of a frame's body.
pub(super) struct Entries<'a>(Cursor<'a>);

impl<'a> Entries<'a> {
    pub fn new(body: &'a [u8]) -> Self {
        Self(Cursor(body))
    }

    fn read(&mut self) -> Result<Entry<'a>, FrameError> {
        let [kind] = self.0.array("entry")?;
        let length = self.0.u32("entry")? as usize;
        let mut body = Cursor(self.0.take(length, "entry")?);
        let entry = match kind {
            NAME => {
                let number = body.u16("name")?;
                let name = AgentName::try_new(text(body.0, "name")?).map_err(|_| FrameError::Illegal("name"))?;
                if number >= NAMES_MAX {
                    return Err(FrameError::Illegal("name"));
                }
                return Ok(Entry::Name { number, name });
            }
            MESSAGE | NOTICE => {
                let tag = Tag::new(body.u64("tag")?);
                let sender = if kind == MESSAGE { Some(body.u16("sender")?) } else { None };
                let target = agent(&mut body)?;
                let remaining = Some(body.u32("lifetime")?).filter(|rest| *rest > 0);
                let remaining = remaining.map(|rest| Duration::from_millis(rest.into()));
                return Ok(Entry::Message(Transfer { tag, sender, target, remaining, encoded: body.0 }));
            }
            SETTLED if length.is_multiple_of(8) => return Ok(Entry::Settled(body.0)),
            SETTLED => return Err(FrameError::Illegal("tags")),
            REFUSED => {
                let tag = Tag::new(body.u64("tag")?).ok_or(FrameError::Illegal("tag"))?;
                if body.0.len() > REASON_BYTES_MAX {
                    return Err(FrameError::Illegal("reason"));
                }
                return Ok(Entry::Refused { tag, reason: text(body.0, "reason")? });
            }
            CREDIT => {
                let target = agent(&mut body)?;
                let credit = Credit { messages: body.u32("credit")?, bytes: body.u64("credit")? };
                Entry::Credit { target, credit }
            }
            GONE => Entry::Gone(agent(&mut body)?),
            _ => return Err(FrameError::Illegal("entry")),
        };
        if body.0.is_empty() { Ok(entry) } else { Err(FrameError::Illegal("entry")) }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, FrameError>;

    /// Returns the next entry, and ends after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.0.is_empty() {
            return None;
        }
        let entry = self.read();
        if entry.is_err() {
            self.0.0 = &[];
        }
        Some(entry)
    }
}

/// Returns the tags of an entry that says what is settled.
pub(super) fn tags(settled: &[u8]) -> impl Iterator<Item = Tag> {
    settled.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes).and_then(Tag::new))
}

fn text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, FrameError> {
    std::str::from_utf8(bytes).map_err(|_| FrameError::Illegal(what))
}

fn agent(from: &mut Cursor<'_>) -> Result<AgentId, FrameError> {
    AgentId::from_u128(from.u128("agent")?).ok_or(FrameError::Illegal("agent"))
}
