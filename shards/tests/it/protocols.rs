//! Conversations are held to the protocol that they name: what each protocol allows, and what happens to the rest.

use std::num::NonZeroU64;

use caxton_shards::agent::Outcome;
use caxton_shards::api::{Answer, AskError, Event, is_notice};
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::AgentName;
use caxton_shards::message::{
    AgentId, Aid, ConversationId, ConversationRole, Correlation, Message, MessageBuilder, Performative, WallTime,
};
use caxton_shards::protocol::{Act, Definition, Mode, Rulebook, Side, StepDefinition, Violation};

use crate::common::{Log, Script, Setup, WALL_START_MS, World, text};

mod reply_to;
mod walks;

fn rulebook(mode: Mode) -> Rulebook {
    Rulebook::new(mode, &[], &[]).unwrap()
}

fn world(shards: u16, mode: Mode) -> World {
    let mut world = Setup::new(shards).configured(|config| config.protocols = rulebook(mode)).start();
    world.watch_events();
    world
}

fn act(word: &str) -> Performative {
    word.parse().unwrap()
}

fn correlation(number: u64) -> Correlation {
    Correlation::new(NonZeroU64::new(number).unwrap())
}

fn say(from: AgentId, to: AgentId, word: &str, protocol: &str) -> MessageBuilder {
    Message::builder(act(word)).sender(from).receiver(to).protocol(protocol)
}

/// Returns the violations reported since the last call.
fn violations(world: &mut World) -> Vec<Violation> {
    let events: Vec<Event> = (0..world.nodes.len()).flat_map(|shard| world.take_events(shard)).collect();
    let violation = |event| if let Event::ProtocolViolation(violation) = event { Some(*violation) } else { None };
    events.into_iter().filter_map(violation).collect()
}

/// Plays one conversation between an initiator and one participant. `>act` is the initiator's, `<act` the
/// participant's; a `!` before it means that the protocol does not allow it there. Returns where that was wrong.
fn play(world: &mut World, pair: [AgentId; 2], protocol: &str, run: &str, number: usize, mode: Mode) -> Vec<String> {
    let [initiator, participant] = pair;
    let id = ConversationId::of_text(&format!("{protocol} {number}"));
    let mut mistakes = Vec::new();
    for (place, token) in run.split_whitespace().enumerate() {
        let (forbidden, step) = token.strip_prefix('!').map_or((false, token), |step| (true, step));
        let message = if let Some(said) = step.strip_prefix('>') {
            say(initiator, participant, said, protocol).conversation(id)
        } else {
            let said = step.strip_prefix('<').unwrap();
            say(participant, initiator, said, protocol).conversation_as(id, ConversationRole::Participant)
        };
        let dead = world.dead(DeadLetterReason::ProtocolViolation);
        world.send(message.build().unwrap()).unwrap();
        world.run();
        let found = violations(world);
        let refused = world.dead(DeadLetterReason::ProtocolViolation) > dead;
        if found.len() != usize::from(forbidden) || refused != (forbidden && mode == Mode::Enforce) {
            mistakes.push(format!("{protocol}: {run}: step {place} {token}: {found:?}"));
        }
    }
    mistakes
}

