//! The records of watched messages: which stages they name, that their number agrees with the account, and that
//! watching changes nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use caxton_shards::agent::{Failure, Outcome};
use caxton_shards::message::{AgentId, ConversationId, MessageId, Performative, TraceContext};
use caxton_shards::sim::{self, Options};
use caxton_shards::trace::{
    Admitted, Cause, HOPS_MAX, RECORDS_PER_TURN_MAX, StageEvent, StageRecord, TraceIds, Watching,
};

use crate::common::{Log, Script, Setup, World, inform, request, text};

/// Creates a router that watches every message.
fn watched(shards: u16) -> World {
    Setup::new(shards).configured(|config| config.watching = Watching::ALL).start()
}

/// Takes the records of all shards, admissions first: the rest of a message's are of one shard.
fn records(world: &mut World) -> Vec<StageRecord> {
    let all = world.nodes.iter_mut().flat_map(|node| std::mem::take(node.shard.stage_records()));
    let (mut admitted, rest): (Vec<_>, Vec<_>) =
        all.partition(|record| matches!(record.event, StageEvent::Admitted(_)));
    admitted.extend(rest);
    admitted
}

/// Returns the stages of each message, in the order in which the shards recorded them.
fn stages(records: &[StageRecord]) -> BTreeMap<MessageId, Vec<&'static str>> {
    let mut stages: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in records {
        stages.entry(record.message).or_default().push(match &record.event {
            StageEvent::Admitted(_) => "admitted",
            StageEvent::Kept(..) => "kept",
            StageEvent::Withdrawn => "withdrawn",
            StageEvent::Arrived => "arrived",
            StageEvent::Spread(_) => "spread",
            StageEvent::Committed => "committed",
            StageEvent::Enqueued => "enqueued",
            StageEvent::Begun(..) => "begun",
            StageEvent::Retried => "retried",
            StageEvent::Processed => "processed",
            StageEvent::Duplicate => "duplicate",
            StageEvent::Left => "left",
            StageEvent::DeadLettered(_) => "dead-lettered",
            StageEvent::Expired(_) => "expired",
        });
    }
    stages
}

fn admissions(records: &[StageRecord]) -> Vec<(MessageId, Admitted)> {
    let admitted = |record: &StageRecord| match &record.event {
        StageEvent::Admitted(admitted) => Some((record.message, admitted.clone())),
        _ => None,
    };
    records.iter().filter_map(admitted).collect()
}

#[test]
fn a_request_and_its_reply_over_two_shards_are_recorded_stage_by_stage() {
    let mut world = watched(2);
    let replies = Script::new(|message, context| {
        context.send(message.reply(Performative::Inform).build().unwrap()).unwrap();
        Outcome::Done
    });
    let far = world.add(1, "far", replies);
    let near = world.add(0, "near", Script::idle());
    let id = ConversationId::of_text("talk");
    let asked = world.send(request(near, far, "x").conversation(id).build().unwrap()).unwrap();
    world.run();
    let records = records(&mut world);
    let admitted = admissions(&records);
    assert_eq!(admitted.len(), 2);
    let (question, reply) = (&admitted[0], &admitted[1]);
    assert_eq!(question.0, asked);
    assert_eq!(
        (question.1.cause, reply.1.cause),
        (None, Some(Cause { message: asked, conversation: Some(id), context: None })),
        "the reply is caused by the request"
    );
    assert_eq!((question.1.conversation, reply.1.conversation), (Some(id), Some(id)));
    assert_eq!((question.1.initiator, reply.1.initiator), (Some(near), Some(near)));
    let name = |of: &Admitted| of.sender_name.as_deref().unwrap().to_owned();
    assert!(name(&question.1).starts_with("near") && name(&reply.1).starts_with("far"));
    let stages = stages(&records);
    for id in [question.0, reply.0] {
        assert_eq!(stages[&id], ["admitted", "arrived", "begun", "processed"]);
    }
    assert!(records.iter().all(|record| record.receiver == Some(if record.message == asked { far } else { near })));
}

