//! Conversations with every protocol of the library, some of them with violations or late messages.
//!
//! Every agent plays both sides: it begins one conversation at a time with its partner, by one script after the other,
//! and takes part in those begun by others. Deliberate violations are counted, and a run fails unless the router found
//! exactly those.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use caxton_router::dead_letter::DeadLetterReason;
use caxton_router::message::is_notice;
use caxton_router::message::{ConversationId, MessageBuilder, Term, WallTime};
use caxton_router::protocol::{Mode, Side};
use caxton_router::{Agent, AgentId, Context, Message, Outcome as Handled, Performative};
use serde_json::{Value, json};

use super::load::Kit;
use super::run::Outcome;
use crate::cli::thousands;

/// A conversation between two agents, step by step.
struct Script {
    /// The name in the report: the protocol, and what is special.
    name: &'static str,
    protocol: &'static str,
    steps: &'static [(Side, Performative)],
    /// An act that neither side may use before any of the steps from the second on that are `breakable`.
    wrong: Performative,
    /// The number of steps, from the beginning, before which the script can be violated. The first begins the
    /// conversation.
    breakable: usize,
}

use Performative::{
    AcceptProposal, Agree, Cancel, Cfp, Inform, InformRef, Propose, Proxy, QueryRef, RejectProposal, Request,
    RequestWhen, Subscribe,
};
use Side::{Initiator, Participant};

/// Each protocol of the library, and the cancel meta-protocol.
const SCRIPTS: [Script; 12] = [
    script("fipa-request", &[(Initiator, Request), (Participant, Agree), (Participant, Inform)], Propose),
    script("fipa-query", &[(Initiator, QueryRef), (Participant, Inform)], Cfp),
    script("fipa-request-when", &[(Initiator, RequestWhen), (Participant, Agree), (Participant, Inform)], Propose),
    script(
        "fipa-contract-net",
        &[(Initiator, Cfp), (Participant, Propose), (Initiator, AcceptProposal), (Participant, Inform)],
        Subscribe,
    ),
    script(
        "fipa-iterated-contract-net",
        &[
            (Initiator, Cfp),
            (Participant, Propose),
            (Initiator, Cfp),
            (Participant, Propose),
            (Initiator, RejectProposal),
        ],
        Subscribe,
    ),
    script("fipa-propose", &[(Initiator, Propose), (Participant, AcceptProposal)], Request),
    script(
        "fipa-subscribe",
        &[
            (Initiator, Subscribe),
            (Participant, Agree),
            (Participant, Inform),
            (Initiator, Cancel),
            (Participant, Inform),
        ],
        Cfp,
    ),
    // A broker may forward anything, so its messages cannot be violations any more.
    Script {
        breakable: 2,
        ..script(
            "fipa-brokering",
            &[(Initiator, Proxy), (Participant, Agree), (Participant, Inform), (Participant, InformRef)],
            Propose,
        )
    },
    script("fipa-recruiting", &[(Initiator, Proxy), (Participant, Agree), (Participant, Inform)], Propose),
    script(
        "fipa-english-auction",
        &[
            (Initiator, Inform),
            (Initiator, Cfp),
            (Participant, Propose),
            (Initiator, AcceptProposal),
            (Initiator, Inform),
            (Initiator, Request),
            (Participant, Agree),
            (Participant, Inform),
        ],
        Subscribe,
    ),
    script(
        "fipa-dutch-auction",
        &[(Initiator, Inform), (Initiator, Cfp), (Participant, Propose), (Initiator, AcceptProposal)],
        Subscribe,
    ),
    Script {
        name: "fipa-request, cancelled",
        ..script(
            "fipa-request",
            &[(Initiator, Request), (Participant, Agree), (Initiator, Cancel), (Participant, Inform)],
            Propose,
        )
    },
];

const fn script(protocol: &'static str, steps: &'static [(Side, Performative)], wrong: Performative) -> Script {
    Script { name: protocol, protocol, steps, wrong, breakable: usize::MAX }
}

/// The shares of violations and of late messages, among those that can be: 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Offences {
    pub violating: f64,
    pub late: f64,
}

