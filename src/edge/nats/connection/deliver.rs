//! What goes to the client: its agents' messages, and replies at the subjects that it chose for them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use caxton_shards::api::{DeliveryError, SendErrorKind, processed_message};
use caxton_shards::message::{AgentId, Correlation, Message, MessageId, Performative};

use super::held::{Arrived, Due, Held};
use super::{
    Boxed, COPIES_BYTES_MAX, Connection, End, OUTPUT_BYTES_MAX, Question, REPLIES_WITHIN, SLOW_CONSUMER, Source,
    Subscription, TAKEN_MAX,
};
use crate::edge::nats::heartbeats::Beats;
use crate::edge::nats::mapping::{self, Ack};
use crate::edge::nats::prompts::{self, Instance, Service, Verb};
use crate::edge::nats::protocol::{self, Delivery};
use crate::edge::nats::refusal::Refusal;
use crate::edge::nats::render::{self, Kind};
use crate::edge::nats::{Event, Named, PostFull, subjects};
use crate::message::{ROUTER_NAME, is_notice};
use crate::shard_handle::RouterPhase;

impl Connection {
    /// Reports at a reply subject why there is no reply.
    pub(super) fn report(&mut self, reply: &[u8], refusal: &Refusal) {
        let mut headers = Vec::new();
        if !self.options.headers {
            return self.put_reply(reply, &[], refusal.text.as_bytes());
        }
        if refusal.means_no_responders() && self.options.no_responders {
            refusal.put_no_responders(&mut headers);
            return self.put_reply(reply, &headers, b"");
        }
        refusal.put_headers(&mut headers);
        self.put_reply(reply, &headers, refusal.text.as_bytes());
    }

    /// Writes a message to those of the client's subscriptions for replies that match. A client with so many of them that
    /// their copies do not fit into the memory for its output is a slow consumer.
    pub(super) fn put_reply(&mut self, subject: &[u8], headers: &[u8], payload: &[u8]) {
        if !self.put_copies(subject, headers, payload) && !self.is_slow {
            self.door.figures.dropped.count("no-subscription");
        }
    }

    /// Returns whether a subscription matches.
    fn put_copies(&mut self, subject: &[u8], headers: &[u8], payload: &[u8]) -> bool {
        let (output, is_slow, delivered) = (&mut self.output, &mut self.is_slow, &mut self.delivered);
        let mut copies = 0;
        self.replies.retain_mut(|subscription| {
            if *is_slow || !subjects::matches(&subscription.subject, subject) {
                return true;
            }
            *is_slow = copies > 0 && output.unwritten_bytes() > COPIES_BYTES_MAX;
            copies += 1;
            let sid = &subscription.sid;
            protocol::put_message(output.buffer(), &Delivery { subject, sid, reply: None, headers, payload });
            delivered.count(headers.len() + payload.len());
            !subscription.count()
        });
        copies > 0
    }

    /// Ends the reply to a prompt, as callers expect it: also behind an error.
    pub(super) fn end_prompt(&mut self, reply: &[u8]) {
        self.put_reply(reply, &[], b"");
    }

    /// Writes heartbeats of agents that can be prompted.
    pub(super) fn poll_heartbeats(&mut self, context: &mut Context<'_>) -> bool {
        let takes_messages = self.takes_messages();
        let Some(beats) = self.beats.as_mut().filter(|_| takes_messages) else { return false };
        let Poll::Ready(mut beats) = beats.as_mut().poll(context) else { return false };
        let (agents, now) = (Arc::clone(&beats.borrow_and_update()), SystemTime::now());
        for agent in agents.iter() {
            let (subject, payload) = (prompts::heartbeat_subject(agent), prompts::heartbeat(agent, now));
            self.put_copies(subject.as_bytes(), &[], payload.as_bytes());
        }
        let is_heartbeats = |subscription: &Subscription| subscription.subject.starts_with(prompts::HEARTBEAT);
        self.beats = self.replies.iter().any(is_heartbeats).then(|| next(beats));
        true
    }

