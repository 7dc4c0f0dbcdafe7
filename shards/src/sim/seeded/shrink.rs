//! Shrinking: the search for the smallest run that still fails.

use super::{Failed, Fault, Options, run};

/// Maximum number of runs of one search.
pub const SHRINK_RUNS_MAX: u32 = 200;

/// The smallest failing run found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The options to run it with.
    pub options: Options,
    /// How it fails.
    pub failed: Failed,
    /// The number of runs of the search.
    pub runs: u32,
}

/// Searches for the fewest shards, the fewest kinds of faults and the fewest actions with which the seed of a failed
/// run still fails, with any failure; `options` are those of the failed run. Makes up to [`SHRINK_RUNS_MAX`] runs. The
/// panic hook of the process is called in most of them.
pub fn shrink(failed: &Failed, options: &Options) -> Shrunk {
    let mut smallest = Shrunk { options: options.clone(), failed: failed.clone(), runs: 0 };
    // What the seed chose is recorded, so that it stays the same.
    smallest.options.shards = Some(failed.shards);
    smallest.options.actions = Some(failed.action);
    if let Err(still) = run(failed.seed, &smallest.options) {
        smallest.failed = still;
    } else {
        smallest.options.actions = options.actions;
    }
    smallest.runs += 1;
    smallest.fewer_actions();
    smallest.fewer_shards(options);
    smallest.fewer_faults();
    smallest.fewer_actions();
    smallest
}

impl Shrunk {
    /// Whether the run also fails with these options; then they become the new smallest.
    fn fails_with(&mut self, change: impl FnOnce(&mut Options)) -> bool {
        if self.runs >= SHRINK_RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let mut options = self.options.clone();
        change(&mut options);
        match run(self.failed.seed, &options) {
            Ok(_) => false,
            Err(failed) => {
                (self.options, self.failed) = (options, failed);
                true
            }
        }
    }

    /// Tries each smaller number of shards, also with the number of actions that `original` allows: fewer shards may
    /// need more of them.
    fn fewer_shards(&mut self, original: &Options) {
        for shards in 1..self.failed.shards {
            let fails = self.fails_with(|options| options.shards = Some(shards))
                || self.fails_with(|options| {
                    options.shards = Some(shards);
                    options.actions = original.actions;
                });
            if fails {
                return;
            }
        }
    }

    fn fewer_faults(&mut self) {
        // Without one kind, another may have become dispensable.
        loop {
            let before = self.options.without.len();
            for fault in Fault::ALL {
                if !self.options.without.contains(&fault) {
                    self.fails_with(|options| {
                        options.without.insert(fault);
                    });
                }
            }
            if self.options.without.len() == before {
                return;
            }
        }
    }

    /// Removes as many of the last actions as possible: first half of them, then ever fewer.
    fn fewer_actions(&mut self) {
        let mut fewer = self.failed.action.div_ceil(2);
        while fewer > 0 {
            let actions = self.options.actions.unwrap_or(self.failed.action).min(self.failed.action);
            if actions < fewer || !self.fails_with(|options| options.actions = Some(actions - fewer)) {
                fewer /= 2;
            }
        }
    }
}
