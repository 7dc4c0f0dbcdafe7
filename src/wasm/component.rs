//! An agent whose handler is a component of the world `caxton:agent/agent@1.0.0`.
//!
//! One message is handled per call. What the guest sends is passed to the shard at once, and leaves when the message
//! was handled.

use std::num::NonZeroU64;
use std::sync::Arc;

use caxton_shards::agent::{Agent, Context, Failure, Outcome, Polled, Supervision};
use caxton_shards::api::{SendErrorKind, is_notice};
use caxton_shards::domain::{CapabilityName, LifetimeMs, Priority};
use caxton_shards::message::{
    AgentId, Choice, ConversationId, Correlation, Message, MessageBuilder, MessageId, Performative, Reliability,
    WallTime,
};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store};

use self::bindings::caxton::agent::{router, types};
use self::bindings::{Agent as Instance, AgentPre};
use super::execution::{Execution, Stage, begun, call, polled, save};
use super::guest::{Code, Guest, Instantiated, Problem};
use super::host::{Answer, Host, Question, SharedMemory};
use super::log::{LogLevel, LogLine};
use super::raw::{finish, timer};
use super::wasi;
use crate::config::Grants;

mod bindings {
    wasmtime::component::bindgen!({
        path: "src/wasm/wit/agent.wit",
        world: "agent",
        imports: {
            "caxton:agent/router.send": async | trappable,
            "caxton:agent/router.reply": async | trappable,
            "caxton:agent/router.ask": async | trappable,
            "caxton:agent/router.set-timer": async | trappable,
            "caxton:agent/router.discover": async | trappable,
            "caxton:agent/router.offer": async | trappable,
            "caxton:agent/router.withdraw": async | trappable,
            default: trappable,
        },
        exports: { default: async },
    });
}

/// The world's exports.
const EXPORTS: [&str; 3] = ["start", "handle", "stop"];
/// The imports allowed for a component of the world.
const IMPORTS: [&str; 2] = ["caxton:agent/types@1.0.0", "caxton:agent/router@1.0.0"];

/// A checked component.
pub(super) struct Prepared(AgentPre<Host>);

/// Returns a linker with the router's functions.
pub(super) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    Instance::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    Ok(linker)
}

