//! Crashes, orderly stops, starts, and the end of a run.

use std::collections::BTreeSet;

use crate::dead_letter::{DeadLetter, DeadLetterReason};
use crate::message::WallTime;
use crate::shard::control::restore::Recovery;

use super::Figures;
use super::cast::{Sort, WIDTH, agent, legs};
use super::label::Label;
use super::letters::doubled;
use super::plan::{Kind, SHARDS_MAX};
use super::play::{Heard, Play, place_of};

/// Maximum advance of the wall clock while the machine is down, in milliseconds.
const STANDSTILL_MS_MAX: u64 = 5_000;
/// Minimum number of rounds of four seconds at the end; more follow until everything is settled.
const SETTLING_ROUNDS_MIN: u32 = 5;
const SETTLING_ROUNDS_OF_FAILED: u32 = 40;
const SETTLING_ROUNDS_MAX: u32 = 500;

impl Play {
    /// Crashes the machine: of each journal there remains what was committed and, possibly, part of what was being
    /// written.
    pub fn crash(&mut self) -> Result<(), String> {
        self.figures.crashes += 1;
        let kept: Vec<u64> = (0..self.world.nodes.len())
            .map(|shard| {
                let (committed, written) = (self.world.committed(shard), self.world.nodes[shard].records.len() as u64);
                let more = if self.failed.contains(&shard) { 0 } else { self.dice.below(written - committed + 1) };
                committed + more
            })
            .collect();
        self.start(&kept)
    }

    /// Stops the router in order, and starts it again.
    pub fn stop_in_order(&mut self) -> Result<(), String> {
        self.figures.stops += 1;
        self.make_journals_ready();
        self.world.drain_all();
        self.commit_everything();
        self.world.run();
        self.world.stop_and_return_inboxes();
        self.world.run();
        self.world.stop_all();
        for _ in 0..4 {
            self.commit_everything();
            self.world.run();
        }
        self.look_around()?;
        let kept = self.committed_everywhere();
        self.start(&kept)
    }

