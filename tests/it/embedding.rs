//! The embedders' calls, from plain threads and from tokio.

mod reconfigure;
mod waits;

use std::rc::Rc;
use std::time::Duration;

use caxton_router::agent::{AgentState, StopReason};
use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::error::RegistrationError;
use caxton_router::error::{AskError, FailureReason, SendErrorKind};
use caxton_router::error::{CallError, ReceiveError};
use caxton_router::event::Event;
use caxton_router::message::{Choice, ConversationId};
use caxton_router::routing::rules::{Conditions, Destination, RULES_MAX, Rule};
use caxton_router::routing::{Placement, ShardIndex};
use caxton_router::{AgentId, Message, Outcome, Performative, Registration, Router};

use crate::common::{
    PATIENCE, bounded, capability, echo, hold_up, message_to, name, name_on, on, reporter, request_to, shutdown,
    silent, start, start_with, text_of,
};

#[test]
fn a_question_is_answered() {
    bounded(|| {
        let router = start(2);
        let agent = router.blocking().register(name("echo"), echo).expect("the agent is registered");
        let reply = router.blocking().ask(request_to(agent, "hello"), PATIENCE).expect("the agent answers");
        assert_eq!(text_of(&reply), "hello");
        assert_eq!(reply.sender(), Some(agent));
        shutdown(&router);
    });
}

#[test]
fn the_calls_work_from_tokio_too() {
    bounded(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("tokio starts");
        let router = start(2);
        runtime.block_on(async {
            let agent = router.register(name("echo"), echo).await.expect("the agent is registered");
            let questions: Vec<_> = (0..100)
                .map(|number| {
                    let router = router.clone();
                    tokio::spawn(async move {
                        let reply = router.ask(request_to(agent, &number.to_string()), PATIENCE).await;
                        assert_eq!(text_of(&reply.expect("the agent answers")), number.to_string());
                    })
                })
                .collect();
            for question in questions {
                question.await.expect("the question was answered");
            }
            let id = router.send(message_to(agent, "x")).await.expect("the message is accepted");
            assert_ne!(Some(id), router.send(message_to(agent, "x")).await.ok());
            router.tell(message_to(agent, "x")).await.expect("the message is queued");
            router.tell_all(vec![message_to(agent, "x"), message_to(agent, "y")]).await.expect("they are queued");
            assert_eq!(router.deregister(agent).await, Ok(true));
            assert_eq!(router.deregister(agent).await, Ok(false));
        });
        shutdown(&router);
    });
}

#[test]
fn a_second_agent_of_the_same_name_is_refused_by_name() {
    bounded(|| {
        let router = start(2);
        router.blocking().register(name("solo"), silent).expect("the first is registered");
        let error = router.blocking().register(name("solo"), silent).expect_err("the second is not");
        assert_eq!(error, CallError::Refused(RegistrationError::Duplicate { name: "solo".to_owned() }));
        assert!(error.to_string().contains("\"solo\""), "{error}");
        shutdown(&router);
    });
}

#[test]
fn the_routers_own_name_is_refused() {
    bounded(|| {
        let router = start(1);
        let error = router.blocking().register(name("ams"), silent).expect_err("the name belongs to the router");
        assert!(matches!(error, CallError::Refused(RegistrationError::Reserved { .. })), "{error}");
        shutdown(&router);
    });
}

#[test]
fn many_agents_are_registered_in_the_order_of_the_list() {
    bounded(|| {
        let router = start(2);
        let names: Vec<_> = (0..500).map(|number| name(&format!("agent-{number}"))).collect();
        let mut registrations: Vec<_> = names.iter().map(|name| Registration::native(name.clone(), silent)).collect();
        registrations.push(Registration::native(names[7].clone(), silent));
        let results = router.blocking().register_all(registrations);
        for (name, result) in names.iter().zip(&results) {
            assert_eq!(*result, Ok(AgentId::of(name)));
        }
        assert!(matches!(
            results.last(),
            Some(Err(CallError::Refused(RegistrationError::Duplicate { name }))) if name == "agent-7"
        ));
        assert_eq!(router.stats().agents(), 500);
        shutdown(&router);
    });
}