/// Legal runs of each protocol, with illegal messages on the way.
const RUNS: &[(&str, &[&str])] = &[
    (
        "fipa-request",
        &[
            ">request <agree <inform !<inform !<agree !>request",
            ">request <agree <failure !<inform",
            ">request <refuse !<inform !<agree",
            ">request <inform !<failure",
            ">request <failure",
            ">request !>request !>inform !<propose !<request <agree !<agree !<refuse !>request <inform",
            "!>inform",
            "!>agree >request <agree",
            ">request <not-understood <agree >not-understood <inform >not-understood",
            ">request >cancel <inform <inform !<inform !<agree >not-understood",
            ">request <agree >cancel <failure <inform",
            ">request <agree <inform >cancel <failure !<failure",
            // The failure may belong to the request or to the cancel; an agree shows that it was the cancel's.
            ">request >cancel <failure <agree <inform !<inform",
            ">request >cancel >cancel <agree <failure <inform <inform !<inform",
            ">request >cancel <refuse <inform !<inform !<refuse",
            "!>cancel",
        ],
    ),
    (
        "fipa-query",
        &[
            ">query-if <agree <inform",
            ">query-ref <inform",
            ">query-if <refuse !<inform",
            ">query-ref <agree <failure !<inform",
            "!>request",
            ">query-if !>query-ref <failure",
        ],
    ),
    (
        "fipa-request-when",
        &[
            ">request-when <agree <inform",
            ">request-when !<inform <agree <failure",
            ">request-when <refuse !<agree",
            "!>request !>request-whenever",
        ],
    ),
    (
        "fipa-contract-net",
        &[
            ">cfp <propose >accept-proposal <inform",
            ">cfp <propose >accept-proposal <failure !<inform",
            ">cfp <propose >reject-proposal !<inform !<propose !>accept-proposal",
            ">cfp <refuse !<propose !>accept-proposal",
            ">cfp !>accept-proposal !>reject-proposal <propose !<inform !>cfp !<propose >accept-proposal !>reject-proposal",
            ">cfp !<inform !<agree !>cfp",
            ">cfp >cancel <propose <inform",
            ">cfp >cancel <refuse <failure !<propose",
            ">cfp <propose >accept-proposal >cancel <inform <inform !<inform",
            "!>propose",
        ],
    ),
    (
        "fipa-iterated-contract-net",
        &[
            ">cfp <propose >cfp <propose >accept-proposal <inform",
            ">cfp <propose >cfp <refuse !>cfp",
            ">cfp >cfp <propose >reject-proposal !>cfp",
            ">cfp >cfp <propose <propose >accept-proposal >reject-proposal <inform !<inform",
            ">cfp >cfp <propose >reject-proposal <propose >cfp <propose >accept-proposal <propose <failure",
            ">cfp >cfp <refuse <propose >accept-proposal <inform",
            ">cfp >cfp <refuse <refuse !>accept-proposal !>cfp",
            ">cfp >cfp <propose <refuse >reject-proposal !<inform",
            ">cfp <propose >cfp <propose !<propose >accept-proposal <inform >reject-proposal !<failure",
            ">cfp <propose >cfp >reject-proposal <propose >accept-proposal <inform",
            ">cfp <propose >accept-proposal !>cfp <failure",
        ],
    ),
    (
        "fipa-propose",
        &[
            ">propose <accept-proposal !<inform",
            ">propose <reject-proposal !<accept-proposal",
            ">propose !>accept-proposal !<agree <accept-proposal",
            "!>cfp",
        ],
    ),
    (
        "fipa-subscribe",
        &[
            ">subscribe <agree <inform <inform <inform <failure !<inform",
            ">subscribe <inform <inform >cancel <inform",
            ">subscribe <agree >cancel <failure <inform <inform <inform !<agree",
            ">subscribe <agree >cancel <inform <inform <inform !<refuse",
            ">subscribe <refuse !<inform",
            ">subscribe <failure !<agree",
            ">subscribe <agree !<agree !<refuse !>subscribe <inform",
            "!>request",
        ],
    ),
    (
        "fipa-brokering",
        &[
            ">proxy <agree <inform <inform <failure <propose",
            ">proxy <agree <failure !<inform",
            ">proxy <agree <propose <inform",
            ">proxy <agree !>accept-proposal <propose >accept-proposal <inform",
            ">proxy <refuse !<agree",
            ">proxy !<inform <agree !>proxy",
        ],
    ),
    (
        "fipa-recruiting",
        &[
            ">proxy <agree <inform <failure !<inform",
            ">proxy <agree <failure !<inform",
            ">proxy <refuse !<agree",
            ">proxy !<inform <agree !<propose <inform",
        ],
    ),
    (
        "fipa-english-auction",
        &[
            ">inform >cfp <propose >accept-proposal >cfp <propose >reject-proposal >inform !<inform",
            ">inform >cfp <propose >cfp >reject-proposal <propose >accept-proposal >inform >request <agree <inform",
            ">inform >cfp >cfp >inform <propose >reject-proposal !>cfp",
            ">inform !<propose >cfp !>accept-proposal !<agree",
            ">inform >cfp <propose >cfp <propose >reject-proposal >accept-proposal >inform >request <agree <inform",
            ">inform >cfp <propose >accept-proposal !<propose >request <agree >inform <inform !<inform",
            ">inform >cfp >inform >request <propose >reject-proposal <agree <inform",
            ">inform >cfp !>request >inform <propose >request <inform !<refuse",
            "!>cfp",
        ],
    ),
    (
        "fipa-dutch-auction",
        &[
            ">inform >cfp >cfp <propose >accept-proposal !<propose !>cfp",
            ">inform >cfp <propose >reject-proposal >cfp <propose >accept-proposal",
            ">inform >cfp <propose >cfp >reject-proposal >inform <propose >reject-proposal",
            ">inform >cfp >inform !>cfp",
            ">inform >cfp <propose >accept-proposal >inform !>cfp !<inform",
            ">inform !<propose !>accept-proposal",
        ],
    ),
];