#[test]
fn each_copy_for_one_of_several_receivers_is_watched() {
    let mut world = watched(2);
    let receivers: Vec<AgentId> =
        (0..3_u16).map(|index| world.add(index % 2, &format!("receiver{index}"), Script::idle())).collect();
    let sender = world.add(0, "sender", Script::idle());
    let message = inform(sender, receivers[0], "x").receivers(receivers.clone()).build().unwrap();
    world.send(message).unwrap();
    world.run();
    let records = records(&mut world);
    let processed: Vec<_> = records.iter().filter(|record| record.event == StageEvent::Processed).collect();
    let distinct: std::collections::BTreeSet<_> = receivers.iter().collect();
    assert_eq!(processed.len(), distinct.len());
    assert_eq!(admissions(&records)[0].1.receivers as usize, distinct.len());
}

/// An agent that sends something for each message, and fails.
fn sends_and_fails() -> Script {
    Script::new(|_, context| {
        let own = context.id();
        context.send(inform(own, own, "never sent").build().unwrap()).unwrap();
        Outcome::Failed(Failure { explanation: "on purpose".into(), panicked: false })
    })
}

#[test]
fn what_fails_is_kept_although_nothing_is_sampled() {
    let mut world = Setup::new(1)
        .configured(|config| {
            config.watching = Watching { threshold: 0, ..Watching::ALL };
            config.retry.retries = 1;
        })
        .start();
    let faulty = world.add(0, "faulty", sends_and_fails());
    let sender = world.add(0, "sender", Script::idle());
    let failed = world.send(inform(sender, faulty, "x").build().unwrap()).unwrap();
    let lost = world.send(inform(sender, AgentId::of_text("nobody"), "x").build().unwrap()).unwrap();
    world.advance(10_000);
    let records = records(&mut world);
    let stages = stages(&records);
    assert_eq!(stages[&failed], ["kept", "retried", "begun", "dead-lettered"]);
    assert_eq!(stages[&lost], ["kept", "dead-lettered"]);
    assert_eq!(stages.len(), 2, "{stages:?}");
}

#[test]
fn effects_of_a_suspended_handler_that_is_given_up_are_withdrawn() {
    let mut world = watched(1);
    let suspends = Script::new(|_, context| {
        let own = context.id();
        context.send(inform(own, own, "never sent").build().unwrap()).unwrap();
        Outcome::Suspended
    });
    let agent = world.add(0, "agent", suspends.resuming(|_, _| Outcome::Suspended));
    let sender = world.add(0, "sender", Script::idle());
    world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    world.step(0);
    world.stop_all();
    let records = records(&mut world);
    let stages: Vec<_> = stages(&records).into_values().collect();
    assert!(stages.iter().any(|stages| *stages == ["admitted", "withdrawn"]), "{stages:?}");
    assert!(stages.iter().all(|stages| stages.len() > 1), "every message ended: {stages:?}");
}

#[test]
fn what_comes_back_out_of_an_inbox_is_kept_as_a_failure() {
    let mut world = watched(1);
    let name = world.name_on(0, "agent");
    let agent = AgentId::of(&name);
    let inbox = world.open_inbox(name, 10).unwrap();
    let sender = world.add(0, "sender", Script::idle());
    let sent = world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    world.run();
    world.close_inbox(inbox);
    world.run();
    let records = records(&mut world);
    let stages = &stages(&records)[&sent];
    assert_eq!(*stages, ["admitted", "enqueued", "processed", "kept", "dead-lettered"]);
}

#[test]
fn what_a_failed_handler_wanted_to_send_is_withdrawn() {
    let mut world = watched(1);
    let faulty = world.add(0, "faulty", sends_and_fails());
    let sender = world.add(0, "sender", Script::idle());
    world.send(inform(sender, faulty, "x").build().unwrap()).unwrap();
    world.run();
    let records = records(&mut world);
    assert!(stages(&records).values().any(|stages| *stages == ["admitted", "withdrawn"]), "{records:?}");
}

