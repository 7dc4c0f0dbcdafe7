//! What a shard writes to its journal, and how a start recovers it.

mod dead_letters;

use std::num::NonZeroU8;

use caxton_shards::agent::Outcome;
use caxton_shards::api::{Answer, Attempt, AttemptMark, FULL_PATIENCE_MS, Input, JournalCondition};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::journal::record::{Durability, Lsn, Projects, Record, RecordClass};
use caxton_shards::message::{AgentId, ConversationId, Message, MessageBuilder, MessageId, Performative, Reliability};
use caxton_shards::protocol::{Mode, Rulebook};
use caxton_shards::routing::partition::ShardIndex;
use caxton_shards::shard::recovery::Recovery;

use crate::common::{Dice, Log, Script, Setup, World, inform, text};

/// Returns the records from this one on.
fn records(world: &World, from: usize) -> Vec<Record> {
    world.nodes[0].records[from..].iter().map(|(kind, body)| Record::read(*kind, body).unwrap()).collect()
}

#[test]
fn a_message_that_waits_for_long_is_shown_once_and_so_is_its_end() {
    let mut world = Setup::new(1).configured(|config| config.durability = Durability::Journal).start();
    let sender = world.add(0, "sender", Script::new(|_, _| Outcome::Done));
    // One message is delivered; the rest waits until it was taken.
    let receiver = world.add_inbox(0, "receiver", 1, 1);
    for content in ["one", "two", "three"] {
        let message = inform(sender, receiver, content).reliability(Reliability::Durable).build().unwrap();
        world.send_later(message);
    }
    world.run();
    world.commit(0, 3);
    world.run();
    let before = world.nodes[0].records.len();
    assert_eq!(before, 3, "each is written down");
    let projects = |(kind, body): &(u8, Vec<u8>)| RecordClass::of(*kind, body).projects == Projects::State;
    assert!(!world.nodes[0].records.iter().any(projects), "nothing has waited for long yet");

    world.give(0, Input::ShowWaiting(Lsn(2)));
    world.run();
    let written = records(&world, before);
    let shown: Vec<_> = written
        .iter()
        .map(|record| match record {
            Record::Message(kept) => (kept.shown, kept.replaces, kept.message.content().as_text().unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(shown, [(true, Some(Lsn(2)), "two")], "the first one is with its owner, the third one is newer");
    let after = world.nodes[0].records.len();
    world.commit(0, after as u64);
    world.give(0, Input::ShowWaiting(Lsn(2)));
    world.run();
    assert_eq!(world.nodes[0].records.len(), after, "once is enough");
}

/// A router with journals.
fn journalled(shards: u16, boot_epoch: u64) -> Setup {
    Setup::new(shards).configured(|config| {
        config.durability = Durability::Journal;
        config.id_space.boot_epoch = boot_epoch;
    })
}

/// Commits and runs until nothing more happens at the current time.
fn settle(world: &mut World) {
    for _ in 0..20 {
        world.run();
        for shard in 0..world.nodes.len() {
            world.commit_next(shard, u64::MAX);
        }
    }
    world.run();
}

/// Sends a message and waits for its durability. The response is for [`World::take_answer`].
fn send(world: &mut World, message: MessageBuilder) {
    world.send_later(message.reliability(Reliability::Durable).build().unwrap());
    settle(world);
}

/// Returns what recovery finds if the machine crashes now.
fn stopped(world: &World) -> Recovery {
    let committed: Vec<u64> = (0..world.nodes.len()).map(|shard| world.committed(shard)).collect();
    world.journals(&committed, 1_000)
}

/// Starts another run of the router, with what an earlier one left.
fn started(setup: Setup, recovery: Recovery, earlier: &World) -> World {
    let mut world = setup.start_from(recovery, earlier.now().wall);
    for shard in 0..world.nodes.len() {
        world.step(shard);
        world.commit_next(shard, u64::MAX);
    }
    world
}

#[test]
fn an_id_that_another_sender_has_used_does_not_keep_a_message_from_being_handled() {
    let mut world = journalled(2, 1).start();
    let (honest, _) = world.add_listener(0, "honest");
    let (prophet, _) = world.add_listener(1, "prophet");
    let (receiver, heard) = world.add_listener(0, "receiver");
    let id = MessageId::from_u128(77).unwrap();
    for _ in 0..2 {
        send(&mut world, inform(prophet, receiver, "foreseen").id(id));
        send(&mut world, inform(honest, receiver, "genuine").id(id));
    }
    assert_eq!(heard.take().iter().map(text).collect::<Vec<_>>(), ["foreseen", "genuine"], "each of them once");
    assert_eq!((world.snapshot(0).duplicates, world.total().processed), (2, 4));
    // The same holds after a start, with another number of shards.
    let mut world = started(journalled(3, 2), stopped(&world), &world);
    world.register(Script::listener(&heard).registration(world.name_on(0, "x")));
    for (agent, listener) in [("honest", 0), ("prophet", 1), ("receiver", 0)] {
        let name = World::new(2).name_on(listener, agent);
        world.register(Script::listener(&heard).registration(name));
    }
    let newcomer = world.register(Script::idle().registration("newcomer".parse().unwrap()));
    for (sender, content) in [(prophet, "foreseen"), (honest, "genuine"), (newcomer, "new")] {
        send(&mut world, inform(sender, receiver, content).id(id));
    }
    assert_eq!(heard.take().iter().map(text).collect::<Vec<_>>(), ["new"]);
}

#[test]
fn what_comes_from_outside_without_a_sender_is_known_whatever_the_number_of_shards() {
    let receiver = AgentId::of_text("receiver");
    let heard = Log::new();
    let (mut world, mut expected) = (journalled(1, 1).start(), vec!["once"]);
    for (boot, shards) in [(2, 3), (3, 2), (4, 1)] {
        world.register(Script::listener(&heard).registration("receiver".parse().unwrap()));
        let message = Message::builder(Performative::Inform).receiver(receiver).content("once");
        let message = message.id(MessageId::from_u128(5).unwrap()).reliability(Reliability::Durable).build().unwrap();
        let (shard, token) = (world.shard_of(receiver), world.token());
        world.give(shard, Input::Send(message, token));
        settle(&mut world);
        assert_eq!(heard.take().iter().map(text).collect::<Vec<_>>(), std::mem::take(&mut expected));
        world = started(journalled(shards, boot), stopped(&world), &world);
    }
}

#[test]
fn several_shards_remember_together_what_one_remembers_of_them() {
    const WINDOW: usize = 20;
    let setup = |shards, boot| journalled(shards, boot).configured(|config| config.duplicates_window = WINDOW);
    let mut world = setup(3, 1).start();
    let heard = Log::new();
    let sender = world.register(Script::idle().registration("sender".parse().unwrap()));
    let names: Vec<_> = (0..3).map(|shard| world.name_on(shard, "receiver")).collect();
    let again = |world: &mut World| {
        for name in &names {
            world.register(Script::listener(&heard).registration(name.clone()));
        }
        for number in 1..=WINDOW as u128 {
            for name in &names {
                let id = MessageId::from_u128(number).unwrap();
                let message = inform(sender, AgentId::of(name), "x").id(id).reliability(Reliability::Durable);
                world.send_later(message.build().unwrap());
            }
            settle(world);
        }
    };
    again(&mut world);
    assert_eq!(heard.take().len(), 3 * WINDOW);
    let committed: Vec<u64> = (0..3).map(|shard| world.committed(shard)).collect();
    let mut world = started(setup(1, 2), world.journals(&committed, WINDOW), &world);
    world.register(Script::idle().registration("sender".parse().unwrap()));
    again(&mut world);
    assert!(heard.is_empty(), "{} came again within the window", heard.len());
}

/// Fails every attempt, and logs it.
fn failing(attempts: &Log<String>) -> Script {
    let attempts = attempts.clone();
    Script::new(move |message, _| {
        attempts.push(text(message));
        Outcome::failed("not today")
    })
}

#[test]
fn failed_attempts_are_counted_across_starts() {
    let attempts = Log::new();
    let mut world = journalled(1, 1).start();
    world.register(failing(&attempts).registration("worker".parse().unwrap()));
    let sender = world.register(Script::idle().registration("sender".parse().unwrap()));
    let worker = AgentId::of_text("worker");
    send(&mut world, inform(sender, worker, "poison").attempts_max(NonZeroU8::new(3).unwrap()));
    assert_eq!(attempts.take().len(), 1);
    // Once in its original record, and once rewritten.
    for boot in [2, 3] {
        let upto = Lsn(world.committed(0));
        world.give(0, Input::CarryForward(upto));
        settle(&mut world);
        world = started(journalled(2, boot), stopped(&world), &world);
        world.register(failing(&attempts).registration("worker".parse().unwrap()));
        settle(&mut world);
        assert_eq!(attempts.take().len(), 1, "run {boot}");
    }
    settle(&mut world);
    let recovery = stopped(&world);
    let letters: Vec<_> = recovery.dead_letters().map(|letter| (letter.reason, letter.attempts)).collect();
    assert_eq!((letters, recovery.messages()), (vec![(DeadLetterReason::AttemptsExhausted, 3)], 0));
}

/// Records which attempt a handler is in.
struct Mark(Log<Option<Attempt>>);

impl std::fmt::Debug for Mark {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Mark")
    }
}

impl AttemptMark for Mark {
    fn set(&mut self, attempt: Option<Attempt>) {
        self.0.push(attempt);
    }
}

#[test]
fn a_message_that_ends_the_process_becomes_a_dead_letter_and_those_beside_it_are_handled() {
    let (mark, heard) = (Log::new(), Log::new());
    let mut world = journalled(1, 1).start();
    let sender = world.register(Script::idle().registration("sender".parse().unwrap()));
    let worker = AgentId::of_text("worker");
    let mut handled = 0;
    for boot in 2.. {
        // The machine crashes in the handler of the poison message: none of its effects is committed.
        let end: Log<Attempt> = Log::new();
        world.nodes[0].shard.set_attempt_mark(Box::new(Mark(mark.clone())));
        let (marks, log, ended) = (mark.clone(), heard.clone(), end.clone());
        let script = Script::new(move |message, _| {
            if text(message) == "poison" {
                let attempt = marks.take().pop().flatten().expect("the mark is set while it is handled");
                ended.push(attempt);
                return Outcome::Suspended;
            }
            log.push(text(message));
            Outcome::Done
        });
        world.register(script.registration("worker".parse().unwrap()));
        if boot == 2 {
            for content in ["before", "poison", "behind"] {
                let message = inform(sender, worker, content).attempts_max(NonZeroU8::new(3).unwrap());
                world.send_later(message.reliability(Reliability::Durable).build().unwrap());
            }
            world.step(0);
            world.commit_next(0, u64::MAX);
        }
        let before = world.committed(0);
        world.step(0);
        world.step(0);
        let Some(Attempt { record, number }) = end.take().pop() else { break };
        handled += 1;
        assert_eq!(number, handled, "its attempts are counted from the first");
        let mut recovery = world.journals(&[before], 1_000);
        recovery.note_attempts(ShardIndex(0), record, number);
        assert_eq!(recovery.unsettled().map(|kept| kept.attempts).max(), Some(number));
        world = started(journalled(1, boot), recovery, &world);
    }
    assert_eq!(handled, 3);
    settle(&mut world);
    let recovery = stopped(&world);
    let letters: Vec<_> = recovery.dead_letters().map(|letter| (text(&letter.message), letter.attempts)).collect();
    assert_eq!((letters, recovery.messages()), (vec![("poison".to_owned(), 3)], 0));
    assert!(heard.take().contains(&"behind".to_owned()));
    assert_eq!(mark.take().pop(), Some(None), "no handler has a message any more");
}

#[test]
fn a_message_that_an_inbox_is_given_at_each_start_becomes_a_dead_letter_in_the_end() {
    let mut world = journalled(1, 1).start();
    let sender = world.register(Script::idle().registration("sender".parse().unwrap()));
    let owner = world.add_inbox(0, "owner", 1, 1);
    send(&mut world, inform(sender, owner, "poison").attempts_max(NonZeroU8::new(3).unwrap()));
    let mut boot = 1;
    while world.dead_letters(0).is_empty() {
        // Its owner has taken it, and its process ends.
        boot += 1;
        assert!(boot < 10, "it comes at every start");
        let recovery = world.journals(&[world.committed(0)], 1_000);
        world = started(journalled(1, boot), recovery, &world);
        world.add_inbox(0, "owner", u32::try_from(boot).unwrap(), 1);
        settle(&mut world);
    }
    assert_eq!(boot, 5, "it was given to its owner once before, and then three times");
    let letter = world.dead_letters(0).pop().unwrap();
    assert_eq!(
        (letter.reason, letter.attempts, text(&letter.message)),
        (DeadLetterReason::AttemptsExhausted, 3, "poison".to_owned())
    );
}

/// Agents that send requests in conversations, under `fipa-request`, and those they ask.
struct Chains {
    shards: u16,
    boot: u64,
    world: World,
    done: Log<String>,
}

impl Chains {
    const INITIATORS: u64 = 2;
    const PARTICIPANTS: usize = 3;

    fn new(shards: u16) -> Self {
        let mut chains = Self { shards, boot: 1, world: Self::setup(shards, 1).start(), done: Log::new() };
        chains.cast();
        // What was not known to be persistent yet could be lost in a crash.
        settle(&mut chains.world);
        chains
    }

    fn setup(shards: u16, boot: u64) -> Setup {
        journalled(shards, boot).configured(|config| {
            config.protocols = Rulebook::new(Mode::Enforce, &[], &[]).unwrap();
            config.conversations.timeout_ms = 3_600_000;
            config.durable_lifetime_ms = 3_600_000;
        })
    }

    fn cast(&mut self) {
        for number in 0..Self::INITIATORS {
            let done = self.done.clone();
            let script = Script::new(move |message, context| {
                if message.conversation().is_none() {
                    let content = text(message);
                    let participant = AgentId::of_text(&format!("participant-{}", content.len() % Self::PARTICIPANTS));
                    let request = Message::builder(Performative::Request)
                        .receiver(participant)
                        .conversation(ConversationId::of_text(&content))
                        .protocol("fipa-request")
                        .content(content)
                        .reliability(Reliability::Durable);
                    context.send(request.build().unwrap()).unwrap();
                } else if message.performative() == Performative::Inform {
                    done.push(text(message));
                }
                Outcome::Done
            });
            self.world.register(script.registration(format!("initiator-{number}").parse().unwrap()).persistent());
        }
        for number in 0..Self::PARTICIPANTS {
            let script = Script::new(|message, context| {
                for act in [Performative::Agree, Performative::Inform] {
                    let reply = message.reply(act).content(message.content().clone()).reliability(Reliability::Durable);
                    context.send(reply.build().unwrap()).unwrap();
                }
                Outcome::Done
            });
            self.world.register(script.registration(format!("participant-{number}").parse().unwrap()).persistent());
        }
        self.world.run();
    }

    fn ask(&mut self, content: &str, dice: &mut Dice) {
        let initiator = AgentId::of_text(&format!("initiator-{}", dice.below(Self::INITIATORS)));
        let message = Message::builder(Performative::Inform).receiver(initiator).content(content);
        let (shard, token) = (dice.index(self.world.nodes.len()), self.world.token());
        self.world.give(shard, Input::Send(message.reliability(Reliability::Durable).build().unwrap(), token));
    }

    /// Crashes the machine: each journal keeps what was committed and possibly part of what was being written.
    fn crash(&mut self, dice: &mut Dice) {
        let kept: Vec<u64> = (0..self.world.nodes.len())
            .map(|shard| {
                let (committed, written) = (self.world.committed(shard), self.world.nodes[shard].records.len() as u64);
                committed + dice.below(written - committed + 1)
            })
            .collect();
        let recovery = self.world.journals(&kept, 1_000);
        self.boot += 1;
        self.shards = u16::try_from(dice.between(1, 3)).unwrap();
        self.world = started(Self::setup(self.shards, self.boot), recovery, &self.world);
        self.cast();
    }

    /// Returns what was reported as a violation or dead-lettered.
    fn wrong(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for shard in 0..self.world.nodes.len() {
            let conformance = self.world.snapshot(shard).conformance;
            if conformance.violations() > 0 {
                wrong.push(format!("{conformance:?} on shard {shard}"));
            }
            wrong.extend(self.world.dead_letters(shard).iter().map(|letter| format!("{letter:?}")));
        }
        wrong
    }
}

#[test]
fn a_crash_makes_no_violation_of_a_conversation_that_follows_its_protocol() {
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let mut chains = Chains::new(u16::try_from(dice.between(1, 3)).unwrap());
        let (mut asked, mut crashes) = (0, 0);
        for _ in 0..dice.between(30, 120) {
            let shard = dice.index(chains.world.nodes.len());
            match dice.below(12) {
                0 | 1 if asked < 8 => {
                    asked += 1;
                    chains.ask(&"x".repeat(asked), &mut dice);
                }
                0..=6 => {
                    chains.world.step(shard);
                }
                7..=10 => {
                    let most = 1 + dice.below(3);
                    chains.world.commit_next(shard, most);
                }
                _ if crashes < 3 && dice.once_in(3) => {
                    crashes += 1;
                    let wrong = chains.wrong();
                    assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
                    chains.crash(&mut dice);
                }
                _ => {}
            }
        }
        settle(&mut chains.world);
        let wrong = chains.wrong();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
        chains.world.assert_settled();
    }
}

#[test]
fn what_breaks_a_recovered_conversation_is_observed_and_not_refused() {
    let mut chains = Chains::new(2);
    let [initiator, participant] = ["initiator-0", "participant-1"].map(AgentId::of_text);
    chains.world.register(Script::idle().registration("outsider".parse().unwrap()));
    send(&mut chains.world, inform(AgentId::of_text("outsider"), initiator, "x"));
    assert_eq!(chains.done.take(), ["x"]);
    let id = ConversationId::of_text("x");
    let propose = |chains: &mut Chains| {
        let message = Message::builder(Performative::Propose).sender(initiator).receiver(participant);
        send(&mut chains.world, message.conversation(id).protocol("fipa-request"));
        let total = |world: &mut World| {
            (0..2)
                .map(|shard| world.snapshot(shard).conformance)
                .fold((0, 0), |sum, one| (sum.0 + one.observed, sum.1 + one.refused))
        };
        total(&mut chains.world)
    };
    assert_eq!(propose(&mut chains), (0, 1), "it is refused in the run in which it began");
    let recovery = stopped(&chains.world);
    chains.world = started(Chains::setup(2, 2), recovery, &chains.world);
    chains.cast();
    assert_eq!(propose(&mut chains), (1, 0));
}

#[test]
fn a_cancel_passes_whose_conversation_a_crash_has_lost() {
    let [initiator, participant] = ["initiator", "participant"].map(AgentId::of_text);
    let mut world = Chains::setup(1, 1).start();
    let conformance = |world: &mut World, conversation: &str| {
        for name in ["initiator", "participant"] {
            world.register(Script::idle().registration(name.parse().unwrap()));
        }
        let cancel = Message::builder(Performative::Cancel).sender(initiator).receiver(participant);
        send(world, cancel.conversation(ConversationId::of_text(conversation)).protocol("fipa-subscribe"));
        let found = world.snapshot(0).conformance;
        (found.observed, found.refused)
    };
    assert_eq!(conformance(&mut world, "never begun"), (0, 1), "no run has ended before this one");
    let mut world = started(Chains::setup(1, 2), stopped(&world), &world);
    assert_eq!(conformance(&mut world, "lost"), (0, 0));
}

/// Returns the dead letters that a start finds, by their texts.
fn letters(recovery: &Recovery) -> Vec<(String, DeadLetterReason, u8, u8)> {
    let letters = recovery.dead_letters();
    letters.map(|letter| (text(&letter.message), letter.reason, letter.attempts, letter.replays)).collect()
}

#[test]
fn mail_that_was_written_anew_when_its_receiver_was_gone_finds_it_after_a_start() {
    let mut world = journalled(1, 1).configured(|config| config.retry.retries = 9).start();
    let (sender, _) = world.add_listener(0, "sender");
    let worker = world.add(0, "worker", Script::new(|_, _| Outcome::failed("not now")));
    send(&mut world, inform(sender, worker, "work"));
    // It waits for a retry, and its receiver is deregistered meanwhile.
    world.deregister(worker);
    let last = Lsn(world.committed(0));
    world.give(0, Input::CarryForward(last));
    settle(&mut world);
    assert_eq!(world.dead(DeadLetterReason::Deregistered), 0, "its time has not come");

    let recovery = world.journals(&[world.committed(0)], 1_000);
    let mut world = journalled(1, 2).start_from(recovery, world.now().wall);
    let (_, heard) = world.add_listener(0, "worker");
    settle(&mut world);
    assert_eq!(heard.texts(), ["work"]);
    world.assert_settled();
}

#[test]
fn what_was_refused_and_then_handled_is_known_after_a_start_although_its_letter_was_written_anew() {
    let mut world = journalled(1, 1).start();
    let sender = world.register(Script::idle().registration("sender".parse().unwrap()));
    let (receiver, heard) = world.add_listener(0, "receiver");
    let id = MessageId::from_u128(7).unwrap();
    let message = || inform(sender, receiver, "once").id(id);
    world.send_later(message().reliability(Reliability::Durable).build().unwrap());
    world.run();
    world.give(0, Input::Journal(JournalCondition::Full));
    world.run();
    world.advance(2 * FULL_PATIENCE_MS);
    assert_eq!(world.dead(DeadLetterReason::NotJournalled), 1, "it waited for a full journal");
    // It is new when it is sent again, and known from then on.
    world.give(0, Input::Journal(JournalCondition::Ready));
    settle(&mut world);
    send(&mut world, message());
    assert_eq!(heard.take().len(), 1);
    let last = Lsn(world.committed(0));
    world.give(0, Input::CarryForward(last));
    settle(&mut world);

    let recovery = world.journals(&[world.committed(0)], 1_000);
    let mut world = journalled(1, 2).start_from(recovery, world.now().wall);
    world.register(Script::idle().registration("sender".parse().unwrap()));
    let (_, heard) = world.add_listener(0, "receiver");
    send(&mut world, message());
    assert!(heard.is_empty(), "it was handled in the earlier run");
    world.assert_settled();
}

/// Fills the journal of a shard until nobody waits for it any more, and lets it continue.
fn stall(world: &mut World, shard: usize) {
    world.give(shard, Input::Journal(JournalCondition::Full));
    world.run();
    world.advance(2 * FULL_PATIENCE_MS);
    world.run();
    world.give(shard, Input::Journal(JournalCondition::Ready));
    settle(world);
}

#[test]
fn a_message_that_was_not_taken_in_is_new_after_a_start_as_well() {
    let id = MessageId::from_u128(7).unwrap();
    for lifetime_ms in [None, Some(500)] {
        let mut world = journalled(1, 1).start();
        let sender = world.register(Script::idle().registration("sender".parse().unwrap()));
        let (receiver, heard) = world.add_listener(0, "receiver");
        let message = || inform(sender, receiver, "once").id(id).reliability(Reliability::Durable);
        let hurried = match lifetime_ms {
            Some(lifetime_ms) => message().time_to_live(crate::common::lifetime(lifetime_ms)),
            None => message(),
        };
        world.send_later(hurried.build().unwrap());
        world.run();
        stall(&mut world, 0);
        let reason = if lifetime_ms.is_some() { DeadLetterReason::Expired } else { DeadLetterReason::NotJournalled };
        let recovery = stopped(&world);
        assert_eq!(letters(&recovery), [("once".to_owned(), reason, 0, 0)]);
        assert!(heard.is_empty());

        let mut world = started(journalled(1, 2), recovery, &world);
        world.register(Script::idle().registration("sender".parse().unwrap()));
        let (_, heard) = world.add_listener(0, "receiver");
        send(&mut world, message());
        assert_eq!(heard.texts(), ["once"], "{reason}: its sender was told that it was not kept");
    }
}

#[test]
fn who_sends_a_message_again_that_a_full_journal_gives_up_is_not_told_that_it_is_kept() {
    let id = MessageId::from_u128(7).unwrap();
    // It is given up with the journal, or expires before.
    for (lifetime_ms, reason) in [(5_000, DeadLetterReason::NotJournalled), (500, DeadLetterReason::Expired)] {
        let mut world = journalled(1, 1).start();
        let sender = world.register(Script::idle().registration("sender".parse().unwrap()));
        let (receiver, heard) = world.add_listener(0, "receiver");
        let message = || inform(sender, receiver, "once").id(id).reliability(Reliability::Durable);
        let tokens = [(); 2].map(|()| {
            let token = world.token();
            let hurried = message().time_to_live(crate::common::lifetime(lifetime_ms)).build().unwrap();
            world.give(0, Input::Send(hurried, token));
            token
        });
        world.give(0, Input::Journal(JournalCondition::Full));
        world.run();
        let time_ms = if reason == DeadLetterReason::Expired { FULL_PATIENCE_MS - 1 } else { FULL_PATIENCE_MS };
        world.advance(time_ms);
        world.give(0, Input::Journal(JournalCondition::Ready));
        settle(&mut world);
        assert_eq!(letters(&stopped(&world)), [("once".to_owned(), reason, 0, 0)]);
        for token in tokens {
            let answer = world.take_answer(0, token);
            assert!(matches!(answer, Some(Answer::NotKept(..))), "{reason}");
        }
        assert!(heard.is_empty());
        send(&mut world, message());
        assert_eq!(heard.texts(), ["once"], "{reason}: it is new");
    }
}
