//! Crashes in the simulator: durable messages go through chains of agents while commits come late or fail, the journal is
//! full or written anew, and the machine stops at any moment and starts again with another number of shards.
//!
//! What is checked: a message that was acknowledged comes to the end of its chain or is kept as a dead letter, whatever
//! happened; it comes there twice
//! only if a crash or a failed journal lay in between; what was refused never does; and in the end nothing is left in the
//! journals but what was never settled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::agent::{Context, Outcome};
use crate::dead_letter::DeadLetter;
use crate::domain::NodeId;
use crate::interface::{Answer, Ending, Input, JournalCondition, SendError, Token};
use crate::message::{AgentId, IdSpace, Message, Performative, Reliability, WallTime};
use crate::record::{AppendSequence, Durability};
use crate::recovery::Recovery;

use super::dice::{Dice, mixed};
use super::{Script, Setup, World};

/// The most shards of a run.
const SHARDS_MAX: u16 = 4;
/// How many agents a message goes through.
const STAGES: u32 = 3;
/// Agents of each stage.
const WIDTH: u64 = 3;
/// The most messages that are sent.
const MESSAGES_MAX: u32 = 60;
/// The most crashes of one run.
const CRASHES_MAX: u32 = 3;
/// Of so many messages per shard the ids are remembered: more than there ever are, so that the window is not what fails.
const WINDOW: usize = 10_000;

/// What came of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Messages whose caller was told that they are durable.
    pub acknowledged: u64,
    /// Messages whose caller was told why they are not.
    pub refused: u64,
    /// Messages that came to the end of their chains.
    pub arrived: u64,
    /// Of these, how many came more than once.
    pub repeated: u64,
    /// Messages that are kept as dead letters.
    pub letters: u64,
    /// Times that the machine stopped.
    pub crashes: u32,
    /// Journals that failed.
    pub failures: u32,
    /// Unsettled messages that starts found.
    pub recovered: u64,
}

impl Figures {
    /// What two runs had together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            refused: self.refused + other.refused,
            arrived: self.arrived + other.arrived,
            repeated: self.repeated + other.repeated,
            letters: self.letters + other.letters,
            crashes: self.crashes + other.crashes,
            failures: self.failures + other.failures,
            recovered: self.recovered + other.recovered,
        }
    }
}

/// How often each message came to the end of its chain.
type Ends = Arc<Mutex<BTreeMap<u64, u32>>>;

/// Runs one seed.
///
/// # Errors
/// What did not hold.
///
/// # Panics
/// When an invariant of the engine does not hold: see [`World::step`].
pub fn run(seed: u64) -> Result<Figures, String> {
    let mut play = Play::new(seed);
    play.act();
    play.finish()
}

struct Play {
    seed: u64,
    dice: Dice,
    world: World,
    boot: u64,
    ends: Ends,
    sent: u64,
    tokens: BTreeMap<(usize, u64), u64>,
    acknowledged: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    failed: BTreeSet<usize>,
    full: BTreeSet<usize>,
    figures: Figures,
}

