//! Host checks: whether this host can run the router, and if not, how to fix it.
//!
//! [`Host::read`] takes the readings and changes nothing; [`examine_host`] judges them by the needs of a router with
//! certain settings ([`Demand`]) and has no side effects, so every kind of host can be judged in a test. A
//! [`Status::Problem`] prevents the router from starting; a [`Status::Warning`] makes it slower or smaller than it
//! could be. Both come with advice.
//!
//! `caxton doctor` prints the findings, and [`Router::start`](crate::router::RouterBuilder::start) makes the same
//! checks before its first shard starts: the libraries below it panic on a host that they cannot run on.

mod clock;
mod demand;
#[cfg(feature = "store")]
mod disk;
mod host;
mod threads;

use std::fmt;
use std::time::Duration;

pub use clock::Clock;
#[cfg(feature = "store")]
pub use demand::StoreDemand;
pub use demand::{Demand, MEMORY_BYTES_PER_SHARD, MEMORY_LOCK_BYTES_PER_SHARD, OPEN_FILES_BASE, OPEN_FILES_PER_SHARD};
#[cfg(feature = "store")]
pub use disk::{DirectWrite, StoreDisk, examine_disk};
pub(crate) use host::allowed_cores;
pub use host::{Host, IoUringProbe, Limit};
pub use threads::ThreadProbe;
#[cfg(feature = "wasm")]
pub(crate) use threads::probe_threads;

use crate::config::Config;
use bytesize::ByteSize;
use rustix::io::Errno;

/// The name of the finding about the number of shards.
pub const SHARDS: &str = "shards";

/// The oldest kernel, as (major, minor), whose `io_uring` has everything that a shard uses.
pub const KERNEL_MIN: (u32, u32) = (5, 15);

/// Below this limit on open files there is little room for connections.
pub const OPEN_FILES_COMFORTABLE: u64 = 4_096;

/// Number of memory mappings of a process without guests.
#[cfg(feature = "wasm")]
const MAPPINGS_BASE: u64 = 2_000;
/// Number of memory mappings per running guest: its stack, its memory and its tables, each between guard pages.
#[cfg(feature = "wasm")]
const MAPPINGS_PER_GUEST: u64 = 5;

/// How long the clock is watched when there is time for it.
const CLOCK_WATCH: Duration = Duration::from_millis(50);
/// A clock that deviates by more than this while it is watched is being set.
const CLOCK_STEP_MAX: Duration = Duration::from_millis(20);
/// Clock sources that can be read without a system call.
const QUICK_CLOCK_SOURCES: [&str; 5] =
    ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];

/// The result of one check of the host, or of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was examined, such as `memory lock`.
    pub name: &'static str,
    /// The severity.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it; `None` if nothing is wrong.
    pub mend: Option<String>,
}

/// Writes a sentence for an operator: what was found, and how to fix it.
impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, found, mend, .. } = self;
        write!(formatter, "{name}: {found}")?;
        match mend {
            Some(mend) => write!(formatter, ". To fix it: {mend}"),
            None => Ok(()),
        }
    }
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Nothing is wrong.
    Ok,
    /// The router runs, but slower or smaller than it could; the cluster works, but somebody should look at it.
    Warning,
    /// The router does not start; messages do not reach a node of the cluster.
    Problem,
}

