//! Every call that waits ends by its own deadline while its shard is blocked, and holds nothing afterwards.
//!
//! The shard is blocked in a handler that the test releases only when the calls have ended, so that none of them can
//! have waited for it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll, Wake, Waker};
use std::time::Duration;

use caxton_router::dead_letter::{DeadLetterFilter, DeadLetterId};
use caxton_router::domain::AgentName;
use caxton_router::error::{AskError, SendError, SendErrorKind, UnresponsiveError};
use caxton_router::error::{CallError, ReceiveError};
use caxton_router::event::Event;
use caxton_router::event::Events;
use caxton_router::message::ConversationId;
use caxton_router::routing::ShardIndex;
use caxton_router::{AgentId, Inbox, Message, Outcome, Registration, Router};
use futures_lite::future::{block_on, poll_once};

use crate::common::{
    PATIENCE, bounded, capability, echo, hold_up, message_to, name, name_on, on, request_to, shutdown, silent, start,
    start_with,
};

/// How a call ended.
#[derive(Debug)]
enum Ended {
    Done,
    Late(UnresponsiveError),
    TimedOut,
    WouldDeadlock,
    Other(String),
}

fn of_call<T, E: std::error::Error>(result: Result<T, CallError<E>>) -> Ended {
    match result {
        Ok(_) => Ended::Done,
        Err(CallError::Unresponsive(late)) => Ended::Late(late),
        Err(CallError::WouldDeadlock) => Ended::WouldDeadlock,
        Err(other) => Ended::Other(other.to_string()),
    }
}

fn of_error(error: SendErrorKind) -> Ended {
    match error {
        SendErrorKind::Unresponsive(late) => Ended::Late(late),
        SendErrorKind::WouldDeadlock => Ended::WouldDeadlock,
        other => Ended::Other(other.to_string()),
    }
}

fn of_send<T>(result: Result<T, SendError>) -> Ended {
    result.map_or_else(|rejected| of_error(rejected.into()), |_| Ended::Done)
}

fn of_ask(result: Result<Message, AskError>) -> Ended {
    match result {
        Ok(_) => Ended::Done,
        Err(AskError::Unresponsive(late)) => Ended::Late(late),
        Err(AskError::TimedOut) => Ended::TimedOut,
        Err(AskError::Rejected(rejected)) => of_error(rejected.into()),
        Err(other) => Ended::Other(other.to_string()),
    }
}

fn of_receive<T>(result: &Result<T, ReceiveError>) -> Ended {
    match result {
        Ok(_) => Ended::Done,
        Err(ReceiveError::TimedOut) => Ended::TimedOut,
        Err(ReceiveError::WouldDeadlock) => Ended::WouldDeadlock,
        Err(other) => Ended::Other(other.to_string()),
    }
}

/// What the calls are made on.
#[derive(Clone)]
struct Setting {
    /// Its calls end within `timeout`.
    router: Router,
    timeout: Duration,
    agent: AgentId,
    inbox: Arc<Inbox>,
    events: Arc<Events>,
}

impl Setting {
    fn new(router: &Router, timeout: Duration) -> Self {
        let router = router.within(timeout);
        let agent = router.within(PATIENCE).blocking().register(name_on(&router, 0, "agent"), echo);
        let agent = agent.expect("it is registered");
        let inbox = block_on(router.within(PATIENCE).inbox(name_on(&router, 0, "clerk")).open()).expect("it is opened");
        let events = Arc::new(router.within(PATIENCE).blocking().events().expect("the router runs"));
        Self { router, timeout, agent, inbox: Arc::new(inbox), events }
    }

    fn within(&self, timeout: Duration) -> Self {
        Self { router: self.router.within(timeout), timeout, ..self.clone() }
    }

    fn message(&self) -> Message {
        message_to(self.agent, "x")
    }

    fn name(&self) -> AgentName {
        name_on(&self.router, 0, "new")
    }

    fn registration(&self) -> Registration {
        Registration::native(name_on(&self.router, 0, "new"), silent)
    }
}

type Ending = Pin<Box<dyn Future<Output = Ended> + Send>>;

/// A call in both its forms.
struct Call {
    name: &'static str,
    begin: fn(Setting) -> Ending,
    block: fn(&Setting) -> Ended,
    /// Whether it waits for something sent, and not for a shard.
    receives: bool,
}

