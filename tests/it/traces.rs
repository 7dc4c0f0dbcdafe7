//! Traces of messages: what a program is given of them, and `caxton route --trace`.

use std::time::Duration;

use caxton_router::prelude::*;
use caxton_router::telemetry::{DeliveryEnd, MessageTrace};

use crate::common::{PATIENCE, bounded, echo, name, on, request_to};

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

/// Sends a request on, without a conversation, and takes the reply to it.
fn asker(next: AgentId) -> impl Agent {
    on(move |message, context| {
        if message.performative() == Performative::Request {
            context.send(request_to(next, "on")).expect("there is room");
        }
        Outcome::Done
    })
}

/// Checks that these are one trace of so many messages, each but the first with its cause in it.
fn assert_connected(traces: &[MessageTrace], messages: usize) {
    assert_eq!(traces.len(), messages, "{traces:?}");
    let root = traces.iter().min_by_key(|trace| trace.admitted_ns).expect("there are some");
    assert!(traces.iter().all(|trace| trace.trace_id == root.trace_id), "{traces:?}");
}

#[test]
fn requests_and_replies_without_a_conversation_are_one_trace() {
    bounded(|| {
        let traces = traced(|router| {
            let last = router.blocking().register("last", echo).expect("it is registered");
            let first = router.blocking().register("first", move || asker(last)).expect("it is registered");
            router.blocking().send(request_to(first, "begin")).expect("it is accepted");
        });
        assert_connected(&traces, 3);
    });
}

#[test]
fn who_reads_an_inbox_replies_in_the_trace() {
    bounded(|| {
        let traces = traced(|router| {
            let inbox = router.inbox("outside").blocking().open().expect("it is opened");
            let outside = inbox.id();
            let first = router.blocking().register("first", move || asker(outside)).expect("it is registered");
            router.blocking().send(request_to(first, "begin")).expect("it is accepted");
            let question = inbox.blocking().recv_within(PATIENCE).expect("it comes");
            assert_eq!(question.trace(), router.trace_context(&question));
            let reply = question.reply(Performative::Inform).build().expect("it is legal");
            inbox.blocking().send(reply).expect("it is accepted");
        });
        assert_connected(&traces, 3);
    });
}

#[test]
#[cfg(feature = "wasm")]
fn guests_reply_in_the_trace() {
    use caxton_router::wasm::Sandbox;

    bounded(|| {
        for file in ["raw.wat", "component.wat"] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/guests/echo").join(file);
            let sandbox = Sandbox::start(&Config::default().wasm).expect("it starts");
            let guest = sandbox.load_file(&path).expect("it is loaded");
            let traces = traced(|router| {
                router
                    .blocking()
                    .register_all(vec![guest.agent(name("guest"))])
                    .pop()
                    .unwrap()
                    .expect("it is registered");
                let guest = AgentId::of_text("guest");
                let first = router.blocking().register("first", move || asker(guest)).expect("it is registered");
                router.blocking().send(request_to(first, "begin")).expect("it is accepted");
            });
            assert_connected(&traces, 3);
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