    /// Handles what others have for this connection: replies as long as the client reads them, and at any time that they
    /// have taken an agent over. The post has a limit, what waits for its sender's name has none: nothing is added to that
    /// from the post.
    pub(super) fn poll_post(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let takes_replies = self.takes_messages();
        let Poll::Ready(events) = self.post.clone().poll(context, takes_replies) else { return Ok(false) };
        for event in events.map_err(|PostFull| End::Refused(SLOW_CONSUMER))? {
            match event {
                Event::Reply(arrived) => self.deliver(arrived, context),
                Event::TakenOver(agent, hand_over) => {
                    // What the socket takes now need not be given back.
                    self.poll_output(context)?;
                    self.hand_agent_over(agent, hand_over);
                }
                Event::Sent { reply, result } => {
                    self.acks -= 1;
                    self.put_acknowledgement(&reply, result);
                }
            }
        }
        Ok(true)
    }

    /// Reports that a message was accepted, in the form that clients of `JetStream` expect.
    fn put_acknowledgement(&mut self, reply: &[u8], result: Result<MessageId, SendErrorKind>) {
        match result {
            Ok(id) => {
                self.acknowledged += 1;
                let payload = format!("{{\"stream\":\"caxton\",\"seq\":{},\"id\":\"{id}\"}}", self.acknowledged);
                let mut headers = Vec::new();
                if self.options.headers {
                    render::put_accepted(id, &mut headers);
                }
                self.put_reply(reply, &headers, payload.as_bytes());
            }
            Err(error) => {
                let refusal = Refusal::of_send_error(&error);
                self.door.figures.refused.count(refusal.reason.word);
                self.report(reply, &refusal);
            }
        }
    }

    /// Takes what the inboxes hold, as long as the client reads it.
    pub(super) fn poll_inboxes(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut worked = self.poll_look_up(context);
        let count = self.agents.len() + 1;
        let first = self.next_inbox;
        for place in (0..count).map(|more| (first + more) % count) {
            if !self.takes_messages() {
                break;
            }
            let own = match self.agents.get_mut(place) {
                Some(own) => own,
                None => match &mut self.anonymous {
                    Some(own) => own,
                    None => continue,
                },
            };
            let agent = own.id;
            if let Source::Attached(_, gone) = &mut own.inbox
                && gone.as_mut().poll(context).is_ready()
            {
                self.lose_agent(agent, "the agent was deregistered");
                return Ok(true);
            }
            if let Some(handed_over) = &mut own.handed_over {
                if Pin::new(handed_over).poll(context).is_pending() {
                    continue;
                }
                own.handed_over = None;
            }
            let mut taken = std::mem::take(&mut self.taken);
            let most = own.subscription.as_ref().map_or(TAKEN_MAX, Subscription::wanted);
            let polled = own.inbox.inbox().poll_take(&mut own.wait, context, (most, OUTPUT_BYTES_MAX), &mut taken);
            let holder = taken.iter().any(|(_, is_held)| *is_held).then(|| own.inbox.holder());
            for (message, is_held) in taken.drain(..) {
                let held = holder.as_ref().filter(|_| is_held).map(|holder| Held::new(holder, message.clone()));
                self.deliver(Arrived { agent, message, held }, context);
            }
            self.taken = taken;
            match polled {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => (worked, self.next_inbox) = (true, place + 1),
                Poll::Ready(Err(_)) if self.context().router.shared().phase() == RouterPhase::Running => {
                    self.anonymous.take_if(|own| own.id == agent);
                    self.lose_agent(agent, "the router has removed the agent");
                    return Ok(true);
                }
                Poll::Ready(Err(_)) => return Err(End::Closing),
            }
        }
        if !self.takes_messages() {
            // What comes now is for other connections of the queue group.
            for own in self.agents.iter_mut().chain(&mut self.anonymous) {
                own.wait = None;
            }
        }
        Ok(worked)
    }

    /// Whether a further message can be written: the client reads, and no other one waits for its sender's name.
    fn takes_messages(&self) -> bool {
        self.output.unwritten_bytes() < OUTPUT_BYTES_MAX && self.look_up.is_none()
    }

