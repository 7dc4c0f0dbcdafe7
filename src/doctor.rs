//! Can this host run the router, and if not, what mends it?
//!
//! [`Host::read`] takes the readings and changes nothing; [`examine_host`] judges them and touches nothing, so every
//! kind of host can be judged in a test. A [`Status::Problem`] keeps the router from starting; a [`Status::Warning`]
//! makes it slower or smaller than it could be. Both come with what to do about it.

mod host;

pub use host::{Host, IoUringProbe, Limit};

use crate::config::automatic_shard_count;
use rustix::io::Errno;

/// The oldest kernel, as (major, minor), whose `io_uring` has everything that a shard uses.
pub const KERNEL_MIN: (u32, u32) = (5, 15);

/// How much memory a shard must be able to lock, in bytes. With less in all, no shard starts.
pub const MEMORY_LOCK_BYTES_PER_SHARD: u64 = 512 * 1024;

/// How many files a shard has open by itself, rounded up: rings, event counters, timers, journal.
pub const OPEN_FILES_PER_SHARD: u64 = 32;

/// How many files the router has open besides those of its shards.
pub const OPEN_FILES_BASE: u64 = 64;

/// Below this limit on open files there is little room for connections.
pub const OPEN_FILES_COMFORTABLE: u64 = 4_096;

/// How much memory a shard should find available, in bytes.
pub const MEMORY_BYTES_PER_SHARD: u64 = 128 << 20;

/// The answer to one question about the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was examined, such as `memory lock`.
    pub name: &'static str,
    /// How bad it is.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it; nothing if all is well.
    pub mend: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// As it should be.
    Ok,
    /// The router runs, but slower or smaller than it could.
    Warning,
    /// The router does not start.
    Problem,
}

impl Status {
    /// The status in one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// Examines the host that this process runs on, as this process sees it: its limits, its cores, its container.
pub fn examine() -> Vec<Finding> {
    examine_host(&Host::read())
}

/// Judges readings of a host. The findings are always the same ones, in the same order.
pub fn examine_host(host: &Host) -> Vec<Finding> {
    vec![
        kernel(host),
        io_uring(host),
        memory_lock(host),
        cores(host),
        processor_quota(host),
        shards(host),
        open_files(host),
        memory(host),
    ]
}

/// Why `io_uring`, or a shard as a whole, could not be started, and what mends it, in sentences for an operator.
///
/// `raw_os_error` is the operating system's error number, if the failure had one.
pub fn explain_io_uring_error(raw_os_error: Option<i32>, host: &Host) -> String {
    let (reason, mend) = io_uring_failure(raw_os_error, host);
    format!("{reason}. To mend it: {mend}. `caxton doctor` examines the whole host.")
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), mend: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, found: found.into(), mend: Some(mend.into()) }
    }

    fn problem(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
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

fn io_uring(host: &Host) -> Finding {
    let name = "io_uring";
    match host.io_uring {
        IoUringProbe::Works => Finding::ok(name, "a ring could be made"),
        IoUringProbe::Fails { raw_os_error } => {
            let (reason, mend) = io_uring_failure(raw_os_error, host);
            Finding::problem(name, reason, mend)
        }
    }
}

const MEND_SECCOMP: &str = "let the seccomp profile allow io_uring_setup, io_uring_enter and io_uring_register: \
    `docker run --security-opt seccomp=PROFILE.json` (or seccomp=unconfined); in Kubernetes a Localhost profile under \
    securityContext.seccompProfile; under systemd add @aio to SystemCallFilter=";

/// The reason and the cure. The same error number has several causes, which the other readings tell apart.
fn io_uring_failure(raw_os_error: Option<i32>, host: &Host) -> (String, String) {
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
                    "io_uring is forbidden by {}",
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
                "io_uring is missing: it is hidden by {}, or the kernel was built without CONFIG_IO_URING",
                suspect(host, "a sandbox")
            ),
            MEND_SECCOMP.to_owned(),
        ),
        Some(Errno::NOMEM) if !host.memory_lock.is_below(memory_lock_needed(host)) => (
            "io_uring got no memory from the kernel, although this process may lock enough".to_owned(),
            "free memory, or raise the memory limit of the container or service".to_owned(),
        ),
        Some(Errno::NOMEM) => (
            format!("io_uring got no memory: this process may lock {} bytes", host.memory_lock),
            mend_memory_lock(host),
        ),
        Some(Errno::MFILE | Errno::NFILE) => (
            format!("io_uring got no file descriptor: this process may open {} files", host.open_files),
            mend_open_files(host),
        ),
        _ if host.memory_lock.is_below(MEMORY_LOCK_BYTES_PER_SHARD) => (
            format!(
                "a shard needs {MEMORY_LOCK_BYTES_PER_SHARD} bytes of locked memory, and this process may lock {}",
                host.memory_lock
            ),
            mend_memory_lock(host),
        ),
        Some(errno) => (
            format!("io_uring failed: {}", std::io::Error::from(errno)),
            "look for a message of the kernel in `dmesg`".to_owned(),
        ),
        None => (
            "a shard failed to start, and the operating system gave no reason".to_owned(),
            "look for a message of the kernel in `dmesg`".to_owned(),
        ),
    }
}

