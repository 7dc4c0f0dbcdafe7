//! How much is on its way to each target, so that a slow agent holds up only what is for it.
//!
//! Invariant: for each target, the credit that was taken and has not come back is known. A target whose credit has come
//! back completely is forgotten.

use caxton_shards::message::AgentId;
use hashbrown::HashMap;

use super::event::Credit;

/// Maximum number of messages on their way to a target.
pub const TARGET_MESSAGES_MAX: u32 = 1_024;
/// Once this many bytes are on their way to a target, nothing more is sent to it.
pub const TARGET_BYTES_MAX: u64 = 1 << 20;
/// Maximum number of targets that have something on its way.
pub const TARGETS_MAX: usize = 65_536;

#[derive(Default)]
struct Target {
    on_way: Credit,
    /// Whether the target became full and the link's owner has not been told yet that it has room again.
    is_full: bool,
}

impl Target {
    fn has_room(&self) -> bool {
        self.on_way.messages < TARGET_MESSAGES_MAX && self.on_way.bytes < TARGET_BYTES_MAX
    }

    fn is_half_free(&self) -> bool {
        self.on_way.messages <= TARGET_MESSAGES_MAX / 2 && self.on_way.bytes <= TARGET_BYTES_MAX / 2
    }
}

/// What is on its way to each target.
#[derive(Default)]
pub(super) struct Targets(HashMap<AgentId, Target>);

impl Targets {
    /// Returns how many have something on its way.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no place for a target that has nothing on its way.
    pub fn is_full(&self) -> bool {
        self.0.len() >= TARGETS_MAX
    }

    pub fn is_known(&self, target: AgentId) -> bool {
        self.0.contains_key(&target)
    }

    pub fn has_room(&self, target: AgentId) -> bool {
        self.0.get(&target).is_none_or(Target::has_room)
    }

    /// Counts a message of this size.
    pub fn take(&mut self, target: AgentId, bytes: u64) {
        let target = self.0.entry(target).or_default();
        target.on_way.messages += 1;
        target.on_way.bytes += bytes;
        target.is_full |= !target.has_room();
    }

    /// Takes back credit that the peer returned. Returns whether a target that was full has room again, which it has
    /// once half of it is free.
    pub fn give_back(&mut self, agent: AgentId, credit: Credit) -> bool {
        let Some(target) = self.0.get_mut(&agent) else { return false };
        let on_way = &mut target.on_way;
        on_way.messages = on_way.messages.saturating_sub(credit.messages);
        on_way.bytes = if on_way.messages == 0 { 0 } else { on_way.bytes.saturating_sub(credit.bytes) };
        let has_room_again = target.is_full && target.is_half_free();
        target.is_full &= !has_room_again;
        if target.on_way.messages == 0 {
            self.0.remove(&agent);
        }
        has_room_again
    }

    /// Forgets all. Returns the targets that were full.
    pub fn reset(&mut self) -> impl Iterator<Item = AgentId> {
        std::mem::take(&mut self.0).into_iter().filter(|(_, target)| target.is_full).map(|(agent, _)| agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_target_has_room_again_once_half_is_free() {
        let (mut targets, agent) = (Targets::default(), AgentId::of_text("buyer"));
        for _ in 0..TARGET_MESSAGES_MAX {
            assert!(targets.has_room(agent));
            targets.take(agent, 1);
        }
        assert!(!targets.has_room(agent) && targets.has_room(AgentId::of_text("other")));
        let half = TARGET_MESSAGES_MAX / 2;
        let credit = |messages: u32| Credit { messages, bytes: messages.into() };
        assert!(!targets.give_back(agent, credit(half - 1)));
        assert!(targets.has_room(agent));
        assert!(targets.give_back(agent, credit(1)), "half is free");
        assert!(!targets.give_back(agent, credit(1)), "it was said already");
        assert!(!targets.give_back(agent, credit(half - 1)));
        assert_eq!(targets.len(), 0);
    }

    #[test]
    fn one_message_may_be_larger_than_what_a_target_may_have() {
        let (mut targets, agent) = (Targets::default(), AgentId::of_text("buyer"));
        targets.take(agent, 5 * TARGET_BYTES_MAX);
        assert!(!targets.has_room(agent));
        assert!(targets.give_back(agent, Credit { messages: 1, bytes: 5 * TARGET_BYTES_MAX }));
        assert_eq!((targets.len(), targets.has_room(agent)), (0, true));
    }
}
