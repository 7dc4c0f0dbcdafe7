//! Rules, protocols and limits that are replaced while the router runs.

use std::time::Duration;

use caxton_router::error::{CallError, SendErrorKind};
use caxton_router::message::ConversationId;
use caxton_router::protocol::{Mode, Rulebook};
use caxton_router::routing::ShardIndex;
use caxton_router::routing::rules::{Conditions, Destination, Rule};
use caxton_router::{AgentId, Message, Performative, Router};

use crate::common::{PATIENCE, bounded, echo, hold_up, name_on, shutdown, start, text_of};

#[test]
fn a_shard_that_is_held_up_takes_new_rules_over_later() {
    bounded(|| {
        let router = start(2);
        let oracle = name_on(&router, 1, "oracle");
        let to_oracle =
            Rule { conditions: Conditions::default(), destination: Destination::Agent(AgentId::of(&oracle)) };
        router.blocking().register(oracle, echo).expect("the agent is registered");
        let barrier = hold_up(&router, 0);
        let replaced = router.within(Duration::from_millis(20)).blocking().replace_rules(vec![to_oracle]);
        let Err(CallError::Unresponsive(late)) = replaced else { panic!("{replaced:?}") };
        assert!(late.shard == ShardIndex(0) && late.may_have_changed, "{late}");
        barrier.open();
        let asker = router.inbox(name_on(&router, 0, "asker")).blocking().open().expect("the inbox is opened");
        let question = Message::builder(Performative::Request).content("why").build().expect("the message is valid");
        futures_lite::future::block_on(asker.send(question)).expect("it is accepted");
        let reply = asker.blocking().recv_within(PATIENCE).expect("the oracle replies");
        assert_eq!((text_of(&reply).as_str(), reply.performative()), ("why", Performative::Inform));
        drop(asker);
        shutdown(&router);
    });
}

#[test]
fn protocols_are_replaced_while_the_router_runs_also_on_a_shard_that_is_held_up() {
    bounded(|| {
        let router = start(2);
        let oracle = name_on(&router, 1, "oracle");
        let oracle = router.blocking().register(oracle, echo).expect("the agent is registered");
        let asker = router.inbox(name_on(&router, 0, "asker")).blocking().open().expect("the inbox is opened");
        let violate = |conversation: &str| {
            let id = ConversationId::of_text(conversation);
            // A query begins with another act.
            let request =
                Message::builder(Performative::Request).receiver(oracle).protocol("fipa-query").conversation(id);
            asker.blocking().send(request.content(conversation).build().expect("it is valid")).expect("it is accepted");
            asker.blocking().recv_within(PATIENCE).expect("something comes back")
        };
        let passes = |reply: &Message| reply.performative() == Performative::Inform;
        assert!(passes(&violate("observed")));
        let enforced = Rulebook::new(Mode::Enforce, &[], &[]).expect("the library has no flaws");
        let barrier = hold_up(&router, 0);
        let replaced = router.within(Duration::from_millis(20)).blocking().replace_protocols(enforced);
        let Err(CallError::Unresponsive(late)) = replaced else { panic!("{replaced:?}") };
        assert!(late.shard == ShardIndex(0) && late.may_have_changed, "{late}");
        barrier.open();
        let notice = violate("enforced");
        assert!(!passes(&notice) && text_of(&notice).contains("protocol-violation"), "{}", text_of(&notice));
        assert!(router.protocols().checked().all(|(_, mode)| mode == Mode::Enforce));
        router.blocking().replace_protocols(Rulebook::default()).expect("the shards respond");
        assert!(passes(&violate("unchecked")));
        drop(asker);
        shutdown(&router);
    });
}

#[test]
fn settings_are_taken_over_together_or_not_at_all() {
    bounded(|| {
        let own =
            Rule { conditions: Conditions::default(), destination: Destination::Agent(AgentId::of_text("clerk")) };
        let router = Router::builder().rule(own.clone()).start().expect("the router starts");
        let clerk = router.inbox("clerk").blocking().open().expect("the inbox is opened");
        let send = |content: &str| {
            let message =
                Message::builder(Performative::Inform).content(content).build().expect("the message is valid");
            router.blocking().send(message).map_err(SendErrorKind::from)
        };
        let mut config = router.config().clone();
        for (key, value) in [("message.content_bytes_max", "4"), ("protocols.mode", "enforce"), ("rules.files", "gone")]
        {
            config.set(key, value, "this test").expect("it is legal");
        }
        let refused = router.prepare_reload(config.clone()).expect_err("there is no such file");
        assert!(refused.to_string().contains("gone"), "{refused}");
        assert!(send("longer").is_ok() && router.protocols().checked().all(|(_, mode)| mode == Mode::Observe));
        config.set("rules.files", "", "this test").expect("it is legal");
        let reload = router.prepare_reload(config.clone()).expect("there are no mistakes");
        assert!(send("longer").is_ok(), "nothing was applied yet");
        futures_lite::future::block_on(reload.apply()).expect("the shards respond");
        assert!(matches!(send("longer"), Err(SendErrorKind::ContentTooLarge { bytes: 6, limit: 4 })));
        assert!(send("four").is_ok() && router.protocols().checked().all(|(_, mode)| mode == Mode::Enforce));
        assert_eq!(router.rules(), [own], "those of the program stay");
        assert!(router.prepare_reload(config).expect("there are no mistakes").changes().applied.is_empty());
        drop(clerk);
        shutdown(&router);
    });
}
