//! An agent whose handler is a raw module.
//!
//! Many messages are handled in one call, before any of them is taken out of the mailbox; the guest's actions wait
//! until their message is taken, and are dropped if that never happens. A trap does not show which message was to
//! blame: then the guest is restarted, and the same messages are passed to it one by one.

use std::collections::VecDeque;
use std::sync::Arc;

use caxton_shards::agent::{Agent, Batch, Context, Failure, Outcome, Polled, Supervision};
use caxton_shards::message::{AgentId, Message, MessageId};
use wasmtime::{Memory, Store, TypedFunc};

use super::super::execution::{Execution, Stage, begun, call, polled, save};
use super::super::guest::{Code, Guest, Instantiated};
use super::super::host::{Answer, Excess, Host, Question, SharedMemory};
use super::actions::{Action, Reading, finish};
use super::frames::{Frames, HEADER_BYTES};

/// Maximum number of messages in one call.
const MESSAGES_PER_CALL_MAX: usize = 256;
/// Size of the messages of a call from which no more are added, in bytes.
const BYTES_PER_CALL_MAX: usize = 1 << 20;
/// Maximum size of the actions for one message besides the content of a message, in bytes.
const ACTION_BYTES_PER_MESSAGE: usize = 4_096;

/// An instance ready to be called.
struct Cell {
    store: Store<Host>,
    memory: Memory,
    buffer: TypedFunc<u32, u32>,
    handle: TypedFunc<(u32, u32), u64>,
    stop: Option<TypedFunc<(), ()>>,
    /// Where messages may be written, and how many bytes.
    area: usize,
    area_bytes: usize,
    frames: Frames,
    /// The guest's last actions.
    actions: Vec<u8>,
}

/// The actions for one message, or what is wrong with them.
struct Wish {
    message: Option<MessageId>,
    actions: Vec<Result<Action, String>>,
}

/// See the module.
pub(in super::super) struct RawAgent {
    guest: Guest,
    me: AgentId,
    memory: SharedMemory,
    stage: Stage<Box<Cell>>,
    seed: u64,
    /// Why it could not be started after having been suspended.
    failed_start: Option<String>,
    /// The messages of the call in progress.
    called: Vec<Option<MessageId>>,
    /// The results of messages that were not taken yet.
    wishes: VecDeque<Wish>,
    /// The number of messages to be handled one by one.
    one_by_one: usize,
}

impl RawAgent {
    pub fn new(guest: Guest, me: AgentId, memory: SharedMemory) -> Self {
        let (called, wishes) = (Vec::new(), VecDeque::new());
        Self { guest, me, memory, stage: Stage::New, seed: 0, failed_start: None, called, wishes, one_by_one: 0 }
    }

    /// Creates an instance. It is started when the execution has ended.
    fn begin_start(&mut self) -> Execution<Box<Cell>> {
        let mut host = self.guest.host(self.me, &self.memory);
        host.seed(self.seed);
        self.seed = host.random();
        let desk = Arc::clone(&host.desk);
        Execution::new(desk, make(self.guest.clone(), host))
    }

    /// Makes the instance ready. Returns `None` if that takes longer.
    fn get_ready(&mut self, context: &mut Context<'_>) -> Option<Result<(), String>> {
        self.guest.sandbox.0.ticker.touch();
        loop {
            match &mut self.stage {
                Stage::Idle(_) | Stage::Handling(_) => return Some(Ok(())),
                Stage::New => self.stage = Stage::Starting(self.begin_start()),
                Stage::Starting(execution) => {
                    match execution.go_on(context.now(), |question| answer(question, context)) {
                        None => return None,
                        Some(Ok(cell)) => self.stage = Stage::Idle(cell),
                        Some(Err(text)) => {
                            self.stage = Stage::New;
                            return Some(Err(text));
                        }
                    }
                }
            }
        }
    }

