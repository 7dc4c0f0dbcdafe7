//! Until when: answers that are wanted by a moment, the phase in which a message expires, time that a handler passes
//! on, and what everyone hears of a conversation that ends for want of traffic.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::time::Duration;

use caxton_shards::agent::{Context, Outcome};
use caxton_shards::dead_letter::Reason;
use caxton_shards::interface::{AskFailure, Event, InboxNumber, Input, Phase, SendError};
use caxton_shards::mailbox::CONTROL_LANE_MAX;
use caxton_shards::message::{
    AgentId, Choice, ConversationId, Correlation, Message, MessageBuilder, Performative, WallTime,
};
use caxton_shards::notice::is_notice;
use caxton_shards::question::QUESTIONS_ALIKE_MAX;
use common::{Log, Script, Setup, WALL_START_MS, World, assert_refused, capability, inform, lifetime, request, text};

/// So many milliseconds after the beginning, on the wall clock.
fn at(milliseconds: u64) -> WallTime {
    WallTime(WALL_START_MS + milliseconds)
}

fn tea() -> Correlation {
    Correlation::of_text("tea?")
}

/// A question whose answer is wanted within a second.
fn question(asker: AgentId, expert: AgentId) -> MessageBuilder {
    request(asker, expert, "tea?").reply_with(tea()).reply_by(at(1_000))
}

fn answer(from: AgentId, to: AgentId, content: &str) -> MessageBuilder {
    inform(from, to, content).in_reply_to(tea())
}

/// What an agent heard: whether it was late, and its content.
fn heard(log: &Log<Message>) -> Vec<(bool, String)> {
    log.take().iter().map(|message| (message.is_late(), text(message))).collect()
}

fn told_of_no_reply(log: &Log<Message>) -> usize {
    log.notices().iter().filter(|notice| notice.contains("(no-reply ")).count()
}

/// An asker on shard 0, and an agent on another shard that does not answer by itself.
fn asker_and_expert(world: &mut World, shard: u16) -> (AgentId, Log<Message>, AgentId) {
    let (asker, log) = world.add_listener(0, "asker");
    (asker, log, world.add(shard, "expert", Script::idle()))
}

#[test]
fn an_asker_hears_when_no_answer_has_come_by_the_moment_and_of_which_question() {
    for shard in 0..2 {
        let mut world = World::new(2);
        world.watch_events();
        let (asker, log, expert) = asker_and_expert(&mut world, shard);
        let message = world.send(question(asker, expert).build().unwrap()).unwrap();
        world.advance(999);
        assert_eq!(log.len(), 0);
        world.advance(1);
        let notices = log.take();
        assert_eq!((notices.len(), notices[0].performative()), (1, Performative::Failure));
        assert!(is_notice(&notices[0]));
        assert_eq!(notices[0].in_reply_to(), Some(tea()));
        let content = text(&notices[0]);
        for part in [&format!("request {message}"), &expert.to_string(), "no reply came by 20231114T221321000Z"] {
            assert!(content.contains(part), "{content}");
        }
        let missing = Event::ReplyMissing { asker, message, reply_by: at(1_000) };
        assert_eq!(world.take_events(0).iter().filter(|event| **event == missing).count(), 1);
        world.advance(100_000);
        assert_eq!((log.len(), world.snapshot(0).replies_missing), (0, 1), "it is told once");
        world.assert_settled();
    }
}

#[test]
fn an_answer_in_time_is_all_that_the_asker_hears() {
    for shard in 0..2 {
        for performative in [Performative::Inform, Performative::Agree, Performative::Refuse, Performative::Failure] {
            let mut world = World::new(2);
            let (asker, log, expert) = asker_and_expert(&mut world, shard);
            world.send(question(asker, expert).build().unwrap()).unwrap();
            world.advance(1_000 - 1);
            let reply = Message::builder(performative).sender(expert).receiver(asker).in_reply_to(tea()).content("yes");
            world.send(reply.build().unwrap()).unwrap();
            world.run();
            assert_eq!((world.snapshot(0).questions, world.snapshot(0).timers), (0, 0), "{performative}");
            world.advance(100_000);
            assert_eq!(heard(&log), [(false, "yes".to_owned())], "{performative}");
            world.assert_settled();
        }
    }
}

#[test]
fn a_late_answer_is_delivered_and_marked_once() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (asker, log, expert) = asker_and_expert(&mut world, shard);
        world.send(question(asker, expert).build().unwrap()).unwrap();
        world.advance(2_000);
        assert_eq!(told_of_no_reply(&log), 1);
        log.take();
        for content in ["here", "and another thing"] {
            world.send(answer(expert, asker, content).build().unwrap()).unwrap();
            world.run();
        }
        // The first one is the answer; there is no question left for what comes behind it.
        assert_eq!(heard(&log), [(true, "here".to_owned()), (false, "and another thing".to_owned())]);
        let snapshot = world.snapshot(0);
        assert_eq!((snapshot.replies_missing, snapshot.replies_late, snapshot.questions), (1, 1, 0));
        world.assert_settled();
    }
}

