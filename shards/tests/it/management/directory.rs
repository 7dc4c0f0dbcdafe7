//! Consistency: the directory finds exactly what agents provide.

use caxton_shards::message::Performative::{Failure, Inform, Refuse};
use caxton_shards::message::{AgentId, Choice, Message, Performative};

use super::Shop;
use crate::common::{Log, Script, capability};

const WEATHER: &str = "(service-description :name forecast :type weather :ontologies (set sky) :properties (set \
                       (property :name region :value alps)))";

fn register(act: &str, agent: &str, services: &str) -> String {
    format!("({act} (df-agent-description :name (agent-identifier :name {agent}) :services (set {services})))")
}

#[test]
fn what_an_agent_registers_is_offered_on_every_shard_when_it_is_told_so() {
    for shards in 1..=3 {
        let mut shop = Shop::open(shards);
        assert_eq!(shop.df(&register("register", "asker@shop", WEATHER)).0, Inform);
        assert_eq!(shop.discover("weather"), [shop.asker]);
        assert_eq!(shop.discover("forecast"), [shop.asker]);

        let other = shop.add("other@shop", &[]);
        let message = Message::builder(Performative::Inform).sender(other).content("sunny");
        shop.world.tell(message.capability(&capability("weather"), Choice::Any).build().unwrap());
        shop.world.run();
        assert_eq!(shop.take().len(), 1, "messages are routed by it");

        assert_eq!(shop.df(&register("deregister", "asker@shop", "")).0, Inform);
        assert_eq!(shop.discover("weather"), []);
        assert_eq!(shop.search(""), [""; 0]);
    }
}

#[test]
fn agents_that_offer_something_are_found_as_soon_as_they_are_registered() {
    let mut shop = Shop::open(3);
    shop.add("painter@shop", &["paint", "draw"]);
    shop.add("writer@shop", &["write"]);
    shop.add("idle@shop", &[]);
    assert_eq!(shop.search(""), ["painter@shop", "writer@shop"]);
    assert_eq!(shop.search(":services (set (service-description :type draw))"), ["painter@shop"]);
    assert_eq!(shop.search(":services (set (service-description :name write :type write))"), ["writer@shop"]);
    assert_eq!(shop.search(":services (set (service-description :type sing))"), [""; 0]);
}

#[test]
fn agents_that_were_there_before_the_directory_are_found_too() {
    let mut world = crate::common::World::new(3);
    for (shard, name) in [(0, "a"), (1, "b"), (2, "c")] {
        world.add(shard, name, Script::idle().offering("management.early"));
    }
    let mut shop = Shop::on(world, &super::platform("shop"));
    assert_eq!(shop.search(":services (set (service-description :type management.early))").len(), 3);
}

#[test]
fn an_agent_that_is_gone_is_in_no_directory() {
    let mut shop = Shop::open(3);
    let painter = shop.add("painter@shop", &["paint"]);
    assert_eq!(shop.search(""), ["painter@shop"]);
    shop.remove(painter);
    assert_eq!(shop.search(""), [""; 0]);

    // Also what was registered for it, with services or without.
    for services in [WEATHER, ""] {
        assert_eq!(shop.df(&register("register", "asker@shop", services)).0, Inform);
        assert_eq!(shop.search(""), ["asker@shop"]);
        shop.remove(shop.asker);
        let heard = Log::new();
        shop.asker = shop.world.register(Script::listener(&heard).registration("asker@shop".parse().unwrap()));
        shop.heard = heard;
        assert_eq!(shop.search(""), [""; 0], "with {services:?}");
    }
}

#[test]
fn a_modification_says_all_that_an_agent_offers() {
    let mut shop = Shop::open(2);
    shop.df(&register("register", "asker@shop", WEATHER));
    let tides = "(service-description :name tides :type sea)";
    assert_eq!(shop.df(&register("modify", "asker@shop", tides)).0, Inform);
    assert_eq!(shop.discover("weather"), []);
    assert_eq!(shop.discover("sea"), [shop.asker]);
    assert_eq!(shop.search(":services (set (service-description :type weather))"), [""; 0]);
    assert_eq!(shop.search(":services (set (service-description :name tides))"), ["asker@shop"]);
}

#[test]
fn nobody_has_somebody_elses_agent_offer_something() {
    let mut shop = Shop::open(2);
    let painter = shop.add("painter@shop", &["paint"]);
    for act in ["register", "modify", "deregister"] {
        let (performative, content) = shop.df(&register(act, "painter@shop", WEATHER));
        assert_eq!(performative, Refuse, "{act}");
        assert!(content.ends_with(" unauthorised)"), "{content}");
    }
    assert_eq!(shop.discover("paint"), [painter]);
    shop.add("quiet@shop", &[]);
    assert_eq!(shop.df(&register("register", "quiet@shop", WEATHER)).0, Inform);
    assert_eq!(shop.discover("weather"), [], "it is only described");
}

#[test]
fn agents_that_the_router_does_not_know_are_described_and_nothing_is_routed_to_them() {
    let mut shop = Shop::open(2);
    assert_eq!(shop.df(&register("register", "far@elsewhere", WEATHER)).0, Inform);
    assert_eq!(shop.search(":services (set (service-description :type weather))"), ["far@elsewhere"]);
    assert_eq!(shop.discover("weather"), []);
    assert_eq!(shop.df(&register("deregister", "far@elsewhere", "")).0, Inform, "by who registered it");
    assert_eq!(shop.search(""), [""; 0]);
}

