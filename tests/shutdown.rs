//! The report of a router's shutdown, who is notified of it, and when draining ends.

mod common;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use caxton_router::agent::Polled;
use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::error::ReceiveError;
use caxton_router::message::WallTime;
use caxton_router::message::is_notice;
use caxton_router::stats::{Stage, Unfinished};
use caxton_router::{Agent, Context, Message, Outcome, Performative, Router};
use common::{
    PATIENCE, bounded, echo, hold_up, message_to, name, name_on, request_to, shutdown, silent, start, start_with,
    text_of,
};
use futures_lite::future::block_on;

/// An agent that never finishes a message.
struct Sleeper;

impl Agent for Sleeper {
    fn handle(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        Outcome::Suspended
    }

    fn resume(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        Outcome::Suspended
    }
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
    WallTime(u64::try_from(since.as_millis()).expect("the year is near"))
}

/// A message with a delivery time in an hour.
fn delayed(receiver: caxton_router::AgentId) -> Message {
    let builder = Message::builder(Performative::Inform).receiver(receiver).content("later");
    builder.deliver_at(WallTime(now().0 + 3_600_000)).build().expect("the message is valid")
}

#[test]
fn the_report_says_what_was_left_and_where_and_keeps_the_messages() {
    bounded(|| {
        let router = start(2);
        let sleeper = router.blocking().register(name_on(&router, 0, "sleeper"), || Sleeper).expect("it is registered");
        let inbox = router.inbox(name_on(&router, 1, "clerk")).blocking().open().expect("it is opened");
        for receiver in [sleeper, sleeper, sleeper, inbox.id()] {
            router.blocking().send(message_to(receiver, "left")).expect("it is accepted");
        }
        router.blocking().send(delayed(inbox.id())).expect("it is accepted");
        let report = router.shutdown(Duration::ZERO).expect("this is no shard's thread");
        assert!(!report.drained && report.balances() && report.unresponsive.is_empty(), "{report:?}");
        let account = report.stats.account();
        assert_eq!(account.dead_by_reason[DeadLetterReason::Stopped.index()], 5);
        assert_eq!((report.unfinished.total(), report.left_behind()), (5, 0), "{report:?}");
        assert_eq!(report.dead_letters.len(), 5);
        assert!(report.dead_letters.iter().all(|letter| letter.reason == DeadLetterReason::Stopped));
        assert!(report.allowed.is_zero() && report.took < PATIENCE, "{report:?}");

        let json = report.to_json();
        assert_eq!((&json["drained"], &json["balances"]), (&false.into(), &true.into()), "{json}");
        assert_eq!((&json["accepted"], &json["dead_lettered"]), (&5.into(), &5.into()), "{json}");
        assert_eq!(json["dead_lettered_by_reason"], serde_json::json!({ "stopped": 5 }), "{json}");
        let by_place: u64 =
            Stage::ALL.iter().filter_map(|place| json["stopped_by_place"][place.as_str()].as_u64()).sum();
        assert_eq!((by_place, &json["stopped"]), (5, &5.into()), "{json}");

        let text = report.to_string();
        for line in [
            "not everything was handled within 0.000 s",
            "5 accepted = 0 processed + 5 dead-lettered + 0 expired + 0 left behind: balances",
            "5 dead-lettered as stopped: the router stopped before the message was handled",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    });
}

#[test]
fn a_router_that_was_done_reports_nothing_left() {
    bounded(|| {
        let router = start(2);
        let agent = router.blocking().register(name("echo"), echo).expect("it is registered");
        router.blocking().ask(request_to(agent, "?"), PATIENCE).expect("it answers");
        let report = shutdown(&router);
        assert_eq!((report.unfinished, report.dead_letters.len()), (Unfinished::default(), 0));
        assert!(report.to_string().contains("everything was handled"), "{report}");
        assert_eq!(report.to_json()["stopped_by_place"], serde_json::json!({}));
        assert_eq!(report.allowed, PATIENCE);
    });
}

#[test]
fn the_owner_of_an_inbox_reads_what_became_of_its_messages_after_the_end() {
    bounded(|| {
        let router = start(2);
        let inbox = router.inbox(name_on(&router, 0, "clerk")).blocking().open().expect("it is opened");
        let sleepers = [0, 1].map(|shard| {
            router.blocking().register(name_on(&router, shard, "sleeper"), || Sleeper).expect("it is registered")
        });
        for sleeper in sleepers {
            inbox.blocking().send(message_to(sleeper, "to no avail")).expect("it is accepted");
        }
        inbox.blocking().send(message_to(inbox.id(), "to itself, never read")).expect("it is accepted");
        router.shutdown(Duration::ZERO).expect("this is no shard's thread");
        for _ in 0..3 {
            let notice = inbox.blocking().recv_within(PATIENCE).expect("a failure for each message");
            assert!(is_notice(&notice) && notice.performative() == Performative::Failure, "{notice:?}");
            assert!(text_of(&notice).contains("stopped"), "{}", text_of(&notice));
        }
        assert_eq!(inbox.blocking().recv_within(PATIENCE).err(), Some(ReceiveError::Stopped));
    });
}

#[test]
fn whoever_stops_a_router_later_can_only_bring_its_end_nearer() {
    bounded(|| {
        let router = start(1);
        router.blocking().register(name("silent"), silent).expect("it is registered");
        router.blocking().send(delayed(caxton_router::AgentId::of_text("silent"))).expect("it is accepted");
        let patient = {
            let router = router.clone();
            std::thread::spawn(move || router.shutdown(Duration::MAX).expect("this is no shard's thread"))
        };
        let began = Instant::now();
        let hurried = router.shutdown(Duration::from_millis(20)).expect("this is no shard's thread");
        let patient = patient.join().expect("it comes to its end");
        assert!(began.elapsed() < PATIENCE);
        assert_eq!((hurried.unfinished.at(Stage::Delayed), hurried.drained), (1, false), "{hurried:?}");
        assert_eq!((hurried.took, patient.took), (patient.took, hurried.took), "it is one report");
        // The end cannot be postponed.
        assert_eq!(router.shutdown(PATIENCE).expect("this is no shard's thread").took, patient.took);
    });
}

#[test]
fn a_router_with_a_handler_that_does_not_return_says_what_it_left_behind() {
    bounded(|| {
        let router = start(2);
        let barrier = hold_up(&router, 0);
        let agent = router.partition().name_on(caxton_router::routing::ShardIndex(0), "blocker");
        router.try_tell(message_to(caxton_router::AgentId::of_text(&agent), "behind it")).expect("there is room");
        let report = router.shutdown(Duration::ZERO).expect("this is no shard's thread");
        assert!(!report.drained && !report.balances(), "{report:?}");
        assert_eq!(report.unresponsive, [caxton_router::routing::ShardIndex(0)]);
        assert_eq!(report.stats.queued, 2, "what the handler was called for in this turn, and what stands behind it");
        assert!(report.to_string().contains("shard 0 did not come to its end"), "{report}");
        assert_eq!(report.to_json()["unresponsive_shards"], serde_json::json!([0]));
        barrier.open();
    });
}

#[test]
fn a_source_that_looks_whether_the_router_drains_does_not_hold_it_up() {
    struct Source;
    impl Agent for Source {
        fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
            if text_of(message) == "begin" {
                context.poll_me();
            }
            Outcome::Done
        }
        fn poll(&mut self, context: &mut Context<'_>) -> Polled {
            if context.is_draining() {
                return Polled::Finished;
            }
            let more = message_to(context.id(), "from the source");
            context.send(more).map_or(Polled::Waiting, |_| Polled::Worked)
        }
    }
    bounded(|| {
        let router = start(1);
        let source = router.blocking().register(name("source"), || Source).expect("it is registered");
        router.blocking().send(message_to(source, "begin")).expect("it is accepted");
        shutdown(&router);
    });
}

