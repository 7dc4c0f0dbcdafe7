//! The agents of a benchmark, by scenario.

use super::Scenario;
use super::load::{Broadcaster, Contractor, Control, Feeder, Kit, Listener, Manager, Pacer, Rally, Requester, Sink};
use super::protocols::{self, Player};
use super::run::{Length, Plan};
use caxton_router::domain::{AgentName, CapabilityName};
use caxton_router::wasm::Sandbox;
use caxton_router::{AgentId, Registration, Router};
use std::sync::Arc;

/// Number of conversations begun by each agent in the scenarios that send messages back and forth.
const CONVERSATIONS_PER_AGENT: usize = 1;
/// Number of contractors called by each negotiation.
const CONTRACTORS: usize = 10;
/// Maximum number of receivers of each broadcast.
const LISTENERS_MAX: usize = 100;
/// Maximum number of messages waiting for one WebAssembly guest, and for all of them together.
const GUEST_WINDOW_MAX: u64 = 256;
const GUEST_MESSAGES_MAX: u64 = 65_536;

/// The agents of a run.
#[derive(Default)]
pub struct Cast {
    pub registrations: Vec<Registration>,
    /// The agents that begin on command.
    pub starters: Vec<AgentId>,
    /// The total number of messages in a run of [`Length::Messages`].
    pub messages: u64,
    /// The agents subjected to the disturbance.
    pub patients: Arc<[AgentId]>,
    /// The one of them outside the shards.
    pub slow_consumer: Option<AgentName>,
}

pub struct Named {
    pub name: AgentName,
    pub id: AgentId,
    pub shard: usize,
}

pub fn names(plan: &Plan, router: &Router) -> Result<Vec<Named>, String> {
    let partition = router.partition();
    (0..plan.agents)
        .map(|number| {
            let name = AgentName::try_new(format!("agent-{number}")).map_err(|error| error.to_string())?;
            let id = AgentId::of(&name);
            Ok(Named { name, id, shard: partition.shard_of(id).as_usize() })
        })
        .collect()
}

/// Registers the agents.
pub fn cast(plan: &Plan, router: &Router, names: &[Named], control: &Arc<Control>) -> Result<Cast, String> {
    if names.len() < 2 {
        return Err("a run needs at least 2 agents".to_owned());
    }
    if let Some(rate) = plan.rate {
        return match &plan.disturbance {
            Some(disturbance) => disturbance.cast(plan, router, names, control, rate),
            None => paced(plan, router, names, control, rate),
        };
    }
    match plan.scenario {
        Scenario::Local | Scenario::Cross | Scenario::Mixed => rallies(plan, router, names, control),
        Scenario::Request => Ok(requests(plan, names, control)),
        Scenario::ContractNet => negotiations(plan, names, control),
        Scenario::Broadcast => broadcasts(plan, names, control),
        Scenario::Wasm => guests(plan, router, names, control),
        Scenario::Protocols => Ok(plays(plan, names, control)),
        Scenario::Overload
        | Scenario::SlowConsumer
        | Scenario::DurableLoad
        | Scenario::HostileGuests
        | Scenario::Poison => Err("this load has a rate".to_owned()),
    }
}

pub fn kit(plan: &Plan, control: &Arc<Control>, named: &Named, salt: usize) -> impl Fn() -> Kit + Send + 'static {
    let (control, shard, size) = (Arc::clone(control), named.shard, plan.size);
    #[allow(clippy::cast_possible_truncation)] // Any number will do.
    let salt = salt as u32;
    let durable = plan.is_durable();
    move || Kit::new(&control, shard, size, salt).durable(durable)
}

fn rallies(plan: &Plan, router: &Router, names: &[Named], control: &Arc<Control>) -> Result<Cast, String> {
    let mut dice = Dice(0x5eed);
    let candidates: Vec<Vec<&Named>> =
        (0..usize::from(router.shard_count())).map(|shard| candidates(plan, names, shard)).collect();
    let conversations = names.len() * CONVERSATIONS_PER_AGENT;
    let mut messages = 0;
    let mut registrations = Vec::with_capacity(names.len());
    for (number, named) in names.iter().enumerate() {
        let others = &candidates[named.shard];
        if others.iter().all(|other| other.id == named.id) {
            return Err(format!("agent {number} has no partner: use more agents or other shards"));
        }
        let mut partners = Vec::with_capacity(CONVERSATIONS_PER_AGENT);
        while partners.len() < CONVERSATIONS_PER_AGENT {
            let other = others[dice.roll(others.len())];
            if other.id != named.id {
                let conversation = number * CONVERSATIONS_PER_AGENT + partners.len();
                let share = share_of(plan.length, conversation, conversations);
                messages += if matches!(plan.length, Length::Messages(_)) { share } else { 0 };
                partners.push((other.id, share.saturating_sub(1)));
            }
        }
        let kit = kit(plan, control, named, number);
        let name = named.name.clone();
        registrations.push(Registration::native(name, move || Rally::new(kit(), partners.clone())));
    }
    Ok(Cast { registrations, starters: names.iter().map(|named| named.id).collect(), messages, ..Cast::default() })
}

