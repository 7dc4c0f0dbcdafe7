//! Agents of other nodes: the search for agents that messages were sent to, and the notices of other nodes' routers.
//!
//! While an agent is looked for, an absent agent stands in its place. Messages wait in its mailbox, which has the same
//! limits as any other. When the agent is registered, it takes over this mailbox.
//!
//! Invariants:
//! - An agent is looked for once at a time.
//! - Nothing is looked for once the router drains.
//! - Messages of an earlier run are not given up because no node has their receiver: its node may not have started yet.

use crate::mailbox::{Envelope, EnvelopeKind, Reservation};
use crate::message::notice::{is_notice, router_id};
use crate::message::{AgentId, Message};
use crate::outcome::DeadLetterReason;
use crate::shard::agent::registry::{AgentFlags, AgentIndex};
use crate::shard::wanted::{WANTED_MAX, Waiting};
use crate::shard::{Shard, ShardPhase};

impl Shard {
    /// Keeps a message for an agent that is not registered, and starts to look for the agent. If it cannot be looked
    /// for, the message is dead-lettered.
    #[cold]
    pub(in crate::shard) fn want(&mut self, envelope: Envelope, target: AgentId) {
        if self.phase != ShardPhase::Running || target == router_id() {
            return self.dead_letter_all(envelope, self.reason_of_unknown(target));
        }
        let full = self.operations.wanted.room() == 0;
        let Some(index) = (!full).then(|| self.add_absent(target, "")).flatten() else {
            let reservation = Reservation::of(&envelope);
            let detail = format!("its shard looks for {WANTED_MAX} agents on other nodes already: try again later");
            return self.dead_letter_with(envelope, self.reason_of_unknown(target), &detail, reservation);
        };
        self.operations.wanted.add(target, Waiting::New);
        self.outputs.want(target);
        self.deliver_by_id(envelope, target);
        debug_assert!(self.agents.get(index).is_some_and(|slot| slot.id == target), "delivering removes nobody");
    }

    /// Starts to look for agents that messages of an earlier run wait for.
    #[cold]
    pub(in crate::shard) fn want_absent(&mut self) {
        if self.phase != ShardPhase::Running || !self.config.looks_for_absent {
            return;
        }
        let waits = self.agents.iter().filter(|(_, slot)| {
            let persistent = slot.cold.as_ref().is_some_and(|cold| cold.outlives);
            slot.flags.is(AgentFlags::ABSENT)
                && !persistent
                && slot.mailbox.held() > 0
                && !self.operations.wanted.has(slot.id)
        });
        let waiting = waits.map(|(index, slot)| (index, slot.id)).collect();
        for agent in self.operations.wanted.next_restored(waiting) {
            self.operations.wanted.add(agent, Waiting::Restored);
            self.outputs.want(agent);
        }
    }

    /// Ends the search for an agent that no node has.
    #[cold]
    pub(in crate::shard) fn give_up_wanted(&mut self, agent: AgentId, why: &str) {
        match self.operations.wanted.remove(agent) {
            None | Some(Waiting::Restored) => {}
            Some(Waiting::New) => {
                if let Some(index) = self.agents.find(agent) {
                    self.remove_wanted(index, agent, why);
                }
            }
        }
    }

    /// Ends all searches, because nothing is registered any more.
    #[cold]
    pub(in crate::shard) fn give_up_all_wanted(&mut self) {
        for agent in self.operations.wanted.all() {
            self.give_up_wanted(agent, "the router is stopping, and had not found out whether another node has it");
        }
    }

    fn remove_wanted(&mut self, index: AgentIndex, agent: AgentId, why: &str) {
        let Some(slot) = self.agents.get_mut(index) else { return };
        debug_assert!(slot.flags.is(AgentFlags::ABSENT), "whoever is registered is not looked for");
        slot.flags.add(AgentFlags::LEAVING);
        self.agents.forget(index);
        self.end_room_waiters_of(agent);
        self.empty_with(index, self.reason_of_unknown(agent), why);
        self.remove_slot(index);
    }

    /// Whether the agent lives on another node, or may do so because it is still looked for. The other node sends the
    /// receipts then.
    pub(in crate::shard) fn is_elsewhere(&self, index: AgentIndex) -> bool {
        self.agents.get(index).is_some_and(|slot| slot.is_proxy() || self.operations.wanted.has(slot.id))
    }

    /// Returns why a new message for this agent, which does not exist here, is dead-lettered.
    pub(in crate::shard) fn reason_of_unknown(&self, target: AgentId) -> DeadLetterReason {
        let former = self.agents.find_former(target);
        former.map_or(DeadLetterReason::UnknownReceiver, |former| former.why.for_what_comes_late())
    }

    /// Returns why a message is dead-lettered whose receiver was removed while the message was delayed or being
    /// journalled.
    #[cold]
    pub(in crate::shard) fn reason_of_absence(&self, target: Option<AgentId>) -> DeadLetterReason {
        match target.and_then(|target| self.agents.find_former(target)) {
            Some(former) => former.why.for_what_waited(),
            // No node had the agent, or it was the proxy of an agent of another node.
            None if self.config.looks_for_absent => DeadLetterReason::UnknownReceiver,
            None => DeadLetterReason::Deregistered,
        }
    }

    /// Delivers a notice of another node's router.
    #[cold]
    pub(in crate::shard) fn pass_notice(&mut self, notice: Message) {
        let Some(to) = notice.target().filter(|_| is_notice(&notice)) else { return };
        let mut notice = notice.at_home();
        self.assign_id(&mut notice);
        self.ledger.send_notice();
        let envelope = Envelope::new(notice, u64::MAX, EnvelopeKind::Notice);
        let shard = self.config.partition.shard_of(to);
        if self.is_here(shard) {
            self.deliver_notice(envelope, to);
        } else {
            self.links.post_notice(shard, envelope, Reservation::Nothing);
        }
    }
}
