//! Surveys: agents whose messages wait, and conversations by state, found on request and in portions.

use caxton_shards::agent::{Outcome, Registration};
use caxton_shards::api::{
    AGENTS_SURVEYED_PER_TURN, Answer, CONVERSATIONS_SURVEYED_PER_TURN, ConsumerState, ConversationFilter,
    ConversationSummary, InboxNumber, Input, OTHER_STATES, SlowConsumer,
};
use caxton_shards::message::{AgentId, ConversationId, ConversationRole, Message, Performative};
use caxton_shards::protocol::{Act, Definition, Mode, Rulebook, Side, StepDefinition};

use crate::common::{Log, Script, Setup, World, inform};

/// Asks a shard for slow consumers, and counts the turns until it responds.
fn survey(world: &mut World, shard: usize, limit: usize) -> (Vec<SlowConsumer>, u64) {
    let token = world.token();
    world.give(shard, Input::SlowConsumers(limit, token));
    let began = world.steps();
    loop {
        world.step(shard);
        if let Some(answer) = world.take_answer(shard, token) {
            let Answer::SlowConsumers(found) = answer else { panic!("another kind of answer") };
            return (found, world.steps() - began);
        }
        assert!(world.steps() - began < 1_000, "it does not come to its end");
    }
}

fn row(found: &SlowConsumer) -> (AgentId, u32, u64, ConsumerState) {
    (found.agent, found.messages, found.oldest_ms, found.state)
}

#[test]
fn the_agents_whose_oldest_message_waits_longest_come_first() {
    let mut world = World::new(2);
    let sender = world.add(1, "sender", Script::idle());
    let quick = world.add(0, "quick", Script::idle());
    let [few, many] = ["few", "many"].map(|name| world.add(0, name, Script::idle()));
    for agent in [few, many] {
        world.suspend(agent).unwrap();
    }
    world.send(inform(sender, few, "x").build().unwrap()).unwrap();
    world.advance(200);
    for agent in [many, many, many, quick] {
        world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    }
    world.advance(100);
    let (found, _) = survey(&mut world, 0, 10);
    let wanted = [(few, 1, 300, ConsumerState::Suspended), (many, 3, 100, ConsumerState::Suspended)];
    assert_eq!(found.iter().map(row).collect::<Vec<_>>(), wanted);
    assert!(found[0].name.starts_with("few") && found[0].shard.as_usize() == 0 && found[0].bytes > 0);
    assert_eq!(survey(&mut world, 0, 1).0, found[..1]);
    assert_eq!((survey(&mut world, 0, 0).0, survey(&mut world, 1, 10).0), (Vec::new(), Vec::new()));
    for agent in [few, many] {
        world.resume(agent).unwrap();
    }
    world.run();
    assert_eq!(survey(&mut world, 0, 10).0, []);
    world.assert_settled();
}

#[test]
fn it_is_said_what_an_agent_waits_for() {
    let mut world = Setup::new(1)
        .configured(|config| {
            config.breaker.failures = 1.try_into().unwrap();
            config.retry.retries = 0;
        })
        .start();
    let sender = world.add(0, "sender", Script::idle());
    let unwell = world.add(0, "unwell", Script::new(|_, _| Outcome::failed("unwell")));
    let full = world.add_inbox(0, "full", 7, 1);
    let resumed = Log::new();
    let calls = resumed.clone();
    let long = Script::new(|_, _| Outcome::Suspended).resuming(move |_, _| {
        calls.push(());
        if calls.len() < 50 { Outcome::Suspended } else { Outcome::Done }
    });
    let long = world.add(0, "long", long);
    for agent in [unwell, full] {
        for content in ["first", "second"] {
            world.send(inform(sender, agent, content).build().unwrap()).unwrap();
        }
    }
    world.run();
    world.advance(10);
    world.send(inform(sender, long, "x").build().unwrap()).unwrap();
    let (mut found, _) = survey(&mut world, 0, 10);
    found.sort_by_key(|found| found.name.clone());
    let rows = found.iter().map(row).collect::<Vec<_>>();
    let wanted = [
        (full, 1, 10, ConsumerState::InboxFull),
        (long, 1, 0, ConsumerState::Handling),
        (unwell, 1, 10, ConsumerState::BreakerOpen),
    ];
    assert_eq!((rows, found[0].in_inbox), (wanted.to_vec(), 1));
    assert!(resumed.len() < 50);
    world.run();
    let details = world.nodes[0].shard.details();
    assert_eq!(details.breakers_named.len(), 1);
    assert!(details.breakers_named[0].starts_with("unwell"));
    world.advance(60_000);
    world.give(0, Input::Taken { agent: full, inbox: InboxNumber(7), messages: 1, notices: 0 });
    world.run();
    assert!(!survey(&mut world, 0, 10).0.iter().any(|found| found.agent == full), "what it had has been handed out");
}

