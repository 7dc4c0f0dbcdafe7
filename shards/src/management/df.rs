//! The directory facilitator: an agent that maintains which agents provide which services.

use std::collections::BTreeMap;

use super::Platform;
use super::description::AgentDescription;
use super::directory::{Act, Directory};
use super::exception::Exception;
use super::request::{Action, Observer, Replies, read_action, read_content, unknown_act};
use super::subscription::{Subscription, read_search};
use crate::codec::sl::Term;
use crate::message::notice::is_notice;
use crate::message::{Message, Performative, WallTime};
use crate::shard::agent::{Agent, Context, Outcome, Polled};
use crate::shard::control::admin::{AdminReply, AdminRequest};

/// Maximum time between checks for expired leases, in milliseconds: wall time may be adjusted.
const LEASES_LOOKED_AT_MS_MAX: u64 = 60_000;
const ACTS: &str = "register, deregister, modify and search";

/// The directory facilitator of a platform.
pub struct Df {
    directory: Directory,
    subscriptions: Vec<Subscription>,
    subscriptions_max: usize,
    replies: Replies,
    /// Changes that are confirmed once every shard knows them.
    unconfirmed: BTreeMap<AdminRequest, (Message, Term)>,
    wakes_at_ms: Option<u64>,
}

impl Df {
    /// Creates an empty directory facilitator.
    pub fn new(platform: Platform) -> Self {
        Self {
            subscriptions_max: platform.subscriptions.as_usize(),
            directory: Directory::new(platform),
            subscriptions: Vec::new(),
            replies: Replies::default(),
            unconfirmed: BTreeMap::new(),
            wakes_at_ms: None,
        }
    }

    /// Adds an observer of its replies.
    #[must_use]
    pub fn observed(mut self, observer: impl Observer + 'static) -> Self {
        self.replies.observe(Box::new(observer));
        self
    }

    fn request(&mut self, message: &Message, context: &mut Context<'_>) {
        let action = match read_content(message).and_then(|content| read_action(&content)) {
            Ok(action) => action,
            Err(why) => return self.replies.except(message, None, &why, context),
        };
        if let Err(why) = self.perform(message, &action, context) {
            self.replies.except(message, Some(&action.action), &why, context);
        }
    }

