//! The life cycle of agents: which are called, which accept messages, and what senders to the others are told.

#![allow(clippy::redundant_closure_for_method_calls)] // The method is not general enough in its lifetimes.

use caxton_shards::agent::{Outcome, Polled};
use caxton_shards::api::{
    AgentState, Answer, AskError, DRAINING_AGENTS_MAX, Drained, Event, InboxNumber, Input, LifecycleError,
    RegistrationError, StopReason, is_notice,
};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::AgentName;
use caxton_shards::journal::record::Durability;
use caxton_shards::message::{AgentId, Choice, Message, Performative, Reliability, Term, WallTime};

use crate::common::{Log, Script, Setup, WALL_START_MS, World, capability, inform, lifetime, text};

fn states(events: &[Event], of: AgentId) -> Vec<AgentState> {
    let state = |event: &Event| match event {
        Event::Registered { agent, .. } if *agent == of => Some(AgentState::Initiated),
        Event::StateChanged { agent, state } if *agent == of => Some(*state),
        Event::Deregistered { agent, .. } if *agent == of => Some(AgentState::Stopped),
        _ => None,
    };
    events.iter().filter_map(state).collect()
}

/// Never finishes a message.
fn busy() -> Script {
    Script::new(|_, _| Outcome::Suspended).resuming(|_, _| Outcome::Suspended)
}

#[test]
fn an_agent_goes_through_its_states_and_each_is_seen() {
    for shard in 0..2 {
        let mut world = World::new(2);
        world.watch_events();
        let agent = world.add(shard, "agent", Script::idle().offering("lifecycle.seen"));
        let view = world.view(agent).unwrap();
        assert_eq!((view.id, view.state, view.shard.0), (agent, AgentState::Active, shard));
        assert_eq!(*view.name, *world.name_on(shard, "agent").as_str());
        assert_eq!(view.capabilities, [Term::of("lifecycle.seen").unwrap()]);
        assert_eq!((view.mailbox_messages, view.mailbox_bytes, view.outbox, view.restarts), (0, 0, 0, 0));
        world.suspend(agent).unwrap();
        assert_eq!(world.state(agent), AgentState::Suspended);
        world.suspend(agent).unwrap();
        let message = inform(agent, agent, "waits").build().unwrap();
        let bytes = message.weight() as u64;
        world.send(message).unwrap();
        let view = world.view(agent).unwrap();
        assert!(view.mailbox_messages == 1 && view.mailbox_bytes >= bytes, "{view:?}");
        world.resume(agent).unwrap();
        world.resume(agent).unwrap();
        world.run();
        assert_eq!(world.view(agent).unwrap().mailbox_messages, 0);
        let drained = world.drain_later(agent, 1_000);
        world.run();
        assert_eq!(world.take_drained(agent, drained), Some(Ok(Drained { left: 0 })));
        let view = world.view(agent).unwrap();
        assert_eq!((view.state, view.stopped_because), (AgentState::Stopped, Some(StopReason::Drained)));
        let events = world.take_events(usize::from(shard));
        let seen = states(&events, agent);
        let expected = [
            AgentState::Initiated,
            AgentState::Active,
            AgentState::Suspended,
            AgentState::Active,
            AgentState::Draining,
            AgentState::Stopped,
        ];
        assert_eq!(seen, expected);
        assert!(events.contains(&Event::Deregistered { agent, why: StopReason::Drained }));
        assert!(world.view(AgentId::of_text("nobody")).is_none());
        world.assert_settled();
    }
}

#[test]
fn states_of_agents_that_are_not_there_cannot_be_changed() {
    let mut world = World::new(1);
    let nobody = AgentId::of_text("nobody");
    let gateway = world.nodes[0].shard.gateway_id().unwrap();
    for agent in [nobody, gateway] {
        assert_eq!(world.suspend(agent), Err(LifecycleError::UnknownAgent));
        assert_eq!(world.resume(agent), Err(LifecycleError::UnknownAgent));
        let drained = world.drain_later(agent, 1_000);
        world.run();
        assert_eq!(world.take_drained(agent, drained), Some(Err(LifecycleError::UnknownAgent)));
    }
}

