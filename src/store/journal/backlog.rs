//! What the projection has not read yet: stretches of segments, of which it reads the newest part of the history and
//! all the rest.

use std::collections::VecDeque;
use std::path::PathBuf;

use caxton_shards::journal::record::Lsn;

/// Maximum number of waiting stretches before neighbours are joined.
const STRETCHES_MAX: usize = 65_536;

/// Adjacent frames are read as one up to this length in bytes.
const JOINED_BYTES: usize = 256 << 10;

/// A stretch of a segment with records for the projection: one or several frames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Projection {
    /// The segment's file.
    pub path: PathBuf,
    /// The segment's number.
    pub segment: u64,
    /// The tag of the journal's frames.
    pub tag: u32,
    /// The offset of its first frame, in bytes.
    pub offset: u64,
    /// The length in bytes.
    pub bytes: usize,
    /// The LSN of its last record.
    pub last: Lsn,
    /// How many conversation steps in it are to be read: all, or none because newer ones suffice.
    pub steps: u64,
    /// Whether other records in it are to be read.
    pub state: bool,
}

impl Projection {
    /// Joins a later stretch of the same segment. What lies between the two is read as well, and contains nothing
    /// relevant.
    fn join(&mut self, next: &Self) {
        self.bytes = usize::try_from(next.offset - self.offset).unwrap_or(self.bytes) + next.bytes;
        self.last = next.last;
        self.steps += next.steps;
        self.state |= next.state;
    }
}

/// The waiting stretches, oldest first.
#[derive(Debug)]
pub(super) struct Backlog {
    waiting: VecDeque<Projection>,
    /// The number of stretches at the front whose steps are not wanted.
    stale: usize,
    /// The number of wanted steps.
    steps: u64,
    steps_max: u64,
    /// The number of steps skipped so far.
    pub left_out: u64,
}

impl Backlog {
    pub fn new(steps_max: u64) -> Self {
        Self { waiting: VecDeque::new(), stale: 0, steps: 0, steps_max, left_out: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns the segment of the oldest stretch.
    pub fn first_segment(&self) -> Option<u64> {
        self.waiting.front().map(|projection| projection.segment)
    }

    pub fn push(&mut self, projection: Projection) {
        self.steps += projection.steps;
        let crowded = self.waiting.len() >= STRETCHES_MAX;
        let joins = |last: &&mut Projection| {
            let adjacent = projection.offset == last.offset + last.bytes as u64;
            last.segment == projection.segment && (crowded || adjacent && last.bytes < JOINED_BYTES)
        };
        match self.waiting.back_mut().filter(joins) {
            Some(last) => last.join(&projection),
            None => self.waiting.push_back(projection),
        }
        self.leave_out();
    }

    /// Skips steps that the projection would only remove again, because there are enough newer ones.
    fn leave_out(&mut self) {
        while let Some(oldest) = self.waiting.get_mut(self.stale) {
            if self.steps - oldest.steps < self.steps_max {
                return;
            }
            self.steps -= oldest.steps;
            self.left_out += std::mem::take(&mut oldest.steps);
            if oldest.state {
                self.stale += 1;
            } else {
                self.waiting.remove(self.stale);
            }
        }
    }

    /// Takes the oldest stretches, of about this many bytes together; at least one.
    pub fn take(&mut self, bytes: usize) -> Vec<Projection> {
        let (mut taken, mut sum) = (Vec::new(), 0);
        while sum < bytes
            && let Some(projection) = self.waiting.pop_front()
        {
            sum += projection.bytes;
            self.steps -= projection.steps;
            self.stale = self.stale.saturating_sub(1);
            taken.push(projection);
        }
        taken
    }

    /// Removes everything.
    pub fn forget(&mut self) {
        self.left_out += self.steps;
        self.waiting.clear();
        (self.stale, self.steps) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(number: u64, steps: u64, state: bool) -> Projection {
        let last = Lsn(number);
        Projection {
            path: PathBuf::from("a"),
            segment: 1,
            tag: 0,
            offset: number * 8192,
            bytes: 4096,
            last,
            steps,
            state,
        }
    }

    fn numbers(stretches: &[Projection]) -> Vec<(u64, u64)> {
        stretches.iter().map(|stretch| (stretch.last.0, stretch.steps)).collect()
    }

    #[test]
    fn only_as_many_steps_wait_as_are_kept_and_nothing_else_is_left_out() {
        let mut backlog = Backlog::new(10);
        for number in 0..6 {
            backlog.push(stretch(number, 4, number == 1));
        }
        backlog.push(stretch(6, 0, true));
        // At least the ten newest steps remain; the state of the second stretch is kept without its steps.
        assert_eq!(numbers(&backlog.take(usize::MAX)), [(1, 0), (3, 4), (4, 4), (5, 4), (6, 0)]);
        assert_eq!(backlog.left_out, 12);
        assert!(backlog.is_empty());
    }

    #[test]
    fn stretches_are_taken_in_their_order_and_in_portions() {
        let mut backlog = Backlog::new(100);
        for number in 0..5 {
            backlog.push(stretch(number, 1, false));
        }
        assert_eq!(numbers(&backlog.take(8_192)), [(0, 1), (1, 1)]);
        assert_eq!(numbers(&backlog.take(1)), [(2, 1)]);
        backlog.forget();
        assert!(backlog.take(usize::MAX).is_empty());
        assert_eq!(backlog.left_out, 2);
    }

    #[test]
    fn frames_side_by_side_are_one_stretch() {
        let mut backlog = Backlog::new(100);
        backlog.push(stretch(1, 1, false));
        backlog.push(Projection { offset: 8192 + 4096, ..stretch(2, 3, true) });
        let taken = backlog.take(usize::MAX);
        assert_eq!(numbers(&taken), [(2, 4)]);
        assert_eq!((taken[0].offset, taken[0].bytes, taken[0].state), (8192, 8192, true));
    }
}