#[test]
fn an_answer_that_arrives_with_its_missed_moment_comes_late_and_behind_the_notice() {
    let mut world = World::new(2);
    let (asker, log, expert) = asker_and_expert(&mut world, 1);
    world.send(question(asker, expert).build().unwrap()).unwrap();
    world.run();
    world.pause(0, true);
    world.advance(2_000);
    world.send(answer(expert, asker, "here").build().unwrap()).unwrap();
    world.run();
    world.pause(0, false);
    world.run();
    let heard = heard(&log);
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].1.contains("no-reply") && heard[1] == (true, "here".to_owned()), "{heard:?}");
    world.assert_settled();
}

#[test]
fn an_overdue_question_is_forgotten_after_the_time_that_conversations_have() {
    let mut world = World::new(1);
    let (asker, log, expert) = asker_and_expert(&mut world, 0);
    world.send(question(asker, expert).build().unwrap()).unwrap();
    world.advance(1_000 + 9_999);
    assert_eq!(world.snapshot(0).questions, 1);
    world.advance(1);
    assert_eq!((world.snapshot(0).questions, world.snapshot(0).timers), (0, 0));
    log.take();
    world.send(answer(expert, asker, "here").build().unwrap()).unwrap();
    world.run();
    assert_eq!(heard(&log), [(false, "here".to_owned())]);
    world.assert_settled();
}

#[test]
fn without_reply_with_the_next_message_of_the_asked_agent_in_the_conversation_is_the_answer() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (asker, log, expert) = asker_and_expert(&mut world, shard);
        let other = world.add(0, "other", Script::idle());
        let id = ConversationId::of_text("talk");
        let ask = request(asker, expert, "tea?").conversation(id).reply_by(at(1_000));
        world.send(ask.build().unwrap()).unwrap();
        let join = inform(asker, other, "listen").conversation(id);
        world.send(join.build().unwrap()).unwrap();
        world.run();
        // Neither another agent nor another conversation answers it.
        let role = caxton_shards::message::ConversationRole::Participant;
        world.send(inform(other, asker, "x").conversation_as(id, role).build().unwrap()).unwrap();
        world.send(inform(expert, asker, "y").build().unwrap()).unwrap();
        world.run();
        assert_eq!(world.snapshot(0).questions, 1);
        world.send(inform(expert, asker, "yes").conversation_as(id, role).build().unwrap()).unwrap();
        world.run();
        assert_eq!(world.snapshot(0).questions, 0);
        world.advance(2_000);
        assert_eq!((told_of_no_reply(&log), world.snapshot(0).replies_missing), (0, 0));
    }
}

#[test]
fn without_reply_with_and_conversation_it_is_the_next_message_outside_any() {
    let mut world = World::new(2);
    let (asker, log, expert) = asker_and_expert(&mut world, 1);
    let ask = || request(asker, expert, "tea?").reply_by(at(1_000)).build().unwrap();
    world.send(ask()).unwrap();
    world.send(ask()).unwrap();
    world.send(inform(expert, asker, "to the first").build().unwrap()).unwrap();
    world.advance(2_000);
    assert_eq!(told_of_no_reply(&log), 1, "one message answers one question");
    world.assert_settled();
}

#[test]
fn a_question_that_an_agent_puts_to_itself_does_not_answer_itself() {
    let mut world = World::new(1);
    let (asker, log) = world.add_listener(0, "asker");
    world.send(request(asker, asker, "tea?").reply_by(at(1_000)).build().unwrap()).unwrap();
    world.advance(1_000);
    assert_eq!(told_of_no_reply(&log), 1);
    world.assert_settled();
}

#[test]
fn questions_with_the_same_reply_with_are_answered_by_whom_they_were_put_to() {
    let mut world = World::new(2);
    let (asker, log, expert) = asker_and_expert(&mut world, 1);
    let other = world.add(1, "other", Script::idle());
    world.send(question(asker, expert).build().unwrap()).unwrap();
    world.send(question(asker, other).build().unwrap()).unwrap();
    world.run();
    world.send(answer(other, asker, "yes").build().unwrap()).unwrap();
    world.advance(1_000);
    let notices = log.notices();
    assert!(notices.len() == 1 && notices[0].contains(&expert.to_string()), "{notices:?}");
    world.assert_settled();
}