#[test]
fn a_suspended_agent_is_not_called_and_goes_on_in_order_when_it_is_resumed() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let sender = world.add(0, "sender", Script::idle());
        let (agent, heard) = world.add_listener(shard, "agent");
        let mut numbers = (0..).map(|number: u32| number.to_string());
        let mut send = |world: &mut World, count: usize| {
            for number in numbers.by_ref().take(count) {
                world.send(inform(sender, agent, &number).build().unwrap()).unwrap();
            }
        };
        send(&mut world, 3);
        world.suspend(agent).unwrap();
        world.run();
        let before = heard.len();
        send(&mut world, 4);
        world.advance(5_000);
        assert_eq!(heard.len(), before, "nothing is handled meanwhile");
        world.resume(agent).unwrap();
        world.run();
        assert_eq!(heard.texts(), (0..7).map(|number| number.to_string()).collect::<Vec<_>>());
        world.assert_settled();
    }
}

#[test]
fn a_suspended_agent_keeps_what_fits_its_mailbox_and_its_messages_expire_in_time() {
    for shard in 0..2 {
        let mut world = Setup::new(2).configured(|config| config.mailbox_messages = 3.try_into().unwrap()).start();
        let (sender, told) = world.add_listener(0, "sender");
        let (agent, heard) = world.add_listener(shard, "agent");
        world.suspend(agent).unwrap();
        for number in 0..4 {
            let lifetime = lifetime(if number == 1 { 20_000 } else { 2_000 });
            world.send(inform(sender, agent, &number.to_string()).time_to_live(lifetime).build().unwrap()).unwrap();
        }
        world.run();
        assert_eq!(world.dead(DeadLetterReason::MailboxFull), 1);
        let notices = told.notices();
        assert!(notices[0].contains("mailbox-full") && notices[0].contains("suspended"), "{notices:?}");
        world.advance(4_000);
        assert_eq!((world.total().expired, world.total().pending), (2, 1));
        world.resume(agent).unwrap();
        world.run();
        assert_eq!(heard.letters(), ["1"]);
        world.assert_settled();
    }
}

#[test]
fn a_handler_that_has_a_message_in_hand_goes_on_with_it_when_its_agent_is_resumed() {
    let mut world = World::new(1);
    let calls = Log::new();
    let log = calls.clone();
    let agent = world.add(
        0,
        "agent",
        Script::new(|_, _| Outcome::Suspended).resuming(move |_, _| {
            log.push(());
            if log.len() < 3 { Outcome::Suspended } else { Outcome::Done }
        }),
    );
    world.send(inform(agent, agent, "long").build().unwrap()).unwrap();
    world.step(0);
    assert_eq!(calls.len(), 1);
    world.suspend(agent).unwrap();
    world.advance(3_000);
    assert_eq!((calls.len(), world.total().pending), (1, 1));
    world.resume(agent).unwrap();
    world.run();
    assert_eq!((calls.len(), world.total().processed), (3, 1));
    world.assert_settled();
}

#[test]
fn a_suspended_agent_is_not_polled_and_the_shard_may_sleep() {
    let mut world = World::new(1);
    let polls = Log::new();
    let log = polls.clone();
    let script = Script::idle().starting(|context| context.poll_me()).polling(move |_| {
        log.push(());
        Polled::Waiting
    });
    let agent = world.add(0, "agent", script);
    assert!(world.step(0).polling);
    world.suspend(agent).unwrap();
    let before = polls.len();
    assert!((0..5).map(|_| world.step(0).polling).all(|polling| !polling));
    assert_eq!(polls.len(), before);
    // An agent suspended and resumed in one turn is still polled once per turn.
    for _ in 0..2 {
        world.resume(agent).unwrap();
        let token = world.token();
        world.give(0, Input::Suspend(agent, token));
        let token = world.token();
        world.give(0, Input::Resume(agent, token));
        world.step(0);
    }
    let before = polls.len();
    assert!(world.step(0).polling);
    assert_eq!(polls.len(), before + 1);
}