/// Returns the messages of one of several rounds if a number of messages is spread over them; each has at least one.
/// `u64::MAX` for a run of limited time.
fn share_of(length: Length, place: usize, places: usize) -> u64 {
    match length {
        Length::Seconds(_) => u64::MAX,
        Length::Messages(messages) => {
            let (places, place) = (places as u64, place as u64);
            (messages / places + u64::from(place < messages % places)).max(1)
        }
    }
}

fn candidates<'a>(plan: &Plan, names: &'a [Named], shard: usize) -> Vec<&'a Named> {
    let several = names.iter().any(|named| named.shard != names[0].shard);
    let fits = |other: &&Named| match plan.scenario {
        Scenario::Local => other.shard == shard,
        Scenario::Cross => !several || other.shard != shard,
        _ => true,
    };
    names.iter().filter(fits).collect()
}

/// A small generator, so that a run's agents are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % sides as u64) as usize
    }
}

/// Returns the number of rounds begun by each of `starters`, if a round has `per_round` messages, and the total number
/// of messages.
fn rounds_of(plan: &Plan, starters: usize, per_round: u64) -> (Option<u64>, u64) {
    match plan.length {
        Length::Seconds(_) => (None, 0),
        Length::Messages(messages) => {
            let rounds = (messages / (starters as u64 * per_round)).max(1);
            (Some(rounds), rounds * starters as u64 * per_round)
        }
    }
}

/// Every agent begins request conversations with two others.
fn requests(plan: &Plan, names: &[Named], control: &Arc<Control>) -> Cast {
    const PARTNERS: usize = 2;
    const MESSAGES_PER_ROUND: u64 = 3;
    let mut dice = Dice(0x5eed);
    let (budget, messages) = rounds_of(plan, names.len(), MESSAGES_PER_ROUND);
    let mut registrations = Vec::with_capacity(names.len());
    for (number, named) in names.iter().enumerate() {
        let mut partners = Vec::with_capacity(PARTNERS);
        while partners.len() < PARTNERS {
            let other = &names[dice.roll(names.len())];
            if other.id != named.id {
                partners.push(other.id);
            }
        }
        let kit = kit(plan, control, named, number);
        let name = named.name.clone();
        registrations.push(Registration::native(name, move || Requester::new(kit(), partners.clone(), budget)));
    }
    Cast { registrations, starters: names.iter().map(|named| named.id).collect(), messages, ..Cast::default() }
}

/// One agent in eleven negotiates with the ten that follow it.
fn negotiations(plan: &Plan, names: &[Named], control: &Arc<Control>) -> Result<Cast, String> {
    let group = CONTRACTORS + 1;
    if names.len() < group {
        return Err(format!("contract-net needs at least {group} agents"));
    }
    let allowed = usize::from(plan.config.conversation.participants_max.into_inner());
    let contractors = CONTRACTORS.min(allowed.saturating_sub(1)).max(1);
    // A call, a proposal and a decision for each contractor, and one result.
    let per_round = 3 * contractors as u64 + 1;
    let (budget, messages) = rounds_of(plan, names.len() / group, per_round);
    let mut registrations = Vec::with_capacity(names.len());
    let mut starters = Vec::new();
    for (number, group) in names.chunks_exact(group).enumerate() {
        let [manager, others @ ..] = group else { continue };
        starters.push(manager.id);
        let asked: Vec<AgentId> = others.iter().take(contractors).map(|other| other.id).collect();
        let kit_of_manager = kit(plan, control, manager, number);
        registrations.push(Registration::native(manager.name.clone(), move || {
            Manager::new(kit_of_manager(), asked.clone(), budget)
        }));
        for (number, contractor) in others.iter().enumerate() {
            let kit = kit(plan, control, contractor, number);
            registrations.push(Registration::native(contractor.name.clone(), move || Contractor::new(kit())));
        }
    }
    Ok(Cast { registrations, starters, messages, ..Cast::default() })
}

/// Each agent is a WebAssembly guest, kept busy by one native agent on its shard.
fn guests(plan: &Plan, router: &Router, names: &[Named], control: &Arc<Control>) -> Result<Cast, String> {
    let (file, text) = if plan.raw {
        ("echo/raw.wat", include_str!("../../../examples/guests/echo/raw.wat"))
    } else {
        ("echo/component.wat", include_str!("../../../examples/guests/echo/component.wat"))
    };
    let sandbox = Sandbox::start(&plan.config.wasm).map_err(|error| error.to_string())?;
    let module = wat::parse_str(text).map_err(|error| format!("{file}: {error}"))?;
    let guest = sandbox.load(file, &module).map_err(|error| error.to_string())?;
    let window = (GUEST_MESSAGES_MAX / names.len() as u64).clamp(1, GUEST_WINDOW_MAX);
    // A window of messages, and one reply.
    let (budget, messages) = rounds_of(plan, names.len(), window + 1);
    let mut cast = Cast { messages, ..Cast::default() };
    for (number, named) in names.iter().enumerate() {
        cast.registrations.push(guest.agent(named.name.clone()));
        let index = caxton_router::routing::ShardIndex(u16::try_from(named.shard).unwrap_or(u16::MAX));
        let name = router.partition().name_on(index, &format!("feeder-{number}"));
        let name = AgentName::try_new(name).map_err(|error| error.to_string())?;
        let feeder = Named { id: AgentId::of(&name), name, shard: named.shard };
        let (kit, guest) = (kit(plan, control, &feeder, number), named.id);
        cast.starters.push(feeder.id);
        cast.registrations.push(Registration::native(feeder.name, move || Feeder::new(kit(), guest, window, budget)));
    }
    Ok(cast)
}

