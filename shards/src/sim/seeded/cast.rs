//! The agents of a run: their behaviour is determined by the message and by their own character.

use std::num::{NonZeroU8, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::rng::mixed;
use crate::domain::{AgentName, BatchSize, CapabilityName, LifetimeMs, Priority};
use crate::message::notice::is_notice;
use crate::message::{
    AgentId, Choice, ConversationId, ConversationRole, Correlation, Message, MessageBuilder, Performative, Reliability,
    WallTime, WhenUnavailable,
};
use crate::shard::agent::{Agent, Context, Failure, Outcome, Polled, Registration, Supervision};
use crate::shard::io::Now;
use crate::shard::path::dispatch::Batch;
use crate::sim::Delay;
use crate::sim::dice::Dice;

use super::faults::Fault;
use super::ledger::{Promise, RECEIPTS, SharedLedger};
use super::{Options, OwnFactory};

/// The text of all planned panics.
pub(super) const SCRIPTED: &str = "the dice said so";
/// Number of names of the plan's agents. They are reused.
const NAMES: usize = 12;
/// Number of names of inboxes; few enough that an agent may have another inbox than the one that a report is about.
pub(super) const INBOX_NAMES: usize = 6;
const CAPABILITIES: [&str; 2] = ["random.sums", "random.words"];
const TALKS: [&str; 3] = ["talk one", "talk two", "c00000000000000000000000000000007"];
/// Makes contents longer than fits beside the message, or too long for the router.
const PADDING: &str = "long ";
const PADDINGS_MAX: usize = 2_100;
/// Maximum time that a slow handler takes, in milliseconds.
const SLOW_MS_MAX: u64 = 400;

/// The label of every message of the plan, at the end of its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label {
    /// Its number in the order of sending.
    pub stamp: u64,
    /// Whether a handler sent it.
    pub from_handler: bool,
    /// Its origin in the plan, which determines what is done with it.
    lineage: u64,
    /// The number of generations of messages it may still cause.
    hops: u64,
}

impl Label {
    /// Returns the label of a message of the plan.
    pub fn of(message: &Message) -> Option<Self> {
        let mut words = message.content().as_text()?.rsplit(' ');
        let hops = words.next()?.parse().ok()?;
        let lineage = words.next()?.parse().ok()?;
        let (source, stamp) = words.next()?.split_at_checked(1)?;
        Some(Self { stamp: stamp.parse().ok()?, from_handler: source == "h", lineage, hops })
    }

    fn text(self) -> String {
        let source = if self.from_handler { 'h' } else { 'o' };
        format!("{source}{} {} {}", self.stamp, self.lineage, self.hops)
    }
}

/// Panics as planned, without calling the panic hook.
pub(super) fn panic_as_planned() -> ! {
    std::panic::resume_unwind(Box::new(SCRIPTED))
}

/// State shared by all agents of a run.
#[derive(Clone)]
pub(super) struct Cast(Arc<Common>);

struct Common {
    names: Vec<AgentName>,
    inboxes: Vec<AgentName>,
    ids: Vec<AgentId>,
    without: std::collections::BTreeSet<Fault>,
    ledger: SharedLedger,
    delay: Delay,
}

impl Cast {
    pub fn new(options: &Options, ledger: &SharedLedger, delay: Delay) -> Self {
        let name = |text: String| AgentName::try_new(text).expect("a legal name");
        let names: Vec<_> = (0..NAMES).map(|number| name(format!("agent-{number}"))).collect();
        let inboxes: Vec<_> = (0..INBOX_NAMES).map(|number| name(format!("inbox-{number}"))).collect();
        let outside = if options.allows(Fault::Inboxes) { inboxes.as_slice() } else { &[] };
        let own = options.own.agents.iter().map(|(name, _)| name);
        let ids = names.iter().chain(outside).chain(own).map(AgentId::of).collect();
        let without = options.without.clone();
        Self(Arc::new(Common { names, inboxes, ids, without, ledger: ledger.clone(), delay }))
    }

    pub fn allows(&self, fault: Fault) -> bool {
        !self.0.without.contains(&fault)
    }

    pub fn names(&self) -> &[AgentName] {
        &self.0.names
    }

    pub fn inbox_names(&self) -> &[AgentName] {
        &self.0.inboxes
    }

    pub fn agents(&self) -> &[AgentId] {
        &self.0.ids
    }

    pub fn any_agent(&self, dice: &mut Dice) -> AgentId {
        let agent = dice.pick(&self.0.ids);
        if dice.once_in(20) && self.allows(Fault::Strangers) { AgentId::of_text("nobody") } else { agent }
    }