#[test]
fn a_suspended_inbox_is_given_nothing_until_it_is_resumed() {
    let mut world = World::new(2);
    let inbox = world.add_inbox(1, "inbox", 1, 2);
    let sender = world.add(0, "sender", Script::idle());
    world.suspend(inbox).unwrap();
    for number in 0..3 {
        let lifetime = lifetime(if number == 0 { 1_000 } else { 20_000 });
        world.send(inform(sender, inbox, &number.to_string()).time_to_live(lifetime).build().unwrap()).unwrap();
    }
    world.advance(3_000);
    assert_eq!((world.take_delivered(1).len(), world.total().expired), (0, 1));
    world.resume(inbox).unwrap();
    world.run();
    assert!(world.take_delivered(1).iter().map(text).eq(["1", "2"]));
    world.give(1, Input::Taken { agent: inbox, inbox: InboxNumber(1), messages: 2, notices: 0 });
    world.run();
    world.assert_settled();
}

#[test]
fn an_agent_that_is_suspended_while_it_waits_to_be_made_anew_is_started_when_it_is_resumed() {
    for resumed_ms in [100, 5_000] {
        let mut world = World::new(1);
        let (made, handled) = (Log::new(), Log::new());
        let log = handled.clone();
        let script = Script::new(move |message, _| {
            assert!(text(message) != "poison", "poisoned");
            if !is_notice(message) {
                log.push(text(message));
            }
            Outcome::Done
        });
        let agent = world.add(0, "agent", script.restarting(3, 60_000, 1_000).counted(&made));
        let once = std::num::NonZeroU8::MIN;
        world.send_later(inform(agent, agent, "poison").attempts_max(once).build().unwrap());
        world.send_later(inform(agent, agent, "waits").build().unwrap());
        world.run();
        world.suspend(agent).unwrap();
        world.advance(resumed_ms);
        assert_eq!((made.len(), world.state(agent)), (1, AgentState::Suspended));
        world.resume(agent).unwrap();
        world.advance(1_000);
        assert!(made.len() == 2 && handled.texts_eq(&["waits"]), "resumed after {resumed_ms} ms");
        world.assert_settled();
    }
}

#[test]
fn a_draining_agent_takes_nothing_new_finishes_what_it_has_and_is_stopped() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let (sender, told) = world.add_listener(0, "sender");
        let (far, answers) = world.add_listener(1 - shard, "far");
        let handled = Log::new();
        let log = handled.clone();
        let mut attempts = 0;
        let script = Script::new(move |message, context| {
            if is_notice(message) {
                return Outcome::Done;
            }
            attempts += 1;
            if attempts == 1 {
                return Outcome::failed("once more");
            }
            log.push(text(message));
            context.send(inform(context.id(), far, &text(message)).build().unwrap()).unwrap();
            Outcome::Done
        });
        let agent = world.add(shard, "agent", script.offering("lifecycle.draining"));
        world.send(inform(sender, agent, "retried").build().unwrap()).unwrap();
        let later = inform(sender, agent, "delayed").deliver_at(WallTime(WALL_START_MS + 2_000));
        world.send(later.build().unwrap()).unwrap();
        world.run();
        let drained = world.drain_later(agent, 10_000);
        world.run();
        assert_eq!(world.state(agent), AgentState::Draining);
        for shard in 0..2 {
            assert_eq!(world.discover(shard, "lifecycle.draining"), []);
        }
        world.send(inform(sender, agent, "new").build().unwrap()).unwrap();
        world.run();
        assert_eq!(world.dead(DeadLetterReason::Draining), 1);
        let notices = told.notices();
        assert!(notices[0].contains("(draining \"the receiver is draining"), "{notices:?}");
        let name = world.name_on(shard, "agent");
        let twice = world.try_register(Script::idle().registration(name.clone()));
        assert_eq!(twice, Err(RegistrationError::Duplicate { name: name.to_string() }));
        assert_eq!(world.suspend(agent), Err(LifecycleError::WrongState { state: AgentState::Draining }));
        assert_eq!(world.resume(agent), Err(LifecycleError::WrongState { state: AgentState::Draining }));
        let again = world.drain_later(agent, 1);
        world.advance(1_000);
        let wrong = LifecycleError::WrongState { state: AgentState::Draining };
        assert_eq!(world.take_drained(agent, again), Some(Err(wrong)));
        assert!(world.take_drained(agent, drained).is_none(), "a message is still delayed");
        world.advance(1_000);
        assert_eq!(world.take_drained(agent, drained), Some(Ok(Drained { left: 0 })));
        assert!(handled.texts_eq(&["retried", "delayed"]));
        assert_eq!(answers.letters(), ["retried", "delayed"]);
        // From now on it is gone, and its name is free.
        world.send(inform(sender, agent, "late").build().unwrap()).unwrap();
        world.run();
        assert_eq!(world.dead(DeadLetterReason::Deregistered), 1);
        world.register(Script::idle().registration(name));
        assert_eq!(world.state(agent), AgentState::Active);
        assert_eq!(world.snapshot(usize::from(shard)).timers, 0, "the deadline is disarmed");
        world.assert_settled();
    }
}

