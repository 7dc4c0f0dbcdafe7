//! Subscriptions: to agents, which register them, and to subjects for replies.

use std::sync::Arc;

use caxton_shards::domain::AgentName;
use caxton_shards::message::AgentId;
use serde_json::Value;

use super::deliver::next;
use super::held::{Due, Leaving};
use super::{Connection, INBOX, Own, SUBSCRIPTIONS_MAX, Source, Step, Subscription};
use crate::edge::doors::{Attachment, OutsideError, OutsideOptions};
use crate::edge::nats::{HandOver, Named, mapping, prompts, protocol, subjects};

impl Connection {
    pub(super) fn subscribe(&mut self, wanted: &Subscription) {
        let subject = &*wanted.subject;
        let has_sid = |other: &Subscription| other.sid == wanted.sid;
        // As other servers do: a number stands for its first subscription.
        if self.replies.iter().chain(self.agents.iter().filter_map(|own| own.subscription.as_ref())).any(has_sid) {
            return;
        }
        if !subjects::is_pattern(subject) {
            return protocol::put_error(self.output.buffer(), "Invalid Subject");
        }
        if self.agents.len() + self.replies.len() >= SUBSCRIPTIONS_MAX {
            return self.refuse_subscription(subject, &format!("the limit is {SUBSCRIPTIONS_MAX} subscriptions"));
        }
        if subject.starts_with(INBOX) || subject.starts_with(prompts::HEARTBEAT) {
            self.replies.push(wanted.clone());
            if subject.starts_with(prompts::HEARTBEAT) && self.beats.is_none() {
                self.beats = Some(next(self.door.heartbeats.subscribe()));
            }
            return;
        }
        let Some(encoded) = subject.strip_prefix(mapping::AGENT).filter(|_| !subjects::has_wildcard(subject)) else {
            let text = "subscribe to agent.NAME for the messages of an agent, and to _INBOX.> for replies";
            return self.refuse_subscription(subject, text);
        };
        let name = subjects::decode(encoded).and_then(|name| AgentName::try_new(name.into_owned()).ok());
        let Some(name) = name else { return self.refuse_subscription(subject, "the name is not legal") };
        if self.agents.iter().any(|own| *own.name == *name.as_str()) {
            return self.refuse_subscription(subject, "this connection has subscribed to it");
        }
        let Some(identity) = self.identity.clone() else { return };
        let (context, registered) = (Arc::clone(&self.door.context), name.clone());
        let future = Box::pin(async move {
            let is_new = context.outside.get(&registered).is_none();
            let options = OutsideOptions::default();
            let result = context.outside.register(&context.router, &identity, &registered, options).await;
            if is_new || result.is_err() {
                let outcome = result.as_ref().map_or_else(|error| error.reason().word, |_| "done");
                context.audit.note(identity.name(), "agents.register", registered.as_str(), outcome, Value::Null).await;
            }
            result
        });
        self.step = Some(Step::Register { future, name, wanted: wanted.clone() });
    }

    pub(super) fn finish_registration(
        &mut self,
        registered: Result<Attachment, OutsideError>,
        name: &AgentName,
        wanted: Subscription,
    ) {
        match registered {
            Ok(attachment) => {
                let name: Arc<str> = name.as_str().into();
                let id = attachment.agent().inbox().id();
                self.door.set_name(id, Named::Name(Arc::clone(&name)));
                self.post.add_agent(id);
                let handed_over = if wanted.shares { None } else { self.door.take_over(id, self.number) };
                let subscription = Some(wanted);
                let agent = Arc::clone(attachment.agent());
                let gone = Box::pin(async move { agent.gone().await });
                let inbox = Source::Attached(attachment, gone);
                let flow = self.door.flows.of(id);
                self.agents.push(Own { id, name, inbox, wait: None, handed_over, flow, subscription });
            }
            Err(error) => self.refuse_subscription(&wanted.subject, &error.to_string()),
        }
    }

    fn refuse_subscription(&mut self, subject: &[u8], why: &str) {
        self.door.figures.refused.count("subscription");
        self.deny_subscription(subject, why);
    }

    /// Tells the client that there is no subscription, or no more.
    fn deny_subscription(&mut self, subject: &[u8], why: &str) {
        let subject = String::from_utf8_lossy(subject);
        protocol::put_error(
            self.output.buffer(),
            &format!("Permissions Violation for Subscription to \"{subject}\": {why}"),
        );
    }

    pub(super) fn unsubscribe(&mut self, sid: &[u8], after: Option<u64>) {
        let ended = |subscription: &mut Subscription| {
            subscription.ends_after = after;
            after.is_none_or(|after| subscription.delivered >= after)
        };
        if let Some(place) = self.replies.iter().position(|subscription| *subscription.sid == *sid) {
            if ended(&mut self.replies[place]) {
                self.replies.remove(place);
            }
            return;
        }
        let of_sid = |own: &Own| own.subscription.as_ref().is_some_and(|subscription| *subscription.sid == *sid);
        if let Some(place) = self.agents.iter().position(of_sid) {
            self.write_unnamed(self.agents[place].id);
        }
        if let Some(place) = self.agents.iter().position(of_sid)
            && self.agents[place].subscription.as_mut().is_some_and(ended)
        {
            self.leave_agent(place);
        }
    }

    /// Gives up an agent that another connection has taken over: that one is handed what was not written.
    pub(super) fn hand_agent_over(&mut self, agent: AgentId, hand_over: HandOver) {
        self.give_back(agent);
        let own = self.agents.iter_mut().find(|own| own.id == agent);
        if let Some(former) = own.and_then(|own| own.handed_over.take()) {
            // The connection before this one comes first.
            tokio::spawn(async move {
                let _ = former.await;
                drop(hand_over);
            });
        }
        self.lose_agent(agent, "another connection has subscribed to it");
    }

    /// Gives up an agent that another connection has, or that is registered no longer.
    pub(super) fn lose_agent(&mut self, agent: AgentId, why: &str) {
        self.write_unnamed(agent);
        if let Some(place) = self.agents.iter().position(|own| own.id == agent) {
            let subject = self.agents.remove(place).subscription.map(|subscription| subscription.subject);
            self.door.forget_subscriber(agent, self.number);
            self.post.remove_agent(agent);
            self.deny_subscription(&subject.unwrap_or_default(), why);
        }
    }

    /// Gives up an agent for good: without another client it is deregistered, once what it was sent has been written.
    pub(super) fn leave_agent(&mut self, place: usize) {
        let own = self.agents.remove(place);
        self.door.forget_subscriber(own.id, self.number);
        self.post.remove_agent(own.id);
        if let Source::Attached(attachment, _) = own.inbox {
            let leaving = Leaving::new(attachment, &self.door);
            if self.output.has_due(|due| due.agent() == own.id) {
                self.output.once_written(Due::Leave(own.id, leaving));
            }
        }
    }
}
