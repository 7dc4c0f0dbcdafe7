//! The messages of a file in flight: sent in order, reported in order, with a bounded number in between.
//!
//! Invariants: a message is sent only when the earlier ones in its conversation have settled, so that the exchange is
//! that of the file; what is in flight is bounded in deliveries and bytes, for any length of the file; every message is
//! reported exactly once, in file order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use caxton_router::codec::text::{Located, ParseError};
use caxton_router::domain::AgentName;
use caxton_router::error::CallError;
use caxton_router::error::SendErrorKind;
use caxton_router::event::Events;
use caxton_router::message::ConversationId;
use caxton_router::message::{MessageId, Receiver};
use caxton_router::router::Sent;
use caxton_router::{AgentId, Message, Router};
use futures_lite::future::block_on;

use super::super::interrupt::Interrupt;
use super::Stop;
use super::agents::{Cast, Habits, Script};
use super::conformance::{ConformanceReport, Told};
use super::journal::{Fate, Journal, Record, Waited};
use super::pipe::Bell;
use super::report::{Header, Printer, ToldMessage, ToldReply};
use super::summary::Summary;

/// Maximum number of deliveries in flight; a message to more agents than this is in flight alone.
pub const DELIVERIES_MAX: usize = 1_024;
/// Maximum number of bytes in flight; a larger message is in flight alone.
pub const BYTES_MAX: usize = 64 << 20;
/// Maximum number of dead letters of each shard that are read when reports were lost.
const LETTERS_MAX: usize = 100_000;

/// A router working on a file.
pub struct Exchange {
    router: Router,
    cast: Cast,
    script: Arc<Script>,
    journal: Arc<Journal>,
    /// Whether each message waits for all earlier ones.
    in_order: bool,
    listener: Option<JoinHandle<()>>,
    refused_agents: HashMap<AgentId, String>,
    patience: Duration,
    /// Whether nothing has settled for too long, so that nothing more is sent or waited for.
    given_up: bool,
    under_way: VecDeque<Item>,
    /// Deliveries and bytes in flight.
    deliveries: usize,
    bytes: usize,
    conversations: HashSet<ConversationId>,
    /// Ids in flight that the file chose.
    own_ids: HashSet<MessageId>,
    summary: Summary,
}

/// How a file is routed.
pub struct Manner {
    /// Whether violations are reported at the end.
    pub reports: bool,
    /// Whether each message waits for all earlier ones.
    pub in_order: bool,
    /// Rung when something settles.
    pub bell: Option<Bell>,
}

/// What is to be reported next, after everything before it.
enum Item {
    Message(Box<Flight>),
    Malformed(Box<ParseError>),
}

struct Flight {
    header: Header,
    receiver: Receiver,
    state: State,
    deliveries: usize,
    bytes: usize,
    conversation: Option<ConversationId>,
    own_id: Option<MessageId>,
    /// Whether the router received the message, so that it counts as in flight until it is reported.
    counted: bool,
    sent_at: Instant,
}

enum State {
    Sent(Sent),
    Accepted(MessageId),
    /// It is not in flight, for this reason.
    Grounded(Fate),
}

impl Exchange {
    /// Registers the agents and begins to listen to the router's events.
    ///
    /// # Errors
    ///
    /// The router stopped, or there is no thread for listening.
    pub fn begin(
        router: Router,
        cast: Cast,
        habits: Habits,
        patience: Duration,
        manner: Manner,
    ) -> Result<Self, String> {
        let Manner { reports, in_order, bell } = manner;
        let journal = Arc::new(bell.map_or_else(Journal::default, Journal::ringing));
        let gateways = (0..router.shard_count()).map(|shard| AgentId::of_text(&router.gateway(shard))).collect();
        let script = Arc::new(Script { habits, gateways, journal: Arc::clone(&journal) });
        let refused_agents = cast.register(&router, &script);
        let events = block_on(router.events()).map_err(|error| error.to_string())?;
        // A shard that answers a request has taken the earlier subscription. Otherwise a message could arrive from
        // another shard before its own shard reports anything.
        block_on(router.dead_letters(0)).map_err(|error| error.to_string())?;
        let listening = Arc::clone(&journal);
        let listener = std::thread::Builder::new()
            .name("caxton-listener".to_owned())
            .spawn(move || listen(&events, &listening))
            .map_err(|error| format!("a thread could not be started: {error}"))?;
        let mut summary = Summary::of_router(router.shard_count());
        summary.violations = reports.then(ConformanceReport::default);
        Ok(Self {
            router,
            cast,
            script,
            journal,
            in_order,
            listener: Some(listener),
            refused_agents,
            patience,
            given_up: false,
            under_way: VecDeque::new(),
            deliveries: 0,
            bytes: 0,
            conversations: HashSet::new(),
            own_ids: HashSet::new(),
            summary,
        })
    }