#[test]
fn what_a_draining_agent_has_not_handled_at_the_deadline_becomes_dead_letters() {
    for shard in 0..2 {
        let mut world = World::new(2);
        world.watch_events();
        let (sender, told) = world.add_listener(0, "sender");
        let agent = world.add(shard, "agent", busy());
        for _ in 0..3 {
            world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
        }
        let later = inform(sender, agent, "x").deliver_at(WallTime(WALL_START_MS + 9_000));
        world.send(later.build().unwrap()).unwrap();
        for _ in 0..5 {
            world.step(0);
            world.step(1);
        }
        let drained = world.drain_later(agent, 2_000);
        for _ in 0..19 {
            world.now_ms += 100;
            world.step(0);
            world.step(1);
        }
        assert!(world.take_drained(agent, drained).is_none());
        world.now_ms += 200;
        world.run();
        assert_eq!(world.take_drained(agent, drained), Some(Ok(Drained { left: 4 })));
        world.advance(10_000);
        assert_eq!((world.dead(DeadLetterReason::DrainDeadline), told.notices().len()), (4, 4));
        let why = Event::Deregistered { agent, why: StopReason::DrainDeadline };
        assert!(world.take_events(usize::from(shard)).contains(&why));
        world.assert_settled();
    }
}

#[test]
fn a_suspended_agent_that_is_drained_handles_what_waited() {
    let mut world = World::new(1);
    let (sender, _) = world.add_listener(0, "sender");
    let (agent, heard) = world.add_listener(0, "agent");
    world.suspend(agent).unwrap();
    world.send(inform(sender, agent, "waits").build().unwrap()).unwrap();
    world.run();
    let drained = world.drain_later(agent, 1_000);
    world.run();
    assert_eq!(world.take_drained(agent, drained), Some(Ok(Drained { left: 0 })));
    assert_eq!(heard.texts(), ["waits"]);
    world.assert_settled();
}

#[test]
fn an_inbox_is_drained_when_its_owner_has_taken_everything() {
    let mut world = World::new(2);
    let inbox = world.add_inbox(0, "inbox", 1, 1);
    let (sender, _) = world.add_listener(1, "sender");
    for number in 0..2 {
        world.send(inform(sender, inbox, &number.to_string()).build().unwrap()).unwrap();
    }
    world.run();
    let drained = world.drain_later(inbox, 1_000);
    for _ in 0..2 {
        world.run();
        assert!(world.take_drained(inbox, drained).is_none());
        world.give(0, Input::Taken { agent: inbox, inbox: InboxNumber(1), messages: 1, notices: 0 });
    }
    world.run();
    assert_eq!(world.take_drained(inbox, drained), Some(Ok(Drained { left: 0 })));
    assert_eq!(world.total().processed, 2);
    world.assert_settled();
}

#[test]
fn what_the_owner_of_a_draining_inbox_has_not_taken_at_the_deadline_becomes_dead_letters() {
    let mut world = World::new(2);
    let (sender, told) = world.add_listener(1, "sender");
    let name = world.name_on(0, "inbox");
    let agent = AgentId::of(&name);
    let inbox = world.open_inbox(name, 3).unwrap();
    for _ in 0..5 {
        world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    }
    world.run();
    let drained = world.drain_later(agent, 1_000);
    world.run();
    assert_eq!(world.read_inbox(inbox, 1).len(), 1);
    world.advance(1_001);
    assert_eq!(world.take_drained(agent, drained), Some(Ok(Drained { left: 4 })));
    world.run();
    assert_eq!((world.total().processed, world.dead(DeadLetterReason::DrainDeadline)), (1, 4));
    assert_eq!(told.notices().len(), 4);
    assert!(world.open_inboxes().is_empty(), "it is closed");
    world.assert_settled();
}