macro_rules! calls {
    ($($name:literal $(receives $receives:literal)?: |$setting:ident| $async:expr, $blocking:expr;)+) => {
        [$(Call {
            name: $name,
            begin: |$setting| Box::pin(async move { $async }),
            block: |$setting| $blocking,
            receives: false $(|| $receives)?,
        }),+]
    };
}

/// Returns every call that waits for a shard's response.
fn asking() -> Vec<Call> {
    calls! {
        "send": |s| of_send(s.router.send(s.message()).await), of_send(s.router.blocking().send(s.message()));
        "try_send": |s| match s.router.try_send(s.message()) {
                Ok(sent) => of_send(sent.accepted().await),
                Err(rejected) => of_error(rejected.into()),
            },
            match s.router.try_send(s.message()) {
                Ok(sent) => of_send(sent.blocking().accepted()),
                Err(rejected) => of_error(rejected.into()),
            };
        "ask": |s| of_ask(s.router.ask(request_to(s.agent, "?"), s.timeout).await),
            of_ask(s.router.blocking().ask(request_to(s.agent, "?"), s.timeout));
        "register": |s| of_call(s.router.register(s.name(), silent).await),
            of_call(s.router.blocking().register(s.name(), silent));
        "register_one": |s| of_call(s.router.register_one(s.registration()).await),
            of_call(s.router.blocking().register_one(s.registration()));
        "register_all": |s| of_call(s.router.register_all(vec![s.registration()]).await.remove(0)),
            of_call(s.router.blocking().register_all(vec![s.registration()]).remove(0));
        "deregister": |s| of_call(s.router.deregister(s.agent).await), of_call(s.router.blocking().deregister(s.agent));
        "open_inbox": |s| of_call(s.router.inbox(s.name()).open().await),
            of_call(s.router.inbox(s.name()).blocking().open());
        "open_acknowledged_inbox":
            |s| of_call(s.router.inbox(s.name()).acknowledged().open().await),
            of_call(block_on(s.router.inbox(s.name()).acknowledged().open()));
        "discover": |s| of_call(s.router.discover(&capability("offered")).await),
            of_call(s.router.blocking().discover(&capability("offered")));
        "conversation": |s| of_call(s.router.conversation(s.agent, ConversationId::of_text("c")).await),
            of_call(s.router.blocking().conversation(s.agent, ConversationId::of_text("c")));
        "events": |s| of_call(s.router.events().await), of_call(s.router.blocking().events());
        "agent": |s| of_call(s.router.agent(s.agent).await), of_call(s.router.blocking().agent(s.agent));
        "suspend": |s| of_call(s.router.suspend(s.agent).await), of_call(s.router.blocking().suspend(s.agent));
        "resume": |s| of_call(s.router.resume(s.agent).await), of_call(s.router.blocking().resume(s.agent));
        "drain": |s| of_call(s.router.drain(s.agent, s.timeout).await),
            of_call(s.router.blocking().drain(s.agent, s.timeout));
        "dead_letters": |s| of_call(s.router.dead_letters(1).await), of_call(s.router.blocking().dead_letters(1));
        "find_dead_letters": |s| of_call(s.router.find_dead_letters(&DeadLetterFilter::default(), 1, None).await),
            of_call(s.router.blocking().find_dead_letters(&DeadLetterFilter::default(), 1, None));
        "dead_letter": |s| of_call(s.router.dead_letter(LETTER).await), of_call(s.router.blocking().dead_letter(LETTER));
        "replay_dead_letter": |s| of_call(s.router.replay_dead_letter(LETTER, None).await),
            of_call(s.router.blocking().replay_dead_letter(LETTER, None));
        "replay_dead_letters": |s| of_call(s.router.replay_dead_letters(&DeadLetterFilter::default(), None).await),
            of_call(s.router.blocking().replay_dead_letters(&DeadLetterFilter::default(), None));
        "purge_dead_letters": |s| of_call(s.router.purge_dead_letters(&DeadLetterFilter::default()).await),
            of_call(s.router.blocking().purge_dead_letters(&DeadLetterFilter::default()));
        "Inbox::send": |s| of_send(s.inbox.send(message_to(s.agent, "x")).await),
            of_send(s.inbox.blocking().send(message_to(s.agent, "x")));
    }
    .into()
}

const LETTER: DeadLetterId = DeadLetterId { shard: ShardIndex(0), number: 1 };