/// Checks that a component has the world's exports, and imports nothing else but granted parts of WASI.
pub(super) fn prepare(linker: &Linker<Host>, component: &Component, grants: Grants) -> Result<Prepared, Vec<Problem>> {
    let mut problems = Vec::new();
    let kind = component.component_type();
    let engine = component.engine();
    let exports: Vec<String> = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
    for wanted in EXPORTS.iter().filter(|wanted| !exports.iter().any(|name| name == *wanted)) {
        problems.push(Problem(format!("the world caxton:agent/agent@1.0.0 exports {wanted}, which is missing")));
    }
    for (name, _) in kind.imports(engine) {
        if wasi::is_wasi(name) {
            problems.extend(wasi::missing(name, grants));
        } else if !IMPORTS.contains(&name) {
            problems.push(Problem(format!("it imports {name}, which does not exist: expected {}", IMPORTS.join(", "))));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let problem = |error: wasmtime::Error| vec![Problem(format!("{error:#}"))];
    let pre = if grants.is_empty() {
        linker.instantiate_pre(component)
    } else {
        let mut linker = linker.clone();
        wasi::link(&mut linker, component, grants).and_then(|()| linker.instantiate_pre(component))
    };
    let pre = pre.map_err(problem)?;
    AgentPre::new(pre).map(Prepared).map_err(problem)
}

/// An instance ready to be called.
struct Cell {
    store: Store<Host>,
    instance: Instance,
    /// The guest's last result.
    answer: Result<(), String>,
}

/// See the module.
pub(super) struct ComponentAgent {
    guest: Guest,
    me: AgentId,
    memory: SharedMemory,
    stage: Stage<Box<Cell>>,
    seed: u64,
    /// Why it could not be started after having been suspended.
    failed_start: Option<String>,
}

impl ComponentAgent {
    pub fn new(guest: Guest, me: AgentId, memory: SharedMemory) -> Self {
        Self { guest, me, memory, stage: Stage::New, seed: 0, failed_start: None }
    }

    /// Makes the instance ready. Returns `None` if that takes longer.
    fn get_ready(&mut self, context: &mut Context<'_>) -> Option<Result<(), String>> {
        self.guest.sandbox.0.ticker.touch();
        loop {
            match &mut self.stage {
                Stage::Idle(_) | Stage::Handling(_) => return Some(Ok(())),
                Stage::New => {
                    let mut host = self.guest.host(self.me, &self.memory);
                    host.seed(self.seed);
                    self.seed = host.random();
                    host.begin(context.now().wall, 1);
                    let desk = Arc::clone(&host.desk);
                    self.stage = Stage::Starting(Execution::new(desk, make(self.guest.clone(), host)));
                }
                Stage::Starting(execution) => {
                    match execution.go_on(context.now(), |question| answer(question, None, context)) {
                        None => return None,
                        Some(Ok(mut cell)) => match std::mem::replace(&mut cell.answer, Ok(())) {
                            Ok(()) => self.stage = Stage::Idle(cell),
                            Err(text) => {
                                self.stage = Stage::New;
                                return Some(Err(text));
                            }
                        },
                        Some(Err(text)) => {
                            self.stage = Stage::New;
                            return Some(Err(text));
                        }
                    }
                }
            }
        }
    }
}

impl Instantiated for ComponentAgent {
    fn has_started(&mut self) -> Option<Result<(), String>> {
        self.stage.has_started(&mut self.failed_start)
    }
}

impl Agent for ComponentAgent {
    fn start(&mut self, context: &mut Context<'_>) -> Outcome {
        self.seed = context.random();
        begun(self.get_ready(context), context)
    }

    /// Continues starting.
    fn poll(&mut self, context: &mut Context<'_>) -> Polled {
        let ready = self.get_ready(context);
        polled(ready, &mut self.failed_start)
    }

    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        let (bytes, limit) = (message.content().len(), self.guest.host_limits().message_bytes);
        if bytes as u64 > limit.into_inner() {
            return Outcome::failed(format!("the message has {bytes} bytes of content: this guest may take {limit}"));
        }
        match self.get_ready(context) {
            None => return Outcome::Suspended,
            Some(Err(text)) => return Outcome::failed(text),
            Some(Ok(())) => {}
        }
        if let Some(mut cell) = self.stage.take_idle() {
            cell.store.data_mut().begin(context.now().wall, 1);
            let desk = Arc::clone(&cell.store.data().desk);
            self.stage = Stage::Handling(Execution::new(desk, handle(cell, lower(message))));
        }
        self.resume(message, context)
    }

    fn resume(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if matches!(self.stage, Stage::New | Stage::Starting(_)) {
            return self.handle(message, context);
        }
        self.guest.sandbox.0.ticker.touch();
        let Stage::Handling(execution) = &mut self.stage else { return self.handle(message, context) };
        match execution.go_on(context.now(), |question| answer(question, Some(message), context)) {
            None => Outcome::Suspended,
            Some(Ok(mut cell)) => {
                let answer = std::mem::replace(&mut cell.answer, Ok(()));
                self.stage = Stage::Idle(cell);
                answer.map_or_else(Outcome::failed, |()| Outcome::Done)
            }
            Some(Err(text)) => {
                self.stage = Stage::New;
                Outcome::failed(text)
            }
        }
    }

    /// Restarts a guest that trapped; one that returned an error continues.
    fn supervise(&mut self, _failure: &Failure) -> Supervision {
        if matches!(self.stage, Stage::New) { Supervision::Restart } else { Supervision::Resume }
    }

    fn stopped(&mut self) {
        let Some(mut cell) = self.stage.take_idle() else { return };
        self.guest.sandbox.0.ticker.touch();
        let desk = Arc::clone(&cell.store.data().desk);
        let now = desk.clock.now();
        cell.store.data_mut().begin(now.wall, 1);
        let mut execution = Execution::new(desk, async move {
            let Cell { store, instance, .. } = &mut *cell;
            call(store, async |store| instance.call_stop(&mut *store).await).await?;
            Ok(cell)
        });
        // It gets only one slice, and there is nobody to report the result to.
        let stopping = |question| match question {
            Question::Discover(_) => Answer::Found(Vec::new()),
            Question::Send(_) | Question::Reply(..) => Answer::Sent(Err(SendErrorKind::Stopping)),
            Question::Offer(_) | Question::Withdraw(_) => Answer::Done(Err(SendErrorKind::Stopping)),
        };
        let _ = execution.go_on(now, stopping);
    }
}

/// Answers a guest's question in the middle of a call.
fn answer(question: Question, current: Option<&Message>, context: &mut Context<'_>) -> Answer {
    match question {
        Question::Send(message) => Answer::Sent(context.send(*message).map_err(SendErrorKind::from)),
        Question::Reply(performative, text) => {
            let Some(current) = current else { return Answer::Sent(Err(SendErrorKind::UnknownSender)) };
            // Its length was checked, and nothing else can be wrong in a reply.
            match current.reply(performative).content(text).build() {
                Ok(reply) => Answer::Sent(context.send(reply).map_err(SendErrorKind::from)),
                Err(_) => Answer::Sent(Err(SendErrorKind::Full)),
            }
        }
        Question::Discover(capability) => Answer::Found(context.discover(&capability)),
        Question::Offer(capability) => Answer::Done(context.advertise(&capability)),
        Question::Withdraw(capability) => {
            context.withdraw(&capability);
            Answer::Done(Ok(()))
        }
    }
}

/// Creates an instance and starts it.
async fn make(guest: Guest, host: Host) -> Result<Box<Cell>, String> {
    #[cfg(feature = "store")]
    host.has_its_memory()?;
    let mut store = guest.sandbox.store(host);
    let Code::Component { prepared: Prepared(pre), .. } = &*guest.code else {
        return Err("this is not a component".to_owned());
    };
    let instance = call(&mut store, async |store| pre.instantiate_async(&mut *store).await).await?;
    let answer = call(&mut store, async |store| instance.call_start(&mut *store).await).await?;
    if answer.is_ok() {
        save(&mut store).await?;
    }
    Ok(Box::new(Cell { store, instance, answer }))
}

async fn handle(mut cell: Box<Cell>, message: types::Message) -> Result<Box<Cell>, String> {
    let Cell { store, instance, .. } = &mut *cell;
    let answer = call(store, async |store| instance.call_handle(&mut *store, &message).await).await?;
    if answer.is_ok() {
        save(store).await?;
    } else {
        store.data_mut().unsaved.clear();
    }
    cell.answer = answer;
    Ok(cell)
}

/// Converts a message to the guest's type.
fn lower(message: &Message) -> types::Message {
    let words = [message.protocol(), message.language(), message.ontology(), message.encoding()];
    let [protocol, language, ontology, encoding] = words.map(|word| word.map(str::to_owned));
    types::Message {
        id: lower_id(message.id().map_or(0, MessageId::to_u128)),
        performative: lower_performative(message.performative()),
        sender: lower_id(message.sender().map_or(0, AgentId::to_u128)),
        from_router: is_notice(message),
        conversation: message.conversation().map(|id| lower_id(id.to_u128())),
        reply_with: message.reply_with().map(Correlation::get),
        in_reply_to: message.in_reply_to().map(Correlation::get),
        reply_by_ms: message.reply_by().map(|moment| moment.0),
        protocol,
        language,
        ontology,
        encoding,
        content: message.content().as_bytes().to_vec(),
    }
}

#[allow(clippy::cast_possible_truncation)] // The two halves are split.
fn lower_id(id: u128) -> types::Id {
    types::Id { high: (id >> 64) as u64, low: id as u64 }
}

fn lift_id(id: types::Id) -> u128 {
    (u128::from(id.high) << 64) | u128::from(id.low)
}

macro_rules! performatives {
    ($($act:ident),+ $(,)?) => {
        fn lower_performative(performative: Performative) -> types::Performative {
            match performative {
                $(Performative::$act => types::Performative::$act,)+
                Performative::UserDefined(word) => types::Performative::Other(word.as_str().to_owned()),
            }
        }

        fn lift_performative(performative: types::Performative) -> Result<Performative, types::SendError> {
            Ok(match performative {
                $(types::Performative::$act => Performative::$act,)+
                types::Performative::Other(word) => word.parse().map_err(|error| {
                    types::SendError::Invalid(format!("the performative {word:?} is not legal: {error}"))
                })?,
            })
        }
    };
}

performatives! {
    AcceptProposal, Agree, Cancel, Cfp, Confirm, Disconfirm, Failure, Inform, InformIf, InformRef, NotUnderstood, Propagate,
    Propose, Proxy, QueryIf, QueryRef, Refuse, RejectProposal, Request, RequestWhen, RequestWhenever, Subscribe,
}

fn invalid(error: impl std::fmt::Display) -> types::SendError {
    types::SendError::Invalid(error.to_string())
}

fn refused(error: &SendErrorKind) -> types::SendError {
    match error {
        SendErrorKind::Full
        | SendErrorKind::MemoryFull { .. }
        | SendErrorKind::ReceiverFull { .. }
        | SendErrorKind::JournalFull => types::SendError::Full(error.to_string()),
        SendErrorKind::ContentTooLarge { limit, .. } => types::SendError::TooLarge(*limit as u64),
        _ => types::SendError::Refused(error.to_string()),
    }
}

impl Host {
    fn check_length(&self, content: &[u8]) -> Result<(), types::SendError> {
        let limit = self.limits.message_bytes.into_inner();
        if content.len() as u64 > limit { Err(types::SendError::TooLarge(limit)) } else { Ok(()) }
    }

    /// Converts a message from a guest, if it is valid and the guest is permitted to send it.
    fn lift(&self, message: types::Outgoing, reply_with: Option<Correlation>) -> Result<Message, types::SendError> {
        self.check_length(&message.content)?;
        let mut builder = Message::builder(lift_performative(message.performative)?).content(message.content);
        let capability = |name: String| CapabilityName::try_new(name).map_err(invalid);
        builder = match message.to {
            types::Receiver::Agent(id) => {
                builder.receiver(AgentId::from_u128(lift_id(id)).ok_or_else(|| invalid("the receiver's id is 0"))?)
            }
            types::Receiver::Name(name) => builder.receiver(AgentId::of_text(&name)),
            types::Receiver::AnyOf(name) => builder.capability(&capability(name)?, Choice::Any),
            types::Receiver::NextOf(name) => builder.capability(&capability(name)?, Choice::RoundRobin),
            types::Receiver::IdlestOf(name) => builder.capability(&capability(name)?, Choice::LeastLoaded),
            types::Receiver::AllOf(name) => builder.capability(&capability(name)?, Choice::All),
        };
        if let Some(id) = message.conversation {
            let id = ConversationId::from_u128(lift_id(id)).ok_or_else(|| invalid("the conversation's id is 0"))?;
            builder = builder.conversation(id);
        }
        let correlation =
            |value: u64| NonZeroU64::new(value).map(Correlation::new).ok_or_else(|| invalid("a correlation is 0"));
        if let Some(value) = reply_with.map(Ok).or_else(|| message.reply_with.map(correlation)) {
            builder = builder.reply_with(value?);
        }
        if let Some(value) = message.in_reply_to {
            builder = builder.in_reply_to(correlation(value)?);
        }
        if let Some(after) = message.reply_within_ms {
            builder = builder.reply_by(WallTime(self.now.0 + u64::from(after)));
        }
        if let Some(lifetime) = message.time_to_live_ms {
            builder = builder.time_to_live(LifetimeMs::try_new(lifetime).map_err(invalid)?);
        }
        if message.durable {
            builder = builder.reliability(Reliability::Durable);
        }
        builder = builder.priority(match message.priority {
            types::Priority::Normal => Priority::Normal,
            types::Priority::Low => Priority::Low,
            types::Priority::High => Priority::High,
            types::Priority::Urgent => Priority::Urgent,
        });
        let with = |builder: MessageBuilder, word: Option<String>, set: fn(MessageBuilder, &str) -> MessageBuilder| {
            word.iter().fold(builder, |builder, word| set(builder, word))
        };
        builder = with(builder, message.protocol, MessageBuilder::protocol);
        builder = with(builder, message.language, MessageBuilder::language);
        builder = with(builder, message.ontology, MessageBuilder::ontology);
        builder = with(builder, message.encoding, MessageBuilder::encoding);
        let message = finish(builder, self.limits.message_bytes).map_err(invalid)?;
        self.permissions.allow(self.me, &message).map_err(types::SendError::NotAllowed)?;
        Ok(message)
    }

    async fn hand_over(&mut self, question: Question) -> Result<types::MessageId, types::SendError> {
        match Arc::clone(&self.desk).ask(question).await {
            Answer::Sent(Ok(id)) => Ok(lower_id(id.to_u128())),
            Answer::Sent(Err(error)) | Answer::Done(Err(error)) => Err(refused(&error)),
            Answer::Found(_) | Answer::Done(Ok(())) => Err(types::SendError::Refused("nothing was sent".to_owned())),
        }
    }
}

impl types::Host for Host {}

impl router::Host for Host {
    async fn send(&mut self, message: types::Outgoing) -> wasmtime::Result<Result<types::MessageId, types::SendError>> {
        self.count_call()?;
        Ok(match self.lift(message, None) {
            Ok(message) => self.hand_over(Question::Send(Box::new(message))).await,
            Err(error) => Err(error),
        })
    }

    async fn reply(
        &mut self,
        performative: types::Performative,
        content: Vec<u8>,
    ) -> wasmtime::Result<Result<types::MessageId, types::SendError>> {
        self.count_call()?;
        let checked = self.check_length(&content).and_then(|()| lift_performative(performative));
        Ok(match checked {
            Ok(performative) => self.hand_over(Question::Reply(performative, content)).await,
            Err(error) => Err(error),
        })
    }

    async fn ask(
        &mut self,
        message: types::Outgoing,
    ) -> wasmtime::Result<Result<types::Correlation, types::SendError>> {
        self.count_call()?;
        let correlation = self.new_correlation();
        Ok(match self.lift(message, Some(correlation)) {
            Ok(message) => self.hand_over(Question::Send(Box::new(message))).await.map(|_| correlation.get()),
            Err(error) => Err(error),
        })
    }

    fn new_conversation(&mut self) -> wasmtime::Result<types::ConversationId> {
        self.count_call()?;
        Ok(lower_id(Host::new_conversation(self).to_u128()))
    }

    async fn discover(&mut self, capability: String) -> wasmtime::Result<Vec<types::AgentId>> {
        self.count_call()?;
        let Ok(capability) = CapabilityName::try_new(capability) else { return Ok(Vec::new()) };
        Ok(match Arc::clone(&self.desk).ask(Question::Discover(capability)).await {
            Answer::Found(agents) => agents.into_iter().map(|agent| lower_id(agent.to_u128())).collect(),
            _ => Vec::new(),
        })
    }

    async fn offer(&mut self, capability: String) -> wasmtime::Result<Result<(), types::SendError>> {
        self.count_call()?;
        let checked = CapabilityName::try_new(capability).map_err(invalid).and_then(|capability| {
            self.permissions.allow_offer(&capability).map_err(types::SendError::NotAllowed).map(|()| capability)
        });
        Ok(match checked {
            Ok(capability) => match Arc::clone(&self.desk).ask(Question::Offer(capability)).await {
                Answer::Done(Err(error)) => Err(refused(&error)),
                _ => Ok(()),
            },
            Err(error) => Err(error),
        })
    }

    async fn withdraw(&mut self, capability: String) -> wasmtime::Result<()> {
        self.count_call()?;
        if let Ok(capability) = CapabilityName::try_new(capability) {
            Arc::clone(&self.desk).ask(Question::Withdraw(capability)).await;
        }
        Ok(())
    }

    async fn set_timer(
        &mut self,
        after_ms: u32,
        content: Vec<u8>,
    ) -> wasmtime::Result<Result<types::MessageId, types::SendError>> {
        self.count_call()?;
        let built = self.check_length(&content).and_then(|()| {
            finish(timer(self.me, self.now, after_ms, &content), self.limits.message_bytes).map_err(invalid)
        });
        Ok(match built {
            Ok(message) => self.hand_over(Question::Send(Box::new(message))).await,
            Err(error) => Err(error),
        })
    }

    fn me(&mut self) -> wasmtime::Result<types::AgentId> {
        self.count_call()?;
        Ok(lower_id(self.me.to_u128()))
    }

    fn agent_named(&mut self, name: String) -> wasmtime::Result<types::AgentId> {
        self.count_call()?;
        Ok(lower_id(AgentId::of_text(&name).to_u128()))
    }

    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        self.count_call()?;
        Ok(self.now.0)
    }

    fn random(&mut self) -> wasmtime::Result<u64> {
        self.count_call()?;
        Ok(Host::random(self))
    }

    fn log(&mut self, level: types::Level, text: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.count_call()?;
        let level = match level {
            types::Level::Trace => LogLevel::Trace,
            types::Level::Debug => LogLevel::Debug,
            types::Level::Info => LogLevel::Info,
            types::Level::Warn => LogLevel::Warn,
            types::Level::Error => LogLevel::Error,
        };
        let line = LogLine { at: self.now, agent: self.me, level, text, fields };
        self.log.write(line);
        Ok(())
    }

    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        self.count_call()?;
        Ok(self.recall(&key))
    }

    fn put(&mut self, key: String, value: Option<Vec<u8>>) -> wasmtime::Result<Result<(), types::SendError>> {
        self.count_call()?;
        Ok(self.remember(key, value).map_err(types::SendError::Invalid))
    }
}