#[test]
fn a_question_to_several_is_answered_when_one_answers_and_later_answers_are_late() {
    for to_all in [false, true] {
        let mut world = World::new(2);
        let (asker, log) = world.add_listener(0, "asker");
        let agents = [(0, "one"), (1, "two"), (1, "three")].map(|(shard, name)| {
            let name = world.name_on(shard, name);
            world.register(Script::idle().offering("tea").registration(name))
        });
        let builder = Message::builder(Performative::Cfp).sender(asker).reply_with(tea()).reply_by(at(1_000));
        let builder =
            if to_all { builder.capability(&capability("tea"), Choice::All) } else { builder.receivers(agents) };
        world.send(builder.build().unwrap()).unwrap();
        world.run();
        world.send(answer(agents[0], asker, "first").build().unwrap()).unwrap();
        world.advance(2_000);
        world.send(answer(agents[1], asker, "second").build().unwrap()).unwrap();
        world.run();
        world.send(answer(agents[2], asker, "third").build().unwrap()).unwrap();
        world.advance(100_000);
        let expected = [(false, "first"), (true, "second"), (true, "third")];
        assert_eq!(heard(&log), expected.map(|(late, content)| (late, content.to_owned())));
        assert_eq!((world.snapshot(0).questions, world.snapshot(0).timers), (0, 0));
        world.assert_settled();
    }
}

#[test]
fn a_question_to_several_that_nobody_answers_is_told_of_once() {
    let mut world = World::new(2);
    let (asker, log) = world.add_listener(0, "asker");
    let agents = [(0, "one"), (1, "two"), (1, "three")].map(|(shard, name)| world.add(shard, name, Script::idle()));
    let builder = Message::builder(Performative::Cfp).sender(asker).receivers(agents).reply_with(tea());
    world.send(builder.reply_by(at(1_000)).build().unwrap()).unwrap();
    world.advance(100_000);
    assert_eq!((log.len(), told_of_no_reply(&log)), (1, 1));
    world.assert_settled();
}

#[test]
fn an_asker_that_heard_that_its_question_was_not_delivered_is_not_told_again() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (asker, log) = world.add_listener(0, "asker");
        let nobody = AgentId::of(&world.name_on(shard, "nobody"));
        world.send(question(asker, nobody).build().unwrap()).unwrap();
        world.advance(10_000);
        let notices = log.notices();
        assert!(notices.len() == 1 && notices[0].contains("unknown-receiver"), "{notices:?}");
        assert_eq!((world.snapshot(0).questions, world.snapshot(0).timers), (0, 0));
        world.assert_settled();
    }
}

#[test]
fn a_receipt_is_no_answer_by_a_moment_either() {
    let mut world = World::new(2);
    let (asker, log, expert) = asker_and_expert(&mut world, 1);
    let receipt = caxton_shards::message::Receipt::Processed;
    world.send(question(asker, expert).receipt(receipt).build().unwrap()).unwrap();
    world.advance(1_000);
    assert_eq!((log.len(), told_of_no_reply(&log)), (2, 1));
    world.assert_settled();
}

#[test]
fn jumps_of_the_wall_clock_after_a_question_was_sent_move_nothing() {
    for jump_ms in [-3_600_000, 3_600_000] {
        let mut world = World::new(2);
        let (asker, log, expert) = asker_and_expert(&mut world, 1);
        world.send(question(asker, expert).build().unwrap()).unwrap();
        world.jump_wall_clock(jump_ms);
        world.advance(999);
        assert_eq!(log.len(), 0);
        world.advance(1);
        assert_eq!(told_of_no_reply(&log), 1);
        world.assert_settled();
    }
}

#[test]
fn a_moment_that_has_passed_already_is_told_of_at_once_and_one_beyond_all_time_never_comes() {
    let mut world = World::new(2);
    let (asker, log, expert) = asker_and_expert(&mut world, 1);
    world.jump_wall_clock(5_000);
    world.send(question(asker, expert).build().unwrap()).unwrap();
    world.run();
    assert_eq!((told_of_no_reply(&log), world.total().processed), (1, 1), "the question is delivered all the same");
    let never = request(asker, expert, "x").reply_by(WallTime(u64::MAX)).build().unwrap();
    world.send(never).unwrap();
    world.advance(400 * 86_400_000);
    assert_eq!((log.len(), world.snapshot(0).questions), (1, 1));
}

