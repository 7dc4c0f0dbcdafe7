//! Replies that go elsewhere: `reply-to`, `in-reply-to` and recruited agents.

use caxton_shards::agent::Outcome;
use caxton_shards::api::is_notice;
use caxton_shards::dead_letter::DeadLetterReason;
use caxton_shards::domain::AgentName;
use caxton_shards::message::{Aid, ConversationId, ConversationRole, Message, Performative};
use caxton_shards::protocol::Mode;

use super::{PLACES, RUNS, Talk, correlation, say, violations, world};
use crate::common::{Log, Script, World};

#[test]
fn in_reply_to_tells_the_answer_to_a_cancel_from_the_result() {
    let mut world = world(1, Mode::Enforce);
    let initiator = world.add(0, "initiator", Script::idle());
    let participant = world.add(0, "participant", Script::idle());
    let protocol = "fipa-subscribe";
    let id = ConversationId::of_text("news");
    let state = |world: &mut World| {
        let party = world.conversation(initiator, id).unwrap().protocol.unwrap().parties.remove(0);
        (party.state, party.cancelling)
    };
    for message in [
        say(initiator, participant, "subscribe", protocol).conversation(id),
        say(initiator, participant, "cancel", protocol).conversation(id).reply_with(correlation(5)),
        // In transit when the cancel arrived.
        say(participant, initiator, "inform", protocol).conversation_as(id, ConversationRole::Participant),
    ] {
        world.send(message.build().unwrap()).unwrap();
        world.run();
    }
    assert_eq!(state(&mut world), ("subscribed".to_owned(), true));
    let news = |answers| {
        let message = say(participant, initiator, "inform", protocol).in_reply_to(correlation(answers));
        message.conversation_as(id, ConversationRole::Participant).build().unwrap()
    };
    world.send(news(5)).unwrap();
    world.run();
    assert_eq!(state(&mut world), ("cancelled".to_owned(), false));
    world.send(news(6)).unwrap();
    world.run();
    assert_eq!(world.dead(DeadLetterReason::ProtocolViolation), 1);
}

#[test]
fn an_answer_that_goes_where_the_initiator_wants_it_is_the_participants_step() {
    let mut world = world(3, Mode::Enforce);
    let initiator = world.add(0, "initiator", Script::idle());
    let participant = world.add(
        1,
        "participant",
        Script::new(|message, context| {
            for act in [Performative::Agree, Performative::Propose, Performative::Inform] {
                if !is_notice(message) {
                    context.send(context.reply(message, act).build().unwrap()).unwrap();
                }
            }
            Outcome::Done
        }),
    );
    let (secretary, heard) = world.add_listener(2, "secretary");
    let aid = Aid::new(AgentName::try_new(world.name_on(2, "secretary").to_string()).unwrap());
    let id = ConversationId::of_text("talk");
    let asked = say(initiator, participant, "request", "fipa-request").conversation(id).reply_to_aids(vec![aid]);
    world.send(asked.build().unwrap()).unwrap();
    world.run();
    let acts: Vec<Performative> = heard.take().iter().map(Message::performative).collect();
    assert_eq!(acts, [Performative::Agree, Performative::Inform]);
    let view = world.conversation(initiator, id).unwrap().protocol.unwrap();
    assert_eq!((view.parties[0].participant, view.parties[0].state.as_str()), (participant, "done"));
    // The secretary was not called by the initiator: it may not send anything in this protocol.
    let report = say(secretary, initiator, "inform", "fipa-request").conversation_as(id, ConversationRole::Participant);
    world.send(report.build().unwrap()).unwrap();
    world.run();
    assert_eq!(violations(&mut world).last().unwrap().state, "start");
    world.assert_settled();
}

#[test]
fn text_answers_to_the_agent_that_is_named_in_reply_to_are_legal_in_every_protocol() {
    for places in PLACES {
        for (protocol, runs) in RUNS {
            for run in *runs {
                if run.contains("<not-understood") {
                    continue;
                }
                let mut talk = Talk::new(&places, Mode::Enforce);
                for token in run.split_whitespace().filter(|token| !token.starts_with('!')) {
                    let (side, word) = token.split_at(1);
                    let message = if side == ">" {
                        let secretary = talk.aid(2);
                        talk.say(0, 1, word, protocol).reply_to_aids(vec![secretary])
                    } else {
                        talk.say(1, 2, word, protocol)
                    };
                    assert!(talk.passes(message), "{places:?}: {protocol}: {run}: {token}");
                }
                assert_eq!(violations(&mut talk.world), []);
            }
        }
    }
}