impl Status {
    /// Returns the status as one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// Examines this host as seen by this process (its limits, its cores, its container), for a router with these settings.
/// Takes a moment, because the clock is watched.
pub fn examine(config: &Config) -> Vec<Finding> {
    examine_within(&Demand::of(config, allowed_cores().len()), CLOCK_WATCH)
}

/// Like [`examine`], without watching the clock.
pub(crate) fn examine_at_start(demand: &Demand) -> Vec<Finding> {
    examine_within(demand, Duration::ZERO)
}

fn examine_within(demand: &Demand, watch_clock: Duration) -> Vec<Finding> {
    let host = Host::read(demand.threads(), demand.address_bytes(), watch_clock);
    let findings = examine_host(&host, demand);
    #[cfg(feature = "store")]
    if let Some(store) = &demand.store {
        let on_disk = examine_disk(&StoreDisk::read(store), store, demand.shards, host.clock.wall);
        return findings.into_iter().chain(on_disk).collect();
    }
    findings
}

/// Judges the readings of a host. The findings are always the same ones, in the same order.
pub fn examine_host(host: &Host, demand: &Demand) -> Vec<Finding> {
    vec![
        kernel(host),
        system_files(host),
        io_uring(host, demand),
        memory_lock(host, demand),
        cores(host),
        processor_quota(host, demand),
        shards(host, demand),
        threads(host),
        open_files(host, demand),
        address_space(host, demand),
        memory(host, demand),
        #[cfg(feature = "wasm")]
        mappings(host, demand),
        clock(host),
    ]
}

impl Finding {
    pub(crate) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), mend: None }
    }

    pub(crate) fn warning(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, found: found.into(), mend: Some(mend.into()) }
    }

    pub(crate) fn problem(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, status: Status::Problem, found: found.into(), mend: Some(mend.into()) }
    }
}

fn kernel(host: &Host) -> Finding {
    let name = "kernel";
    let (major, minor) = KERNEL_MIN;
    let release = &host.kernel_release;
    match host.kernel_version() {
        Some(version) if version >= KERNEL_MIN => Finding::ok(name, format!("Linux {release}")),
        Some(_) => Finding::problem(
            name,
            format!("Linux {release} is too old: {major}.{minor} or newer is needed"),
            format!("boot a kernel {major}.{minor} or newer; a container has the kernel of its host"),
        ),
        None => Finding::warning(
            name,
            format!("the version cannot be read from the release \"{release}\""),
            format!("make sure that `uname -r` is {major}.{minor} or newer"),
        ),
    }
}

fn system_files(host: &Host) -> Finding {
    let name = "system files";
    let missing = match (host.has_proc, host.has_sys) {
        (true, true) => return Finding::ok(name, "/proc and /sys are there"),
        (false, true) => "/proc is not there: memory, limits and other users of the cores cannot be read",
        (true, false) => "/sys is not there: quotas of containers and the clock source cannot be read",
        (false, false) => "neither /proc nor /sys is there: memory, limits, quotas and the clock source cannot be read",
    };
    let mend = "mount them where the router runs: `mount -t proc proc ROOT/proc`, `mount -t sysfs -o ro sysfs ROOT/sys`; \
        containers have them unless they are told otherwise";
    Finding::warning(name, missing, mend)
}

fn io_uring(host: &Host, demand: &Demand) -> Finding {
    let name = "io_uring";
    match &host.io_uring {
        IoUringProbe::Works => Finding::ok(name, "rings can be made and used"),
        IoUringProbe::Fails { call, raw_os_error } => {
            let (reason, mend) = io_uring_failure(call, *raw_os_error, host, demand);
            Finding::problem(name, reason, mend)
        }
        IoUringProbe::Lacks { operations } => Finding::problem(
            name,
            format!("the kernel's io_uring lacks {}", operations.join(", ")),
            format!("boot a kernel {}.{} or newer, with all of io_uring", KERNEL_MIN.0, KERNEL_MIN.1),
        ),
    }
}

const MEND_SECCOMP: &str = "let the seccomp profile allow io_uring_setup, io_uring_enter and io_uring_register: \
    `docker run --security-opt seccomp=PROFILE.json` (or seccomp=unconfined); in Kubernetes a Localhost profile under \
    securityContext.seccompProfile; under systemd add @aio to SystemCallFilter=";