#[test]
fn a_failed_handlers_questions_were_never_asked() {
    let mut world = World::new(1);
    let (expert, told) = world.add_listener(0, "expert");
    let log = Log::new();
    let hears = log.clone();
    let mut attempts = 0;
    let asker = world.add(
        0,
        "asker",
        Script::new(move |message, context| {
            if is_notice(message) {
                hears.push(message.clone());
                return Outcome::Done;
            }
            context.send(question(context.id(), expert).build().unwrap()).unwrap();
            attempts += 1;
            if attempts == 1 { Outcome::failed("not yet") } else { Outcome::Done }
        }),
    );
    world.send(inform(asker, asker, "go").build().unwrap()).unwrap();
    world.run();
    assert_eq!((world.snapshot(0).questions, told.len()), (0, 0));
    world.advance(10_000);
    assert_eq!((told.len(), told_of_no_reply(&log)), (1, 1));
    world.assert_settled();
}

#[test]
fn an_inbox_hears_that_no_answer_came_too() {
    let mut world = World::new(2);
    let expert = world.add(1, "expert", Script::idle());
    let inbox = world.add_inbox(0, "inbox", 7, 5);
    world.send(question(inbox, expert).build().unwrap()).unwrap();
    world.advance(1_500);
    world.send(answer(expert, inbox, "here").build().unwrap()).unwrap();
    world.run();
    let delivered = world.take_delivered(0);
    assert!(delivered.len() == 2 && text(&delivered[0]).contains("no-reply") && delivered[1].is_late());
    world.give(0, Input::Taken { agent: inbox, inbox: InboxNumber(7), messages: 1, notices: 1 });
    world.run();
    world.assert_settled();
}

#[test]
fn no_report_of_a_missing_answer_is_lost_to_a_full_control_lane() {
    let mut world = World::new(1);
    let expert = world.add(0, "expert", Script::idle());
    let inbox = world.add_inbox(0, "inbox", 7, 1);
    let count = usize::from(CONTROL_LANE_MAX) + 20;
    for number in 0..count {
        let correlation = Correlation::of_text(&format!("question {number}"));
        world.send(question(inbox, expert).reply_with(correlation).build().unwrap()).unwrap();
        world.run();
    }
    world.advance(1_000);
    let mut told = std::collections::HashSet::new();
    for _ in 0..count {
        for notice in world.take_delivered(0) {
            assert!(told.insert(notice.in_reply_to().unwrap()), "each is told once");
            world.give(0, Input::Taken { agent: inbox, inbox: InboxNumber(7), messages: 0, notices: 1 });
        }
        world.advance(100);
    }
    assert_eq!((told.len(), world.total().notices_coalesced), (count, 0));
    world.assert_settled();
}

#[test]
fn too_many_questions_alike_are_refused_and_given_back() {
    let mut world = World::new(1);
    let (asker, _, expert) = asker_and_expert(&mut world, 0);
    for _ in 0..QUESTIONS_ALIKE_MAX {
        world.send(question(asker, expert).build().unwrap()).unwrap();
        world.run();
    }
    let refused = SendError::TooManyQuestions { limit: QUESTIONS_ALIKE_MAX };
    let back = assert_refused(world.send(question(asker, expert).build().unwrap()), refused);
    assert_eq!((text(&back), back.reply_by()), ("tea?".to_owned(), Some(at(1_000))));
    world.tell(back);
    world.run();
    assert_eq!(world.dead(Reason::NotAdmitted), 1);
    // A message without reply-by is none of them, and an answer makes room.
    world.send(request(asker, expert, "x").build().unwrap()).unwrap();
    world.send(answer(expert, asker, "yes").build().unwrap()).unwrap();
    world.run();
    world.send(question(asker, expert).build().unwrap()).unwrap();
    world.run();
    world.assert_settled();
}

#[test]
fn a_question_for_which_there_is_no_room_any_more_when_its_handler_is_done_becomes_a_dead_letter() {
    let mut world = World::new(1);
    let (expert, heard) = world.add_listener(0, "expert");
    let (told, finish) = (Log::new(), Log::new());
    let (log, finished) = (told.clone(), finish.clone());
    let script = Script::new(move |message, context| {
        if is_notice(message) {
            log.push(message.clone());
            return Outcome::Done;
        }
        context.send(question(context.id(), expert).build().unwrap()).unwrap();
        Outcome::Suspended
    });
    let script = script.resuming(move |_, _| if finished.is_empty() { Outcome::Suspended } else { Outcome::Done });
    let asker = world.add(0, "asker", script);
    world.send(inform(expert, asker, "go").build().unwrap()).unwrap();
    for _ in 0..QUESTIONS_ALIKE_MAX {
        world.send(question(asker, expert).build().unwrap()).unwrap();
    }
    finish.push(());
    world.run();
    assert_eq!((heard.len(), world.dead(Reason::NotAdmitted)), (QUESTIONS_ALIKE_MAX, 1));
    let notices = told.notices();
    assert!(notices.len() == 1 && notices[0].contains("not-admitted"), "{notices:?}");
    assert_eq!(world.snapshot(0).questions, QUESTIONS_ALIKE_MAX);
    world.assert_settled();
}

