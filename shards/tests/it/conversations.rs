//! Conversations: who may take part, how they end, and how their messages find them from any shard.

use std::num::NonZeroU64;

use caxton_shards::agent::Outcome;
use caxton_shards::api::{Event, is_notice};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, Aid, ConversationId, ConversationRole, Correlation, Message, Performative};

use crate::common::{Log, Script, Setup, World, inform, request, text};

fn correlation(number: u64) -> Correlation {
    Correlation::new(NonZeroU64::new(number).unwrap())
}

/// Closes the conversation of every message that says "close", and logs the rest.
fn closing(log: &Log<Message>) -> Script {
    let log = log.clone();
    Script::new(move |message, context| {
        if text(message) == "close" {
            context.close_conversation_of(message);
        } else {
            log.push(message.clone());
        }
        Outcome::Done
    })
}

#[test]
fn a_conversation_begins_with_its_initiators_message_and_remembers_who_said_what() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (initiator, answers) = world.add_listener(0, "initiator");
        let participant = world.add(shard, "participant", Script::echo());
        let id = ConversationId::of_text("talk");
        let question = request(initiator, participant, "tea?").conversation(id).reply_with(correlation(7));
        let asked = world.send(question.build().unwrap()).unwrap();
        if shard == 1 {
            assert_eq!(world.conversation(initiator, id).unwrap().awaited, [correlation(7)]);
        }
        world.run();
        let answer = answers.take().pop().unwrap();
        assert_eq!((answer.conversation(), answer.in_reply_to()), (Some(id), Some(correlation(7))));
        let view = world.conversation(initiator, id).unwrap();
        assert_eq!(view.participants, [initiator, participant]);
        assert_eq!((view.messages, view.awaited.len(), view.history.len()), (2, 0, 2));
        assert_eq!((view.history[0].message, view.history[0].answers), (asked, false));
        assert_eq!((view.history[1].from, view.history[1].to, view.history[1].answers), (1, 0, true));
        assert!(world.conversation(participant, id).is_none(), "it lives with its initiator");
        world.assert_settled();
    }
}

#[test]
fn an_outsider_cannot_speak_in_a_conversation_and_a_participant_can() {
    let mut world = World::new(2);
    let (initiator, heard) = world.add_listener(0, "initiator");
    let participant = world.add(1, "participant", Script::idle());
    let outsider = world.add(1, "outsider", Script::idle());
    let id = ConversationId::of_text("talk");
    world.send(inform(initiator, participant, "hello").conversation(id).build().unwrap()).unwrap();
    world.run();
    for sender in [participant, outsider] {
        let message = inform(sender, initiator, "hi").conversation_as(id, ConversationRole::Participant);
        world.send(message.build().unwrap()).unwrap();
    }
    // A message that claims to belong to a conversation without naming its initiator belongs to none.
    let message = inform(outsider, initiator, "hi").conversation_as(id, ConversationRole::Member);
    world.send(message.build().unwrap()).unwrap();
    world.run();
    assert_eq!((heard.len(), world.dead(DeadLetterReason::NotInConversation)), (1, 2));
    world.assert_settled();
}

#[test]
fn a_conversation_has_room_for_so_many_participants_and_a_shard_for_so_many_conversations() {
    let mut world = Setup::new(2)
        .configured(|config| {
            config.conversations.participants_max = 3;
            config.conversations.open_max = 2;
        })
        .start();
    let (initiator, told) = world.add_listener(0, "initiator");
    let others: Vec<AgentId> =
        (0..3).map(|number| world.add(number % 2, &format!("other-{number}"), Script::idle())).collect();
    let id = ConversationId::of_text("talk");
    let all = Message::builder(Performative::Cfp).sender(initiator).receivers(others.clone()).conversation(id);
    world.send(all.build().unwrap()).unwrap();
    world.run();
    let notices = told.notices();
    assert_eq!((world.dead(DeadLetterReason::TooManyParticipants), notices.len()), (3, 3));
    assert!(notices[0].contains("would have 4 participants: the limit is 3; nobody got it"), "{}", notices[0]);
    assert!(world.conversation(initiator, id).is_none(), "all of them are called, or none");
    let two = Message::builder(Performative::Cfp).sender(initiator).receivers([others[0], others[1], others[0]]);
    world.send(two.conversation(id).build().unwrap()).unwrap();
    world.run();
    let all = Message::builder(Performative::Cfp).sender(initiator).receivers(others.clone());
    world.send(all.conversation_text(&id.to_string()).build().unwrap()).unwrap();
    world.run();
    assert_eq!((world.dead(DeadLetterReason::TooManyParticipants), told.notices().len()), (6, 6));
    assert_eq!(world.conversation(initiator, id).unwrap().participants.len(), 3);
    for talk in ["second", "third"] {
        let message = inform(initiator, others[0], "x").conversation(ConversationId::of_text(talk));
        world.send(message.build().unwrap()).unwrap();
        world.run();
    }
    assert_eq!((world.dead(DeadLetterReason::TooManyConversations), world.snapshot(0).conversations), (1, 2));
    world.assert_settled();
}