#[test]
fn a_message_that_its_handler_gets_late_is_kept() {
    let mut world = Setup::new(2)
        .configured(|config| config.watching = Watching { threshold: 0, slow_ms: 500, ..Watching::ALL })
        .start();
    let slow = world.add(1, "slow", Script::idle());
    let sender = world.add(0, "sender", Script::idle());
    world.send(inform(sender, slow, "at once").build().unwrap()).unwrap();
    world.run();
    assert!(records(&mut world).is_empty());
    world.pause(1, true);
    world.send(inform(sender, slow, "late").build().unwrap()).unwrap();
    world.advance(600);
    world.pause(1, false);
    world.run();
    let records = records(&mut world);
    let stages: Vec<_> = stages(&records).into_values().collect();
    assert_eq!(stages, [["kept", "begun", "processed"]]);
    let StageEvent::Kept(_, admitted_ns) = records[0].event else { panic!("{records:?}") };
    assert!(records[0].at_ns - admitted_ns >= 600_000_000);
}

#[test]
fn a_trace_begun_elsewhere_is_continued() {
    let mut world =
        Setup::new(1).configured(|config| config.watching = Watching { threshold: 1, ..Watching::ALL }).start();
    let agent = world.add(0, "agent", Script::idle());
    let context = |flags| TraceContext { trace_id: [7; 16], span_id: [8; 8], flags };
    world.send(inform(agent, agent, "not sampled").trace(context(0)).build().unwrap()).unwrap();
    world.run();
    assert!(records(&mut world).is_empty());
    world.send(inform(agent, agent, "sampled").trace(context(1)).build().unwrap()).unwrap();
    world.run();
    assert_eq!(admissions(&records(&mut world))[0].1.context, Some(context(1)));
}

/// An agent that notes the trace context of each message, and writes another message to `next`, if there is one.
fn relay(next: Option<AgentId>, seen: &Log<Option<TraceContext>>) -> Script {
    let seen = seen.clone();
    Script::new(move |message, context| {
        seen.push(message.trace());
        if let Some(next) = next {
            context.send(inform(context.id(), next, "on").build().unwrap()).unwrap();
        }
        Outcome::Done
    })
}

/// Returns the trace of each admitted message.
fn traces(records: &[StageRecord]) -> Vec<[u8; 16]> {
    let ids = TraceIds::new(0);
    admissions(records).iter().map(|(message, admitted)| ids.trace(*message, admitted)).collect()
}

#[test]
fn a_message_without_a_conversation_stays_in_its_trace_from_handler_to_handler() {
    for conversation in [None, Some(ConversationId::of_text("talk"))] {
        let mut world = watched(2);
        let seen = Log::default();
        let last = world.add(1, "last", relay(None, &seen));
        let third = world.add(0, "third", relay(Some(last), &seen));
        let second = world.add(1, "second", relay(Some(third), &seen));
        let first = world.add(0, "first", relay(Some(second), &seen));
        let message = inform(last, first, "begin");
        let message = conversation.map_or(message.clone(), |id| message.conversation(id));
        world.send(message.build().unwrap()).unwrap();
        world.run();
        let records = records(&mut world);
        let traces = traces(&records);
        assert_eq!(traces.len(), 4);
        assert!(traces.iter().all(|trace| *trace == traces[0]), "{records:?}");
        let seen = seen.take();
        assert_eq!(seen[0], None, "the first one has nothing to be handed on");
        assert!(
            seen[1..].iter().all(|context| context.is_some_and(|context| context.trace_id == traces[0])),
            "{seen:?}"
        );
        let spans: std::collections::BTreeSet<_> = seen[1..].iter().flatten().map(|context| context.span_id).collect();
        assert_eq!(spans.len(), 3, "each one names the call that sent it");
    }
}

