//! The initiator of contract nets.

use std::collections::HashMap;
use std::time::Duration;

use crate::message::notice::is_notice;
use crate::message::{AgentId, ConversationId, Correlation, Message, MessageBuilder, Performative};
use crate::shard::agent::Context;

use super::{RoleError, SESSIONS_MAX};

/// Contract nets (SC00029) begun by an agent.
#[derive(Debug, Default)]
pub struct Negotiations {
    open: HashMap<ConversationId, Negotiation>,
}

#[derive(Debug)]
struct Negotiation {
    /// Participants that have not replied yet, and the call to each.
    awaited: Vec<(AgentId, Correlation)>,
    proposals: Vec<Message>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Calling,
    Deciding,
    /// The winner, and the `reply-with` of the award.
    Awarded(AgentId, Correlation),
}

/// What a message meant for a negotiation.
#[derive(Clone, Debug)]
pub enum Negotiated {
    /// The message belongs to no negotiation.
    NotMine,
    /// The message was out of sequence and was answered: with `not-understood` or, if it was a late proposal, with
    /// `reject-proposal`.
    OutOfSequence,
    /// Other participants have not replied yet.
    Waiting,
    /// All participants have replied or timed out: these are the proposals, possibly none, and [`Negotiations::award`]
    /// is next.
    Proposals(ConversationId, Vec<Message>),
    /// The winner has performed the task. The negotiation is over.
    Done(Message),
    /// The winner failed or, according to the router, cannot be reached. The negotiation is over.
    Failed(Message),
}

impl Negotiations {
    /// Returns the number of open negotiations.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no negotiation is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Calls for proposals, which are expected `within` this time. `say` sets the rest of each call, such as the
    /// content.
    ///
    /// # Errors
    ///
    /// There are no participants, there are too many negotiations, or a call could not be sent. If the handler fails
    /// with this error, none was sent.
    pub fn call(
        &mut self,
        participants: &[AgentId],
        within: Duration,
        say: impl Fn(MessageBuilder) -> MessageBuilder,
        context: &mut Context<'_>,
    ) -> Result<ConversationId, RoleError> {
        if self.open.len() >= SESSIONS_MAX {
            return Err(RoleError::TooMany);
        }
        if participants.is_empty() {
            return Err(RoleError::Nobody);
        }
        let (conversation, reply_by) = (context.new_conversation(), context.moment_in(within));
        let mut awaited = Vec::with_capacity(participants.len());
        for participant in participants {
            let correlation = context.new_correlation();
            // Each call has its own `reply-with`, so that the router reports who did not reply in time.
            let builder = Message::builder(Performative::Cfp)
                .receiver(*participant)
                .conversation(conversation)
                .reply_with(correlation)
                .reply_by(reply_by)
                .protocol("fipa-contract-net");
            context.send(say(builder).build()?)?;
            awaited.push((*participant, correlation));
        }
        self.open.insert(conversation, Negotiation { awaited, proposals: Vec::new(), stage: Stage::Calling });
        Ok(conversation)
    }

    /// Accepts the proposal of `winner`, repeating its content, and rejects all others. Without a winner, or if the
    /// winner has proposed nothing, all are rejected and the negotiation is over.
    ///
    /// # Errors
    ///
    /// The negotiation is not in this state, or a message could not be sent. If the handler fails with this error, none
    /// was sent.
    pub fn award(
        &mut self,
        conversation: ConversationId,
        winner: Option<AgentId>,
        context: &mut Context<'_>,
    ) -> Result<(), RoleError> {
        let negotiation = self.open.get_mut(&conversation).filter(|negotiation| negotiation.stage == Stage::Deciding);
        let negotiation = negotiation.ok_or(RoleError::OutOfSequence)?;
        let mut awarded = None;
        for proposal in &negotiation.proposals {
            let said = proposal.content().as_bytes();
            match winner.filter(|winner| proposal.sender() == Some(*winner)) {
                Some(winner) => {
                    let award = context.new_correlation();
                    let builder = context.reply(proposal, Performative::AcceptProposal).content(said);
                    context.send(builder.reply_with(award).build()?)?;
                    awarded = Some((winner, award));
                }
                None => {
                    context.answer(proposal, Performative::RejectProposal, said)?;
                }
            }
        }
        match awarded {
            Some((agent, award)) => {
                negotiation.stage = Stage::Awarded(agent, award);
                negotiation.proposals = Vec::new();
            }
            None => self.end(conversation, context),
        }
        Ok(())
    }

    /// Processes a message.
    ///
    /// # Errors
    ///
    /// A reply to an out-of-sequence message could not be sent; nothing has changed.
    pub fn hear(&mut self, message: &Message, context: &mut Context<'_>) -> Result<Negotiated, RoleError> {
        let Some(conversation) = message.conversation() else { return Ok(Negotiated::NotMine) };
        let Some(negotiation) = self.open.get_mut(&conversation) else { return Ok(Negotiated::NotMine) };
        let place = match message.in_reply_to() {
            Some(correlation) => negotiation.awaited.iter().position(|(_, call)| *call == correlation),
            None => negotiation.awaited.iter().position(|(agent, _)| Some(*agent) == message.sender()),
        };
        let spoke = place.and_then(|place| negotiation.awaited.get(place)).map(|(agent, _)| *agent);
        let notice = is_notice(message);
        match (negotiation.stage, message.performative()) {
            (Stage::Calling, Performative::Propose) if spoke.is_some() && spoke == message.sender() => {
                negotiation.proposals.push(message.clone());
            }
            (Stage::Calling, Performative::Refuse | Performative::Failure | Performative::NotUnderstood)
                if spoke.is_some() && (notice || spoke == message.sender()) => {}
            (Stage::Awarded(winner, _), Performative::Inform) if message.sender() == Some(winner) => {
                self.end(conversation, context);
                return Ok(Negotiated::Done(message.clone()));
            }
            (Stage::Awarded(winner, award), Performative::Failure)
                if message.sender() == Some(winner) || notice && message.in_reply_to() == Some(award) =>
            {
                self.end(conversation, context);
                return Ok(Negotiated::Failed(message.clone()));
            }
            (_, Performative::Propose) => {
                context.answer(message, Performative::RejectProposal, "it came too late")?;
                return Ok(Negotiated::OutOfSequence);
            }
            _ if notice => return Ok(Negotiated::Waiting),
            _ => {
                context.object(message, "propose or refuse and, from who won, inform or failure")?;
                return Ok(Negotiated::OutOfSequence);
            }
        }
        if let Some(place) = place {
            negotiation.awaited.swap_remove(place);
        }
        if !negotiation.awaited.is_empty() {
            return Ok(Negotiated::Waiting);
        }
        negotiation.stage = Stage::Deciding;
        Ok(Negotiated::Proposals(conversation, negotiation.proposals.clone()))
    }

    fn end(&mut self, conversation: ConversationId, context: &mut Context<'_>) {
        self.open.remove(&conversation);
        context.close_conversation(conversation);
    }
}