#[test]
fn agents_and_inboxes_live_where_they_are_placed() {
    bounded(|| {
        let router = start(2);
        let partition = router.partition();
        for shard in (0..2).map(ShardIndex) {
            let agent = Registration::native("echo", echo).placed(Placement::Shard(shard));
            let agent = router.blocking().register_one(agent).expect("the agent is registered");
            assert_eq!(partition.shard_of(agent), shard);
            let inbox = router.inbox("clerk").placed(Placement::Near(agent)).blocking().open().expect("it opens");
            assert_eq!(partition.shard_of(inbox.id()), shard);
            let reply = router.blocking().ask(request_to(agent, "hello"), PATIENCE).expect("the agent answers");
            assert_eq!(reply.sender(), Some(agent));
        }
        let beyond = Registration::native("beyond", echo).placed(Placement::Shard(ShardIndex(2)));
        let refused = router.blocking().register_one(beyond).expect_err("there is no such shard");
        assert!(refused.to_string().contains("0 to 1"), "{refused}");
        shutdown(&router);
    });
}

#[test]
fn a_registered_provider_is_found_from_every_shard() {
    bounded(|| {
        let router = start(4);
        for round in 0..50 {
            let offered = capability(&format!("skill-{round}"));
            assert_eq!(router.blocking().discover(&offered), Ok(Vec::new()));
            let registration =
                Registration::native(name(&format!("provider-{round}")), silent).offering(offered.clone());
            let provider = router.blocking().register_one(registration).expect("the provider is registered");
            // Questions go to one shard after the other.
            for _ in 0..4 {
                assert_eq!(router.blocking().discover(&offered), Ok(vec![provider]));
            }
        }
        shutdown(&router);
    });
}

/// Shards have more to exchange than their rings hold, and park while they wait for room.
#[test]
fn providers_beyond_what_rings_hold_are_registered_whenever_their_shards_park() {
    bounded(|| {
        for _ in 0..10 {
            let router = start(2);
            let registrations = (0..1_200)
                .map(|number| {
                    Registration::native(name(&format!("worker-{number}")), echo).offering(capability("work"))
                })
                .collect();
            let results = router.blocking().register_all(registrations);
            assert!(results.iter().all(Result::is_ok), "{results:?}");
            assert_eq!(router.blocking().discover(&capability("work")).expect("the router is there").len(), 1_200);
            shutdown(&router);
        }
    });
}

#[test]
fn an_agent_that_can_not_leave_its_thread_can_be_registered() {
    bounded(|| {
        let router = start(2);
        let agent = router
            .blocking()
            .register(name("counter"), || {
                let count = Rc::new(std::cell::Cell::new(0));
                on(move |message, context| {
                    count.set(count.get() + 1);
                    let reply = message.reply(Performative::Inform).content(count.get().to_string()).build();
                    context.send(reply.expect("the reply is valid")).expect("there is room");
                    Outcome::Done
                })
            })
            .expect("the agent is registered");
        for expected in ["1", "2", "3"] {
            let reply = router.blocking().ask(request_to(agent, "next"), PATIENCE).expect("the agent answers");
            assert_eq!(text_of(&reply), expected);
        }
        shutdown(&router);
    });
}

#[test]
fn messages_are_handled_in_the_order_in_which_they_were_told() {
    bounded(|| {
        let router = start(2);
        let (ear, heard) = flume::unbounded();
        let agent = router
            .blocking()
            .register(name("reporter"), move || reporter(ear.clone()))
            .expect("the agent is registered");
        for number in 0..10 {
            router.blocking().tell(message_to(agent, &number.to_string())).expect("the router runs");
        }
        for number in 10..20 {
            router.try_tell(message_to(agent, &number.to_string())).expect("there is room");
        }
        let more = (20..500).map(|number| message_to(agent, &number.to_string())).collect();
        router.blocking().tell_all(more).expect("the router runs");
        for number in 0..500 {
            assert_eq!(heard.recv_timeout(PATIENCE).expect("the message arrives"), number.to_string());
        }
        shutdown(&router);
    });
}