#[test]
fn a_trace_context_is_handed_on_whether_or_not_it_is_watched() {
    let context = |flags| TraceContext { trace_id: [7; 16], span_id: [8; 8], flags };
    for (threshold, flags) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for conversation in [None, Some(ConversationId::of_text("talk"))] {
            let mut world =
                Setup::new(2).configured(|config| config.watching = Watching { threshold, ..Watching::ALL }).start();
            let seen = Log::default();
            let last = world.add(0, "last", relay(None, &seen));
            let notes = seen.clone();
            // One that goes on in the conversation, and is suspended before.
            let second = Script::new(move |message, _| {
                notes.push(message.trace());
                Outcome::Suspended
            });
            let second = world.add(
                1,
                "second",
                second.resuming(move |message, context| {
                    let on = inform(context.id(), last, "on");
                    let on = message.conversation().map_or(on.clone(), |id| on.conversation_as(id, message.role()));
                    context.send(on.build().unwrap()).unwrap();
                    Outcome::Done
                }),
            );
            let message = inform(last, second, "begin").trace(context(flags));
            let message = conversation.map_or(message.clone(), |id| message.conversation(id));
            world.send(message.build().unwrap()).unwrap();
            world.run();
            let seen = seen.take();
            assert_eq!((seen.len(), seen[0]), (2, Some(context(flags))));
            let handed_on = seen[1].expect("it has a context");
            assert_eq!((handed_on.trace_id, handed_on.flags), ([7; 16], flags));
            let is_watched = threshold > 0 && flags == 1;
            assert_eq!(handed_on.span_id != [8; 8], is_watched, "a call that is recorded is the parent");
            let records = records(&mut world);
            assert_eq!(traces(&records), vec![[7; 16]; if is_watched { 2 } else { 0 }]);
        }
    }
}

#[test]
fn another_conversation_is_another_trace() {
    let mut world = watched(1);
    let seen = Log::default();
    let last = world.add(0, "last", relay(None, &seen));
    let other = ConversationId::of_text("other");
    let begins = Script::new(move |_, context| {
        context.send(inform(context.id(), last, "begin").conversation(other).build().unwrap()).unwrap();
        Outcome::Done
    });
    let first = world.add(0, "first", begins);
    let context = TraceContext { trace_id: [7; 16], span_id: [8; 8], flags: 1 };
    world.send(inform(last, first, "x").trace(context).build().unwrap()).unwrap();
    world.run();
    let records = records(&mut world);
    let traces = traces(&records);
    assert_eq!((traces[0], traces[1] == traces[0], seen.take()), ([7; 16], false, vec![None]));
    assert_eq!(admissions(&records)[1].1.cause.and_then(|cause| cause.context), Some(context), "it is linked");
}

#[test]
fn an_agent_that_writes_to_itself_without_end_is_not_watched_for_good() {
    let context = TraceContext { trace_id: [7; 16], span_id: [8; 8], flags: 1 };
    // With replies that have the context by themselves, and with messages that are given it.
    for replies in [false, true] {
        let mut world =
            Setup::new(1).configured(|config| config.watching = Watching { threshold: 1, ..Watching::ALL }).start();
        let calls = Log::default();
        let noted = calls.clone();
        let again = Script::new(move |message, context| {
            noted.push(());
            if noted.len() < 100 {
                let own = context.id();
                let next = if replies { message.reply(Performative::Inform) } else { inform(own, own, "again") };
                context.send(next.build().unwrap()).unwrap();
            }
            Outcome::Done
        });
        let agent = world.add(0, "agent", again);
        world.send(inform(agent, agent, "begin").trace(context).build().unwrap()).unwrap();
        world.run();
        assert_eq!(calls.len(), 100);
        assert_eq!(admissions(&records(&mut world)).len(), 1 + usize::from(HOPS_MAX));
    }
}