/// Returns every call that waits for room, or for something sent.
fn others() -> Vec<Call> {
    calls! {
        "tell": |s| of_send(s.router.tell(s.message()).await), of_send(s.router.blocking().tell(s.message()));
        "tell_all": |s| s.router.tell_all(vec![s.message()]).await.map_or_else(|back| of_error(back.kind().clone()), |()| Ended::Done),
            s.router.blocking().tell_all(vec![s.message()]).map_or_else(|back| of_error(back.kind().clone()), |()| Ended::Done);
        "Inbox::recv_within" receives true: |s| of_receive(&s.inbox.recv_within(s.timeout).await),
            of_receive(&s.inbox.blocking().recv_within(s.timeout));
        "Events::next_within" receives true: |s| of_receive(&s.events.next_within(s.timeout).await),
            of_receive(&s.events.blocking().next_within(s.timeout));
    }
    .into()
}

/// Asserts that nothing is open when a router that has been blocked is stopped.
fn assert_nothing_held(router: &Router) {
    // Its shard has processed everything before this.
    assert_eq!(router.within(PATIENCE).blocking().deregister(AgentId::of_text("nobody")), Ok(false));
    // The last call is counted as queued until the end of the turn in which it is answered.
    while router.stats().queued > 0 {
        std::thread::yield_now();
    }
    let stats = router.stats();
    assert_eq!(stats.account().pending, 0, "{stats:?}");
    let report = router.shutdown(Duration::ZERO).expect("this is no shard's thread");
    assert!(report.balances(), "{report:?}");
    assert_eq!(report.unfinished.asks, 0, "{report:?}");
}

const SOON: Duration = Duration::from_millis(30);

#[test]
fn every_call_to_a_shard_that_stands_still_ends_in_time_and_has_done_nothing() {
    bounded(|| {
        let router = start(1);
        let setting = Setting::new(&router, SOON);
        let (agents, accepted) = (router.stats().agents(), router.stats().account().accepted);
        let barrier = hold_up(&router, 0);
        for call in asking().iter().filter(|call| call.name != "Inbox::send") {
            for (form, ended) in
                [("async", block_on((call.begin)(setting.clone()))), ("blocking", (call.block)(&setting))]
            {
                let Ended::Late(late) = ended else { panic!("{} ({form}): {ended:?}", call.name) };
                assert_eq!((late.shard, late.may_have_changed), (ShardIndex(0), false), "{} ({form})", call.name);
                assert!(late.to_string().contains("shard 0 did not respond in time"), "{late}");
            }
        }
        for call in others().iter().filter(|call| call.receives) {
            let ended = [block_on((call.begin)(setting.clone())), (call.block)(&setting)];
            // What happened before, and that the shard is blocked, are events.
            let is_event = call.name == "Events::next_within";
            let in_time = |ended: &Ended| matches!(ended, Ended::TimedOut) || is_event && matches!(ended, Ended::Done);
            assert!(ended.iter().all(in_time), "{}: {ended:?}", call.name);
        }
        barrier.open();
        // Nothing of it happens later: the blocker is one agent and one message.
        assert_eq!(router.blocking().deregister(AgentId::of_text("nobody")), Ok(false));
        let stats = router.stats();
        assert_eq!((stats.agents(), stats.account().accepted), (agents + 1, accepted + 1), "{stats:?}");
        assert_nothing_held(&router);
    });
}

#[test]
fn every_call_that_finds_no_room_ends_in_time_and_gives_back_what_it_brought() {
    bounded(|| {
        let router = start_with(1, |config| {
            config.channel.capacity = 1.try_into().expect("one place is allowed");
        });
        let setting = Setting::new(&router, SOON);
        let barrier = hold_up(&router, 0);
        router.try_tell(setting.message()).expect("there is one place");
        for call in asking().iter().chain(&others()).filter(|call| !call.receives && call.name != "Inbox::send") {
            for (form, ended) in
                [("async", block_on((call.begin)(setting.clone()))), ("blocking", (call.block)(&setting))]
            {
                match ended {
                    Ended::Late(late) => {
                        assert_eq!(
                            (late.shard, late.may_have_changed),
                            (ShardIndex(0), false),
                            "{} ({form})",
                            call.name
                        );
                    }
                    Ended::Other(text) if call.name == "try_send" => assert!(text.contains("no room"), "{text}"),
                    other => panic!("{} ({form}): {other:?}", call.name),
                }
            }
        }
        let back = setting.router.blocking().tell(message_to(setting.agent, "mine")).expect_err("there is no room");
        assert_eq!(crate::common::text_of(back.message()), "mine");
        barrier.open();
        assert_eq!(router.blocking().deregister(AgentId::of_text("nobody")), Ok(false));
        assert_eq!(router.stats().account().accepted, 2, "the blocker's message, and the one that was queued");
        assert_nothing_held(&router);
    });
}