    /// Continues with messages whose senders' names were looked up.
    fn poll_look_up(&mut self, context: &mut Context<'_>) -> bool {
        let Some((agent, future)) = &mut self.look_up else { return false };
        let Poll::Ready(name) = future.as_mut().poll(context) else { return false };
        let named = name.map_or_else(|| Named::Unknown(Instant::now()), Named::Name);
        self.door.set_name(*agent, named);
        self.look_up = None;
        for arrived in std::mem::take(&mut self.unnamed) {
            self.deliver(arrived, context);
        }
        true
    }

    /// Writes what was set aside for an agent without its senders' names, before the agent is given up.
    pub(super) fn write_unnamed(&mut self, agent: AgentId) {
        let (own, others) = std::mem::take(&mut self.unnamed).into_iter().partition(|arrived| arrived.agent == agent);
        self.unnamed = others;
        let own: VecDeque<_> = own;
        for arrived in own {
            if let Some(arrived) = self.put_if_reply(arrived) {
                self.put_message(arrived, Naming::IfKnown);
            }
        }
    }

    /// Puts back what was taken for an agent and not written, if it is to be acknowledged.
    pub(super) fn give_back(&mut self, agent: AgentId) {
        self.unnamed.retain(|arrived| arrived.agent != agent || arrived.held.is_none());
        self.output.forget_due(|due| matches!(due, Due::Acknowledge(held) if held.agent() == agent));
    }

    /// Writes a message of one of the client's agents to it, or sets it aside while its sender's name is looked up.
    fn deliver(&mut self, arrived: Arrived, context: &mut Context<'_>) {
        if self.look_up.is_some() {
            return self.unnamed.push_back(arrived);
        }
        if let Some(arrived) = self.put_if_reply(arrived)
            && let Some(unnamed) = self.put_message(arrived, Naming::Always)
        {
            let sender = unnamed.message.sender().unwrap_or(unnamed.agent);
            let router = self.context().router.clone();
            let mut future: Boxed<_> =
                Box::pin(async move { Some(Arc::from(&*router.agent(sender).await.ok()??.name)) });
            match future.as_mut().poll(context) {
                Poll::Ready(name) => {
                    let named = name.map_or_else(|| Named::Unknown(Instant::now()), Named::Name);
                    self.door.set_name(sender, named);
                    self.deliver(unnamed, context);
                }
                Poll::Pending => {
                    self.look_up = Some((sender, future));
                    self.unnamed.push_back(unnamed);
                }
            }
        }
    }

    /// Writes a message to the reply subject that it is for, or passes it on to the connection that asked, if that one has
    /// the same agent. Returns it if it is no reply to anything that is remembered.
    fn put_if_reply(&mut self, arrived: Arrived) -> Option<Arrived> {
        if let Some(to) = arrived.message.in_reply_to().and_then(connection_of)
            && to != self.number
        {
            let post = self.door.posts().get(&to).cloned();
            return match post {
                Some(post) => post.put_reply(arrived),
                None => Some(arrived),
            };
        }
        if !self.put_as_reply(arrived.agent, &arrived.message) {
            return Some(arrived);
        }
        self.hold_until_written(arrived.held);
        None
    }

    /// Has a message acknowledged once everything up to here was written.
    fn hold_until_written(&mut self, held: Option<Held>) {
        if let Some(held) = held {
            self.output.once_written(Due::Acknowledge(held));
        }
    }

