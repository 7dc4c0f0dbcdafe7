//! The readings of a host that decide whether the router can run on it. Taking them changes nothing.

use super::clock::Clock;
use super::threads::{ThreadProbe, probe_threads};
use io_uring::{IoUring, Probe, opcode};
use rustix::process::{Resource, Rlimit, getrlimit};
use std::path::Path;
use std::time::Duration;
use std::{fmt, fs, io};

/// Number of entries of a shard's rings. Such rings are created and closed at once, to test whether that is possible.
const RING_ENTRIES: u32 = 128;
/// The operations without which a shard's executor aborts the process.
const OPERATIONS: [(&str, u8); 23] = [
    ("NOP", opcode::Nop::CODE),
    ("READV", opcode::Readv::CODE),
    ("WRITEV", opcode::Writev::CODE),
    ("FSYNC", opcode::Fsync::CODE),
    ("READ_FIXED", opcode::ReadFixed::CODE),
    ("WRITE_FIXED", opcode::WriteFixed::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("POLL_REMOVE", opcode::PollRemove::CODE),
    ("SENDMSG", opcode::SendMsg::CODE),
    ("RECVMSG", opcode::RecvMsg::CODE),
    ("TIMEOUT", opcode::Timeout::CODE),
    ("TIMEOUT_REMOVE", opcode::TimeoutRemove::CODE),
    ("ACCEPT", opcode::Accept::CODE),
    ("LINK_TIMEOUT", opcode::LinkTimeout::CODE),
    ("CONNECT", opcode::Connect::CODE),
    ("FALLOCATE", opcode::Fallocate::CODE),
    ("OPENAT", opcode::OpenAt::CODE),
    ("CLOSE", opcode::Close::CODE),
    ("STATX", opcode::Statx::CODE),
    ("READ", opcode::Read::CODE),
    ("WRITE", opcode::Write::CODE),
    ("SEND", opcode::Send::CODE),
    ("RECV", opcode::Recv::CODE),
];

/// The readings of a host. `None` means that the host does not say.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// As `uname -r` prints it.
    pub kernel_release: String,
    /// The sysctl `kernel.io_uring_disabled`: 0 for nobody, 1 for unprivileged processes, 2 for all. Kernels before 6.6
    /// have no such switch.
    pub io_uring_disabled: Option<u8>,
    /// Whether a ring can be created.
    pub io_uring: IoUringProbe,
    /// Whether a seccomp filter restricts this process's system calls.
    pub seccomp_filter: Option<bool>,
    /// The limit on memory that this process may lock, in bytes.
    pub memory_lock: Limit,
    /// The limit on open files of this process.
    pub open_files: Limit,
    /// The number of open files.
    pub open_files_used: Option<u64>,
    /// The limit on the user's threads and processes.
    pub user_processes: Limit,
    /// Whether the router's threads could be started.
    pub threads: ThreadProbe,
    /// The remaining address space of this process, in bytes. `None` means no limit.
    pub address_bytes_left: Option<u64>,
    /// The number of cores that the calling thread may run on; 0 if unknown.
    pub cores_allowed: usize,
    /// The CPU quota of the control groups, in cores. `None` means no quota.
    pub processor_quota_cores: Option<f64>,
    /// The memory still available to this process, according to the system and the control groups, in bytes.
    pub memory_available_bytes: Option<u64>,
    /// The limit on memory mappings of a process: the sysctl `vm.max_map_count`.
    #[cfg(feature = "wasm")]
    pub mappings_max: Option<u64>,
    /// Whether /proc exists.
    pub has_proc: bool,
    /// Whether /sys exists.
    pub has_sys: bool,
    /// The readings of the clock.
    pub clock: Clock,
}

/// Whether rings like those of a shard could be created and used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IoUringProbe {
    /// Yes.
    Works,
    /// A system call failed.
    Fails {
        /// The system call.
        call: &'static str,
        /// The operating system's error number.
        raw_os_error: Option<i32>,
    },
    /// The kernel lacks operations that a shard uses.
    Lacks {
        /// Their names.
        operations: Vec<&'static str>,
    },
}

