//! Turns of the suspended guests of a shard: one of them per turn of the shard, the longest waiting first.
//!
//! Without this, ten endless guests would hold up the others for ten slices in every turn.

use std::cell::RefCell;
use std::collections::VecDeque;

use caxton_shards::api::Now;

thread_local! {
    static TURNS: RefCell<Turns> = const { RefCell::new(Turns { waiting: VecDeque::new(), next: 0, turn_ns: 0, taken: false }) };
}

struct Turns {
    /// The suspended guests of this thread, the longest waiting first.
    waiting: VecDeque<u64>,
    next: u64,
    /// The time of the shard's turn in which one of them last asked.
    turn_ns: u64,
    /// Whether one of them continued in it.
    taken: bool,
}

/// A suspended guest's place in the queue. Dropping it gives it up.
pub(super) struct Place(u64);

impl Place {
    /// Takes the last place.
    pub fn new() -> Self {
        TURNS.with_borrow_mut(|turns| {
            turns.next += 1;
            turns.waiting.push_back(turns.next);
            Self(turns.next)
        })
    }

    /// Whether it is this guest's turn, which moves it to the last place. A guest whose agent is not called lets its
    /// turn pass and moves there too, so that nobody waits for it.
    pub fn comes_up(&self, now: Now) -> bool {
        TURNS.with_borrow_mut(|turns| {
            if turns.turn_ns != now.monotonic_ns {
                if !turns.taken && !turns.waiting.is_empty() {
                    turns.waiting.rotate_left(1);
                }
                (turns.turn_ns, turns.taken) = (now.monotonic_ns, false);
            }
            if turns.taken || turns.waiting.front() != Some(&self.0) {
                return false;
            }
            turns.taken = true;
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
        let mut before = who(1);
        for turn in 2..10 {
            let now = who(turn);
            assert_eq!(now.iter().filter(|comes_up| **comes_up).count(), 1, "one in turn {turn}");
            assert_eq!(who(turn), [false, false, false], "turn {turn} is taken");
            before.rotate_right(1);
            assert_eq!(now, before, "one after the other");
        }
        let [first, second, third] = places;
        drop(second);
        let rest = [&first, &third];
        let alone: Vec<bool> = rest.iter().map(|place| place.comes_up(at(10))).collect();
        assert_eq!(alone.iter().filter(|comes_up| **comes_up).count(), 1, "who is gone is not waited for");
        // The other one is not called any more, and keeps nobody waiting.
        let went_on = (11..21).filter(|turn| first.comes_up(at(*turn))).count();
        assert!(went_on >= 4, "only {went_on} of 10 turns");
    }
}