#[test]
fn each_protocol_allows_its_runs_and_nothing_else() {
    for mode in [Mode::Observe, Mode::Enforce] {
        for shard in 0..2 {
            let mut world = Setup::new(2).configured(|config| config.protocols = rulebook(mode)).start();
            world.watch_events();
            let initiator = world.add(0, "initiator", Script::idle());
            let participant = world.add(shard, "participant", Script::idle());
            let mut wrong = Vec::new();
            for (protocol, runs) in RUNS {
                for (number, run) in runs.iter().enumerate() {
                    wrong.extend(play(&mut world, [initiator, participant], protocol, run, number, mode));
                }
            }
            assert_eq!(wrong, Vec::<String>::new());
            let forbidden: usize = RUNS.iter().flat_map(|(_, runs)| *runs).map(|run| run.matches('!').count()).sum();
            let all: usize = RUNS.iter().flat_map(|(_, runs)| *runs).map(|run| run.split_whitespace().count()).sum();
            let figures = world.snapshot(0).conformance;
            assert_eq!((figures.violations(), figures.steps), (forbidden as u64, (all - forbidden) as u64));
            let counted = if mode == Mode::Enforce { figures.refused } else { figures.observed };
            assert_eq!(counted, forbidden as u64);
            world.assert_settled();
        }
    }
}

#[test]
fn the_library_is_played_to_the_last_protocol() {
    let played: Vec<&str> = RUNS.iter().map(|(protocol, _)| *protocol).collect();
    assert_eq!(played, caxton_shards::protocol::library_names().collect::<Vec<_>>());
}

#[test]
fn who_breaks_a_protocol_hears_what_was_expected() {
    for shard in 0..2 {
        let mut world = world(2, Mode::Enforce);
        let (initiator, heard) = world.add_listener(0, "initiator");
        let (participant, told) = world.add_listener(shard, "participant");
        let id = ConversationId::of_text("talk");
        world.send(say(initiator, participant, "request", "fipa-request").conversation(id).build().unwrap()).unwrap();
        world.run();
        told.take();
        let wrong = say(participant, initiator, "propose", "fipa-request").reply_with(correlation(3));
        let wrong = wrong.conversation_as(id, ConversationRole::Participant).build().unwrap();
        let sent = world.send(wrong).unwrap();
        world.run();
        let notice = told.take().pop().unwrap();
        assert!(is_notice(&notice) && heard.is_empty());
        assert_eq!((notice.performative(), notice.conversation()), (Performative::NotUnderstood, Some(id)));
        assert_eq!(notice.in_reply_to(), Some(correlation(3)));
        let said = text(&notice);
        assert!(said.starts_with(&format!("((propose {sent} (agent-identifier :name ")), "{said}");
        let expected = "(protocol-violation \"fipa-request: in the state requested the participant may send agree, \
                        failure, inform, not-understood or refuse, and sent propose\"))";
        assert!(said.ends_with(expected), "{said}");
        let found = violations(&mut world).pop().unwrap();
        assert_eq!((found.message, found.sender, found.receiver), (Some(sent), participant, initiator));
        assert_eq!((found.initiator, found.conversation, found.state.as_str()), (initiator, id, "requested"));
        assert!(found.refused && found.side == Side::Participant);
        assert_eq!(world.conversation(initiator, id).unwrap().messages, 1, "it did not pass");
        world.assert_settled();
    }
}