#[test]
fn an_askers_questions_go_with_it() {
    let mut world = World::new(2);
    let (asker, _, expert) = asker_and_expert(&mut world, 1);
    for number in 0..5 {
        let correlation = Correlation::of_text(&number.to_string());
        world.send(question(asker, expert).reply_with(correlation).build().unwrap()).unwrap();
    }
    world.run();
    assert_eq!(world.snapshot(0).questions, 5);
    world.deregister(asker);
    assert_eq!((world.snapshot(0).questions, world.snapshot(0).timers), (0, 0));
    // An agent of the same name has asked nothing.
    let (again, log) = world.add_listener(0, "asker");
    assert_eq!(again, asker);
    world.advance(10_000);
    assert_eq!(log.len(), 0);
    world.assert_settled();
}

#[test]
fn what_was_asked_in_a_conversation_is_forgotten_when_the_asker_closes_it() {
    let mut world = World::new(2);
    let told = Log::new();
    let expert = world.add(1, "expert", Script::idle());
    let (closing, hears) = (ConversationId::of_text("closing"), told.clone());
    let asker = world.add(
        0,
        "asker",
        Script::new(move |message, context| {
            if is_notice(message) {
                hears.push(message.clone());
            } else {
                context.close_conversation(closing);
            }
            Outcome::Done
        }),
    );
    let other = ConversationId::of_text("other");
    for id in [closing, other] {
        world.send(question(asker, expert).conversation(id).build().unwrap()).unwrap();
    }
    world.run();
    world.send(inform(expert, asker, "go").build().unwrap()).unwrap();
    world.run();
    assert_eq!(world.snapshot(0).questions, 1);
    world.advance(1_000);
    let notices = told.take();
    assert_eq!((notices.len(), notices[0].conversation()), (1, Some(other)));
}

#[test]
fn what_the_initiator_asked_in_a_conversation_is_forgotten_when_it_times_out() {
    let mut world = World::new(2);
    let (asker, log, expert) = asker_and_expert(&mut world, 1);
    let ask = question(asker, expert).reply_by(at(60_000)).conversation(ConversationId::of_text("talk"));
    world.send(ask.build().unwrap()).unwrap();
    world.advance(10_000);
    assert_eq!((world.snapshot(0).questions, log.notices().len()), (0, 1));
    world.advance(100_000);
    assert_eq!(told_of_no_reply(&log), 0);
    world.assert_settled();
}

#[test]
fn an_asker_by_text_gets_its_own_words_back() {
    let mut world = World::new(2);
    let (asker, log, expert) = asker_and_expert(&mut world, 1);
    let ask = request(asker, expert, "tea?").conversation_text("my talk").reply_with_text("my question");
    world.send(ask.reply_by(at(1_000)).build().unwrap()).unwrap();
    world.advance(1_000);
    let notices = log.take();
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].in_reply_to_text().as_deref(), Some("my question"));
    assert_eq!(notices[0].conversation_text().as_deref(), Some("my talk"));
}

#[test]
fn a_stop_forgets_all_questions() {
    let mut world = World::new(2);
    let (asker, log, expert) = asker_and_expert(&mut world, 1);
    world.send(question(asker, expert).build().unwrap()).unwrap();
    world.run();
    world.stop_all();
    world.advance(10_000);
    assert_eq!((world.snapshot(0).questions, log.len()), (0, 0));
    world.assert_settled();
}

#[test]
fn the_reply_by_of_a_question_from_outside_shortens_its_timeout() {
    let mut world = World::new(2);
    let expert = world.add(1, "expert", Script::idle());
    for (reply_by, times_out_ms) in [(at(1_000), 1_000), (at(60_000), 5_000)] {
        let mut ask = Message::builder(Performative::Request).receiver(expert);
        ask = ask.reply_by(WallTime(reply_by.0 + world.now_ms));
        let asking = world.ask(0, ask.build().unwrap(), 5_000);
        world.advance(times_out_ms - 1);
        assert!(world.take_reply(0, asking).is_none());
        world.advance(1);
        assert!(matches!(world.take_reply(0, asking), Some(Err(AskFailure::TimedOut))));
        assert_eq!(world.snapshot(0).questions, 0, "nobody but the caller waits");
    }
    world.assert_settled();
}

// In which phase a message expires.

fn phases(world: &mut World) -> Vec<Phase> {
    let shards = 0..world.nodes.len();
    let events: Vec<Event> = shards.flat_map(|shard| world.take_events(shard)).collect();
    let phase = |event: &Event| if let Event::Expired { phase, .. } = event { Some(*phase) } else { None };
    events.iter().filter_map(phase).collect()
}