#[test]
fn a_conversation_with_many_participants_knows_each_of_them() {
    let mut world = Setup::new(2).configured(|config| config.conversations.participants_max = 100).start();
    let (initiator, answers) = world.add_listener(0, "initiator");
    let others: Vec<AgentId> =
        (0..60).map(|number| world.add(number % 2, &format!("other-{number}"), Script::echo())).collect();
    let id = ConversationId::of_text("talk");
    for _ in 0..2 {
        let all = Message::builder(Performative::Cfp).sender(initiator).receivers(others.clone()).conversation(id);
        world.send(all.build().unwrap()).unwrap();
        world.run();
    }
    assert_eq!(answers.len(), 120);
    let view = world.conversation(initiator, id).unwrap();
    assert_eq!((view.participants.len(), view.messages), (61, 240));
    let last = view.history.last().unwrap();
    let sender = answers.take().last().unwrap().sender().unwrap();
    assert_eq!((view.participants[usize::from(last.from)], last.to), (sender, 0));
    world.assert_settled();
}

#[test]
fn a_reply_to_a_closed_conversation_is_refused_and_its_id_can_be_used_again() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let log = Log::new();
        let initiator = world.add(0, "initiator", closing(&log));
        let participant = world.add(shard, "participant", Script::idle());
        let id = ConversationId::of_text("talk");
        for round in 1..=2 {
            let say = |content| inform(participant, initiator, content);
            world.send(inform(initiator, participant, "hello").conversation(id).build().unwrap()).unwrap();
            world.run();
            for content in ["first", "close", "late"] {
                let message = say(content).conversation_as(id, ConversationRole::Participant);
                world.send(message.build().unwrap()).unwrap();
                world.run();
            }
            assert_eq!((log.len(), world.dead(DeadLetterReason::NotInConversation)), (round, round as u64));
            assert!(world.conversation(initiator, id).is_none());
        }
        let snapshot = world.snapshot(0);
        assert_eq!((snapshot.conversations, snapshot.conversations_opened, snapshot.timers), (0, 2, 0));
        world.assert_settled();
    }
}

#[test]
fn a_conversation_without_traffic_ends_and_its_initiator_hears_of_it() {
    let mut world = World::new(2);
    world.watch_events();
    let (initiator, told) = world.add_listener(0, "initiator");
    let participant = world.add(1, "participant", Script::idle());
    let id = ConversationId::of_text("talk");
    let say = || inform(initiator, participant, "x").conversation(id).build().unwrap();
    world.send(say()).unwrap();
    // Traffic postpones the end.
    for _ in 0..3 {
        world.advance(9_000);
        world.send(say()).unwrap();
    }
    world.advance(9_999);
    assert!(world.conversation(initiator, id).is_some());
    assert_eq!(told.len(), 0);
    world.advance(1);
    assert!(world.conversation(initiator, id).is_none());
    let notices = told.take();
    assert_eq!(
        (notices.len(), notices[0].performative(), notices[0].conversation()),
        (1, Performative::Failure, Some(id))
    );
    assert!(is_notice(&notices[0]) && text(&notices[0]).contains("timed-out"));
    let ended = Event::ConversationTimedOut { initiator, conversation: id };
    assert!(world.take_events(0).contains(&ended));
    assert_eq!((world.snapshot(0).timers, world.snapshot(0).conversations), (0, 0));
    world.assert_settled();
}

