//! Whose turn it is among the guests of a shard that were suspended: one of them a turn of the shard, the longest waiting first.
//!
//! Without this, ten endless guests would hold up their neighbours for ten slices in every turn.

use std::cell::RefCell;
use std::collections::VecDeque;

use caxton_shards::interface::Now;

thread_local! {
    static TURNS: RefCell<Turns> = const { RefCell::new(Turns { waiting: VecDeque::new(), next: 0, taken_ns: 0 }) };
}

struct Turns {
    /// The suspended guests of this thread, the one that waits longest first.
    waiting: VecDeque<u64>,
    next: u64,
    /// The shard's turn in which one of them went on last, by its time.
    taken_ns: u64,
}

/// A suspended guest's place. It is given up when it is dropped.
pub(super) struct Place(u64);

impl Place {
    /// A place behind all others.
    pub fn new() -> Self {
        TURNS.with_borrow_mut(|turns| {
            turns.next += 1;
            turns.waiting.push_back(turns.next);
            Self(turns.next)
        })
    }

    /// Whether it is this guest's turn. It stands behind all others then.
    pub fn comes_up(&self, now: Now) -> bool {
        TURNS.with_borrow_mut(|turns| {
            if turns.taken_ns == now.monotonic_ns || turns.waiting.front() != Some(&self.0) {
                return false;
            }
            turns.taken_ns = now.monotonic_ns;
            turns.waiting.rotate_left(1);
            true
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TURNS.with_borrow_mut(|turns| turns.waiting.retain(|place| *place != self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caxton_shards::message::WallTime;

    #[test]
    fn one_guest_goes_on_in_each_turn_and_everyone_comes_up() {
        let places = [Place::new(), Place::new(), Place::new()];
        let at = |monotonic_ns| Now { monotonic_ns, wall: WallTime(0) };
        let who = |turn| places.iter().map(|place| place.comes_up(at(turn))).collect::<Vec<_>>();
        assert_eq!(who(1), [true, false, false]);
        assert_eq!(who(1), [false, false, false], "the turn is taken");
        assert_eq!(who(2), [false, true, false]);
        assert_eq!(who(3), [false, false, true]);
        assert_eq!(who(4), [true, false, false]);
        let [first, second, third] = places;
        drop(second);
        assert!(!first.comes_up(at(5)));
        assert!(third.comes_up(at(5)), "who is gone is not waited for");
    }
}
