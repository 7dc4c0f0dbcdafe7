//! The whole path of a message on one shard: handler, admission, conversation, mailbox, dispatch, settling.
//!
//! `cargo bench -p caxton-shards --bench step -- [ROUNDS] [MESSAGES] [AGENTS] [LOAD]`. A load is a number from 0; without it all are run

#![allow(clippy::unwrap_used)] // A benchmark fails by panicking.

use std::collections::VecDeque;
use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Instant;

use caxton_shards::agent::{Agent, Context, Outcome, Registration};
use caxton_shards::breaker::BreakerPolicy;
use caxton_shards::conversation::ConversationLimits;
use caxton_shards::domain::{
    AgentName, BatchSize, ContentLimit, MailboxBytes, MailboxCapacity, MessageTimeoutMs, NodeId, OutboxCapacity,
    RestartCount, RestartDelayMs, RestartWindowMs, ShardCount, TurnQuota,
};
use caxton_shards::interface::{Input, Now, Token};
use caxton_shards::mesh::{LaneCapacity, mesh};
use caxton_shards::message::{AgentId, IdSpace, Message, MessageBuilder, Performative, Term, WallTime};
use caxton_shards::overflow::OverflowPolicy;
use caxton_shards::partition::Partition;
use caxton_shards::protocol::{Mode, Rulebook};
use caxton_shards::record::Durability;
use caxton_shards::shard::{RetryPolicy, Shard, ShardConfig};
use caxton_shards::supervision::RestartPolicy;

/// What an agent does with a message that is not empty; the empty ones begin.
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

/// What it is called, what agents do, and whether they are held to their protocol.
type Load = (&'static str, Talk, Mode);

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

fn config(protocols: Rulebook) -> ShardConfig {
    let partition = Partition::new(ShardCount::try_new(1).unwrap());
    ShardConfig {
        id_space: IdSpace { node: NodeId::default(), boot_epoch: 1, shard: 0 },
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
        rules: Vec::new(),
        durability: Durability::Unavailable,
        durable_lifetime_ms: 30_000,
        duplicates_window: 1_000,
        seed: 1,
    }
}

fn measure(agents: usize, (kind, talk, mode): Load, rounds: usize, messages: u64) {
    let now = |step: u64| Now { monotonic_ns: step * 1_000, wall: WallTime(1) };
    let slots = NonZeroUsize::new(16).unwrap();
    let port = mesh(NonZeroU16::MIN, LaneCapacity { credits: slots, uncredited: slots }).pop().unwrap();
    let rulebook = Rulebook::new(mode, &[], &[]).unwrap();
    let mut shard = Shard::new(config(rulebook), port, now(0));
    let name = |number: usize| AgentName::try_new(format!("agent-{number}")).unwrap();
    let registrations = (0..agents)
        .map(|number| {
            let partner = AgentId::of(&name((number * 7 + 1) % agents));
            Registration::native(name(number), move || Rally { partner, talk, payload: [b'x'; 200] })
        })
        .collect();
    let mut inputs = VecDeque::from([Input::Register(registrations, Token(1))]);
    for number in 0..agents {
        let kick = Message::builder(Performative::Request).receiver(AgentId::of(&name(number))).build().unwrap();
        inputs.push_back(Input::Tell(kick));
    }
    let mut outputs = Vec::new();
    let mut step = 0;
    while !inputs.is_empty() {
        step += 1;
        shard.step(now(step), &mut inputs, &mut outputs);
    }
    let mut figures: Vec<f64> = (0..rounds)
        .map(|_| {
            let begun = shard.account().processed;
            let started = Instant::now();
            while shard.account().processed - begun < messages {
                step += 1;
                shard.step(now(step), &mut inputs, &mut outputs);
            }
            started.elapsed().as_nanos() as f64 / (shard.account().processed - begun) as f64
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    assert!(shard.account().balances() && shard.account().dead_lettered == 0, "{:?}", shard.account());
    println!("{agents:>9} agents, {kind:<30} best {:>6.1} ns, median {:>6.1} ns", figures[0], figures[rounds / 2]);
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let rounds = usize::try_from(numbers.first().copied().unwrap_or(9)).unwrap_or(9).max(1);
    let messages = numbers.get(1).copied().unwrap_or(1_000_000);
    let protocol = Term::of("fipa-request");
    let alone = ("without conversation", Talk::Rally, Mode::Off);
    let conversation = ("in conversations", Talk::Conversation, Mode::Off);
    let requests = ("requests", Talk::Requests(None), Mode::Off);
    let unchecked = ("requests, protocol named", Talk::Requests(protocol), Mode::Off);
    let enforced = ("requests, protocol enforced", Talk::Requests(protocol), Mode::Enforce);
    let loads = [alone, conversation, requests, unchecked, enforced];
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
        ],
    };
    for (agents, load) in sizes {
        measure(usize::try_from(agents).unwrap_or(1_000), load, rounds, messages);
    }
}