#[test]
fn a_survey_of_many_agents_takes_many_turns_in_which_messages_pass() {
    let mut world = World::new(1);
    let agents: u32 = 3 * u32::try_from(AGENTS_SURVEYED_PER_TURN).unwrap();
    let log: Log<Message> = Log::new();
    let listener = world.add(0, "listener", Script::listener(&log));
    let registrations = (0..agents).map(|number| {
        let name = world.name_on(0, &format!("agent-{number}-"));
        Script::idle().registration(name)
    });
    let registrations: Vec<Registration> = registrations.collect();
    let last = registrations.last().unwrap().id();
    let token = world.token();
    world.give(0, Input::Register(registrations, token));
    world.run();
    world.suspend(last).unwrap();
    world.send(inform(listener, last, "x").build().unwrap()).unwrap();
    world.run();
    let token = world.token();
    world.give(0, Input::SlowConsumers(5, token));
    // The request, and all portions but the last.
    for _ in 0..4 {
        world.send(inform(listener, listener, "x").build().unwrap()).unwrap();
        assert!(world.take_answer(0, token).is_none());
    }
    assert_eq!(log.len(), 4, "they were handled meanwhile");
    let (found, turns) = survey(&mut world, 0, 5);
    assert_eq!(found.iter().map(|found| found.agent).collect::<Vec<_>>(), [last]);
    assert!(turns <= 7, "{turns}");
    let Some(Answer::SlowConsumers(first)) = world.take_answer(0, token) else { panic!("it was asked first") };
    assert_eq!(first.len(), 1);
    // Agents with messages take more of a turn.
    let mut world = World::new(1);
    let sender = world.add(0, "sender", Script::idle());
    for number in 0..AGENTS_SURVEYED_PER_TURN / 4 {
        let agent = world.add(0, &format!("agent-{number}-"), Script::idle());
        world.suspend(agent).unwrap();
        world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    }
    let (found, turns) = survey(&mut world, 0, 3);
    assert!(found.len() == 3 && turns > 3, "{turns}");
}

fn rulebook(own: &[Definition]) -> Rulebook {
    Rulebook::new(Mode::Observe, &[], own).unwrap()
}

fn begin(world: &mut World, from: AgentId, to: AgentId, protocol: &str, id: ConversationId, act: Performative) {
    let message = Message::builder(act).sender(from).receiver(to).protocol(protocol).conversation(id);
    world.send(message.build().unwrap()).unwrap();
}

/// Returns the states of a protocol and the number of conversations in each, as a shard knows them.
fn states(world: &mut World, protocol: &str) -> Vec<(String, u64)> {
    let details = world.nodes[0].shard.details();
    let figures = details.protocols.iter().find(|figures| &*figures.name == protocol).expect("it is checked");
    figures.states.iter().map(|state| (state.name.to_string(), state.open)).collect()
}

