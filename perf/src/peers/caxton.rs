//! The router itself. Each exchange is a conversation, as between agents that use a FIPA protocol.

use std::sync::Arc;
use std::time::Duration;

use caxton_router::config::Preset;
use caxton_router::domain::AgentName;
use caxton_router::{Agent, AgentId, Context, Message, Outcome, Performative, Registration, Router};

use crate::work::{Figures, Player, Tally, Work, measure};

struct Native {
    player: Player,
    partner: AgentId,
    serves: usize,
}

impl Agent for Native {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if message.conversation().is_some() && message.performative() == Performative::Inform {
            if self.player.take(message.content().as_bytes()) {
                let reply = message.reply(Performative::Inform).content(self.player.content()).build();
                send(reply.ok(), context);
            }
            return Outcome::Done;
        }
        for _ in 0..std::mem::take(&mut self.serves) {
            let conversation = context.new_conversation();
            let builder = Message::builder(Performative::Inform).receiver(self.partner).conversation(conversation);
            send(builder.content(self.player.content()).build().ok(), context);
        }
        Outcome::Done
    }
}

/// A message that cannot be sent was counted as sent and is never handled, so the run fails.
fn send(message: Option<Message>, context: &mut Context<'_>) {
    if let Some(message) = message {
        let _ = context.send(message);
    }
}

pub fn run(work: &Work) -> Result<Figures, String> {
    let router = Router::builder().preset(Preset::Production).start().map_err(|error| error.to_string())?;
    let tally = Tally::new(work);
    let names: Vec<AgentName> = (0..2 * work.pairs)
        .map(|number| AgentName::try_new(format!("player-{number}")).map_err(|error| error.to_string()))
        .collect::<Result<_, _>>()?;
    let ids: Vec<AgentId> = names.iter().map(AgentId::of).collect();
    let registrations = names.into_iter().enumerate().map(|(number, name)| {
        let (tally, work, partner) = (Arc::clone(&tally), *work, ids[number ^ 1]);
        Registration::native(name, move || {
            let player = Player::new(&tally, &work, number);
            Native { serves: player.serves(&work), player, partner }
        })
    });
    for registered in router.blocking().register_all(registrations.collect()) {
        registered.map_err(|error| error.to_string())?;
    }
    let starts = ids.iter().step_by(2).map(|agent| Message::builder(Performative::Request).receiver(*agent).build());
    let starts = starts.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    router.blocking().tell_all(starts).map_err(|error| error.to_string())?;
    let figures = measure(&tally, work)?;
    let report = router.shutdown(Duration::from_secs(10)).map_err(|error| error.to_string())?;
    if report.balances() { Ok(figures) } else { Err(format!("the accounts do not balance: {report:?}")) }
}