/// Every agent plays one script after the other with the next one.
fn plays(plan: &Plan, names: &[Named], control: &Arc<Control>) -> Cast {
    let agents: Vec<AgentId> = names.iter().map(|named| named.id).collect();
    let partners = protocols::partners(&agents);
    let players = names.iter().zip(partners.iter()).enumerate().map(|(number, (named, partner))| {
        let (kit, partner, offences) = (kit(plan, control, named, number), *partner, plan.offences);
        Registration::native(named.name.clone(), move || Player::new(kit(), partner, offences, number))
    });
    Cast { registrations: players.collect(), starters: agents, ..Cast::default() }
}

/// One agent broadcasts to up to a hundred others, on any shards.
fn broadcasts(plan: &Plan, names: &[Named], control: &Arc<Control>) -> Result<Cast, String> {
    let group = names.len().min(LISTENERS_MAX + 1);
    let listeners = group - 1;
    let (budget, messages) = rounds_of(plan, names.len() / group, 2 * listeners as u64);
    let mut registrations = Vec::with_capacity(names.len());
    let mut starters = Vec::new();
    for (number, group) in names.chunks_exact(group).enumerate() {
        let [broadcaster, others @ ..] = group else { continue };
        let capability = CapabilityName::try_new(format!("listening-{number}")).map_err(|error| error.to_string())?;
        starters.push(broadcaster.id);
        let kit_of_broadcaster = kit(plan, control, broadcaster, number);
        let wanted = capability.clone();
        registrations.push(Registration::native(broadcaster.name.clone(), move || {
            Broadcaster::new(kit_of_broadcaster(), &wanted, listeners, budget)
        }));
        for (number, listener) in others.iter().enumerate() {
            let kit = kit(plan, control, listener, number);
            let registration = Registration::native(listener.name.clone(), move || Listener::new(kit()));
            registrations.push(registration.offering(capability.clone()));
        }
    }
    Ok(Cast { registrations, starters, messages, ..Cast::default() })
}

/// An open loop: agents that receive what pacers send.
fn paced(plan: &Plan, router: &Router, names: &[Named], control: &Arc<Control>, rate: f64) -> Result<Cast, String> {
    let pace = Pace { prefix: "pacer", rate, durable: plan.is_durable() };
    let mut cast = pacers(plan, router, names, control, pace, |_, pacer| pacer)?;
    let sinks = names.iter().enumerate().map(|(number, named)| sink(plan, control, named, number));
    cast.registrations.extend(sinks);
    Ok(cast)
}

pub fn sink(plan: &Plan, control: &Arc<Control>, named: &Named, number: usize) -> Registration {
    let kit = kit(plan, control, named, number);
    Registration::native(named.name.clone(), move || Sink::new(kit()))
}

/// The rate of pacers.
#[derive(Clone, Copy)]
pub struct Pace {
    /// The prefix of their names.
    pub prefix: &'static str,
    /// Messages per second, in total.
    pub rate: f64,
    pub durable: bool,
}

/// Creates one pacer per shard, which sends to agents picked at random among those allowed by the scenario. `equip`
/// receives the number of the shard and the pacer without further tasks.
pub fn pacers(
    plan: &Plan,
    router: &Router,
    names: &[Named],
    control: &Arc<Control>,
    pace: Pace,
    equip: impl Fn(usize, Pacer) -> Pacer + Clone + Send + 'static,
) -> Result<Cast, String> {
    let shards = usize::from(router.shard_count());
    let share = pace.rate / shards as f64;
    let mut cast = Cast::default();
    for shard in 0..shards {
        let index = caxton_router::routing::ShardIndex(u16::try_from(shard).unwrap_or(u16::MAX));
        let name =
            AgentName::try_new(router.partition().name_on(index, pace.prefix)).map_err(|error| error.to_string())?;
        let receivers: Vec<AgentId> = candidates(plan, names, shard).iter().map(|named| named.id).collect();
        if receivers.is_empty() {
            return Err("the pacer has no receivers: use more agents or other shards".to_owned());
        }
        let sent_max = share_of(plan.length, shard, shards);
        cast.messages += if matches!(plan.length, Length::Messages(_)) { sent_max } else { 0 };
        let pacer = Named { id: AgentId::of(&name), name, shard };
        cast.starters.push(pacer.id);
        let kit = kit(plan, control, &pacer, shard);
        let equip = equip.clone();
        cast.registrations.push(Registration::native(pacer.name, move || {
            equip(shard, Pacer::new(kit().durable(pace.durable), receivers.clone(), share, sent_max))
        }));
    }
    Ok(cast)
}
