//! What a link has to tell the peer about the peer's messages. It goes into the next frame; several credits for one
//! agent are added up.
//!
//! Bounds: at most as many tags as the peer may have unsettled, and credits for at most as many targets as it may have
//! messages on the way to. If a peer sends more than it is allowed to, it is told nothing about the rest.

use std::collections::VecDeque;

use caxton_shards::message::AgentId;
use hashbrown::{HashMap, HashSet};

use super::credits::TARGETS_MAX;
use super::entry::{self, CREDIT_BYTES, GONE_BYTES, REFUSED_BYTES_MAX, settled_bytes};
use super::event::{Credit, REASON_BYTES_MAX, Tag};
use super::outbound::UNSETTLED_MAX;

/// Maximum number of gone agents that wait to be reported. Further ones are not reported: the peer finds out with the
/// next message for them.
pub const GONE_MAX: usize = 65_536;

/// Settlements, refusals, credits and agents that are gone.
#[derive(Default)]
pub(super) struct Owed {
    settled: Vec<Tag>,
    refused: VecDeque<(Tag, Box<str>)>,
    credits: HashMap<AgentId, Credit>,
    gone: HashSet<AgentId>,
}

impl Owed {
    pub fn is_empty(&self) -> bool {
        self.settled.is_empty() && self.refused.is_empty() && self.credits.is_empty() && self.gone.is_empty()
    }

    pub fn settle(&mut self, tag: Tag) {
        if self.settled.len() < UNSETTLED_MAX {
            self.settled.push(tag);
        }
    }

    pub fn refuse(&mut self, tag: Tag, reason: &str) {
        if self.refused.len() >= UNSETTLED_MAX {
            return;
        }
        let mut end = REASON_BYTES_MAX.min(reason.len());
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        self.refused.push_back((tag, reason[..end].into()));
    }

    pub fn credit(&mut self, target: AgentId, credit: Credit) {
        if self.credits.len() >= TARGETS_MAX && !self.credits.contains_key(&target) {
            return;
        }
        let owed = self.credits.entry(target).or_default();
        owed.messages = owed.messages.saturating_add(credit.messages);
        owed.bytes = owed.bytes.saturating_add(credit.bytes);
    }

    pub fn gone(&mut self, agent: AgentId) {
        if self.gone.len() < GONE_MAX {
            self.gone.insert(agent);
        }
    }

    /// Moves as much as fits to the end of a frame that may have this size.
    pub fn write(&mut self, frame: &mut Vec<u8>, bytes_max: usize) {
        let room = |frame: &Vec<u8>| bytes_max.saturating_sub(frame.len());
        if !self.settled.is_empty() && room(frame) >= settled_bytes(1) {
            let tags = self.settled.len().min((room(frame) - settled_bytes(0)) / 8);
            entry::put_settled(frame, self.settled.drain(..tags));
        }
        while room(frame) >= REFUSED_BYTES_MAX
            && let Some((tag, reason)) = self.refused.pop_front()
        {
            entry::put_refused(frame, tag, &reason);
        }
        let credits = room(frame) / CREDIT_BYTES;
        for (target, credit) in take(&mut self.credits, credits) {
            entry::put_credit(frame, target, credit);
        }
        let gone = room(frame) / GONE_BYTES;
        let agents: Vec<_> = self.gone.iter().copied().take(gone).collect();
        for agent in agents {
            self.gone.remove(&agent);
            entry::put_gone(frame, agent);
        }
    }
}

/// Removes at most this many entries from a map and returns them.
fn take(credits: &mut HashMap<AgentId, Credit>, most: usize) -> Vec<(AgentId, Credit)> {
    if credits.len() <= most {
        return credits.drain().collect();
    }
    let agents: Vec<_> = credits.keys().copied().take(most).collect();
    agents.into_iter().filter_map(|agent| credits.remove_entry(&agent)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Entries, Entry, tags};
    use super::*;

    #[test]
    fn what_does_not_fit_into_a_frame_is_in_the_next_ones() {
        let mut owed = Owed::default();
        let agent = |number: u64| AgentId::of_text(&format!("agent-{number}"));
        for number in 1..=1_000 {
            let tag = Tag::new(number).expect("it is not zero");
            owed.settle(tag);
            owed.refuse(tag, &"é".repeat(300));
            owed.credit(agent(number), Credit { messages: 1, bytes: 10 });
            owed.credit(agent(number), Credit { messages: 2, bytes: 20 });
            owed.gone(agent(number));
            owed.gone(agent(number));
        }
        let (mut settled, mut refused, mut credits, mut gone) = (0, 0, 0, 0);
        while !owed.is_empty() {
            let mut frame = Vec::new();
            owed.write(&mut frame, 4_096);
            assert!(!frame.is_empty() && frame.len() <= 4_096);
            for entry in Entries::new(&frame) {
                match entry.expect("it reads back") {
                    Entry::Settled(bytes) => settled += tags(bytes).count(),
                    Entry::Refused { reason, .. } => {
                        refused += 1;
                        assert_eq!(reason.len(), REASON_BYTES_MAX);
                    }
                    Entry::Credit { credit, .. } => {
                        credits += 1;
                        assert_eq!(credit, Credit { messages: 3, bytes: 30 });
                    }
                    Entry::Gone(_) => gone += 1,
                    Entry::Name { .. } | Entry::Message(_) => unreachable!("there are none"),
                }
            }
        }
        assert_eq!((settled, refused, credits, gone), (1_000, 1_000, 1_000, 1_000));
    }
}