    /// Creates a message to some agent. A number is drawn for each part even if it is left out, so that the parts are
    /// independent.
    pub fn any_message(&self, dice: &mut Dice, from_handler: bool, hops: u64, now: Now) -> (MessageBuilder, Label) {
        let mut label = Label { stamp: self.0.ledger.lock().stamp(), from_handler, lineage: dice.next(), hops };
        let acts = [Performative::Inform, Performative::Request, Performative::Agree, Performative::Failure];
        let mut builder = Message::builder(dice.pick(&acts));
        builder = self.address(&mut Dice::of(label.lineage, 1), builder);
        builder = self.converse(&mut Dice::of(label.lineage, 2), builder);
        builder = self.deliver_how(&mut Dice::of(label.lineage, 3), builder, now);
        let mut dice = Dice::of(label.lineage, 4);
        let padding = dice.index(PADDINGS_MAX);
        let padding = if dice.once_in(10) { PADDING.repeat(padding) } else { String::new() };
        label.lineage = mixed(label.lineage, 5) >> 1;
        (builder.content(padding + &label.text()), label)
    }

    fn address(&self, dice: &mut Dice, builder: MessageBuilder) -> MessageBuilder {
        match dice.below(12) {
            0 => {
                let count = 2 + dice.index(8);
                builder.receivers((0..count).map(|_| self.any_agent(dice)))
            }
            1 | 2 => {
                let choice = dice.pick(&[Choice::Any, Choice::All, Choice::RoundRobin, Choice::LeastLoaded]);
                builder.capability(&any_capability(dice), choice)
            }
            3 if dice.once_in(4) && self.allows(Fault::Strangers) => builder,
            _ => builder.receiver(self.any_agent(dice)),
        }
    }

    fn converse(&self, dice: &mut Dice, builder: MessageBuilder) -> MessageBuilder {
        if !dice.once_in(3) {
            return builder;
        }
        let talk = dice.pick(&TALKS);
        let id = ConversationId::of_text(talk);
        match dice.below(12) {
            0..=5 => builder.conversation(id),
            6 => builder.conversation_as(id, ConversationRole::Participant),
            7 => builder.conversation_as(id, ConversationRole::Member),
            8 => builder.conversation_of(id, self.any_agent(dice)),
            _ => builder.conversation_text(talk),
        }
    }

    fn deliver_how(&self, dice: &mut Dice, mut builder: MessageBuilder, now: Now) -> MessageBuilder {
        let lifetime = |milliseconds| LifetimeMs::try_new(milliseconds).expect("a legal lifetime");
        builder = builder.priority(dice.pick(&[Priority::Low, Priority::Normal, Priority::High, Priority::Urgent]));
        let [receipt, short, later, durable, attempts, correlated, wanted, impatient] =
            [4, 3, 8, 8, 6, 4, 4, 3].map(|times| dice.once_in(times).then(|| dice.next()));
        if let Some(number) = receipt {
            builder = builder.receipt(Dice::new(number).pick(&RECEIPTS));
        }
        if let Some(number) = short.filter(|_| self.allows(Fault::Deadlines)) {
            builder = builder.time_to_live(lifetime(Dice::new(number).between(1_000, 3_000)));
        }
        if let Some(number) = later.filter(|_| self.allows(Fault::Deadlines)) {
            builder = builder.deliver_at(WallTime(now.wall.0 + Dice::new(number).below(2_000)));
        }
        if let Some(number) = wanted.filter(|_| self.allows(Fault::Deadlines)) {
            builder = builder.reply_by(WallTime(now.wall.0 + Dice::new(number).below(3_000)));
        }
        if durable.is_some() && self.allows(Fault::Durable) {
            builder = builder.reliability(Reliability::Durable);
        }
        if impatient.is_some() {
            builder = builder.when_unavailable(WhenUnavailable::FailFast);
        }
        if let Some(number) = attempts {
            let attempts = 1 + u8::try_from(number % 3).unwrap_or(0);
            builder = builder.attempts_max(NonZeroU8::new(attempts).unwrap_or(NonZeroU8::MIN));
        }
        if let Some(number) = correlated {
            builder = builder.reply_with(Correlation::new(NonZeroU64::new(1 + number % 5).unwrap_or(NonZeroU64::MIN)));
        }
        builder
    }

    /// Returns the registration of one of the plan's agents, with a character.
    pub fn member(&self, name: AgentName, character: u64) -> Registration {
        let cast = self.clone();
        let mut dice = Dice::of(character, 1);
        let offers = dice.once_in(3).then(|| any_capability(&mut dice));
        let calls = Arc::new(AtomicU64::new(0));
        let member = Registration::native(name, move || Member::new(cast.clone(), character, Arc::clone(&calls)));
        offers.into_iter().fold(member, Registration::offering)
    }