#[test]
fn dropping_the_last_handle_waits_as_long_as_the_settings_say() {
    bounded(|| {
        let router = start_with(1, |config| {
            config.shutdown.deadline_ms = 0.try_into().expect("no time is allowed");
        });
        let events = router.blocking().events().expect("the router runs");
        router.blocking().register(name("silent"), silent).expect("it is registered");
        router.blocking().send(delayed(caxton_router::AgentId::of_text("silent"))).expect("it is accepted");
        drop(router);
        let given_up = std::iter::from_fn(|| block_on(events.next()).ok()).any(|event| {
            matches!(event, caxton_router::event::Event::DeadLettered { reason: DeadLetterReason::Stopped, .. })
        });
        assert!(given_up, "with no time to drain it is given up at once");
    });
}

#[test]
fn a_signal_stops_the_router_and_hands_over_the_report() {
    bounded(|| {
        let router: Router = start(2);
        let agent = router.blocking().register(name("echo"), echo).expect("it is registered");
        router.blocking().ask(request_to(agent, "?"), PATIENCE).expect("it answers");
        let ending = router.shutdown_on_signal(PATIENCE).expect("the process may listen");
        let waiter = std::thread::spawn(move || ending.wait());
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).expect("it is allowed");
        let ended = waiter.join().expect("it waits without a panic").expect("the router is there");
        assert_eq!((ended.signal.name(), ended.signal.exit_status()), ("SIGTERM", 143));
        assert!(ended.report.drained && ended.report.balances(), "{:?}", ended.report);
        let late = router.blocking().send(message_to(agent, "late")).expect_err("the router has stopped");
        assert_eq!(late.kind(), &caxton_router::error::SendErrorKind::Stopping);
    });
}

