//! Judgements of hypothetical hosts.

use super::*;

/// A host without any problem.
fn healthy() -> Host {
    Host {
        kernel_release: "6.8.0-45-generic".to_owned(),
        io_uring_disabled: Some(0),
        io_uring: IoUringProbe::Works,
        seccomp_filter: Some(false),
        memory_lock: Limit { current: Some(64 << 20), maximum: Some(64 << 20) },
        open_files: Limit { current: Some(65_536), maximum: None },
        open_files_used: Some(10),
        user_processes: Limit { current: Some(1_000), maximum: Some(1_000) },
        threads: ThreadProbe { wanted: 18, started: 18, raw_os_error: None },
        address_bytes_left: None,
        cores_allowed: 4,
        processor_quota_cores: None,
        memory_available_bytes: Some(8 << 30),
        #[cfg(feature = "wasm")]
        mappings_max: Some(65_530),
        has_proc: true,
        has_sys: true,
        clock: Clock {
            wall: Duration::from_secs(clock::SECONDS_MIN),
            stepped: Duration::ZERO,
            synchronised: Some(true),
            source: Some("tsc".to_owned()),
        },
    }
}

/// Returns what a router with these settings needs on four cores.
fn demand(settings: &[(&str, &str)]) -> Demand {
    let mut config = Config::default();
    for (key, value) in settings {
        config.set(key, value, "the test").expect("the setting is allowed");
    }
    Demand::of(&config, 4)
}

fn judged(host: &Host) -> Vec<Finding> {
    examine_host(host, &demand(&[]))
}

fn failing(errno: Errno) -> IoUringProbe {
    IoUringProbe::Fails { call: "io_uring_setup", raw_os_error: Some(errno.raw_os_error()) }
}

fn limit(bytes: u64) -> Limit {
    Limit { current: Some(bytes), maximum: Some(bytes) }
}

#[test]
fn a_healthy_host_has_nothing_to_mend() {
    for finding in judged(&healthy()) {
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
                let raw_os_error = Some(Errno::PERM.raw_os_error());
                host.io_uring = IoUringProbe::Fails { call: "io_uring_enter", raw_os_error };
            },
            "io_uring",
            Status::Problem,
            "(io_uring_enter is refused)",
            "seccomp profile",
        ),
        (
            |host| host.io_uring = IoUringProbe::Lacks { operations: vec!["STATX", "RECV"] },
            "io_uring",
            Status::Problem,
            "lacks STATX, RECV",
            "5.15 or newer",
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
        (
            |host| host.io_uring = failing(Errno::INVAL),
            "io_uring",
            Status::Problem,
            "io_uring_setup failed: Invalid argument",
            "outside of sandboxes",
        ),
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
            |host| {
                host.open_files = limit(20_000);
                host.open_files_used = Some(19_900);
            },
            "open files",
            Status::Problem,
            "may open 20000 files and has 19900 open",
            "* - nofile 20092",
        ),
        (
            |host| {
                let raw_os_error = Some(Errno::AGAIN.raw_os_error());
                host.threads = ThreadProbe { wanted: 18, started: 7, raw_os_error };
            },
            "threads",
            Status::Problem,
            "7 of 18 threads can be started: Resource temporarily unavailable",
            "--pids-limit",
        ),
        (
            |host| host.address_bytes_left = Some(100 << 20),
            "address space",
            Status::Problem,
            "leave this process 100.0 MiB",
            "LimitAS=infinity",
        ),
        #[cfg(feature = "wasm")]
        (|host| host.mappings_max = Some(5_000), "mappings", Status::Warning, "1000 guests", "vm.max_map_count=7000"),
        (|host| host.has_sys = false, "system files", Status::Warning, "/sys is not there", "mount -t sysfs"),
        (|host| host.has_proc = false, "system files", Status::Warning, "/proc is not there", "mount -t proc"),
        (|host| host.clock.wall = Duration::from_secs(61), "clock", Status::Warning, "61 seconds after 1970", "chrony"),
        (|host| host.clock.stepped = Duration::from_secs(2), "clock", Status::Warning, "set by 2s", "makestep"),
        (|host| host.clock.synchronised = Some(false), "clock", Status::Warning, "not kept synchronised", "chrony"),
        (
            |host| host.clock.source = Some("hpet".to_owned()),
            "clock",
            Status::Warning,
            "counted by hpet",
            "clocksource=tsc",
        ),
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
            "256.0 MiB available; 4 shards should have 531.1 MiB",
            "mailbox.bytes",
        ),
        (|host| host.memory_available_bytes = None, "memory", Status::Warning, "cannot be", "/proc/meminfo"),
    ];
    for (index, (fault, name, status, found, mend)) in faults.iter().enumerate() {
        let mut host = healthy();
        fault(&mut host);
        let findings = judged(&host);
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
    host.memory_available_bytes = Some(demand(&[]).memory_bytes());
    host.kernel_release = "5.15.0".to_owned();
    assert!(judged(&host).iter().all(|finding| finding.status == Status::Ok), "{:?}", judged(&host));
}