    fn dead_letter<'a>(&self, letters: impl Iterator<Item = &'a DeadLetter>) {
        self.ledger.lock().gives_up(letters.map(|letter| &letter.message));
    }

    fn committed_everywhere(&self) -> Vec<u64> {
        (0..self.world.nodes.len()).map(|shard| self.world.committed(shard)).collect()
    }

    /// Starts the router with this many records of each journal.
    fn start(&mut self, kept: &[u64]) -> Result<(), String> {
        let recovery = self.world.journals(kept, self.plan.window);
        self.check_letters(&recovery)?;
        self.dead_letter(recovery.dead_letters());
        // A dead letter that is not on disk is lost with the machine, and its message arrives after all.
        for node in &self.world.nodes {
            self.dead_letter(node.shard.all_dead_letters().iter());
        }
        let expected: Vec<Option<bool>> = (0..WIDTH)
            .zip(&self.guests)
            .map(|(number, guest)| guest.is_found(kept[self.world.shard_of(agent(Sort::Guest, number))]))
            .collect();
        self.end_figures();
        self.figures.recovered += recovery.messages() as u64;
        self.boot += 1;
        let by_chance = u16::try_from(self.dice.between(1, SHARDS_MAX.into())).unwrap_or(1);
        let shards = if self.plan.alternates { by_chance } else { self.plan.shards };
        let wall = WallTime(self.world.now().wall.0 + self.dice.below(STANDSTILL_MS_MAX));
        self.ledger.lock().begin(self.boot);
        self.world = self.plan.setup(shards, self.boot).start_from(recovery, wall);
        self.failed.clear();
        // Before anything else, what was recovered is written to the new journals.
        for shard in 0..self.world.nodes.len() {
            self.world.step(shard);
            self.world.commit_next(shard, u64::MAX);
        }
        for (number, expected) in (0..WIDTH).zip(expected) {
            let found = self.outlives(number);
            if expected.is_some_and(|expected| expected != found) {
                let name = Self::guest_name(number);
                let what =
                    if found { "was deregistered and came back" } else { "outlives the process and is not there" };
                return Err(format!("{name} {what}"));
            }
            self.guests[place_of(number)].begin(found);
        }
        self.begin();
        if self.plan.chosen_ids {
            self.send_latest_again();
        }
        Ok(())
    }

    /// Whether neither a crash nor a journal failure has happened.
    fn is_undisturbed(&self) -> bool {
        self.figures.crashes == 0 && self.figures.failures == 0
    }

    /// Whether a step of a protocol may have been replayed as a dead letter and, because of a crash, been taken again
    /// as well.
    fn may_replay_twice(&self) -> bool {
        self.plan.replays && !self.is_undisturbed()
    }

    /// Adds up the shards' counters, which end with them.
    fn end_figures(&mut self) {
        for node in &self.world.nodes {
            self.figures.duplicates += node.shard.duplicates();
            self.figures.steps += node.shard.conformance().steps;
        }
    }

    fn check_letters(&self, recovery: &Recovery) -> Result<(), String> {
        // A crash between the commit of a dead letter and that of the message that caused it sends it once more.
        let is_one = |number: usize| self.sent.get(number).is_none_or(|sent| sent.times == 1) && self.is_undisturbed();
        if let Some(label) = doubled(recovery.dead_letters(), is_one) {
            return Err(format!("there are two dead letters of the same message: {label:?}"));
        }
        let unexpected = recovery.dead_letters().find(|letter| {
            let is_violation = letter.reason == DeadLetterReason::ProtocolViolation && self.may_replay_twice();
            !is_violation && !self.plan.expects(letter.reason)
        });
        match unexpected {
            Some(letter) => Err(format!("{:?} was given up as {}", Label::of(&letter.message), letter.reason)),
            None => Ok(()),
        }
    }

    fn check_conformance(&self) -> Result<(), String> {
        let violations: u64 = self.world.nodes.iter().map(|node| node.shard.conformance().violations()).sum();
        if violations > 0 && self.plan.remembers_all() && !self.may_replay_twice() {
            return Err(format!("{violations} messages were reported as violations, but none was"));
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        for number in 0..WIDTH {
            if !self.guests[place_of(number)].is_here {
                self.register_guest(number);
            }
        }
        self.make_journals_ready();
        for round in 0..SETTLING_ROUNDS_MAX {
            // Waiting for a failed journal lasts until the next start.
            let rounds = if self.failed.is_empty() { SETTLING_ROUNDS_MIN } else { SETTLING_ROUNDS_OF_FAILED };
            if round >= rounds && (self.has_settled() || !self.failed.is_empty()) {
                break;
            }
            self.world.advance(4_000);
            self.commit_everything();
            self.world.run();
            self.read_all_of_inbox();
            self.world.run();
            self.look_around()?;
        }
        self.check_conformance()
    }

    /// Whether nothing is in flight, and everything that can be is on disk.
    fn has_settled(&self) -> bool {
        let is_clean = |shard: usize| {
            let node = &self.world.nodes[shard];
            let is_written = self.world.committed(shard) == node.records.len() as u64;
            node.shard.commit_waiters() == 0 && (is_written || self.failed.contains(&shard))
        };
        self.world.is_settled() && (0..self.world.nodes.len()).all(is_clean)
    }

    pub fn finish(mut self) -> Result<Figures, String> {
        self.settle()?;
        // What a failed journal holds is handled after the next start.
        if !self.failed.is_empty() {
            self.figures.crashes += 1;
            let kept = self.committed_everywhere();
            self.start(&kept)?;
            self.settle()?;
        }
        self.world.assert_settled();
        self.end_figures();
        let kept = self.committed_everywhere();
        let journals = self.world.journals(&kept, self.plan.window);
        let left = journals.messages();
        if left > 0 {
            return Err(format!("{left} settled messages are still in the journals"));
        }
        self.check_letters(&journals)?;
        let letters: BTreeSet<u64> =
            journals.dead_letters().filter_map(|letter| Label::of(&letter.message)).map(|label| label.number).collect();
        self.check_ends(&letters)?;
        let ledger = self.ledger.lock();
        self.figures.letters = letters.len() as u64;
        self.figures.arrived = ledger.ends.len() as u64;
        self.figures.repeated = ledger.repeated;
        if self.figures.repeated > 0 && self.is_undisturbed() && self.plan.remembers_all() {
            return Err(format!("{} messages were handled twice without a crash", self.figures.repeated));
        }
        Ok(self.figures)
    }

    /// Checks that every acknowledged message completed or is a dead letter, and no refused one did.
    fn check_ends(&mut self, letters: &BTreeSet<u64>) -> Result<(), String> {
        let ledger = self.ledger.lock();
        for (sent, number) in self.sent.iter().zip(0_u64..) {
            let ended = legs(sent.kind, number).filter(|leg| ledger.ends.contains_key(&(number, *leg))).count();
            let whole = ended == legs(sent.kind, number).len();
            let kept = letters.contains(&number) || self.purged.contains(&number);
            match sent.answer {
                Heard::Acknowledged => self.figures.acknowledged += 1,
                Heard::Refused | Heard::Withdrawn => self.figures.refused += 1,
                Heard::DeadLettered | Heard::Expired | Heard::Nothing => {}
            }
            let redirected =
                self.redirected.contains(&number) && (ended > 0 || ledger.ends.keys().any(|end| end.0 == number));
            // A dead letter cannot be written where the journal has failed.
            let promised = match sent.answer {
                Heard::Acknowledged => true,
                Heard::DeadLettered => self.figures.failures == 0,
                Heard::Expired => self.is_undisturbed(),
                Heard::Refused | Heard::Withdrawn | Heard::Nothing => false,
            };
            if promised && !whole && !kept && !redirected {
                return Err(format!(
                    "message {number} was answered with {:?}, came to {ended} ends and is no dead letter: {sent:?}",
                    sent.answer
                ));
            }
            // A refused message has no record, unless the journal failed after it.
            let is_sure = self.figures.failures == 0 && sent.times == 1 && !self.replayed.contains(&number);
            // A message given up while the journal was full may reappear after a crash, and other deliveries of several
            // may have been kept.
            let is_withdrawn = sent.answer == Heard::Withdrawn && sent.kind != Kind::Several;
            let is_refused = sent.answer == Heard::Refused || is_withdrawn && self.figures.crashes == 0;
            if is_refused && ended > 0 && is_sure {
                return Err(format!("message {number} was refused and came to its end: {sent:?}"));
            }
        }
        Ok(())
    }
}