/// An agent that says when it is stopped.
struct Stopping {
    stopped: flume::Sender<&'static str>,
    name: &'static str,
    then: fn(),
}

impl Agent for Stopping {
    fn handle(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        Outcome::Suspended
    }

    fn resume(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        Outcome::Suspended
    }

    fn stopped(&mut self) {
        let _ = self.stopped.send(self.name);
        (self.then)();
    }
}

#[test]
fn every_agent_is_told_that_it_is_stopped_also_when_the_deadline_was_too_short() {
    bounded(|| {
        let router = start(2);
        let events = router.blocking().events().expect("the router runs");
        let (stopped, stops) = flume::unbounded();
        for (shard, name) in [(0, "idle"), (0, "busy"), (0, "panics"), (1, "other"), (1, "gone")] {
            let stopped = stopped.clone();
            // Without a backtrace, whose symbols a busy machine may not read within the grace period.
            let unwind = || std::panic::resume_unwind(Box::new("on purpose"));
            let then: fn() = if name == "panics" { unwind } else { || () };
            let make = move || Stopping { stopped: stopped.clone(), name, then };
            let agent = router.blocking().register(name_on(&router, shard, name), make).expect("it is registered");
            match name {
                "busy" => drop(router.blocking().send(message_to(agent, "for ever")).expect("it is accepted")),
                "gone" => drop(router.blocking().deregister(agent).expect("the router runs")),
                _ => {}
            }
        }
        drop(stopped);
        let report = router.shutdown(Duration::ZERO).expect("this is no shard's thread");
        assert!(!report.drained && report.balances(), "{report:?}");
        let mut names: Vec<_> = stops.iter().collect();
        names.sort_unstable();
        assert_eq!(names, ["busy", "gone", "idle", "other", "panics"], "each of them once");
        let panics = caxton_router::AgentId::of(&name_on(&router, 0, "panics"));
        let what = "on purpose".to_owned();
        let panicked = caxton_router::event::Event::AgentPanicked { agent: panics, what };
        assert!(std::iter::from_fn(|| block_on(events.next()).ok()).any(|event| event == panicked));
    });
}

/// An agent whose stop does not return until the test lets it.
struct Stuck(common::Barrier);

impl Agent for Stuck {
    fn handle(&mut self, _: &Message, _: &mut Context<'_>) -> Outcome {
        Outcome::Done
    }

    fn stopped(&mut self) {
        self.0.pass();
    }
}