    /// Begins a call with the messages from `gather`. Without any, nothing is begun.
    fn begin(&mut self, now: caxton_shards::api::Now, gather: impl FnOnce(&mut Frames, &mut Vec<Option<MessageId>>)) {
        let Stage::Idle(cell) = &mut self.stage else { return };
        cell.frames.begin(self.me, now.wall);
        self.called.clear();
        gather(&mut cell.frames, &mut self.called);
        if self.called.is_empty() {
            return;
        }
        let Some(mut cell) = self.stage.take_idle() else { return };
        cell.store.data_mut().begin(now.wall, cell.frames.count());
        self.stage = Stage::Handling(Execution::new(Arc::clone(&cell.store.data().desk), handle(cell)));
    }

    /// Continues the call in progress. Returns `None` if it takes longer.
    fn finish_call(
        &mut self,
        now: caxton_shards::api::Now,
        answer: impl FnMut(Question) -> Answer,
    ) -> Option<Result<(), String>> {
        self.guest.sandbox.0.ticker.touch();
        let Stage::Handling(execution) = &mut self.stage else { return Some(Ok(())) };
        let cell = match execution.go_on(now, answer)? {
            Ok(cell) => cell,
            Err(text) => {
                self.stage = Stage::New;
                return Some(Err(text));
            }
        };
        let host = cell.store.data();
        let reading = Reading { me: self.me, now: host.now, message_bytes: host.limits.message_bytes };
        let read = if cell.actions.is_empty() { Ok(Vec::new()) } else { reading.read(&cell.actions) };
        let result = match read {
            Ok(actions) => {
                let mut wishes: Vec<Wish> =
                    self.called.drain(..).map(|message| Wish { message, actions: Vec::new() }).collect();
                for (about, action) in actions {
                    if let Some(wish) = wishes.get_mut(about as usize) {
                        wish.actions.push(action);
                    }
                }
                // A message that arrived in between goes before those that wait.
                wishes.into_iter().rev().for_each(|wish| self.wishes.push_front(wish));
                Ok(())
            }
            Err(text) => Err(text),
        };
        // A guest that returns malformed actions is not called again.
        self.stage = if result.is_ok() { Stage::Idle(cell) } else { Stage::New };
        Some(result)
    }

    /// Returns the result of a message, if it was in a call. Earlier results were never taken, and are dropped.
    fn wish_for(&mut self, message: &Message) -> Option<Wish> {
        let place = self.wishes.iter().position(|wish| wish.message == message.id())?;
        self.wishes.drain(..place);
        self.wishes.pop_front()
    }

    /// Performs the guest's actions for a message.
    fn grant(&self, wish: Wish, message: &Message, context: &mut Context<'_>) -> Outcome {
        let host = self.guest.host_limits();
        for action in wish.actions {
            let done = action.and_then(|action| match action {
                Action::Fail(text) => Err(text),
                Action::Reply { performative, content } => {
                    let reply = finish(context.reply(message, performative).content(content), host.message_bytes)?;
                    context.send(reply).map(drop).map_err(|error| format!("its reply: {error}"))
                }
                Action::Send(builder) => {
                    let message = finish(*builder, host.message_bytes)?;
                    self.guest.permissions().allow(self.me, &message)?;
                    context.send(message).map(drop).map_err(|error| format!("its message: {error}"))
                }
                Action::Offer(capability) => {
                    self.guest.permissions().allow_offer(&capability)?;
                    context.advertise(&capability).map_err(|error| error.to_string())
                }
                Action::Withdraw(capability) => {
                    context.withdraw(&capability);
                    Ok(())
                }
            });
            if let Err(text) = done {
                return Outcome::failed(text);
            }
        }
        Outcome::Done
    }

    fn is_too_long(&self, message: &Message) -> bool {
        message.content().len() as u64 > self.guest.host_limits().message_bytes.into_inner()
    }
}

impl Instantiated for RawAgent {
    fn has_started(&mut self) -> Option<Result<(), String>> {
        self.stage.has_started(&mut self.failed_start)
    }
}