/// That one message expired, in this phase: by the event, the counters and what its sender was told.
#[track_caller]
fn assert_expired(world: &mut World, told: &Log<Message>, phase: Phase) {
    assert_eq!(phases(world), [phase]);
    let total = world.total();
    let mut expected = [0; Phase::COUNT];
    expected[phase.index()] = 1;
    assert_eq!((total.expired, total.expired_by_phase), (1, expected));
    let notices = told.notices();
    assert!(notices.len() == 1 && notices[0].contains("(expired "), "{notices:?}");
    assert!(notices[0].contains(phase.explanation()), "{notices:?}");
}

fn mortal(from: AgentId, to: AgentId) -> MessageBuilder {
    inform(from, to, "x").time_to_live(lifetime(1_000))
}

#[test]
fn what_waits_for_credit_expires_while_crossing() {
    let mut world = Setup::new(2).lanes(1, 1).start();
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let far = world.add(1, "far", Script::idle());
    world.pause(1, true);
    world.send(inform(sender, far, "takes the credit").build().unwrap()).unwrap();
    world.send(mortal(sender, far).build().unwrap()).unwrap();
    world.advance(3_000);
    assert_expired(&mut world, &told, Phase::Crossing);
    world.pause(1, false);
    world.run();
    world.assert_settled();
}

#[test]
fn what_is_in_a_ring_for_too_long_expires_while_crossing() {
    let mut world = World::new(2);
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let far = world.add(1, "far", Script::idle());
    world.pause(1, true);
    world.send(mortal(sender, far).build().unwrap()).unwrap();
    world.advance(1_000);
    world.pause(1, false);
    world.run();
    assert_expired(&mut world, &told, Phase::Crossing);
    world.assert_settled();
}

#[test]
fn what_waits_in_transit_at_the_conversations_home_expires_while_crossing() {
    let mut world = Setup::new(3).lanes(1, 1).start();
    world.watch_events();
    let id = ConversationId::of_text("talk");
    let initiator = world.add(1, "initiator", Script::idle());
    let (sender, told) = world.add_listener(0, "sender");
    let far = world.add(2, "far", Script::idle());
    for participant in [sender, far] {
        world.send(inform(initiator, participant, "join").conversation(id).build().unwrap()).unwrap();
        world.run();
    }
    told.take();
    world.pause(2, true);
    // Takes the only credit from the home to the paused shard.
    world.send(inform(initiator, far, "x").conversation(id).build().unwrap()).unwrap();
    world.run();
    for _ in 0..2 {
        world.send(mortal(sender, far).conversation_of(id, initiator).build().unwrap()).unwrap();
        world.run();
    }
    world.advance(3_000);
    world.pause(2, false);
    world.run();
    let total = world.total();
    assert!(total.expired > 0 && told.notices().iter().all(|notice| notice.contains(Phase::Crossing.explanation())));
    assert_eq!(total.expired_by_phase[Phase::Crossing.index()], total.expired);
    assert!(phases(&mut world).iter().all(|phase| *phase == Phase::Crossing));
    world.assert_settled();
}

#[test]
fn what_an_inbox_does_not_take_expires_in_the_mailbox() {
    let mut world = World::new(2);
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let inbox = world.add_inbox(1, "inbox", 7, 1);
    world.send(inform(sender, inbox, "fills it").build().unwrap()).unwrap();
    world.send(mortal(sender, inbox).build().unwrap()).unwrap();
    world.advance(3_000);
    assert_expired(&mut world, &told, Phase::Mailbox);
}

#[test]
fn what_fails_and_has_no_time_for_another_attempt_expires_while_it_waits_for_it() {
    let mut world = Setup::new(2).configured(|config| config.retry.delay_ms = 5_000).start();
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let failing = world.add(1, "failing", Script::new(|_, _| Outcome::failed("no")));
    // That it had a moment of delivery as well is of the past.
    world.send(mortal(sender, failing).deliver_at(at(500)).build().unwrap()).unwrap();
    world.advance(1_499);
    assert_eq!(world.total().expired, 0);
    world.advance(1);
    assert_expired(&mut world, &told, Phase::Retry);
    world.assert_settled();
}

#[test]
fn a_message_for_later_does_not_outlive_its_lifetime_when_the_wall_clock_jumps_back_on_its_way() {
    let mut world = World::new(2);
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let (far, heard) = world.add_listener(1, "far");
    world.pause(1, true);
    world.send(mortal(sender, far).deliver_at(at(500)).build().unwrap()).unwrap();
    world.jump_wall_clock(-3_600_000);
    world.pause(1, false);
    world.advance(1_499);
    assert_eq!(world.total().expired, 0);
    world.advance(1);
    assert_expired(&mut world, &told, Phase::Delayed);
    assert_eq!(heard.len(), 0);
    world.assert_settled();
}

