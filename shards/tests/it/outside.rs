//! Agents outside the shards: bounded inboxes, and questions that wait for replies.

use caxton_shards::agent::Outcome;
use caxton_shards::api::{
    AgentFilter, AgentKind, AgentState, Answer, AskError, Awaited, InboxNumber, Input, Rejection, is_notice,
};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::message::{AgentId, Correlation, Message, Performative, Receipt};
use caxton_shards::routing::partition::ShardIndex;

use crate::common::{Script, World, capability, inform, lifetime, text};

fn question(to: AgentId, content: &str) -> Message {
    Message::builder(Performative::Request).receiver(to).content(content).build().unwrap()
}

fn taken(agent: AgentId, inbox: u32, messages: u32, notices: u32) -> Input {
    Input::Taken { agent, inbox: InboxNumber(inbox), messages, notices }
}

#[test]
fn an_inbox_is_given_no_more_than_it_has_room_for_and_taking_makes_room() {
    let mut world = World::new(2);
    let inbox = world.add_inbox(0, "inbox", 5, 3);
    let (sender, told) = world.add_listener(1, "sender");
    for number in 0..7 {
        let message = inform(sender, inbox, &number.to_string()).receipt(Receipt::Processed);
        world.send(message.build().unwrap()).unwrap();
    }
    world.run();
    assert!(world.nodes[0].delivered.iter().all(|(number, _)| *number == InboxNumber(5)));
    assert!(world.take_delivered(0).iter().map(text).eq(["0", "1", "2"]));
    assert_eq!((world.total().processed, told.len()), (0, 0), "what is in the inbox is not processed yet");
    world.give(0, taken(inbox, 5, 2, 0));
    world.run();
    assert!(world.take_delivered(0).iter().map(text).eq(["3", "4"]));
    assert_eq!(world.total().processed, 2);
    assert_eq!(told.notices().len(), 2, "whoever wanted to hear of it hears that it was processed");
    // Taking more than was delivered is impossible, and makes no more room.
    world.give(0, taken(inbox, 5, u32::MAX, u32::MAX));
    world.run();
    assert!(world.take_delivered(0).iter().map(text).eq(["5", "6"]));
    world.give(0, taken(inbox, 5, 2, 0));
    world.run();
    assert_eq!(told.notices().len(), 7);
    world.assert_settled();
}

#[test]
fn what_was_left_in_an_inbox_when_it_closed_is_given_up_and_the_agent_goes() {
    let mut world = World::new(1);
    let inbox = world.add_inbox(0, "inbox", 1, 3);
    let (sender, told) = world.add_listener(0, "sender");
    for number in 0..5 {
        world.send(inform(sender, inbox, &number.to_string()).build().unwrap()).unwrap();
    }
    world.run();
    let mut leftovers = world.take_delivered(0);
    leftovers.remove(0);
    // Closing another inbox does not close this one.
    world.give(0, Input::Closed(inbox, InboxNumber(2), Vec::new()));
    world.run();
    assert_eq!(world.snapshot(0).agents, 2);
    world.give(0, Input::Closed(inbox, InboxNumber(1), leftovers));
    world.run();
    assert_eq!((world.dead(DeadLetterReason::Deregistered), told.notices().len()), (4, 4));
    assert_eq!(world.total().processed, 1, "what was neither given back nor reported was taken");
    assert_eq!(world.snapshot(0).agents, 1);
    world.assert_settled();
}

#[test]
fn what_is_in_the_inbox_of_an_agent_that_is_deregistered_is_left_to_its_owner() {
    let mut world = World::new(1);
    let inbox = world.add_inbox(0, "inbox", 1, 1);
    let (sender, told) = world.add_listener(0, "sender");
    for number in 0..2 {
        world.send(inform(sender, inbox, &number.to_string()).build().unwrap()).unwrap();
    }
    world.run();
    assert!(world.deregister(inbox));
    world.give(0, taken(inbox, 1, 1, 0));
    world.give(0, Input::Closed(inbox, InboxNumber(1), Vec::new()));
    world.run();
    assert_eq!((world.total().processed, world.dead(DeadLetterReason::Deregistered), told.notices().len()), (1, 1, 1));
    world.assert_settled();
}

#[test]
fn messages_expire_while_nobody_reads_the_inbox() {
    let mut world = World::new(2);
    let inbox = world.add_inbox(0, "inbox", 1, 1);
    let (sender, told) = world.add_listener(1, "sender");
    for _ in 0..4 {
        world.send(inform(sender, inbox, "x").time_to_live(lifetime(1_000)).build().unwrap()).unwrap();
    }
    world.advance(2_100);
    assert_eq!((world.total().expired, told.notices().len()), (3, 3));
    world.give(0, taken(inbox, 1, 1, 0));
    world.run();
    assert_eq!(world.take_delivered(0).len(), 1, "nothing that is expired is handed out");
    world.assert_settled();
}