impl Agent for RawAgent {
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
        if self.is_too_long(message) {
            let (bytes, limit) = (message.content().len(), self.guest.host_limits().message_bytes);
            return Outcome::failed(format!("the message has {bytes} bytes of content: this guest may take {limit}"));
        }
        match self.get_ready(context) {
            None => return Outcome::Suspended,
            Some(Err(text)) => return Outcome::failed(text),
            Some(Ok(())) => {}
        }
        self.begin(context.now(), |frames, called| {
            frames.push(message);
            called.push(message.id());
        });
        self.resume(message, context)
    }

    fn handle_batch(&mut self, batch: &mut Batch<'_>) {
        loop {
            if self.wishes.is_empty() && self.one_by_one == 0 {
                let limit = self.guest.host_limits().message_bytes.into_inner();
                self.begin(batch.now(), |frames, called| {
                    let mut full = false;
                    batch.look_ahead(MESSAGES_PER_CALL_MAX, |message| {
                        full |= frames.bytes().len() > BYTES_PER_CALL_MAX || message.content().len() as u64 > limit;
                        if !full {
                            frames.push(message);
                            called.push(message.id());
                        }
                    });
                });
                if matches!(self.stage, Stage::Handling(_)) {
                    let now = batch.now();
                    match self.finish_call(now, |question| answer_from(question, batch)) {
                        Some(Ok(())) => {}
                        Some(Err(text)) if self.called.len() == 1 => {
                            if batch.next().is_some() {
                                batch.settle(Outcome::failed(text));
                            }
                            return;
                        }
                        Some(Err(_)) => self.one_by_one = self.called.len(),
                        None => {
                            if batch.next().is_some() {
                                batch.settle(Outcome::Suspended);
                            }
                            return;
                        }
                    }
                }
            }
            let Some((message, mut context)) = batch.next() else { return };
            let outcome = if let Some(wish) = self.wish_for(message) {
                self.grant(wish, message, &mut context)
            } else {
                self.one_by_one = self.one_by_one.saturating_sub(1);
                self.handle(message, &mut context)
            };
            batch.settle(outcome);
        }
    }

    fn resume(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if matches!(self.stage, Stage::New | Stage::Starting(_)) {
            return self.handle(message, context);
        }
        match self.finish_call(context.now(), |question| answer(question, context)) {
            None => Outcome::Suspended,
            Some(Ok(())) => match self.wish_for(message) {
                Some(wish) => self.grant(wish, message, context),
                None => self.handle(message, context),
            },
            Some(Err(text)) if self.called.len() == 1 => Outcome::failed(text),
            Some(Err(_)) => {
                self.one_by_one = self.called.len().saturating_sub(1);
                self.handle(message, context)
            }
        }
    }

    /// Restarts a guest that trapped; one that returned an error continues.
    fn supervise(&mut self, _failure: &Failure) -> Supervision {
        if matches!(self.stage, Stage::New) { Supervision::Restart } else { Supervision::Resume }
    }

    fn stopped(&mut self) {
        let Some(mut cell) = self.stage.take_idle() else { return };
        let Some(stop) = cell.stop.clone() else { return };
        self.guest.sandbox.0.ticker.touch();
        let now = cell.store.data().now;
        cell.store.data_mut().begin(now, 1);
        let desk = Arc::clone(&cell.store.data().desk);
        let mut execution = Execution::new(desk, async move {
            call(&mut cell.store, async |store| stop.call_async(&mut *store, ()).await).await?;
            Ok(cell)
        });
        // It gets only one slice, and there is nobody to report the result to.
        let now = caxton_shards::api::Now { monotonic_ns: 0, wall: now };
        let _ = execution.go_on(now, |_| Answer::Found(Vec::new()));
    }
}

/// Answers a raw guest's question in the middle of a call.
fn answer(question: Question, context: &Context<'_>) -> Answer {
    match question {
        Question::Discover(capability) => Answer::Found(context.discover(&capability)),
        _ => Answer::Found(Vec::new()),
    }
}

fn answer_from(question: Question, batch: &Batch<'_>) -> Answer {
    match question {
        Question::Discover(capability) => Answer::Found(batch.discover(&capability)),
        _ => Answer::Found(Vec::new()),
    }
}