    fn perform(&mut self, message: &Message, action: &Action, context: &mut Context<'_>) -> Result<(), Exception> {
        let now = context.now().wall;
        let Action { action, act } = action;
        if let Some((template, constraints)) = read_search(act, now)? {
            let found = self.directory.search(&template, &constraints);
            self.replies.agree(message, action, context);
            let found = Term::Set(found.iter().map(AgentDescription::term).collect());
            self.replies.result(message, action, found, context);
            return Ok(());
        }
        let act = read_act(act, now)?;
        let (Some(requester), Some(agent)) = (message.sender(), act.agent()) else {
            return Err(Exception::MissingParameter { object: "df-agent-description", parameter: "name" });
        };
        self.directory.judge(&act, requester, now)?;
        let offers = self.directory.apply(act, requester);
        self.replies.agree(message, action, context);
        // Also without services: from then on the agent's end is reported, which ends the description.
        match context.change_offers_of(agent, &offers.offered, &offers.withdrawn) {
            Ok(inquiry) => {
                self.unconfirmed.insert(inquiry, (message.clone(), action.clone()));
            }
            Err(why) => {
                let why =
                    format!("the description is kept, but its capabilities were not changed: {why}; try to modify it");
                self.replies.except(message, Some(action), &Exception::InternalError(why.into()), context);
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, message: &Message, context: &mut Context<'_>) {
        let read = read_content(message).and_then(|content| {
            if self.subscriptions.len() >= self.subscriptions_max {
                let explanation = format!("there are as many subscriptions as allowed: {}", self.subscriptions_max);
                return Err(Exception::InternalError(explanation.into()));
            }
            Subscription::read(message, &content, context.now().wall)
        });
        let subscription = match read {
            Ok(subscription) => subscription,
            Err(why) => return self.replies.except(message, None, &why, context),
        };
        let found = self.directory.search(&subscription.template, &subscription.constraints);
        self.replies.say(message, Performative::Agree, std::slice::from_ref(&subscription.expression), context);
        // Existing matches are reported even if there are none, so that the subscriber knows the initial state.
        self.replies.answer(message, Performative::Inform, &[subscription.says(&found)], context);
        self.subscriptions.push(subscription);
        self.directory.remember_changes(true);
    }

    fn cancel(&mut self, message: &Message, context: &mut Context<'_>) {
        let meant = |subscription: &Subscription| {
            subscription.is_meant_by(message.sender(), message.conversation(), message.in_reply_to())
        };
        let action = read_content(message).ok().and_then(|content| content.into_iter().next());
        let action = action.unwrap_or_else(|| Term::of("cancel"));
        match self.subscriptions.iter().position(meant) {
            Some(place) => {
                self.end_subscription(place);
                self.replies.done(message, &action, context);
            }
            None => self.replies.except(message, Some(&action), &Exception::NotRegistered, context),
        }
    }

    fn end_subscription(&mut self, place: usize) {
        self.subscriptions.remove(place);
        if self.subscriptions.is_empty() {
            self.directory.remember_changes(false);
        }
    }

    /// Removes the subscriptions of an agent that cannot be reached.
    fn hear_failure(&mut self, message: &Message) {
        let (conversation, mark) = (message.conversation(), message.in_reply_to());
        let meant =
            |subscription: &Subscription| subscription.is_meant_by(subscription.question.sender(), conversation, mark);
        if let (Performative::Failure, Some(place)) =
            (message.performative(), self.subscriptions.iter().position(meant))
        {
            self.end_subscription(place);
        }
    }

    /// Processes everything that happened since the last call.
    fn catch_up(&mut self, context: &mut Context<'_>) {
        self.replies.flush(context);
        for news in context.take_news() {
            self.directory.hear(&news);
        }
        for (inquiry, reply) in context.take_admin_replies() {
            if let (Some((question, action)), AdminReply::Changed(_)) = (self.unconfirmed.remove(&inquiry), reply) {
                self.replies.done(&question, &action, context);
            }
        }
        for (agent, offers) in self.directory.expire(context.now().wall) {
            // Beyond the limit of inquiries the agent keeps its capabilities; the description is gone.
            let _ = context.change_offers_of(agent, &offers.offered, &offers.withdrawn);
        }
    }

    /// Informs subscribers of changes, and arranges to be called when the next lease expires.
    fn settle(&mut self, context: &mut Context<'_>) {
        let changes = self.directory.take_changes();
        if !changes.is_empty() {
            self.tell_subscribers(&changes, context);
        }
        let now = context.now();
        if let Some(WallTime(until)) = self.directory.next_lease() {
            let wait_ms = until.saturating_sub(now.wall.0).clamp(1, LEASES_LOOKED_AT_MS_MAX);
            let moment_ms = now.monotonic_ms() + wait_ms;
            if self.wakes_at_ms.is_none_or(|wakes_at_ms| wakes_at_ms <= now.monotonic_ms() || moment_ms < wakes_at_ms) {
                self.wakes_at_ms = Some(moment_ms);
                context.wake_at(moment_ms);
            }
        }
    }

    fn tell_subscribers(&mut self, changes: &[(AgentDescription, AgentDescription)], context: &mut Context<'_>) {
        let mut place = 0;
        while let Some(subscription) = self.subscriptions.get(place) {
            let brings = subscription.brings(changes);
            if brings.is_empty() {
                place += 1;
            } else if self.replies.are_many() {
                let why = Exception::InternalError("the subscription ends, because too many notifications wait".into());
                let (question, terms) = (subscription.question.clone(), [subscription.expression.clone(), why.term()]);
                self.replies.say(&question, Performative::Failure, &terms, context);
                self.end_subscription(place);
            } else {
                let (question, terms) = (subscription.question.clone(), subscription.says(&brings));
                self.replies.say(&question, Performative::Inform, &[terms], context);
                place += 1;
            }
        }
    }
}

impl Agent for Df {
    fn started(&mut self, context: &mut Context<'_>) {
        context.watch_providers();
    }

    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        self.catch_up(context);
        match message.performative() {
            _ if is_notice(message) => self.hear_failure(message),
            Performative::Request => self.request(message, context),
            Performative::Subscribe => self.subscribe(message, context),
            Performative::Cancel => self.cancel(message, context),
            other => self.replies.do_not_understand(message, other, context),
        }
        self.settle(context);
        Outcome::Done
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        self.catch_up(context);
        self.settle(context);
        Polled::Finished
    }
}

type Make = fn(AgentDescription) -> Act;

/// Reads the action on a description.
fn read_act(act: &Term, now: WallTime) -> Result<Act, Exception> {
    let makers: [(&str, Make); 3] =
        [("register", Act::Register), ("modify", Act::Modify), ("deregister", Act::Deregister)];
    for (head, make) in makers {
        if act.arguments_of(head).is_some() {
            let [description] = act.parts_of(head).ok_or(Exception::UnexpectedArgumentCount)?;
            return Ok(make(AgentDescription::read(description, now)?));
        }
    }
    Err(unknown_act(act, ACTS))
}
