//! Publications: messages on their way into the router, in batches, one after the other.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use caxton_shards::api::{RegistrationError, SendErrorKind};
use caxton_shards::message::{AgentId, CONTENT_INLINE_BYTES, Correlation, Message, Performative};
use caxton_shards::routing::partition::Placement;

use super::deliver::correlation;
use super::{
    AUTHORIZATION_VIOLATION, Asked, Boxed, Connection, End, Own, Performed, Question, REPLIES_WITHIN,
    REPLY_SUBJECT_BYTES_MAX, Source, Step,
};
use crate::clock::wall_time;
use crate::edge::doors::reason;
use crate::edge::nats::mapping::{self, Ack, Address, Plan, To};
use crate::edge::nats::prompts::{self, Verb};
use crate::edge::nats::protocol::{self, Publication};
use crate::edge::nats::refusal::Refusal;
use crate::edge::nats::{Event, Named, subjects};
use crate::router::Inbox;
use crate::router::error::CallError;
use crate::router::flow::Flow;

impl Connection {
    pub(super) fn publish(
        &mut self,
        publication: &Publication<'_>,
        context: &mut Context<'_>,
    ) -> Result<Performed, End> {
        if !self.may_send {
            self.refuse(publication, &Refusal::new(reason::OPERATION_NOT_PERMITTED, "this token may not send"));
            return Ok(Performed::Done);
        }
        if publication.headers.is_empty()
            && self.last_address.0 == publication.subject
            && publication.reply.is_none_or(|reply| reply.len() <= REPLY_SUBJECT_BYTES_MAX)
            && let Some(receiver) = self.last_address.1
        {
            return self.publish_bare(publication, receiver, context);
        }
        if publication.reply.is_some_and(|reply| reply.len() > REPLY_SUBJECT_BYTES_MAX) {
            let text = format!("the reply subject is longer than {REPLY_SUBJECT_BYTES_MAX} bytes");
            self.refuse(&Publication { reply: None, ..*publication }, &Refusal::of_subject(text));
            return Ok(Performed::Done);
        }
        match self.publish_any(publication, context) {
            Ok(performed) => performed,
            Err(refusal) => {
                self.refuse(publication, &refusal);
                if let Some(reply) = publication.reply
                    && prompts::prompted(publication.subject).is_some()
                {
                    self.end_prompt(reply);
                }
                Ok(Performed::Done)
            }
        }
    }

    /// Publishes content to an agent: the way of most messages.
    fn publish_bare(
        &mut self,
        publication: &Publication<'_>,
        receiver: AgentId,
        context: &mut Context<'_>,
    ) -> Result<Performed, End> {
        let Some(sender) = self.default_sender(Some(receiver), context)? else { return Ok(Performed::Later) };
        if !self.has_room(sender) {
            return Ok(Performed::Later);
        }
        let performative = if publication.reply.is_some() { Performative::Request } else { Performative::Inform };
        let mut builder = Message::builder(performative).sender(sender).receiver(receiver).content(publication.payload);
        if let Some(reply) = publication.reply {
            builder = builder.reply_with(self.ask(sender, Some(receiver), reply, Ack::Reply));
        }
        let built = if publication.payload.len() <= CONTENT_INLINE_BYTES {
            builder.build()
        } else {
            builder.build_within(self.door.content_max())
        };
        match built {
            Ok(message) => self.queue(message, publication),
            Err(error) => self.refuse(publication, &Refusal::of_message(&error)),
        }
        self.acknowledge();
        Ok(Performed::Done)
    }

    /// Publishes a message to any kind of subject. The inner result says whether the connection continues.
    fn publish_any(
        &mut self,
        publication: &Publication<'_>,
        context: &mut Context<'_>,
    ) -> Result<Result<Performed, End>, Refusal> {
        if !subjects::is_literal(publication.subject) {
            return Err(Refusal::of_subject("it is no subject that can be published to"));
        }
        if let Some((verb, instance)) = prompts::service_call(publication.subject) {
            return Ok(Ok(self.discover(verb, instance, publication)));
        }
        if let Some(agent) = prompts::asked_for_status(publication.subject) {
            return Ok(Ok(self.ask_for_status(agent?, publication)));
        }
        if let Some(agent) = prompts::prompted(publication.subject) {
            return self.prompt(publication, agent?, context);
        }
        let address = mapping::address(publication.subject).unwrap_or_else(|| {
            Err(Refusal::no_responders(
                "publish to agent.NAME, capability.NAME, route, or the reply subject of a message",
            ))
        })?;
        self.publish_addressed(publication, &address, context)
    }