#[test]
fn who_reads_an_inbox_goes_on_in_the_trace() {
    let mut world = watched(2);
    let name = world.name_on(1, "agent");
    let agent = AgentId::of(&name);
    let inbox = world.open_inbox(name, 10).unwrap();
    let (sender, _) = world.add_listener(0, "sender");
    world.send(request(sender, agent, "x").build().unwrap()).unwrap();
    world.run();
    let [question] = world.read_inbox(inbox, 10).try_into().expect("there is one");
    assert_eq!(text(&question), "x");
    assert_eq!(question.trace(), TraceIds::new(0).of_message(&question));
    world.send(question.reply(Performative::Inform).build().unwrap()).unwrap();
    world.run();
    let traces = traces(&records(&mut world));
    assert_eq!((traces.len(), traces[0]), (2, traces[1]));
}

#[test]
fn traces_begun_elsewhere_are_bounded_as_a_whole_and_counted() {
    let mut world = Setup::new(2)
        .configured(|config| {
            config.watching = Watching { threshold: 1, followed_threshold: 1 << 30, salt: 5, ..Watching::ALL };
        })
        .start();
    let agents = [0, 1].map(|shard| world.add(shard, if shard == 0 { "near" } else { "far" }, Script::idle()));
    let mut followed = 0;
    for number in 1..=1_000_u128 {
        let context = TraceContext { trace_id: number.to_be_bytes(), span_id: [8; 8], flags: 1 };
        for [from, to] in [[agents[0], agents[1]], [agents[1], agents[0]]] {
            world.send(inform(from, to, "x").trace(context).build().unwrap()).unwrap();
        }
        world.run();
        let admitted = admissions(&records(&mut world)).len();
        assert!([0, 2].contains(&admitted), "a trace is followed as a whole, on every shard");
        followed += admitted as u64 / 2;
    }
    assert!((200..300).contains(&followed), "about a quarter: {followed}");
    let unfollowed: u64 = (0..2).map(|shard| world.nodes[shard].shard.unfollowed_messages()).sum();
    assert_eq!(unfollowed, 2 * (1_000 - followed));
}

#[test]
fn records_that_find_no_room_are_counted() {
    let mut world = watched(1);
    let agent = world.add(0, "agent", Script::idle());
    for _ in 0..RECORDS_PER_TURN_MAX {
        world.send(inform(agent, agent, "x").build().unwrap()).unwrap();
        world.run();
    }
    let kept = world.nodes[0].shard.stage_records().len() as u64;
    assert_eq!(kept, RECORDS_PER_TURN_MAX as u64);
    // Each message has four: admitted, enqueued, begun, processed.
    assert_eq!(kept + world.nodes[0].shard.stage_records_lost(), 4 * RECORDS_PER_TURN_MAX as u64);
}

/// Watches all shards of a simulated run, and counts the messages that were dead-lettered and those that expired.
fn watching(ended: &Rc<RefCell<[u64; 2]>>) -> Options {
    let ended = Rc::clone(ended);
    Options::default().with_check(move |world| {
        for node in &mut world.nodes {
            node.shard.watch_messages(Watching::ALL);
            for record in node.shard.stage_records().drain(..) {
                match record.event {
                    StageEvent::DeadLettered(_) => ended.borrow_mut()[0] += 1,
                    StageEvent::Expired(_) => ended.borrow_mut()[1] += 1,
                    _ => {}
                }
            }
        }
        Ok(())
    })
}

#[test]
fn watching_changes_nothing_and_misses_no_failure() {
    for seed in 0..60 {
        let plain = sim::run(seed, &Options::default()).expect("the seed is good");
        let ended = Rc::default();
        let watched = sim::run(seed, &watching(&ended)).expect("the seed is good while it is watched");
        assert_eq!(plain, watched, "seed {seed}");
        let account = watched.account;
        assert_eq!(*ended.borrow(), [account.dead_lettered, account.expired], "seed {seed}");
    }
}
