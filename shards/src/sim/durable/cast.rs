//! The agents of a run: their behaviour is determined by the message, the seed and the time.

use std::num::NonZeroU64;

use crate::base::rng::mixed;
use crate::domain::AgentName;
use crate::message::notice::is_notice;
use crate::message::{AgentId, ConversationId, Correlation, Message, MessageBuilder, Performative, Reliability};
use crate::shard::agent::{Context, Outcome, Registration};
use crate::sim::Script;

use super::label::Label;
use super::ledger::SharedLedger;
use super::plan::{Kind, Plan};

/// Number of agents in a chain.
const STAGES: u64 = 3;
/// Number of agents of each sort.
pub(super) const WIDTH: u64 = 3;
/// The leg of a message that has only one.
const ONLY: u8 = 0;
/// The reply to the cancel of a subscription.
const CANCELLED: u8 = 2;

/// An agent's behaviour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sort {
    /// Forwards a chain to the next stage.
    Stage(u64),
    /// Begins conversations.
    Asker,
    /// Takes part in conversations.
    Helper,
    /// Is registered and deregistered repeatedly.
    Guest,
    /// The world sends in its name. It receives nothing, so that nobody waits for it.
    Sender,
}

impl Sort {
    pub const ALL: [Self; 7] =
        [Self::Stage(0), Self::Stage(1), Self::Stage(2), Self::Asker, Self::Helper, Self::Guest, Self::Sender];
}

pub(super) fn name(sort: Sort, number: u64) -> AgentName {
    let text = match sort {
        Sort::Stage(stage) => format!("stage-{stage}-{number}"),
        Sort::Asker => format!("asker-{number}"),
        Sort::Helper => format!("helper-{number}"),
        Sort::Guest => format!("guest-{number}"),
        Sort::Sender => format!("sender-{number}"),
    };
    AgentName::try_new(text).expect("a legal name")
}

pub(super) fn agent(sort: Sort, number: u64) -> AgentId {
    AgentId::of(&name(sort, number))
}

/// Returns the name of the agent outside the shards.
pub(super) fn inbox_name() -> AgentName {
    AgentName::try_new("inbox").expect("a legal name")
}

/// Returns the receivers of one of the world's messages.
pub(super) fn receivers(kind: Kind, number: u64) -> Vec<AgentId> {
    let one = |sort| vec![agent(sort, mixed(number, 1) % WIDTH)];
    match kind {
        Kind::Chain | Kind::Poison => one(Sort::Stage(0)),
        Kind::Several => (0..2 + number % 2).map(|place| agent(Sort::Stage(STAGES - 1), place)).collect(),
        Kind::Request | Kind::ContractNet | Kind::Subscribe => one(Sort::Asker),
        Kind::Guest => one(Sort::Guest),
        Kind::Inbox => vec![AgentId::of(&inbox_name())],
        Kind::Nobody => vec![AgentId::of_text("nobody")],
    }
}

/// Returns the legs of one of the world's messages that complete if nothing is dead-lettered.
pub(super) fn legs(kind: Kind, number: u64) -> std::ops::Range<u8> {
    match kind {
        Kind::Chain | Kind::Request | Kind::Guest | Kind::Inbox => 0..1,
        Kind::Several => 0..if number.is_multiple_of(2) { 2 } else { 3 },
        Kind::ContractNet | Kind::Subscribe => 0..3,
        // They can only be dead-lettered.
        Kind::Poison | Kind::Nobody => 0..u8::MAX,
    }
}

/// One agent.
#[derive(Clone)]
pub(super) struct Member {
    plan: Plan,
    ledger: SharedLedger,
    sort: Sort,
    number: u64,
    boot: u64,
}

/// A message could not be sent.
struct Unsent;

impl Member {
    pub fn registration(plan: &Plan, ledger: &SharedLedger, sort: Sort, number: u64, boot: u64) -> Registration {
        let member = Self { plan: *plan, ledger: ledger.clone(), sort, number, boot };
        let registration =
            Script::new(move |message, context| member.handle(message, context)).registration(name(sort, number));
        let outlives = sort == Sort::Guest || mixed(plan.seed, number).is_multiple_of(2);
        if outlives { registration.persistent() } else { registration }
    }

    fn handle(&self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if is_notice(message) {
            return Outcome::Done;
        }
        self.ledger.lock().handled(message);
        let Some(label) = Label::of(message) else { return Outcome::Done };
        let mut ends = None;
        if self.act(message, label, context, &mut ends).is_err() {
            self.ledger.lock().failed(message);
            return Outcome::failed("what belongs to it cannot be sent now");
        }
        let chance = mixed(self.plan.seed ^ self.boot ^ context.now().monotonic_ns, label.number ^ label.stamp << 32);
        if label.kind == Kind::Poison || chance.is_multiple_of(self.plan.fails_in) {
            self.ledger.lock().failed(message);
            return Outcome::failed("as planned");
        }
        let mut ledger = self.ledger.lock();
        ledger.done(message);
        if let Some(leg) = ends {
            ledger.end(label.number, leg);
        }
        Outcome::Done
    }