/// A resource limit, in the unit of its resource; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The soft limit, which is in force.
    pub current: Option<u64>,
    /// The hard limit, up to which the process may raise it by itself.
    pub maximum: Option<u64>,
}

impl Limit {
    /// Whether the limit in force is smaller than this amount.
    pub fn is_below(self, amount: u64) -> bool {
        self.current.is_some_and(|current| current < amount)
    }

    /// Whether the limit could be raised to this amount without privileges.
    pub fn may_be_raised_to(self, amount: u64) -> bool {
        self.maximum.is_none_or(|maximum| maximum >= amount)
    }
}

/// Formats it for use before the name of the unit: `524288` bytes, `any number of` bytes.
impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.current {
            Some(current) => current.fmt(formatter),
            None => formatter.pad("any number of"),
        }
    }
}

impl From<Rlimit> for Limit {
    fn from(limit: Rlimit) -> Self {
        Self { current: limit.current, maximum: limit.maximum }
    }
}

impl Host {
    /// Takes all readings, for the calling process and, for cores, the calling thread. The clock is watched for
    /// `watch_clock`.
    ///
    /// `threads` is the number of threads that are started and ended as a test; `address_bytes` is the address space
    /// that has to be left for that to be tried.
    pub fn read(threads: u64, address_bytes: u64, watch_clock: Duration) -> Self {
        let control_group = read_text("/proc/self/cgroup").map(|text| ControlGroup::parse(&text)).unwrap_or_default();
        let address_bytes_left = address_bytes_left();
        let starts_threads = address_bytes_left.is_none_or(|left| left >= address_bytes);
        Self {
            kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
            io_uring_disabled: read_text("/proc/sys/kernel/io_uring_disabled")
                .and_then(|text| text.trim().parse().ok()),
            io_uring: probe_io_uring(),
            seccomp_filter: read_text("/proc/self/status").and_then(|text| seccomp_filter(&text)),
            memory_lock: getrlimit(Resource::Memlock).into(),
            open_files: getrlimit(Resource::Nofile).into(),
            open_files_used: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
            user_processes: getrlimit(Resource::Nproc).into(),
            threads: if starts_threads { probe_threads(threads) } else { ThreadProbe::default() },
            address_bytes_left,
            cores_allowed: allowed_cores().len(),
            processor_quota_cores: control_group.processor_quota_cores(),
            memory_available_bytes: read_text("/proc/meminfo")
                .and_then(|text| memory_available(&text))
                .map(|available| control_group.memory_left_bytes().map_or(available, |left| available.min(left))),
            #[cfg(feature = "wasm")]
            mappings_max: read_text("/proc/sys/vm/max_map_count").and_then(|text| text.trim().parse().ok()),
            has_proc: Path::new("/proc/self/stat").exists(),
            has_sys: Path::new("/sys/devices").exists(),
            clock: Clock::read(watch_clock),
        }
    }