#[test]
fn an_answer_to_several_agents_that_are_named_in_reply_to_is_one_step() {
    for places in PLACES {
        for (protocol, runs) in RUNS {
            for (run, together) in runs.iter().flat_map(|run| [(run, true), (run, false)]) {
                if run.contains("<not-understood") {
                    continue;
                }
                let mut talk = Talk::new(&places, Mode::Enforce);
                talk.add(2, "archive");
                for token in run.split_whitespace().filter(|token| !token.starts_with('!')) {
                    let (side, word) = token.split_at(1);
                    if side == ">" {
                        let wanted = vec![talk.aid(2), talk.aid(3)];
                        let asked = talk.say(0, 1, word, protocol).reply_to_aids(wanted);
                        assert!(talk.passes(asked), "{places:?}: {protocol}: {run}: {token}");
                    } else if together {
                        let both = [talk.agents[2], talk.agents[3]];
                        talk.world.send(talk.say(1, 2, word, protocol).receivers(both).build().unwrap()).unwrap();
                        talk.world.run();
                    } else {
                        for to in [2, 3] {
                            let answer = talk.say(1, to, word, protocol);
                            assert!(talk.passes(answer), "{places:?}: {protocol}: {run}: {token} to {to}");
                        }
                    }
                }
                let answers = |log: &Log<Message>| log.take().iter().filter(|message| !is_notice(message)).count();
                let (first, second) = (answers(&talk.heard[2]), answers(&talk.heard[3]));
                assert_eq!(first, second, "{places:?}: {protocol}: {run}");
                assert_eq!(violations(&mut talk.world), [], "{places:?}: {protocol}: {run}");
            }
        }
    }
    // Repeating it to the same agent violates the protocol.
    let mut talk = Talk::new(&PLACES[0], Mode::Enforce);
    let secretary = talk.aid(2);
    assert!(talk.passes(talk.say(0, 1, "request", "fipa-request").reply_to_aids(vec![secretary])));
    assert!(talk.passes(talk.say(1, 2, "agree", "fipa-request")));
    assert!(!talk.passes(talk.say(1, 2, "agree", "fipa-request")));
}

#[test]
fn whom_a_participant_names_in_reply_to_goes_on_in_its_name_and_nobody_else_does() {
    let protocol = "fipa-contract-net";
    for places in PLACES {
        let mut talk = Talk::new(&places, Mode::Enforce);
        talk.add(2, "stranger");
        let deputy = talk.aid(2);
        assert!(talk.passes(talk.say(0, 1, "cfp", protocol)));
        assert!(talk.passes(talk.say(1, 0, "propose", protocol).reply_to_aids(vec![deputy])));
        assert!(!talk.passes(talk.say(0, 3, "accept-proposal", protocol)));
        assert!(talk.passes(talk.say(0, 2, "accept-proposal", protocol)), "{places:?}");
        assert!(!talk.passes(talk.say(3, 0, "inform", protocol)));
        assert!(!talk.passes(talk.say(2, 0, "propose", protocol)));
        assert!(talk.passes(talk.say(2, 0, "inform", protocol)), "{places:?}");
        assert_eq!(talk.states()[0], (talk.agents[1], "done".to_owned()));
        assert!(!talk.passes(talk.say(1, 0, "inform", protocol)));
        talk.world.advance(30_000);
        talk.world.assert_settled();
    }
}

#[test]
fn recruited_agents_answer_and_go_on_in_any_protocol() {
    for places in PLACES {
        let mut talk = Talk::new(&places, Mode::Enforce);
        talk.add(1, "other-driver");
        let protocol = "fipa-recruiting";
        assert!(talk.passes(talk.say(0, 1, "proxy", protocol)));
        assert!(!talk.passes(talk.say(1, 0, "propose", protocol)), "the recruiter is held to the protocol");
        assert!(talk.passes(talk.say(1, 0, "agree", protocol)));
        assert!(talk.passes(talk.say(1, 0, "inform", protocol)));
        for driver in [2, 3] {
            assert!(talk.passes(talk.say(driver, 0, "propose", "fipa-contract-net")), "{places:?}");
            assert!(talk.passes(talk.say(0, driver, "accept-proposal", "fipa-contract-net")), "{places:?}");
            assert!(talk.passes(talk.say(driver, 0, "inform", protocol)), "{places:?}");
            assert!(talk.passes(talk.say(driver, 0, "failure", protocol)), "{places:?}");
        }
        // An agent that the initiator wants replies to go to does not know the conversation.
        talk.add(2, "designated");
        assert!(talk.passes(talk.say(2, 4, "inform", protocol)), "{places:?}");
        assert!(talk.passes(talk.say(4, 2, "accept-proposal", protocol)), "{places:?}");
        let unchecked: u64 = (0..3).map(|shard| talk.world.snapshot(shard).conformance.unchecked).sum();
        assert_eq!((violations(&mut talk.world).len(), unchecked), (1, 2));
        talk.world.advance(30_000);
        talk.world.assert_settled();
    }
}