#[test]
fn open_conversations_are_listed_in_portions_by_protocol_state_and_agent() {
    let mut world = Setup::new(1).configured(|config| config.protocols = rulebook(&[])).start();
    let [one, two, three] = ["one", "two", "three"].map(|name| world.add(0, name, Script::idle()));
    let id = |text: &str| ConversationId::of_text(text);
    for (text, with) in [("a", two), ("b", two), ("c", three)] {
        begin(&mut world, one, with, "fipa-request", id(text), Performative::Request);
    }
    let agreed = Message::builder(Performative::Agree).sender(two).receiver(one);
    world.send(agreed.conversation_as(id("b"), ConversationRole::Participant).build().unwrap()).unwrap();
    begin(&mut world, two, three, "fipa-query", id("d"), Performative::QueryRef);
    world.send(inform(three, one, "x").conversation(id("e")).build().unwrap()).unwrap();
    world.run();
    let mut listed = |filter: ConversationFilter, limit: usize| -> Vec<ConversationSummary> {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let filter = Box::new(filter.clone());
            let input = |token| Input::Conversations { filter, after, limit, token };
            let Answer::Conversations(portion) = world.answer_now(0, input) else { panic!("another answer") };
            assert!(portion.conversations.len() <= limit);
            listed.extend(portion.conversations);
            after = portion.next;
            if after.is_none() {
                return listed;
            }
        }
    };
    let ids = |found: &[ConversationSummary]| found.iter().map(|summary| summary.id).collect::<Vec<_>>();
    let all = ConversationFilter::default;
    assert_eq!(ids(&listed(all(), 2)), ["a", "b", "c", "d", "e"].map(id));
    let requests = listed(ConversationFilter { protocol: Some("FIPA-Request".into()), ..all() }, 10);
    assert_eq!(ids(&requests), ["a", "b", "c"].map(id));
    let second = &requests[1];
    assert_eq!((second.initiator, &second.participants, second.participant_count), (one, &vec![one, two], 2));
    let protocol = second.protocol.as_ref().map(|(name, state)| (&**name, &**state));
    assert_eq!((second.messages, protocol), (2, Some(("fipa-request", "agreed"))));
    assert_eq!(ids(&listed(ConversationFilter { state: Some("agreed".into()), ..all() }, 10)), [id("b")]);
    assert_eq!(ids(&listed(ConversationFilter { agent: Some(three), ..all() }, 10)), ["c", "d", "e"].map(id));
    let none = ConversationFilter { protocol: Some("fipa-query".into()), agent: Some(one), ..all() };
    assert_eq!(listed(none, 10), []);
}

#[test]
fn a_portion_of_conversations_takes_one_short_turn() {
    let mut world = counting();
    let nobody = ConversationFilter { agent: Some(AgentId::of_text("nobody")), ..ConversationFilter::default() };
    let (mut portions, mut after) = (0, None);
    loop {
        let filter = Box::new(nobody.clone());
        let input = |token| Input::Conversations { filter, after, limit: 10, token };
        let Answer::Conversations(portion) = world.answer_now(0, input) else { panic!("another answer") };
        assert_eq!(portion.conversations, []);
        (portions, after) = (portions + 1, portion.next);
        if after.is_none() {
            break;
        }
    }
    assert!(portions >= 3, "{portions}");
}

#[test]
fn open_conversations_are_counted_by_protocol_and_state() {
    let mut world = Setup::new(1).configured(|config| config.protocols = rulebook(&[])).start();
    let [one, two, three] = ["one", "two", "three"].map(|name| world.add(0, name, Script::idle()));
    let id = |text: &str| ConversationId::of_text(text);
    for text in ["a", "b", "c"] {
        begin(&mut world, one, two, "fipa-request", id(text), Performative::Request);
    }
    let answer = |act, from, text: &str| {
        let message = Message::builder(act).sender(from).receiver(one);
        message.conversation_as(id(text), ConversationRole::Participant).build().unwrap()
    };
    world.send(answer(Performative::Agree, two, "b")).unwrap();
    // One bidder has refused, which ends its exchange, and one has not replied.
    for bidder in [two, three] {
        begin(&mut world, one, bidder, "fipa-contract-net", id("d"), Performative::Cfp);
    }
    world.send(answer(Performative::Refuse, two, "d")).unwrap();
    world.run();
    let named = |states: &[(&str, u64)]| states.iter().map(|(name, open)| ((*name).to_owned(), *open)).collect();
    let none: Vec<(String, u64)> = Vec::new();
    assert_eq!(states(&mut world, "fipa-request"), none, "nobody has asked for a count");
    world.nodes[0].shard.count_states();
    let wanted: Vec<_> = named(&[("requested", 2), ("agreed", 1)]);
    assert_eq!(states(&mut world, "fipa-request"), wanted);
    let wanted: Vec<_> = named(&[("called", 1)]);
    assert_eq!(states(&mut world, "fipa-contract-net"), wanted);
    world.send(answer(Performative::Refuse, three, "d")).unwrap();
    world.run();
    world.nodes[0].shard.count_states();
    let wanted: Vec<_> = named(&[("called", 0), ("refused", 1)]);
    assert_eq!(states(&mut world, "fipa-contract-net"), wanted);
    world.advance(60_000);
    world.nodes[0].shard.count_states();
    let wanted: Vec<_> = named(&[("requested", 0), ("agreed", 0)]);
    assert_eq!(states(&mut world, "fipa-request"), wanted, "a state that was counted once stays listed");
}