/// Returns the reason and the advice. An error number can have several causes, which the other readings distinguish.
fn io_uring_failure(call: &str, raw_os_error: Option<i32>, host: &Host, demand: &Demand) -> (String, String) {
    let old_kernel = host.kernel_version().is_some_and(|version| version < KERNEL_MIN);
    match raw_os_error.map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => match host.io_uring_disabled {
            Some(2) => (
                "io_uring is switched off for every process: the sysctl kernel.io_uring_disabled is 2".to_owned(),
                mend_sysctl(),
            ),
            Some(1) => (
                "io_uring is reserved for privileged processes: the sysctl kernel.io_uring_disabled is 1".to_owned(),
                format!(
                    "{}; or put the router's user into a group and name that group's number in \
                     kernel.io_uring_group",
                    mend_sysctl()
                ),
            ),
            _ => (
                format!(
                    "io_uring is forbidden by {} ({call} is refused)",
                    suspect(host, "a security policy (seccomp, SELinux or AppArmor)")
                ),
                MEND_SECCOMP.to_owned(),
            ),
        },
        Some(Errno::NOSYS) if old_kernel => (
            format!("the kernel {} has no usable io_uring", host.kernel_release),
            format!("boot a kernel {}.{} or newer", KERNEL_MIN.0, KERNEL_MIN.1),
        ),
        Some(Errno::NOSYS) => (
            format!(
                "io_uring is missing: it is hidden by {}, or the kernel was built without CONFIG_IO_URING ({call} does not exist)",
                suspect(host, "a sandbox")
            ),
            MEND_SECCOMP.to_owned(),
        ),
        Some(Errno::NOMEM) if !host.memory_lock.is_below(demand.memory_lock_bytes()) => (
            "io_uring got no memory from the kernel, although this process may lock enough".to_owned(),
            "free memory, or raise the memory limit of the container or service".to_owned(),
        ),
        Some(Errno::NOMEM) => (
            format!("io_uring got no memory: this process may lock {} bytes", host.memory_lock),
            mend_memory_lock(host, demand),
        ),
        Some(Errno::MFILE | Errno::NFILE) => (
            format!("io_uring got no file descriptor: this process may open {} files", host.open_files),
            mend_open_files(host, demand),
        ),
        Some(errno) => (
            format!("{call} failed: {}", std::io::Error::from(errno)),
            format!(
                "run on a kernel {}.{} or newer outside of sandboxes to see whether one is the cause",
                KERNEL_MIN.0, KERNEL_MIN.1
            ),
        ),
        None => (format!("{call} failed without an error number"), MEND_SECCOMP.to_owned()),
    }
}

/// Names the seccomp filter if there is one, and otherwise the usual cause.
fn suspect(host: &Host, otherwise: &str) -> String {
    if host.seccomp_filter == Some(true) {
        "the seccomp filter that this process runs under, as containers and service managers set".to_owned()
    } else {
        otherwise.to_owned()
    }
}

fn mend_sysctl() -> String {
    "`sudo sysctl -w kernel.io_uring_disabled=0`, and to keep it over a restart \
     `echo kernel.io_uring_disabled=0 | sudo tee /etc/sysctl.d/90-caxton.conf`"
        .to_owned()
}

fn memory_lock(host: &Host, demand: &Demand) -> Finding {
    let name = "memory lock";
    let (shards, needed) = (demand.shards, demand.memory_lock_bytes());
    let others = if demand.has_telemetry() { " and the telemetry thread" } else { "" };
    let limit = host.memory_lock;
    if limit.is_below(MEMORY_LOCK_BYTES_PER_SHARD) {
        Finding::problem(
            name,
            format!("this process may lock {limit} bytes; a shard needs {MEMORY_LOCK_BYTES_PER_SHARD}"),
            mend_memory_lock(host, demand),
        )
    } else if limit.is_below(needed) {
        Finding::warning(
            name,
            format!(
                "this process may lock {limit} bytes; {shards} shards{others} want {needed}, \
                 and those that come too late do without registered buffers"
            ),
            mend_memory_lock(host, demand),
        )
    } else {
        Finding::ok(name, format!("this process may lock {limit} bytes; {shards} shards{others} want {needed}"))
    }
}

