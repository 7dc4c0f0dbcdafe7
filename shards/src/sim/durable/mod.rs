//! The crash simulation: durable messages of every kind are in flight while commits are late or fail, the journal is
//! full or compacted, and the machine crashes at any moment and starts again with another number of shards.
//!
//! Each seed has a `plan`: messages pass through chains of agents, go to several receivers at once, start conversations
//! whose protocols are enforced, and are addressed to persistent agents that are registered and deregistered, to one
//! outside the shards, or to none. Dead letters are replayed, to their receivers and to others, and purged. Senders
//! choose ids, also equal ones, and send twice.
//!
//! Besides the accounts of each turn, the following is checked: a message that was acknowledged completes or is kept as
//! a dead letter, whatever happened; one that was refused never completes; what was handled arrives again only if a
//! crash lay between the handling and the commit of its settlement; messages between two agents keep their order, also
//! across starts; no agent that follows a protocol is reported for a violation; a deregistered agent stays away, and
//! any other one exists; and at the end the journals contain nothing but dead letters, each of them once.

mod cast;
mod crash;
mod guests;
mod label;
mod ledger;
mod letters;
mod plan;
mod play;

use std::ops::AddAssign;

use crate::supervision::catch_panic;

/// The results of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Messages whose caller was told that they are durable.
    pub acknowledged: u64,
    /// Messages whose caller was told why they are not.
    pub refused: u64,
    /// Messages that completed.
    pub arrived: u64,
    /// Messages handled more than once, because of a crash.
    pub repeated: u64,
    /// Messages kept as dead letters.
    pub letters: u64,
    /// Dead letters replayed.
    pub replayed: u64,
    /// Dead letters purged.
    pub purged: u64,
    /// Messages that were valid steps of their protocol.
    pub steps: u64,
    /// Duplicates that were not dispatched again.
    pub duplicates: u64,
    /// Persistent agents deregistered.
    pub deregistered: u64,
    /// Crashes of the machine.
    pub crashes: u32,
    /// Orderly stops and restarts of the router.
    pub stops: u32,
    /// Journal failures.
    pub failures: u32,
    /// Unsettled messages found by starts.
    pub recovered: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.arrived += other.arrived;
        self.repeated += other.repeated;
        self.letters += other.letters;
        self.replayed += other.replayed;
        self.purged += other.purged;
        self.steps += other.steps;
        self.duplicates += other.duplicates;
        self.deregistered += other.deregistered;
        self.crashes += other.crashes;
        self.stops += other.stops;
        self.failures += other.failures;
        self.recovered += other.recovered;
    }
}

/// Runs one seed.
///
/// # Errors
///
/// Returns what did not hold, including invariants of the engine. The panic hook of the process is called for that, as
/// for every panic.
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
            total += figures;
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
