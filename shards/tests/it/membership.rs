//! Registration and deregistration: which agents are known where and when, and what happens to messages for those that
//! left.

use caxton_shards::agent::{Outcome, Registration};
use caxton_shards::api::{Answer, InboxNumber, Input, LiveConfig, ROUTER_NAME, RegistrationError, is_notice};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::{AgentName, ShardCount};
use caxton_shards::message::{AgentId, Choice, Message, Performative, Term, WallTime};
use caxton_shards::routing::partition::{Partition, Placement, ShardIndex};
use caxton_shards::routing::rules::{Conditions, Destination, Rule};

use crate::common::{Log, Script, Setup, WALL_START_MS, World, capability, inform, text};

fn ask_for(sender: AgentId, name: &str, choice: Choice) -> Message {
    let message = Message::builder(Performative::Request).sender(sender).content("please");
    message.capability(&capability(name), choice).build().unwrap()
}

#[test]
fn a_registration_is_answered_only_when_every_shard_knows_the_agents_capabilities() {
    let mut world = World::new(3);
    world.run();
    let agent = Script::idle().offering("membership.barrier");
    let name = world.name_on(0, "agent");
    let id = AgentId::of(&name);
    world.pause(2, true);
    let token = world.register_later(agent.registration(name));
    world.run();
    assert!(world.take_answer(0, token).is_none(), "a shard has not heard of the agent yet");
    assert_eq!(world.discover(1, "membership.barrier"), [id]);
    world.pause(2, false);
    world.run();
    assert!(matches!(world.take_answer(0, token), Some(Answer::Registered(results)) if results == [Ok(id)]));
    for shard in 0..3 {
        assert_eq!(world.discover(shard, "membership.barrier"), [id]);
    }
}

#[test]
fn what_an_agent_offers_when_it_is_started_is_part_of_the_barrier() {
    let mut world = World::new(2);
    world.run();
    let offered = capability("membership.started");
    let script = Script::idle().starting(move |context| context.advertise(&offered).unwrap());
    let name = world.name_on(0, "agent");
    world.pause(1, true);
    let token = world.register_later(script.registration(name));
    world.run();
    assert!(world.take_answer(0, token).is_none());
    world.pause(1, false);
    world.run();
    assert!(world.take_answer(0, token).is_some());
}

#[test]
fn a_name_is_registered_once_and_the_routers_own_never() {
    let mut world = World::new(2);
    let (agent, heard) = world.add_listener(1, "agent");
    let name = world.name_on(1, "agent");
    let duplicate = RegistrationError::Duplicate { name: name.to_string() };
    assert_eq!(world.try_register(Script::idle().offering("membership.twice").registration(name)), Err(duplicate));
    assert_eq!(world.discover(1, "membership.twice"), []);
    world.send(inform(agent, agent, "still here").build().unwrap()).unwrap();
    world.run();
    assert_eq!(heard.texts(), ["still here"]);
    let reserved = RegistrationError::Reserved { name: ROUTER_NAME.to_owned() };
    let router = AgentName::try_new(ROUTER_NAME).unwrap();
    assert_eq!(world.try_register(Script::idle().registration(router)), Err(reserved));
}

#[test]
fn several_agents_are_registered_in_one_input_and_answered_one_by_one() {
    let mut world = World::new(1);
    let token = world.token();
    let names = ["one", "two", "one"].map(|name| AgentName::try_new(name).unwrap());
    let registrations = names.clone().map(|name| Script::idle().registration(name)).into();
    world.give(0, Input::Register(registrations, token));
    world.run();
    let Some(Answer::Registered(results)) = world.take_answer(0, token) else { panic!("not answered") };
    let [one, two, _] = names.map(|name| AgentId::of(&name));
    assert_eq!(results, [Ok(one), Ok(two), Err(RegistrationError::Duplicate { name: "one".to_owned() })]);
}