    /// Returns the major and minor version of the kernel, if the release begins with them.
    pub fn kernel_version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.kernel_release.split(|character: char| !character.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// Returns the cores that the calling thread may run on; empty if unknown.
pub(crate) fn allowed_cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// Creates the rings of a shard's executor, and probes the operations that it uses.
fn probe_io_uring() -> IoUringProbe {
    let failed = |call| move |error: io::Error| IoUringProbe::Fails { call, raw_os_error: error.raw_os_error() };
    let probe = || -> Result<(), IoUringProbe> {
        let main: IoUring = IoUring::new(RING_ENTRIES).map_err(failed("io_uring_setup"))?;
        let _polled: IoUring =
            IoUring::builder().setup_iopoll().build(RING_ENTRIES).map_err(failed("io_uring_setup"))?;
        let _latency: IoUring = IoUring::new(RING_ENTRIES).map_err(failed("io_uring_setup"))?;
        main.submit().map_err(failed("io_uring_enter"))?;
        let mut known = Probe::new();
        main.submitter().register_probe(&mut known).map_err(failed("io_uring_register"))?;
        let missing = OPERATIONS.into_iter().filter(|(_, code)| !known.is_supported(*code));
        let operations: Vec<_> = missing.map(|(name, _)| name).collect();
        if operations.is_empty() { Ok(()) } else { Err(IoUringProbe::Lacks { operations }) }
    };
    probe().err().unwrap_or(IoUringProbe::Works)
}

/// Returns what is left of the limits on address space and on data; `None` without a limit, or if the use is unknown.
fn address_bytes_left() -> Option<u64> {
    let used = read_text("/proc/self/statm")?;
    let mut pages = used.split_whitespace().map(|pages| pages.parse::<u64>().ok());
    let (total, data) = (pages.next()??, pages.nth(4)??);
    let left = |resource, pages: u64| {
        let used = pages.saturating_mul(rustix::param::page_size() as u64);
        getrlimit(resource).current.map(|limit| limit.saturating_sub(used))
    };
    left(Resource::As, total).into_iter().chain(left(Resource::Data, data)).min()
}

fn read_text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Mode 2 in the line `Seccomp:` is a filter.
fn seccomp_filter(status: &str) -> Option<bool> {
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"))?;
    Some(mode.trim() == "2")
}

fn memory_available(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The control groups of this process, of either version; limits apply in all parent groups too.
#[derive(Debug, Default, PartialEq, Eq)]
struct ControlGroup {
    /// The path in the unified hierarchy of version 2.
    unified: Option<String>,
    /// The path under the `cpu` controller of version 1.
    processor: Option<String>,
    /// The path under the `memory` controller of version 1.
    memory: Option<String>,
}

impl ControlGroup {
    /// Parses lines such as `0::/user.slice` (version 2) and `4:cpu,cpuacct:/docker/1234` (version 1).
    fn parse(text: &str) -> Self {
        let mut group = Self::default();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
            if controllers.is_empty() {
                group.unified = Some(path.to_owned());
            }
            for controller in controllers.split(',') {
                match controller {
                    "cpu" => group.processor = Some(path.to_owned()),
                    "memory" => group.memory = Some(path.to_owned()),
                    _ => {}
                }
            }
        }
        group
    }

    fn processor_quota_cores(&self) -> Option<f64> {
        let unified = self
            .unified
            .iter()
            .flat_map(|path| directories("/sys/fs/cgroup", path))
            .filter_map(|directory| quota_of_version_2(&read_text(format!("{directory}/cpu.max"))?));
        let separate =
            self.processor.iter().flat_map(|path| directories("/sys/fs/cgroup/cpu", path)).filter_map(|directory| {
                let quota = read_text(format!("{directory}/cpu.cfs_quota_us"))?;
                quota_of_version_1(&quota, &read_text(format!("{directory}/cpu.cfs_period_us"))?)
            });
        unified.chain(separate).min_by(f64::total_cmp)
    }

    /// Returns the memory left by the groups' limits. File caches count as free, because they are reclaimed when
    /// needed.
    fn memory_left_bytes(&self) -> Option<u64> {
        let unified = self
            .unified
            .iter()
            .flat_map(|path| directories("/sys/fs/cgroup", path))
            .filter_map(|directory| memory_left(&directory, ["memory.max", "memory.current"], "inactive_file"));
        let separate = self.memory.iter().flat_map(|path| directories("/sys/fs/cgroup/memory", path));
        let separate = separate.filter_map(|directory| {
            memory_left(&directory, ["memory.limit_in_bytes", "memory.usage_in_bytes"], "total_inactive_file")
        });
        unified.chain(separate).min()
    }
}

fn memory_left(directory: &str, [limit, usage]: [&str; 2], cached: &str) -> Option<u64> {
    let number = |file: &str| -> Option<u64> { read_text(format!("{directory}/{file}"))?.trim().parse().ok() };
    let (limit, used) = (number(limit)?, number(usage).unwrap_or(0));
    let statistics = read_text(format!("{directory}/memory.stat")).unwrap_or_default();
    Some(limit.saturating_sub(used.saturating_sub(figure(&statistics, cached).unwrap_or(0))))
}

/// Returns a figure from a file with a name and a number on each line.
fn figure(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Returns the directories of a group and of every parent group.
///
/// In a container the path may be that of the host, which does not exist inside; the root does, and has the limits.
fn directories(root: &str, path: &str) -> Vec<String> {
    let mut directories = vec![root.to_owned()];
    let mut directory = root.to_owned();
    for name in path.split('/').filter(|name| !name.is_empty() && *name != "..") {
        directory.push('/');
        directory.push_str(name);
        directories.push(directory.clone());
    }
    directories
}

/// Parses `cpu.max`: `max 100000` is no quota, `250000 100000` is two and a half cores.
fn quota_of_version_2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    cores(quota.parse().ok()?, period.parse().ok()?)
}

/// A quota of -1 means none.
fn quota_of_version_1(quota: &str, period: &str) -> Option<f64> {
    cores(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

fn cores(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_any_usual_release() {
        for (release, version) in [
            ("6.18.0", Some((6, 18))),
            ("5.15.0-91-generic", Some((5, 15))),
            ("5.10-rc1", Some((5, 10))),
            ("6.6.36.6-microsoft-standard-WSL2", Some((6, 6))),
            ("custom", None),
            ("6", None),
            ("", None),
        ] {
            let host = Host { kernel_release: release.to_owned(), ..Host::read(0, 0, Duration::ZERO) };
            assert_eq!(host.kernel_version(), version, "{release}");
        }
    }

    #[test]
    fn quotas_are_read_in_cores() {
        for (text, quota) in [
            ("max 100000\n", None),
            ("250000 100000\n", Some(2.5)),
            ("50000 100000\n", Some(0.5)),
            ("100000 0\n", None),
            ("", None),
        ] {
            assert_eq!(quota_of_version_2(text), quota, "{text:?}");
        }
        assert_eq!(quota_of_version_1("-1\n", "100000\n"), None);
        assert_eq!(quota_of_version_1("150000\n", "100000\n"), Some(1.5));
    }

    #[test]
    fn control_groups_of_both_versions_are_found() {
        let group = ControlGroup::parse("4:cpu,cpuacct:/docker/1\n3:memory:/m\n1:name=systemd:/x\n0::/user.slice/a\n");
        assert_eq!(group.unified.as_deref(), Some("/user.slice/a"));
        assert_eq!(group.processor.as_deref(), Some("/docker/1"));
        assert_eq!(group.memory.as_deref(), Some("/m"));
        assert_eq!(ControlGroup::parse("nonsense\n\n"), ControlGroup::default());
    }

    #[test]
    fn limits_of_the_groups_above_count_too() {
        assert_eq!(directories("/c", "/a/b"), ["/c", "/c/a", "/c/a/b"]);
        assert_eq!(directories("/c", "/"), ["/c"]);
        assert_eq!(directories("/c", "/../a"), ["/c", "/c/a"]);
    }

    #[test]
    fn figures_are_found_by_their_whole_names() {
        let text = "inactive_file 7\ntotal_inactive_file 9\n";
        assert_eq!((figure(text, "inactive_file"), figure(text, "total_inactive_file")), (Some(7), Some(9)));
        assert_eq!((figure(text, "inactive"), figure("", "x")), (None, None));
    }

    #[test]
    fn lines_of_proc_are_read() {
        assert_eq!(seccomp_filter("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"), Some(true));
        assert_eq!(seccomp_filter("Seccomp:\t0\n"), Some(false));
        assert_eq!(seccomp_filter(""), None);
        assert_eq!(memory_available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(memory_available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn an_unlimited_resource_is_never_too_small() {
        let unlimited = Limit { current: None, maximum: None };
        assert!(!unlimited.is_below(u64::MAX));
        assert!(unlimited.may_be_raised_to(u64::MAX));
        assert_eq!(unlimited.to_string(), "any number of");
        let limit = Limit { current: Some(1), maximum: Some(2) };
        assert!(limit.is_below(2) && limit.may_be_raised_to(2) && !limit.may_be_raised_to(3));
    }
}