#[derive(Default)]
struct Wakes(AtomicU64);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls a call `polls` times, each time after it was woken, and then drops it. Returns whether it ended before.
fn drop_after(polls: u64, call: &Call, setting: &Setting) -> bool {
    let woken = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut future = (call.begin)(setting.clone());
    for poll in 0..polls {
        while poll > 0 && woken.0.swap(0, Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        if pin!(&mut future).poll(&mut TaskContext::from_waker(&waker)).is_ready() {
            return true;
        }
    }
    false
}

#[test]
fn a_call_that_is_dropped_wherever_it_waits_holds_nothing() {
    bounded(|| {
        for capacity in [1, 1_000] {
            let router = start_with(1, |config| {
                config.channel.capacity = capacity.try_into().expect("so many places are allowed");
            });
            let setting = Setting::new(&router, PATIENCE);
            // A capability known to a shard: otherwise no shard has to be asked.
            let provider = Registration::native(name("provider"), silent).offering(capability("offered"));
            router.blocking().register_one(provider).expect("it is registered");
            for round in 0..20 {
                let barrier = hold_up_again(&router, round);
                if capacity == 1 {
                    router.try_tell(setting.message()).expect("there is one place");
                }
                // While the shard is blocked: before anything is begun, or while it waits for room.
                for call in asking().iter().chain(&others()).filter(|call| call.name != "try_send") {
                    drop_after(0, call, &setting);
                    drop_after(1, call, &setting);
                }
                barrier.open();
                // While it continues, the calls are cancelled at any moment.
                for call in asking().iter().filter(|call| !matches!(call.name, "deregister" | "drain" | "try_send")) {
                    for polls in 1..4 {
                        if drop_after(polls, call, &setting) {
                            break;
                        }
                    }
                }
                let _ = router.blocking().deregister(setting.registration().id());
            }
            drop(setting);
            assert_nothing_held(&router);
        }
    });
}

fn hold_up_again(router: &Router, round: u32) -> crate::common::Barrier {
    let barrier = crate::common::Barrier::default();
    let at_barrier = barrier.clone();
    let blocker = router.blocking().register(name_on(router, 0, &format!("blocker-{round}")), move || {
        let barrier = at_barrier.clone();
        on(move |_, _| {
            barrier.pass();
            Outcome::Done
        })
    });
    router.blocking().tell(message_to(blocker.expect("it is registered"), "wait")).expect("it is queued");
    barrier.wait_for(1);
    barrier
}

#[test]
fn an_asker_that_goes_away_leaves_its_place_to_others() {
    /// More than one shard can wait for.
    const ASKERS: usize = 70_000;
    bounded(|| {
        let router = start(1);
        let (told, hears) = flume::bounded(1);
        let agent = router.blocking().register(name("listener"), move || {
            let told = told.clone();
            on(move |_, _| {
                let _ = told.send(());
                Outcome::Done
            })
        });
        let agent = agent.expect("it is registered");
        for _ in 0..ASKERS {
            let mut ask = Box::pin(router.ask(request_to(agent, "?"), Duration::from_hours(1)));
            assert!(block_on(poll_once(&mut ask)).is_none());
            // The shard has begun it.
            hears.recv_timeout(PATIENCE).expect("the question comes");
        }
        let echo = router.blocking().register(name("echo"), echo).expect("it is registered");
        router.blocking().ask(request_to(echo, "?"), PATIENCE).expect("there is a place for another one");
        assert_nothing_held(&router);
    });
}

#[test]
fn an_answer_that_a_neighbour_holds_up_is_not_waited_for() {
    bounded(|| {
        let router = start(1);
        let echo = router.blocking().register(name("echo"), echo).expect("it is registered");
        let barrier = hold_up(&router, 0);
        // The shard is asked, and is blocked in a call of the neighbour.
        for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(1), SOON] {
            let failure = router.blocking().ask(request_to(echo, "?"), timeout);
            let Err(AskError::Unresponsive(late)) = failure else { panic!("{failure:?}") };
            assert_eq!((late.shard, late.may_have_changed), (ShardIndex(0), false));
        }
        barrier.open();
        for timeout in [PATIENCE, Duration::MAX] {
            router.blocking().ask(request_to(echo, "?"), timeout).expect("the shard goes on");
        }
        assert_nothing_held(&router);
    });
}