#[test]
fn a_template_matches_when_all_that_it_says_does() {
    let mut shop = Shop::open(2);
    shop.df(
        "(register (df-agent-description :name (agent-identifier :name far@elsewhere :addresses (sequence http://far)) \
         :protocols (set fipa-request fipa-query) :ontologies (set sky sea) :languages (set fipa-sl0) :services \
         (set (service-description :name forecast :type weather :ownership Inc :properties (set (property :name region \
         :value alps) (property :name days :value 3))) (service-description :name tides :type sea))))",
    );
    for (template, found) in [
        (":protocols (set fipa-query)", true),
        (":protocols (set fipa-query fipa-request)", true),
        (":protocols (set fipa-query fipa-cfp)", false),
        (":ontologies (set sea) :languages (set fipa-sl0)", true),
        (":languages (set fipa-sl1)", false),
        (":name (agent-identifier :name far@elsewhere)", true),
        (":name (agent-identifier :name far@elsewhere :addresses (sequence http://far))", true),
        (":name (agent-identifier :name far@elsewhere :addresses (sequence http://near))", false),
        (":name (agent-identifier :name near@elsewhere)", false),
        (":services (set (service-description :type sea) (service-description :type weather))", true),
        (":services (set (service-description :type sea :name forecast))", false),
        (":services (set (service-description :properties (set (property :name days :value 3))))", true),
        (":services (set (service-description :properties (set (property :name days :value 4))))", false),
        (":services (set (service-description :ownership Inc :type weather))", true),
    ] {
        assert_eq!(!shop.search(template).is_empty(), found, "{template}");
    }
}

#[test]
fn a_search_gives_no_more_than_it_asks_for() {
    let mut shop = Shop::open(2);
    for number in 0..5 {
        shop.add(&format!("a{number}@shop"), &["management.many"]);
    }
    for (constraints, count) in
        [(":max-results 2", 2), (":max-results -1", 5), (":max-depth 3 :search-id s", 5), ("", 5)]
    {
        let (_, content) = shop.df(&format!("(search (df-agent-description) (search-constraints {constraints}))"));
        assert_eq!(super::names(&content).len(), count, "{constraints}");
    }
    let (performative, content) = shop.df("(search (df-agent-description) (search-constraints :max-results few))");
    assert_eq!(performative, Refuse);
    assert!(content.ends_with("(unrecognised-parameter-value search-constraints max-results))"), "{content}");
}

#[test]
fn a_lease_ends_the_description_and_what_was_offered_for_it() {
    let mut shop = Shop::open(2);
    let leased = |lease: &str| {
        format!(
            "(register (df-agent-description :name (agent-identifier :name asker@shop) :services (set {WEATHER}) \
             :lease-time {lease}))"
        )
    };
    assert_eq!(shop.df(&leased("+00000000T000500000")).0, Inform, "five minutes");
    shop.world.advance(299_000);
    assert_eq!(shop.discover("weather"), [shop.asker]);
    assert_eq!(shop.search(""), ["asker@shop"]);
    shop.world.advance(2_000);
    assert_eq!(shop.discover("weather"), [], "without anybody asking for it");
    assert_eq!(shop.search(""), [""; 0]);
    assert_eq!(shop.df(&leased("+00000000T000100000")).0, Inform, "it can be registered again");

    let (performative, content) = shop.df(&leased("20010101T000000000Z").replace("asker@", "other@"));
    assert_eq!(performative, Refuse);
    assert!(content.ends_with("(unrecognised-parameter-value df-agent-description lease-time))"), "{content}");
}

#[test]
fn a_full_directory_says_so_and_makes_room_when_somebody_leaves() {
    let mut platform = super::platform("shop");
    platform.descriptions = 2.try_into().unwrap();
    let mut shop = Shop::on(crate::common::World::new(1), &platform);
    assert_eq!(shop.df(&register("register", "one@x", "")).0, Inform);
    assert_eq!(shop.df(&register("register", "two@x", "")).0, Inform);
    let (performative, content) = shop.df(&register("register", "three@x", ""));
    assert_eq!(performative, Failure);
    assert!(content.contains("internal-error \"the directory is full: it keeps up to 2 descriptions\""), "{content}");
    shop.df(&register("deregister", "one@x", ""));
    assert_eq!(shop.df(&register("register", "three@x", "")).0, Inform);
}

#[test]
fn parameters_that_do_not_belong_are_named() {
    let mut shop = Shop::open(1);
    for (description, wanted) in [
        ("(df-agent-description)", "(missing-parameter df-agent-description name)"),
        ("(df-agent-description :name (agent-identifier))", "(missing-parameter agent-identifier name)"),
        ("(df-agent-description :colour red)", "(unexpected-parameter df-agent-description colour)"),
        ("(df-agent-description :name bob)", "(unexpected-argument bob)"),
        ("(ams-agent-description)", "(unexpected-argument ams-agent-description)"),
        (
            "(df-agent-description :name (agent-identifier :name \" blank\"))",
            "(unrecognised-parameter-value agent-identifier name)",
        ),
    ] {
        let (performative, content) = shop.df(&format!("(register {description})"));
        assert_eq!(performative, Refuse, "{description}: {content}");
        assert!(content.ends_with(&format!(" {wanted})")), "{description}: {content}");
    }
    let _ = AgentId::of_text("bob");
}