fn mend_memory_lock(host: &Host, demand: &Demand) -> String {
    let needed = demand.memory_lock_bytes();
    let kibibytes = needed / 1024;
    let shell = if host.memory_lock.may_be_raised_to(needed) {
        format!("`ulimit -l {kibibytes}` before the start")
    } else {
        format!("a line `* - memlock {kibibytes}` in /etc/security/limits.conf and a new login")
    };
    format!("{shell}; under systemd LimitMEMLOCK={needed}; in Docker `--ulimit memlock={needed}:{needed}`")
}

fn cores(host: &Host) -> Finding {
    let name = "cores";
    match host.cores_allowed {
        0 => Finding::warning(
            name,
            "the cores that this process may use cannot be found out: shards are not pinned to any",
            "give the number of shards (router.shards, or CAXTON_ROUTER_SHARDS), and let the seccomp profile allow \
             sched_getaffinity and sched_setaffinity",
        ),
        1 => Finding::ok(name, "this process may use 1 core"),
        cores => Finding::ok(name, format!("this process may use {cores} cores")),
    }
}

/// A quota takes time away from all shards at once, in the middle of their work; fewer whole cores are better.
fn processor_quota(host: &Host, demand: &Demand) -> Finding {
    let name = "processor quota";
    let shards = demand.shards;
    match host.processor_quota_cores {
        None => Finding::ok(name, "none"),
        Some(quota) if quota >= f64::from(shards.into_inner()) => {
            Finding::ok(name, format!("{quota:.2} cores, enough for {shards} shards"))
        }
        Some(quota) => {
            let fitting = (1..=shards.into_inner()).rev().find(|shards| f64::from(*shards) <= quota).unwrap_or(1);
            Finding::warning(
                name,
                format!("{quota:.2} cores, shared by {shards} shards, which are halted whenever it is used up"),
                format!(
                    "set router.shards = {fitting} (CAXTON_ROUTER_SHARDS={fitting}), or give whole cores instead of a \
                     quota: `docker run --cpuset-cpus`, the static CPU manager policy of Kubernetes, AllowedCPUs= of \
                     systemd"
                ),
            )
        }
    }
}

fn shards(host: &Host, demand: &Demand) -> Finding {
    let name = SHARDS;
    let shards = demand.shards;
    let automatic = demand.automatic_shards(host.cores_allowed);
    if !demand.shards_given {
        let rule = "all allowed cores below 8, all but one from 8 up; with a store, whose disk is left one, all but one from 2 up";
        let with_store = crate::config::automatic_shard_count(host.cores_allowed, true);
        let without = crate::config::automatic_shard_count(host.cores_allowed, false);
        let found = format!("router.shards = \"auto\" starts {without} here, {with_store} with a store ({rule})");
        return Finding::ok(name, found);
    }
    if host.cores_allowed > 0 && shards.as_usize() > host.cores_allowed {
        return Finding::warning(
            name,
            format!(
                "{shards} shards share {} cores: they wait for each other, and messages for them",
                host.cores_allowed
            ),
            format!("set router.shards = \"auto\", which starts {automatic} here, or give this process more cores"),
        );
    }
    Finding::ok(name, format!("{shards} on {} cores", host.cores_allowed))
}

fn threads(host: &Host) -> Finding {
    let name = "threads";
    let ThreadProbe { wanted, started, raw_os_error } = host.threads;
    if wanted == 0 {
        return Finding::ok(name, "not tried, because there is too little address space");
    }
    if started == wanted {
        return Finding::ok(name, format!("{wanted} threads can be started"));
    }
    let reason =
        raw_os_error.map_or_else(String::new, |error| format!(": {}", std::io::Error::from_raw_os_error(error)));
    let limit = host.user_processes;
    Finding::problem(
        name,
        format!(
            "{started} of {wanted} threads can be started{reason}; this user may have {limit} threads and processes"
        ),
        "raise what limits them: `ulimit -u` before the start, TasksMax= and LimitNPROC= of systemd, `docker run \
         --pids-limit`, podPidsLimit of Kubernetes; or lower router.shards",
    )
}