/// Returns a shard that begins to count so many conversations that this takes several turns.
fn counting() -> World {
    let mut world = Setup::new(1)
        .configured(|config| {
            config.protocols = rulebook(&[]);
            config.conversations.open_max = 10_000;
            config.conversations.timeout_ms = 1_000_000;
        })
        .start();
    let [one, two] = ["one", "two"].map(|name| world.add(0, name, Script::idle()));
    for number in 0..3 * CONVERSATIONS_SURVEYED_PER_TURN {
        let id = ConversationId::of_text(&number.to_string());
        begin(&mut world, one, two, "fipa-request", id, Performative::Request);
    }
    world.run();
    world.nodes[0].shard.count_states();
    world
}

/// Returns the number of turns until the conversations are counted. `meanwhile` happens before each of them.
fn turns_to_count(world: &mut World, mut meanwhile: impl FnMut(&mut World)) -> usize {
    let mut turns = 0;
    while states(world, "fipa-request").is_empty() {
        meanwhile(world);
        world.step(0);
        turns += 1;
        assert!(turns < 20, "it does not come to its end");
    }
    turns
}

#[test]
fn many_conversations_are_counted_over_several_turns() {
    let mut world = counting();
    let turns = turns_to_count(&mut world, |_| {});
    assert!((2..10).contains(&turns), "{turns}");
    let count = 3 * CONVERSATIONS_SURVEYED_PER_TURN as u64;
    assert_eq!(states(&mut world, "fipa-request"), [("requested".to_owned(), count)]);
}

#[test]
fn requests_for_slow_consumers_that_overlap_do_not_hold_up_a_count_of_conversations() {
    turns_to_count(&mut counting(), |world| {
        let token = world.token();
        world.give(0, Input::SlowConsumers(5, token));
    });
}

#[test]
fn states_beyond_a_number_are_counted_together() {
    let step = |number: usize| StepDefinition {
        from: if number == 0 { "start".to_owned() } else { format!("s{number}") },
        by: if number.is_multiple_of(2) { Side::Initiator } else { Side::Participant },
        act: Act::Is(Performative::Inform),
        to: format!("s{}", number + 1),
    };
    let own = (0..10).map(|number| Definition {
        name: format!("chain-{number}"),
        start: "start".to_owned(),
        aliases: Vec::new(),
        source: "this test".to_owned(),
        ends: vec!["s60".to_owned()],
        steps: (0..60).map(step).collect(),
        others_speak: false,
    });
    let own: Vec<Definition> = own.collect();
    let mut world = Setup::new(1).configured(|config| config.protocols = rulebook(&own)).start();
    let [one, two] = ["one", "two"].map(|name| world.add(0, name, Script::idle()));
    for protocol in ["chain-0", "chain-9"] {
        begin(&mut world, one, two, protocol, ConversationId::of_text(protocol), Performative::Inform);
    }
    world.run();
    world.nodes[0].shard.count_states();
    assert_eq!(states(&mut world, "chain-0"), [("s1".to_owned(), 1)]);
    assert_eq!(states(&mut world, "chain-9"), [(OTHER_STATES.to_owned(), 1)]);
}

#[test]
fn a_survey_ends_although_the_router_stops() {
    let mut world = World::new(1);
    let sender = world.add(0, "sender", Script::idle());
    let agent = world.add(0, "agent", Script::idle());
    world.suspend(agent).unwrap();
    world.send(inform(sender, agent, "x").build().unwrap()).unwrap();
    let token = world.token();
    world.give(0, Input::SlowConsumers(5, token));
    world.stop_all();
    assert!(matches!(world.take_answer(0, token), Some(Answer::SlowConsumers(_))));
    assert!(world.nodes[0].shard.is_quiet());
}
