//! The agent management system: listing agents and their states, and agents that manage themselves.

use caxton_shards::api::AgentState;
use caxton_shards::message::Performative::{self, Failure, Inform, Refuse};

use super::{ASKER, Shop};

fn ams(shop: &mut Shop, act: &str) -> (Performative, String) {
    let mut answers = shop.request("ams@shop", act);
    assert_eq!(answers.len(), 1, "{act}: {answers:?}");
    answers.remove(0)
}

fn describe(act: &str, name: &str, more: &str) -> String {
    format!("({act} (ams-agent-description :name (agent-identifier :name {name}) {more}))")
}

fn search(shop: &mut Shop, template: &str) -> Vec<String> {
    let (performative, content) = ams(shop, &format!("(search (ams-agent-description {template}))"));
    assert_eq!(performative, Inform, "{content}");
    super::names(&content)
}

#[test]
fn every_agent_of_every_shard_is_found_with_its_state() {
    let mut shop = Shop::open(3);
    for name in ["a@shop", "b@shop", "c@shop"] {
        shop.add(name, &[]);
    }
    assert_eq!(search(&mut shop, ""), ["a@shop", "ams@shop", ASKER, "b@shop", "c@shop", "df@shop"]);
    assert_eq!(search(&mut shop, ":name (agent-identifier :name b@shop)"), ["b@shop"]);
    assert_eq!(search(&mut shop, ":name (agent-identifier :name z@shop)"), [""; 0]);
    assert_eq!(search(&mut shop, ":state suspended"), [""; 0]);
    let (_, content) = ams(&mut shop, "(search (ams-agent-description) (search-constraints :max-results 2))");
    assert_eq!(super::names(&content), ["a@shop", "ams@shop"]);
    assert!(content.contains(":state active"), "{content}");
}

#[test]
fn the_platform_describes_itself() {
    let mut shop = Shop::open(1);
    let (performative, content) = ams(&mut shop, "(get-description)");
    assert_eq!(performative, Inform);
    assert!(
        content.contains("(set (ap-description :name shop :ap-services (set (ap-service :name ams@shop"),
        "{content}"
    );
}

#[test]
fn agents_of_elsewhere_are_registered_changed_and_removed() {
    let mut shop = Shop::open(2);
    let owned = ":ownership Inc :state active";
    assert_eq!(ams(&mut shop, &describe("register", "far@x", owned)).0, Inform);
    let (performative, content) = ams(&mut shop, &describe("register", "far@x", ""));
    assert_eq!(performative, Failure);
    assert!(content.ends_with(" already-registered)"), "{content}");
    assert_eq!(search(&mut shop, ":ownership Inc"), ["far@x"]);
    assert_eq!(ams(&mut shop, &describe("modify", "far@x", ":ownership Co :state suspended")).0, Inform);
    assert_eq!(search(&mut shop, ":ownership Inc"), [""; 0]);
    assert_eq!(search(&mut shop, ":state suspended"), ["far@x"]);
    assert_eq!(ams(&mut shop, &describe("deregister", "far@x", "")).0, Inform);
    for act in ["deregister", "modify"] {
        let (performative, content) = ams(&mut shop, &describe(act, "far@x", ""));
        assert_eq!(performative, Failure, "{act}");
        assert!(content.ends_with(" not-registered)"), "{content}");
    }
}

#[test]
fn an_agent_of_the_router_is_registered_already_and_changed_by_nobody_else() {
    let mut shop = Shop::open(2);
    shop.add("painter@shop", &["paint"]);
    let (performative, content) = ams(&mut shop, &describe("register", "painter@shop", ""));
    assert!(performative == Failure && content.ends_with(" already-registered)"), "{content}");
    for (act, name) in [("modify", "painter@shop"), ("deregister", "painter@shop"), ("deregister", "df@shop")] {
        let (performative, content) = ams(&mut shop, &describe(act, name, ":state suspended"));
        assert!(performative == Refuse && content.ends_with(" unauthorised)"), "{act} {name}: {content}");
    }
    assert_eq!(shop.search(""), ["painter@shop"]);
}

#[test]
fn an_agent_suspends_and_resumes_itself() {
    let mut shop = Shop::open(2);
    let state = |shop: &mut Shop| {
        let (shard, token) = (shop.world.shard_of(shop.asker), shop.world.token());
        shop.world.give(shard, caxton_shards::api::Input::Agent(shop.asker, token));
        shop.world.run();
        match shop.world.take_answer(shard, token) {
            Some(caxton_shards::api::Answer::Agent(view)) => view.unwrap().state,
            _ => unreachable!("the agent is there"),
        }
    };
    let answers = shop.request("ams@shop", &describe("modify", ASKER, ":state suspended"));
    assert_eq!(answers, [], "a suspended agent is not called, not even with the answer");
    assert_eq!(state(&mut shop), AgentState::Suspended);
    let answers = shop.request("ams@shop", &describe("modify", ASKER, ":state active"));
    assert_eq!(answers.iter().map(|(performative, _)| *performative).collect::<Vec<_>>(), [Inform, Inform]);
    assert_eq!(state(&mut shop), AgentState::Active);

    let (performative, content) = ams(&mut shop, &describe("modify", ASKER, ":state transit"));
    assert!(performative == Refuse && content.contains("unrecognised-parameter-value"), "{content}");
}

#[test]
fn an_agent_that_deregisters_itself_hears_so_and_is_gone() {
    for shards in 1..=3 {
        let mut shop = Shop::open(shards);
        assert_eq!(ams(&mut shop, &describe("deregister", ASKER, "")).0, Inform);
        assert_eq!(shop.world.total().dead_lettered, 0, "it heard so before it was gone");
        let again = crate::common::Script::listener(&shop.heard).registration(ASKER.parse().unwrap());
        shop.world.register(again);
        assert_eq!(search(&mut shop, ":name (agent-identifier :name asker@shop)"), [ASKER]);
        shop.world.assert_settled();
    }
}

#[test]
fn an_agent_that_is_told_nothing_can_be_delivered_hears_it_from_the_ams_and_nobody_answers_that() {
    let mut shop = Shop::open(2);
    let message = "(request :sender asker@shop :receiver (set nobody@shop) :reply-with r1 :content x)";
    shop.hear_text(message);
    assert_eq!(shop.world.total().dead_lettered, 1);
    let notices = shop.world.total().notices;
    // A reply to the notice causes no second notice.
    shop.hear_text("(inform :sender asker@shop :receiver (set ams) :content thanks)");
    assert_eq!(shop.world.total().notices, notices);
}
