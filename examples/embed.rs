//! The shortest program with an embedded router: register an agent, ask it something, print the reply, stop.
//!
//! `cargo run --example embed`

use std::error::Error;
use std::time::Duration;

use caxton_router::{Agent, Context, Message, Outcome, Performative, Router};

struct Greeter;

impl Agent for Greeter {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if message.performative() == Performative::Request {
            let greeting = format!("Hello, {}!", message.content().as_text().unwrap_or("stranger"));
            let reply = message.reply(Performative::Inform).content(greeting).build();
            if !reply.is_ok_and(|reply| context.send(reply).is_ok()) {
                return Outcome::failed("the reply could not be sent");
            }
        }
        Outcome::Done
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let router = Router::builder().start()?;
    let greeter = router.blocking().register("greeter", || Greeter)?;

    let question = Message::builder(Performative::Request).receiver(greeter).content("world").build()?;
    let answer = router.blocking().ask(question, Duration::from_secs(5))?;
    println!("{}", answer.content().as_text().unwrap_or("(no text)"));

    router.shutdown(Duration::from_secs(5))?;
    Ok(())
}