    fn act(
        &self,
        message: &Message,
        label: Label,
        context: &mut Context<'_>,
        ends: &mut Option<u8>,
    ) -> Result<(), Unsent> {
        match (self.sort, label.kind) {
            (Sort::Stage(stage), Kind::Chain) if stage + 1 < STAGES => {
                let next = agent(Sort::Stage(stage + 1), mixed(label.number, stage + 2) % WIDTH);
                let builder = Message::builder(Performative::Inform).receiver(next);
                self.send(message, label, ONLY, builder, context)
            }
            (_, Kind::Several) => {
                *ends = u8::try_from(self.number).ok();
                Ok(())
            }
            (Sort::Asker, kind) if kind.converses() && message.conversation().is_none() => {
                self.begin(message, label, context)
            }
            (Sort::Asker, kind) if kind.converses() => self.hear_answer(message, label, context, ends),
            (Sort::Helper, kind) if kind.converses() => self.answer(message, label, context, ends),
            _ => {
                *ends = Some(ONLY);
                Ok(())
            }
        }
    }

    /// Whether a condition with probability `1 / times` holds for one of the world's messages.
    fn once_in(&self, label: Label, what: u64, times: u64) -> bool {
        mixed(self.plan.seed ^ label.number, what).is_multiple_of(times)
    }

    fn send(
        &self,
        cause: &Message,
        label: Label,
        leg: u8,
        builder: MessageBuilder,
        context: &mut Context<'_>,
    ) -> Result<(), Unsent> {
        let mut ledger = self.ledger.lock();
        let label = Label { leg, lineage: label.lineage_of(cause), stamp: ledger.stamp(), ..label };
        let message = builder.content(label.text()).reliability(Reliability::Durable).build();
        let message = message.expect("the run makes valid messages");
        let receivers = if message.target().is_some() { 1 } else { WIDTH };
        let id = context.send(message).map_err(|_| Unsent)?;
        ledger.sends(Some(id), receivers);
        Ok(())
    }

    fn begin(&self, message: &Message, label: Label, context: &mut Context<'_>) -> Result<(), Unsent> {
        let id = ConversationId::of_text(&format!("talk {} {}", label.number, label.lineage_of(message)));
        let say = |act, protocol: &str| Message::builder(act).conversation(id).protocol(protocol);
        let helper = agent(Sort::Helper, mixed(label.number, 7) % WIDTH);
        match label.kind {
            Kind::Request => {
                let request = say(Performative::Request, "fipa-request").receiver(helper);
                self.send(message, label, ONLY, request, context)
            }
            Kind::Subscribe => {
                let subscribe = say(Performative::Subscribe, "fipa-subscribe").receiver(helper);
                self.send(message, label, ONLY, subscribe, context)
            }
            _ => {
                let helpers = (0..WIDTH).map(|number| agent(Sort::Helper, number));
                let call = || say(Performative::Cfp, "fipa-contract-net");
                if self.once_in(label, 8, 2) {
                    return self.send(message, label, ONLY, call().receivers(helpers), context);
                }
                helpers
                    .into_iter()
                    .try_for_each(|helper| self.send(message, label, ONLY, call().receiver(helper), context))
            }
        }
    }

    /// Returns a helper's reply.
    fn answer(
        &self,
        message: &Message,
        label: Label,
        context: &mut Context<'_>,
        ends: &mut Option<u8>,
    ) -> Result<(), Unsent> {
        let own_leg = u8::try_from(self.number).unwrap_or(0);
        let mut reply = |act, leg| {
            let reply = context.reply(message, act);
            self.send(message, label, leg, reply, context)
        };
        match message.performative() {
            Performative::Request => match mixed(label.number, 9) % 4 {
                0 => reply(Performative::Refuse, ONLY),
                1 => reply(Performative::Inform, ONLY),
                _ => {
                    reply(Performative::Agree, ONLY)?;
                    reply(Performative::Inform, ONLY)
                }
            },
            Performative::Subscribe => {
                reply(Performative::Agree, ONLY)?;
                reply(Performative::Inform, 0)?;
                reply(Performative::Inform, 1)
            }
            Performative::Cancel => reply(Performative::Inform, CANCELLED),
            Performative::Cfp if self.once_in(label, 10 + self.number, 4) => reply(Performative::Refuse, own_leg),
            Performative::Cfp => reply(Performative::Propose, own_leg),
            Performative::AcceptProposal => reply(Performative::Inform, own_leg),
            Performative::RejectProposal => {
                *ends = Some(own_leg);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Handles a reply as the initiator.
    fn hear_answer(
        &self,
        message: &Message,
        label: Label,
        context: &mut Context<'_>,
        ends: &mut Option<u8>,
    ) -> Result<(), Unsent> {
        match (label.kind, message.performative()) {
            (_, Performative::Agree) => Ok(()),
            (Kind::ContractNet, Performative::Propose) => {
                let act = if self.once_in(label, 20 + u64::from(label.leg), 3) {
                    Performative::RejectProposal
                } else {
                    Performative::AcceptProposal
                };
                let reply = context.reply(message, act);
                self.send(message, label, label.leg, reply, context)
            }
            (Kind::Subscribe, Performative::Inform) if label.leg + 1 == CANCELLED => {
                *ends = Some(label.leg);
                let correlation = Correlation::new(NonZeroU64::new(label.number + 1).unwrap_or(NonZeroU64::MIN));
                let cancel = context.reply(message, Performative::Cancel).reply_with(correlation);
                self.send(message, label, CANCELLED, cancel, context)
            }
            _ => {
                *ends = Some(label.leg);
                if label.kind != Kind::ContractNet
                    && legs(label.kind, label.number).end == label.leg + 1
                    && self.once_in(label, 30, 2)
                {
                    context.close_conversation_of(message);
                }
                Ok(())
            }
        }
    }
}