#[test]
fn an_agent_that_panics_while_it_is_made_or_started_is_not_registered() {
    let mut world = World::new(1);
    let (other, heard) = world.add_listener(0, "other");
    let name = || AgentName::try_new("agent").unwrap();
    let refused = |what: &str| Err(RegistrationError::Panicked { name: "agent".to_owned(), what: what.to_owned() });
    let unmade = Registration::boxed(name(), Box::new(|| panic!("in the factory")));
    assert_eq!(world.try_register(unmade), refused("in the factory"));
    let unstarted = Script::idle().offering("membership.unstarted").starting(move |context| {
        context.send(inform(context.id(), other, "never").build().unwrap()).unwrap();
        panic!("in started")
    });
    assert_eq!(world.try_register(unstarted.registration(name())), refused("in started"));
    assert_eq!((world.snapshot(0).agents, heard.len()), (1, 0));
    assert_eq!(world.discover(0, "membership.unstarted"), []);
    world.register(Script::idle().registration(name()));
    world.assert_settled();
}

#[test]
fn the_waiting_mail_of_an_agent_that_leaves_is_given_up_and_what_it_sent_still_goes_out() {
    let mut world = Setup::new(2).lanes(2, 1).start();
    let (far, heard) = world.add_listener(1, "far");
    let (friend, told) = world.add_listener(0, "friend");
    let stopped = Log::new();
    let log = stopped.clone();
    let agent = world.add(0, "agent", Script::idle().offering("membership.gone").stopping(move || log.push(())));
    world.pause(1, true);
    for number in 0..5 {
        world.send(inform(agent, far, &number.to_string()).build().unwrap()).unwrap();
    }
    for _ in 0..5 {
        world.send(inform(friend, agent, "for you").build().unwrap()).unwrap();
    }
    world.run();
    assert_eq!(world.total().processed, 0, "its outbox is not empty, so it is not called");
    assert!(world.deregister(agent));
    assert_eq!((world.dead(DeadLetterReason::Deregistered), told.notices().len(), stopped.len()), (5, 5, 1));
    world.send(inform(friend, agent, "too late").build().unwrap()).unwrap();
    // A new agent with the same name is unrelated to the old one's outbox.
    let (again, news) = world.add_listener(0, "agent");
    world.send(inform(friend, again, "news").build().unwrap()).unwrap();
    world.pause(1, false);
    world.run();
    assert_eq!(
        (heard.texts(), news.texts()),
        (["0", "1", "2", "3", "4"].map(str::to_owned).into(), vec!["news".to_owned()])
    );
    assert_eq!(world.dead(DeadLetterReason::Deregistered), 6, "what comes too late is told that the agent has gone");
    for shard in 0..2 {
        assert_eq!(world.discover(shard, "membership.gone"), []);
    }
    world.assert_settled();
}

#[test]
fn a_new_agent_of_an_old_name_gets_none_of_the_old_ones_delayed_messages() {
    let mut world = World::new(1);
    let sender = world.add(0, "sender", Script::idle());
    let old = world.add(0, "agent", Script::new(|_, _| Outcome::failed("no")));
    world.send(inform(sender, old, "retried").build().unwrap()).unwrap();
    let later = inform(sender, old, "delayed").deliver_at(WallTime(WALL_START_MS + 50));
    world.send(later.build().unwrap()).unwrap();
    world.run();
    world.deregister(old);
    let (_, heard) = world.add_listener(0, "agent");
    world.advance(1_000);
    assert_eq!((heard.len(), world.dead(DeadLetterReason::Deregistered)), (0, 2));
    world.assert_settled();
}

#[test]
fn an_agent_can_leave_inside_its_own_handler() {
    let mut world = World::new(2);
    let (far, heard) = world.add_listener(1, "far");
    let agent = world.add(
        0,
        "agent",
        Script::new(move |_, context| {
            context.deregister();
            context.send(inform(context.id(), far, "farewell").build().unwrap()).unwrap();
            Outcome::Done
        }),
    );
    world.send(inform(agent, agent, "x").build().unwrap()).unwrap();
    world.run();
    assert_eq!((heard.texts(), world.snapshot(0).agents), (vec!["farewell".to_owned()], 0));
    assert!(!world.deregister(agent));
    world.assert_settled();
}

