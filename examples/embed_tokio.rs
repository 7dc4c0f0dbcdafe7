//! A router inside a tokio program: every call is a future that any runtime can drive.
//!
//! The shards run on their own threads beside tokio's. Messages are sent to them through a handle, and replies return
//! to the task that awaits them.
//!
//! `cargo run --example embed_tokio`

use std::error::Error;
use std::time::Duration;

use caxton_router::domain::CapabilityName;
use caxton_router::error::AskError;
use caxton_router::event::Event;
use caxton_router::message::Choice;
use caxton_router::{Agent, Context, Message, Outcome, Performative};
use caxton_router::{Registration, Router};

/// Adds up the numbers it receives and replies with the sum to queries.
///
/// It is created on its shard and stays there, so it could own values that are not `Send`.
#[derive(Default)]
struct Adder {
    sum: i64,
}

impl Agent for Adder {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        match message.performative() {
            Performative::Inform => match message.content().as_text().unwrap_or_default().parse::<i64>() {
                Ok(number) => self.sum += number,
                // The router retries, and finally notifies the sender and keeps the message as a dead letter.
                Err(_) => return Outcome::failed("the content is no number"),
            },
            Performative::QueryRef => {
                let reply = message.reply(Performative::InformRef).content(self.sum.to_string()).build();
                if reply.is_ok_and(|reply| context.send(reply).is_err()) {
                    return Outcome::failed("there is no room for the reply now");
                }
            }
            _ => {}
        }
        Outcome::Done
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let router = Router::builder().start()?;
    println!("The router runs on {} shards.", router.shard_count());

    // Events are a stream. The task ends when the router stops.
    let events = router.events().await?;
    let watcher = tokio::spawn(async move {
        let mut dead_letters = 0;
        while let Ok(event) = events.next().await {
            if let Event::DeadLettered { reason, receiver, .. } = event {
                println!("A dead letter to {}: {reason}.", receiver.map_or("nobody".to_owned(), |id| id.to_string()));
                dead_letters += 1;
            }
        }
        dead_letters
    });

    // When this returns, the whole router knows the agent and its capabilities.
    let adding = CapabilityName::try_new("adding")?;
    let registration = Registration::native("adder", Adder::default).offering(adding.clone());
    let adder = router.register_one(registration).await?;

    // `tell` queues, `send` waits until the message is accepted, `ask` waits for the reply. Any task may call them.
    let tellers: Vec<_> = (1..=100)
        .map(|number| {
            let router = router.clone();
            tokio::spawn(async move {
                let message = Message::builder(Performative::Inform).receiver(adder).content(number.to_string());
                router.send(message.build()?).await?;
                Ok::<(), Box<dyn Error + Send + Sync>>(())
            })
        })
        .collect();
    for teller in tellers {
        teller.await?.map_err(|error| error.to_string())?;
    }

    // The asking program need not know who adds.
    let question = Message::builder(Performative::QueryRef).capability(&adding, Choice::Any).build()?;
    let answer = router.ask(question, Duration::from_secs(5)).await?;
    println!("The sum of 1 to 100 is {}.", answer.content().as_text().unwrap_or_default());

    // Undeliverable messages are never lost silently.
    let lost = Message::builder(Performative::Request).receiver("nobody").build()?;
    match router.ask(lost, Duration::from_secs(5)).await {
        Err(AskError::Undeliverable(error)) => println!("The router says: {error}."),
        other => println!("This was not expected: {other:?}"),
    }

    let account = router.stats().account();
    println!("So far {} messages were accepted and {} handled.", account.accepted, account.processed);

    // Stopping waits for the shards, so it belongs on a thread that may block.
    let stopping = router.clone();
    let report = tokio::task::spawn_blocking(move || stopping.shutdown(Duration::from_secs(5))).await??;
    println!("Every message is accounted for: {}.", report.balances());
    println!("The watcher saw {} dead letter.", watcher.await?);
    Ok(())
}