/// The actions of a run's agents.
#[derive(Default)]
pub struct Tally {
    scripts: [ScriptTally; SCRIPTS.len()],
    /// Notices to senders about refused messages.
    objections: AtomicU64,
}

#[derive(Default)]
struct ScriptTally {
    conversations: AtomicU64,
    steps: AtomicU64,
    violations: AtomicU64,
    late: AtomicU64,
}

/// What was played, at the end of the run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Played {
    scripts: [ScriptPlayed; SCRIPTS.len()],
    objections: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct ScriptPlayed {
    conversations: u64,
    steps: u64,
    violations: u64,
    late: u64,
}

impl Tally {
    /// Whether every script was begun.
    pub fn has_every_script(&self) -> bool {
        self.scripts.iter().all(|script| script.conversations.load(Ordering::Relaxed) > 0)
    }

    pub fn read(&self) -> Played {
        let mut played = Played { objections: self.objections.load(Ordering::Relaxed), ..Played::default() };
        for (read, script) in played.scripts.iter_mut().zip(&self.scripts) {
            *read = ScriptPlayed {
                conversations: script.conversations.load(Ordering::Relaxed),
                steps: script.steps.load(Ordering::Relaxed),
                violations: script.violations.load(Ordering::Relaxed),
                late: script.late.load(Ordering::Relaxed),
            };
        }
        played
    }
}

/// The label of a message: its script, its step, and whether it violates the script.
#[derive(Clone, Copy)]
struct Cue {
    script: usize,
    step: usize,
    broken: bool,
}

impl Cue {
    fn word(self) -> u64 {
        (self.script as u64) << 16 | (self.step as u64) << 8 | u64::from(self.broken)
    }

    fn of(message: &Message) -> Self {
        let word = Kit::returns(message);
        let byte = |place: u32| usize::from((word >> place).to_le_bytes()[0]);
        Self { script: byte(16), step: byte(8), broken: byte(0) != 0 }
    }
}

/// An agent that plays.
pub struct Player {
    kit: Kit,
    partner: AgentId,
    offences: Offences,
    dice: u64,
    script: usize,
    terms: [Option<Term>; SCRIPTS.len()],
    /// A conversation whose last message was this agent's own. It is closed at the end of the next one, when that
    /// message has certainly passed.
    closing: Option<ConversationId>,
}

impl Player {
    pub fn new(kit: Kit, partner: AgentId, offences: Offences, number: usize) -> Self {
        let terms = std::array::from_fn(|script| Term::of(SCRIPTS[script].protocol));
        let dice = number as u64 ^ 0x5eed;
        Self { kit, partner, offences, dice, script: number % SCRIPTS.len(), terms, closing: None }
    }