    /// Publishes a message to agents, or a reply to one.
    fn publish_addressed(
        &mut self,
        publication: &Publication<'_>,
        address: &Address,
        context: &mut Context<'_>,
    ) -> Result<Result<Performed, End>, Refusal> {
        let question = self.question_of(address)?;
        let text = match &question {
            Some((_, question)) if question.to_prompt => Some(prompts::text_of(publication.payload)?),
            _ => None,
        };
        let publication =
            &Publication { payload: text.as_ref().map_or(publication.payload, |text| text.as_bytes()), ..*publication };
        let plan = Plan::read(publication, question.as_ref().map(|(_, question)| &question.message))?;
        let named = self.named_sender(&plan, question.as_ref().map(|(_, question)| question))?;
        let receiver = match (address, &question) {
            (Address::Agent(agent), _) => Some(*agent),
            (_, Some((_, question))) => question.message.sender(),
            _ => None,
        };
        let sender = match named {
            Some(sender) => sender,
            None => match self.default_sender(receiver, context) {
                Ok(Some(sender)) => sender,
                Ok(None) => return Ok(Ok(Performed::Later)),
                Err(end) => return Ok(Err(end)),
            },
        };
        if self.anonymous.as_ref().is_some_and(|own| own.id == sender) {
            plan.check_unnamed()?;
        }
        match self.is_ready_for(sender, plan.ack, context) {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(Performed::Later)),
            Err(end) => return Ok(Err(end)),
        }
        let asked = match (publication.reply, plan.ack) {
            (Some(reply), Some(ack @ (Ack::Reply | Ack::Receipt))) => Some(self.ask(sender, receiver, reply, ack)),
            _ => None,
        };
        let to = match &question {
            Some((_, question)) => To::Answer(&question.message),
            None => To::Address(address),
        };
        let message = plan.message(to, sender, asked, (self.door.content_max(), wall_time()))?;
        if let Some((number, _)) = question
            && message.performative() != Performative::Agree
        {
            self.questions.settle(number);
        }
        if let Address::Agent(agent) = address
            && publication.headers.is_empty()
        {
            self.last_address = (publication.subject.to_vec(), Some(*agent));
        }
        match (plan.ack, publication.reply) {
            (Some(Ack::Accepted), Some(reply)) => {
                self.send_acknowledged(message, reply, context)?;
                self.count_handed_over(sender, 1, publication.payload.len() + publication.headers.len());
            }
            _ => self.queue(message, publication),
        }
        self.acknowledge();
        Ok(Ok(Performed::Done))
    }

    /// Returns the number and the message of the question that an address stands for, if it is one.
    fn question_of(&self, address: &Address) -> Result<Option<(u32, Question)>, Refusal> {
        let Address::Answer { connection, number } = *address else { return Ok(None) };
        let question = self.questions.get(number, Instant::now()).filter(|_| connection == self.number).cloned();
        let unknown = || Refusal::no_responders("the message that this replies to is not known any more");
        Ok(Some((number, question.ok_or_else(unknown)?)))
    }

    /// Returns the agent that a publication is from: the one that its headers name, or the one that was asked.
    fn named_sender(&self, plan: &Plan<'_>, question: Option<&Question>) -> Result<Option<AgentId>, Refusal> {
        if let Some(name) = plan.sender {
            let own = self.agents.iter().find(|own| *own.name == *name);
            let unknown = || Refusal::of_sender(format!("{name}: this connection has not subscribed to it"));
            return Ok(Some(own.ok_or_else(unknown)?.id));
        }
        let asked = question.and_then(|question| question.message.target());
        if asked.is_some_and(|asked| !self.owns(asked)) {
            return Err(Refusal::of_sender("this connection has given up the agent that was asked"));
        }
        Ok(asked)
    }

    /// Whether a message of this agent can be sent now. Hands over the batch before it, if the message cannot join it.
    fn is_ready_for(&mut self, sender: AgentId, ack: Option<Ack>, context: &mut Context<'_>) -> Result<bool, End> {
        if !self.has_room(sender) {
            return Ok(false);
        }
        if self.batch_sender.is_some_and(|other| other != sender) || ack == Some(Ack::Accepted) {
            self.hand_over(context)?;
            return Ok(self.step.is_none());
        }
        Ok(true)
    }

    /// Looks for the agents that can be prompted, and publishes them to the reply subject.
    fn discover(&mut self, verb: Verb, instance: Option<&[u8]>, publication: &Publication<'_>) -> Performed {
        if let Some(reply) = publication.reply {
            let future = Box::pin(prompts::agents(self.context().router.clone()));
            self.step = Some(Step::Discover { future, verb, instance: instance.map(Into::into), reply: reply.into() });
        }
        self.acknowledge();
        Performed::Done
    }

    /// Looks for an agent's status, and publishes it to the reply subject.
    fn ask_for_status(&mut self, agent: AgentId, publication: &Publication<'_>) -> Performed {
        if let Some(reply) = publication.reply {
            let future = Box::pin(prompts::agent(self.context().router.clone(), agent));
            self.step = Some(Step::Discover { future, verb: Verb::Status, instance: None, reply: reply.into() });
        }
        self.acknowledge();
        Performed::Done
    }

    /// Prompts an agent.
    fn prompt(
        &mut self,
        publication: &Publication<'_>,
        agent: AgentId,
        context: &mut Context<'_>,
    ) -> Result<Result<Performed, End>, Refusal> {
        let text = prompts::text_of(publication.payload)?;
        let reply = publication.reply.ok_or_else(|| Refusal::of_prompt("it has no reply subject"))?;
        let sender = match self.default_sender(Some(agent), context) {
            Ok(Some(sender)) => sender,
            Ok(None) => return Ok(Ok(Performed::Later)),
            Err(end) => return Ok(Err(end)),
        };
        if !self.has_room(sender) {
            return Ok(Ok(Performed::Later));
        }
        let builder = Message::builder(Performative::Request).sender(sender).receiver(agent).content(&*text);
        let message =
            builder.reply_with(self.ask(sender, Some(agent), reply, Ack::Prompt)).build_within(self.door.content_max());
        let message = message.map_err(|error| Refusal::of_message(&error))?;
        self.put_reply(reply, &[], prompts::ACKNOWLEDGED);
        self.queue(message, publication);
        self.acknowledge();
        Ok(Ok(Performed::Done))
    }

    /// Remembers the reply subject of a message that this agent sends, and the receiver if there is one. Returns the
    /// correlation that replies have to repeat.
    fn ask(&mut self, sender: AgentId, receiver: Option<AgentId>, reply: &[u8], ack: Ack) -> Correlation {
        let now = Instant::now();
        let asked = Asked { sender, receiver, reply: reply.into(), ack, at: now };
        let number = self.asked.add(asked, reply.len(), now, now + REPLIES_WITHIN);
        correlation(self.number, number)
    }

    /// Sends a message whose acceptance is reported to its reply subject. If there is no room for it, the connection
    /// does nothing else until the message is accepted.
    fn send_acknowledged(&mut self, message: Message, reply: &[u8], context: &mut Context<'_>) -> Result<(), Refusal> {
        match self.context().router.try_send(message) {
            Ok(sent) => {
                self.acks += 1;
                let (post, reply) = (Arc::clone(&self.post), reply.into());
                tokio::spawn(async move {
                    let result = sent.accepted().await.map_err(|error| error.kind().clone());
                    post.put(Event::Sent { reply, result });
                });
                Ok(())
            }
            Err(error) if matches!(error.kind(), SendErrorKind::Full) => {
                self.acks += 1;
                let (router, message) = (self.context().router.within(Duration::MAX), error.into_message());
                let mut future: Boxed<_> =
                    Box::pin(async move { router.send(message).await.map_err(|error| error.kind().clone()) });
                match future.as_mut().poll(context) {
                    Poll::Ready(result) => self.post.put(Event::Sent { reply: reply.into(), result }),
                    Poll::Pending => self.step = Some(Step::Send { future, reply: reply.into() }),
                }
                Ok(())
            }
            Err(error) => Err(Refusal::of_send_error(error.kind())),
        }
    }

    /// Adds a message to those that are handed over together.
    fn queue(&mut self, message: Message, publication: &Publication<'_>) {
        self.batch_sender = message.sender();
        self.batch_bytes += publication.payload.len() + publication.headers.len();
        self.batch.push(message);
    }

    /// Hands the batch over to its sender's shard.
    pub(super) fn hand_over(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        let Some(sender) = self.batch_sender.filter(|_| !self.batch.is_empty() && self.step.is_none()) else {
            return Ok(());
        };
        let next = Vec::with_capacity(self.batch.len());
        let messages = std::mem::replace(&mut self.batch, next);
        self.batch_sender = None;
        let (count, bytes) = (messages.len(), std::mem::take(&mut self.batch_bytes));
        self.context().woken.expect();
        match self.context().router.try_tell_batch(sender, messages) {
            Ok(()) => {
                self.count_handed_over(sender, count, bytes);
                Ok(())
            }
            Err((SendErrorKind::Full, messages)) => {
                let router = self.context().router.within(Duration::MAX);
                let mut future: Boxed<_> = Box::pin(async move { router.tell_all(messages).await });
                match future.as_mut().poll(context) {
                    Poll::Ready(handed) => {
                        handed.map_err(|_| End::Closing)?;
                        self.count_handed_over(sender, count, bytes);
                        Ok(())
                    }
                    Poll::Pending => {
                        self.step = Some(Step::HandOver { future, sender, messages: count, bytes });
                        Ok(())
                    }
                }
            }
            Err(_) => Err(End::Closing),
        }
    }

    fn flow_of(&self, sender: AgentId) -> Option<&Arc<Flow>> {
        self.agents.iter().chain(&self.anonymous).find(|own| own.id == sender).map(|own| &own.flow)
    }

    /// Whether there is room for another message of this agent. If not, the connection does nothing else until there
    /// is.
    fn has_room(&mut self, sender: AgentId) -> bool {
        let more = if self.batch_sender == Some(sender) { self.batch.len() } else { 0 };
        if let Some(full) = self.flow_of(sender).filter(|flow| !flow.has_room(more)) {
            self.blocked = Some(Arc::clone(full));
        }
        self.blocked.is_none()
    }

    /// Counts messages that are in the shard's channel.
    pub(super) fn count_handed_over(&self, sender: AgentId, messages: usize, bytes: usize) {
        if let Some(flow) = self.flow_of(sender) {
            flow.hand_over(messages, bytes);
        }
    }

    /// Returns the agent that sends messages without a sender: the first one that the client subscribed to, or else an
    /// agent whose name the router chose. The latter is registered on first use, on the shard of the agent that it
    /// sends to, because most clients send to few agents.
    fn default_sender(&mut self, receiver: Option<AgentId>, context: &mut Context<'_>) -> Result<Option<AgentId>, End> {
        let own = self.agents.first().or(self.anonymous.as_ref()).map(|own| own.id);
        if own.is_some() && (self.batch_sender.is_none() || self.batch_sender == own) {
            return Ok(own);
        }
        if own.is_some() {
            self.hand_over(context)?;
            return Ok(own.filter(|_| self.step.is_none()));
        }
        let Some(identity) = &self.identity else { return Err(End::Refused(AUTHORIZATION_VIOLATION)) };
        let prefix =
            if self.context().access().requires_token() { format!("{}-", identity.name()) } else { String::new() };
        let again = if self.anonymous_names > 0 { format!("-{}", self.anonymous_names) } else { String::new() };
        let name: Arc<str> = format!("{prefix}nats-{}{again}", self.number).into();
        self.anonymous_names += 1;
        let mut inbox = self.context().router.inbox(&*name).acknowledging_durable();
        if let Some(receiver) = receiver {
            inbox = inbox.placed(Placement::Near(receiver));
        }
        let future = Box::pin(async move { inbox.open().await });
        self.step = Some(Step::Open { future, name });
        Ok(None)
    }

    pub(super) fn finish_opening(
        &mut self,
        opened: Result<Inbox, CallError<RegistrationError>>,
        name: Arc<str>,
    ) -> Result<(), End> {
        match opened {
            Ok(inbox) => {
                let id = inbox.id();
                self.door.set_name(id, Named::Anonymous);
                let (flow, inbox) = (self.door.flows.of(id), Source::Anonymous(Arc::new(inbox)));
                self.anonymous = Some(Own { id, name, inbox, wait: None, handed_over: None, flow, subscription: None });
                Ok(())
            }
            // Somebody else has chosen that name.
            Err(CallError::Refused(RegistrationError::Duplicate { .. } | RegistrationError::OnOtherNode { .. }))
                if self.anonymous_names < 10 =>
            {
                Ok(())
            }
            Err(CallError::Stopped) => Err(End::Closing),
            Err(_) => Err(End::Refused("this connection's agent could not be registered, try again later")),
        }
    }

    /// Refuses a publication: at its reply subject, or as an error if it has none.
    fn refuse(&mut self, publication: &Publication<'_>, refusal: &Refusal) {
        self.door.figures.refused.count(refusal.reason.word);
        if let Some(reply) = publication.reply {
            return self.report(reply, refusal);
        }
        let subject = String::from_utf8_lossy(publication.subject);
        let text = format!("Permissions Violation for Publish to \"{subject}\": {}", refusal.text);
        protocol::put_error(self.output.buffer(), &text);
    }
}
