//! The machine of a run, and how much of it other processes used: figures mean little without both.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

/// Fields of a line of /proc/stat, after its name: all time of a core except idle (3) and waiting for disks (4). Time
/// used by virtual machines on this machine (8 and 9) is part of the first two.
const BUSY_PLACES: [usize; 6] = [0, 1, 2, 5, 6, 7];

/// The machine, as seen by this process.
#[derive(Clone, Debug)]
pub struct Machine {
    processor: String,
    /// The cores that this process may use; empty if unknown.
    cores: Vec<usize>,
    kernel: String,
}

impl Machine {
    /// Reads the kernel's information.
    pub fn read() -> Self {
        let system = rustix::system::uname();
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model_of(&text).unwrap_or_else(|| system.machine().to_string_lossy().into_owned());
        Self {
            processor: model,
            cores: core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect(),
            kernel: format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy()),
        }
    }

    /// Returns how long the cores that this process may use have been busy since boot. `None` if the kernel does not
    /// say.
    pub fn busy(&self) -> Option<Duration> {
        busy_of(&std::fs::read_to_string("/proc/stat").ok()?, &self.cores, rustix::param::clock_ticks_per_second())
    }

    /// Returns the share of the cores used by other processes, given the total busy time, this process's share of it,
    /// and the elapsed time.
    pub fn share_of_others(&self, busy: Duration, own: Duration, passed: Duration) -> Option<f64> {
        let all = passed.as_secs_f64() * self.cores.len() as f64;
        (all > 0.0).then(|| (busy.saturating_sub(own).as_secs_f64() / all).min(1.0))
    }

    /// Returns the description as JSON.
    pub fn json(&self, share_of_others: Option<f64>) -> Value {
        json!({
            "processor": self.processor,
            "cores_allowed": self.cores.len(),
            "kernel": self.kernel,
            "share_used_by_others": share_of_others,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, kernel } = self;
        let cores = match cores.len() {
            1 => "1 core allowed".to_owned(),
            count => format!("{count} cores allowed"),
        };
        write!(formatter, "{processor}, {cores}, {kernel}")
    }
}

/// Returns the model from /proc/cpuinfo; not every architecture has one there.
fn model_of(text: &str) -> Option<String> {
    let value = |name: &str| {
        text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name).map(|(_, value)| value))
    };
    let model = ["model name", "Model", "cpu model", "uarch"].into_iter().find_map(value)?;
    Some(model.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|model| !model.is_empty())
}

fn busy_of(stat: &str, cores: &[usize], ticks_per_second: u64) -> Option<Duration> {
    let mut ticks = 0;
    for core in cores {
        let name = format!("cpu{core}");
        let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&name))?;
        let times: Vec<u64> = line.split_whitespace().skip(1).filter_map(|time| time.parse().ok()).collect();
        ticks += BUSY_PLACES.iter().filter_map(|place| times.get(*place)).sum::<u64>();
    }
    (ticks_per_second > 0 && !cores.is_empty()).then(|| Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_what_the_kernel_calls_it() {
        assert_eq!(model_of("processor\t: 0\nmodel name\t: AMD  EPYC\n").as_deref(), Some("AMD EPYC"));
        assert_eq!(model_of("Model : Raspberry Pi 5\n").as_deref(), Some("Raspberry Pi 5"));
        assert_eq!(model_of("model name :\n"), None);
    }

    #[test]
    fn only_allowed_cores_count_and_only_what_keeps_them_busy() {
        let stat =
            "cpu 9 9 9 9\ncpu0 100 10 5 7000 50 1 2 3 100 0\ncpu1 1 1 1 1 1 1 1 1 0 0\ncpu10 500 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(busy_of(stat, &[0], 100), Some(Duration::from_millis(1_210)));
        assert_eq!(busy_of(stat, &[0, 1], 100), Some(Duration::from_millis(1_270)));
        assert_eq!((busy_of(stat, &[2], 100), busy_of(stat, &[], 100), busy_of("", &[0], 100)), (None, None, None));
    }

    #[test]
    fn what_this_process_used_is_no_others() {
        let machine = Machine { processor: "x".to_owned(), cores: vec![0, 1], kernel: "Linux".to_owned() };
        let seconds = Duration::from_secs;
        assert_eq!(machine.share_of_others(seconds(15), seconds(10), seconds(10)), Some(0.25));
        assert_eq!(machine.share_of_others(seconds(9), seconds(10), seconds(10)), Some(0.0));
        assert_eq!(machine.share_of_others(seconds(9), seconds(10), Duration::ZERO), None);
    }
}
