//! The timers of the protocol, in virtual time.
//!
//! Time in which the node was stopped does not count. Otherwise a node whose virtual machine was stopped would find all
//! timers due at once, and declare others dead before it has read their replies.

use std::collections::BTreeMap;
use std::time::Duration;

use foca::Timer;

use super::member::Member;

/// Maximum number of timers. Beyond it, no timer is added for a dead member, which is then never forgotten. No other
/// timers are that many.
const TIMERS_MAX: usize = 65_536;
/// How late a timer may be. If it is later, the node was stopped.
const LATENESS_MAX: Duration = Duration::from_millis(400);
/// How much longer all timers wait after a stop, so that the packets that have arrived are read first.
const GRACE: Duration = Duration::from_millis(200);

/// Timers by the time at which they are due.
#[derive(Default)]
pub struct Timers {
    due: BTreeMap<(Duration, u64), Timer<Member>>,
    last: u64,
}

impl Timers {
    /// Adds a timer.
    pub fn add(&mut self, due: Duration, timer: Timer<Member>) {
        if self.due.len() >= TIMERS_MAX && matches!(timer, Timer::RemoveDown(_)) {
            return;
        }
        self.last += 1;
        self.due.insert((due, self.last), timer);
    }

    /// Returns when the next timer is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.due.keys().next().map(|(due, _)| *due)
    }

    /// Removes and returns a timer that is due.
    pub fn pop(&mut self, now: Duration) -> Option<Timer<Member>> {
        let first = self.due.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// Puts all timers off if the node was stopped; returns whether it was.
    pub fn forgive(&mut self, now: Duration) -> bool {
        let late = self.next_due().map(|due| now.saturating_sub(due)).unwrap_or_default();
        if late <= LATENESS_MAX {
            return false;
        }
        let due = std::mem::take(&mut self.due);
        self.due = due.into_iter().map(|((due, number), timer)| ((due + late + GRACE, number), timer)).collect();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_node_was_stopped_does_not_count() {
        let ms = Duration::from_millis;
        let mut timers = Timers::default();
        timers.add(ms(700), Timer::PeriodicGossip(2));
        timers.add(ms(100), Timer::PeriodicGossip(1));
        assert_eq!((timers.next_due(), timers.pop(ms(99))), (Some(ms(100)), None));
        assert!(!timers.forgive(ms(500)), "400 ms late is busy, not stopped");
        assert!(timers.forgive(ms(5_000)));
        assert_eq!(timers.pop(ms(5_199)), None, "what has arrived is read first");
        assert_eq!(timers.pop(ms(5_200)), Some(Timer::PeriodicGossip(1)));
        assert_eq!((timers.pop(ms(5_799)), timers.next_due()), (None, Some(ms(5_800))));
    }
}