#[test]
fn a_handler_registers_an_agent_here_or_elsewhere_and_hears_when_it_is_known() {
    for shard in 0..2 {
        let mut world = World::new(2);
        let child = world.name_on(shard, "child");
        let child_id = AgentId::of(&child);
        let log = Log::new();
        let heard = log.clone();
        let parent = world.add(
            0,
            "parent",
            Script::new(move |message, context| {
                if is_notice(message) {
                    let known = context.discover(&capability("membership.child"));
                    heard.push((message.performative(), text(message), known));
                } else {
                    let script = Script::idle().offering("membership.child");
                    context.register(script.registration(child.clone()));
                }
                Outcome::Done
            }),
        );
        for _ in 0..2 {
            world.send(inform(parent, parent, "go").build().unwrap()).unwrap();
            world.run();
        }
        let [first, second] = <[_; 2]>::try_from(log.take()).unwrap();
        assert_eq!((first.0, first.2), (Performative::Inform, vec![child_id]));
        assert!(first.1.starts_with("((registered "), "{}", first.1);
        assert_eq!(second.0, Performative::Failure);
        assert!(second.1.contains("\\\"child-"), "quotes in the explanation are escaped: {}", second.1);
        world.assert_settled();
    }
}

#[test]
fn a_placed_agent_lives_where_it_was_asked_for_and_its_name_says_so() {
    let mut world = World::new(3);
    let log = Log::new();
    let heard = log.clone();
    let parent = world.add(
        0,
        "parent",
        Script::new(move |message, context| {
            if is_notice(message) {
                heard.push(text(message));
            } else {
                for placement in [Placement::Shard(ShardIndex(2)), Placement::Near(context.id())] {
                    let child = Script::idle().registration("child".to_owned().try_into().unwrap());
                    context.register(child.placed(placement));
                }
            }
            Outcome::Done
        }),
    );
    world.send(inform(parent, parent, "go").build().unwrap()).unwrap();
    world.run();
    let name = AgentName::try_new("child".to_owned()).unwrap();
    let partition = Partition::new(ShardCount::try_new(3).unwrap());
    let mut expected = Vec::new();
    for placement in [Placement::Shard(ShardIndex(2)), Placement::Near(parent)] {
        expected
            .push(format!("((registered (agent-identifier :name {})))", partition.complete(&name, placement).unwrap()));
    }
    let mut told = log.take();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    let persistent = Script::idle().registration(name).persistent().placed(Placement::Shard(ShardIndex(1)));
    let refused = RegistrationError::Placed { name: "child".to_owned() };
    assert_eq!(world.try_register(persistent), Err(refused));
    world.assert_settled();
}

#[test]
fn what_a_handler_registers_is_made_in_the_turn_after_it() {
    let mut world = World::new(1);
    let made = Log::new();
    let child = made.clone();
    let name = AgentName::try_new("child").unwrap();
    let script = Script::new(move |message, context| {
        if !is_notice(message) {
            context.register(Script::idle().counted(&child).registration(name.clone()));
        }
        Outcome::Done
    });
    let parent = world.add(0, "parent", script);
    world.send_later(inform(parent, parent, "go").build().unwrap());
    let turn = world.step(0);
    assert!(turn.more && made.is_empty(), "the registration waits for its turn");
    assert!(!world.nodes[0].shard.is_quiet());
    world.step(0);
    assert_eq!(made.len(), 1);
    world.run();
    world.assert_settled();
}

#[test]
fn agents_that_register_each_other_when_they_are_started_do_not_nest_without_bound() {
    fn chain(number: u32, made: &Log<u32>) -> Script {
        let made = made.clone();
        Script::idle().starting(move |context| {
            made.push(number);
            if number < 10_000 {
                let name = AgentName::try_new(format!("link-{}", number + 1)).unwrap();
                context.register(chain(number + 1, &made).registration(name));
            }
        })
    }
    let mut world = World::new(1);
    let made = Log::new();
    world.register(chain(0, &made).registration(AgentName::try_new("link-0").unwrap()));
    world.run();
    assert_eq!(made.len(), 10_001);
    world.assert_settled();
}