#[test]
fn a_history_is_bounded_and_keeps_the_newest() {
    let mut world = World::new(1);
    let (agent, _) = world.add_listener(0, "agent");
    let id = ConversationId::of_text("talk");
    let ids: Vec<_> = (0..20)
        .map(|_| {
            let sent = world.send(inform(agent, agent, "x").conversation(id).build().unwrap()).unwrap();
            world.run();
            sent
        })
        .collect();
    let view = world.conversation(agent, id).unwrap();
    assert_eq!((view.messages, view.participants.len()), (20, 1));
    assert!(view.history.iter().map(|entry| entry.message).eq(ids[12..].iter().copied()));
}

#[test]
fn conversations_that_came_as_text_find_out_who_began_them_on_both_ends() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (initiator, heard) = world.add_listener(0, "initiator");
        let (participant, asked) = world.add_listener(shard, "participant");
        let say = |from, to, content| inform(from, to, content).conversation_text("talk about tea").build().unwrap();
        world.send(say(initiator, participant, "tea?")).unwrap();
        world.run();
        assert_eq!(asked.take()[0].role(), ConversationRole::Initiator);
        for content in ["yes", "please"] {
            world.send(say(participant, initiator, content)).unwrap();
            world.run();
        }
        world.send(say(initiator, participant, "here")).unwrap();
        world.run();
        assert_eq!(
            (heard.texts(), asked.texts()),
            (vec!["yes".to_owned(), "please".to_owned()], vec!["here".to_owned()])
        );
        let id = ConversationId::of_text("talk about tea");
        assert_eq!(world.conversation(initiator, id).unwrap().messages, 4);
        assert!(world.conversation(participant, id).is_none());
        // Both the conversation and the entry on the participant's shard end.
        world.advance(30_000);
        for shard in 0..2 {
            assert_eq!((world.snapshot(shard).conversations, world.snapshot(shard).timers), (0, 0));
        }
        world.assert_settled();
    }
}

#[test]
fn one_id_serves_a_nested_exchange_whoever_began_first() {
    // The agent in the middle asks another one under the id under which it was asked, before or after that.
    for nested_first in [false, true] {
        for places in [[0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 1]] {
            let mut world = World::new(2);
            let (outer, answer) = world.add_listener(places[0], "outer");
            let (middle, _) = world.add_listener(places[1], "middle");
            let (inner, _) = world.add_listener(places[2], "inner");
            let say = |from, to| inform(from, to, "x").conversation_text("same words").build().unwrap();
            let mut run = vec![(outer, middle), (middle, inner)];
            if nested_first {
                run.reverse();
            }
            run.extend([(inner, middle), (middle, outer), (outer, middle), (middle, inner), (middle, outer)]);
            for (from, to) in run {
                world.send(say(from, to)).unwrap();
                world.run();
            }
            assert_eq!(
                (answer.len(), world.dead(DeadLetterReason::AmbiguousConversation)),
                (2, 0),
                "{places:?} {nested_first}"
            );
            let id = ConversationId::of_text("same words");
            let both = [outer, middle].map(|initiator| world.conversation(initiator, id).unwrap().messages);
            assert_eq!(both, [4, 3]);
            world.assert_settled();
        }
    }
}

#[test]
fn what_two_agents_began_with_each_other_under_one_id_is_told_apart_by_in_reply_to_and_ambiguous_without() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (first, told) = world.add_listener(0, "first");
        let (second, heard) = world.add_listener(shard, "second");
        let say = |from, to| inform(from, to, "x").conversation_text("same words");
        // They cross each other: neither has read the other's.
        world.send_later(say(first, second).reply_with_text("first").build().unwrap());
        world.send_later(say(second, first).reply_with_text("second").build().unwrap());
        world.run();
        let id = ConversationId::of_text("same words");
        if world.conversation(second, id).is_none() {
            continue; // On one shard one of them was first.
        }
        for (answers, dead, notices) in [(Some("second"), 0, 0), (None, 1, 1), (Some("third"), 2, 2)] {
            let message = say(first, second);
            let message = if let Some(answers) = answers { message.in_reply_to_text(answers) } else { message };
            world.send(message.build().unwrap()).unwrap();
            world.run();
            assert_eq!((world.dead(DeadLetterReason::AmbiguousConversation), told.notices().len()), (dead, notices));
        }
        assert_eq!(heard.len(), 2);
        assert_eq!(world.conversation(second, id).unwrap().messages, 2);
        world.assert_settled();
    }
}