/// Returns the finding about one subject on a healthy host, with these settings.
fn found(settings: &[(&str, &str)], name: &str) -> Finding {
    let findings = examine_host(&healthy(), &demand(settings));
    findings.into_iter().find(|finding| finding.name == name).expect("every check is made")
}

#[cfg(feature = "serve")]
#[test]
fn the_clients_of_the_doors_are_counted() {
    let doors = [
        ("http.listen", "7411"),
        ("nats.listen", "4222"),
        ("doors.connections_max", "3000"),
        ("doors.agents_max", "5000"),
    ];
    let (none, one, both) = (demand(&doors[2..]), demand(&doors[1..]), demand(&doors));
    assert_eq!([&none, &one, &both].map(Demand::connections), [0, 3_000, 6_000]);
    assert_eq!(one.doors_bytes(), 3_000 * (8 << 10) + 5_000 * (2 << 10));
    assert_eq!(both.memory_bytes(), none.memory_bytes() + one.doors_bytes() + 3_000 * (24 << 10));

    let mut host = healthy();
    host.open_files_used = Some(10);
    host.open_files = limit(both.open_files() + 6_009);
    host.memory_available_bytes = Some(both.memory_bytes() - 1);
    let findings = examine_host(&host, &both);
    let find = |name: &str| findings.iter().find(|finding| finding.name == name).expect("every check is made");
    for (name, found, mend) in [
        ("open files", "the clients of the doors up to 6000", "or lower doors.connections_max"),
        ("memory", "4 shards, and all clients of the doors with 103.5 MiB, should have", "doors.agents_max"),
    ] {
        let finding = find(name);
        assert_eq!(finding.status, Status::Warning, "{finding}");
        assert!(finding.found.contains(found), "{finding}");
        assert!(finding.mend.as_ref().is_some_and(|text| text.contains(mend)), "{finding}");
    }
    host.open_files = limit(both.open_files() + 6_010);
    host.memory_available_bytes = Some(both.memory_bytes());
    assert!(examine_host(&host, &both).iter().all(|finding| finding.status == Status::Ok), "{findings:?}");
}

#[cfg(feature = "cluster")]
#[test]
fn the_thread_and_the_connection_of_a_cluster_are_counted() {
    let cluster = [("cluster.nats", "nats://127.0.0.1:4222"), ("cluster.name", "plant"), ("router.node", "7")];
    let (alone, joined) = (demand(&cluster[1..]), demand(&cluster));
    assert_eq!((joined.threads() - alone.threads(), joined.open_files() - alone.open_files()), (2, 8));
    assert!(joined.address_bytes() > alone.address_bytes());
}

