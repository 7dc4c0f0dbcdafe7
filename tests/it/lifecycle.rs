//! How a router ends, and what it survives until then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use caxton_router::config::Preset;
use caxton_router::config::ShardChoice;
use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::domain::ShardCount;
use caxton_router::error::RegistrationError;
use caxton_router::error::{AskError, SendErrorKind};
use caxton_router::error::{CallError, WouldDeadlockError};
use caxton_router::event::Event;
use caxton_router::stats::ConsumerState;
use caxton_router::{Agent, Config, Context, Message, Outcome, Performative, Router};
use futures_lite::future::block_on;

use crate::common::{
    PATIENCE, bounded, echo, hold_up, message_to, name, name_on, on, request_to, shutdown, silent, start, start_with,
    text_of,
};

#[test]
fn a_router_runs_with_the_values_of_its_preset() {
    bounded(|| {
        for preset in Preset::ALL {
            let shards = ShardCount::try_new(1).expect("one shard is allowed");
            let router = Router::builder().preset(preset).shards(shards).start().expect("the router starts");
            let mut expected = Config::preset(preset);
            expected.router.shards = ShardChoice::Exactly(shards);
            assert_eq!(*router.config(), expected);
            let agent = router.blocking().register(name("echo"), echo).expect("the agent is registered");
            router.blocking().ask(request_to(agent, "?"), PATIENCE).expect("the agent answers");
            shutdown(&router);
        }
    });
}

#[test]
fn no_shards_and_too_many_shards_are_no_numbers_of_shards() {
    let message = |count: u16| ShardCount::try_new(count).expect_err("it is not allowed").to_string();
    assert_eq!(message(0), "shard count 0 is out of range: expected 1 to 1024 shards");
    assert_eq!(message(1_025), "shard count 1025 is out of range: expected 1 to 1024 shards");
}

#[test]
fn several_routers_live_in_one_process() {
    bounded(|| {
        let routers: Vec<_> = (1..=3).map(start).collect();
        for (number, router) in routers.iter().enumerate() {
            // The same name in each: they are independent.
            router
                .blocking()
                .register(name("oracle"), move || {
                    on(move |message, context| {
                        let reply = message.reply(Performative::Inform).content(number.to_string()).build();
                        context.send(reply.expect("the reply is valid")).expect("there is room");
                        Outcome::Done
                    })
                })
                .expect("the agent is registered");
        }
        let oracle = caxton_router::AgentId::of_text("oracle");
        shutdown(&routers[1]);
        for (number, router) in routers.iter().enumerate() {
            let reply = router.blocking().ask(request_to(oracle, "who are you"), PATIENCE);
            match reply {
                Ok(reply) => assert_eq!(text_of(&reply), number.to_string()),
                Err(failure) => assert!(number == 1 && matches!(failure, AskError::Stopped), "{failure:?}"),
            }
        }
        shutdown(&routers[0]);
        shutdown(&routers[2]);
    });
}

/// Two agents that play a ball back and forth this often.
struct Player {
    handled: Arc<AtomicU32>,
}

impl Agent for Player {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        self.handled.fetch_add(1, Ordering::Relaxed);
        let left: u32 = text_of(message).parse().expect("the content is a number");
        if left > 0 {
            let reply = message.reply(Performative::Inform).content((left - 1).to_string()).build();
            context.send(reply.expect("the reply is valid")).expect("there is room");
        }
        Outcome::Done
    }
}

#[test]
fn shutdown_handles_everything_that_was_queued_before_it() {
    bounded(|| {
        let router = start_with(2, |config| {
            config.mailbox.messages = 100_000.try_into().expect("the capacity is allowed");
        });
        let handled = Arc::new(AtomicU32::new(0));
        let players: Vec<_> = (0..10)
            .map(|number| {
                let handled = handled.clone();
                let factory = move || Player { handled: handled.clone() };
                router.blocking().register(name(&format!("player-{number}")), factory).expect("it is registered")
            })
            .collect();
        let barriers = [hold_up(&router, 0), hold_up(&router, 1)];
        // Each ball begins at a player, in its own name, and is hit nine more times.
        for (number, player) in players.iter().cycle().take(5_000).enumerate() {
            let opponent = players[(number * 7 + 3) % players.len()];
            let serve = Message::builder(Performative::Inform).sender(*player).receiver(opponent).content("9");
            router.blocking().tell(serve.build().expect("it is valid")).expect("the router runs");
        }
        let stopper = {
            let router = router.clone();
            std::thread::spawn(move || shutdown(&router))
        };
        for barrier in barriers {
            barrier.open();
        }
        let report = stopper.join().expect("the router stops");
        assert_eq!(handled.load(Ordering::Relaxed), 50_000);
        assert_eq!(report.stats.account().processed, 50_000 + 2);
    });
}