/// Names the seccomp filter when there is one, and otherwise what it may be.
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

fn memory_lock(host: &Host) -> Finding {
    let name = "memory lock";
    let shards = u64::from(host.automatic_shards().into_inner());
    let needed = memory_lock_needed(host);
    let limit = host.memory_lock;
    if limit.is_below(MEMORY_LOCK_BYTES_PER_SHARD) {
        Finding::problem(
            name,
            format!("this process may lock {limit} bytes; a shard needs {MEMORY_LOCK_BYTES_PER_SHARD}"),
            mend_memory_lock(host),
        )
    } else if limit.is_below(needed) {
        Finding::warning(
            name,
            format!(
                "this process may lock {limit} bytes; {shards} shards want {needed}, \
                 and those that come too late do without registered buffers"
            ),
            mend_memory_lock(host),
        )
    } else {
        Finding::ok(name, format!("this process may lock {limit} bytes; {shards} shards want {needed}"))
    }
}

fn memory_lock_needed(host: &Host) -> u64 {
    u64::from(host.automatic_shards().into_inner()) * MEMORY_LOCK_BYTES_PER_SHARD
}

fn mend_memory_lock(host: &Host) -> String {
    let needed = memory_lock_needed(host);
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
            "the cores that this process may use cannot be found out",
            "give the number of shards: router.shards, or CAXTON_ROUTER_SHARDS",
        ),
        1 => Finding::ok(name, "this process may use 1 core"),
        cores => Finding::ok(name, format!("this process may use {cores} cores")),
    }
}

