//! Supervision: failing agents are restarted within the limits of their policy, then stopped; other agents are not
//! affected.

#![allow(clippy::redundant_closure_for_method_calls)] // The method is not general enough in its lifetimes.

use std::num::NonZeroU8;

use caxton_shards::agent::{Agent, Context, Outcome, Polled, Registration, Supervision};
use caxton_shards::api::{AgentState, Event, EventDetail, RegistrationError, StopReason, is_notice};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::AgentName;
use caxton_shards::message::{AgentId, Message, WallTime};
use caxton_shards::supervision::RESTART_BACKOFF_MS_MAX;

use crate::common::{Log, Script, Setup, WALL_START_MS, World, inform, text};

/// Panics on every message that says so.
fn fragile() -> Script {
    Script::new(|message, _| {
        assert!(is_notice(message) || text(message) != "poison", "poisoned");
        Outcome::Done
    })
}

fn poison(from: AgentId, to: AgentId) -> Message {
    inform(from, to, "poison").attempts_max(NonZeroU8::MIN).build().unwrap()
}

fn stop_reasons(events: &[Event]) -> Vec<StopReason> {
    let why = |event: &Event| if let Event::Deregistered { why, .. } = event { Some(*why) } else { None };
    events.iter().filter_map(why).collect()
}

#[test]
fn an_agent_is_made_anew_as_often_as_allowed_within_the_window_and_then_stopped() {
    for shard in 0..2 {
        let mut world = World::new(2);
        world.watch_events();
        let (sender, told) = world.add_listener(0, "sender");
        let made = Log::new();
        let script = fragile().restarting(2, 1_000, 0).offering("supervision.fragile").counted(&made);
        let agent = world.add(shard, "agent", script);
        for _ in 0..2 {
            world.send(poison(sender, agent)).unwrap();
            world.run();
        }
        assert_eq!((made.len(), world.view(agent).unwrap().restarts), (3, 2));
        // The window slides: after it there is room again.
        world.advance(1_000);
        for _ in 0..2 {
            world.send(poison(sender, agent)).unwrap();
            world.run();
        }
        assert_eq!((made.len(), world.state(agent)), (5, AgentState::Active));
        world.take_events(usize::from(shard));
        let later = inform(sender, agent, "delayed").deliver_at(WallTime(WALL_START_MS + 1_500)).build().unwrap();
        world.send(later).unwrap();
        world.send_later(poison(sender, agent));
        world.send_later(inform(sender, agent, "behind it").build().unwrap());
        world.advance(1_000);
        assert_eq!(made.len(), 5, "it is not made anew again");
        let events = world.take_events(usize::from(shard));
        assert_eq!(stop_reasons(&events), [StopReason::RestartsExhausted]);
        assert_eq!(world.dead(DeadLetterReason::RestartsExhausted), 2, "what waited, and what was delayed");
        for shard in 0..2 {
            assert_eq!(world.discover(shard, "supervision.fragile"), []);
        }
        world.send(inform(sender, agent, "too late").build().unwrap()).unwrap();
        world.run();
        let notices = told.notices();
        assert!(notices.last().unwrap().contains("(restarts-exhausted \"the receiver is stopped"), "{notices:?}");
        let view = world.view(agent).unwrap();
        assert_eq!((view.state, view.restarts), (AgentState::Stopped, 4));
        assert_eq!(view.stopped_because, Some(StopReason::RestartsExhausted));
        world.assert_settled();
    }
}

#[test]
fn one_poison_message_ends_among_the_dead_letters_and_the_agent_lives_on() {
    let mut world = Setup::new(1).configured(|config| config.supervision.restarts = 1.try_into().unwrap()).start();
    let (sender, _) = world.add_listener(0, "sender");
    let made = Log::new();
    let agent = world.add(0, "agent", fragile().counted(&made));
    let many = NonZeroU8::new(20).unwrap();
    let stubborn = inform(sender, agent, "poison").attempts_max(many).time_to_live(crate::common::lifetime(300_000));
    world.give(0, caxton_shards::api::Input::WatchEvents(EventDetail::Everything));
    world.send(stubborn.build().unwrap()).unwrap();
    // Ten attempts take a minute and a half of growing delays: all of them count once.
    world.advance(100_000);
    assert_eq!((made.len(), world.state(agent)), (11, AgentState::Active));
    world.advance(250_000);
    assert_eq!(
        (world.total().expired + world.dead(DeadLetterReason::AttemptsExhausted), world.total().pending),
        (1, 0)
    );
    assert_eq!(world.state(agent), AgentState::Active);
    let processed = world.total().processed;
    world.send(inform(sender, agent, "still there").build().unwrap()).unwrap();
    world.run();
    assert_eq!(world.total().processed, processed + 1);
    world.assert_settled();
}