    /// Whether a message or an option named the agent.
    pub fn knows(&self, name: &AgentName) -> bool {
        self.cast.has(name)
    }

    /// Registers the agents named in the message that are new.
    pub fn introduce(&mut self, message: &Message) {
        let refused = self.cast.introduce(message, &self.router, &self.script);
        self.refused_agents.extend(refused);
    }

    /// Counts malformed messages that were already reported.
    pub fn count_malformed(&mut self, malformed: u64) {
        self.summary.malformed += malformed;
    }

    /// Reports what has settled, as far as everything before it has. What does not settle in time is reported as
    /// pending.
    pub fn tell_settled(&mut self, printer: &mut Printer) -> Result<(), Stop> {
        while let Some(item) = self.under_way.pop_front() {
            match item {
                Item::Malformed(error) => {
                    self.summary.malformed += 1;
                    printer.malformed(&error)?;
                }
                Item::Message(mut flight) => {
                    flight.state.resolve();
                    if !self.is_over(&flight)? {
                        self.under_way.push_front(Item::Message(flight));
                        break;
                    }
                    let told = self.close(*flight);
                    self.summary.count(&told);
                    printer.message(&told)?;
                }
            }
        }
        printer.flush()?;
        Ok(())
    }

    /// Whether a message has settled or timed out.
    fn is_over(&mut self, flight: &Flight) -> Result<bool, Stop> {
        let State::Accepted(id) = flight.state else { return Ok(true) };
        loop {
            match self.journal.wait(id, flight.deliveries, Duration::ZERO) {
                Waited::Settled => return Ok(true),
                Waited::TimedOut => return Ok(flight.sent_at.elapsed() >= self.patience),
                Waited::ReportsLost => self.read_letters(id)?,
            }
        }
    }

    /// Returns the time left for the oldest message in flight.
    pub fn time_left(&self) -> Option<Duration> {
        match self.under_way.front()? {
            Item::Message(flight) => Some(self.patience.saturating_sub(flight.sent_at.elapsed())),
            Item::Malformed(_) => Some(Duration::ZERO),
        }
    }

    /// Reports a malformed message in its turn.
    pub fn malformed(&mut self, error: ParseError, printer: &mut Printer) -> Result<(), Stop> {
        self.make_room(|exchange| exchange.under_way.len() < DELIVERIES_MAX, printer)?;
        self.under_way.push_back(Item::Malformed(Box::new(error)));
        Ok(())
    }

    /// Sends a message, once there is room for it and it is its turn in its conversation.
    pub fn send(&mut self, located: Located<Message>, printer: &mut Printer) -> Result<(), Stop> {
        let message = &located.value;
        let deliveries = self.cast.deliveries(message);
        let (bytes, conversation, own_id) = (message.weight(), message.conversation(), message.id());
        let fits = |exchange: &Self| {
            exchange.under_way.len() < DELIVERIES_MAX
                && (!exchange.in_order || exchange.under_way.is_empty())
                && exchange.deliveries + deliveries <= DELIVERIES_MAX
                && exchange.bytes + bytes <= BYTES_MAX
                && conversation.is_none_or(|conversation| !exchange.conversations.contains(&conversation))
                && own_id.is_none_or(|id| !exchange.own_ids.contains(&id))
        };
        self.make_room(fits, printer)?;
        let header = Header::of(&located, &self.cast);
        let receiver = message.receiver().clone();
        let state = self.take_off(located.value, printer)?;
        let counted = matches!(state, State::Sent(_));
        if counted {
            self.deliveries += deliveries;
            self.bytes += bytes;
            self.conversations.extend(conversation);
            self.own_ids.extend(own_id);
        }
        let sent_at = Instant::now();
        let flight = Flight { header, receiver, state, deliveries, bytes, conversation, own_id, counted, sent_at };
        self.under_way.push_back(Item::Message(Box::new(flight)));
        Ok(())
    }