#[test]
fn rings_that_do_not_fit_into_memory_are_told_with_their_size_before_they_are_made() {
    let finding = found(&[("router.shards", "1024")], "memory");
    assert_eq!(finding.status, Status::Problem, "{finding}");
    let said = finding.to_string();
    for words in
        ["the rings between 1024 shards take up to 479.5 GiB", "8.0 GiB are available", "router.shards = 132 or fewer"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(found(&[("router.shards", "132")], "memory").status, Status::Warning);
    let small = [("router.shards", "1024"), ("ring.capacity", "2")];
    assert_eq!(found(&small, "memory").status, Status::Problem, "the rings for notices are too large as well");
    assert_eq!(found(&[("router.shards", "4")], "memory").status, Status::Ok);
}

#[cfg(feature = "telemetry")]
#[test]
fn what_observes_the_shards_is_counted_when_it_is_enabled() {
    let counts = |settings: &[(&str, &str)]| {
        let demand = demand(settings);
        (demand.memory_lock_bytes() / MEMORY_LOCK_BYTES_PER_SHARD, demand.open_files(), demand.threads())
    };
    let none = counts(&[]);
    assert_eq!(none, (4, OPEN_FILES_BASE + 4 * OPEN_FILES_PER_SHARD, 18));
    let (collector, files) = (("otlp.endpoint", "http://c"), ("otlp.directory", "/tmp/otlp"));
    assert_eq!(counts(&[collector]), (5, none.1 + 32, none.2 + 3));
    assert_eq!(counts(&[collector, files]), (5, none.1 + 32, none.2 + 4));
    assert_eq!(counts(&[("metrics.listen", "9464")]), (5, none.1 + 32 + 8 + 64, none.2 + 3));
    #[cfg(feature = "serve")]
    for door in [("http.listen", "7411"), ("http.socket", "/run/caxton.sock")] {
        assert_eq!(counts(&[door]), (5, none.1 + 32 + 8, none.2 + 4));
    }
    assert_eq!(counts(&[collector, files, ("otlp.enabled", "false")]), none);
    let taken = demand(&[]).with_telemetry();
    assert_eq!((taken.memory_lock_bytes(), taken.threads()), (5 * MEMORY_LOCK_BYTES_PER_SHARD, none.2 + 2));

    let mut host = healthy();
    host.memory_lock = limit(4 * MEMORY_LOCK_BYTES_PER_SHARD);
    host.open_files = limit(none.1 + 10);
    let findings = examine_host(&host, &demand(&[("metrics.listen", "9464")]));
    let find = |name: &str| findings.iter().find(|finding| finding.name == name).expect("every check is made");
    assert_eq!((find("memory lock").status, find("open files").status), (Status::Warning, Status::Problem));
    assert!(find("memory lock").found.contains("4 shards and the telemetry thread want 2621440"));
    assert!(find("open files").found.contains("its shards, telemetry and HTTP connections need 296"), "{findings:?}");
}

#[test]
fn more_shards_than_cores_are_a_warning() {
    assert_eq!(found(&[("router.shards", "4")], "shards").status, Status::Ok);
    let finding = found(&[("router.shards", "5")], "shards");
    assert_eq!(finding.status, Status::Warning);
    assert!(finding.to_string().contains("5 shards share 4 cores"), "{finding}");
    assert!(finding.to_string().contains("starts 4 here"), "{finding}");
    assert_eq!(found(&[], "shards").status, Status::Ok);
}

#[test]
fn the_number_of_shards_is_told() {
    for (cores, told) in [(1, "starts 1 here"), (7, "starts 7 here"), (8, "starts 7 here")] {
        let host = Host { cores_allowed: cores, ..healthy() };
        let findings = examine_host(&host, &Demand::of(&Config::default(), cores));
        let finding = findings.iter().find(|finding| finding.name == "shards").expect("every check is made");
        assert!(finding.found.contains(told), "{finding:?}");
    }
}

#[test]
fn a_finding_is_a_sentence() {
    let mut host = healthy();
    host.memory_lock = limit(64 << 10);
    let finding = judged(&host).into_iter().find(|finding| finding.status == Status::Problem).expect("there is one");
    let said = finding.to_string();
    assert!(
        said.starts_with("memory lock: this process may lock 65536 bytes; a shard needs 524288. To fix it: "),
        "{said}"
    );
}

#[test]
fn this_host_can_be_examined() {
    let findings = examine(&Config::default());
    assert_eq!(findings.len(), judged(&healthy()).len());
    assert!(findings.iter().all(|finding| (finding.status == Status::Ok) == finding.mend.is_none()));
}

#[cfg(feature = "store")]
#[test]
fn this_hosts_disk_can_be_examined() {
    let directory = tempfile::tempdir().expect("there is a place for files");
    let mut config = Config::default();
    config.store.directory = directory.path().to_owned().into();
    let findings = examine(&config);
    assert_eq!(findings.len(), judged(&healthy()).len() + 4);
    assert!(findings.iter().all(|finding| (finding.status == Status::Ok) == finding.mend.is_none()));
}