fn setup(shards: u16, boot_epoch: u64) -> Setup {
    Setup::new(shards).lanes(4, 4).configured(|config| {
        config.durability = Durability::Journal;
        config.id_space = IdSpace { node: NodeId::default(), boot_epoch, shard: 0 };
        config.durable_lifetime_ms = 86_400_000;
        config.duplicates_window = WINDOW;
        config.retry.retries = 9;
    })
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::of(seed, 1);
        let shards = u16::try_from(dice.between(1, SHARDS_MAX.into())).unwrap_or(1);
        let mut play = Self {
            seed,
            dice,
            world: setup(shards, 1).start(),
            boot: 1,
            ends: Ends::default(),
            sent: 0,
            tokens: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            refused: BTreeSet::new(),
            failed: BTreeSet::new(),
            full: BTreeSet::new(),
            figures: Figures::default(),
        };
        play.cast();
        play
    }

    /// Registers the agents of all stages. In each run of the router they are the same.
    fn cast(&mut self) {
        for stage in 0..STAGES {
            for number in 0..WIDTH {
                let (ends, seed, boot) = (Arc::clone(&self.ends), self.seed, self.boot);
                let script = Script::new(move |message, context| pass_on(message, context, stage, seed ^ boot, &ends));
                let persistent = mixed(seed, number).is_multiple_of(2);
                let name = name(stage, number);
                let registration = script.registration(crate::domain::AgentName::try_new(name).expect("a legal name"));
                self.world.register(if persistent { registration.persistent() } else { registration });
            }
        }
        self.world.run();
    }

    fn act(&mut self) {
        let actions = self.dice.between(50, 400);
        for _ in 0..actions {
            let shard = self.dice.index(self.world.nodes.len());
            self.world.overlapping = self.dice.once_in(2);
            match self.dice.below(20) {
                0..=5 => self.send(),
                6..=9 => self.commit(shard),
                10..=13 => {
                    self.world.step(shard);
                }
                14 => self.world.run(),
                15 => {
                    let milliseconds = self.dice.below(300);
                    self.world.advance(milliseconds);
                }
                16 => self.change_condition(shard),
                17 => {
                    let upto = AppendSequence(self.dice.below(self.world.committed(shard) + 1));
                    let again = if self.dice.once_in(2) { Input::ShowWaiting(upto) } else { Input::CarryForward(upto) };
                    self.world.give(shard, again);
                }
                18 if self.dice.once_in(6) && self.figures.crashes < CRASHES_MAX => self.crash(),
                19 if self.dice.once_in(30) => self.fail(shard),
                _ => {}
            }
            self.hear_answers();
        }
    }

    fn send(&mut self) {
        if self.sent >= u64::from(MESSAGES_MAX) {
            return;
        }
        let number = self.sent;
        self.sent += 1;
        let message = Message::builder(Performative::Inform)
            .receiver(agent(0, mixed(self.seed, number) % WIDTH))
            .content(number.to_string())
            .reliability(Reliability::Durable);
        let Ok(message) = message.build() else { return };
        let shard = self.dice.index(self.world.nodes.len());
        let token = self.world.token();
        self.tokens.insert((shard, token.0), number);
        self.world.give(shard, Input::Send(message, token));
    }

    fn commit(&mut self, shard: usize) {
        if !self.failed.contains(&shard) && !self.full.contains(&shard) {
            let most = 1 + self.dice.below(6);
            self.world.commit_next(shard, most);
        }
    }

    fn change_condition(&mut self, shard: usize) {
        let condition = if self.full.remove(&shard) {
            JournalCondition::Ready
        } else {
            self.full.insert(shard);
            JournalCondition::Full
        };
        self.world.give(shard, Input::Journal(condition));
    }

    /// A write fails: nothing more becomes durable on this shard until the next start.
    fn fail(&mut self, shard: usize) {
        if self.failed.insert(shard) {
            self.figures.failures += 1;
            self.world.give(shard, Input::Journal(JournalCondition::Failed));
        }
    }

    fn hear_answers(&mut self) {
        let tokens: Vec<((usize, u64), u64)> = self.tokens.iter().map(|(key, number)| (*key, *number)).collect();
        for ((shard, token), number) in tokens {
            let Some(answer) = self.world.take_answer(shard, Token(token)) else { continue };
            self.tokens.remove(&(shard, token));
            match answer {
                Answer::Sent(Ok(_)) => {
                    self.acknowledged.insert(number);
                }
                Answer::Sent(Err(rejected)) => {
                    debug_assert!(
                        !matches!(rejected.error, SendError::NotKept { .. }),
                        "the driver makes that of the answer"
                    );
                    self.refused.insert(number);
                }
                // It is a dead letter, and comes to no end.
                Answer::NotKept(_, Ending::DeadLettered(_) | Ending::Expired) => {
                    self.refused.insert(number);
                }
                _ => {}
            }
        }
    }

    /// The machine stops: of each journal there is what was committed and, perhaps, some of what was being written.
    fn crash(&mut self) {
        let mut kept = Vec::new();
        for shard in 0..self.world.nodes.len() {
            let (committed, written) = (self.world.committed(shard), self.world.nodes[shard].records.len() as u64);
            let more = if self.failed.contains(&shard) { 0 } else { self.dice.below(written - committed + 1) };
            kept.push(committed + more);
        }
        let recovery = self.world.journals(&kept, WINDOW);
        let shards = u16::try_from(self.dice.between(1, SHARDS_MAX.into())).unwrap_or(1);
        self.figures.crashes += 1;
        self.start(shards, recovery);
    }

    fn start(&mut self, shards: u16, recovery: Recovery) {
        let wall = WallTime(self.world.now().wall.0 + self.dice.below(5_000));
        self.figures.recovered += recovery.messages() as u64;
        self.boot += 1;
        self.world = setup(shards, self.boot).start_from(recovery, wall);
        self.tokens.clear();
        self.failed.clear();
        self.full.clear();
        // Before anybody is served, what was found stands in the new journals.
        for shard in 0..self.world.nodes.len() {
            self.world.step(shard);
            self.world.commit_next(shard, u64::MAX);
        }
        self.cast();
    }

    fn settle(&mut self) {
        let full: Vec<usize> = std::mem::take(&mut self.full).into_iter().collect();
        for shard in full {
            self.world.give(shard, Input::Journal(JournalCondition::Ready));
        }
        for _ in 0..60 {
            self.world.advance(1_000);
            for shard in 0..self.world.nodes.len() {
                if !self.failed.contains(&shard) {
                    self.world.commit_next(shard, u64::MAX);
                }
            }
            self.world.run();
            self.hear_answers();
        }
    }

    fn finish(mut self) -> Result<Figures, String> {
        self.settle();
        // What a failed journal holds is handled after the next start.
        if !self.failed.is_empty() {
            let kept: Vec<u64> = (0..self.world.nodes.len())
                .map(|shard| {
                    if self.failed.contains(&shard) {
                        self.world.committed(shard)
                    } else {
                        self.world.nodes[shard].records.len() as u64
                    }
                })
                .collect();
            let recovery = self.world.journals(&kept, WINDOW);
            self.figures.crashes += 1;
            self.start(2, recovery);
            self.settle();
        }
        self.world.assert_settled();
        let kept: Vec<u64> = self.world.nodes.iter().map(|node| node.records.len() as u64).collect();
        let journals = self.world.journals(&kept, WINDOW);
        let left = journals.messages();
        let number = |letter: &DeadLetter| letter.message.content().as_text().and_then(|text| text.parse().ok());
        let letters: BTreeSet<u64> = journals.dead_letters().filter_map(number).collect();
        if left > 0 {
            return Err(format!("{left} settled messages are still in the journals"));
        }
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(lost) =
            self.acknowledged.iter().find(|number| !ends.contains_key(*number) && !letters.contains(*number))
        {
            return Err(format!("message {lost} was acknowledged and did not come to its end"));
        }
        // One that was refused has no record, unless the journal failed behind it.
        if let Some(unjust) =
            self.refused.iter().find(|number| ends.contains_key(*number) && self.figures.failures == 0)
        {
            return Err(format!("message {unjust} was refused and came to its end"));
        }
        let repeated = ends.values().filter(|count| **count > 1).count() as u64;
        if repeated > 0 && self.figures.crashes == 0 {
            return Err(format!("{repeated} messages came twice without a crash"));
        }
        self.figures.acknowledged = self.acknowledged.len() as u64;
        self.figures.refused = self.refused.len() as u64;
        self.figures.letters = letters.len() as u64;
        self.figures.arrived = ends.len() as u64;
        self.figures.repeated = repeated;
        Ok(self.figures)
    }
}