#[test]
fn each_participant_of_a_contract_net_has_a_state_of_its_own() {
    let mut world = world(2, Mode::Enforce);
    let initiator = world.add(0, "initiator", Script::idle());
    let others: Vec<AgentId> =
        (0..4).map(|number| world.add(number % 2, &format!("bidder-{number}"), Script::idle())).collect();
    let id = ConversationId::of_text("tender");
    let protocol = "fipa-contract-net";
    let by = WallTime(WALL_START_MS + 1_000);
    let call = Message::builder(Performative::Cfp).sender(initiator).receivers(others.clone()).protocol(protocol);
    world.send(call.conversation(id).reply_by(by).build().unwrap()).unwrap();
    let answer = |world: &mut World, from: usize, word: &str| {
        let message = say(others[from], initiator, word, protocol);
        world.send(message.conversation_as(id, ConversationRole::Participant).build().unwrap()).unwrap();
        world.run();
    };
    world.run();
    answer(&mut world, 0, "propose");
    answer(&mut world, 1, "refuse");
    let states = |world: &mut World| -> Vec<(String, bool)> {
        let view = world.conversation(initiator, id).unwrap().protocol.unwrap();
        view.parties.into_iter().map(|party| (party.state, party.may_end)).collect()
    };
    let expected = [("proposed", false), ("refused", true), ("called", false), ("called", false)];
    assert_eq!(states(&mut world), expected.map(|(state, end)| (state.to_owned(), end)));
    let parties = world.conversation(initiator, id).unwrap().protocol.unwrap().parties;
    assert_eq!((parties[0].next_by, parties[2].next_by), (None, Some(by)));
    // A late proposal is counted as late, but accepted.
    world.advance(1_001);
    answer(&mut world, 2, "propose");
    for (to, word) in [(0, "accept-proposal"), (2, "reject-proposal"), (1, "accept-proposal")] {
        world.send(say(initiator, others[to], word, protocol).conversation(id).build().unwrap()).unwrap();
        world.run();
    }
    answer(&mut world, 0, "inform");
    let expected = [("done", true), ("refused", true), ("rejected", true), ("called", false)];
    assert_eq!(states(&mut world), expected.map(|(state, end)| (state.to_owned(), end)));
    let figures = world.snapshot(0).conformance;
    assert_eq!((figures.steps, figures.late, figures.refused), (10, 1, 1));
    assert_eq!(violations(&mut world)[0].receiver, others[1]);
    world.advance(20_000);
    world.assert_settled();
}

#[test]
fn a_refused_beginning_opens_no_conversation_and_one_that_names_nothing_is_free() {
    let mut world = world(1, Mode::Enforce);
    let (initiator, _) = world.add_listener(0, "initiator");
    let (participant, heard) = world.add_listener(0, "participant");
    let [refused, free, unknown] = ["refused", "free", "unknown"].map(ConversationId::of_text);
    world.send(say(initiator, participant, "agree", "fipa-request").conversation(refused).build().unwrap()).unwrap();
    world.run();
    assert!(world.conversation(initiator, refused).is_none() && heard.is_empty());
    let snapshot = world.snapshot(0);
    assert_eq!((snapshot.conversations, snapshot.conversations_opened, snapshot.timers), (0, 0, 0));
    let anything = Message::builder(Performative::Agree).sender(initiator).receiver(participant).conversation(free);
    world.send(anything.build().unwrap()).unwrap();
    world.send(say(initiator, participant, "agree", "house-rules").conversation(unknown).build().unwrap()).unwrap();
    world.run();
    assert_eq!(heard.len(), 2);
    // It is checked against a protocol from the moment its initiator names one.
    for word in ["request", "request"] {
        world.send(say(initiator, participant, word, "fipa-request").conversation(free).build().unwrap()).unwrap();
        world.run();
    }
    assert_eq!((heard.len(), world.dead(DeadLetterReason::ProtocolViolation)), (3, 2));
    world.assert_settled();
}

#[test]
fn a_message_may_leave_the_protocol_out_and_must_not_name_another() {
    let mut world = world(1, Mode::Enforce);
    let initiator = world.add(0, "initiator", Script::idle());
    let (participant, told) = world.add_listener(0, "participant");
    let id = ConversationId::of_text("talk");
    world.send(say(initiator, participant, "request", "fipa-request").conversation(id).build().unwrap()).unwrap();
    let agree = Message::builder(Performative::Agree).sender(participant).receiver(initiator);
    world.send(agree.conversation_as(id, ConversationRole::Participant).build().unwrap()).unwrap();
    let other = say(participant, initiator, "inform", "fipa-query").conversation_as(id, ConversationRole::Participant);
    world.send(other.build().unwrap()).unwrap();
    world.run();
    assert_eq!(world.conversation(initiator, id).unwrap().protocol.unwrap().parties[0].state, "agreed");
    assert_eq!(violations(&mut world)[0].named.as_deref(), Some("fipa-query"));
    assert!(told.notices()[0].contains("protocol is fipa-request, but the message names fipa-query"));
    world.assert_settled();
}

