//! Traces of messages: what a program is given of them, and `caxton route --trace`.

use std::time::Duration;

use caxton_router::prelude::*;
use caxton_router::telemetry::{DeliveryEnd, MessageTrace};

use crate::common::bounded;

struct Relay(Option<AgentId>);

impl Agent for Relay {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if let Some(next) = self.0 {
            let on = Message::builder(Performative::Inform).receiver(next).content("on");
            let on = message.conversation().map_or(on.clone(), |id| on.conversation(id));
            let Ok(on) = on.build() else { return Outcome::failed("it could not be built") };
            if context.send(on).is_err() {
                return Outcome::failed("it was refused");
            }
        }
        Outcome::Done
    }
}

/// Starts a router of two shards that traces everything, runs `work` with it, and returns the traces after its end.
fn traced(work: impl FnOnce(&Router)) -> Vec<MessageTrace> {
    let (sink, traces) = flume::bounded(10_000);
    let mut config = Config::default();
    for (key, value) in [("telemetry.sampling", "1"), ("telemetry.records_per_second", "100000000")] {
        config.set(key, value, "this test").expect("it is legal");
    }
    let router = Router::builder().config(config).shards(2.try_into().expect("it is legal")).traces_to(sink);
    let router = router.start().expect("the router starts");
    work(&router);
    let report = router.shutdown(Duration::from_secs(20)).expect("this is no shard's thread");
    assert!(report.balances(), "{report:?}");
    traces.drain().collect()
}

#[test]
fn a_conversation_over_two_shards_is_one_trace_and_each_message_knows_its_cause() {
    bounded(|| {
        let conversation = caxton_router::message::ConversationId::of_text("talk");
        let traces = traced(|router| {
            let last = router.blocking().register("last", || Relay(None)).expect("it is registered");
            let first = router.blocking().register("first", move || Relay(Some(last))).expect("it is registered");
            let message = Message::builder(Performative::Inform).receiver(first).conversation(conversation);
            router.blocking().send(message.build().expect("it is legal")).expect("it is accepted");
        });
        assert_eq!(traces.len(), 2, "{traces:?}");
        let root = traces.iter().find(|trace| trace.admitted.cause.is_none()).expect("one came from outside");
        let child = traces.iter().find(|trace| trace.admitted.cause.is_some()).expect("one was caused");
        assert_eq!(child.admitted.cause.map(|cause| cause.message), Some(root.message));
        assert_eq!(child.trace_id, root.trace_id);
        for trace in [root, child] {
            assert!(trace.sampled);
            let [delivery] = trace.deliveries.as_slice() else { panic!("{trace:?}") };
            let (ended_ns, end) = delivery.end.expect("it was settled");
            let began_ns = delivery.attempts[0].began_ns;
            assert_eq!(end, DeliveryEnd::Processed);
            let waits_ns = delivery.waits_from_ns().expect("it waited");
            assert!(trace.admitted_ns <= waits_ns && waits_ns <= began_ns && began_ns <= ended_ns, "{trace:?}");
        }
    });
}

#[test]
fn every_message_of_a_load_is_traced_once() {
    bounded(|| {
        const MESSAGES: usize = 2_000;
        let traces = traced(|router| {
            let agent = router.blocking().register("agent", || Relay(None)).expect("it is registered");
            for _ in 0..MESSAGES {
                let message = Message::builder(Performative::Inform).receiver(agent).build().expect("it is legal");
                router.blocking().send(message).expect("it is accepted");
            }
        });
        let ids: std::collections::BTreeSet<_> = traces.iter().map(|trace| trace.message).collect();
        assert_eq!((traces.len(), ids.len()), (MESSAGES, MESSAGES));
        assert!(traces.iter().all(|trace| trace.deliveries.len() == 1 && !trace.has_failed()));
    });
}