#[test]
fn a_poison_message_is_given_up_after_its_attempts_and_its_sender_hears_of_the_panic() {
    let mut world = World::new(1);
    let (sender, told) = world.add_listener(0, "sender");
    let agent = world.add(0, "agent", fragile());
    world.send(inform(sender, agent, "poison").build().unwrap()).unwrap();
    world.advance(5_000);
    assert_eq!((world.dead(DeadLetterReason::AttemptsExhausted), world.state(agent)), (1, AgentState::Active));
    assert_eq!(world.dead_letters(0)[0].attempts, 4);
    assert!(told.notices()[0].contains("poisoned"));
    world.assert_settled();
}

#[test]
fn no_restart_at_all_stops_the_agent_at_its_first_panic() {
    let mut world = World::new(1);
    let (sender, _) = world.add_listener(0, "sender");
    let agent = world.add(0, "agent", fragile().restarting(0, 1_000, 0));
    world.send(inform(sender, agent, "poison").build().unwrap()).unwrap();
    world.advance(1_000);
    assert_eq!((world.state(agent), world.dead(DeadLetterReason::RestartsExhausted)), (AgentState::Stopped, 1));
    world.assert_settled();
}

#[test]
fn a_verdict_to_restart_counts_like_a_panic() {
    let mut world = World::new(1);
    let (sender, _) = world.add_listener(0, "sender");
    let script = Script::new(|_, _| Outcome::failed("no")).supervised(|_| Supervision::Restart);
    let agent = world.add(0, "agent", script.restarting(2, 60_000, 0));
    for expected in [AgentState::Active, AgentState::Active, AgentState::Stopped] {
        world.send(poison(sender, agent)).unwrap();
        world.run();
        assert_eq!(world.state(agent), expected);
    }
    world.assert_settled();
}

#[test]
fn an_agent_waits_its_delay_before_it_is_made_anew_and_its_mail_waits_with_it() {
    let mut world = World::new(1);
    world.watch_events();
    let (sender, told) = world.add_listener(0, "sender");
    let (made, handled) = (Log::new(), Log::new());
    let log = handled.clone();
    let script = Script::new(move |message, _| {
        assert!(text(message) != "poison", "poisoned");
        log.push(text(message));
        Outcome::Done
    });
    let agent = world.add(0, "agent", script.restarting(5, 60_000, 2_000).counted(&made));
    world.take_events(0);
    world.send_later(poison(sender, agent));
    world.send_later(inform(sender, agent, "waits").build().unwrap());
    world.send_later(inform(sender, agent, "expires").time_to_live(crate::common::lifetime(1_000)).build().unwrap());
    world.advance(1_999);
    assert_eq!((made.len(), handled.len(), world.state(agent)), (1, 0, AgentState::Initiated));
    world.advance(1);
    assert_eq!((made.len(), handled.take(), world.state(agent)), (2, vec!["waits".to_owned()], AgentState::Active));
    assert_eq!((world.total().expired, told.notices().len()), (1, 2));
    let events = world.take_events(0);
    let at = |wanted: &Event| events.iter().position(|event| event == wanted).unwrap();
    let steps = [
        Event::AgentPanicked { agent, what: "poisoned".to_owned() },
        Event::AgentRestarted { agent, restarts: 1, delay_ms: 2_000 },
        Event::StateChanged { agent, state: AgentState::Initiated },
        Event::StateChanged { agent, state: AgentState::Active },
    ];
    assert!(steps.iter().map(at).is_sorted(), "{events:?}");
    world.assert_settled();
}