#[test]
fn a_notice_takes_room_in_the_inbox_too() {
    let mut world = World::new(1);
    let inbox = world.add_inbox(0, "inbox", 1, 1);
    world.send(inform(inbox, AgentId::of_text("nobody"), "x").build().unwrap()).unwrap();
    world.run();
    world.send(inform(inbox, inbox, "y").build().unwrap()).unwrap();
    world.run();
    let delivered = world.take_delivered(0);
    assert!(delivered.len() == 1 && is_notice(&delivered[0]));
    world.give(0, taken(inbox, 1, 0, 1));
    world.run();
    assert!(world.take_delivered(0).iter().map(text).eq(["y"]));
}

#[test]
fn a_question_is_answered_from_either_shard() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let agent = world.add(shard, "agent", Script::echo());
        let asked = world.ask(0, question(agent, "tea?"), 1_000);
        world.run();
        let reply = world.take_reply(0, asked).unwrap().unwrap();
        assert_eq!((text(&reply), reply.sender()), ("tea?".to_owned(), Some(agent)));
        assert_eq!(world.snapshot(0).timers, 0, "the timeout is disarmed");
        world.assert_settled();
    }
}

#[test]
fn a_question_times_out_and_a_late_answer_goes_to_nobody() {
    let mut world = World::new(2);
    let agent = world.add(1, "agent", Script::echo());
    world.pause(1, true);
    let asked = world.ask(0, question(agent, "tea?"), 1_000);
    world.advance(999);
    assert!(world.take_reply(0, asked).is_none());
    world.advance(1);
    assert!(matches!(world.take_reply(0, asked), Some(Err(AskError::TimedOut))));
    world.pause(1, false);
    world.run();
    assert_eq!(world.dead(DeadLetterReason::NobodyAsked), 1);
    world.assert_settled();
}

#[test]
fn a_question_that_cannot_be_delivered_says_so_at_once() {
    let mut world = World::new(2);
    for shard in 0..2 {
        let nobody = AgentId::of(&world.name_on(shard, "nobody"));
        let asked = world.ask(0, question(nobody, "tea?"), 1_000);
        world.run();
        let Some(Err(AskError::Undeliverable(notice))) = world.take_reply(0, asked) else { panic!("no failure") };
        assert!(text(notice.notice()).contains("unknown-receiver"));
    }
    let long = "x".repeat(20_000);
    let asked = world.ask(0, question(AgentId::of_text("nobody"), &long), 1_000);
    world.run();
    assert!(matches!(world.take_reply(0, asked), Some(Err(AskError::Rejected(_)))));
    assert_eq!(world.snapshot(0).timers, 0);
    world.assert_settled();
}

#[test]
fn an_agree_is_not_the_answer() {
    let mut world = World::new(1);
    let agent = world.add(
        0,
        "agent",
        Script::new(|message, context| {
            for performative in [Performative::Agree, Performative::Inform] {
                let reply = context.reply(message, performative).content(performative.as_str());
                context.send(reply.build().unwrap()).unwrap();
            }
            Outcome::Done
        }),
    );
    let asked = world.ask(0, question(agent, "tea?"), 1_000);
    world.run();
    assert_eq!(text(&world.take_reply(0, asked).unwrap().unwrap()), "inform");
    assert_eq!(world.total().processed, 3);
    world.assert_settled();
}

#[test]
fn two_questions_with_the_same_reply_with_each_get_their_own_answer() {
    let mut world = World::new(1);
    let agent = world.add(0, "agent", Script::echo());
    let same = |content: &str| {
        let message = Message::builder(Performative::Request).receiver(agent).content(content);
        message.reply_with_text("my question").build().unwrap()
    };
    let asked = ["one", "two"].map(|content| world.ask(0, same(content), 1_000));
    world.run();
    let replies = asked.map(|token| world.take_reply(0, token).unwrap().unwrap());
    assert_eq!(replies.each_ref().map(text), ["one", "two"]);
    assert_eq!(replies[0].in_reply_to(), Some(Correlation::of_text("my question")));
    assert_ne!(replies[1].in_reply_to(), replies[0].in_reply_to());
    world.assert_settled();
}