#[test]
fn a_drain_waits_for_durable_messages_and_for_outboxes_and_for_notices_that_find_no_room() {
    let mut world = Setup::new(2).lanes(1, 1).configured(|config| config.durability = Durability::Journal).start();
    let (far, _) = world.add_listener(1, "far");
    let agent = world.add(0, "agent", Script::idle());
    let durable = inform(far, agent, "x").reliability(Reliability::Durable);
    world.tell(durable.build().unwrap());
    world.run();
    world.pause(1, true);
    for _ in 0..3 {
        world.send(inform(agent, far, "x").build().unwrap()).unwrap();
    }
    let drained = world.drain_later(agent, 100_000);
    world.advance(100);
    assert!(world.take_drained(agent, drained).is_none());
    world.commit(0, 1);
    world.advance(100);
    assert!(world.take_drained(agent, drained).is_none(), "its outbox is not empty");
    world.pause(1, false);
    world.run();
    assert_eq!(world.take_drained(agent, drained), Some(Ok(Drained { left: 0 })));
    world.advance(1_000);
    assert_eq!(world.snapshot(0).timers, 0, "the deadline is disarmed");
    world.assert_settled();
}

#[test]
fn a_drain_ends_with_the_agent_however_that_goes() {
    let mut world = World::new(1);
    let sender = world.add(0, "sender", Script::idle());
    let agent = world.add(0, "agent", busy());
    world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    world.step(0);
    let drained = world.drain_later(agent, 60_000);
    world.step(0);
    assert!(world.deregister(agent));
    assert_eq!(world.take_drained(agent, drained), Some(Ok(Drained { left: 1 })));
    world.advance(1_000);
    assert_eq!(
        (world.dead(DeadLetterReason::Deregistered), world.snapshot(0).timers),
        (1, 0),
        "the deadline is disarmed"
    );
    let agent = world.add(0, "agent", busy());
    world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    let drained = world.drain_later(agent, 1_000);
    world.step(0);
    world.stop_all();
    assert_eq!(world.take_drained(agent, drained), Some(Err(LifecycleError::Stopping)));
    let too_late = world.drain_later(sender, 1_000);
    world.run();
    assert_eq!(world.take_drained(sender, too_late), Some(Err(LifecycleError::Stopping)));
    assert_eq!(world.dead(DeadLetterReason::Stopped), 1);
}

#[test]
fn only_so_many_agents_are_drained_at_a_time() {
    let mut world = World::new(1);
    let sender = world.add(0, "sender", Script::idle());
    let names = (0..=DRAINING_AGENTS_MAX).map(|number| AgentName::try_new(format!("inbox-{number}")).unwrap());
    let mut agents = Vec::new();
    for name in names {
        agents.push(AgentId::of(&name));
        world.open_inbox(name, 1).unwrap();
    }
    let mut drains = Vec::new();
    for agent in &agents {
        world.send_later(inform(sender, *agent, "x").build().unwrap());
        world.run();
        drains.push(world.drain_later(*agent, 1_000));
    }
    world.run();
    let full = LifecycleError::TooManyDrains { limit: DRAINING_AGENTS_MAX };
    let last = drains.pop().unwrap();
    assert_eq!(world.take_drained(agents[DRAINING_AGENTS_MAX], last), Some(Err(full)));
    assert_eq!(world.state(agents[DRAINING_AGENTS_MAX]), AgentState::Active);
    world.advance(1_000);
    for (agent, drained) in agents.iter().zip(drains) {
        assert_eq!(world.take_drained(*agent, drained), Some(Ok(Drained { left: 1 })));
    }
    let drained = world.drain_later(agents[DRAINING_AGENTS_MAX], 0);
    world.advance(1);
    assert!(world.take_drained(agents[DRAINING_AGENTS_MAX], drained).is_some());
    world.assert_settled();
}

