//! The participant of contract nets.

use std::collections::HashSet;

use crate::message::notice::is_notice;
use crate::message::{AgentId, ConversationId, Message, Performative};
use crate::shard::agent::{Agent, Context, Outcome};

use super::{RoleError, SESSIONS_MAX};

/// The application part of a [`Bidding`] agent.
pub trait Bidder {
    /// Replies to a call for proposals with the proposal's content.
    ///
    /// # Errors
    ///
    /// The reason for not bidding, which is sent in a `refuse`.
    fn bid(&mut self, call: &Message, context: &mut Context<'_>) -> Result<String, String>;

    /// Performs what was proposed, and returns the result.
    ///
    /// # Errors
    ///
    /// The reason of the failure, which is sent in a `failure`.
    fn perform(&mut self, award: &Message, context: &mut Context<'_>) -> Result<String, String>;

    /// Called when the proposal was rejected.
    fn lost(&mut self, rejection: &Message) {
        let _ = rejection;
    }
}

/// An agent that bids in contract nets (SC00029). Awards of what it did not propose are answered with `not-understood`.
#[derive(Debug)]
pub struct Bidding<B> {
    bidder: B,
    /// Pending proposals, by caller and conversation.
    proposed: HashSet<(Option<AgentId>, Option<ConversationId>)>,
}

impl<B: Bidder> Bidding<B> {
    /// Creates an agent that bids as `bidder` decides.
    pub fn new(bidder: B) -> Self {
        Self { bidder, proposed: HashSet::new() }
    }

    fn propose(&mut self, call: &Message, context: &mut Context<'_>) -> Result<(), RoleError> {
        if self.proposed.len() >= SESSIONS_MAX {
            context.answer(call, Performative::Refuse, RoleError::TooMany.to_string())?;
            return Ok(());
        }
        match self.bidder.bid(call, context) {
            Ok(proposal) => {
                context.answer(call, Performative::Propose, proposal)?;
                self.proposed.insert((call.sender(), call.conversation()));
            }
            Err(why) => {
                context.answer(call, Performative::Refuse, why)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, award: &Message, context: &mut Context<'_>) -> Result<(), RoleError> {
        let (act, said) = match self.bidder.perform(award, context) {
            Ok(result) => (Performative::Inform, result),
            Err(why) => (Performative::Failure, why),
        };
        context.answer(award, act, said)?;
        self.proposed.remove(&(award.sender(), award.conversation()));
        Ok(())
    }
}

impl<B: Bidder> Agent for Bidding<B> {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let session = (message.sender(), message.conversation());
        match message.performative() {
            Performative::Cfp => self.propose(message, context).into(),
            Performative::AcceptProposal if self.proposed.contains(&session) => self.perform(message, context).into(),
            Performative::RejectProposal if self.proposed.remove(&session) => {
                self.bidder.lost(message);
                Outcome::Done
            }
            Performative::Cancel => {
                let answered = context.answer(message, Performative::Inform, "");
                if answered.is_ok() {
                    self.proposed.remove(&session);
                }
                answered.into()
            }
            _ if is_notice(message) => {
                // In any case the proposal is over: it was not delivered, or the conversation ended.
                if let Some(conversation) = message.conversation() {
                    self.proposed.retain(|(_, open)| *open != Some(conversation));
                }
                Outcome::Done
            }
            _ => context.object(message, "cfp, or the answer to a proposal").into(),
        }
    }
}