#[test]
fn a_question_without_a_reply_with_gets_none_that_another_caller_chose() {
    let mut world = World::new(2);
    let agent = world.add(1, "agent", Script::echo());
    let first = world.ask(0, question(agent, "which is the next?"), 1_000);
    world.run();
    let given_out = world.take_reply(0, first).unwrap().unwrap().in_reply_to().unwrap().get();
    // Messages are counted along with questions: after these thirty, the next counts are among those that they chose.
    let mut asked: Vec<_> = (10..40)
        .map(|step| {
            let chosen = Correlation::new((given_out + step).try_into().unwrap());
            let message = Message::builder(Performative::Request).receiver(agent).content("chosen").reply_with(chosen);
            world.ask(0, message.build().unwrap(), 1_000)
        })
        .collect();
    asked.extend(["one", "two"].map(|content| world.ask(0, question(agent, content), 1_000)));
    world.advance(1_000);
    let replies: Vec<_> = asked.into_iter().map(|token| world.take_reply(0, token).unwrap().unwrap()).collect();
    assert!(replies[..30].iter().all(|reply| text(reply) == "chosen"));
    assert!(replies[30..].iter().map(text).eq(["one", "two"]));
    world.assert_settled();
}

#[test]
fn a_receipt_is_no_answer_to_a_question() {
    let mut world = World::new(1);
    let agent = world.add(0, "agent", Script::echo());
    let message = Message::builder(Performative::Request).receiver(agent).content("tea?").receipt(Receipt::Delivered);
    let asked = world.ask(0, message.build().unwrap(), 1_000);
    world.run();
    assert_eq!(text(&world.take_reply(0, asked).unwrap().unwrap()), "tea?");
    world.assert_settled();
}

#[test]
fn a_call_that_waits_for_a_receipt_ends_with_it_and_not_with_the_reply() {
    let mut world = World::new(2);
    let agent = world.add(1, "agent", Script::echo());
    for (receipt, word) in [(Receipt::Delivered, "((delivered "), (Receipt::Processed, "((processed ")] {
        let message = Message::builder(Performative::Request).receiver(agent).content("tea?").receipt(receipt);
        let (message, token) = (message.build().unwrap(), world.token());
        world.give(0, Input::Ask { message, awaited: Awaited::Receipt, timeout_ms: 1_000, token });
        world.run();
        let notice = world.take_reply(0, token).unwrap().unwrap();
        assert!(is_notice(&notice) && text(&notice).starts_with(word), "{notice:?}");
    }
    let (message, token) = (question(AgentId::of_text("nobody"), "tea?"), world.token());
    world.give(0, Input::Ask { message, awaited: Awaited::Receipt, timeout_ms: 1_000, token });
    world.run();
    assert!(matches!(world.take_reply(0, token), Some(Err(AskError::Undeliverable(_)))));
}

#[test]
fn what_the_owner_of_an_inbox_gives_up_is_a_dead_letter_and_makes_room() {
    let mut world = World::new(1);
    let inbox = world.add_inbox(0, "inbox", 5, 2);
    let (sender, told) = world.add_listener(0, "sender");
    for number in 1..=3 {
        let message = inform(sender, inbox, &number.to_string()).receipt(Receipt::Processed);
        world.send(message.build().unwrap()).unwrap();
    }
    world.run();
    let message = world.take_delivered(0).remove(1);
    let messages = vec![Rejection { number: 2, message, why: "twice is enough".into() }];
    world.give(0, Input::Rejected { agent: inbox, inbox: InboxNumber(5), messages });
    world.run();
    assert!(world.take_delivered(0).iter().map(text).eq(["3"]));
    let letters = world.dead_letters(0);
    let found: Vec<_> = letters.iter().map(|letter| (letter.reason, text(&letter.message))).collect();
    assert_eq!(found, [(DeadLetterReason::AttemptsExhausted, "2".to_owned())]);
    assert_eq!(letters[0].last_error.as_deref(), Some("twice is enough"));
    assert_eq!(told.notices().len(), 1, "its sender hears of it");
    world.give(0, Input::Acknowledged { agent: inbox, inbox: InboxNumber(5), numbers: vec![3, 1] });
    world.run();
    assert_eq!((world.total().processed, told.notices().len()), (2, 3));
    world.assert_settled();
}

#[test]
fn agents_are_listed_in_portions_each_once() {
    let mut world = World::new(1);
    let agents: Vec<AgentId> = (0..5).map(|number| world.add(0, &format!("agent-{number}"), Script::idle())).collect();
    world.deregister(agents[2]);
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let filter = Box::default();
        let Answer::Agents(portion) = world.answer_now(0, |token| Input::Agents { filter, after, limit: 2, token })
        else {
            panic!("another answer")
        };
        assert!(portion.agents.len() <= 2);
        listed.extend(portion.agents.iter().map(|view| view.id));
        after = portion.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, [agents[0], agents[1], agents[3], agents[4]], "the gateway is not among them");
}

