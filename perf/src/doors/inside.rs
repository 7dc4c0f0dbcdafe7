//! What busy doors cost the messages inside a router.

use std::time::Duration;

use super::server::Server;
use super::{http, load};
use crate::figures::Figures;

/// Time in which a bench starts and warms up beside the doors' load.
const MARGIN: Duration = Duration::from_secs(1);

/// Messages at a fixed rate inside a router, while nobody comes to its doors, and beside 5,000 requests of NATS and 5,000
/// sends of HTTP per second.
pub fn latency(server: &Server, time: Duration) -> Result<Figures, String> {
    let alone = |_: &Server| Ok(());
    let beside = |bench: &Server| {
        std::thread::scope(|scope| {
            let sends = scope.spawn(|| http::latency(bench, time));
            load::latency(bench, time)?;
            sends.join().map_err(|_| "a sender panicked".to_owned())??;
            Ok(())
        })
    };
    // The two loads are measured in both orders.
    let quiet = [p50_and_p99(server, time, alone)?];
    let busy = [p50_and_p99(server, time, beside)?, p50_and_p99(server, time, beside)?];
    let quiet = [quiet[0], p50_and_p99(server, time, alone)?];
    let mean = |runs: [(f64, f64); 2]| (f64::midpoint(runs[0].0, runs[1].0), f64::midpoint(runs[0].1, runs[1].1));
    let ((quiet_p50, quiet_p99), (busy_p50, busy_p99)) = (mean(quiet), mean(busy));
    Ok(vec![
        ("p50 us, doors quiet", quiet_p50),
        ("p50 us, doors busy", busy_p50),
        ("p99 us, doors quiet", quiet_p99),
        ("p99 us, doors busy", busy_p99),
        ("p99, busy by quiet", busy_p99 / quiet_p99),
    ])
}

/// Returns the latency inside a router beside this load.
fn p50_and_p99(
    server: &Server,
    time: Duration,
    load: impl FnOnce(&Server) -> Result<(), String>,
) -> Result<(f64, f64), String> {
    let bench = Server::bench(&server.program, time + MARGIN)?;
    load(&bench)?;
    let report = bench.report()?;
    let figure = |name: &str| report["latency_us"][name].as_f64().ok_or(format!("the bench reports no {name}"));
    Ok((figure("p50")?, figure("p99")?))
}