    /// Returns the registration of an agent of the caller.
    pub fn own(&self, name: AgentName, make: OwnFactory) -> Registration {
        let ledger = self.0.ledger.clone();
        Registration::native(name, move || Watched { agent: make(), ledger: ledger.clone() })
    }
}

pub(super) fn any_capability(dice: &mut Dice) -> CapabilityName {
    CapabilityName::try_new(dice.pick(&CAPABILITIES)).expect("a legal capability")
}

/// The protocol of the agents' conversations.
const PLAYED_PROTOCOL: &str = "fipa-request";
/// Acts that this protocol allows in none of its states.
const NEVER_ALLOWED: [Performative; 3] = [Performative::Propose, Performative::AcceptProposal, Performative::Subscribe];

/// Something that an agent does besides sending messages.
struct Deed {
    weight: u32,
    /// The fault that has to be enabled.
    fault: Option<Fault>,
    act: fn(&mut Member, &mut Context<'_>, &mut Dice),
}

/// The agents' deeds. A new deed only needs a line here.
const DEEDS: [Deed; 8] = [
    Deed { weight: 29, fault: None, act: |_, _, _| {} },
    Deed {
        weight: 2,
        fault: None,
        act: |_, context, dice| {
            context.close_conversation(ConversationId::of_text(dice.pick(&TALKS)));
        },
    },
    Deed {
        weight: 2,
        fault: Some(Fault::Membership),
        act: |member, context, dice| {
            let name = member.cast.names()[dice.index(NAMES)].clone();
            context.register(member.cast.member(name, dice.next()));
        },
    },
    Deed { weight: 1, fault: Some(Fault::Membership), act: |_, context, _| context.deregister() },
    Deed {
        weight: 3,
        fault: None,
        act: |_, context, dice| {
            context.advertise(&any_capability(dice)).expect("the vocabulary has room for two words");
        },
    },
    Deed { weight: 1, fault: None, act: |_, context, dice| context.withdraw(&any_capability(dice)) },
    Deed { weight: 1, fault: None, act: |_, context, _| context.poll_me() },
    Deed {
        weight: 1,
        fault: None,
        act: |member, context, dice| {
            let found = context.discover(&any_capability(dice));
            member.cast.0.ledger.lock().note_text(&format!("{found:?}"));
        },
    },
];

/// One of the plan's agents.
struct Member {
    cast: Cast,
    character: u64,
    /// Whether it fails rarely.
    gentle: bool,
    /// The number of calls without a message so far, each of which acts differently. Calls before a restart count too,
    /// or the agent would forever repeat what made it fail.
    calls: Arc<AtomicU64>,
    /// What the running handler has sent.
    sent: Vec<Promise>,
}

impl Member {
    fn new(cast: Cast, character: u64, calls: Arc<AtomicU64>) -> Self {
        if cast.allows(Fault::Panics) && Dice::of(character, 2).once_in(60) {
            panic_as_planned();
        }
        Self { gentle: Dice::of(character, 3).once_in(2), cast, character, calls, sent: Vec::new() }
    }

    fn has(&self, trait_number: u64, times: u64) -> bool {
        Dice::of(self.character, trait_number).once_in(times)
    }