    /// Writes a message for this agent to the reply subject that it is for, if it is a reply to one of this client's
    /// messages. What a message repeats can be guessed: only the agent that was asked, and the router, reply to it.
    fn put_as_reply(&mut self, agent: AgentId, message: &Message) -> bool {
        let Some(number) = message.in_reply_to().and_then(|value| number_of(value, self.number)) else { return false };
        let Some(asked) = self.asked.get(number, Instant::now()).filter(|asked| asked.is_answered_by(agent, message))
        else {
            return false;
        };
        let (reply, ack, receiver, at) = (asked.reply.clone(), asked.ack, asked.receiver, asked.at);
        let settles = message.performative() != Performative::Agree;
        if is_notice(message) {
            if let Some(error) = DeliveryError::of_notice(message) {
                self.asked.settle(number);
                let refusal = Refusal::of_delivery_error(&error);
                self.report(&reply, &refusal);
                if ack == Ack::Prompt {
                    self.count_prompt(receiver, at, Some(&refusal.text));
                    if !refusal.means_no_responders() {
                        self.end_prompt(&reply);
                    }
                }
                return true;
            }
            if ack == Ack::Receipt
                && let Some(id) = processed_message(message)
            {
                self.asked.settle(number);
                self.put_acknowledgement(&reply, Ok(id));
                return true;
            }
        }
        if ack == Ack::Prompt && self.put_chunk(number, &reply, message) {
            if is_last_chunk(message) {
                self.count_prompt(receiver, at, None);
            }
            return true;
        }
        let mut headers = Vec::new();
        if self.options.headers && !(settles && render::is_bare_reply(message)) {
            let name = message.sender().and_then(|sender| self.known_name(sender)).flatten();
            render::put_headers(message, name.as_deref(), Kind::Reply, &mut headers);
        }
        if settles {
            self.asked.settle(number);
        }
        self.put_reply(&reply, &headers, message.content().as_bytes());
        if ack == Ack::Prompt {
            let error = String::from_utf8_lossy(message.content().as_bytes()).into_owned();
            self.count_prompt(receiver, at, Some(&error));
            self.end_prompt(&reply);
        }
        true
    }

    /// Counts a prompt that has come to its end.
    fn count_prompt(&self, agent: Option<AgentId>, since: Instant, error: Option<&str>) {
        if let Some(agent) = agent {
            self.door.prompts.count(agent, since.elapsed(), error);
        }
    }

    /// Writes an agent's reply to a prompt. Returns false for one that is an error.
    fn put_chunk(&mut self, number: u32, reply: &[u8], message: &Message) -> bool {
        match message.performative() {
            Performative::Agree => {}
            Performative::Refuse | Performative::Failure | Performative::NotUnderstood => return false,
            performative if performative.asks_for_reply() => {
                let mut subject = Vec::new();
                self.remember(message.clone(), true, &mut subject);
                self.put_reply(reply, &[], prompts::query(message, &subject).as_bytes());
            }
            _ => {
                self.put_reply(reply, &[], prompts::response(message).as_bytes());
                if is_last_chunk(message) {
                    self.asked.settle(number);
                    self.end_prompt(reply);
                }
            }
        }
        true
    }

    /// Remembers a message that the client may reply to, and appends the subject for that.
    fn remember(&mut self, mut message: Message, to_prompt: bool, subject: &mut Vec<u8>) {
        let now = Instant::now();
        // A reply repeats nothing of it.
        message.take_content();
        let bytes = message.weight();
        let number = self.questions.add(Question { message, to_prompt }, bytes, now, now + REPLIES_WITHIN);
        mapping::put_answer_subject(self.number, number, subject);
    }

    /// Describes the agents that can be prompted, all or one of them.
    pub(super) fn describe_agents(&mut self, verb: Verb, found: &[Instance], instance: Option<&[u8]>, reply: &[u8]) {
        let wanted = |id: AgentId| instance.is_none_or(|instance| id.to_string().as_bytes() == instance);
        let door = Arc::clone(&self.door);
        let service = Service { payload_max: door.payload_max(), started: door.started, figures: &door.prompts };
        let mut described = false;
        for agent in found.iter().filter(|agent| wanted(agent.id)) {
            described = true;
            self.put_reply(reply, &[], service.describe(verb, agent).as_bytes());
        }
        if !described {
            self.report(reply, &Refusal::no_responders("no agent offers the capability prompt"));
        }
    }

    /// Returns an agent's name, as far as the door knows; nothing for a client that has chosen none. `None` means that it
    /// has to be looked up.
    #[allow(clippy::option_option)] // Whether it is known, and whether there is one.
    fn known_name(&mut self, agent: AgentId) -> Option<Option<Arc<str>>> {
        if let Some((last, name)) = &self.last_sender
            && *last == agent
        {
            return Some(name.clone());
        }
        let name = match self.door.name_of(agent)? {
            Named::Name(name) => Some(name),
            Named::Anonymous => None,
            Named::Unknown(_) => return Some(None),
        };
        self.last_sender = Some((agent, name.clone()));
        Some(name)
    }

