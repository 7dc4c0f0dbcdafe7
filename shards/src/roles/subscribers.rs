//! The participant of subscriptions.

use crate::message::notice::is_notice;
use crate::message::{IntoContent, Message, Performative};
use crate::shard::agent::Context;

use super::{RoleError, SESSIONS_MAX};

/// The subscribers to a subject (SC00035). A field of the agent that publishes it.
#[derive(Debug, Default)]
pub struct Subscribers {
    subscriptions: Vec<Message>,
}

/// What a message meant for the subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// An agent has subscribed.
    Subscribed,
    /// An agent has cancelled its subscription, or cannot be reached any more.
    Ended,
    /// Nothing.
    NotMine,
}

impl Subscribers {
    /// Returns the number of subscribers.
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether there are no subscribers.
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// Processes a message: a `subscribe`, which is agreed to or, beyond [`SESSIONS_MAX`], refused; a `cancel`, which
    /// is confirmed; or the router's notice that a subscriber cannot be reached.
    ///
    /// # Errors
    ///
    /// The reply could not be sent; nothing has changed.
    pub fn hear(&mut self, message: &Message, context: &mut Context<'_>) -> Result<Heard, RoleError> {
        let of = |subscription: &Message| subscription.conversation() == message.conversation();
        match message.performative() {
            Performative::Subscribe if self.subscriptions.len() >= SESSIONS_MAX => {
                context.answer(message, Performative::Refuse, RoleError::TooMany.to_string())?;
                Ok(Heard::NotMine)
            }
            Performative::Subscribe => {
                context.answer(message, Performative::Agree, "")?;
                self.subscriptions.push(message.clone());
                Ok(Heard::Subscribed)
            }
            Performative::Cancel => {
                let same = |subscription: &Message| of(subscription) && subscription.sender() == message.sender();
                let Some(place) = self.subscriptions.iter().position(same) else {
                    context.object(message, "subscribe")?;
                    return Ok(Heard::NotMine);
                };
                context.answer(message, Performative::Inform, "")?;
                self.subscriptions.swap_remove(place);
                Ok(Heard::Ended)
            }
            _ if is_notice(message) && message.conversation().is_some() => {
                let before = self.subscriptions.len();
                self.subscriptions.retain(|subscription| !of(subscription));
                Ok(if self.subscriptions.len() < before { Heard::Ended } else { Heard::NotMine })
            }
            _ => Ok(Heard::NotMine),
        }
    }

    /// Informs all subscribers and returns their number.
    ///
    /// # Errors
    ///
    /// One of the messages could not be sent, nor those after it. If the handler fails with this error, none was sent.
    pub fn publish(&self, news: &(impl IntoContent + Clone), context: &mut Context<'_>) -> Result<usize, RoleError> {
        for subscription in &self.subscriptions {
            context.answer(subscription, Performative::Inform, news.clone())?;
        }
        Ok(self.subscriptions.len())
    }
}
