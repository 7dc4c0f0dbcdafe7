//! Mutated modules: real guests with bytes changed, cut off, duplicated and exchanged. In every case the router
//! survives, and messages to them are handled or are dead-lettered.
//!
//! `CAXTON_WASM_MUTATIONS=1000000 cargo test --release --test it wasm_mutations::` tries this many, and
//! `CAXTON_WASM_SEED` replays a run.

use std::path::Path;
use std::time::Duration;

use caxton_router::config::Preset;
use caxton_router::domain::AgentName;
use caxton_router::wasm::Sandbox;
use caxton_router::{AgentId, Config, Message, Performative, Router};

/// Far longer than anything here takes: reaching it means a defect.
const PATIENCE: Duration = Duration::from_mins(1);
const MUTATIONS: u64 = 300;

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    #[allow(clippy::cast_possible_truncation)] // The remainder is an index.
    fn roll(&mut self, sides: usize) -> usize {
        (self.next() % sides.max(1) as u64) as usize
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn mutate(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(bytes.len());
        match dice.roll(10) {
            0 => bytes.truncate(at),
            1 => {
                let from = dice.roll(bytes.len());
                let length = dice.roll(32).min(bytes.len() - from);
                let piece = bytes[from..from + length].to_vec();
                bytes.splice(at..at, piece);
            }
            2 => {
                let end = (at + dice.roll(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            3..=5 => bytes[at] ^= 1 << dice.roll(8),
            #[allow(clippy::cast_possible_truncation)] // Any byte will do.
            _ => bytes[at] = dice.next() as u8,
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

#[test]
fn mutated_guests_leave_the_router_whole() {
    let seed = setting("CAXTON_WASM_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let mutations = setting("CAXTON_WASM_MUTATIONS").unwrap_or(MUTATIONS);
    println!("CAXTON_WASM_SEED={seed} CAXTON_WASM_MUTATIONS={mutations}");
    let mut dice = Dice(seed);
    let mut config = Config::preset(Preset::Testing);
    config.wasm.call_ms = 10.try_into().unwrap();
    config.wasm.slice_ms = 5.try_into().unwrap();
    config.set("retry.attempts", "0", "test").unwrap();
    config.set("supervision.restarts", "0", "test").unwrap();
    config.set("dead_letters.messages", "100", "test").unwrap();
    let sandbox = Sandbox::start(&config.wasm).unwrap();
    let router = Router::builder().config(config).start().unwrap();
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/guests/echo");
    let modules = ["raw.wat", "component.wat"].map(|file| wat::parse_file(guests.join(file)).unwrap());
    let component = caxton_router::wasm::component_of(&modules[1], "agent").unwrap();
    let originals = [&modules[0], &modules[1], &component];
    let mut loaded = 0_u64;
    for number in 0..mutations {
        let module = mutate(originals[dice.roll(originals.len())], &mut dice);
        let Ok(guest) = sandbox.load("mutant", &module) else { continue };
        loaded += 1;
        let name = AgentName::try_new(format!("mutant-{number}")).unwrap();
        let agent = AgentId::of(&name);
        // A guest that does not start is not registered.
        if router.blocking().register_one(guest.agent(name)).is_err() {
            continue;
        }
        for content in ["", "hello", &"long".repeat(1_000)] {
            let message = Message::builder(Performative::Request).receiver(agent).content(content).build().unwrap();
            router.blocking().send(message).unwrap();
        }
        // A guest that traps may already be gone.
        let _ = router.blocking().drain(agent, PATIENCE);
    }
    assert!(mutations < 100 || loaded > 0, "no mutation left a module whole");
    let report = router.shutdown(PATIENCE).unwrap();
    let account = report.stats.account();
    println!(
        "{loaded} of {mutations} were modules; of their messages {} were handled, {} were dead-lettered",
        account.processed, account.dead_lettered
    );
    assert!(report.balances(), "{account:?}");
}
