//! A negotiation: a buyer calls for proposals, and the best one gets the contract (FIPA contract net, SC00029).
//!
//! ```text
//! buyer                          each carrier
//!   | cfp ------------------------> |
//!   | <------- propose or refuse    |
//!   | accept- or reject-proposal -> |
//!   | <---- inform (from the best)  |
//! ```
//!
//! The buyer does not know the carriers by name: it finds them by the capability that they offer. The whole exchange
//! is one conversation, which the router follows.
//!
//! `cargo run --example contract_net`

use std::error::Error;
use std::time::Duration;

use caxton_router::domain::{AgentName, CapabilityName};
use caxton_router::{Agent, AgentId, Context, Message, Outcome, Performative, Registration, Router};

const PROTOCOL: &str = "fipa-contract-net";
const CAPABILITY: &str = "carry-parcels";

/// Carries a parcel for a price, or is too busy.
struct Carrier {
    price: Option<u32>,
}

impl Agent for Carrier {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let reply = match (message.performative(), self.price) {
            (Performative::Cfp, Some(price)) => message.reply(Performative::Propose).content(price.to_string()),
            (Performative::Cfp, None) => message.reply(Performative::Refuse).content("too busy today"),
            (Performative::AcceptProposal, _) => message.reply(Performative::Inform).content("delivered"),
            // A rejected proposal needs no answer.
            _ => return Outcome::Done,
        };
        answer(reply, context)
    }
}

/// Calls for proposals when it is asked to, and answers with what came of it.
struct Buyer {
    /// The customer's request, as long as the negotiation goes on.
    request: Option<Message>,
    calls_open: usize,
    proposals: Vec<Message>,
}

impl Buyer {
    fn call_for_proposals(&mut self, request: &Message, context: &mut Context<'_>) -> Outcome {
        let carriers = match CapabilityName::try_new(CAPABILITY) {
            Ok(capability) => context.discover(&capability),
            Err(_) => Vec::new(),
        };
        if carriers.is_empty() {
            return answer(request.reply(Performative::Refuse).content("there are no carriers"), context);
        }
        self.request = Some(request.clone());
        self.calls_open = carriers.len();
        let call = Message::builder(Performative::Cfp)
            .receivers(carriers)
            .conversation(context.new_conversation())
            .reply_with(context.new_correlation())
            .protocol(PROTOCOL)
            .content("one parcel to the other end of town");
        answer(call, context)
    }

    /// Awards the contract once everybody has answered.
    fn hear(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        self.calls_open -= 1;
        if message.performative() == Performative::Propose {
            self.proposals.push(message.clone());
        }
        if self.calls_open > 0 {
            return Outcome::Done;
        }
        let mut proposals = std::mem::take(&mut self.proposals);
        proposals.sort_by_key(price_of);
        for (place, proposal) in proposals.iter().enumerate() {
            let act = if place == 0 { Performative::AcceptProposal } else { Performative::RejectProposal };
            if answer(proposal.reply(act), context) != Outcome::Done {
                return Outcome::failed("there is no room for the awards now");
            }
        }
        match self.request.take() {
            Some(request) if proposals.is_empty() => {
                answer(request.reply(Performative::Refuse).content("everybody is busy"), context)
            }
            request => {
                self.request = request;
                Outcome::Done
            }
        }
    }

    fn finish(&mut self, result: &Message, context: &mut Context<'_>) -> Outcome {
        context.close_conversation_of(result);
        let Some(request) = self.request.take() else { return Outcome::Done };
        let report = format!("{} by {}", result.content().as_text().unwrap_or_default(), name_of(result.sender()));
        answer(request.reply(Performative::Inform).content(report), context)
    }
}

impl Agent for Buyer {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        match message.performative() {
            Performative::Request if self.request.is_none() => self.call_for_proposals(message, context),
            Performative::Request => answer(message.reply(Performative::Refuse).content("one at a time"), context),
            Performative::Propose | Performative::Refuse => self.hear(message, context),
            Performative::Inform | Performative::Failure => self.finish(message, context),
            _ => Outcome::Done,
        }
    }
}

fn answer(builder: caxton_router::message::MessageBuilder, context: &mut Context<'_>) -> Outcome {
    let sent = builder
        .build()
        .map_err(|error| error.to_string())
        .and_then(|message| context.send(message).map_err(|rejected| rejected.to_string()));
    match sent {
        Ok(_) => Outcome::Done,
        Err(why) => Outcome::failed(why),
    }
}

fn price_of(proposal: &Message) -> u32 {
    proposal.content().as_text().and_then(|price| price.parse().ok()).unwrap_or(u32::MAX)
}

const CARRIERS: [(&str, Option<u32>); 4] =
    [("swift-wheels", Some(12)), ("old-mule", Some(7)), ("gold-wings", Some(40)), ("night-owl", None)];

fn name_of(agent: Option<AgentId>) -> &'static str {
    let known = CARRIERS.iter().find(|(name, _)| Some(AgentId::of_text(name)) == agent);
    known.map_or("somebody", |(name, _)| name)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut config = caxton_router::Config::default();
    // The buyer and all carriers are in one conversation.
    config.conversation.participants_max = 10.try_into()?;
    let router = Router::builder().config(config).start()?;

    for (name, price) in CARRIERS {
        match price {
            Some(price) => println!("{name} would carry a parcel for {price}."),
            None => println!("{name} is busy."),
        }
        let registration = Registration::native(AgentName::try_new(name)?, move || Carrier { price });
        router.blocking_register_one(registration.offering(CapabilityName::try_new(CAPABILITY)?))?;
    }
    let buyer = router.blocking_register(AgentName::try_new("buyer")?, || Buyer {
        request: None,
        calls_open: 0,
        proposals: Vec::new(),
    })?;

    let request = Message::builder(Performative::Request).receiver(buyer).content("send my parcel").build()?;
    let result = router.blocking_ask(request, Duration::from_secs(5))?;
    println!("The parcel was {}.", result.content().as_text().unwrap_or_default());

    router.shutdown(Duration::from_secs(5))?;
    Ok(())
}