#[test]
fn a_message_that_finds_no_room_comes_back() {
    bounded(|| {
        let router = start_with(1, |config| {
            config.channel.capacity = 1.try_into().expect("one place is allowed");
        });
        let agent = router.blocking().register(name("echo"), echo).expect("the agent is registered");
        let barrier = hold_up(&router, 0);
        let queued = router.try_send(message_to(agent, "first")).expect("there is one place");
        for full in
            [router.try_send(message_to(agent, "second")).err(), router.try_tell(message_to(agent, "second")).err()]
        {
            let rejected = full.expect("there is no second place");
            assert_eq!(rejected.kind(), &SendErrorKind::Full);
            assert_eq!(text_of(rejected.message()), "second");
        }
        barrier.open();
        queued.blocking().accepted().expect("the first is accepted");
        let report = shutdown(&router);
        // What was returned was never accepted: only the blocker's message and the first one were.
        assert_eq!(report.stats.account().accepted, 2);
    });
}

#[test]
fn a_call_that_waits_for_room_goes_on_when_there_is_some() {
    bounded(|| {
        let router = start_with(1, |config| {
            config.channel.capacity = 1.try_into().expect("one place is allowed");
        });
        let agent = router.blocking().register(name("silent"), silent).expect("the agent is registered");
        let barrier = hold_up(&router, 0);
        let tellers: Vec<_> = (0..8)
            .map(|_| {
                let router = router.clone();
                std::thread::spawn(move || router.blocking().tell(message_to(agent, "x")).expect("the router runs"))
            })
            .collect();
        barrier.open();
        for teller in tellers {
            teller.join().expect("the message was queued");
        }
        assert_eq!(shutdown(&router).stats.account().processed, 9);
    });
}

#[test]
fn a_question_to_nobody_is_undeliverable_and_says_why() {
    bounded(|| {
        let router = start(2);
        let failure = router.blocking().ask(request_to(AgentId::of_text("nobody"), "?"), PATIENCE);
        let Err(AskError::Undeliverable(error)) = failure else { panic!("{failure:?}") };
        let notice = error.notice();
        assert_eq!(notice.performative(), Performative::Failure);
        assert_eq!(error.reason(), FailureReason::DeadLetter(DeadLetterReason::UnknownReceiver), "{error}");
        assert_eq!(error.receiver(), Some(AgentId::of_text("nobody")));
        assert_eq!(shutdown(&router).stats.account().dead_lettered, 1);
    });
}

#[test]
fn a_question_that_is_not_answered_times_out() {
    bounded(|| {
        let router = start(2);
        let agent = router.blocking().register(name("silent"), silent).expect("the agent is registered");
        for timeout in [Duration::from_millis(20), Duration::from_micros(1), Duration::ZERO] {
            let failure = router.blocking().ask(request_to(agent, "?"), timeout);
            // On a busy machine the shard may not even have been asked.
            assert!(matches!(failure, Err(AskError::TimedOut | AskError::Unresponsive(_))), "{failure:?}");
        }
        shutdown(&router);
    });
}

#[test]
fn an_answer_that_comes_too_late_is_a_dead_letter() {
    bounded(|| {
        let router = start(2);
        let events = router.blocking().events().expect("the router runs");
        let (told, hears) = flume::bounded(1);
        let agent = router
            .blocking()
            .register(name("late"), move || {
                let (mut question, told): (Option<Message>, _) = (None, told.clone());
                on(move |message, context| {
                    if message.performative() == Performative::Request {
                        question = Some(message.clone());
                        let _ = told.send(());
                    } else if let Some(question) = question.take() {
                        let reply = question.reply(Performative::Inform).build().expect("the reply is valid");
                        context.send(reply).expect("there is room");
                    }
                    Outcome::Done
                })
            })
            .expect("the agent is registered");
        let mut ask = Box::pin(router.ask(request_to(agent, "?"), PATIENCE));
        assert!(futures_lite::future::block_on(futures_lite::future::poll_once(&mut ask)).is_none());
        hears.recv_timeout(PATIENCE).expect("the question comes");
        drop(ask);
        router.blocking().send(message_to(agent, "answer now")).expect("it is accepted");
        let reason = loop {
            if let Event::DeadLettered { reason, .. } =
                events.blocking().next_within(PATIENCE).expect("there is an event")
            {
                break reason;
            }
        };
        assert_eq!(reason.as_str(), "nobody-asked");
        shutdown(&router);
    });
}