#[test]
fn an_agent_that_drains_offers_nothing_more() {
    let mut world = World::new(2);
    let script = Script::new(|_, context| {
        context.advertise(&capability("lifecycle.late")).unwrap();
        Outcome::Done
    });
    let agent = world.add(0, "agent", script);
    world.suspend(agent).unwrap();
    world.send(inform(agent, agent, "x").build().unwrap()).unwrap();
    world.drain_later(agent, 1_000);
    world.step(0);
    for shard in 0..2 {
        assert_eq!(world.discover(shard, "lifecycle.late"), []);
    }
    world.run();
    world.assert_settled();
}

/// Brings an agent of this shard into a state in which it accepts no messages, named by the state's word.
fn unable(world: &mut World, shard: u16, state: &str) -> AgentId {
    let name = format!("{state}-");
    match state {
        "unknown-receiver" => AgentId::of(&world.name_on(shard, &name)),
        "deregistered" => {
            let agent = world.add(shard, &name, Script::idle());
            world.deregister(agent);
            agent
        }
        "draining" => {
            let inbox = world.add_inbox(shard, &name, 77, 1);
            world.send(inform(inbox, inbox, "never taken").build().unwrap()).unwrap();
            world.run();
            world.drain_later(inbox, 1_000_000);
            world.run();
            inbox
        }
        "restarts-exhausted" => {
            let script = Script::new(|_, _| panic!("in handle")).restarting(0, 1, 0);
            let agent = world.add(shard, &name, script);
            world.send(inform(agent, agent, "poison").build().unwrap()).unwrap();
            world.advance(1_000);
            agent
        }
        "mailbox-full" => {
            let agent = world.add(shard, &name, Script::idle());
            world.suspend(agent).unwrap();
            for _ in 0..2 {
                world.send(inform(agent, agent, "fills").build().unwrap()).unwrap();
            }
            world.run();
            agent
        }
        _ => unreachable!("{state} is no such state"),
    }
}

#[test]
fn what_cannot_be_delivered_is_a_dead_letter_and_its_sender_hears_the_receivers_state() {
    let states = ["unknown-receiver", "deregistered", "draining", "restarts-exhausted", "mailbox-full"];
    for (state, shard) in states.into_iter().flat_map(|state| [(state, 0), (state, 1)]) {
        let mut world = Setup::new(2).configured(|config| config.mailbox_messages = 2.try_into().unwrap()).start();
        let agent = unable(&mut world, shard, state);
        let (native, told) = world.add_listener(0, "native");
        let inbox = world.add_inbox(0, "inbox", 1, 10);
        world.take_delivered(usize::from(shard));
        let reason = DeadLetterReason::ALL.into_iter().find(|reason| reason.as_str() == state).unwrap();
        let before = world.dead(reason);
        for sender in [native, inbox] {
            let message = inform(sender, agent, "x").conversation_text("talk").reply_with_text("question");
            world.send(message.build().unwrap()).unwrap();
        }
        let question = Message::builder(Performative::Request).receiver(agent).content("tea?").build().unwrap();
        let asked = world.ask(0, question, 1_000);
        world.run();
        assert_eq!(world.dead(reason), before + 3, "{state} on shard {shard}");
        let mut notices = told.notices();
        let delivered = world.take_delivered(0);
        let to_inbox = delivered.iter().find(|message| is_notice(message)).unwrap();
        assert_eq!(to_inbox.performative(), Performative::Failure);
        assert_eq!(to_inbox.in_reply_to(), Some(caxton_shards::message::Correlation::of_text("question")));
        notices.push(text(to_inbox));
        let Some(Err(AskError::Undeliverable(notice))) = world.take_reply(0, asked) else { panic!("no failure") };
        notices.push(text(notice.notice()));
        assert_eq!(notices.len(), 3);
        for notice in notices {
            assert!(notice.contains(&format!(") ({state} \"")), "{notice}");
            assert!(state != "mailbox-full" || notice.contains("suspended"), "{notice}");
        }
    }
}