/// Creates an instance and starts it.
async fn make(guest: Guest, mut host: Host) -> Result<Box<Cell>, String> {
    host.begin(host.now, 1);
    #[cfg(feature = "store")]
    host.has_its_memory()?;
    let mut store = guest.sandbox.store(host);
    let Code::Raw(pre) = &*guest.code else { return Err("this is not a raw module".to_owned()) };
    let slice = store.data().slice_epochs();
    store.set_epoch_deadline(slice);
    let instance = pre.instantiate_async(&mut store).await.map_err(|error| super::super::guest::explain(&error))?;
    let optional = |store: &mut Store<Host>, name| instance.get_typed_func::<(), ()>(store, name).ok();
    let initialize = optional(&mut store, "_initialize");
    let start = optional(&mut store, "caxton_start_v1");
    let stop = optional(&mut store, "caxton_stop_v1");
    let missing = |_| "the module has changed".to_owned();
    let buffer = instance.get_typed_func(&mut store, "caxton_buffer_v1").map_err(missing)?;
    let handle = instance.get_typed_func(&mut store, "caxton_handle_v1").map_err(missing)?;
    let memory = instance.get_memory(&mut store, "memory").ok_or("its memory is gone")?;
    store.data_mut().raw_memory = Some(memory);
    for function in [initialize, start].into_iter().flatten() {
        call(&mut store, async |store| function.call_async(&mut *store, ()).await).await?;
    }
    save(&mut store).await?;
    let (frames, actions) = (Frames::default(), Vec::new());
    Ok(Box::new(Cell { store, memory, buffer, handle, stop, area: 0, area_bytes: 0, frames, actions }))
}

/// Passes messages to the guest, and takes its actions.
async fn handle(mut cell: Box<Cell>) -> Result<Box<Cell>, String> {
    let bytes = cell.frames.bytes().len();
    if bytes > cell.area_bytes {
        let wanted = bytes.next_power_of_two().max(HEADER_BYTES);
        let (buffer, size) = (cell.buffer.clone(), u32::try_from(wanted).map_err(|error| error.to_string())?);
        let at = call(&mut cell.store, async |store| buffer.call_async(&mut *store, size).await).await?;
        if at == 0 {
            return Err(format!("it has no room for {wanted} bytes of messages"));
        }
        if at % 8 != 0 {
            return Err(format!("its buffer lies at {at}, which 8 does not divide"));
        }
        (cell.area, cell.area_bytes) = (at as usize, wanted);
    }
    let Cell { store, memory, frames, area, .. } = &mut *cell;
    let place = memory.data_mut(&mut *store).get_mut(*area..).and_then(|place| place.get_mut(..bytes));
    place.ok_or_else(|| Excess::Pointer.to_string())?.copy_from_slice(frames.bytes());
    let (at, length) = (u32::try_from(*area).unwrap_or(0), u32::try_from(bytes).unwrap_or(0));
    let handle = cell.handle.clone();
    let answer = call(&mut cell.store, async |store| handle.call_async(&mut *store, (at, length)).await).await?;
    cell.actions.clear();
    #[allow(clippy::cast_possible_truncation)] // The two halves are split.
    let (at, length) = ((answer >> 32) as usize, answer as u32 as usize);
    if length > 0 {
        let host = cell.store.data();
        let per_message = usize::try_from(host.limits.message_bytes.into_inner()).unwrap_or(usize::MAX);
        let limit = per_message.saturating_add(ACTION_BYTES_PER_MESSAGE).saturating_mul(cell.frames.count() as usize);
        if length > limit {
            return Err(Excess::Answer { bytes: length, limit }.to_string());
        }
        let Cell { store, memory, actions, .. } = &mut *cell;
        let answer = memory.data(&*store).get(at..).and_then(|answer| answer.get(..length));
        actions.extend_from_slice(answer.ok_or_else(|| Excess::Pointer.to_string())?);
    }
    save(&mut cell.store).await?;
    Ok(cell)
}