fn open_files(host: &Host, demand: &Demand) -> Finding {
    let name = "open files";
    let used = host.open_files_used.unwrap_or(0);
    let (needed, connections) = (demand.open_files(), demand.connections());
    let limit = host.open_files;
    let whose = if demand.has_telemetry() { "its shards, telemetry and HTTP connections" } else { "its shards" };
    let has_open = if used > 0 { format!(" and has {used} open") } else { String::new() };
    if limit.is_below(used + needed) {
        Finding::problem(
            name,
            format!("this process may open {limit} files{has_open}; {whose} need {needed}"),
            mend_open_files(host, demand),
        )
    } else if limit.is_below(used + needed + connections) {
        Finding::warning(
            name,
            format!(
                "this process may open {limit} files{has_open}; {whose} need {needed}, and the clients of the doors up to \
                 {connections}"
            ),
            format!("{}; or lower doors.connections_max", mend_open_files(host, demand)),
        )
    } else if limit.is_below(used + needed.max(OPEN_FILES_COMFORTABLE)) && limit.is_below(OPEN_FILES_COMFORTABLE) {
        Finding::warning(
            name,
            format!("this process may open {limit} files, which leaves little room for connections"),
            mend_open_files(host, demand),
        )
    } else {
        Finding::ok(name, format!("this process may open {limit} files"))
    }
}

fn mend_open_files(host: &Host, demand: &Demand) -> String {
    let files = host.open_files_used.unwrap_or(0) + demand.open_files() + demand.connections();
    let files = files.max(OPEN_FILES_COMFORTABLE);
    let shell = if host.open_files.may_be_raised_to(files) {
        format!("`ulimit -n {files}` before the start")
    } else {
        format!("a line `* - nofile {files}` in /etc/security/limits.conf and a new login")
    };
    format!("{shell}; under systemd LimitNOFILE={files}; in Docker `--ulimit nofile={files}:{files}`")
}

fn address_space(host: &Host, demand: &Demand) -> Finding {
    let name = "address space";
    let needed = demand.address_bytes();
    match host.address_bytes_left {
        None => Finding::ok(name, "not limited"),
        Some(left) if left < needed => Finding::problem(
            name,
            format!(
                "the limits on address space or data leave this process {}; threads, rings and the first messages of {} \
                 shards take up to {}",
                size(left),
                demand.shards,
                size(needed)
            ),
            "`ulimit -v unlimited` and `ulimit -d unlimited` before the start, LimitAS=infinity and LimitDATA=infinity under \
             systemd (memory itself is limited by control groups); or lower router.shards",
        ),
        Some(left) => Finding::ok(name, format!("{} are left of it", size(left))),
    }
}

fn memory(host: &Host, demand: &Demand) -> Finding {
    let name = "memory";
    let (shards, rings, wanted) = (demand.shards, demand.ring_bytes, demand.memory_bytes());
    let rings_take = format!("the rings between {shards} shards take up to {}", size(rings));
    let (clients, limits) = match demand.doors_bytes() {
        0 => (String::new(), ""),
        bytes => (
            format!(", and all clients of the doors with {},", size(bytes)),
            ", doors.connections_max and doors.agents_max",
        ),
    };
    match host.memory_available_bytes {
        None => Finding::warning(
            name,
            format!("the available memory cannot be found out; {rings_take}"),
            "make /proc/meminfo readable for the router",
        ),
        Some(available) if available < rings => Finding::problem(
            name,
            format!("{rings_take}, and {} are available", size(available)),
            format!(
                "set router.shards = {} or fewer, or a smaller ring.capacity; or give the router more memory",
                demand.shards_within(available)
            ),
        ),
        Some(available) if available < wanted => Finding::warning(
            name,
            format!("{} available; {shards} shards{clients} should have {}", size(available), size(wanted)),
            format!(
                "raise the container's memory limit or free memory; or lower router.shards, ring.capacity, \
                 mailbox.messages, mailbox.bytes and dead_letters.bytes{limits}"
            ),
        ),
        Some(available) if rings > 0 => Finding::ok(name, format!("{} available; {rings_take}", size(available))),
        Some(available) => Finding::ok(name, format!("{} available", size(available))),
    }
}