#[test]
fn agents_are_listed_by_name_capability_state_and_kind() {
    let mut world = World::new(2);
    let name = world.name_on(0, "seller");
    let seller = world.register(Script::idle().registration(name).offering(capability("listed.trade")));
    let (other, inbox) = (world.add(0, "buyer", Script::idle()), world.add_inbox(0, "inbox", 1, 1));
    world.suspend(other).unwrap();
    let mut listed = |filter: AgentFilter| -> Vec<AgentId> {
        let filter = Box::new(filter);
        let input = |token| Input::Agents { filter, after: None, limit: 10, token };
        let Answer::Agents(portion) = world.answer_now(0, input) else { panic!("another answer") };
        portion.agents.iter().map(|view| view.id).collect()
    };
    let all = AgentFilter::default;
    assert_eq!(listed(all()), [seller, other, inbox]);
    assert_eq!(listed(AgentFilter { prefix: Some("bu".into()), ..all() }), [other]);
    assert_eq!(listed(AgentFilter { capability: Some("listed.trade".into()), ..all() }), [seller]);
    assert_eq!(listed(AgentFilter { state: Some(AgentState::Suspended), ..all() }), [other]);
    assert_eq!(listed(AgentFilter { kind: Some(AgentKind::Inbox), ..all() }), [inbox]);
    assert_eq!(listed(AgentFilter { kind: Some(AgentKind::Handler), ..all() }), [seller, other]);
    assert_eq!(listed(AgentFilter { shard: Some(ShardIndex(1)), ..all() }), []);
    assert_eq!(listed(AgentFilter { prefix: Some("bu".into()), kind: Some(AgentKind::Inbox), ..all() }), []);
}

#[test]
fn an_inbox_is_done_with_its_messages_in_any_order() {
    let mut world = World::new(2);
    let inbox = world.add_inbox(0, "inbox", 5, 3);
    let (sender, told) = world.add_listener(1, "sender");
    for number in 1..=9 {
        let message = inform(sender, inbox, &number.to_string()).receipt(Receipt::Processed);
        world.send(message.build().unwrap()).unwrap();
    }
    world.run();
    assert!(world.take_delivered(0).iter().map(text).eq(["1", "2", "3"]));
    let mut done = |numbers: &[u64], next: &[&str]| {
        let numbers = numbers.to_vec();
        world.give(0, Input::Acknowledged { agent: inbox, inbox: InboxNumber(5), numbers });
        world.run();
        assert!(world.take_delivered(0).iter().map(text).eq(next.iter().copied()));
        (world.total().processed, told.notices().len())
    };
    // The first one stays for long, and the others go on.
    assert_eq!(done(&[3], &["4"]), (1, 1));
    assert_eq!(done(&[4, 2], &["5", "6"]), (3, 3));
    assert_eq!(done(&[6, 5], &["7", "8"]), (5, 5));
    assert_eq!(done(&[1, 8, 7], &["9"]), (8, 8));
    assert_eq!(done(&[9], &[]), (9, 9));
    world.assert_settled();
}

#[test]
fn what_an_inbox_is_not_done_with_is_given_up_and_nothing_else() {
    let mut world = World::new(1);
    let inbox = world.add_inbox(0, "inbox", 5, 5);
    let (sender, told) = world.add_listener(0, "sender");
    for number in 1..=5 {
        let message = inform(sender, inbox, &number.to_string()).receipt(Receipt::Processed);
        world.send(message.build().unwrap()).unwrap();
    }
    world.run();
    let mut taken = world.take_delivered(0);
    world.give(0, Input::Acknowledged { agent: inbox, inbox: InboxNumber(5), numbers: vec![2, 4, 5] });
    world.run();
    assert_eq!((world.total().processed, told.notices().len()), (3, 3));
    let left = vec![taken.remove(0), taken.remove(1)];
    world.give(0, Input::Closed(inbox, InboxNumber(5), left));
    world.run();
    let texts: Vec<_> = world.dead_letters(0).iter().map(|letter| text(&letter.message)).collect();
    assert_eq!(texts, ["3", "1"]);
    assert_eq!(world.total().processed, 3);
    world.assert_settled();
}

#[test]
fn what_a_caller_gave_up_is_forgotten() {
    let mut world = World::new(1);
    let (agent, heard) = world.add_listener(0, "listener");
    let asked = world.ask(0, question(agent, "tea?"), 1_000);
    world.run();
    world.give(0, Input::Cancel(vec![asked, caxton_shards::api::Token(u64::MAX)]));
    world.run();
    let reply = heard.take().pop().unwrap().reply(Performative::Inform).sender(agent).build().unwrap();
    world.send(reply).unwrap();
    world.run();
    assert_eq!(world.total().dead_by_reason[DeadLetterReason::NobodyAsked.index()], 1);
    world.advance(2_000);
    assert!(world.take_reply(0, asked).is_none(), "nobody is answered");
    world.stop_all();
    assert_eq!(world.nodes[0].shard.unfinished().asks, 0);
    world.assert_settled();
}