#[test]
fn a_start_that_fails_is_repeated_after_growing_waits_and_its_mail_is_handled_in_the_end() {
    let mut world = World::new(1);
    let (sender, _) = world.add_listener(0, "sender");
    let starts: Log<u64> = Log::new();
    let log = starts.clone();
    let mut count = 0;
    let script = fragile().starting(move |context| {
        count += 1;
        log.push(context.now().monotonic_ms());
        assert!(count == 1 || count > 5, "the world is not ready");
    });
    let agent = world.add(0, "agent", script.restarting(10, 60_000, 10));
    world.send_later(poison(sender, agent));
    world.send_later(inform(sender, agent, "patient").build().unwrap());
    world.advance(1_000);
    assert_eq!(starts.take(), [0, 10, 20, 40, 80, 160]);
    assert_eq!((world.state(agent), world.view(agent).unwrap().restarts), (AgentState::Active, 5));
    world.assert_settled();
}

#[test]
fn a_start_that_fails_without_a_delay_only_arms_its_timer() {
    let mut world = World::new(1);
    let (sender, _) = world.add_listener(0, "sender");
    let starts: Log<u64> = Log::new();
    let log = starts.clone();
    let mut count = 0;
    let script = fragile().starting(move |context| {
        count += 1;
        log.push(context.now().monotonic_ms());
        assert!(count == 1 || count > 3, "the world is not ready");
    });
    let agent = world.add(0, "agent", script.restarting(10, 60_000, 0));
    starts.take();
    world.send_later(poison(sender, agent));
    let turn = world.step(0);
    let now_ms = world.now().monotonic_ms();
    assert_eq!(starts.len(), 1, "it is started once in this turn, and fails");
    assert_eq!(turn.next_deadline_ms, Some(now_ms + 1));
    world.advance(1_000);
    assert_eq!((starts.len(), world.state(agent)), (3, AgentState::Active));
    world.assert_settled();
}

#[test]
fn a_factory_that_panics_counts_as_a_restart() {
    let mut world = World::new(1);
    let (sender, _) = world.add_listener(0, "sender");
    let name = AgentName::try_new("agent").unwrap();
    let made = Log::new();
    let log = made.clone();
    let factory = move || {
        log.push(());
        assert!(log.len() == 1, "the mould is broken");
        Panicky { on_drop: false }
    };
    let mut policy = Setup::new(1).config.supervision;
    policy.restarts = 4.try_into().unwrap();
    let agent = world.register(Registration::native(name, factory).supervised(policy));
    world.send(poison(sender, agent)).unwrap();
    world.advance(RESTART_BACKOFF_MS_MAX * 4);
    assert_eq!((made.len(), world.state(agent)), (5, AgentState::Stopped));
    world.assert_settled();
}

/// Panics when dropped, if told so.
struct Panicky {
    on_drop: bool,
}

impl Agent for Panicky {
    fn handle(&mut self, message: &Message, _: &mut Context<'_>) -> Outcome {
        assert!(text(message) != "poison", "poisoned");
        Outcome::Done
    }
}

impl Drop for Panicky {
    fn drop(&mut self) {
        assert!(!self.on_drop, "in drop");
    }
}

/// Captured by a factory; panics when dropped.
struct Captured;

impl Drop for Captured {
    fn drop(&mut self) {
        panic!("in the drop of what the factory captured");
    }
}

fn explosive(name: AgentName) -> Registration {
    let captured = Captured;
    Registration::native(name, move || {
        let _ = &captured;
        Panicky { on_drop: true }
    })
}

