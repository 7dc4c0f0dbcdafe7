//! Requests to the directory facilitator from another platform's test suite, and their replies.

use std::path::Path;

use caxton_shards::message::Performative::{self, Agree, Failure, Inform, NotUnderstood, Refuse};

use super::{Shop, platform};
use crate::common::World;

const DESCRIPTION: &str = ":services (set (service-description :name quotes :type stock-quotes :ontologies (set prices) \
                           :languages (set) :protocols (set fipa-request) :ownership JADE :properties (set) :protocol \
                           (set fipa-request) :ontology (set prices) :language (set))) :protocols (set) :protocol (set)";

fn asked_under_a_protocol(shop: &mut Shop, act: &str) -> Vec<(Performative, String)> {
    shop.hear_text(&format!(
        "(REQUEST :sender (agent-identifier :name asker@shop) :receiver (set (agent-identifier :name df@shop)) \
         :content \"((action (agent-identifier :name df@shop :addresses (sequence) :resolvers (sequence)) {act}))\" \
         :reply-with rw1 :language FIPA-SL0 :ontology FIPA-Agent-Management :protocol fipa-request \
         :conversation-id conv1)"
    ))
}

fn performatives(answers: &[(Performative, String)]) -> Vec<Performative> {
    answers.iter().map(|(performative, _)| *performative).collect()
}

fn with(act: &str, agent: &str) -> String {
    format!("({act} (df-agent-description :name (agent-identifier :name {agent} :addresses (sequence)) {DESCRIPTION}))")
}

#[test]
fn what_another_platforms_suite_asks_for_gets_the_replies_that_it_wants() {
    let mut shop = Shop::open(3);
    let asked = |shop: &mut Shop, act: &str| asked_under_a_protocol(shop, act);

    let answers = asked(&mut shop, &with("register", "asker@shop"));
    assert_eq!(performatives(&answers), [Agree, Inform], "register: {answers:?}");
    assert!(answers[1].1.starts_with("((done (action (agent-identifier :name df@shop"), "{answers:?}");

    let answers = asked(&mut shop, &with("register", "asker@shop"));
    assert_eq!(performatives(&answers), [Agree, Failure], "registered already: {answers:?}");
    assert!(answers[1].1.ends_with(" already-registered)"), "{answers:?}");

    let answers = asked(&mut shop, &with("modify", "asker@shop"));
    assert_eq!(performatives(&answers), [Agree, Inform], "modify: {answers:?}");

    let answers =
        asked(&mut shop, "(search (df-agent-description :services (set) :language (set)) (search-constraints))");
    assert_eq!(performatives(&answers), [Agree, Inform], "search: {answers:?}");
    assert_eq!(super::names(&answers[1].1), ["asker@shop"]);

    let answers = asked(&mut shop, &with("deregister", "asker@shop"));
    assert_eq!(performatives(&answers), [Agree, Inform], "deregister: {answers:?}");

    for act in ["deregister", "modify"] {
        let answers = asked(&mut shop, &with(act, "nobody@shop"));
        assert_eq!(performatives(&answers), [Agree, Failure], "{act}: {answers:?}");
        assert!(answers[1].1.ends_with(" not-registered)"), "{answers:?}");
    }

    let answers = asked(&mut shop, &with("register", "df@shop"));
    assert_eq!(performatives(&answers), [Refuse], "registering the directory itself: {answers:?}");
    assert!(answers[0].1.ends_with(" unauthorised)"), "{answers:?}");

    let answers = asked(&mut shop, &with("function", "asker@shop"));
    assert_eq!(performatives(&answers), [Refuse], "an unknown act: {answers:?}");
    assert!(answers[0].1.ends_with(" (unsupported-function function))"), "{answers:?}");

    let nameless = "(register (df-agent-description :name (agent-identifier :name other@shop) :services (set \
                    (service-description :name  :type  :ontologies (set prices)))))";
    let answers = asked(&mut shop, nameless);
    assert_eq!(performatives(&answers), [Refuse], "a service without a name: {answers:?}");
    assert!(answers[0].1.ends_with(" (missing-parameter service-description name))"), "{answers:?}");
    shop.world.assert_settled();
}

#[test]
fn actions_that_there_are_not_are_refused_by_their_name() {
    let mut shop = Shop::open(2);
    for (receiver, act, refused) in [
        ("df@shop", "(juggle (df-agent-description))", "(unsupported-function juggle)"),
        ("df@shop", "(get-description)", "(unsupported-function get-description)"),
        ("df@shop", "get-description", "(unsupported-function get-description)"),
        ("ams@shop", "(juggle)", "(unsupported-function juggle)"),
        ("ams@shop", "(quit (ams-agent-description))", "(unsupported-function quit)"),
    ] {
        let answers = shop.request(receiver, act);
        assert_eq!(performatives(&answers), [Refuse], "{act}: {answers:?}");
        assert!(answers[0].1.ends_with(&format!(" {refused})")), "{act}: {answers:?}");
    }
    let answers = shop.request("df@shop", "(set a)");
    assert_eq!(performatives(&answers), [NotUnderstood], "no action at all: {answers:?}");
    let subscription = "(subscribe :sender asker@shop :receiver df@shop :conversation-id c :content \"((iota ?x (result \
                        (action (agent-identifier :name df@shop) (juggle (df-agent-description))) ?x)))\")";
    let answers = shop.hear_text(subscription);
    assert_eq!(performatives(&answers), [Refuse], "{answers:?}");
    assert!(answers[0].1.ends_with("(unsupported-function juggle))"), "{answers:?}");
}

