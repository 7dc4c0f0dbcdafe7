//! Figures: what the router has done so far, and what it did in the end.

use caxton_shards::account::Account;
use caxton_shards::conformance::Conformance;
use caxton_shards::interface::Snapshot;

/// A router's figures at one moment, shard by shard.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Each shard's own figures. They were true at the end of one of its turns, not all at the same moment.
    pub shards: Vec<Snapshot>,
    /// Times that a shard stood still and had to be woken.
    pub watchdog_wakes: u64,
}

impl Stats {
    /// All shards' totals together.
    pub fn account(&self) -> Account {
        self.shards.iter().fold(Account::default(), |sum, shard| sum.plus(&shard.account))
    }

    /// Registered agents.
    pub fn agents(&self) -> usize {
        self.shards.iter().map(|shard| shard.agents).sum()
    }

    /// Agents whose circuit breaker is open or half-open.
    pub fn breakers_open(&self) -> usize {
        self.shards.iter().map(|shard| shard.breakers_open).sum()
    }

    /// How often circuit breakers opened.
    pub fn breakers_opened(&self) -> u64 {
        self.shards.iter().map(|shard| shard.breakers_opened).sum()
    }

    /// How conversations followed their protocols.
    pub fn conformance(&self) -> Conformance {
        self.shards.iter().fold(Conformance::default(), |sum, shard| sum.plus(&shard.conformance))
    }

    /// Open conversations.
    pub fn conversations(&self) -> usize {
        self.shards.iter().map(|shard| shard.conversations).sum()
    }
}

/// What a router did, from its start to its end.
#[derive(Clone, Debug)]
pub struct Report {
    /// The final figures.
    pub stats: Stats,
    /// Whether everything was handled before the deadline. If not, what was left became dead letters with the reason
    /// `stopped`.
    pub drained: bool,
}

impl Report {
    /// Whether the router answered for every message: in each shard everything that came in went out, nothing is
    /// pending, and everything that left a shard arrived at another.
    pub fn balances(&self) -> bool {
        let account = self.stats.account();
        self.stats.shards.iter().all(|shard| shard.account.balances())
            && account.departed == account.arrived
            && account.pending == 0
    }
}