#[test]
fn a_router_that_has_stopped_refuses_and_gives_back() {
    bounded(|| {
        let router = start(2);
        let agent = router.blocking().register(name("silent"), silent).expect("the agent is registered");
        shutdown(&router);
        let message = || message_to(agent, "too late");
        let refused = [
            router.blocking().tell(message()).err(),
            router.try_tell(message()).err(),
            router.blocking().send(message()).err(),
            router.try_send(message()).err(),
        ];
        for rejected in refused {
            let rejected = rejected.expect("nothing is accepted any more");
            assert_eq!(rejected.kind(), &SendErrorKind::Stopping);
            assert_eq!(text_of(rejected.message()), "too late");
        }
        let batch = router.blocking().tell_all(vec![message(), message()]).expect_err("nothing is accepted any more");
        assert_eq!((batch.kind(), batch.messages().len()), (&SendErrorKind::Stopping, 2));
        assert!(matches!(router.blocking().ask(message(), PATIENCE), Err(AskError::Stopped)));
        assert_eq!(router.blocking().register(name("late"), silent), Err(CallError::Stopped));
        assert_eq!(router.blocking().deregister(agent), Err(CallError::Stopped));
        assert_eq!(router.inbox(name("late")).blocking().open().err(), Some(CallError::Stopped));
    });
}

#[test]
fn a_sender_that_is_not_registered_is_refused() {
    bounded(|| {
        let router = start(2);
        let agent = router.blocking().register(name("silent"), silent).expect("the agent is registered");
        let stranger = || {
            let builder = Message::builder(Performative::Inform).receiver(agent).sender(AgentId::of_text("stranger"));
            builder.build().expect("the message is valid")
        };
        let rejected = router.blocking().send(stranger()).expect_err("nobody has that name");
        assert_eq!(rejected.kind(), &SendErrorKind::UnknownSender);
        router.blocking().tell(stranger()).expect("it is queued");
        let report = shutdown(&router);
        assert_eq!(report.stats.account().refused, 1);
        assert_eq!(report.stats.account().dead_lettered, 1);
    });
}

#[test]
fn content_beyond_the_limit_is_refused() {
    bounded(|| {
        let router = start_with(1, |config| {
            config.message.content_bytes_max = 1_000.try_into().expect("the limit is allowed");
        });
        let agent = router.blocking().register(name("silent"), silent).expect("the agent is registered");
        let rejected = router.blocking().send(message_to(agent, &"x".repeat(1_001))).expect_err("it is too long");
        assert_eq!(rejected.kind(), &SendErrorKind::ContentTooLarge { bytes: 1_001, limit: 1_000 });
        let asked = router.blocking().ask(request_to(agent, &"x".repeat(1_001)), PATIENCE);
        let Err(AskError::Rejected(rejected)) = asked else { panic!("{asked:?}") };
        assert_eq!(rejected.kind(), &SendErrorKind::ContentTooLarge { bytes: 1_001, limit: 1_000 });
        router.blocking().send(message_to(agent, &"x".repeat(1_000))).expect("this is just short enough");
        shutdown(&router);
    });
}

#[test]
fn a_capability_is_addressed_instead_of_an_agent() {
    bounded(|| {
        let router = start(2);
        let offered = capability("translate");
        let (ear, heard) = flume::unbounded();
        let providers = 6_u32;
        let registrations = (0..providers)
            .map(|number| {
                let ear = ear.clone();
                let factory = move || {
                    let ear = ear.clone();
                    on(move |_, _| {
                        let _ = ear.send(number);
                        Outcome::Done
                    })
                };
                Registration::native(name(&format!("translator-{number}")), factory).offering(offered.clone())
            })
            .collect();
        for result in router.blocking().register_all(registrations) {
            result.expect("the provider is registered");
        }
        let message = |choice| {
            let builder = Message::builder(Performative::Request).capability(&offered, choice);
            builder.build().expect("the message is valid")
        };
        router.blocking().send(message(Choice::All)).expect("it is accepted");
        let mut reached: Vec<_> =
            (0..providers).map(|_| heard.recv_timeout(PATIENCE).expect("each is reached")).collect();
        reached.sort_unstable();
        assert_eq!(reached, (0..providers).collect::<Vec<_>>());
        for choice in [Choice::Any, Choice::RoundRobin, Choice::LeastLoaded] {
            router.blocking().send(message(choice)).expect("it is accepted");
            heard.recv_timeout(PATIENCE).expect("one is reached");
        }
        assert_eq!(shutdown(&router).stats.account().processed, u64::from(providers) + 3);
        assert!(heard.is_empty(), "only one was to be reached");
    });
}