#[test]
fn any_time_is_allowed() {
    bounded(|| {
        let router = start(1);
        for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(999), Duration::MAX] {
            let setting = Setting::new(&router, timeout);
            let mut sender = router.inbox(name("sender")).blocking().open().expect("it is opened");
            for call in asking().iter().chain(&others()) {
                if call.receives {
                    sender = match sender.blocking().send(message_to(setting.inbox.id(), "x")) {
                        Ok(_) => sender,
                        Err(rejected) => panic!("{rejected}"),
                    };
                }
                let ended = block_on((call.begin)(setting.clone()));
                assert!(timeout < Duration::MAX || !matches!(ended, Ended::Late(_) | Ended::TimedOut), "{}", call.name);
                if timeout < Duration::MAX {
                    (call.block)(&setting);
                }
                let _ = router.blocking().deregister(setting.registration().id());
                if call.name == "drain" || call.name == "deregister" {
                    let _ = router.blocking().register(name_on(&router, 0, "agent"), silent);
                }
            }
            router.blocking().deregister(setting.agent).expect("the router runs");
            let agent = setting.inbox.id();
            drop((setting, sender));
            while router
                .blocking()
                .agent(agent)
                .is_ok_and(|view| view.is_some_and(|view| view.stopped_because.is_none()))
            {}
            while router.stats().agents() > 0 {
                std::thread::yield_now();
            }
        }
        shutdown(&router);
    });
}

#[test]
fn a_call_that_is_made_or_first_polled_on_a_shards_thread_is_refused() {
    bounded(|| {
        let router = start(2);
        let setting = Setting::new(&router, PATIENCE);
        for made_there in [false, true] {
            let calls = || asking().into_iter().chain(others()).filter(|call| call.name != "try_send");
            let futures: Vec<_> =
                calls().map(|call| (call.name, (!made_there).then(|| (call.begin)(setting.clone())), call)).collect();
            let (told, tells) = flume::bounded(1);
            let (mut futures, on_shard) = (Some(futures), setting.clone());
            let agent = router.blocking().register(name(&format!("poller-{made_there}")), move || {
                let (told, setting) = (told.clone(), on_shard.clone());
                let mut futures = futures.take();
                on(move |_, _| {
                    for (name, future, call) in futures.take().into_iter().flatten() {
                        let ended = match future {
                            Some(mut future) => {
                                let polled = pin!(&mut future).poll(&mut TaskContext::from_waker(Waker::noop()));
                                let Poll::Ready(ended) = polled else { panic!("{name} waits") };
                                ended
                            }
                            None => (call.block)(&setting),
                        };
                        assert!(matches!(ended, Ended::WouldDeadlock), "{name}: {ended:?}");
                    }
                    let _ = told.send(());
                    Outcome::Done
                })
            });
            router.blocking().send(message_to(agent.expect("it is registered"), "poll")).expect("it is accepted");
            tells.recv_timeout(PATIENCE).expect("every call is refused");
        }
        drop(setting);
        assert_nothing_held(&router);
    });
}

#[test]
fn a_subscription_that_is_dropped_is_forgotten_although_nothing_happens() {
    bounded(|| {
        let router = start(2);
        let kept = router.blocking().events().expect("the router runs");
        for _ in 0..100 {
            drop(router.blocking().events().expect("the router runs"));
            drop_after(1, &asking().remove(11), &Setting::new(&router, PATIENCE).within(PATIENCE));
            router.blocking().deregister(AgentId::of(&name_on(&router, 0, "agent"))).expect("the router runs");
            while router.stats().agents() > 0 {
                std::thread::yield_now();
            }
        }
        let registered =
            std::iter::from_fn(|| kept.try_next()).filter(|event| matches!(event, Event::Registered { .. }));
        assert_eq!(registered.count(), 200);
        shutdown(&router);
    });
}