#[test]
fn a_jump_of_the_wall_clock_does_not_move_a_message_that_is_held_for_its_moment() {
    for jump_ms in [-3_600_000, 3_600_000] {
        let mut world = World::new(1);
        let (agent, heard) = world.add_listener(0, "agent");
        world.send(mortal(agent, agent).deliver_at(at(500)).build().unwrap()).unwrap();
        world.run();
        world.jump_wall_clock(jump_ms);
        world.advance(499);
        assert_eq!(heard.len(), 0);
        world.advance(1);
        assert_eq!(heard.len(), 1);
        world.assert_settled();
    }
}

// Time that a handler passes on.

/// What one agent hears after another was sent `incoming` and, having got it after 700 ms, sent `build` on its behalf:
/// how long it still has, and its reply-by.
fn passed_on(
    incoming: impl Fn(MessageBuilder) -> MessageBuilder,
    build: impl Fn(MessageBuilder) -> MessageBuilder + Send + 'static,
) -> (u64, Option<WallTime>) {
    let mut world = World::new(2);
    let sender = world.add(0, "sender", Script::idle());
    let log = Log::new();
    let hears = log.clone();
    let last = world.add(
        0,
        "last",
        Script::new(move |message, context| {
            hears.push((remaining_ms(context, message), message.reply_by()));
            Outcome::Done
        }),
    );
    let middle = world.add(
        1,
        "middle",
        Script::new(move |message, context| {
            if !is_notice(message) {
                let builder = build(Message::builder(Performative::Request).receiver(last).content("on"));
                context.send(context.pass_deadline(message, builder).build().unwrap()).unwrap();
            }
            Outcome::Done
        }),
    );
    world.pause(1, true);
    world.send(incoming(inform(sender, middle, "x")).build().unwrap()).unwrap();
    world.advance(700);
    world.pause(1, false);
    world.advance(100);
    let passed_on = log.take();
    assert_eq!(passed_on.len(), 1);
    passed_on[0]
}

fn remaining_ms(context: &Context<'_>, message: &Message) -> u64 {
    u64::try_from(context.remaining(message).as_millis()).unwrap_or(u64::MAX)
}

fn a_second(builder: MessageBuilder) -> MessageBuilder {
    builder.time_to_live(lifetime(1_000))
}

#[test]
fn what_is_left_of_a_second_is_all_that_the_message_sent_on_its_behalf_has() {
    assert_eq!(passed_on(a_second, |builder| builder), (300, None));
}

#[test]
fn a_shorter_lifetime_stays_and_a_longer_one_is_cut() {
    let within = |milliseconds| move |builder: MessageBuilder| builder.within(Duration::from_millis(milliseconds));
    assert_eq!(passed_on(a_second, within(250)), (250, None));
    assert_eq!(passed_on(a_second, within(5_000)), (300, None));
}

#[test]
fn more_time_than_the_router_gives_is_not_passed_on() {
    let minutes = |builder: MessageBuilder| builder.time_to_live(lifetime(300_000));
    assert_eq!(passed_on(minutes, |builder| builder), (30_000, None));
    // One that is asked for is granted within what is left.
    assert_eq!(passed_on(minutes, minutes), (299_300, None));
}

#[test]
fn a_reply_by_ends_the_time_too_and_cuts_another_one_but_makes_none() {
    let incoming = |builder| a_second(builder).reply_by(at(900));
    assert_eq!(passed_on(incoming, |builder| builder), (200, None));
    let later = |builder: MessageBuilder| builder.reply_by(at(5_000));
    assert_eq!(passed_on(incoming, later), (200, Some(at(900))));
    let earlier = |builder: MessageBuilder| builder.reply_by(at(850));
    assert_eq!(passed_on(incoming, earlier), (150, Some(at(850))));
}

#[test]
fn a_message_for_later_has_what_is_left_from_then() {
    // It is heard at 800 ms of a time that ends at 1,000 ms.
    assert_eq!(passed_on(a_second, |builder| builder.deliver_at(at(800))), (200, None));
}

#[test]
fn less_than_a_millisecond_is_one_and_a_copy_knows_what_is_left() {
    let mut world = World::new(1);
    let (sender, told) = world.add_listener(0, "sender");
    let inbox = world.add_inbox(0, "inbox", 7, 1);
    let left = Log::new();
    let log = left.clone();
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, context| {
            log.push((remaining_ms(context, message), remaining_ms(context, &message.clone())));
            Outcome::Done
        }),
    );
    let short = |to| inform(sender, to, "x").within(Duration::from_micros(1)).build().unwrap();
    world.send(short(agent)).unwrap();
    assert_eq!(left.take(), [(1, 1)]);
    world.send(short(inbox)).unwrap();
    world.send(short(inbox)).unwrap();
    world.run();
    world.now_ms += 1;
    world.give(0, Input::Taken { agent: inbox, inbox: InboxNumber(7), messages: 1, notices: 0 });
    world.run();
    assert_eq!((world.total().expired, told.notices().len()), (1, 1));
    world.assert_settled();
}