    /// Waits for the rest, stops the router and adds its figures to the summary. After a signal the router is already
    /// stopping, and its end settles the rest.
    pub fn end(mut self, interrupt: &Interrupt, printer: &mut Printer) -> Result<Summary, Stop> {
        if interrupt.signal().is_none() {
            self.make_room(|exchange| exchange.under_way.is_empty(), printer)?;
        }
        let drain = if self.given_up { Duration::ZERO } else { self.patience };
        let report = self.router.shutdown(drain).map_err(|error| Stop::Router(error.to_string()))?;
        // The router's end is the end of its events.
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        let under_way = self.ids_under_way();
        self.journal.read_letters(&report.dead_letters, &under_way);
        self.given_up = true;
        self.make_room(|exchange| exchange.under_way.is_empty(), printer)?;
        self.summary.close(&report, interrupt.signal());
        if let Some(conformance) = &mut self.summary.violations {
            conformance.figures = report.stats.conformance();
            conformance.violations =
                self.journal.take_violations().iter().map(|violation| Told::of(violation, &self.cast)).collect();
        }
        Ok(self.summary)
    }

    /// Lets messages in flight settle, oldest first, until there is room or nothing left.
    fn make_room(&mut self, enough: impl Fn(&Self) -> bool, printer: &mut Printer) -> Result<(), Stop> {
        while !enough(self) {
            let Some(item) = self.under_way.pop_front() else { break };
            match item {
                Item::Malformed(error) => {
                    self.summary.malformed += 1;
                    printer.malformed(&error)?;
                }
                Item::Message(flight) => {
                    let told = self.land(*flight)?;
                    self.summary.count(&told);
                    printer.message(&told)?;
                }
            }
        }
        Ok(())
    }

    /// Passes a message to the router, if its sender may send and there is time left.
    fn take_off(&mut self, mut message: Message, printer: &mut Printer) -> Result<State, Stop> {
        if let Some(refusal) = message.sender().and_then(|sender| self.refused_agents.get(&sender)) {
            return Ok(State::Grounded(Fate::Refused(refusal.clone())));
        }
        loop {
            if self.given_up {
                return Ok(State::Grounded(Fate::Unsent));
            }
            match self.router.try_send(message) {
                Ok(sent) => return Ok(State::Sent(sent)),
                Err(rejected) if *rejected.kind() == SendErrorKind::Full && !self.under_way.is_empty() => {
                    message = rejected.into_message();
                    let length = self.under_way.len();
                    self.make_room(|exchange| exchange.under_way.len() < length, printer)?;
                }
                Err(rejected) => return Ok(State::Grounded(Fate::of_refusal(&rejected))),
            }
        }
    }

    /// Waits for a message to settle, and returns its outcome.
    fn land(&mut self, mut flight: Flight) -> Result<ToldMessage, Stop> {
        flight.state.resolve();
        if let State::Accepted(id) = flight.state {
            self.wait_for(id, flight.deliveries)?;
        }
        Ok(self.close(flight))
    }

    /// Returns the outcome of a message as far as it is known, and removes it from those in flight.
    fn close(&mut self, flight: Flight) -> ToldMessage {
        let Flight { deliveries, bytes, conversation, own_id, counted, .. } = flight;
        let told = match flight.state {
            State::Accepted(id) => {
                let record = self.journal.take(id);
                let fates = self.fates_of(&flight, &record);
                let replies = record.replies.iter().map(|reply| ToldReply::of(reply, &self.cast)).collect();
                ToldMessage { header: flight.header, id: Some(id), fates, replies }
            }
            State::Grounded(fate) => {
                let fates = self.named_receivers(&flight.receiver).into_iter().map(|name| (name, fate.clone()));
                let mut fates: Vec<_> = fates.collect();
                if fates.is_empty() {
                    fates.push((None, fate));
                }
                ToldMessage { header: flight.header, id: own_id, fates, replies: Vec::new() }
            }
            State::Sent(_) => unreachable!("a message that was sent is accepted or refused"),
        };
        if counted {
            self.deliveries -= deliveries;
            self.bytes -= bytes;
            if let Some(conversation) = conversation {
                self.conversations.remove(&conversation);
            }
            if let Some(id) = own_id {
                self.own_ids.remove(&id);
            }
        }
        told
    }

