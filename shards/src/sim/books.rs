//! Consistency checks of a simulated router after every step: each shard's account, the sum of all accounts with the
//! rings between the shards, and the credits of every pair of shards.

use crate::outcome::DeadLetterReason;
use crate::shard::io::Output;
use crate::stats::account::Account;

use super::world::World;

impl World {
    /// Passes every output of a shard to `observer`, before it is processed.
    pub fn observe(&mut self, observer: impl FnMut(usize, &Output) + 'static) {
        self.observers.push(Box::new(observer));
    }

    /// Adds an invariant of the test's own, which is checked after every step.
    pub fn check_always(&mut self, check: impl FnMut(&mut World) -> Result<(), String> + 'static) {
        self.checks.push(Box::new(check));
    }

    /// Returns the totals of all shards.
    pub fn total(&self) -> Account {
        self.nodes.iter().map(|node| node.shard.account()).sum()
    }

    /// Returns the number of messages dead-lettered for this reason.
    pub fn dead(&self, reason: DeadLetterReason) -> u64 {
        self.total().dead_by_reason[reason.index()]
    }

    /// Checks the accounts after a turn of this shard.
    pub(super) fn check(&mut self, shard: usize) {
        if self.unchecked {
            return;
        }
        self.check_credits(shard);
        for node in &self.nodes {
            let account = node.shard.account();
            assert!(account.balances(), "a shard's books do not balance: {account:?}");
            let (unfinished, stopped) =
                (node.shard.unfinished(), account.dead_by_reason[DeadLetterReason::Stopped.index()] + account.kept);
            assert_eq!(unfinished.total(), stopped, "what was given up at the stop: {unfinished:?}");
        }
        let total = self.total();
        let in_rings: usize = self.nodes.iter_mut().map(|node| node.shard.messages_in_flight()).sum();
        assert_eq!(total.departed, total.arrived + in_rings as u64, "between shards: {total:?}");
        let settled = total.processed + total.dead_lettered + total.expired + total.kept;
        assert_eq!(
            total.accepted + total.recovered,
            settled + total.pending + in_rings as u64,
            "something was lost: {total:?}"
        );
        let mut checks = std::mem::take(&mut self.checks);
        for check in &mut checks {
            if let Err(complaint) = check(self) {
                panic!("{complaint}");
            }
        }
        checks.append(&mut self.checks);
        self.checks = checks;
    }

    /// Every credit that another shard has spent on this one belongs to a message in the ring between them or to one
    /// that this shard has without a place for it yet; the rest was returned. Only its own turn can change that.
    fn check_credits(&mut self, shard: usize) {
        if self.nodes.len() == 1 {
            return;
        }
        let held = self.nodes[shard].shard.credits_held();
        for (from, held) in held.into_iter().enumerate().filter(|(from, _)| *from != shard) {
            let (spent, in_ring) = self.nodes[from].shard.credits_spent_on(shard);
            assert_eq!(
                spent,
                in_ring + held,
                "credits of shard {from} for shard {shard} do not balance: {spent} are spent, {in_ring} of them on \
                 messages in the ring, and shard {shard} holds {held}"
            );
        }
    }

    /// Whether every message was settled.
    pub fn is_settled(&self) -> bool {
        let total = self.total();
        total.pending == 0 && total.departed == total.arrived && self.nodes.iter().all(|node| node.inputs.is_empty())
    }

    /// Asserts that every message was settled and no shard has anything left to do.
    #[track_caller]
    pub fn assert_settled(&mut self) {
        let total = self.total();
        assert_eq!(total.pending, 0, "messages are pending: {total:?}");
        assert_eq!(total.departed, total.arrived, "messages are in the rings: {total:?}");
        for node in &mut self.nodes {
            node.shard.assert_at_rest();
        }
    }
}
