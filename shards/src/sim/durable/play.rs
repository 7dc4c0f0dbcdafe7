//! One run: the world's actions, one after the other, and their results.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::rng::mixed;
use crate::journal::record::Lsn;
use crate::message::{Message, MessageId, Performative, Reliability, WallTime};
use crate::outcome::DeadLetterReason;
use crate::shard::io::{Answer, Ending, InboxNumber, Input, JournalCondition, SendErrorKind, Token};
use crate::sim::World;
use crate::sim::dice::Dice;

use super::Figures;
use super::cast::{Member, Sort, WIDTH, agent, inbox_name, name, receivers};
use super::guests::Guest;
use super::label::Label;
use super::ledger::SharedLedger;
use super::plan::{Kind, Plan};

/// Number of ids that senders choose from, few enough to collide.
const CHOSEN_IDS: u64 = 6;
/// Number of messages sent again after a start.
const LATEST: usize = 3;
/// The window of the inbox.
const INBOX_WINDOW: u32 = 3;
/// The shortest and the longest of the short lifetimes, in milliseconds.
const SHORT_MS: (u32, u32) = (1, 2_000);

pub(super) struct Play {
    pub plan: Plan,
    pub dice: Dice,
    pub world: World,
    pub boot: u64,
    pub ledger: SharedLedger,
    /// What the world has sent, in order.
    pub sent: Vec<Sent>,
    tokens: BTreeMap<(usize, u64), usize>,
    /// Journals that have failed and accept nothing now.
    pub failed: BTreeSet<usize>,
    pub full: BTreeSet<usize>,
    pub guests: Vec<Guest>,
    pub inbox: Option<InboxNumber>,
    /// Numbers of messages whose dead letters were purged or replayed.
    pub purged: BTreeSet<u64>,
    pub replayed: BTreeSet<u64>,
    /// Of these, those replayed to other receivers, where they end.
    pub redirected: BTreeSet<u64>,
    pub figures: Figures,
}

/// A message that the world has sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub kind: Kind,
    /// Whether it has a short lifetime.
    pub hurried: bool,
    /// The number of times it was sent.
    pub times: u32,
    id: Option<MessageId>,
    sender: u64,
    pub answer: Heard,
}

/// The response to a message, as seen by the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// None yet.
    Nothing,
    /// It is durable.
    Acknowledged,
    /// It is a dead letter.
    DeadLettered,
    /// Its lifetime ended. If that was before its commit, a crash leaves nothing of it.
    Expired,
    /// It was not accepted, or is not kept.
    Refused,
    /// It was accepted, and given up because the journal accepted nothing.
    Withdrawn,
}

impl Play {
    pub fn new(seed: u64) -> Self {
        let plan = Plan::of(seed);
        let ledger = SharedLedger::new(&plan);
        ledger.lock().begin(1);
        let mut run = Self {
            plan,
            dice: Dice::of(seed, 1),
            world: plan.setup(plan.shards, 1).start(),
            boot: 1,
            ledger,
            sent: Vec::new(),
            tokens: BTreeMap::new(),
            failed: BTreeSet::new(),
            full: BTreeSet::new(),
            guests: vec![Guest::default(); usize::try_from(WIDTH).unwrap_or(0)],
            inbox: None,
            purged: BTreeSet::new(),
            replayed: BTreeSet::new(),
            redirected: BTreeSet::new(),
            figures: Figures::default(),
        };
        run.begin();
        run
    }

    /// Plays the whole run.
    pub fn play(mut self) -> Result<Figures, String> {
        let actions = self.dice.between(50, 400);
        for _ in 0..actions {
            self.world.overlapping = self.dice.once_in(2);
            self.act()?;
            self.look_around()?;
        }
        self.finish()
    }

