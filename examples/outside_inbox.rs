//! An agent on its own thread: it may block, because it does not share a core with a shard's other agents.
//!
//! Code that waits for disks, people or other programs takes part in this way. The router holds its messages until they
//! are taken, notifies senders of what it could not deliver, and counts a message as processed once it is taken.
//!
//! `cargo run --example outside_inbox`

use std::error::Error;
use std::time::Duration;

use caxton_router::error::ReceiveError;
use caxton_router::{Inbox, Message, Performative, Router};

/// How long the owner waits for a message before it does something else.
const PATIENCE: Duration = Duration::from_secs(1);

/// Replies to requests until the router stops. Returns how many there were.
fn serve(inbox: &Inbox) -> Result<u32, Box<dyn Error + Send + Sync>> {
    let mut served = 0;
    loop {
        let message = match inbox.blocking().recv_within(PATIENCE) {
            Ok(message) => message,
            Err(ReceiveError::TimedOut) => continue,
            Err(ReceiveError::Stopped) => return Ok(served),
            Err(error) => return Err(error.into()),
        };
        // The router's own notices arrive here too: they are not requests, and nobody waits for a reply to them.
        if message.performative() == Performative::Request {
            let shouted = message.content().as_text().unwrap_or_default().to_uppercase();
            inbox.blocking().send(message.reply(Performative::Inform).content(shouted).build()?)?;
            served += 1;
        }
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let router = Router::builder().start()?;

    let inbox = router.inbox("town-crier").blocking().open()?;
    let crier = inbox.id();
    let thread = std::thread::spawn(move || serve(&inbox));

    for news in ["the bridge is open", "the market is closed", "the king is well"] {
        let request = Message::builder(Performative::Request).receiver(crier).content(news).build()?;
        let reply = router.blocking().ask(request, Duration::from_secs(5))?;
        println!("The crier cries: {}!", reply.content().as_text().unwrap_or_default());
    }

    let report = router.shutdown(Duration::from_secs(5))?;
    let served = thread.join().map_err(|_| "the crier's thread panicked")?.map_err(|error| error.to_string())?;
    println!("{served} requests were answered, every message is accounted for: {}.", report.balances());
    Ok(())
}