/// A quota takes time away from all shards at once, in the middle of their work; fewer whole cores are better.
fn processor_quota(host: &Host) -> Finding {
    let name = "processor quota";
    let shards = host.automatic_shards();
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

fn shards(host: &Host) -> Finding {
    let shards = host.automatic_shards();
    let with_store = automatic_shard_count(host.cores_allowed, true);
    let rule =
        "all allowed cores below 8, all but one from 8 up; with a store, whose disk is left one, all but one from 2 up";
    Finding::ok("shards", format!("router.shards = \"auto\" starts {shards} here, {with_store} with a store ({rule})"))
}

fn open_files(host: &Host) -> Finding {
    let name = "open files";
    let needed = open_files_needed(host);
    let limit = host.open_files;
    if limit.is_below(needed) {
        Finding::problem(
            name,
            format!("this process may open {limit} files; its shards need {needed}"),
            mend_open_files(host),
        )
    } else if limit.is_below(OPEN_FILES_COMFORTABLE) {
        Finding::warning(
            name,
            format!("this process may open {limit} files, which leaves little room for connections"),
            mend_open_files(host),
        )
    } else {
        Finding::ok(name, format!("this process may open {limit} files"))
    }
}

fn open_files_needed(host: &Host) -> u64 {
    OPEN_FILES_BASE + u64::from(host.automatic_shards().into_inner()) * OPEN_FILES_PER_SHARD
}

fn mend_open_files(host: &Host) -> String {
    let files = open_files_needed(host).max(OPEN_FILES_COMFORTABLE);
    let shell = if host.open_files.may_be_raised_to(files) {
        format!("`ulimit -n {files}` before the start")
    } else {
        format!("a line `* - nofile {files}` in /etc/security/limits.conf and a new login")
    };
    format!("{shell}; under systemd LimitNOFILE={files}; in Docker `--ulimit nofile={files}:{files}`")
}

fn memory(host: &Host) -> Finding {
    let name = "memory";
    let shards = host.automatic_shards();
    let wanted = u64::from(shards.into_inner()) * MEMORY_BYTES_PER_SHARD;
    let mebibytes = |bytes: u64| bytes >> 20;
    match host.memory_available_bytes {
        None => Finding::warning(
            name,
            "the available memory cannot be found out",
            "make /proc/meminfo readable for the router",
        ),
        Some(available) if available < wanted => Finding::warning(
            name,
            format!("{} MiB available; {shards} shards should have {} MiB", mebibytes(available), mebibytes(wanted)),
            "raise the container's memory limit or free memory; or lower router.shards, mailbox.messages, \
             mailbox.bytes and dead_letters.bytes",
        ),
        Some(available) => Finding::ok(name, format!("{} MiB available", mebibytes(available))),
    }
}

impl Host {
    /// The number of shards that `router.shards = "auto"` starts on this host without a store.
    pub fn automatic_shards(&self) -> caxton_shards::domain::ShardCount {
        automatic_shard_count(self.cores_allowed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host on which everything is as it should be.
    fn healthy() -> Host {
        Host {
            kernel_release: "6.8.0-45-generic".to_owned(),
            io_uring_disabled: Some(0),
            io_uring: IoUringProbe::Works,
            seccomp_filter: Some(false),
            memory_lock: Limit { current: Some(64 << 20), maximum: Some(64 << 20) },
            open_files: Limit { current: Some(65_536), maximum: None },
            cores_allowed: 4,
            processor_quota_cores: None,
            memory_available_bytes: Some(8 << 30),
        }
    }

    fn failing(errno: Errno) -> IoUringProbe {
        IoUringProbe::Fails { raw_os_error: Some(errno.raw_os_error()) }
    }

    fn limit(bytes: u64) -> Limit {
        Limit { current: Some(bytes), maximum: Some(bytes) }
    }

    #[test]
    fn a_healthy_host_has_nothing_to_mend() {
        for finding in examine_host(&healthy()) {
            assert_eq!(finding.status, Status::Ok, "{finding:?}");
            assert_eq!(finding.mend, None, "{finding:?}");
        }
    }

    #[test]
    fn each_fault_is_found_and_comes_with_a_cure() {
        type Fault = fn(&mut Host);
        let faults: &[(Fault, &str, Status, &str, &str)] = &[
            (|host| host.kernel_release = "5.14.21".into(), "kernel", Status::Problem, "too old", "5.15 or newer"),
            (|host| host.kernel_release = "custom".into(), "kernel", Status::Warning, "\"custom\"", "uname -r"),
            (
                |host| {
                    host.io_uring = failing(Errno::PERM);
                    host.io_uring_disabled = Some(2);
                },
                "io_uring",
                Status::Problem,
                "kernel.io_uring_disabled is 2",
                "sysctl -w kernel.io_uring_disabled=0",
            ),
            (
                |host| {
                    host.io_uring = failing(Errno::PERM);
                    host.io_uring_disabled = Some(1);
                },
                "io_uring",
                Status::Problem,
                "kernel.io_uring_disabled is 1",
                "kernel.io_uring_group",
            ),
            (
                |host| {
                    host.io_uring = failing(Errno::PERM);
                    host.seccomp_filter = Some(true);
                },
                "io_uring",
                Status::Problem,
                "seccomp filter that this process runs under",
                "--security-opt seccomp",
            ),
            (
                |host| {
                    host.io_uring = failing(Errno::ACCESS);
                    host.io_uring_disabled = None;
                },
                "io_uring",
                Status::Problem,
                "security policy",
                "seccomp profile",
            ),
            (
                |host| {
                    host.io_uring = failing(Errno::NOSYS);
                    host.kernel_release = "4.19.0".into();
                },
                "io_uring",
                Status::Problem,
                "4.19.0 has no usable io_uring",
                "boot a kernel 5.15 or newer",
            ),
            (
                |host| {
                    host.io_uring = failing(Errno::NOSYS);
                    host.seccomp_filter = Some(true);
                },
                "io_uring",
                Status::Problem,
                "seccomp filter",
                "io_uring_setup, io_uring_enter",
            ),
            (
                |host| {
                    host.io_uring = failing(Errno::NOMEM);
                    host.memory_lock = limit(1 << 20);
                },
                "io_uring",
                Status::Problem,
                "this process may lock 1048576 bytes",
                "LimitMEMLOCK=2097152",
            ),
            (
                |host| host.io_uring = failing(Errno::NOMEM),
                "io_uring",
                Status::Problem,
                "although this process may lock enough",
                "raise the memory limit",
            ),
            (
                |host| host.io_uring = failing(Errno::MFILE),
                "io_uring",
                Status::Problem,
                "no file descriptor",
                "LimitNOFILE=",
            ),
            (|host| host.io_uring = failing(Errno::INVAL), "io_uring", Status::Problem, "Invalid argument", "dmesg"),
            (
                |host| host.memory_lock = limit(64 << 10),
                "memory lock",
                Status::Problem,
                "a shard needs 524288",
                "memlock=2097152:2097152",
            ),
            (
                |host| host.memory_lock = limit(1 << 20),
                "memory lock",
                Status::Warning,
                "4 shards want 2097152",
                "* - memlock 2048",
            ),
            (
                |host| host.memory_lock = Limit { current: Some(1 << 20), maximum: None },
                "memory lock",
                Status::Warning,
                "4 shards want 2097152",
                "`ulimit -l 2048`",
            ),
            (|host| host.cores_allowed = 0, "cores", Status::Warning, "cannot be found out", "CAXTON_ROUTER_SHARDS"),
            (
                |host| host.processor_quota_cores = Some(2.5),
                "processor quota",
                Status::Warning,
                "2.50 cores, shared by 4 shards",
                "router.shards = 2 ",
            ),
            (
                |host| host.processor_quota_cores = Some(0.5),
                "processor quota",
                Status::Warning,
                "0.50 cores",
                "--cpuset-cpus",
            ),
            (|host| host.open_files = limit(128), "open files", Status::Problem, "need 192", "* - nofile 4096"),
            (
                |host| host.open_files = Limit { current: Some(1_024), maximum: Some(4_096) },
                "open files",
                Status::Warning,
                "little room",
                "`ulimit -n 4096`",
            ),
            (
                |host| host.memory_available_bytes = Some(256 << 20),
                "memory",
                Status::Warning,
                "256 MiB available; 4 shards should have 512 MiB",
                "mailbox.bytes",
            ),
            (|host| host.memory_available_bytes = None, "memory", Status::Warning, "cannot be", "/proc/meminfo"),
        ];
        for (index, (fault, name, status, found, mend)) in faults.iter().enumerate() {
            let mut host = healthy();
            fault(&mut host);
            let findings = examine_host(&host);
            let finding = findings.iter().find(|finding| finding.name == *name).expect("every check is made");
            assert_eq!(finding.status, *status, "fault {index}: {finding:?}");
            assert!(finding.found.contains(found), "fault {index}: {finding:?}");
            let cure = finding.mend.as_deref().expect("a fault comes with a cure");
            assert!(cure.contains(mend), "fault {index}: {finding:?}");
        }
    }

    #[test]
    fn limits_at_the_edge_are_enough() {
        let mut host = healthy();
        host.memory_lock = limit(4 * MEMORY_LOCK_BYTES_PER_SHARD);
        host.open_files = limit(OPEN_FILES_COMFORTABLE);
        host.processor_quota_cores = Some(4.0);
        host.memory_available_bytes = Some(4 * MEMORY_BYTES_PER_SHARD);
        host.kernel_release = "5.15.0".to_owned();
        assert!(examine_host(&host).iter().all(|finding| finding.status == Status::Ok), "{:?}", examine_host(&host));
    }

    #[test]
    fn the_number_of_shards_is_told() {
        for (cores, told) in [(1, "starts 1 here"), (7, "starts 7 here"), (8, "starts 7 here")] {
            let host = Host { cores_allowed: cores, ..healthy() };
            let findings = examine_host(&host);
            let finding = findings.iter().find(|finding| finding.name == "shards").expect("every check is made");
            assert!(finding.found.contains(told), "{finding:?}");
        }
    }

    #[test]
    fn a_failed_start_is_explained_in_sentences() {
        let mut host = healthy();
        host.memory_lock = limit(64 << 10);
        let explanation = explain_io_uring_error(None, &host);
        assert!(explanation.starts_with("a shard needs 524288 bytes of locked memory"), "{explanation}");
        assert!(explanation.ends_with("`caxton doctor` examines the whole host."), "{explanation}");
        assert!(explain_io_uring_error(None, &healthy()).contains("no reason"));
        assert!(explain_io_uring_error(Some(Errno::PERM.raw_os_error()), &healthy()).contains("security policy"));
    }

    #[test]
    fn this_host_can_be_examined() {
        let findings = examine();
        assert_eq!(findings.len(), examine_host(&healthy()).len());
        assert!(findings.iter().all(|finding| (finding.status == Status::Ok) == finding.mend.is_none()));
    }
}