#[test]
fn what_was_not_delivered_may_be_said_again() {
    for shard in 0..2 {
        let mut world = world(2, Mode::Enforce);
        let (initiator, told) = world.add_listener(0, "initiator");
        let participant = world.add(shard, "participant", Script::new(|_, _| Outcome::failed("not today")));
        let id = ConversationId::of_text("talk");
        let ask = say(initiator, participant, "request", "fipa-request").conversation(id);
        world.send(ask.clone().build().unwrap()).unwrap();
        world.advance(5_000);
        assert_eq!((world.dead(DeadLetterReason::AttemptsExhausted), told.notices().len()), (1, 1));
        world.send(ask.build().unwrap()).unwrap();
        let other = say(initiator, participant, "propose", "fipa-request").conversation(id);
        world.send(other.build().unwrap()).unwrap();
        world.advance(5_000);
        assert_eq!(
            (world.dead(DeadLetterReason::AttemptsExhausted), world.dead(DeadLetterReason::ProtocolViolation)),
            (2, 1)
        );
    }
}

#[test]
fn a_question_from_outside_that_is_refused_is_answered_at_once() {
    let mut world = world(1, Mode::Enforce);
    let participant = world.add(0, "participant", Script::idle());
    let wrong = Message::builder(Performative::Agree).receiver(participant).protocol("fipa-request");
    let asked = world.ask(0, wrong.conversation(ConversationId::of_text("talk")).build().unwrap(), 60_000);
    world.run();
    let answer = world.take_answer(0, asked);
    assert!(matches!(answer, Some(Answer::Replied(Err(AskError::Undeliverable(_))))));
    world.assert_settled();
}

#[test]
fn what_came_as_text_is_held_to_its_protocol_on_both_ends() {
    let mut world = world(2, Mode::Enforce);
    let initiator = world.add(0, "initiator", Script::idle());
    let participant = world.add(1, "participant", Script::idle());
    for (from, to, word) in [
        (initiator, participant, "query-if"),
        (participant, initiator, "propose"),
        (participant, initiator, "inform"),
        (participant, initiator, "inform"),
    ] {
        let message = say(from, to, word, "FIPA-QUERY").conversation_text("is it?");
        world.send(message.build().unwrap()).unwrap();
        world.run();
    }
    assert_eq!(world.dead(DeadLetterReason::ProtocolViolation), 2);
    world.advance(30_000);
    world.assert_settled();
}

#[test]
fn a_protocol_of_the_users_own_with_acts_of_its_own() {
    let haggle = act("x-haggle");
    let step = |from: &str, by, act, to: &str| StepDefinition { from: from.into(), by, act, to: to.into() };
    let house = Definition {
        name: "house-haggle".into(),
        aliases: Vec::new(),
        source: "this test".into(),
        start: "idle".into(),
        ends: vec!["sold".into()],
        steps: vec![
            step("idle", Side::Initiator, Act::Is(Performative::Request), "asked"),
            step("asked", Side::Participant, Act::Is(haggle), "offered"),
            step("offered", Side::Initiator, Act::Is(haggle), "asked"),
            step("offered", Side::Initiator, Act::Any, "sold"),
        ],
        others_speak: false,
    };
    let own = Rulebook::new(Mode::Off, &[("house-haggle".to_owned(), Mode::Enforce)], &[house]).unwrap();
    let mut world = Setup::new(1).configured(|config| config.protocols = own).start();
    world.watch_events();
    let pair = ["a", "b"].map(|name| world.add(0, name, Script::idle()));
    let run = ">request !>x-haggle !<x-other <x-haggle !<x-haggle >x-haggle <x-haggle >inform !>x-haggle";
    assert_eq!(play(&mut world, pair, "house-haggle", run, 0, Mode::Enforce), Vec::<String>::new());
    let run = ">request !<agree <x-haggle >x-other";
    assert_eq!(play(&mut world, pair, "house-haggle", run, 1, Mode::Enforce), Vec::<String>::new());
    // The library is off.
    assert_eq!(play(&mut world, pair, "fipa-request", ">agree <propose", 2, Mode::Enforce), Vec::<String>::new());
}