    /// Whether an event with this probability happens.
    fn chance(&mut self, share: f64) -> bool {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.dice >> 40) as f64) < share * f64::from(1_u32 << 24)
    }

    fn tally(&self, script: usize) -> &ScriptTally {
        &self.kit.control.plays.scripts[script]
    }

    fn begin(&mut self, context: &mut Context<'_>) {
        if self.kit.control.stopped() {
            return;
        }
        let script = self.script;
        self.script = (script + 1) % SCRIPTS.len();
        let conversation = context.new_conversation();
        self.tally(script).conversations.fetch_add(1, Ordering::Relaxed);
        let (partner, protocol) = (self.partner, self.terms[script]);
        let say = |act| {
            let builder = Message::builder(act).receiver(partner).conversation(conversation);
            protocol.into_iter().fold(builder, MessageBuilder::protocol_term)
        };
        self.go_on(Initiator, script, 0, &say, context);
    }

    /// Sends all consecutive messages of this side from a step on. Returns the other side's next step.
    fn go_on(
        &mut self,
        side: Side,
        script: usize,
        from: usize,
        say: &dyn Fn(Performative) -> MessageBuilder,
        context: &mut Context<'_>,
    ) -> usize {
        let Script { steps, wrong, breakable, .. } = &SCRIPTS[script];
        let mut step = from;
        while let Some((_, act)) = steps.get(step).filter(|(by, _)| *by == side) {
            if (1..*breakable).contains(&step) && self.chance(self.offences.violating) {
                let cue = Cue { script, step, broken: true };
                let broken = self.kit.fill_returning(say(*wrong), cue.word());
                if self.kit.send(broken, context) {
                    self.tally(script).violations.fetch_add(1, Ordering::Relaxed);
                }
            }
            let answered = side == Initiator && steps.get(step + 1).is_some_and(|(by, _)| *by == Participant);
            let late = answered && self.chance(self.offences.late);
            let mut builder = self.kit.fill_returning(say(*act), Cue { script, step, broken: false }.word());
            if late {
                // The next message is late in any case.
                builder = builder.reply_by(WallTime(context.now().wall.0.saturating_sub(1)));
            }
            if self.kit.send(builder, context) {
                self.tally(script).steps.fetch_add(1, Ordering::Relaxed);
                self.tally(script).late.fetch_add(u64::from(late), Ordering::Relaxed);
            }
            step += 1;
        }
        step
    }

    /// Begins the next conversation if the initiator sent the last message of this one.
    fn end_if_over(&mut self, script: usize, conversation: ConversationId, context: &mut Context<'_>) {
        if SCRIPTS[script].steps.last().is_some_and(|(by, _)| *by == Initiator) {
            self.close_before(context);
            self.closing = Some(conversation);
            self.over(context);
        }
    }

    fn close_before(&mut self, context: &mut Context<'_>) {
        if let Some(before) = self.closing.take() {
            context.close_conversation(before);
        }
    }

    fn over(&mut self, context: &mut Context<'_>) {
        self.kit.control.rounds.fetch_add(1, Ordering::Relaxed);
        self.begin(context);
    }

    /// Handles a step of the other side, and sends the next.
    fn follow(&mut self, message: &Message, cue: Cue, context: &mut Context<'_>) {
        let Some(script) = SCRIPTS.get(cue.script) else { return };
        let Some((by, _)) = script.steps.get(cue.step) else { return };
        let side = by.other();
        let next = self.go_on(side, cue.script, cue.step + 1, &|act| message.reply(act), context);
        if side == Participant || next < script.steps.len() {
            return;
        }
        match message.conversation() {
            Some(conversation) if next > cue.step + 1 => self.end_if_over(cue.script, conversation, context),
            _ => {
                self.close_before(context);
                context.close_conversation_of(message);
                self.over(context);
            }
        }
    }
}

impl Agent for Player {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Handled {
        if is_notice(message) {
            if message.performative() == Performative::NotUnderstood {
                self.kit.control.plays.objections.fetch_add(1, Ordering::Relaxed);
            } else {
                self.kit.is_failure(message);
            }
        } else if message.conversation().is_none() {
            self.begin(context);
        } else {
            self.kit.receive(message);
            let cue = Cue::of(message);
            if !cue.broken {
                self.follow(message, cue, context);
            }
        }
        Handled::Done
    }
}