fn name(stage: u32, number: u64) -> String {
    format!("stage-{stage}-{number}")
}

fn agent(stage: u32, number: u64) -> AgentId {
    AgentId::of_text(&name(stage, number))
}

/// Sends a message on to the next stage, or notes that it has come to its end. Some attempts fail, after they have sent.
fn pass_on(message: &Message, context: &mut Context<'_>, stage: u32, seed: u64, ends: &Ends) -> Outcome {
    let Some(number) = message.content().as_text().and_then(|text| text.parse::<u64>().ok()) else {
        return Outcome::Done;
    };
    let chance = mixed(seed ^ context.now().monotonic_ns, number ^ (u64::from(stage) << 32));
    if stage + 1 < STAGES {
        let next = Message::builder(Performative::Inform)
            .receiver(agent(stage + 1, mixed(number, u64::from(stage)) % WIDTH))
            .content(message.content().clone())
            .reliability(Reliability::Durable)
            .build();
        let sent = next.map(|next| context.send(next));
        if !matches!(sent, Ok(Ok(_))) {
            return Outcome::failed("the next stage can't be reached now");
        }
    }
    if chance.is_multiple_of(7) {
        return Outcome::failed("as planned");
    }
    if stage + 1 == STAGES {
        *ends.lock().unwrap_or_else(PoisonError::into_inner).entry(number).or_default() += 1;
    }
    Outcome::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_comes_to_its_end_whatever_happens() {
        let mut total = Figures::default();
        for seed in 0..500 {
            let figures = run(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
            total = total.plus(figures);
        }
        let counts = [total.acknowledged, total.refused, total.repeated, total.recovered];
        assert!(counts.iter().all(|count| *count > 0), "something never happened: {total:?}");
        assert!(total.crashes > 0 && total.failures > 0, "nothing ever failed: {total:?}");
    }
}