#[test]
fn an_agent_that_withdraws_a_capability_is_found_no_longer() {
    let mut world = World::new(2);
    let agent = world.add(
        0,
        "agent",
        Script::new(|_, context| {
            context.withdraw(&capability("membership.first"));
            Outcome::Done
        })
        .offering("membership.first")
        .offering("membership.second"),
    );
    world.send(inform(agent, agent, "x").build().unwrap()).unwrap();
    world.run();
    for shard in 0..2 {
        assert_eq!(world.discover(shard, "membership.first"), []);
        assert_eq!(world.discover(shard, "membership.second"), [agent]);
    }
    world.send(ask_for(agent, "membership.first", Choice::Any)).unwrap();
    world.run();
    assert_eq!(world.dead(DeadLetterReason::NoProvider), 1);
    world.assert_settled();
}

#[test]
fn a_capability_is_served_by_any_by_each_in_turn_or_by_all_of_its_providers() {
    let mut world = World::new(3);
    let logs: Vec<Log<Message>> = (0..3)
        .map(|shard| {
            let log = Log::new();
            world.add(shard, "provider", Script::listener(&log).offering("membership.choice"));
            log
        })
        .collect();
    let counts = |logs: &[Log<Message>]| logs.iter().map(|log| log.take().len()).collect::<Vec<_>>();
    let sender = world.add(1, "sender", Script::idle());
    for (choice, expected) in
        [(Choice::Any, vec![0, 6, 0]), (Choice::RoundRobin, vec![2, 2, 2]), (Choice::All, vec![6, 6, 6])]
    {
        for _ in 0..6 {
            world.send(ask_for(sender, "membership.choice", choice)).unwrap();
        }
        world.run();
        assert_eq!(counts(&logs), expected, "{choice:?}");
    }
    assert_eq!(world.total().accepted, 6 + 6 + 18);
    world.assert_settled();
}

#[test]
fn the_least_loaded_provider_is_chosen_across_shards() {
    let mut world = World::new(2);
    let inboxes: Vec<AgentId> = (0..2)
        .map(|shard| {
            let name = world.name_on(shard, "provider");
            let inbox = Registration::outside(name, InboxNumber(u32::from(shard)), 1);
            world.register(inbox.offering(capability("membership.least")))
        })
        .collect();
    let sender = world.add(0, "sender", Script::idle());
    for _ in 0..5 {
        world.send(inform(sender, inboxes[1], "load").build().unwrap()).unwrap();
    }
    world.run();
    // Four wait at the far provider; the near one gets as many before it is its turn again.
    for _ in 0..4 {
        world.send(ask_for(sender, "membership.least", Choice::LeastLoaded)).unwrap();
        world.run();
    }
    assert_eq!(world.nodes[1].shard.account().pending, 5);
    // The far one's inbox is emptied, and the other shard is informed.
    for _ in 0..5 {
        world.give(1, Input::Taken { agent: inboxes[1], inbox: InboxNumber(1), messages: 1, notices: 0 });
        world.run();
    }
    world.send(ask_for(sender, "membership.least", Choice::LeastLoaded)).unwrap();
    world.run();
    assert_eq!(world.nodes[1].shard.account().pending, 1);
}