/// The router's findings compared with the actions.
struct Comparison {
    mode: Mode,
    /// By name: done, and found.
    figures: [(&'static str, u64, u64); 3],
}

impl Comparison {
    fn of(outcome: &Outcome) -> Self {
        let found = outcome.report.stats.conformance();
        let done = |figure: fn(&ScriptPlayed) -> u64| outcome.played.scripts.iter().map(figure).sum();
        Self {
            mode: outcome.plan.config.protocols.mode,
            figures: [
                ("steps", done(|script| script.steps), found.steps),
                ("violations", done(|script| script.violations), found.violations()),
                ("late", done(|script| script.late), found.late),
            ],
        }
    }

    fn complaint(&self) -> Option<String> {
        let expected = |done| if self.mode == Mode::Off { 0 } else { done };
        let wrong = self.figures.iter().find(|(_, done, found)| expected(*done) != *found)?;
        let (what, done, found) = wrong;
        Some(format!("{what}: {done} were sent and {found} found, with protocols on {}", self.mode))
    }
}

/// Returns what is wrong in a run of conversations with protocols, if anything.
pub fn complaint(outcome: &Outcome) -> Option<String> {
    let account = outcome.report.stats.account();
    let lost = account.expired + account.refused + outcome.refused;
    if lost > 0 {
        let refused = account.refused.max(outcome.refused);
        return Some(format!("{} expired, {refused} refused: this load should cause none", account.expired));
    }
    let refused = outcome.report.stats.conformance().refused;
    let dead = account.dead_by_reason[DeadLetterReason::ProtocolViolation.index()];
    if (account.dead_lettered, dead) != (refused, refused) {
        return Some(format!(
            "{} dead letters, {dead} of them for violating their protocol, and {refused} messages refused",
            account.dead_lettered
        ));
    }
    // A sender that expected a reply by a past time is notified that none arrived.
    let missing = outcome.report.stats.replies_missing();
    let told = outcome.played.objections + outcome.failures + account.notices_coalesced;
    if told != refused + missing {
        return Some(format!(
            "{refused} messages were refused and {missing} answers missed, and {told} agents notified"
        ));
    }
    Comparison::of(outcome).complaint().or_else(|| outcome.complaint_of_nothing())
}

/// Returns what was played and found, as JSON.
pub fn json(outcome: &Outcome) -> Value {
    let comparison = Comparison::of(outcome);
    let mut object = json!({ "mode": comparison.mode.as_str(), "senders_told": outcome.played.objections });
    for (what, done, found) in comparison.figures {
        object[what] = json!({ "sent": done, "found": found });
    }
    object["replies_missing"] = outcome.report.stats.replies_missing().into();
    object["scripts"] = SCRIPTS
        .iter()
        .zip(&outcome.played.scripts)
        .map(|(script, played)| {
            json!({
                "script": script.name,
                "conversations": played.conversations,
                "steps": played.steps,
                "violations": played.violations,
                "late": played.late,
            })
        })
        .collect();
    object
}

/// Returns what was played and found, as text.
pub fn text(outcome: &Outcome) -> String {
    let comparison = Comparison::of(outcome);
    let mut text = format!("protocols           {}\n", comparison.mode);
    for (what, done, found) in comparison.figures {
        let _ = writeln!(text, "  {what:<17} {} sent, {} found", thousands(done as f64), thousands(found as f64));
    }
    for (script, played) in SCRIPTS.iter().zip(&outcome.played.scripts) {
        let ScriptPlayed { conversations, steps, violations, late } = *played;
        let [conversations, steps, violations, late] =
            [conversations, steps, violations, late].map(|count| thousands(count as f64));
        let name = script.name;
        let _ = writeln!(
            text,
            "  {name:<27} {conversations} conversations, {steps} steps, {violations} violations, {late} late"
        );
    }
    text
}

/// Each agent's partner is the next one.
pub fn partners(agents: &[AgentId]) -> Arc<[AgentId]> {
    let mut partners = agents.to_vec();
    if !partners.is_empty() {
        partners.rotate_left(1);
    }
    partners.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_of_the_library_is_played() {
        for name in caxton_router::protocol::library_names() {
            assert!(SCRIPTS.iter().any(|script| script.protocol == name), "{name}");
        }
        for script in &SCRIPTS {
            assert!(script.steps.first().is_some_and(|(by, _)| *by == Initiator), "{}", script.name);
        }
    }

    #[test]
    fn a_figure_that_differs_from_what_was_done_is_complained_about() {
        let compare =
            |mode, found| Comparison { mode, figures: [("steps", 9, 9), ("violations", 2, found), ("late", 0, 0)] };
        assert_eq!(compare(Mode::Enforce, 2).complaint(), None);
        for (mode, found) in [(Mode::Enforce, 1), (Mode::Observe, 3)] {
            let complaint = compare(mode, found).complaint().expect("it differs");
            assert!(complaint.contains(&format!("violations: 2 were sent and {found} found")), "{complaint}");
        }
        assert!(compare(Mode::Off, 0).complaint().is_some(), "nothing is found where nothing is looked for");
    }

    #[test]
    fn a_cue_survives_the_way() {
        let cue = Cue { script: 11, step: 7, broken: true };
        let mut content = vec![0; 8];
        content.extend_from_slice(&cue.word().to_le_bytes());
        let message = Message::builder(Performative::Inform).content(content.as_slice()).build().expect("it is legal");
        let read = Cue::of(&message);
        assert_eq!((read.script, read.step, read.broken), (11, 7, true));
    }
}