    /// Begins a run of the router: enables events, and registers its agents.
    pub fn begin(&mut self) {
        self.tokens.clear();
        self.failed.clear();
        self.full.clear();
        for sort in Sort::ALL {
            for number in 0..WIDTH {
                if sort != Sort::Guest {
                    self.world.register(Member::registration(&self.plan, &self.ledger, sort, number, self.boot));
                } else if self.dice.once_in(2) {
                    self.register_guest(number);
                }
            }
        }
        self.inbox = self.world.open_inbox(inbox_name(), INBOX_WINDOW).ok();
        self.world.run();
    }

    fn act(&mut self) -> Result<(), String> {
        let shard = self.dice.index(self.world.nodes.len());
        match self.dice.below(32) {
            0..=7 => self.send(),
            8..=12 => self.commit(shard),
            13..=17 => {
                self.world.step(shard);
            }
            18 => self.world.run(),
            19 => {
                let milliseconds = self.dice.below(300);
                self.world.advance(milliseconds);
            }
            20 => self.change_condition(shard),
            21 => {
                let upto = Lsn(self.dice.below(self.world.committed(shard) + 1));
                let again = if self.dice.once_in(2) { Input::ShowWaiting(upto) } else { Input::CarryForward(upto) };
                self.world.give(shard, again);
            }
            22 if self.dice.once_in(6) && self.figures.crashes + self.figures.stops < self.plan.crashes => {
                if self.dice.once_in(4) { self.stop_in_order()? } else { self.crash()? }
            }
            23 if self.dice.once_in(40) => self.fail(shard),
            24..=26 if self.plan.replays => self.look_after_letters(shard),
            27 if self.plan.guests => self.change_guest(),
            28..=29 => self.read_inbox(),
            30 if self.plan.chosen_ids => self.send_again(),
            31 if self.dice.once_in(3) => self.come_to_rest(),
            _ => {}
        }
        Ok(())
    }

    // Messages.

    fn send(&mut self) {
        if self.sent.len() as u64 >= self.plan.messages {
            return;
        }
        let (kind, number) = (self.any_kind(), self.sent.len());
        let hurried = self.plan.hurried && self.dice.once_in(4);
        let chosen = self.plan.chosen_ids && self.dice.once_in(2);
        let id = chosen.then(|| 1 + self.dice.below(CHOSEN_IDS)).and_then(|id| MessageId::from_u128(id.into()));
        // An agent that receives equal requests under one id from two senders can distinguish them only by sender.
        let sender = self.dice.below(WIDTH);
        let taken = self.sent.iter().any(|sent| sent.id.is_some() && (sent.id, sent.sender) == (id, sender));
        let id = id.filter(|_| !taken);
        self.sent.push(Sent { kind, hurried, times: 0, id, sender, answer: Heard::Nothing });
        self.give(number);
    }

    fn any_kind(&mut self) -> Kind {
        let mut choice = self.dice.below(self.plan.weights.iter().map(|weight| u64::from(*weight)).sum());
        for (kind, weight) in Kind::ALL.into_iter().zip(self.plan.weights) {
            match choice.checked_sub(weight.into()) {
                Some(left) => choice = left,
                None => return kind,
            }
        }
        Kind::Chain
    }

