//! Subscriptions to the directory: every change is reported until the subscription is cancelled.

use caxton_shards::message::Performative::{self, Agree, Failure, Inform};

use super::Shop;

const SEARCH: &str = "(iota ?x (result (action (agent-identifier :name df@shop) (search (df-agent-description :services \
                      (set (service-description :type weather))) (search-constraints))) ?x))";

fn say(act: &str, content: &str) -> String {
    format!(
        "({act} :sender asker@shop :receiver (set df@shop) :language fipa-sl0 :ontology fipa-agent-management \
         :protocol fipa-subscribe :conversation-id watching :reply-with r1 :content \"({content})\")"
    )
}

fn told(answers: &[(Performative, String)]) -> Vec<(Performative, Vec<String>)> {
    let names = |content: &str| if content.starts_with("((= ") { super::names(content) } else { Vec::new() };
    answers.iter().map(|(performative, content)| (*performative, names(content))).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_subscriber_is_told_what_there_is_and_every_change() {
    let mut shop = Shop::open(3);
    shop.add("early@shop", &["weather"]);
    let answers = shop.hear_text(&say("subscribe", SEARCH));
    assert_eq!(told(&answers), [(Agree, vec![]), (Inform, names(&["early@shop"]))]);

    let late = shop.add("late@shop", &["weather", "other"]);
    shop.add("else@shop", &["other"]);
    shop.world.run();
    let answers = shop.take();
    assert_eq!(told(&answers), [(Inform, names(&["late@shop"]))], "{answers:?}");
    assert!(answers[0].1.contains(":type weather"), "{answers:?}");

    shop.remove(late);
    let answers = shop.take();
    assert_eq!(told(&answers), [(Inform, names(&["late@shop"]))]);
    assert!(
        answers[0].1.ends_with("(set (df-agent-description :name (agent-identifier :name late@shop)))))"),
        "{answers:?}"
    );
}

#[test]
fn what_is_registered_with_the_directory_is_told_too() {
    let mut shop = Shop::open(2);
    shop.hear_text(&say("subscribe", SEARCH));
    let register = "(register (df-agent-description :name (agent-identifier :name far@x) :services (set \
                    (service-description :name w :type weather))))";
    let answers = shop.request("df@shop", register);
    let told = told(&answers);
    assert!(told.contains(&(Inform, names(&["far@x"]))), "{answers:?}");
}

#[test]
fn a_cancelled_subscription_brings_nothing_more() {
    let mut shop = Shop::open(2);
    shop.hear_text(&say("subscribe", SEARCH));
    let answers = shop.hear_text(&say("cancel", "(action (agent-identifier :name df@shop) (subscribe))"));
    assert_eq!(answers.len(), 1);
    assert!(answers[0].0 == Inform && answers[0].1.starts_with("((done (action"), "{answers:?}");
    shop.add("late@shop", &["weather"]);
    shop.world.run();
    assert_eq!(shop.take(), []);
    let answers = shop.hear_text(&say("cancel", "(action (agent-identifier :name df@shop) (subscribe))"));
    assert_eq!((answers.len(), answers[0].0), (1, Failure), "there is none any more: {answers:?}");
}

#[test]
fn a_subscriber_that_is_gone_is_forgotten() {
    let mut shop = Shop::open(2);
    shop.hear_text(&say("subscribe", SEARCH));
    shop.remove(shop.asker);
    for name in ["a@shop", "b@shop", "c@shop"] {
        shop.add(name, &["weather"]);
        shop.world.run();
    }
    let undeliverable = shop.world.total().dead_lettered;
    assert_eq!(undeliverable, 1, "one change was told in vain, and no further one");
}
