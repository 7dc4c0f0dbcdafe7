//! Read-only views of a shard for the simulators.

use crate::dead_letter::{DeadLetter, DeadLetterSearch};
use crate::message::AgentId;
use crate::shard::Shard;

impl Shard {
    /// Returns, by shard, the number of its credits that belong to messages here, or are about to be returned.
    pub(crate) fn credits_held(&self) -> Vec<usize> {
        let mut held = self.links.credits_held();
        for (_, envelope) in self.held.iter() {
            if let Some(from) = envelope.credit_of {
                held[from.as_usize()] += 1;
            }
        }
        held
    }

    /// Returns the number of another shard's credits that are spent, and how many of them on messages in the ring to
    /// it.
    pub(crate) fn credits_spent_on(&mut self, shard: usize) -> (usize, usize) {
        self.links.credits_spent_on(shard)
    }

    /// Returns all dead letters, newest first.
    pub(crate) fn all_dead_letters(&self) -> Vec<DeadLetter> {
        self.dead_letters.list(&DeadLetterSearch::default(), usize::MAX).0
    }

    /// Returns the number of duplicates of durable messages.
    pub(crate) fn duplicates(&self) -> u64 {
        self.journal.duplicates()
    }

    /// Returns the number of senders and handled messages that wait for commits.
    pub(crate) fn commit_waiters(&self) -> usize {
        self.journal.waiters()
    }

    /// Whether an agent exists and is persistent.
    pub(crate) fn outlives(&self, agent: AgentId) -> bool {
        let slot = self.agents.find(agent).and_then(|index| self.agents.get(index));
        slot.and_then(|slot| slot.cold.as_ref()).is_some_and(|cold| cold.outlives)
    }

    /// Returns the totals, to corrupt them in a test.
    #[cfg(test)]
    pub(crate) fn account_mut(&mut self) -> &mut crate::stats::account::Account {
        self.ledger.account_mut()
    }
}
