//! Crashes in the simulator: durable messages of every kind are under way while commits come late or fail, the journal is
//! full or rewritten, and the machine stops at any moment and starts again with another number of shards.
//!
//! Each seed has a `plan`: messages go through chains of agents, to several receivers at once, set off conversations
//! that are held to their protocols, are for agents that outlive the process and come and go, for one outside the shards, or for
//! nobody. Dead letters are replayed, to whom they were for and to others, and purged. Senders choose ids, the same ones as
//! others, and send twice.
//!
//! What is checked, beside the books of each turn: a message that was acknowledged comes to its end or is kept as a dead
//! letter, whatever happened; what was refused never does; what was handled comes again only if a crash lay between that
//! and the commit of its settling; messages between two agents keep their order, also across starts; nobody who keeps
//! to a protocol is said to break it; an agent that was deregistered stays away, and one that was not is there;
//! and in the end nothing is left in the journals but dead letters, each of them once.

mod cast;
mod crash;
mod guests;
mod label;
mod ledger;
mod letters;
mod plan;
mod play;

use crate::supervision::catch_panic;

/// What came of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Messages whose caller was told that they are durable.
    pub acknowledged: u64,
    /// Messages whose caller was told why they are not.
    pub refused: u64,
    /// Messages that came to the end of what they set off.
    pub arrived: u64,
    /// Messages that were handled more than once, because of a crash.
    pub repeated: u64,
    /// Messages that are kept as dead letters.
    pub letters: u64,
    /// Dead letters that were replayed.
    pub replayed: u64,
    /// Dead letters that were purged.
    pub purged: u64,
    /// Messages that passed a conversation as its protocol has it.
    pub steps: u64,
    /// Messages that came again and were not dispatched again.
    pub duplicates: u64,
    /// Agents that outlive the process and were deregistered.
    pub deregistered: u64,
    /// Times that the machine stopped.
    pub crashes: u32,
    /// Times that the router was stopped in order and started again.
    pub stops: u32,
    /// Journals that failed.
    pub failures: u32,
    /// Unsettled messages that starts found.
    pub recovered: u64,
}

impl Figures {
    /// What two runs had together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            refused: self.refused + other.refused,
            arrived: self.arrived + other.arrived,
            repeated: self.repeated + other.repeated,
            letters: self.letters + other.letters,
            replayed: self.replayed + other.replayed,
            purged: self.purged + other.purged,
            steps: self.steps + other.steps,
            duplicates: self.duplicates + other.duplicates,
            deregistered: self.deregistered + other.deregistered,
            crashes: self.crashes + other.crashes,
            stops: self.stops + other.stops,
            failures: self.failures + other.failures,
            recovered: self.recovered + other.recovered,
        }
    }
}

/// Runs one seed.
///
/// # Errors
/// What did not hold, an invariant of the engine included. The panic hook of the process is called for that, as for every
/// panic.
pub fn run(seed: u64) -> Result<Figures, String> {
    catch_panic(|| play::Play::new(seed).play()).and_then(|result| result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_comes_to_its_end_whatever_happens() {
        let mut total = Figures::default();
        for seed in 0..500 {
            let figures = run(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            total = total.plus(figures);
        }
        let Figures { acknowledged, refused, repeated, recovered, replayed, purged, .. } = total;
        let counts = [acknowledged, refused, repeated, recovered, replayed, purged];
        assert!(counts.iter().all(|count| *count > 0), "something never happened: {total:?}");
        let counts = [total.letters, total.steps, total.duplicates, total.deregistered];
        assert!(counts.iter().all(|count| *count > 0), "something never happened: {total:?}");
        assert!(total.crashes > 0 && total.stops > 0 && total.failures > 0, "nothing ever failed: {total:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_figures() {
        for seed in 0..20 {
            assert_eq!(run(seed), run(seed), "seed {seed}");
        }
    }
}