    /// Returns the dice for the next call that is not about a message.
    fn next_call(&mut self, kind: u64) -> Dice {
        Dice::of(mixed(self.character, kind), self.calls.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a message and records the result.
    fn send(&mut self, context: &mut Context<'_>, builder: MessageBuilder) {
        let message = builder.build().expect("the plan makes valid messages");
        let (label, receiver) = (Label::of(&message), message.receiver().clone());
        let result = context.send(message);
        let mut ledger = self.cast.0.ledger.lock();
        match result {
            Ok(id) => {
                ledger.note_text(&id.to_string());
                self.sent.push(ledger.promised(id, &receiver));
            }
            Err(rejected) => {
                ledger.note_text(&rejected.to_string());
                if Label::of(rejected.message()) != label {
                    ledger.complain(|| format!("another message was given back than was refused: {rejected:?}"));
                }
            }
        }
    }

    fn act(&mut self, context: &mut Context<'_>, message: Option<&Message>, dice: &mut Dice) {
        let hops = message.and_then(Label::of).map_or(u64::from(message.is_none()), |label| label.hops);
        let (count, replies) = (dice.below(4), dice.once_in(2));
        for _ in 0..count.min(hops * 4) {
            let mut dice = Dice::new(dice.next());
            let (builder, _) = self.cast.any_message(&mut dice, true, hops.saturating_sub(1), context.now());
            self.send(context, builder);
        }
        let lineage = dice.next();
        let mut protocol = Dice::of(lineage, 7);
        // Messages in a protocol have no hops left, and the end of a conversation begins none with a protocol, so that
        // conversations do not cause each other endlessly.
        if message.is_some() && hops > 0 && protocol.once_in(3) && self.cast.allows(Fault::Protocols) {
            self.begin_protocol(context, &mut protocol);
        }
        if let Some(message) = message
            && hops > 0
            && replies
        {
            let stamp = self.cast.0.ledger.lock().stamp();
            let label = Label { stamp, from_handler: true, lineage, hops: hops - 1 };
            let reply = context.reply(message, Performative::Inform).content(label.text());
            self.send(context, reply);
        }
        let mut choice = u32::try_from(dice.below(u64::from(DEEDS.iter().map(|deed| deed.weight).sum::<u32>())));
        for deed in &DEEDS {
            let Ok(left) = choice else { return };
            if left < deed.weight {
                if deed.fault.is_none_or(|fault| self.cast.allows(fault)) {
                    (deed.act)(self, context, dice);
                }
                return;
            }
            choice = Ok(left - deed.weight);
        }
    }

    /// Sends a request by SC00026, and sometimes immediately a forbidden message.
    fn begin_protocol(&mut self, context: &mut Context<'_>, dice: &mut Dice) {
        let (receiver, id) = (self.cast.any_agent(dice), context.new_conversation());
        let say = |act| Message::builder(act).receiver(receiver).conversation(id).protocol(PLAYED_PROTOCOL);
        self.say_in_protocol(context, say(Performative::Request), None, dice);
        if dice.once_in(4) {
            self.say_in_protocol(context, say(dice.pick(&NEVER_ALLOWED)), Some(id), dice);
        }
    }

    /// Replies to a request by SC00026, with or without an agree, and with forbidden messages in between.
    fn go_on_in_protocol(&mut self, message: &Message, context: &mut Context<'_>, dice: &mut Dice) {
        let result = dice.pick(&[Performative::Inform, Performative::Failure]);
        let answers: &[Performative] = match dice.below(4) {
            0 => &[Performative::Refuse],
            1 => &[result],
            2 => &[Performative::Agree],
            _ => &[Performative::Agree, result],
        };
        for act in answers {
            if dice.once_in(4) {
                let broken = context.reply(message, dice.pick(&NEVER_ALLOWED));
                self.say_in_protocol(context, broken, message.conversation(), dice);
            }
            let reply = context.reply(message, *act);
            self.say_in_protocol(context, reply, None, dice);
        }
    }

    /// Sends a message that may violate the protocol of a conversation.
    fn say_in_protocol(
        &mut self,
        context: &mut Context<'_>,
        builder: MessageBuilder,
        breaks: Option<ConversationId>,
        dice: &mut Dice,
    ) {
        let stamp = self.cast.0.ledger.lock().stamp();
        let label = Label { stamp, from_handler: true, lineage: dice.next() >> 1, hops: 0 };
        let before = self.sent.len();
        self.send(context, builder.content(label.text()));
        if let (Some(promise), Some(conversation)) = (self.sent.get(before), breaks) {
            self.cast.0.ledger.lock().broken.insert(promise.id, conversation);
        }
    }

    /// Handles or resumes a message, and returns the outcome.
    fn handle_once(&mut self, message: &Message, context: &mut Context<'_>, attempt: u64) -> Outcome {
        let lineage = Label::of(message).map_or_else(
            || mixed(self.character, message.content().len() as u64),
            |label| mixed(label.lineage, context.id().table_bits()),
        );
        let mut dice = Dice::of(lineage, attempt);
        if !is_notice(message) {
            self.act(context, Some(message), &mut dice);
        }
        let outcome = self.outcome(&mut Dice::of(lineage, attempt ^ (1 << 40)));
        match outcome {
            Outcome::Done => {
                // Only now, because a suspended message is handled again and must not be replied to twice.
                if message.protocol() == Some(PLAYED_PROTOCOL) && message.performative() == Performative::Request {
                    self.go_on_in_protocol(message, context, &mut dice);
                }
                let mut sent = std::mem::take(&mut self.sent);
                self.cast.0.ledger.lock().done(context.id(), message, &mut sent);
            }
            Outcome::Failed(_) => self.sent.clear(),
            Outcome::Suspended => {}
        }
        outcome
    }

    fn outcome(&mut self, dice: &mut Dice) -> Outcome {
        let (slow, slow_ms) = (dice.once_in(40), dice.below(SLOW_MS_MAX));
        if slow && self.cast.allows(Fault::Slow) {
            self.cast.0.delay.spend(slow_ms);
        }
        match dice.below(if self.gentle { 100 } else { 24 }) {
            0 | 1 if self.cast.allows(Fault::Failing) => Outcome::failed(SCRIPTED),
            2 if self.cast.allows(Fault::Panics) => panic_as_planned(),
            3 | 4 if self.cast.allows(Fault::Suspended) => Outcome::Suspended,
            _ => Outcome::Done,
        }
    }

    fn first_attempt(&mut self, message: &Message, context: &Context<'_>) -> u64 {
        // What an attempt that panicked had sent is lost with the agent.
        self.sent.clear();
        u64::from(self.cast.0.ledger.lock().handled(context.id(), context.now(), message)) << 20
    }
}

impl Agent for Member {
    fn started(&mut self, context: &mut Context<'_>) {
        if !self.has(4, 3) {
            return;
        }
        let mut dice = self.next_call(1);
        self.act(context, None, &mut dice);
        if dice.once_in(10) && self.cast.allows(Fault::Panics) {
            panic_as_planned();
        }
        let mut sent = std::mem::take(&mut self.sent);
        self.cast.0.ledger.lock().promise(&mut sent);
    }

    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let attempt = self.first_attempt(message, context);
        self.handle_once(message, context, attempt)
    }

    fn handle_batch(&mut self, batch: &mut Batch<'_>) {
        let unsteady = self.has(5, 4);
        let most = if unsteady { batch.remaining() } else { usize::MAX };
        for _ in 0..most {
            let Some((message, mut context)) = batch.next() else { break };
            let attempt = self.first_attempt(message, &context);
            let outcome = self.handle_once(message, &mut context, attempt);
            // What is not settled counts as done.
            match self.next_call(2).below(8) {
                0 if unsteady && outcome == Outcome::Done => return,
                1 if unsteady && outcome == Outcome::Done => {}
                _ => batch.settle(outcome),
            }
        }
    }

    fn batch_size(&self) -> Option<BatchSize> {
        let size = Dice::of(self.character, 6).between(1, 4);
        self.has(7, 3).then(|| BatchSize::try_new(size).expect("a legal batch"))
    }

    fn resume(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        self.cast.0.ledger.lock().note_text(&format!("again {}", context.id()));
        let attempt = self.next_call(3).next();
        self.handle_once(message, context, attempt)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        let mut dice = self.next_call(4);
        self.sent.clear();
        self.act(context, None, &mut dice);
        if dice.once_in(10) && self.cast.allows(Fault::Panics) {
            panic_as_planned();
        }
        let mut sent = std::mem::take(&mut self.sent);
        self.cast.0.ledger.lock().promise(&mut sent);
        dice.pick(&[Polled::Worked, Polled::Waiting, Polled::Finished, Polled::Finished])
    }

    fn supervise(&mut self, _: &Failure) -> Supervision {
        match self.next_call(5).below(10) {
            0 if self.cast.allows(Fault::Membership) => Supervision::Stop,
            1..=3 => Supervision::Restart,
            4 if self.cast.allows(Fault::Panics) => panic_as_planned(),
            _ => Supervision::Resume,
        }
    }

    fn stopped(&mut self) {
        if self.has(8, 10) && self.cast.allows(Fault::Panics) {
            panic_as_planned();
        }
    }
}

/// An agent of the caller, recorded like those of the plan.
struct Watched {
    agent: Box<dyn Agent>,
    ledger: SharedLedger,
}

impl Watched {
    fn settled(&self, agent: AgentId, message: &Message, outcome: Outcome) -> Outcome {
        if outcome == Outcome::Done {
            self.ledger.lock().done(agent, message, &mut Vec::new());
        }
        outcome
    }
}

impl Agent for Watched {
    fn started(&mut self, context: &mut Context<'_>) {
        self.agent.started(context);
    }

    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        self.ledger.lock().handled(context.id(), context.now(), message);
        let outcome = self.agent.handle(message, context);
        self.settled(context.id(), message, outcome)
    }

    fn batch_size(&self) -> Option<BatchSize> {
        self.agent.batch_size()
    }

    fn resume(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let outcome = self.agent.resume(message, context);
        self.settled(context.id(), message, outcome)
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        self.agent.poll(context)
    }

    fn supervise(&mut self, failure: &Failure) -> Supervision {
        self.agent.supervise(failure)
    }

    fn stopped(&mut self) {
        self.agent.stopped();
    }
}
