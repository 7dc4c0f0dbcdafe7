//! Subscriptions: to agents, which register them, and to subjects for replies.

use std::sync::Arc;

use caxton_shards::domain::AgentName;

use super::{Connection, INBOX, Own, SUBSCRIPTIONS_MAX, Source, Step, Subscription};
use crate::edge::doors::{Attachment, OutsideError, OutsideOptions};
use crate::edge::nats::{Named, mapping, protocol, subjects};

impl Connection {
    pub(super) fn subscribe(&mut self, subject: &[u8], sid: &[u8]) {
        if !subjects::is_pattern(subject) {
            return protocol::put_error(&mut self.output, "Invalid Subject");
        }
        if self.agents.len() + self.replies.len() >= SUBSCRIPTIONS_MAX {
            return self.refuse_subscription(subject, &format!("the limit is {SUBSCRIPTIONS_MAX} subscriptions"));
        }
        if subject.starts_with(INBOX) {
            let (subject, sid) = (subject.into(), sid.into());
            self.replies.push(Subscription { subject, sid, delivered: 0, ends_after: None });
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
            let options = OutsideOptions::default();
            context.outside.register(&context.router, &identity, &registered, options).await
        });
        self.step = Some(Step::Register { future, name, subject: subject.into(), sid: sid.into() });
    }

    pub(super) fn finish_registration(
        &mut self,
        registered: Result<Attachment, OutsideError>,
        name: &AgentName,
        subject: Box<[u8]>,
        sid: Box<[u8]>,
    ) {
        match registered {
            Ok(attachment) => {
                let name: Arc<str> = name.as_str().into();
                let id = attachment.agent().inbox().id();
                self.door.set_name(id, Named::Name(Arc::clone(&name)));
                let subscription = Some(Subscription { subject, sid, delivered: 0, ends_after: None });
                self.agents.push(Own { id, name, inbox: Source::Attached(attachment), wait: None, subscription });
            }
            Err(error) => self.refuse_subscription(&subject, &error.to_string()),
        }
    }

    fn refuse_subscription(&mut self, subject: &[u8], why: &str) {
        let subject = String::from_utf8_lossy(subject);
        protocol::put_error(
            &mut self.output,
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
        if let Some(place) = self.agents.iter().position(of_sid)
            && self.agents[place].subscription.as_mut().is_some_and(ended)
        {
            self.leave_agent(place);
        }
    }

    /// Gives up an agent for good: without another client it is deregistered.
    pub(super) fn leave_agent(&mut self, place: usize) {
        let own = self.agents.remove(place);
        if let Source::Attached(attachment) = own.inbox {
            let agent = Arc::clone(attachment.agent());
            drop(attachment);
            if agent.clients() == 0 {
                self.context().outside.deregister(agent.name());
            }
        }
    }
}