#[test]
fn a_handler_learns_of_its_refused_answer_and_can_give_a_legal_one() {
    let mut world = world(1, Mode::Enforce);
    let (initiator, heard) = world.add_listener(0, "initiator");
    let log = Log::new();
    let asked = log.clone();
    let participant = world.add(
        0,
        "participant",
        Script::new(move |message, context| {
            if is_notice(message) {
                let question: Message = asked.take().pop().unwrap();
                context.send(context.reply(&question, Performative::Refuse).build().unwrap()).unwrap();
            } else {
                asked.push(message.clone());
                context.send(context.reply(message, Performative::Propose).build().unwrap()).unwrap();
            }
            Outcome::Done
        }),
    );
    let id = ConversationId::of_text("talk");
    world.send(say(initiator, participant, "request", "fipa-request").conversation(id).build().unwrap()).unwrap();
    world.run();
    let acts: Vec<Performative> = heard.take().iter().map(Message::performative).collect();
    assert_eq!((acts, log.len()), (vec![Performative::Refuse], 0));
    world.assert_settled();
}

// Messages that arrived as text, whose shard resolves what they belong to.

/// A world whose agents are on the shards of `places`, all in one conversation.
struct Talk {
    world: World,
    agents: Vec<AgentId>,
    heard: Vec<Log<Message>>,
    names: Vec<String>,
}

impl Talk {
    fn new(places: &[u16], mode: Mode) -> Self {
        let mut talk = Self { world: world(3, mode), agents: Vec::new(), heard: Vec::new(), names: Vec::new() };
        for (number, shard) in places.iter().enumerate() {
            talk.add(*shard, &format!("agent-{number}"));
        }
        talk
    }

    fn add(&mut self, shard: u16, name: &str) {
        let (agent, heard) = self.world.add_listener(shard, name);
        self.agents.push(agent);
        self.heard.push(heard);
        self.names.push(self.world.name_on(shard, name).to_string());
    }

    fn aid(&self, agent: usize) -> Aid {
        Aid::new(AgentName::try_new(self.names[agent].clone()).unwrap())
    }

    /// A message of a conversation, as text names it.
    fn say(&self, from: usize, to: usize, word: &str, protocol: &str) -> MessageBuilder {
        say(self.agents[from], self.agents[to], word, protocol).conversation_text("a talk")
    }

    /// Sends a message. Returns whether it was delivered.
    fn passes(&mut self, message: MessageBuilder) -> bool {
        let message = message.build().unwrap();
        let to = self.agents.iter().position(|agent| Some(*agent) == message.target()).unwrap();
        self.heard[to].take();
        self.world.send(message).unwrap();
        self.world.run();
        self.heard[to].take().iter().any(|message| !is_notice(message))
    }

    /// Returns the state of the exchange with each agent that the first one has addressed.
    fn states(&mut self) -> Vec<(AgentId, String)> {
        let view = self.world.conversation(self.agents[0], ConversationId::of_text("a talk")).unwrap();
        view.protocol.unwrap().parties.into_iter().map(|party| (party.participant, party.state)).collect()
    }
}

/// Shards of the three agents.
const PLACES: [[u16; 3]; 4] = [[0, 0, 0], [0, 1, 2], [1, 0, 1], [0, 0, 1]];

#[test]
fn a_platforms_report_of_a_lost_message_passes_and_ends_the_exchange() {
    let protocol = "fipa-request";
    for places in PLACES {
        let mut talk = Talk::new(&places, Mode::Enforce);
        talk.add(1, "AMS@elsewhere");
        let ams = talk.aid(3);
        let report = |talk: &Talk, to: usize| talk.say(3, to, "failure", protocol).sender_aid(ams.clone());
        for to in [1, 2] {
            assert!(talk.passes(talk.say(0, to, "request", protocol)));
        }
        let lost = format!(
            "((action (agent-identifier :name {}) (send (request :receiver (set (agent-identifier :name {}))))) (lost))",
            talk.names[3], talk.names[2]
        );
        assert!(talk.passes(report(&talk, 0).content(lost.as_str())), "{places:?}");
        let state = |talk: &mut Talk, party: usize| talk.states()[party - 1].1.clone();
        assert_eq!((state(&mut talk, 1).as_str(), state(&mut talk, 2).as_str()), ("requested", "undeliverable"));
        assert!(!talk.passes(talk.say(2, 0, "agree", protocol)), "it was lost");
        assert!(talk.passes(report(&talk, 0).content("nobody of that name here")));
        assert_eq!(state(&mut talk, 1), "undeliverable", "the only one that is under way");
        assert!(talk.passes(talk.say(0, 1, "request", protocol)), "what was lost is said again");
        assert!(talk.passes(talk.say(1, 0, "inform", protocol)), "{places:?}");
        // A participant's reply was lost, or the conversation is over: there is nothing to end.
        assert!(talk.passes(report(&talk, 1)), "{places:?}");
        assert!(talk.passes(report(&talk, 0)), "{places:?}");
        assert_eq!(state(&mut talk, 1), "done");
        // A failure from any other agent is one from a stranger.
        talk.add(1, "amsel@elsewhere");
        let bird = talk.aid(4);
        assert!(!talk.passes(talk.say(4, 0, "failure", protocol).sender_aid(bird)));
        talk.world.advance(30_000);
        talk.world.assert_settled();
    }
}

