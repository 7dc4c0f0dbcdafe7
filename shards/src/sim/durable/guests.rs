//! Agents that outlive the process, as whoever registers and deregisters them knows them.

/// What is known of one such agent in this run of the router.
#[derive(Clone, Debug, Default)]
pub(super) struct Guest {
    /// It is registered now.
    pub is_here: bool,
    /// What changed, in order.
    changes: Vec<Change>,
}

/// It was registered or deregistered, and that stands in a record behind `after` and not behind `by`.
#[derive(Clone, Copy, Debug)]
struct Change {
    after: u64,
    by: u64,
    outlives: bool,
}

impl Guest {
    /// It was registered or deregistered while the journal grew from so many records to so many.
    pub fn change(&mut self, after: u64, by: u64, is_here: bool) {
        self.is_here = is_here;
        self.changes.push(Change { after, by, outlives: is_here });
    }

    /// A start has found it, or has not.
    pub fn begin(&mut self, outlives: bool) {
        self.is_here = false;
        self.changes = vec![Change { after: 0, by: 0, outlives }];
    }

    /// Whether the next start finds it, if it finds so many records. Nothing, if that is not certain.
    pub fn is_found(&self, records: u64) -> Option<bool> {
        let found = self.changes.iter().rev().find(|change| change.by <= records);
        let outlives = found.is_some_and(|change| change.outlives);
        let is_cut = |change: &Change| change.after < records && records < change.by && change.outlives != outlives;
        (!self.changes.iter().any(is_cut)).then_some(outlives)
    }
}
