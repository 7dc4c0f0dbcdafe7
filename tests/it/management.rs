//! The agents `ams` and `df` of a running router, used from outside the shards.

use caxton_router::codec::text::{Limits, Messages};
use caxton_router::message::WallTime;
use caxton_router::{AgentId, Message, Performative, Registration, Router};

use crate::common::{PATIENCE, bounded, capability, name, shutdown, silent, start, start_with, text_of};

fn request(receiver: &str, act: &str) -> Message {
    let text = format!(
        "(request :receiver (set {receiver}) :language fipa-sl0 :ontology fipa-agent-management :content \"((action \
         (agent-identifier :name {receiver}) {act}))\")"
    );
    let mut messages = Messages::new(text.as_bytes(), WallTime(0), &Limits::default());
    messages.next().expect("there is a message").expect("it is well-formed").value
}

fn ask(router: &Router, receiver: &str, act: &str) -> (Performative, String) {
    let reply = router.blocking().ask(request(receiver, act), PATIENCE).expect("there is an answer");
    (reply.performative(), text_of(&reply))
}

#[test]
fn every_router_has_an_ams_and_a_df_that_count_as_its_own() {
    bounded(|| {
        let router = start(2);
        assert_eq!(router.stats().agents(), 0);
        let (performative, content) = ask(&router, "ams@caxton", "(search (ams-agent-description))");
        assert_eq!(performative, Performative::Inform);
        assert!(content.contains("ams@caxton") && content.contains("df@caxton"), "{content}");
        let report = shutdown(&router);
        assert_eq!(report.stats.account().accepted, 2, "the question and its answer, and nothing else");
    });
}

#[test]
fn what_is_registered_through_the_library_is_found_by_the_df_and_the_reverse() {
    bounded(|| {
        let router = start(2);
        let painter = Registration::native(name("painter@caxton"), silent).offering(capability("paint"));
        let painter = router.blocking().register_one(painter).expect("it is registered");
        let search = "(search (df-agent-description :services (set (service-description :type paint))))";
        let (_, content) = ask(&router, "df@caxton", search);
        assert!(content.contains("painter@caxton"), "{content}");

        let inbox = router.inbox(name("seller@caxton")).blocking().open().expect("there is an inbox");
        let register = "(register (df-agent-description :name (agent-identifier :name seller@caxton) :services (set \
                        (service-description :name shop :type sell))))";
        inbox.blocking().send(request("df@caxton", register)).expect("it is accepted");
        let reply = inbox.blocking().recv_within(PATIENCE).expect("there is an answer");
        assert_eq!(reply.performative(), Performative::Inform, "{}", text_of(&reply));
        let found = router.blocking().discover(&capability("sell")).expect("the router runs");
        assert_eq!(found, [AgentId::of(&name("seller@caxton"))]);

        assert_eq!(router.blocking().deregister(painter), Ok(true));
        let (_, content) = ask(&router, "df@caxton", search);
        assert!(!content.contains("painter@caxton"), "{content}");
        drop(inbox);
        shutdown(&router);
    });
}

#[test]
fn a_router_without_agent_management_has_neither() {
    bounded(|| {
        let router = start_with(1, |config| config.management.enabled = false);
        assert!(router.blocking().ask(request("df@caxton", "(search (df-agent-description))"), PATIENCE).is_err());
        shutdown(&router);
    });
}

#[test]
fn the_platforms_name_is_a_setting() {
    bounded(|| {
        let router = start_with(1, |config| {
            config.set("management.platform", "IBM10308:1099/JADE", "test").expect("the name is allowed");
        });
        let (performative, content) = ask(&router, "ams@IBM10308:1099/JADE", "(get-description)");
        assert_eq!(performative, Performative::Inform);
        assert!(content.contains("(ap-description :name IBM10308:1099/JADE"), "{content}");
        shutdown(&router);
    });
}
