//! Benchmark of the whole path of a message: handler, admission, conversation, mailbox, dispatch, settlement. On one
//! shard, or from one to another and back, both on this thread, which excludes the transfer of cache lines between
//! cores.
//!
//! `cargo bench -p caxton-shards --bench step -- [ROUNDS] [MESSAGES] [AGENTS] [LOAD]`. A load is a number from 0;
//! without it all are run

#![allow(clippy::unwrap_used)] // Benchmarks fail by panicking.

use std::collections::VecDeque;
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::time::Instant;

use caxton_shards::agent::{Agent, Context, Outcome, Registration};
use caxton_shards::api::ConversationLimits;
use caxton_shards::api::OverflowPolicy;
use caxton_shards::api::{Input, Now, Token};
use caxton_shards::domain::{
    AgentName, BatchSize, ContentLimit, MailboxBytes, MailboxCapacity, MessageTimeoutMs, NodeId, OutboxCapacity,
    RestartCount, RestartDelayMs, RestartWindowMs, ShardCount, TurnQuota,
};
use caxton_shards::journal::record::Durability;
use caxton_shards::mesh::{LaneCapacity, mesh};
use caxton_shards::message::{AgentId, IdSpace, Message, MessageBuilder, Performative, Term, WallTime};
use caxton_shards::protocol::{Mode, Rulebook};
use caxton_shards::routing::partition::{Partition, ShardIndex};
use caxton_shards::shard::{RetryPolicy, Shard, ShardConfig};
use caxton_shards::supervision::RestartPolicy;
use caxton_shards::supervision::breaker::BreakerPolicy;
use caxton_shards::trace::Watching;

/// The same as the program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How an agent handles a non-empty message; empty ones start it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Talk {
    /// It is sent back, without a conversation.
    Rally,
    /// It is sent back, in a conversation that never ends.
    Conversation,
    /// Request, agree, inform, and the next request in another conversation.
    Requests(Option<Term>),
}

struct Rally {
    partner: AgentId,
    talk: Talk,
    payload: [u8; 200],
}

