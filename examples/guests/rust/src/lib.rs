//! Replies to every request with an inform of the same content.

wit_bindgen::generate!({ path: "agent.wit", world: "agent" });

use caxton::agent::router::{log, reply};
use caxton::agent::types::{Level, Performative};

struct Echo;

impl Guest for Echo {
    fn start() -> Result<(), String> {
        log(Level::Info, "started", &[]);
        Ok(())
    }

    fn handle(message: Message) -> Result<(), String> {
        if matches!(message.performative, Performative::Request) && !message.from_router {
            reply(&Performative::Inform, &message.content).map_err(|error| format!("{error:?}"))?;
        }
        Ok(())
    }

    fn stop() {}
}

export!(Echo);