    /// Sends a message, for the first time or again.
    fn give(&mut self, number: usize) {
        let Sent { kind, hurried, id, sender, .. } = self.sent[number];
        self.sent[number].times += 1;
        let number_64 = number as u64;
        let stamp = self.ledger.lock().stamp();
        let label = Label { kind, number: number_64, leg: 0, lineage: 0, stamp };
        let receivers = receivers(kind, number_64);
        self.ledger.lock().sends(id, receivers.len() as u64);
        let mut builder =
            Message::builder(Performative::Inform).content(label.text()).reliability(Reliability::Durable);
        builder = match receivers.as_slice() {
            [receiver] => builder.receiver(*receiver),
            several => builder.receivers(several.iter().copied()),
        };
        if let Some(id) = id {
            builder = builder.id(id).sender(agent(Sort::Sender, sender));
        } else if mixed(self.plan.seed, number_64).is_multiple_of(2) {
            builder = builder.sender(agent(Sort::Sender, sender));
        }
        if hurried {
            let lifetime = self.dice.between(SHORT_MS.0, SHORT_MS.1);
            builder = match self.dice.below(3) {
                0 => builder.deliver_at(WallTime(self.world.now().wall.0 + u64::from(lifetime))),
                _ => builder.time_to_live(lifetime.try_into().expect("a legal lifetime")),
            };
        }
        let message = builder.build().expect("the run makes valid messages");
        let shard = message
            .sender()
            .map_or_else(|| self.dice.index(self.world.nodes.len()), |sender| self.world.shard_of(sender));
        if message.sender().is_none() {
            self.ledger.lock().comes_in(stamp, shard);
        }
        let token = self.world.token();
        self.tokens.insert((shard, token.0), number);
        self.world.give(shard, Input::Send(message, token));
    }

    /// Sends a message with a chosen id once more, as a caller does that has waited in vain for a response.
    fn send_again(&mut self) {
        let chosen: Vec<usize> = (0..self.sent.len()).filter(|number| self.sent[*number].id.is_some()).collect();
        if !chosen.is_empty() {
            let number = self.dice.pick(&chosen);
            self.give(number);
        }
    }

    /// After a start, callers repeat their latest messages: they may not have received a response.
    pub fn send_latest_again(&mut self) {
        let chosen = (0..self.sent.len()).rev().filter(|number| self.sent[*number].id.is_some());
        let latest: Vec<usize> = chosen.take(LATEST).collect();
        for number in latest.into_iter().rev() {
            self.give(number);
        }
    }

    /// Processes the responses. An acknowledged message stays acknowledged, whatever is reported later.
    pub fn hear_answers(&mut self) {
        let tokens: Vec<((usize, u64), usize)> = self.tokens.iter().map(|(key, number)| (*key, *number)).collect();
        for ((shard, token), number) in tokens {
            let Some(answer) = self.world.take_answer(shard, Token(token)) else { continue };
            self.tokens.remove(&(shard, token));
            let heard = match answer {
                Answer::Sent(Ok(_)) => Heard::Acknowledged,
                Answer::Sent(Err(rejected)) => {
                    let by_driver = matches!(rejected.kind(), SendErrorKind::NotKept { .. });
                    debug_assert!(!by_driver, "the driver makes that of the answer");
                    Heard::Refused
                }
                // The journal accepts nothing any more, or not for long, so that nothing is kept of the message.
                Answer::NotKept(_, Ending::DeadLettered(DeadLetterReason::NotJournalled)) => Heard::Withdrawn,
                Answer::NotKept(_, Ending::DeadLettered(_)) => Heard::DeadLettered,
                Answer::NotKept(_, Ending::Expired) => Heard::Expired,
                _ => continue,
            };
            let before = &mut self.sent[number].answer;
            if *before == Heard::Nothing || heard == Heard::Acknowledged {
                *before = heard;
            }
        }
    }

    // Journals.

    fn commit(&mut self, shard: usize) {
        if self.takes_commits(shard) {
            let most = 1 + self.dice.below(8);
            self.world.commit_next(shard, most);
        }
    }

    pub fn takes_commits(&self, shard: usize) -> bool {
        !self.failed.contains(&shard) && !self.full.contains(&shard)
    }

    fn change_condition(&mut self, shard: usize) {
        let condition = if self.full.remove(&shard) {
            JournalCondition::Ready
        } else if self.dice.once_in(2) {
            self.full.insert(shard);
            JournalCondition::Full
        } else {
            self.dice.pick(&[JournalCondition::Busy, JournalCondition::Ready])
        };
        self.world.give(shard, Input::Journal(condition));
    }

