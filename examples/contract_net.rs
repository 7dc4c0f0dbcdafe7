//! A negotiation: a buyer calls for proposals, and the cheapest carrier gets the contract (FIPA contract net, SC00029).
//! It finds the carriers by the capability they provide.
//!
//! `cargo run --example contract_net`

use std::time::Duration;

use caxton_router::domain::{AgentName, CapabilityName};
use caxton_router::roles::{Bidder, Bidding, Negotiated, Negotiations, RoleError};
use caxton_router::{Agent, Context, Message, Outcome, Performative, Registration, Router};

struct Carrier(Option<u32>);

impl Bidder for Carrier {
    fn bid(&mut self, _call: &Message, _context: &mut Context<'_>) -> Result<String, String> {
        self.0.map(|price| price.to_string()).ok_or_else(|| "too busy today".to_owned())
    }

    fn perform(&mut self, award: &Message, _context: &mut Context<'_>) -> Result<String, String> {
        Ok(format!("delivered for {}", award.content().as_text().unwrap_or_default()))
    }
}

#[derive(Default)]
struct Buyer(Negotiations, Option<Message>);

impl Buyer {
    fn buy(&mut self, message: &Message, context: &mut Context<'_>) -> Result<(), RoleError> {
        if message.performative() == Performative::Request {
            let carriers = CapabilityName::try_new("carry").map(|name| context.discover(&name)).unwrap_or_default();
            self.0.call(&carriers, Duration::from_secs(1), |call| call.content("one parcel"), context)?;
            self.1 = Some(message.clone());
        }
        let price = |proposal: &&Message| proposal.content().as_text().and_then(|price| price.parse::<u32>().ok());
        match (self.0.hear(message, context)?, &self.1) {
            (Negotiated::Proposals(negotiation, proposals), _) => {
                let cheapest = proposals.iter().filter(|proposal| price(proposal).is_some()).min_by_key(price);
                self.0.award(negotiation, cheapest.and_then(Message::sender), context)
            }
            (Negotiated::Done(result) | Negotiated::Failed(result), Some(request)) => {
                context.answer(request, result.performative(), result.content().as_bytes()).map(|_| ())
            }
            _ => Ok(()),
        }
    }
}

impl Agent for Buyer {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        self.buy(message, context).into()
    }
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = Router::builder().start()?;
    for (name, price) in [("swift-wheels", Some(12)), ("old-mule", Some(7)), ("night-owl", None)] {
        let carrier = Registration::native(AgentName::try_new(name)?, move || Bidding::new(Carrier(price)));
        router.blocking().register_one(carrier.offering("carry"))?;
    }
    let buyer = router.blocking().register("buyer", Buyer::default)?;
    let request = Message::builder(Performative::Request).receiver(buyer).content("send my parcel").build()?;
    let result = router.blocking().ask(request, Duration::from_secs(5))?;
    println!("The parcel was {}.", result.content().as_text().unwrap_or_default());
    router.shutdown(Duration::from_secs(5))?;
    Ok(())
}