#[test]
fn messages_without_a_receiver_go_where_the_first_matching_rule_sends_them() {
    let names: Vec<AgentId> = ["by-protocol", "by-size"].map(AgentId::of_text).into();
    let to = |conditions, agent| Rule { conditions, destination: Destination::Agent(agent) };
    let rules = vec![
        to(Conditions { protocol: Term::of("fipa-query"), ..Conditions::default() }, names[0]),
        to(Conditions { content_bytes_min: Some(100), ..Conditions::default() }, names[1]),
        Rule {
            conditions: Conditions { performative: Some(Performative::Cfp), ..Conditions::default() },
            destination: Destination::Capability(Term::of("membership.rule").unwrap(), Choice::All),
        },
    ];
    let mut world = Setup::new(2).configured(|config| config.rules = rules.into()).start();
    let logs: Vec<Log<Message>> = (0..3).map(|_| Log::new()).collect();
    for (name, log) in ["by-protocol", "by-size"].iter().zip(&logs) {
        world.register(Script::listener(log).registration(AgentName::try_new(*name).unwrap()));
    }
    for shard in 0..2 {
        world.add(shard, "bidder", Script::listener(&logs[2]).offering("membership.rule"));
    }
    let sender = world.add(1, "sender", Script::idle());
    let unaddressed = |performative| Message::builder(performative).sender(sender);
    let messages = [
        unaddressed(Performative::QueryRef).protocol("fipa-query"),
        unaddressed(Performative::Inform).content("x".repeat(100)),
        unaddressed(Performative::Cfp),
        unaddressed(Performative::Inform),
        // A rule can redirect a message from the capability that it addresses, but not from a named agent.
        unaddressed(Performative::Cfp).protocol("fipa-query").capability(&capability("membership.rule"), Choice::Any),
        unaddressed(Performative::Cfp).protocol("fipa-query").receiver(sender),
    ];
    for message in messages {
        world.send(message.build().unwrap()).unwrap();
    }
    world.run();
    assert_eq!(logs.iter().map(Log::len).collect::<Vec<_>>(), [2, 1, 2]);
    assert_eq!((world.dead(DeadLetterReason::NoRoute), world.total().processed), (1, 6));
    world.assert_settled();
}

#[test]
fn rules_are_replaced_by_newer_ones_in_whatever_order_they_come() {
    let [old, new] = ["old", "new"].map(AgentId::of_text);
    let to = |agent| vec![Rule { conditions: Conditions::default(), destination: Destination::Agent(agent) }];
    let mut next = LiveConfig::default();
    let [second, third] = [Vec::new(), to(new)].map(|rules| {
        next.rules = rules.into();
        next.advance();
        next.clone()
    });
    let mut world = Setup::new(1).configured(|config| config.rules = to(old).into()).start();
    let logs = [Log::new(), Log::new()];
    for (name, log) in ["old", "new"].iter().zip(&logs) {
        world.register(Script::listener(log).registration(AgentName::try_new(*name).unwrap()));
    }
    let sender = world.add(0, "sender", Script::idle());
    let mut heard = Vec::new();
    for live in [None, Some(third), Some(second)] {
        if let Some(live) = live {
            let token = world.token();
            world.give(0, Input::Reconfigure(Box::new(live), Some(token)));
            world.run();
            assert!(matches!(world.take_answer(0, token), Some(Answer::Reconfigured)));
        }
        world.send(Message::builder(Performative::Inform).sender(sender).build().unwrap()).unwrap();
        world.run();
        heard.push([logs[0].len(), logs[1].len()]);
    }
    assert_eq!(heard, [[1, 0], [1, 1], [1, 2]]);
    world.assert_settled();
}

#[test]
#[allow(clippy::redundant_closure_for_method_calls)] // The method is for one lifetime, the closure for any.
fn a_polled_agent_is_polled_until_it_is_done_or_gone_and_a_new_agent_in_its_place_is_not() {
    use caxton_shards::agent::Polled;
    let mut world = World::new(1);
    let polls = Log::new();
    let log = polls.clone();
    let script = Script::idle().starting(|context| context.poll_me()).polling(move |_| {
        log.push(());
        Polled::Waiting
    });
    let agent = world.add(0, "agent", script);
    polls.take();
    assert!(world.step(0).polling);
    assert_eq!(polls.take().len(), 1);
    world.deregister(agent);
    polls.take();
    let log = polls.clone();
    world.add(
        0,
        "another",
        Script::idle().polling(move |_| {
            log.push(());
            Polled::Finished
        }),
    );
    assert!(!world.step(0).polling);
    assert_eq!(polls.len(), 0);
}