    /// Writes a message to the subscription of the agent that it is for. Returns it if its sender's name has to be looked
    /// up first.
    fn put_message(&mut self, arrived: Arrived, naming: Naming) -> Option<Arrived> {
        let message = &arrived.message;
        let sender = message.sender();
        if !self.options.echo && sender.is_some_and(|sender| self.owns(sender)) {
            self.hold_until_written(arrived.held);
            return None;
        }
        let Some(place) = self.agents.iter().position(|own| own.id == arrived.agent) else {
            // A message for an agent without a subscription is for nobody. One for an agent that the client has given up
            // meanwhile is for its next client.
            match (arrived.held, self.owns(arrived.agent)) {
                (Some(held), true) => held.reject(),
                (held @ Some(_), false) => drop(held),
                (None, true) => self.door.figures.dropped.count("unknown-question"),
                (None, false) => self.door.figures.dropped.count("given-up"),
            }
            return None;
        };
        let mut name = None;
        if self.options.headers
            && let Some(sender) = sender
        {
            name = match (is_notice(message), self.known_name(sender)) {
                (true, _) => Some(Arc::from(ROUTER_NAME)),
                (false, Some(name)) => name,
                (false, None) if naming == Naming::IfKnown => None,
                (false, None) => return Some(arrived),
            };
        }
        let asks = render::wants_reply(message) && !is_notice(message);
        let mut headers = Vec::new();
        if self.options.headers && !(name.is_none() && render::is_bare(message)) {
            let kind = if asks { Kind::Question } else { Kind::Message };
            render::put_headers(message, name.as_deref(), kind, &mut headers);
        }
        let Arrived { message, held, .. } = arrived;
        let subscription = self.agents[place].subscription.as_mut()?;
        let ends = subscription.count();
        if asks {
            let (content, mut reply) = (message.content().clone(), Vec::new());
            self.remember(message, false, &mut reply);
            let subscription = self.agents[place].subscription.as_ref()?;
            self.delivered.count(headers.len() + content.as_bytes().len());
            put_to(self.output.buffer(), subscription, Some(&reply), &headers, content.as_bytes());
        } else {
            self.delivered.count(headers.len() + message.content().len());
            put_to(self.output.buffer(), subscription, None, &headers, message.content().as_bytes());
        }
        self.hold_until_written(held);
        if ends {
            self.leave_agent(place);
        }
        None
    }

    pub(super) fn owns(&self, agent: AgentId) -> bool {
        self.agents.iter().chain(&self.anonymous).any(|own| own.id == agent)
    }
}

fn put_to(output: &mut Vec<u8>, subscription: &Subscription, reply: Option<&[u8]>, headers: &[u8], payload: &[u8]) {
    let (subject, sid) = (&*subscription.subject, &*subscription.sid);
    protocol::put_message(output, &Delivery { subject, sid, reply, headers, payload });
}

/// Returns the next heartbeats that there are.
pub(super) fn next(mut beats: Beats) -> Boxed<Beats> {
    Box::pin(async move {
        // The sender lives as long as the door.
        let _ = beats.changed().await;
        beats
    })
}

/// Whether an agent's reply to a prompt is the last one.
fn is_last_chunk(message: &Message) -> bool {
    let performative = message.performative();
    performative != Performative::Agree && !performative.asks_for_reply() && !prompts::has_more(message)
}

/// Whether a message waits for its sender's name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Naming {
    Always,
    IfKnown,
}

/// What marks the values that replies to messages of this door repeat.
const MARK: u64 = 1 << 63;

/// Returns the value that replies to a message repeat: the numbers of its connection and of its entry there.
pub(super) fn correlation(connection: u32, number: u32) -> Correlation {
    let value = MARK | u64::from(connection) << 32 | u64::from(number);
    Correlation::new(std::num::NonZeroU64::new(value).unwrap_or(std::num::NonZeroU64::MIN))
}

/// Returns the connection that a reply is for.
fn connection_of(value: Correlation) -> Option<u32> {
    (value.get() & MARK != 0).then_some(((value.get() & !MARK) >> 32) as u32)
}

/// Returns the number of the entry that a reply is for, if it is one of this connection.
#[allow(clippy::cast_possible_truncation)] // The halves of a number.
fn number_of(value: Correlation, connection: u32) -> Option<u32> {
    (connection_of(value) == Some(connection)).then_some(value.get() as u32)
}