#[test]
fn agents_and_factories_that_panic_when_they_are_dropped_harm_nobody() {
    let mut world = World::new(2);
    let (other, heard) = world.add_listener(0, "other");
    for shard in 0..2 {
        let name = world.name_on(shard, "explosive");
        let agent = world.register(explosive(name.clone()));
        let twice = world.try_register(explosive(name.clone()));
        assert_eq!(twice, Err(RegistrationError::Duplicate { name: name.to_string() }));
        world.send(poison(other, agent)).unwrap();
        world.run();
        assert_eq!(world.view(agent).unwrap().restarts, 1, "it was dropped and made anew");
        assert!(world.deregister(agent));
    }
    // What a failed handler registered is dropped with its other effects.
    let name = world.name_on(1, "never");
    let parent = world.add(
        0,
        "parent",
        Script::new(move |_, context| {
            context.register(explosive(name.clone()));
            Outcome::failed("no")
        }),
    );
    world.send(poison(other, parent)).unwrap();
    world.run();
    assert_eq!((world.state(parent), world.total().pending), (AgentState::Active, 0));
    world.send(inform(parent, other, "all is well").build().unwrap()).unwrap();
    world.run();
    assert_eq!(heard.letters(), ["all is well"]);
    world.assert_settled();
    // The shards are dropped while such an agent still exists.
    let name = world.name_on(0, "last");
    world.register(explosive(name));
    drop(world);
}

#[test]
fn a_panic_anywhere_in_an_agent_leaves_its_neighbours_their_mail_and_their_order() {
    let places = ["handle", "resume", "poll", "supervise", "stopped", "payload"];
    for place in places {
        let mut world = World::new(2);
        let (other, heard) = world.add_listener(0, "other");
        let (witness, seen) = world.add_listener(1, "witness");
        let script = Script::new(move |message, _| {
            if is_notice(message) {
                return Outcome::Done;
            }
            match place {
                "handle" => panic!("in handle"),
                "payload" => std::panic::panic_any(Captured),
                "resume" => Outcome::Suspended,
                "supervise" => Outcome::failed("no"),
                _ => Outcome::Done,
            }
        })
        .resuming(|_, _| panic!("in resume"))
        .starting(|context| context.poll_me())
        .polling(move |_| {
            assert!(place != "poll", "in poll");
            Polled::Finished
        })
        .supervised(|_| panic!("in supervise"))
        .stopping(|| panic!("in stopped"));
        let agent = world.add(0, "agent", script.restarting(3, 60_000, 0));
        for number in 0..50 {
            world.send_later(inform(other, agent, "x").attempts_max(NonZeroU8::MIN).build().unwrap());
            world.send_later(inform(agent, other, &number.to_string()).build().unwrap());
            world.send_later(inform(other, witness, &number.to_string()).build().unwrap());
            if number == 25 {
                world.advance(10);
                world.deregister(agent);
            }
        }
        world.advance(1_000);
        let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        assert_eq!(seen.letters(), expected, "{place}");
        assert!(heard.letters().iter().eq(expected.iter().take(heard.letters().len())), "{place}");
        assert_eq!(world.state(agent), AgentState::Stopped, "{place}");
        world.assert_settled();
    }
}

#[test]
fn an_agent_that_fails_while_it_is_polled_is_stopped_in_the_end_and_the_shard_sleeps() {
    let mut world = World::new(1);
    let script = Script::idle().starting(|context| context.poll_me()).polling(|_| panic!("in poll"));
    let made = Log::new();
    let agent = world.add(0, "agent", script.restarting(3, 60_000, 0).counted(&made));
    // As in a driver: a shard with polling agents does not sleep.
    while world.step(0).polling {
        assert!(made.len() <= 4, "it is made anew too often");
    }
    assert_eq!((made.len(), world.state(agent)), (4, AgentState::Stopped));
    assert!(!world.step(0).polling);
    world.assert_settled();
}

#[test]
fn an_agent_that_is_removed_while_it_waits_to_be_made_anew_leaves_nothing_behind() {
    let mut world = World::new(1);
    let (sender, told) = world.add_listener(0, "sender");
    let made = Log::new();
    let agent = world.add(0, "agent", fragile().restarting(3, 60_000, 5_000).counted(&made));
    world.send_later(poison(sender, agent));
    world.send_later(inform(sender, agent, "waits").build().unwrap());
    world.run();
    assert!(world.deregister(agent));
    assert_eq!((world.dead(DeadLetterReason::Deregistered), told.notices().len()), (1, 2));
    let again = world.add(0, "agent", Script::idle());
    world.advance(10_000);
    assert_eq!((made.len(), again, world.snapshot(0).timers), (1, agent, 0));
    assert_eq!((world.state(agent), world.view(agent).unwrap().restarts), (AgentState::Active, 0));
    world.assert_settled();
}
