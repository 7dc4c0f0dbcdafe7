//! The server for tests, as `async-nats` sees it.

use std::collections::BTreeSet;
use std::future::Future;

use async_nats::{Client, ConnectOptions, Event, HeaderMap, Subscriber};
use futures_lite::StreamExt as _;

use super::broker::{Broker, Counts, Faults, HELD_MAX};
use crate::common::{PATIENCE, bounded};

fn run<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    bounded(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(PATIENCE, body()).await.expect("it ends in time") });
    });
}

/// Returns a client, and the events of its connection.
async fn connect(broker: &Broker) -> (Client, flume::Receiver<Event>) {
    let (happened, events) = flume::bounded(1_000);
    let callback = move |event| {
        let _ = happened.try_send(event);
        async {}
    };
    let client = ConnectOptions::new().event_callback(callback).connect(broker.url()).await.unwrap();
    (client, events)
}

/// Subscribes, so that what is published from now on arrives.
async fn subscribe(client: &Client, subject: &'static str) -> Subscriber {
    let subscriber = client.subscribe(subject).await.unwrap();
    client.flush().await.unwrap();
    settle(client).await;
    subscriber
}

async fn publish(client: &Client, subject: &'static str, payload: impl ToString) {
    client.publish(subject, payload.to_string().into()).await.unwrap();
}

/// Waits until the server has read everything that the client has sent. A flush only shows that it was written.
async fn settle(client: &Client) {
    let refused = client.request("nobody", "".into()).await.expect_err("nobody responds");
    assert_eq!(refused.kind(), async_nats::RequestErrorKind::NoResponders);
}

async fn payload(subscriber: &mut Subscriber) -> String {
    let message = subscriber.next().await.expect("the connection is open");
    String::from_utf8(message.payload.to_vec()).unwrap()
}

#[test]
fn messages_reach_each_subscription_and_one_member_of_a_group() {
    run(|| async {
        let broker = Broker::start();
        let ((sender, _), (receiver, _)) = (connect(&broker).await, connect(&broker).await);
        let mut exact = subscribe(&receiver, "plant.7.mail").await;
        let mut all = subscribe(&receiver, "plant.>").await;
        let mut group = [
            receiver.queue_subscribe("plant.*.mail", "workers".into()).await.unwrap(),
            receiver.queue_subscribe("plant.7.*", "workers".into()).await.unwrap(),
        ];
        settle(&receiver).await;
        let mut headers = HeaderMap::new();
        headers.insert("Kind", "letter");
        let large = "x".repeat(1 << 19);
        sender.publish_with_headers("plant.7.mail", headers, large.clone().into()).await.unwrap();
        let message = exact.next().await.unwrap();
        assert_eq!(message.payload, large);
        assert_eq!(message.headers.unwrap().get("Kind").unwrap().as_str(), "letter");
        assert_eq!(payload(&mut all).await.len(), large.len());
        settle(&receiver).await;
        let [first, second] = &mut group;
        let got = [first, second]
            .map(|member| futures_lite::future::block_on(futures_lite::future::poll_once(member.next())));
        assert_eq!(got.iter().flatten().count(), 1, "one of the group has it");
    });
}

#[test]
fn a_request_gets_its_reply_and_nobody_is_told_at_once() {
    run(|| async {
        let broker = Broker::start();
        let ((asker, _), (responder, _)) = (connect(&broker).await, connect(&broker).await);
        let mut questions = subscribe(&responder, "ask").await;
        let answer = async {
            let question = questions.next().await.unwrap();
            responder.publish(question.reply.unwrap(), "42".into()).await.unwrap();
            responder.flush().await.unwrap();
        };
        let (reply, ()) = futures_lite::future::zip(asker.request("ask", "?".into()), answer).await;
        assert_eq!(reply.unwrap().payload, "42");
        let refused = asker.request("other", "?".into()).await.expect_err("nobody is subscribed");
        assert_eq!(refused.kind(), async_nats::RequestErrorKind::NoResponders);
    });
}

#[test]
fn clients_come_back_after_a_restart_with_their_subscriptions() {
    run(|| async {
        let mut broker = Broker::start();
        let (client, events) = connect(&broker).await;
        let mut mail = subscribe(&client, "mail").await;
        broker.restart();
        while events.recv_async().await.unwrap() != Event::Disconnected {}
        while events.recv_async().await.unwrap() != Event::Connected {}
        settle(&client).await;
        publish(&client, "mail", "again").await;
        assert_eq!(payload(&mut mail).await, "again");
        let url = broker.url();
        broker.stop();
        while events.recv_async().await.unwrap() != Event::Disconnected {}
        assert!(std::net::TcpStream::connect(url.trim_start_matches("nats://")).is_err(), "the port is closed");
    });
}

#[test]
fn what_is_lost_and_doubled_follows_from_the_seed() {
    run(|| async {
        let mut outcomes = BTreeSet::new();
        for seed in [7, 7, 8] {
            let broker = Broker::start();
            let (client, _) = connect(&broker).await;
            let mut all = subscribe(&client, "*.x").await;
            let faults = Faults { subjects: "lossy.".to_owned(), lost_per_mille: 300, doubled_per_mille: 200 };
            broker.fail(seed, faults);
            for number in 0..200 {
                publish(&client, "lossy.x", number).await;
                publish(&client, "safe.x", "").await;
            }
            publish(&client, "end.x", "").await;
            let (mut arrived, mut safe) = (Vec::new(), 0);
            loop {
                let message = all.next().await.unwrap();
                match message.subject.as_str() {
                    "lossy.x" => arrived.push(message.payload.to_vec()),
                    "safe.x" => safe += 1,
                    "end.x" => break,
                    _ => {}
                }
            }
            let Counts { lost, doubled, .. } = broker.counts();
            assert_eq!((safe, arrived.len() as u64), (200, 200 - lost + doubled));
            assert!(lost > 20 && doubled > 10, "{lost} lost, {doubled} doubled");
            outcomes.insert(arrived);
            broker.heal();
        }
        assert_eq!(outcomes.len(), 2, "the same seed loses and doubles the same");
    });
}

#[test]
fn what_is_held_back_arrives_in_order_when_it_is_let_go() {
    run(|| async {
        let broker = Broker::start();
        let (client, _) = connect(&broker).await;
        let mut all = subscribe(&client, "*.x").await;
        broker.pause("slow.");
        for number in 0..10 {
            publish(&client, "slow.x", number).await;
        }
        publish(&client, "fast.x", "first").await;
        assert_eq!(payload(&mut all).await, "first");
        broker.resume();
        for number in 0..10 {
            assert_eq!(payload(&mut all).await, number.to_string());
        }
        let Counts { overflowed, .. } = broker.counts();
        assert_eq!((overflowed, HELD_MAX > 10), (0, true));
    });
}
