//! Replays, also to other receivers, and purges of dead letters.

use std::collections::BTreeMap;

use crate::dead_letter::{DeadLetter, DeadLetterFilter, DeadLetterSearch};
use crate::message::AgentId;
use crate::shard::io::Input;

use super::cast::{Sort, WIDTH, agent};
use super::label::Label;
use super::plan::Kind;
use super::play::Play;

impl Play {
    /// Replays or purges dead letters of a shard: all of them, or one.
    pub fn look_after_letters(&mut self, shard: usize) {
        let letters = self.world.nodes[shard].shard.all_dead_letters();
        if letters.is_empty() {
            return;
        }
        let one = self.dice.index(letters.len());
        let (only, purges) = (!self.dice.once_in(3), self.dice.once_in(8));
        let meant = if only { &letters[one..=one] } else { &letters[..] };
        let mut search = Box::<DeadLetterSearch>::default();
        if only {
            search.filter = DeadLetterFilter::only(letters[one].id);
        }
        let numbers: Vec<u64> =
            meant.iter().filter_map(|letter| Label::of(&letter.message)).map(|label| label.number).collect();
        self.ledger.lock().gives_up(meant.iter().map(|letter| &letter.message));
        let token = self.world.token();
        if purges {
            // Messages dead-lettered before the shard's turn are purged too, unless the purge is for one letter.
            let numbers = if only { numbers } else { (0..self.sent.len() as u64).collect() };
            self.figures.purged += meant.len() as u64;
            self.purged.extend(numbers);
            self.world.give(shard, Input::PurgeDeadLetters(search, token));
            self.world.step(shard);
            return;
        }
        let to = self.another_receiver(&letters[one]).filter(|_| only);
        if to.is_some() {
            self.redirected.extend(&numbers);
            // The letters of one message to several receivers may meet there.
            let was_for_several = Label::of(&letters[one].message).is_some_and(|label| label.kind == Kind::Several);
            self.ledger.lock().unsteady.extend(numbers.iter().filter(|_| was_for_several));
        }
        self.figures.replayed += meant.len() as u64;
        if only {
            self.replayed.extend(&numbers);
        } else {
            self.replayed.extend(0..self.sent.len() as u64);
        }
        let node = &self.world.nodes[shard];
        if self.world.committed(shard) < node.records.len() as u64 || !node.inputs.is_empty() {
            // After a crash there may be another dead letter of the same message.
            let numbers = if only { numbers } else { (0..self.sent.len() as u64).collect() };
            self.ledger.lock().unsteady.extend(numbers);
        }
        self.ledger.lock().sends(None, meant.len() as u64);
        self.world.give(shard, Input::ReplayDeadLetters(search, to, token));
        self.world.step(shard);
    }

    /// Returns another agent to replay a letter to. Messages in a conversation are of no use to others.
    fn another_receiver(&mut self, letter: &DeadLetter) -> Option<AgentId> {
        let converses = Label::of(&letter.message).is_none_or(|label| label.kind.converses());
        if converses || !self.dice.once_in(3) {
            return None;
        }
        let number = self.dice.below(WIDTH);
        let others = [agent(Sort::Stage(2), number), agent(Sort::Guest, number), AgentId::of_text("nobody else")];
        Some(self.dice.pick(&others))
    }
}

/// Returns the label of a message sent once that has more than one dead letter.
pub(super) fn doubled<'a>(
    letters: impl Iterator<Item = &'a DeadLetter>,
    is_sent_once: impl Fn(usize) -> bool,
) -> Option<Label> {
    let mut seen = BTreeMap::new();
    let labelled = letters.filter_map(|letter| Some((Label::of(&letter.message)?, letter)));
    let mut once = labelled.filter(|(label, _)| usize::try_from(label.number).is_ok_and(&is_sent_once));
    once.find_map(|(label, letter)| {
        let message = &letter.message;
        let what = (message.id(), message.sender(), message.target(), letter.replays);
        seen.insert(what, label).map(|_| label)
    })
}
