//! Persistent agents, as known to the program that registers and deregisters them.

/// What is known of a persistent agent in this run of the router.
#[derive(Clone, Debug, Default)]
pub(super) struct Guest {
    /// Whether it is registered now.
    pub is_here: bool,
    /// The changes, in order.
    changes: Vec<Change>,
}

/// A registration or deregistration, whose record is after `after` and not after `by`.
#[derive(Clone, Copy, Debug)]
struct Change {
    after: u64,
    by: u64,
    outlives: bool,
}

impl Guest {
    /// Records a registration or deregistration that happened while the journal grew from `after` to `by` records.
    pub fn change(&mut self, after: u64, by: u64, is_here: bool) {
        self.is_here = is_here;
        self.changes.push(Change { after, by, outlives: is_here });
    }

    /// Records whether a start has found the agent.
    pub fn begin(&mut self, outlives: bool) {
        self.is_here = false;
        self.changes = vec![Change { after: 0, by: 0, outlives }];
    }

    /// Whether the next start finds the agent if it reads this many records. `None` if that is uncertain.
    pub fn is_found(&self, records: u64) -> Option<bool> {
        let found = self.changes.iter().rev().find(|change| change.by <= records);
        let outlives = found.is_some_and(|change| change.outlives);
        let is_cut = |change: &Change| change.after < records && records < change.by && change.outlives != outlives;
        (!self.changes.iter().any(is_cut)).then_some(outlives)
    }
}
