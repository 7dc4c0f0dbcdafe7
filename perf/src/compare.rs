//! The router compared with other systems, on the same work.

use clap::Args;
use serde_json::json;

use crate::peers::Peer;
use crate::work::{Figures, Work};

#[derive(Args)]
pub struct Arguments {
    /// Number of agents, in pairs
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    agents: u32,
    /// Number of messages in flight within each pair
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    in_flight: u32,
    /// Bytes of content per message
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    size: u32,
    /// Seconds of measurement per system and round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Number of rounds, each through all systems; the figures are medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measure only these systems
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Peer>,
    /// Print one JSON object per system instead of a table
    #[arg(long)]
    json: bool,
}

/// Measures each system in turn, and prints the results.
///
/// # Errors
///
/// A system failed or lost a message.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let work = Work {
        pairs: (arguments.agents / 2) as usize,
        in_flight: arguments.in_flight as usize,
        size: arguments.size as usize,
        seconds: arguments.seconds.clamp(0.05, 3_600.0),
    };
    let peers = if arguments.only.is_empty() { Peer::ALL.to_vec() } else { arguments.only.clone() };
    let mut measured: Vec<Vec<Figures>> = vec![Vec::new(); peers.len()];
    for round in 0..arguments.rounds as usize {
        // The order rotates with each round, so that a warming machine favours no system.
        for step in 0..peers.len() {
            let place = (round + step) % peers.len();
            let peer = peers[place];
            let figures = peer.run(&work).map_err(|why| format!("{peer}: {why}"))?;
            if !arguments.json {
                eprintln!("round {} of {}: {peer}: {figures}", round + 1, arguments.rounds);
            }
            measured[place].push(figures);
        }
    }
    if arguments.json {
        for (peer, figures) in peers.iter().zip(&measured) {
            println!("{}", as_json(*peer, &work, figures));
        }
    } else {
        print_table(&work, &peers, &measured);
    }
    Ok(())
}

fn print_table(work: &Work, peers: &[Peer], measured: &[Vec<Figures>]) {
    println!(
        "{} agents in pairs, {} messages of {} bytes in flight per pair, medians of {} rounds of {} s, {} cores",
        2 * work.pairs,
        work.in_flight,
        work.size,
        measured.first().map_or(0, Vec::len),
        work.seconds,
        cores(),
    );
    println!("{:<12} {:>12} {:>16} {:>25}", "", "messages/s", "CPU ns/message", "messages/s, all rounds");
    for (peer, figures) in peers.iter().zip(measured) {
        let rates = sorted(figures, |figures| figures.messages_per_second);
        println!(
            "{:<12} {:>12.0} {:>16.0} {:>25}",
            peer.to_string(),
            median(&rates),
            median(&sorted(figures, |figures| figures.cpu_ns_per_message)),
            format!("{:.0} to {:.0}", rates.first().unwrap_or(&0.0), rates.last().unwrap_or(&0.0)),
        );
    }
}

fn as_json(peer: Peer, work: &Work, figures: &[Figures]) -> serde_json::Value {
    let rates = sorted(figures, |figures| figures.messages_per_second);
    json!({
        "system": peer.to_string(),
        "agents": 2 * work.pairs,
        "in_flight_per_pair": work.in_flight,
        "size_bytes": work.size,
        "seconds": work.seconds,
        "cores": cores(),
        "messages_per_second": median(&rates),
        "cpu_ns_per_message": median(&sorted(figures, |figures| figures.cpu_ns_per_message)),
        "messages_per_second_by_round": figures.iter().map(|figures| figures.messages_per_second).collect::<Vec<_>>(),
    })
}

fn sorted(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Returns the median of sorted values.
fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Returns the number of cores available to this process.
pub fn cores() -> usize {
    core_affinity::get_core_ids().map_or(1, |cores| cores.len().max(1))
}