/// Its name, the number of shards with agents, their behaviour, whether the protocol is checked, and which messages are
/// watched. With two shards every message crosses.
type Load = (&'static str, u16, Talk, Mode, Watching);

impl Agent for Rally {
    fn handle(&mut self, message: &Message, context: &mut Context<'_>) -> Outcome {
        if let Talk::Requests(protocol) = self.talk {
            return self.request(message, context, protocol);
        }
        let builder = if message.content().is_empty() {
            let builder = Message::builder(Performative::Inform).receiver(self.partner);
            if self.talk == Talk::Conversation { builder.conversation(context.new_conversation()) } else { builder }
        } else {
            message.reply(Performative::Inform)
        };
        self.send(builder, context);
        Outcome::Done
    }
}

impl Rally {
    fn send(&self, builder: MessageBuilder, context: &mut Context<'_>) {
        let sent = builder.content(self.payload.as_slice()).build().is_ok_and(|reply| context.send(reply).is_ok());
        assert!(sent, "there is always room in this load");
    }

    fn request(&self, message: &Message, context: &mut Context<'_>, protocol: Option<Term>) -> Outcome {
        match message.performative() {
            Performative::Request if !message.content().is_empty() => {
                self.send(message.reply(Performative::Agree), context);
                self.send(message.reply(Performative::Inform), context);
            }
            Performative::Agree => {}
            _ => {
                if !message.content().is_empty() {
                    context.close_conversation_of(message);
                }
                let builder = Message::builder(Performative::Request).receiver(self.partner);
                let builder = builder.conversation(context.new_conversation());
                self.send(protocol.into_iter().fold(builder, MessageBuilder::protocol_term), context);
            }
        }
        Outcome::Done
    }
}

fn config(protocols: Rulebook, partition: Partition, watching: Watching, shard: u16) -> ShardConfig {
    ShardConfig {
        id_space: IdSpace { node: NodeId::default(), boot_epoch: 1, shard },
        partition,
        mailbox_messages: MailboxCapacity::try_new(10_000).unwrap(),
        mailbox_bytes: MailboxBytes::try_new(64 << 20).unwrap(),
        overflow: OverflowPolicy::Reject,
        memory_max: 4 << 30,
        message_timeout: MessageTimeoutMs::try_new(30_000).unwrap(),
        content_max: ContentLimit::default(),
        batch: BatchSize::try_new(1_000).unwrap(),
        turn_quota: TurnQuota::try_new(256).unwrap(),
        outbox: OutboxCapacity::try_new(1_024).unwrap(),
        pending_max: 1_000_000,
        retry: RetryPolicy { retries: 3, delay_ms: 100, factor: 2.0, jitter: 0.0 },
        breaker: BreakerPolicy::default(),
        supervision: RestartPolicy {
            restarts: RestartCount::try_new(10).unwrap(),
            window_ms: RestartWindowMs::try_new(60_000).unwrap(),
            delay_ms: RestartDelayMs::try_new(0).unwrap(),
        },
        dead_letters_max: 1_000,
        dead_letter_bytes_max: 1 << 20,
        conversations: ConversationLimits {
            open_max: 1_000_000,
            participants_max: 20,
            history: 16,
            timeout_ms: 1_800_000,
        },
        protocols,
        rules: Arc::default(),
        durability: Durability::Unavailable,
        durable_lifetime_ms: 30_000,
        duplicates_window: 1_000,
        looks_for_absent: false,
        watching,
        seed: 1,
    }
}

fn measure(agents: usize, (kind, shards, talk, mode, watching): Load, rounds: usize, messages: u64) {
    let now = |step: u64| Now { monotonic_ns: step * 1_000, wall: WallTime(1) };
    let partition = Partition::new(ShardCount::try_new(shards).unwrap());
    let (credits, uncredited) = (NonZeroUsize::new(1_024).unwrap(), NonZeroUsize::new(64).unwrap());
    let ports = mesh(NonZeroU16::new(shards).unwrap(), LaneCapacity { credits, uncredited });
    let rulebook = Rulebook::new(mode, &[], &[]).unwrap();
    let mut shards: Vec<Shard> = (0_u16..)
        .zip(ports)
        .map(|(index, port)| Shard::new(config(rulebook.clone(), partition, watching, index), port, now(0)))
        .collect();
    let count = shards.len();
    // A partner is on the next shard, which is the same one if there is no other.
    let place = |number: usize| ShardIndex(u16::try_from(number % count).unwrap());
    let name =
        |number: usize| AgentName::try_new(partition.name_on(place(number), &format!("agent-{number}"))).unwrap();
    let mut inputs: Vec<VecDeque<Input>> = Vec::new();
    for shard in 0..count {
        let here: Vec<usize> = (0..agents).filter(|number| number % count == shard).collect();
        let registrations = here.iter().map(|number| {
            let partner = AgentId::of(&name((number * 7 + 1) % agents));
            Registration::native(name(*number), move || Rally { partner, talk, payload: [b'x'; 200] })
        });
        inputs.push(VecDeque::from([Input::Register(registrations.collect(), Token(1))]));
    }
    let mut outputs = Vec::new();
    let mut step = 0;
    let mut turn = |shards: &mut [Shard], inputs: &mut [VecDeque<Input>]| {
        step += 1;
        for (shard, inputs) in shards.iter_mut().zip(inputs) {
            shard.step(now(step), inputs, &mut outputs);
            shard.flush();
            // Another thread would take them.
            shard.stage_records().clear();
        }
    };
    let processed = |shards: &[Shard]| shards.iter().map(|shard| shard.account().processed).sum::<u64>();
    let registered = |shards: &[Shard]| shards.iter().map(|shard| shard.snapshot().agents).sum::<usize>();
    while registered(&shards) < agents {
        turn(&mut shards, &mut inputs);
    }
    for number in 0..agents {
        let kick = Message::builder(Performative::Request).receiver(AgentId::of(&name(number))).build().unwrap();
        inputs[number % count].push_back(Input::Tell(kick));
    }
    while inputs.iter().any(|inputs| !inputs.is_empty()) {
        turn(&mut shards, &mut inputs);
    }
    let mut figures: Vec<f64> = (0..rounds)
        .map(|_| {
            let begun = processed(&shards);
            let started = Instant::now();
            while processed(&shards) - begun < messages {
                turn(&mut shards, &mut inputs);
            }
            started.elapsed().as_nanos() as f64 / (processed(&shards) - begun) as f64
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    for shard in &shards {
        assert!(shard.account().balances() && shard.account().dead_lettered == 0, "{:?}", shard.account());
    }
    println!("{agents:>9} agents, {kind:<30} best {:>6.1} ns, median {:>6.1} ns", figures[0], figures[rounds / 2]);
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let rounds = usize::try_from(numbers.first().copied().unwrap_or(9)).unwrap_or(9).max(1);
    let messages = numbers.get(1).copied().unwrap_or(1_000_000);
    let protocol = Term::of("fipa-request");
    let none = Watching::default();
    let hundredth = Watching { threshold: (1 << 32) / 100, kept_per_second_max: 1_000, ..Watching::ALL };
    let alone = ("without conversation", 1, Talk::Rally, Mode::Off, none);
    let conversation = ("in conversations", 1, Talk::Conversation, Mode::Off, none);
    let requests = ("requests", 1, Talk::Requests(None), Mode::Off, none);
    let unchecked = ("requests, protocol named", 1, Talk::Requests(protocol), Mode::Off, none);
    let enforced = ("requests, protocol enforced", 1, Talk::Requests(protocol), Mode::Enforce, none);
    let across = ("in conversations, two shards", 2, Talk::Conversation, Mode::Off, none);
    let watched = ("in conversations, 1 % watched", 1, Talk::Conversation, Mode::Off, hundredth);
    let across_watched = ("in conversations, two shards, 1 % watched", 2, Talk::Conversation, Mode::Off, hundredth);
    let loads = [alone, conversation, requests, unchecked, enforced, across, watched, across_watched];
    let sizes = match (numbers.get(2), numbers.get(3)) {
        (Some(agents), load) => {
            let load = load.and_then(|load| loads.get(usize::try_from(*load).ok()?));
            vec![(*agents, *load.unwrap_or(&conversation))]
        }
        _ => vec![
            (16, conversation),
            (1_000, alone),
            (1_000, conversation),
            (100_000, conversation),
            (1_000, requests),
            (1_000, unchecked),
            (1_000, enforced),
            (1_000, across),
            (1_000, watched),
            (1_000, across_watched),
        ],
    };
    for (agents, load) in sizes {
        measure(usize::try_from(agents).unwrap_or(1_000), load, rounds, messages);
    }
}
