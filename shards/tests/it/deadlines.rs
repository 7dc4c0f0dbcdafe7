//! Replies expected by a deadline: which reply belongs to which question, who is notified of a missing reply, and what
//! is late.

use caxton_shards::agent::Outcome;
use caxton_shards::api::{
    AskError, CONTROL_LANE_MAX, Event, InboxNumber, Input, PENDING_REPLIES_ALIKE_MAX, SendErrorKind, is_notice,
};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::message::{
    AgentId, Choice, ConversationId, Correlation, Message, MessageBuilder, Performative, TraceContext, WallTime,
};

use crate::common::{Log, Script, World, assert_refused, at, capability, inform, request, text};

fn tea() -> Correlation {
    Correlation::of_text("tea?")
}

/// A question that expects a reply within a second.
fn question(asker: AgentId, expert: AgentId) -> MessageBuilder {
    request(asker, expert, "tea?").reply_with(tea()).reply_by(at(1_000))
}

fn answer(from: AgentId, to: AgentId, content: &str) -> MessageBuilder {
    inform(from, to, content).in_reply_to(tea())
}

/// Returns what an agent received: whether it was late, and its content.
fn heard(log: &Log<Message>) -> Vec<(bool, String)> {
    log.take().iter().map(|message| (message.is_late(), text(message))).collect()
}

fn told_of_no_reply(log: &Log<Message>) -> usize {
    log.notices().iter().filter(|notice| notice.contains("(no-reply ")).count()
}

/// An asking agent on shard 0, and an agent on another shard that does not reply by itself.
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
        let missing = Event::ReplyMissing {
            asker,
            asked: Some(expert),
            message,
            conversation: None,
            trace: None,
            reply_by: at(1_000),
        };
        assert_eq!(world.take_events(0).iter().filter(|event| **event == missing).count(), 1);
        world.advance(100_000);
        assert_eq!((log.len(), world.snapshot(0).replies_missing), (0, 1), "it is told once");
        world.assert_settled();
    }
}

#[test]
fn the_report_of_a_missing_reply_has_the_conversation_and_the_trace_and_whom_only_one_was_asked() {
    let mut world = World::new(2);
    world.watch_events();
    let (asker, _, expert) = asker_and_expert(&mut world, 1);
    let other = world.add(0, "other", Script::idle());
    let talk = ConversationId::of_text("talk");
    let context = TraceContext { trace_id: [7; 16], span_id: [3; 8], flags: 1 };
    let one = question(asker, expert).conversation(talk).trace(context).build().unwrap();
    let several = question(asker, expert).receivers([expert, other]).reply_with(Correlation::of_text("both?"));
    let several = several.build().unwrap();
    world.send(one).unwrap();
    world.send(several).unwrap();
    world.advance(1_000);
    let missing = world.take_events(0).into_iter().filter_map(|event| match event {
        Event::ReplyMissing { asked, conversation, trace, .. } => Some((asked, conversation, trace)),
        _ => None,
    });
    let missing: Vec<_> = missing.collect();
    assert_eq!(missing.len(), 2);
    assert!(missing.contains(&(Some(expert), Some(talk), Some(context))), "{missing:?}");
    assert!(missing.contains(&(None, None, None)), "{missing:?}");
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
        // The first one is the reply; after it there is no question left.
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
        // Neither another agent nor another conversation can reply to it.
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
    for _ in 0..PENDING_REPLIES_ALIKE_MAX {
        world.send(question(asker, expert).build().unwrap()).unwrap();
        world.run();
    }
    let refused = SendErrorKind::TooManyQuestions { limit: PENDING_REPLIES_ALIKE_MAX };
    let back = assert_refused(world.send(question(asker, expert).build().unwrap()), refused);
    assert_eq!((text(&back), back.reply_by()), ("tea?".to_owned(), Some(at(1_000))));
    world.tell(back);
    world.run();
    assert_eq!(world.dead(DeadLetterReason::NotAdmitted), 1);
    // A message without reply-by does not count, and a reply makes room.
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
    for _ in 0..PENDING_REPLIES_ALIKE_MAX {
        world.send(question(asker, expert).build().unwrap()).unwrap();
    }
    finish.push(());
    world.run();
    assert_eq!((heard.len(), world.dead(DeadLetterReason::NotAdmitted)), (PENDING_REPLIES_ALIKE_MAX, 1));
    let notices = told.notices();
    assert!(notices.len() == 1 && notices[0].contains("not-admitted"), "{notices:?}");
    assert_eq!(world.snapshot(0).questions, PENDING_REPLIES_ALIKE_MAX);
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
    // A new agent with the same name has asked nothing.
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
        assert!(matches!(world.take_reply(0, asking), Some(Err(AskError::TimedOut))));
        assert_eq!(world.snapshot(0).questions, 0, "nobody but the caller waits");
    }
    world.assert_settled();
}