#[test]
fn a_rule_decides_where_a_message_without_receiver_goes() {
    bounded(|| {
        let rule = Rule {
            conditions: Conditions { performative: Some(Performative::QueryRef), ..Conditions::default() },
            destination: Destination::Agent(AgentId::of_text("oracle")),
        };
        let router = Router::builder().rule(rule).start().expect("the router starts");
        router.blocking().register(name("oracle"), echo).expect("the agent is registered");
        let question = Message::builder(Performative::QueryRef).content("why").build().expect("the message is valid");
        let reply = router.blocking().ask(question, PATIENCE).expect("the oracle answers");
        assert_eq!(text_of(&reply), "why");
        let stray = Message::builder(Performative::Inform).build().expect("the message is valid");
        let failure = router.blocking().ask(stray, PATIENCE);
        let Err(AskError::Undeliverable(error)) = failure else { panic!("{failure:?}") };
        let notice = error.notice();
        assert!(text_of(notice).contains("no-route"), "{}", text_of(notice));
        let all =
            Rule { conditions: Conditions::default(), destination: Destination::Agent(AgentId::of_text("oracle")) };
        router.blocking().replace_rules(vec![all.clone()]).expect("the router runs");
        assert_eq!(router.rules(), std::slice::from_ref(&all));
        let now_routed = Message::builder(Performative::Request).content("so").build().expect("the message is valid");
        assert_eq!(text_of(&router.blocking().ask(now_routed, PATIENCE).expect("the oracle replies")), "so");
        let refused = router.blocking().replace_rules(vec![all.clone(); RULES_MAX + 1]);
        assert!(matches!(refused, Err(CallError::Refused(_))), "{refused:?}");
        assert_eq!(router.rules(), [all], "they stay as they are");
        shutdown(&router);
    });
}

#[test]
fn messages_without_sender_and_receiver_take_turns_among_the_shards() {
    bounded(|| {
        let to_clerk =
            Rule { conditions: Conditions::default(), destination: Destination::Agent(AgentId::of_text("clerk")) };
        let router = Router::builder().shards(2.try_into().expect("it is allowed")).rule(to_clerk).start();
        let router = router.expect("the router starts");
        let clerk = router.inbox("clerk").blocking().open().expect("the inbox is opened");
        let mut senders = Vec::new();
        for _ in 0..4 {
            let message = Message::builder(Performative::Inform).build().expect("the message is valid");
            router.blocking().send(message).expect("it is accepted");
            senders.push(clerk.blocking().recv_within(PATIENCE).expect("it comes").sender());
        }
        assert!(senders[0] != senders[1] && senders[..2] == senders[2..], "{senders:?}");
        drop(clerk);
        shutdown(&router);
    });
}

#[test]
fn subscribers_are_told_what_happens() {
    bounded(|| {
        let router = start(2);
        let events = router.blocking().events().expect("the router runs");
        let others = router.blocking().events().expect("the router runs");
        let agent = router.blocking().register(name("short-lived"), silent).expect("the agent is registered");
        router.blocking().deregister(agent).expect("the router runs");
        let lost = router.blocking().send(message_to(agent, "too late")).expect("it is accepted");
        for events in [events, others] {
            let next = || events.blocking().next_within(PATIENCE).expect("there is an event");
            assert_eq!(next(), Event::Registered { agent, name: "short-lived".into() });
            assert_eq!(next(), Event::StateChanged { agent, state: AgentState::Active });
            assert_eq!(next(), Event::Deregistered { agent, why: StopReason::Deregistered });
            let Event::DeadLettered { message, receiver, reason, .. } = next() else { panic!("a dead letter") };
            assert_eq!((message, receiver, reason.as_str()), (lost, Some(agent), "deregistered"));
            assert_eq!(events.lost(), 0);
        }
        let letters = router.blocking().dead_letters(10).expect("the router runs");
        assert_eq!(letters.iter().map(|letter| letter.message.id()).collect::<Vec<_>>(), [Some(lost)]);
        shutdown(&router);
    });
}