#[test]
fn what_is_told_while_the_router_stops_is_handled_or_refused() {
    bounded(|| {
        for _ in 0..20 {
            let router = start(2);
            let agent = router.blocking().register(name("silent"), silent).expect("the agent is registered");
            let (begun, begins) = flume::bounded(2);
            let tellers: Vec<_> = (0..2)
                .map(|_| {
                    let (router, begun) = (router.clone(), begun.clone());
                    std::thread::spawn(move || {
                        let mut queued = 0_u64;
                        loop {
                            match router.blocking().tell(message_to(agent, "x")) {
                                Ok(()) => queued += 1,
                                Err(rejected) => {
                                    assert_eq!(rejected.kind(), &SendErrorKind::Stopping);
                                    return queued;
                                }
                            }
                            if queued == 10 {
                                let _ = begun.send(());
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..2 {
                begins.recv_timeout(PATIENCE).expect("the tellers have begun");
            }
            let account = shutdown(&router).stats.account();
            let queued: u64 = tellers.into_iter().map(|teller| teller.join().expect("the teller is done")).sum();
            assert_eq!(account.accepted, queued, "what was queued is answered for: {account:?}");
        }
    });
}

#[test]
fn what_is_not_handled_by_the_deadline_is_given_up_as_stopped() {
    bounded(|| {
        let router = start(2);
        // It sends itself the same message forever, so it never finishes.
        let agent = router
            .blocking()
            .register(name("restless"), || {
                on(|message, context| {
                    let again = message_to(context.id(), &text_of(message));
                    context.send(again).expect("there is room");
                    Outcome::Done
                })
            })
            .expect("the agent is registered");
        for _ in 0..50 {
            router.blocking().send(message_to(agent, "again")).expect("it is accepted");
        }
        let report = router.shutdown(Duration::from_millis(50)).expect("this is no shard's thread");
        assert!(!report.drained && report.balances(), "{report:?}");
        let account = report.stats.account();
        assert_eq!((account.dead_lettered, account.dead_by_reason[DeadLetterReason::Stopped.index()]), (50, 50));
    });
}

#[test]
fn a_suspended_message_is_given_up_at_the_deadline() {
    bounded(|| {
        struct Sleeper;
        impl Agent for Sleeper {
            fn handle(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
                Outcome::Suspended
            }
            fn resume(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
                Outcome::Suspended
            }
        }
        let router = start(2);
        let agent = router.blocking().register(name("sleeper"), || Sleeper).expect("the agent is registered");
        for _ in 0..3 {
            router.blocking().send(message_to(agent, "x")).expect("it is accepted");
        }
        let report = router.shutdown(Duration::ZERO).expect("this is no shard's thread");
        assert!(!report.drained && report.balances(), "{report:?}");
        assert_eq!(report.stats.account().dead_by_reason[DeadLetterReason::Stopped.index()], 3);
    });
}

#[test]
fn a_question_that_waits_hears_that_the_router_stops() {
    bounded(|| {
        let router = start(2);
        let (ear, heard) = flume::unbounded();
        let agent = router
            .blocking()
            .register(name("silent"), move || {
                let ear = ear.clone();
                on(move |_, _| {
                    let _ = ear.send(());
                    Outcome::Done
                })
            })
            .expect("the agent is registered");
        let asker = {
            let router = router.clone();
            std::thread::spawn(move || router.blocking().ask(request_to(agent, "?"), 10 * PATIENCE))
        };
        heard.recv_timeout(PATIENCE).expect("the question arrives");
        shutdown(&router);
        let failure = asker.join().expect("the asker has its answer");
        assert!(matches!(failure, Err(AskError::Stopped)), "{failure:?}");
    });
}

#[test]
fn stopping_twice_reports_the_same() {
    bounded(|| {
        let router = start(2);
        let inbox = router.inbox(name("clerk")).blocking().open().expect("the inbox is opened");
        router.blocking().send(message_to(inbox.id(), "never taken")).expect("it is accepted");
        let first = router.shutdown(Duration::ZERO).expect("this is no shard's thread");
        let second = router.shutdown(PATIENCE).expect("this is no shard's thread");
        assert_eq!((first.drained, second.drained), (false, false));
        assert_eq!(first.stats.account(), second.stats.account());
    });
}

#[test]
fn two_threads_can_stop_a_router_together() {
    bounded(|| {
        let router = start(2);
        let agent = router.blocking().register(name("silent"), silent).expect("the agent is registered");
        for _ in 0..100 {
            router.blocking().tell(message_to(agent, "x")).expect("the router runs");
        }
        let stoppers: Vec<_> = (0..4)
            .map(|_| {
                let router = router.clone();
                std::thread::spawn(move || shutdown(&router))
            })
            .collect();
        for stopper in stoppers {
            assert_eq!(stopper.join().expect("the router stops").stats.account().processed, 100);
        }
    });
}

/// An agent that reports when it is dropped, with its shard or before.
struct Parting(flume::Sender<()>);

impl Agent for Parting {
    fn handle(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        Outcome::Done
    }
}

impl Drop for Parting {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn dropping_the_last_handle_stops_the_router() {
    bounded(|| {
        let router = start(2);
        let (parted, parts) = flume::unbounded();
        let agent = router.blocking().register(name("parting"), move || Parting(parted.clone()));
        let other = router.clone();
        drop(router);
        other.blocking().send(message_to(agent.expect("it is registered"), "x")).expect("another handle is left");
        assert!(parts.is_empty(), "the router runs as long as there is a handle");
        drop(other);
        // Dropping the last handle has waited for the shards.
        assert_eq!(parts.try_recv(), Ok(()));
    });
}

#[test]
fn a_handler_can_drop_the_last_handle() {
    bounded(|| {
        let router = start(2);
        let (parted, parts) = flume::unbounded();
        router.blocking().register(name("parting"), move || Parting(parted.clone())).expect("it is registered");
        let mut handle = Some(router.clone());
        let mut holder = Some(move || {
            let mut handle = handle.take();
            on(move |_, _| {
                drop(handle.take());
                Outcome::Done
            })
        });
        let barrier = hold_up(&router, 0);
        let agent = name_on(&router, 0, "holder");
        let id = caxton_router::AgentId::of(&agent);
        let mut factory = holder.take().expect("it is there");
        // Both are queued after the barrier, so that the handler runs when the other handles are gone.
        let mut registering = Box::pin(router.register(agent, move || factory()));
        assert!(block_on(futures_lite::future::poll_once(&mut registering)).is_none());
        router.try_tell(message_to(id, "let go")).expect("there is room");
        drop(registering);
        drop(router);
        barrier.open();
        parts.recv_timeout(PATIENCE).expect("the shards leave");
    });
}

#[test]
fn blocking_calls_inside_a_handler_are_refused() {
    bounded(|| {
        let router = start(2);
        let (refused, refusals) = flume::unbounded();
        let handle = router.clone();
        let agent = router
            .blocking()
            .register(name("impatient"), move || {
                let (router, refused) = (handle.clone(), refused.clone());
                on(move |message, context| {
                    let me = context.id();
                    let message = || message_to(me, &text_of(message));
                    let errors = [
                        router.blocking().tell(message()).err().map(SendErrorKind::from),
                        router.blocking().send(message()).err().map(SendErrorKind::from),
                        router.blocking().tell_all(vec![message()]).err().map(|error| error.kind().clone()),
                        match router.blocking().ask(message(), PATIENCE) {
                            Err(AskError::Rejected(rejected)) => Some(rejected.into()),
                            _ => None,
                        },
                    ];
                    assert_eq!(errors, [const { Some(SendErrorKind::WouldDeadlock) }; 4]);
                    assert_eq!(router.blocking().register(name("x"), silent), Err(CallError::WouldDeadlock));
                    assert_eq!(router.blocking().deregister(me), Err(CallError::WouldDeadlock));
                    assert_eq!(router.blocking().suspend(me), Err(CallError::WouldDeadlock));
                    assert_eq!(router.blocking().resume(me), Err(CallError::WouldDeadlock));
                    assert_eq!(router.blocking().drain(me, PATIENCE), Err(CallError::WouldDeadlock));
                    assert_eq!(router.blocking().agent(me), Err(CallError::WouldDeadlock));
                    assert_eq!(
                        router.blocking().discover(&crate::common::capability("x")),
                        Err(CallError::WouldDeadlock)
                    );
                    assert_eq!(router.inbox(name("x")).blocking().open().err(), Some(CallError::WouldDeadlock));
                    assert_eq!(router.shutdown(PATIENCE).err(), Some(WouldDeadlockError));
                    let _ = refused.send(());
                    Outcome::Done
                })
            })
            .expect("the agent is registered");
        router.blocking().send(message_to(agent, "try")).expect("it is accepted");
        refusals.recv_timeout(PATIENCE).expect("every call is refused");
        shutdown(&router);
    });
}

#[test]
fn a_handler_can_tell_through_a_handle_without_waiting() {
    bounded(|| {
        let router = start(2);
        let (ear, heard) = flume::unbounded();
        let listener = router.blocking().register(name("listener"), move || crate::common::reporter(ear.clone()));
        let listener = listener.expect("the agent is registered");
        let handle = router.clone();
        let agent = router.blocking().register(name("forwarder"), move || {
            let router = handle.clone();
            on(move |message, _| {
                router.try_tell(message_to(listener, &text_of(message))).expect("there is room");
                Outcome::Done
            })
        });
        router.blocking().send(message_to(agent.expect("it is registered"), "pass it on")).expect("it is accepted");
        assert_eq!(heard.recv_timeout(PATIENCE), Ok("pass it on".to_owned()));
        shutdown(&router);
    });
}

#[test]
fn a_panic_in_a_handler_harms_nobody_else() {
    bounded(|| {
        let router = start_with(2, |config| {
            config.retry.delay_ms = 1.try_into().expect("a millisecond is allowed");
        });
        let events = block_on(router.events()).expect("the router runs");
        let agent = router
            .blocking()
            .register(name_on(&router, 0, "fragile"), || on(|_, _| panic!("this is part of the test")))
            .expect("the agent is registered");
        let neighbour = router.blocking().register(name_on(&router, 0, "neighbour"), echo).expect("it is registered");
        let failure = router.blocking().ask(request_to(agent, "?"), PATIENCE);
        let Err(AskError::Undeliverable(error)) = failure else { panic!("{failure:?}") };
        let notice = error.notice();
        assert!(text_of(notice).contains("this is part of the test"), "{}", text_of(notice));
        let panicked = std::iter::from_fn(|| events.try_next())
            .filter(|event| matches!(event, Event::AgentPanicked { agent: who, .. } if *who == agent))
            .count();
        // The first attempt and the one retry of the settings for tests.
        assert_eq!(panicked, 2);
        router.blocking().ask(request_to(neighbour, "?"), PATIENCE).expect("the neighbour answers");
        let account = shutdown(&router).stats.account();
        assert_eq!(account.dead_by_reason[DeadLetterReason::AttemptsExhausted.index()], 1);
    });
}

#[test]
fn an_agent_that_can_not_be_made_is_refused_with_the_reason() {
    bounded(|| {
        let router = start(2);
        let error = router
            .blocking()
            .register(name("stillborn"), || -> Player { panic!("this is part of the test") })
            .expect_err("it cannot be made");
        let panicked =
            RegistrationError::Panicked { name: "stillborn".to_owned(), what: "this is part of the test".to_owned() };
        assert_eq!(error, CallError::Refused(panicked));
        router.blocking().register(name("stillborn"), silent).expect("the name is still free");
        shutdown(&router);
    });
}

#[test]
fn an_agent_that_panics_while_its_shard_ends_does_not_hold_it_up() {
    bounded(|| {
        struct Bitter;
        impl Agent for Bitter {
            fn handle(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
                Outcome::Done
            }
        }
        impl Drop for Bitter {
            fn drop(&mut self) {
                panic!("this is part of the test");
            }
        }
        let router = start(2);
        router.blocking().register(name("bitter"), || Bitter).expect("the agent is registered");
        shutdown(&router);
    });
}

#[test]
fn agents_whose_messages_wait_are_found_on_every_shard_the_slowest_first() {
    bounded(|| {
        let router = start(2);
        let blocking = router.blocking();
        assert_eq!(blocking.slow_consumers(10).expect("the router runs"), []);
        let agents = [1, 0].map(|shard| {
            let agent = blocking.register(name_on(&router, shard, "slow"), silent).expect("it is registered");
            blocking.suspend(agent).expect("it is registered");
            blocking.send(message_to(agent, "x")).expect("it is accepted");
            // Ages are in milliseconds.
            std::thread::sleep(Duration::from_millis(20));
            agent
        });
        let found = loop {
            let found = blocking.slow_consumers(10).expect("the router runs");
            if found.len() == 2 {
                break found;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!([found[0].agent, found[1].agent], agents);
        assert!(found[0].oldest_ms > found[1].oldest_ms && found[0].state == ConsumerState::Suspended, "{found:?}");
        let one = blocking.slow_consumers(1).expect("the router runs");
        assert_eq!(one.iter().map(|found| found.agent).collect::<Vec<_>>(), agents[..1]);
        let barrier = hold_up(&router, 0);
        let late = router.within(Duration::from_millis(50)).blocking().slow_consumers(10);
        assert!(matches!(late, Err(CallError::Unresponsive(_))), "{late:?}");
        barrier.open();
        for agent in agents {
            blocking.resume(agent).expect("it is registered");
        }
        shutdown(&router);
        assert!(matches!(blocking.slow_consumers(1), Err(CallError::Stopped)));
    });
}