    /// Fails a write: nothing more becomes durable on this shard until the next start.
    fn fail(&mut self, shard: usize) {
        if self.failed.insert(shard) {
            self.figures.failures += 1;
            self.world.give(shard, Input::Journal(JournalCondition::Failed));
        }
    }

    /// Runs until nothing is left to do.
    fn come_to_rest(&mut self) {
        self.make_journals_ready();
        for _ in 0..4 {
            self.world.advance(500);
            self.commit_everything();
            self.world.run();
        }
    }

    pub fn make_journals_ready(&mut self) {
        self.full.clear();
        for shard in 0..self.world.nodes.len() {
            self.world.give(shard, Input::Journal(JournalCondition::Ready));
        }
    }

    pub fn commit_everything(&mut self) {
        for shard in 0..self.world.nodes.len() {
            if self.takes_commits(shard) {
                self.world.commit_next(shard, u64::MAX);
            }
        }
    }

    // Agents.

    pub fn register_guest(&mut self, number: u64) {
        let registration = Member::registration(&self.plan, &self.ledger, Sort::Guest, number, self.boot);
        let shard = self.world.shard_of(registration.id());
        self.change_on(shard, number, |token| Input::Register(vec![registration], token), true);
    }

    /// Registers or deregisters a persistent agent.
    fn change_guest(&mut self) {
        let number = self.dice.below(WIDTH);
        let guest = agent(Sort::Guest, number);
        if !self.guests[place_of(number)].is_here {
            return self.register_guest(number);
        }
        self.figures.deregistered += 1;
        let shard = self.world.shard_of(guest);
        self.change_on(shard, number, |token| Input::Deregister(guest, token), false);
    }

    fn change_on(&mut self, shard: usize, number: u64, input: impl FnOnce(Token) -> Input, is_here: bool) {
        let token = self.world.token();
        self.world.give_first(shard, input(token));
        let after = self.world.nodes[shard].records.len() as u64;
        self.world.step(shard);
        let by = self.world.nodes[shard].records.len() as u64;
        let place = place_of(number);
        if self.failed.contains(&shard) {
            // The journal accepts nothing any more.
            self.guests[place].is_here = is_here;
        } else {
            self.guests[place].change(after, by, is_here);
        }
    }

    fn read_inbox(&mut self) {
        let Some(inbox) = self.inbox else { return };
        let most = self.dice.index(4);
        for message in self.world.read_inbox(inbox, most) {
            if crate::message::notice::is_notice(&message) {
                continue;
            }
            let mut ledger = self.ledger.lock();
            ledger.handled(&message);
            ledger.done(&message);
            if let Some(label) = Label::of(&message) {
                ledger.end(label.number, 0);
            }
        }
    }

    pub fn read_all_of_inbox(&mut self) {
        for _ in 0..4 {
            self.read_inbox();
        }
    }

    /// Whether an agent is recorded as persistent in the journals.
    pub fn outlives(&self, number: u64) -> bool {
        let guest = agent(Sort::Guest, number);
        self.world.nodes[self.world.shard_of(guest)].shard.outlives(guest)
    }

    /// Checks what is on disk, and the ledger's complaints.
    pub fn look_around(&mut self) -> Result<(), String> {
        self.hear_answers();
        let clean: Vec<bool> = (0..self.world.nodes.len())
            .map(|shard| {
                let node = &self.world.nodes[shard];
                let is_written = self.world.committed(shard) == node.records.len() as u64;
                is_written
                    && node.shard.commit_waiters() == 0
                    && !self.failed.contains(&shard)
                    && node.inputs.is_empty()
            })
            .collect();
        let world = &self.world;
        let mut ledger = self.ledger.lock();
        ledger.settle(|agent| clean[world.shard_of(agent)]);
        ledger.complaint()
    }

    /// Returns the name of a persistent agent, for messages.
    pub fn guest_name(number: u64) -> String {
        name(Sort::Guest, number).to_string()
    }
}

/// Returns the index of a persistent agent.
pub(super) fn place_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}