/// Formats a size in the unit in which it has few digits.
fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

#[cfg(feature = "wasm")]
fn mappings(host: &Host, demand: &Demand) -> Finding {
    let name = "mappings";
    let guests = demand.guests;
    let needed = MAPPINGS_BASE + u64::from(guests) * MAPPINGS_PER_GUEST;
    match host.mappings_max {
        None => Finding::ok(
            name,
            format!("vm.max_map_count cannot be read; {guests} guests in WebAssembly take up to {needed}"),
        ),
        Some(limit) if limit < needed => Finding::warning(
            name,
            format!(
                "a process may have {limit} mappings of memory (vm.max_map_count); the {guests} guests in WebAssembly that \
                 wasm.guests makes room for take up to {needed}"
            ),
            format!(
                "`sudo sysctl -w vm.max_map_count={needed}`, or lower wasm.guests; without guests it does not matter"
            ),
        ),
        Some(limit) => Finding::ok(
            name,
            format!("vm.max_map_count is {limit}; {guests} guests in WebAssembly take up to {needed}"),
        ),
    }
}

fn clock(host: &Host) -> Finding {
    let name = "clock";
    let Clock { wall, stepped, synchronised, source } = &host.clock;
    let by = source.as_deref().unwrap_or("an unknown source");
    if wall.as_secs() < clock::SECONDS_MIN {
        return Finding::warning(
            name,
            format!("it is {} seconds after 1970 by this host's clock, which is in the past", wall.as_secs()),
            "set the clock, and keep it right with chrony, systemd-timesyncd or another NTP client",
        );
    }
    if *stepped > CLOCK_STEP_MAX {
        return Finding::warning(
            name,
            format!("the clock was set by {stepped:?} while it was watched: lifetimes and delays go wrong by as much"),
            "have it adjusted slowly: chrony without makestep, or one NTP client instead of several",
        );
    }
    if *synchronised == Some(false) {
        return Finding::warning(
            name,
            format!("it is not kept synchronised (by {by}): lifetimes across hosts and across restarts may be wrong"),
            "run chrony, systemd-timesyncd or another NTP client; for a container or virtual machine, on its host",
        );
    }
    if source.as_deref().is_some_and(|source| !QUICK_CLOCK_SOURCES.contains(&source)) {
        return Finding::warning(
            name,
            format!("time is counted by {by}, which takes a system call for each reading"),
            "boot with `clocksource=tsc` if `available_clocksource` names tsc, or use a virtual machine that offers its own",
        );
    }
    let said = match synchronised {
        Some(_) => "synchronised",
        None => "whether it is synchronised cannot be read",
    };
    Finding::ok(name, format!("{said}, by {by}"))
}

/// Explains why there is no room for WebAssembly guests, as far as this host's limits do.
#[cfg(feature = "wasm")]
pub(crate) fn explain_sandbox(config: &crate::config::WasmConfig) -> Option<String> {
    let mut all = Config::default();
    all.wasm = config.clone();
    let demand = Demand::of(&all, allowed_cores().len());
    let host = Host::read(0, 0, Duration::ZERO);
    let mappings = mappings(&host, &demand);
    if let Some(left) = host.address_bytes_left {
        let found = format!("the limits on address space or data leave this process {}", size(left));
        let mend = "`ulimit -v unlimited` and `ulimit -d unlimited` before the start, LimitAS=infinity and LimitDATA=infinity \
            under systemd; or lower wasm.guests";
        return Some(Finding::problem("address space", found, mend).to_string());
    }
    (mappings.status != Status::Ok).then(|| mappings.to_string())
}

#[cfg(test)]
mod tests;