#[test]
fn a_stop_that_does_not_return_is_not_waited_for_and_is_named() {
    bounded(|| {
        let router = start(2);
        let barrier = common::Barrier::default();
        let (stopped, at_barrier) = (flume::unbounded().0, barrier.clone());
        let stuck = name_on(&router, 0, "stuck");
        router.blocking().register(stuck.clone(), move || Stuck(at_barrier.clone())).expect("it is registered");
        let other = Stopping { stopped, name: "other", then: || () };
        let mut other = Some(other);
        router
            .blocking()
            .register(name_on(&router, 1, "other"), move || other.take().expect("it is made once"))
            .expect("it is registered");
        let report = router.shutdown(Duration::ZERO).expect("this is no shard's thread");
        // The barrier is still closed.
        assert_eq!(report.unresponsive, [caxton_router::routing::ShardIndex(0)]);
        assert_eq!(report.held_up_by.len(), 1);
        assert_eq!(report.held_up_by[0].1.as_ref(), stuck.to_string());
        assert!(report.to_string().contains("a handler of the agent \"stuck"), "{report}");
        barrier.open();
    });
}

#[test]
fn a_shard_that_a_handler_blocks_is_reported_with_the_agents_name_until_it_goes_on() {
    bounded(|| {
        let router = start(2);
        let events = router.blocking().events().expect("the router runs");
        let barrier = hold_up(&router, 1);
        let shard = caxton_router::routing::ShardIndex(1);
        let next = || loop {
            let event = events.blocking().next_within(PATIENCE).expect("it is reported");
            if matches!(
                event,
                caxton_router::event::Event::ShardBlocked { .. } | caxton_router::event::Event::ShardUnblocked { .. }
            ) {
                break event;
            }
        };
        let caxton_router::event::Event::ShardBlocked { shard: which, agent, for_ms } = next() else {
            panic!("it goes on")
        };
        let blocker = router.partition().name_on(shard, "blocker");
        assert_eq!((which, agent.as_deref()), (shard, Some(blocker.as_str())));
        assert!(for_ms >= 500, "{for_ms} ms are not so long");
        let stats = router.stats();
        assert_eq!((stats.blocked, stats.times_blocked), (vec![shard], 1));
        // Every later call reports this, and the shutdown does not wait for it.
        let call =
            router.within(Duration::from_millis(1)).blocking().deregister(caxton_router::AgentId::of_text(&blocker));
        let Err(caxton_router::error::CallError::Unresponsive(late)) = call else { panic!("{call:?}") };
        assert_eq!((late.shard, late.agent.as_deref()), (shard, Some(blocker.as_str())));
        barrier.open();
        let caxton_router::event::Event::ShardUnblocked { shard: unblocked, for_ms } = next() else {
            panic!("once is enough")
        };
        assert!(unblocked == shard && for_ms >= 500);
        let stats = router.stats();
        assert_eq!((stats.blocked, stats.times_blocked), (Vec::new(), 1));
        shutdown(&router);
    });
}

/// Returns what this process has open, by kind.
fn open_files() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("it can be read");
    entries.filter_map(|entry| Some(std::fs::read_link(entry.ok()?.path()).ok()?.display().to_string())).collect()
}

#[test]
fn starting_and_stopping_again_and_again_leaves_nothing_open() {
    const ROUNDS: usize = 50;
    bounded(|| {
        // One descriptor of each executor stays with glommio: see `Router::shutdown`.
        let of_glommio = "anon_inode:[eventfd]";
        let round = || {
            let router = start(2);
            let agent = router.blocking().register(name("echo"), echo).expect("it is registered");
            let events = router.blocking().events().expect("the router runs");
            router.blocking().ask(request_to(agent, "?"), PATIENCE).expect("it answers");
            drop(events);
            shutdown(&router);
        };
        round();
        let others = || open_files().iter().filter(|file| *file != of_glommio).count();
        let before = others();
        (0..ROUNDS).for_each(|_| round());
        // Other tests of this program have files open meanwhile, which they close.
        while others() >= before + ROUNDS {
            std::thread::yield_now();
        }
    });
}