#[test]
fn participants_speak_to_each_other_through_the_shard_of_the_conversation() {
    let mut world = World::new(3);
    let initiator = world.add(1, "initiator", Script::idle());
    let speaker = world.add(0, "speaker", Script::idle());
    let stranger = world.add(0, "stranger", Script::idle());
    let (listener, heard) = world.add_listener(2, "listener");
    let id = ConversationId::of_text("talk");
    let all = Message::builder(Performative::Inform).sender(initiator).receivers([speaker, listener]);
    world.send(all.conversation(id).content("hello").build().unwrap()).unwrap();
    world.run();
    for sender in [speaker, stranger] {
        let message = inform(sender, listener, "psst").conversation_of(id, initiator);
        world.send(message.build().unwrap()).unwrap();
    }
    world.run();
    assert_eq!(
        (heard.texts(), world.dead(DeadLetterReason::NotInConversation)),
        (vec!["hello".into(), "psst".into()], 1)
    );
    assert_eq!(world.conversation(initiator, id).unwrap().messages, 3);
    assert_eq!(world.nodes[1].shard.account().departed, 3, "two greetings, and what passed through");
    world.assert_settled();
}

#[test]
fn messages_that_pass_through_each_others_shards_do_not_wait_for_each_other_in_a_circle() {
    for (shards, credits) in [(2_u16, 2), (3, 2), (3, 3), (4, 2)] {
        let mut world = Setup::new(shards).lanes(credits, 1).start();
        let agents: Vec<AgentId> = (0..shards).map(|shard| world.add(shard, "agent", Script::idle())).collect();
        let count = agents.len();
        let id = ConversationId::of_text("talk");
        for initiator in &agents {
            let all = Message::builder(Performative::Inform).sender(*initiator).receivers(agents.clone());
            world.send(all.conversation(id).build().unwrap()).unwrap();
            world.run();
        }
        let before = world.total().processed;
        // Each sends to the next but one by way of the next, all at the same time.
        for _ in 0..50 {
            for (number, sender) in agents.iter().enumerate() {
                let (home, receiver) = (agents[(number + 1) % count], agents[(number + 2) % count]);
                world.send_later(inform(*sender, receiver, "x").conversation_of(id, home).build().unwrap());
            }
        }
        world.run();
        assert_eq!(world.total().processed - before, 50 * u64::from(shards), "{shards} shards, {credits} credits");
        world.assert_settled();
    }
}

#[test]
fn what_waits_to_pass_through_a_shard_expires_in_time() {
    let mut world = Setup::new(3).lanes(1, 1).start();
    let home = world.add(1, "home", Script::idle());
    let sender = world.add(0, "sender", Script::idle());
    let far = world.add(2, "far", Script::idle());
    let id = ConversationId::of_text("talk");
    let all = Message::builder(Performative::Inform).sender(home).receivers([sender, far]);
    world.send(all.conversation(id).build().unwrap()).unwrap();
    world.run();
    world.pause(2, true);
    for _ in 0..2 {
        let message = inform(sender, far, "x").conversation_of(id, home);
        world.send(message.time_to_live(crate::common::lifetime(1_000)).build().unwrap()).unwrap();
        world.run();
    }
    world.advance(3_000);
    assert_eq!(world.nodes[1].shard.account().expired, 1);
    world.pause(2, false);
    world.run();
    assert_eq!(world.total().expired, 2);
    world.advance(20_000);
    world.assert_settled();
}

#[test]
fn a_reply_goes_where_the_sender_wants_replies_and_stays_in_the_conversation() {
    let mut world = World::new(3);
    let initiator = world.add(0, "initiator", Script::idle());
    let participant = world.add(1, "participant", Script::echo());
    let (secretary, heard) = world.add_listener(2, "secretary");
    let id = ConversationId::of_text("talk");
    let aid = Aid::new(AgentName::try_new(world.name_on(2, "secretary").to_string()).unwrap());
    let message = request(initiator, participant, "report").conversation(id).reply_to_aids(vec![aid]);
    world.send(message.build().unwrap()).unwrap();
    world.run();
    assert_eq!(heard.texts(), ["report"]);
    let view = world.conversation(initiator, id).unwrap();
    assert_eq!(view.participants, [initiator, participant, secretary]);
    world.assert_settled();
}

// Conversations that time out.

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
    assert_eq!((heard.len(), world.dead(DeadLetterReason::NotInConversation)), (0, 1));
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