#[test]
fn a_notice_of_the_router_has_all_the_time_and_limits_nothing() {
    let mut world = World::new(1);
    let (last, heard) = world.add_listener(0, "last");
    let log = Log::new();
    let left = log.clone();
    let agent = world.add(
        0,
        "agent",
        Script::new(move |message, context| {
            left.push(context.remaining(message));
            let builder = Message::builder(Performative::Inform).receiver(last).content("on");
            context.send(context.pass_deadline(message, builder).build().unwrap()).unwrap();
            Outcome::Done
        }),
    );
    world.send(inform(agent, AgentId::of_text("nobody"), "x").build().unwrap()).unwrap();
    world.run();
    assert_eq!(log.take(), [Duration::MAX]);
    assert_eq!(heard.texts(), ["on"]);
    world.assert_settled();
}

// Conversations that end for want of traffic.

#[test]
fn everyone_who_took_part_hears_of_a_timeout_wherever_it_lives() {
    let mut world = World::new(3);
    let id = ConversationId::of_text("talk");
    let (initiator, log) = world.add_listener(0, "initiator");
    let mut logs = vec![log];
    for shard in 0..3 {
        let (participant, log) = world.add_listener(shard, "participant");
        world.send(inform(initiator, participant, "x").conversation(id).build().unwrap()).unwrap();
        logs.push(log);
    }
    let (_, outsider) = world.add_listener(1, "outsider");
    world.run();
    for log in &logs {
        log.take();
    }
    world.advance(9_999);
    assert!(logs.iter().all(Log::is_empty));
    world.advance(1);
    for log in &logs {
        let notices = log.take();
        assert_eq!((notices.len(), notices[0].performative()), (1, Performative::Failure));
        assert!(is_notice(&notices[0]) && text(&notices[0]).contains("(timed-out "));
        assert_eq!(notices[0].conversation(), Some(id));
    }
    assert_eq!(outsider.len(), 0);
    world.advance(100_000);
    assert!(logs.iter().all(Log::is_empty), "it is told once");
    world.assert_settled();
}

#[test]
fn a_participant_hears_whose_conversation_has_ended_and_cannot_go_on_with_it() {
    let mut world = World::new(2);
    let id = ConversationId::of_text("talk");
    let (initiator, heard) = world.add_listener(0, "initiator");
    let (participant, log) = world.add_listener(1, "participant");
    world.send(inform(initiator, participant, "x").conversation(id).build().unwrap()).unwrap();
    world.advance(10_000);
    let letters = log.take();
    assert_eq!((letters.len(), letters[1].initiator()), (2, Some(initiator)));
    heard.take();
    world.send(letters[0].reply(Performative::Inform).build().unwrap()).unwrap();
    world.run();
    assert_eq!((heard.len(), world.dead(Reason::NotInConversation)), (0, 1));
    world.assert_settled();
}

#[test]
fn answers_to_the_report_of_a_timeout_end_without_another_one() {
    let mut world = World::new(2);
    let parrot = || {
        Script::new(|message, context| {
            if is_notice(message) {
                context.send(message.reply(Performative::NotUnderstood).build().unwrap()).unwrap();
            }
            Outcome::Done
        })
    };
    let [initiator, participant] =
        [(0, "initiator"), (1, "participant")].map(|(shard, name)| world.add(shard, name, parrot()));
    let id = ConversationId::of_text("talk");
    world.send(inform(initiator, participant, "x").conversation(id).build().unwrap()).unwrap();
    world.advance(100_000);
    assert_eq!(world.total().notices, 2);
    world.assert_settled();
}

#[test]
fn conversations_end_though_the_ring_to_the_participants_has_little_room() {
    let mut world = Setup::new(2).lanes(64, 1).start();
    let (initiator, told) = world.add_listener(0, "initiator");
    let participants: Vec<_> = (0..9).map(|number| world.add_listener(1, &format!("p-{number}"))).collect();
    for number in 0..20 {
        let id = ConversationId::of_text(&number.to_string());
        for (participant, _) in &participants {
            world.send(inform(initiator, *participant, "x").conversation(id).build().unwrap()).unwrap();
            world.run();
        }
    }
    world.advance(10_000);
    assert_eq!(told.notices().len(), 20);
    assert!(participants.iter().all(|(_, log)| log.notices().len() == 20));
    world.assert_settled();
}