#[test]
fn no_failure_is_sent_about_a_failure() {
    for state in ["unknown-receiver", "deregistered", "draining", "restarts-exhausted"] {
        let mut world = World::new(2);
        let agent = unable(&mut world, 1, state);
        // Replies to every message, including the router's failure notices.
        let parrot = world.add(
            0,
            "parrot",
            Script::new(|message, context| {
                context.send(message.reply(Performative::Failure).build().unwrap()).unwrap();
                Outcome::Done
            }),
        );
        let before = world.total().notices;
        world.send(inform(parrot, agent, "x").build().unwrap()).unwrap();
        world.run();
        assert_eq!(world.total().notices, before + 1, "{state}");
        // A notice for an agent that accepts nothing is counted, and not reported.
        world.send(inform(parrot, agent, "x").build().unwrap()).unwrap();
        world.step(0);
        world.deregister(parrot);
        world.run();
        assert_eq!(world.total().notices, before + 2, "{state}");
    }
}

#[test]
fn an_agent_cannot_be_suspended_once_its_shard_has_stopped_and_hears_what_became_of_its_messages() {
    let mut world = World::new(1);
    let (sender, told) = world.add_listener(0, "sender");
    let receiver = world.add(0, "receiver", Script::idle());
    world.suspend(receiver).unwrap();
    world.send(inform(sender, receiver, "waits").build().unwrap()).unwrap();
    let token = world.token();
    world.give(0, Input::Stop);
    world.give(0, Input::Suspend(sender, token));
    world.run();
    let Some(Answer::Changed(changed)) = world.take_answer(0, token) else { panic!("it is answered") };
    assert_eq!(changed, Err(LifecycleError::Stopping));
    let failure = told.take().pop().unwrap();
    assert!(is_notice(&failure) && text(&failure).contains("stopped"), "{}", text(&failure));
}

#[test]
fn a_suspended_provider_is_still_chosen_and_a_stopped_one_is_not() {
    let mut world = World::new(2);
    let sender = world.add(0, "sender", Script::idle());
    let agent = world.add(1, "agent", Script::idle().offering("lifecycle.provider"));
    let ask = || {
        let message = Message::builder(Performative::Request).sender(sender).content("please");
        message.capability(&capability("lifecycle.provider"), Choice::Any).build().unwrap()
    };
    world.suspend(agent).unwrap();
    world.send(ask()).unwrap();
    world.run();
    assert_eq!(world.view(agent).unwrap().mailbox_messages, 1);
    let drained = world.drain_later(agent, 1_000);
    world.run();
    assert!(world.take_drained(agent, drained).is_some());
    world.send(ask()).unwrap();
    world.run();
    assert_eq!(world.dead(DeadLetterReason::NoProvider), 1);
    world.assert_settled();
}

#[test]
fn what_a_shard_tells_itself_is_heard_in_its_next_turn_and_keeps_it_from_being_quiet() {
    let mut world = World::new(1);
    let victim = world.add(0, "victim", Script::idle());
    let replies = Log::new();
    let told = replies.clone();
    let script = Script::new(move |_, context| {
        context.deregister_agent(victim).unwrap();
        Outcome::Done
    });
    let script = script.polling(move |context| {
        told.push(context.take_admin_replies().len());
        Polled::Finished
    });
    let admin = world.add(0, "admin", script);
    world.watch_events();
    world.send_later(inform(admin, admin, "go").build().unwrap());
    let turn = world.step(0);
    assert!(turn.more && !world.nodes[0].shard.is_quiet(), "it has told itself something");
    assert_eq!(states(&world.take_events(0), victim), [], "and has not heard it yet");
    world.run();
    assert_eq!(states(&world.take_events(0), victim), [AgentState::Stopped]);
    assert_eq!(replies.take(), [1]);
    world.assert_settled();
}

#[test]
fn what_a_handler_wants_of_agent_management_takes_place_in_the_turn_after_it() {
    let mut world = World::new(1);
    let woken = Log::new();
    let log = woken.clone();
    let script = Script::new(|_, context| {
        context.wake_at(context.now().monotonic_ms() + 500);
        Outcome::Done
    });
    let script = script.polling(move |context| {
        log.push(context.now().monotonic_ms());
        Polled::Finished
    });
    let agent = world.add(0, "agent", script);
    world.run();
    world.send_later(inform(agent, agent, "go").build().unwrap());
    let turn = world.step(0);
    assert!(turn.more && turn.next_deadline_ms.is_none(), "its timer is not armed yet");
    assert!(world.step(0).next_deadline_ms.is_some());
    world.advance(1_000);
    assert_eq!(woken.take(), [500]);
    world.assert_settled();
}