#[test]
fn a_cancel_that_asks_under_a_value_of_its_own_is_told_from_what_crosses_it_and_another_is_not() {
    let protocol = "fipa-subscribe";
    for (value, more) in [("s1", true), ("c1", false)] {
        let mut talk = Talk::new(&[0, 1, 2], Mode::Enforce);
        let news = |talk: &Talk, answers: &str| talk.say(1, 0, "inform", protocol).in_reply_to_text(answers);
        assert!(talk.passes(talk.say(0, 1, "subscribe", protocol).reply_with_text("s1")));
        assert!(talk.passes(talk.say(1, 0, "agree", protocol).in_reply_to_text("s1")));
        assert!(talk.passes(talk.say(0, 1, "cancel", protocol).reply_with_text(value)));
        assert!(talk.passes(news(&talk, "s1")), "sent before the cancel was read");
        assert!(talk.passes(news(&talk, value)), "the answer to the cancel");
        assert_eq!(talk.passes(news(&talk, value)), more, "{value}");
    }
}

#[test]
fn what_names_a_protocol_without_a_conversation_id_passes_and_is_counted() {
    let mut world = world(2, Mode::Enforce);
    let (initiator, answers) = world.add_listener(0, "initiator");
    let participant = world.add(1, "participant", Script::echo());
    for word in ["request", "agree"] {
        world.send(say(initiator, participant, word, "FIPA-Request").build().unwrap()).unwrap();
        world.send(say(initiator, participant, word, "house-rules").build().unwrap()).unwrap();
    }
    world.run();
    let [asked, answered] = [0, 1].map(|shard| world.snapshot(shard).conformance);
    assert_eq!((answers.len(), asked.unchecked, answered.unchecked), (4, 2, 2));
    assert_eq!((asked.violations(), asked.steps), (0, 0));
    world.assert_settled();
}

#[test]
fn names_of_protocols_mean_the_same_in_either_case() {
    let house = Definition {
        name: "House-Rules".into(),
        aliases: vec!["HausRegeln".into()],
        source: "this test".into(),
        start: "idle".into(),
        ends: vec!["done".into()],
        steps: vec![
            StepDefinition {
                from: "idle".into(),
                by: Side::Initiator,
                act: Act::Is(Performative::Request),
                to: "asked".into(),
            },
            StepDefinition {
                from: "asked".into(),
                by: Side::Participant,
                act: Act::Is(Performative::Inform),
                to: "done".into(),
            },
        ],
        others_speak: false,
    };
    let rulebook = Rulebook::new(Mode::Enforce, &[], &[house]).unwrap();
    let mut world = Setup::new(1).configured(|config| config.protocols = rulebook).start();
    world.watch_events();
    let pair = ["a", "b"].map(|name| world.add(0, name, Script::idle()));
    let spellings = ["Fipa-Request", "FIPA-request", "HOUSE-RULES", "house-rules", "hausregeln", "HAUSREGELN"];
    for (number, spelling) in spellings.into_iter().enumerate() {
        let run = ">request !<propose <inform !<inform";
        assert_eq!(play(&mut world, pair, spelling, run, number, Mode::Enforce), Vec::<String>::new());
    }
    // Both sides may use their own spelling.
    let id = ConversationId::of_text("mixed");
    let request = say(pair[0], pair[1], "request", "FIPA-Request").conversation(id);
    let answer = say(pair[1], pair[0], "inform", "fipa-REQUEST").conversation_as(id, ConversationRole::Participant);
    for message in [request, answer] {
        world.send(message.build().unwrap()).unwrap();
    }
    world.run();
    assert_eq!(violations(&mut world), []);
}