#[test]
fn a_subscription_ends_with_the_router() {
    bounded(|| {
        let router = start(2);
        let events = router.blocking().events().expect("the router runs");
        shutdown(&router);
        assert_eq!(futures_lite::future::block_on(events.next()), Err(ReceiveError::Stopped));
    });
}

#[test]
fn an_open_conversation_can_be_looked_at() {
    bounded(|| {
        let router = start(2);
        let answerer = router.blocking().register(name("answerer"), echo).expect("the agent is registered");
        let (began, begins) = flume::unbounded();
        let (ear, heard) = flume::unbounded();
        let asker = router
            .blocking()
            .register(name("asker"), move || {
                let (began, ear) = (began.clone(), ear.clone());
                on(move |message, context| {
                    if message.conversation().is_some() {
                        let _ = ear.send(());
                        return Outcome::Done;
                    }
                    let conversation = context.new_conversation();
                    let question = Message::builder(Performative::QueryRef)
                        .receiver(answerer)
                        .conversation(conversation)
                        .reply_with(context.new_correlation());
                    context.send(question.build().expect("it is valid")).expect("there is room");
                    let _ = began.send(conversation);
                    Outcome::Done
                })
            })
            .expect("the agent is registered");
        router.blocking().send(message_to(asker, "begin")).expect("it is accepted");
        let conversation: ConversationId = begins.recv_timeout(PATIENCE).expect("the conversation begins");
        heard.recv_timeout(PATIENCE).expect("the answer comes");
        let view = router.blocking().conversation(asker, conversation);
        let view = view.expect("the router runs").expect("the conversation is open");
        assert_eq!((view.initiator, view.participants, view.messages), (asker, vec![asker, answerer], 2));
        assert!(view.awaited.is_empty(), "the answer has come");
        assert_eq!(router.stats().conversations(), 1);
        let unknown = router.conversation(answerer, conversation);
        assert_eq!(futures_lite::future::block_on(unknown), Ok(None));
        shutdown(&router);
    });
}

#[test]
fn the_figures_are_true_when_an_answer_is_there() {
    bounded(|| {
        let router = start(1);
        for count in 1..=20 {
            router.blocking().register(name(&format!("agent-{count}")), echo).expect("the agent is registered");
            assert_eq!(router.stats().agents(), count);
        }
        let echo = AgentId::of_text("agent-1");
        for count in 1..=100 {
            router.blocking().ask(request_to(echo, "?"), PATIENCE).expect("the agent answers");
            let account = router.stats().account();
            assert_eq!((account.accepted, account.processed, account.pending), (2 * count, 2 * count, 0));
        }
        shutdown(&router);
    });
}

#[test]
fn the_way_in_is_the_agents_shard_whatever_their_number() {
    bounded(|| {
        // More shards than this machine may have cores.
        let router = start(4);
        assert_eq!(router.shard_count(), 4);
        let agents = || -> Vec<usize> { router.stats().shards.iter().map(|shard| shard.agents).collect() };
        let before = agents();
        for shard in 0..4 {
            let agent = router.blocking().register(name_on(&router, shard, "echo"), echo).expect("it is registered");
            let reply = router.blocking().ask(request_to(agent, "here"), PATIENCE).expect("the agent answers");
            assert_eq!(text_of(&reply), "here");
        }
        assert_eq!(agents(), before.iter().map(|agents| agents + 1).collect::<Vec<_>>());
        shutdown(&router);
    });
}

#[test]
fn a_name_that_is_not_allowed_is_refused_and_says_what_is() {
    bounded(|| {
        let router = start(2);
        let refusals = [
            router.blocking().register("", silent).err(),
            router.inbox("tab\t").blocking().open().err(),
            router.blocking().register_one(Registration::native("able", silent).offering("two words")).err(),
        ];
        for (refusal, field) in refusals.into_iter().zip(["agent name", "agent name", "capability name"]) {
            let Some(CallError::Refused(RegistrationError::InvalidName(error))) = refusal else {
                panic!("{refusal:?}")
            };
            assert_eq!(error.field, field, "{error}");
        }
        assert!(Message::builder(Performative::Inform).receiver(" spy").build().is_err());
        let agent = router.blocking().register("able", silent).expect("the agent is registered");
        let message = Message::builder(Performative::Inform).receiver("able").build().expect("the name is legal");
        assert_eq!(message.target(), Some(agent));
        shutdown(&router);
    });
}