#[test]
fn properties_with_several_values_are_kept_and_found_by_any_of_them() {
    let mut shop = Shop::open(2);
    let service = |properties: &str| {
        format!(":services (set (service-description :name shop :type books :properties (set {properties})))")
    };
    let several = "(multi-value-property :name topics :value (sequence fiction crime))";
    let (performative, content) = shop.df(&format!(
        "(register (df-agent-description :name (agent-identifier :name asker@shop) {}))",
        service(several)
    ));
    assert_eq!(performative, Performative::Inform, "{content}");
    for (template, found) in [
        (several, true),
        ("(property :name topics :value crime)", true),
        ("(multi-value-property :name topics :value (set crime))", true),
        ("(property :name topics :value cookery)", false),
        ("(property :name subjects :value crime)", false),
    ] {
        let description = service(template).replace(":name shop :type books ", "");
        assert_eq!(shop.search(&description).len(), usize::from(found), "{template}");
    }
    let (_, content) = shop.df("(search (df-agent-description))");
    assert!(content.contains(several), "{content}");
}

#[test]
fn agents_whose_names_are_no_words_are_described_and_found() {
    let mut shop = Shop::open(2);
    let (performative, content) = shop
        .df("(register (df-agent-description :name (agent-identifier :name \"Night Porter@shop\") :services \
         (set (service-description :name keys :type lodging))))");
    assert_eq!(performative, Performative::Inform, "{content}");
    assert!(content.contains(":name \"Night Porter@shop\""), "{content}");
    assert_eq!(shop.search(""), ["Night Porter@shop"]);
}

/// The replies named in the comments of that suite's files.
const WANTED: [(&str, &[Performative], &str); 10] = [
    ("df-MissingParameter.acl", &[Refuse], "missing-parameter"),
    ("df-NotRegistered.acl", &[Agree, Failure], "not-registered"),
    ("df-ModNotRegistered.acl", &[Agree, Failure], "not-registered"),
    ("df-Unauthorised.acl", &[Refuse], "unauthorised"),
    ("df-UnsupportedV.acl", &[Refuse], "unsupported-function"),
    ("df-Register.acl", &[Agree, Inform], "done"),
    ("df-AlreadyRegistered.acl", &[Agree, Failure], "already-registered"),
    ("df-Modify.acl", &[Agree, Inform], "done"),
    ("df-Search.acl", &[Agree, Inform], "da0@IBM10308:1099/JADE"),
    ("df-Deregister.acl", &[Agree, Inform], "done"),
];

#[test]
fn the_files_of_that_suite_get_their_replies_where_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/acl");
    if !folder.is_dir() {
        return;
    }
    let mut shop = Shop::on(World::new(2), &platform("IBM10308:1099/JADE"));
    let heard = shop.heard.clone();
    let suite = crate::common::Script::listener(&heard).registration("da0@IBM10308:1099/JADE".parse().unwrap());
    shop.world.register(suite);
    for (file, wanted, content) in WANTED {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let answers = shop.hear_text(&text);
        assert_eq!(performatives(&answers), wanted, "{file}: {answers:?}");
        assert!(answers.last().unwrap().1.contains(content), "{file}: {answers:?}");
    }
}

#[test]
fn without_a_protocol_there_is_no_agree() {
    let mut shop = Shop::open(1);
    let (performative, _) = shop.df(&with("register", "asker@shop"));
    assert_eq!(performative, Inform);
}

#[test]
fn what_cant_be_read_is_not_understood_with_its_place() {
    let mut shop = Shop::open(1);
    let mut asked = |parameters: &str| {
        let mut answers = shop.hear_text(&format!(
            "(request :sender asker@shop :receiver (set df@shop) :reply-with r :conversation-id c {parameters})"
        ));
        assert_eq!(answers.len(), 1, "{parameters}: {answers:?}");
        answers.remove(0)
    };
    for (parameters, wanted) in [
        (":content \"((action df@shop\"", "((unrecognised-value content))"),
        (":content \"(a)\"", "((unrecognised-value content))"),
        (":content \"((action a (register b)) (action a (register b)))\"", "(unexpected-argument-count)"),
        (":content \"(a)\" :language fipa-kif", "((unsupported-value language))"),
        (":content \"(a)\" :ontology zoo", "((unsupported-value ontology))"),
    ] {
        let (performative, content) = asked(parameters);
        assert_eq!(content, wanted, "{parameters}");
        let refused = if wanted.contains("count") { Refuse } else { NotUnderstood };
        assert_eq!(performative, refused, "{parameters}");
    }
}

#[test]
fn acts_that_are_no_requests_are_not_understood_and_answers_are_not_answered() {
    let mut shop = Shop::open(1);
    for (act, answers) in [("propose", 1), ("cfp", 1), ("inform", 0), ("failure", 0), ("not-understood", 0)] {
        let heard = shop.hear_text(&format!("({act} :sender asker@shop :receiver (set df@shop) :content \"x\")"));
        assert_eq!(heard.len(), answers, "{act}: {heard:?}");
        if let [(performative, content)] = heard.as_slice() {
            assert_eq!(
                (*performative, content.as_str()),
                (NotUnderstood, format!("((unsupported-act {act}))").as_str())
            );
        }
    }
}