    fn wait_for(&mut self, id: MessageId, deliveries: usize) -> Result<(), Stop> {
        loop {
            let patience = if self.given_up { Duration::ZERO } else { self.patience };
            match self.journal.wait(id, deliveries, patience) {
                Waited::Settled => return Ok(()),
                Waited::TimedOut => {
                    self.given_up = true;
                    return Ok(());
                }
                Waited::ReportsLost => self.read_letters(id)?,
            }
        }
    }

    /// Reads dead letters to replace lost reports.
    fn read_letters(&mut self, awaited: MessageId) -> Result<(), Stop> {
        let mut ids = self.ids_under_way();
        ids.insert(awaited);
        match block_on(self.router.dead_letters(LETTERS_MAX)) {
            Ok(letters) => self.journal.read_letters(&letters, &ids),
            Err(CallError::Stopped) => {
                // A signal stopped the router: its report contains the letters.
                let report = self.router.shutdown(Duration::ZERO).map_err(|error| Stop::Router(error.to_string()))?;
                self.journal.read_letters(&report.dead_letters, &ids);
            }
            Err(error) => return Err(Stop::Router(error.to_string())),
        }
        Ok(())
    }

    fn ids_under_way(&mut self) -> HashSet<MessageId> {
        let mut ids = HashSet::new();
        for item in &mut self.under_way {
            if let Item::Message(flight) = item {
                flight.state.resolve();
                if let State::Accepted(id) = flight.state {
                    ids.insert(id);
                }
            }
        }
        ids
    }

    /// Returns the outcome of each delivery: the receivers named in the message in order, then all others.
    fn fates_of(&self, flight: &Flight, record: &Record) -> Vec<(Option<String>, Fate)> {
        let named = ids_of(&flight.receiver);
        let fate_of = |agent: &AgentId| record.fates.get(&Some(*agent)).cloned().unwrap_or(Fate::Pending);
        let mut fates: Vec<_> = named.iter().map(|agent| (Some(self.cast.name_of(*agent)), fate_of(agent))).collect();
        if named.is_empty() {
            fates
                .extend(record.fates.iter().map(|(agent, fate)| (agent.map(|id| self.cast.name_of(id)), fate.clone())));
            fates.sort_by(|(one, _), (other, _)| one.cmp(other));
            fates.resize(fates.len().max(flight.deliveries), (None, Fate::Pending));
        }
        fates
    }

    fn named_receivers(&self, receiver: &Receiver) -> Vec<Option<String>> {
        ids_of(receiver).iter().map(|agent| Some(self.cast.name_of(*agent))).collect()
    }
}

impl State {
    /// Waits until the router has accepted or refused the message. A running router responds at once.
    fn resolve(&mut self) {
        let state = std::mem::replace(self, Self::Grounded(Fate::Unsent));
        *self = match state {
            Self::Sent(sent) => match sent.blocking().accepted() {
                Ok(id) => Self::Accepted(id),
                Err(rejected) => match rejected.kind() {
                    // A durable message that was accepted and given up before it was on disk: the router reports its
                    // outcome.
                    SendErrorKind::NotKept { message, .. } => Self::Accepted(*message),
                    _ => Self::Grounded(Fate::of_refusal(&rejected)),
                },
            },
            other => other,
        };
    }
}

/// Returns the agents named in a message.
pub fn ids_of(receiver: &Receiver) -> &[AgentId] {
    match receiver {
        Receiver::Agent(agent) | Receiver::Provider(agent, _) => std::slice::from_ref(agent),
        Receiver::Agents(agents) | Receiver::Member(agents, _) => agents,
        Receiver::Unaddressed | Receiver::Capability(..) => &[],
    }
}

/// Records the router's events, until it has stopped.
fn listen(events: &Events, journal: &Journal) {
    while let Ok(event) = block_on(events.next()) {
        journal.hear(&event, events.lost());
    }
}
