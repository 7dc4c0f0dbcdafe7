//! Life cycle and supervision of agents, through the router's own handles.

use std::time::Duration;

use caxton_router::agent::{AgentState, Drained, RestartPolicy, StopReason};
use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::error::CallError;
use caxton_router::error::{AskError, LifecycleError};
use caxton_router::event::Event;
use caxton_router::{Outcome, Registration};

use crate::common::{
    PATIENCE, bounded, capability, echo, message_to, name, name_on, on, reporter, request_to, shutdown, start, text_of,
};

#[test]
fn an_agent_is_looked_at_suspended_resumed_and_drained() {
    bounded(|| {
        let router = start(2);
        for shard in 0..2 {
            let (said, heard) = flume::unbounded();
            let registration = Registration::native(name_on(&router, shard, "agent"), move || reporter(said.clone()));
            let offering = registration.offering(capability("supervision.looked-at"));
            let agent = router.blocking().register_one(offering).expect("the agent is registered");
            let view = router.blocking().agent(agent).expect("the router runs").expect("it is there");
            assert_eq!((view.state, view.shard.0, view.capabilities.len()), (AgentState::Active, shard, 1));
            router.blocking().suspend(agent).expect("it is active");
            router.blocking().send(message_to(agent, "waits")).expect("it is accepted");
            // The neighbour's reply arrives after the message has reached its mailbox.
            let neighbour =
                router.blocking().register(name_on(&router, shard, "echo"), echo).expect("it is registered");
            router.blocking().ask(request_to(neighbour, "?"), PATIENCE).expect("it answers");
            let view = router.blocking().agent(agent).expect("the router runs").expect("it is there");
            assert_eq!((view.state, view.mailbox_messages), (AgentState::Suspended, 1));
            assert!(heard.is_empty());
            router.blocking().resume(agent).expect("it is suspended");
            assert_eq!(heard.recv_timeout(PATIENCE), Ok("waits".to_owned()));
            assert_eq!(router.blocking().drain(agent, PATIENCE), Ok(Drained { left: 0 }));
            let view = router.blocking().agent(agent).expect("the router runs").expect("it is remembered");
            assert_eq!((view.state, view.stopped_because), (AgentState::Stopped, Some(StopReason::Drained)));
            let unknown = CallError::Refused(LifecycleError::UnknownAgent);
            assert_eq!(router.blocking().suspend(agent), Err(unknown.clone()));
            assert_eq!(router.blocking().resume(agent), Err(unknown.clone()));
            assert_eq!(router.blocking().drain(agent, Duration::ZERO), Err(unknown));
        }
        shutdown(&router);
    });
}

#[test]
fn an_agent_that_fails_too_often_is_stopped_and_its_shard_goes_on() {
    bounded(|| {
        let router = start(2);
        let events = router.blocking().events().expect("the router runs");
        let policy = RestartPolicy {
            restarts: 2.try_into().expect("two restarts are allowed"),
            window_ms: 60_000.try_into().expect("a minute is allowed"),
            delay_ms: 1.try_into().expect("a millisecond is allowed"),
        };
        let fragile = Registration::native(name_on(&router, 0, "fragile"), || {
            on(|_, _| -> Outcome { panic!("this is part of the test") })
        });
        let agent = router.blocking().register_one(fragile.supervised(policy)).expect("the agent is registered");
        let neighbour = router.blocking().register(name_on(&router, 0, "echo"), echo).expect("it is registered");
        let mut failures = Vec::new();
        while failures.len() < 4 {
            let failure = router.blocking().ask(request_to(agent, "poison"), PATIENCE);
            let Err(AskError::Undeliverable(error)) = failure else { panic!("{failure:?}") };
            let notice = error.notice();
            failures.push(text_of(notice));
        }
        assert!(failures[..2].iter().all(|failure| failure.contains("attempts-exhausted")), "{failures:?}");
        assert!(failures[2..].iter().all(|failure| failure.contains("restarts-exhausted")), "{failures:?}");
        let view = router.blocking().agent(agent).expect("the router runs").expect("it is remembered");
        assert_eq!((view.state, view.stopped_because), (AgentState::Stopped, Some(StopReason::RestartsExhausted)));
        let stopped = Event::Deregistered { agent, why: StopReason::RestartsExhausted };
        assert!(std::iter::from_fn(|| events.try_next()).any(|event| event == stopped));
        router.blocking().ask(request_to(neighbour, "?"), PATIENCE).expect("the neighbour answers");
        let account = shutdown(&router).stats.account();
        assert_eq!(account.dead_by_reason[DeadLetterReason::RestartsExhausted.index()], 2);
    });
}

#[test]
fn a_shutdown_ends_what_is_suspended_or_drained() {
    bounded(|| {
        let router = start(1);
        let agent = router.blocking().register(name("suspended"), echo).expect("it is registered");
        router.blocking().suspend(agent).expect("it is active");
        router.blocking().send(message_to(agent, "never handled")).expect("it is accepted");
        let inbox = router.inbox(name("inbox")).blocking().open().expect("it is opened");
        router.blocking().send(message_to(inbox.id(), "never taken")).expect("it is accepted");
        let handle = router.clone();
        let id = inbox.id();
        let (begun, begins) = flume::bounded(1);
        let draining = std::thread::spawn(move || {
            begun.send(()).expect("the test waits");
            handle.blocking().drain(id, PATIENCE)
        });
        begins.recv_timeout(PATIENCE).expect("the thread runs");
        while router.blocking().agent(id).expect("the router runs").map(|view| view.state) != Some(AgentState::Draining)
        {
            std::thread::yield_now();
        }
        let report = router.shutdown(Duration::from_millis(10)).expect("this is no shard's thread");
        assert!(!report.drained && report.balances(), "{report:?}");
        let ended = draining.join().expect("the thread ends");
        assert!(matches!(ended, Ok(Drained { .. }) | Err(CallError::Refused(LifecycleError::Stopping))), "{ended:?}");
    });
}
