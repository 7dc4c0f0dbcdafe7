//! Restricted environments for a router: it starts, or reports in doctor's words why not and what to do, and leaves
//! nothing running. Panics of the libraries below never show.
//!
//! Limits and filters apply to a whole process, so each case runs the `caxton` command in its own process. If the tests
//! may not set one, the case is skipped with a message.

mod common;
mod program;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use common::bounded;
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// A load that is over at once.
const BENCH: &str = "bench mixed --messages 1000 --agents 100";
/// Longer than any of these commands takes, in seconds. A command still running then is killed, and the test fails.
const SECONDS_MAX: u32 = 60;
/// Signs of an error that the checks did not catch.
const UNCHECKED: [&str; 6] =
    ["panicked", "RUST_BACKTRACE", "dmesg", "memory allocation of", "older than Caesar", "Hannibal"];
/// Tells this program to filter a system call and then execute another program: `CALL ERROR`, in numbers.
const FILTERED_CALL: &str = "TEST_FILTERED_CALL";
/// In its place: the profile for containers.
const SHIPPED_PROFILE: &str = "profile";
/// The program to execute, and its arguments, one per line.
const FILTERED_PROGRAM: &str = "TEST_FILTERED_PROGRAM";

/// Runs `caxton` from a shell that has set a limit before, or through a command that does so.
fn caxton(limit: &str, through: &str, arguments: &str) -> Output {
    let binary = binary().display().to_string();
    let script = format!("{limit}\nexec {through} timeout -s KILL {SECONDS_MAX} '{binary}' {arguments}");
    let mut command = Command::new("sh");
    program::without_settings(&mut command);
    command.args(["-c", &script]).output().expect("there is a shell")
}

fn binary() -> PathBuf {
    PathBuf::from(program::caxton().get_program())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns everything that a command printed.
fn said(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// Asserts that the command succeeded, or explained what prevents it and how to fix that. Returns whether it succeeded.
#[track_caller]
fn works_or_explains(case: &str, output: &Output) -> bool {
    let said = said(output);
    for sign in UNCHECKED {
        assert!(!said.contains(sign), "{case}: {sign} in {said}");
    }
    match output.status.code() {
        Some(0) => true,
        Some(1) => {
            assert!(said.contains("this host cannot run the router") && said.contains("To fix it: "), "{case}: {said}");
            false
        }
        _ => panic!("{case}: {:?}: {said}", output.status),
    }
}

/// Runs the command with a filter that makes one system call fail, like those of containers.
fn filtered(call: libc::c_long, error: i32, arguments: &[&str]) -> Output {
    run_filtered(&format!("{call} {error}"), arguments)
}

fn run_filtered(filter: &str, arguments: &[&str]) -> Output {
    let this = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(this);
    program::without_settings(&mut command);
    let program = [&[binary().to_str().expect("the path is UTF-8")], arguments].concat().join("\n");
    command.args(["--exact", "a_filter_is_set_up", "--nocapture"]);
    command.env(FILTERED_CALL, filter).env(FILTERED_PROGRAM, program);
    command.output().expect("this program runs")
}

/// If requested, sets a filter and executes the program; otherwise does nothing.
#[test]
fn a_filter_is_set_up() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let (Ok(filter), Ok(program)) = (std::env::var(FILTERED_CALL), std::env::var(FILTERED_PROGRAM)) else { return };
    if filter == SHIPPED_PROFILE {
        seccompiler::apply_filter(&shipped_profile()).expect("a process may filter itself");
        become_program(&program);
    }
    let (call, error) = filter.split_once(' ').expect("a call and an error");
    let rules = BTreeMap::from([(call.parse().expect("a number"), Vec::new())]);
    let fails = SeccompAction::Errno(error.parse().expect("a number"));
    let architecture = std::env::consts::ARCH.try_into().expect("filters exist for it");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, fails, architecture).expect("it is a filter");
    let filter: BpfProgram = filter.try_into().expect("it is a filter");
    seccompiler::apply_filter(&filter).expect("a process may filter itself");
    become_program(&program);
}

fn become_program(program: &str) -> ! {
    let mut words = program.lines();
    let error = Command::new(words.next().expect("a program")).args(words).exec();
    panic!("it did not become the program: {error}");
}

/// Returns the filter of the profile for containers.
fn shipped_profile() -> seccompiler::BpfProgram {
    let profile: serde_json::Value =
        serde_json::from_str(include_str!("../src/packaging/seccomp.json")).expect("it is JSON");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let allowed: Vec<_> = profile["syscalls"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|group| group["names"].as_array().expect("a list"))
        .map(|name| serde_json::json!({ "syscall": name }))
        .collect();
    let filter = serde_json::json!({
        "all": {
            "mismatch_action": { "errno": profile["defaultErrnoRet"] }, "match_action": "allow", "filter": allowed,
        },
    });
    let architecture = std::env::consts::ARCH.try_into().expect("filters exist for it");
    let filters = seccompiler::compile_from_json(filter.to_string().as_bytes(), architecture);
    filters.expect("it is a filter").remove("all").expect("it is there")
}

#[test]
fn the_shipped_profile_lets_a_router_do_everything() {
    let (_directory, acl) = one_message();
    let data = tempfile::tempdir().expect("there is a place for files");
    let data = data.path().to_str().expect("the path is UTF-8");
    let agent = concat!("b=", env!("CARGO_MANIFEST_DIR"), "/examples/guests/echo/raw.wat");
    for arguments in [
        &["route", &acl, "--data", data, "--agent", agent, "--metrics", "0"][..],
        &["bench", "mixed", "--durable", "--messages", "1000", "--agents", "100"],
    ] {
        let output = run_filtered(SHIPPED_PROFILE, arguments);
        assert!(works_or_explains("the shipped profile", &output), "{}", said(&output));
    }
}

/// The files of an image for containers in a directory, as the Dockerfile's last stage says.
struct Image {
    root: tempfile::TempDir,
    variables: Vec<(String, String)>,
    command: Vec<String>,
    health: Vec<String>,
}

impl Image {
    /// The user of the image, which is not root.
    const USER: u32 = 65_532;
    /// The libraries of the image that it is made from.
    const LIBRARIES: [&str; 5] = ["linux-vdso.so.1", "libgcc_s.so.1", "libm.so.6", "libc.so.6", "ld-linux-"];

    fn build() -> Self {
        let dockerfile = include_str!("../src/packaging/Dockerfile");
        let (_, stage) = dockerfile.rsplit_once("FROM ").expect("it has stages");
        assert!(stage.starts_with("gcr.io/distroless/cc-debian12:nonroot\n"), "{stage}");
        let words = |text: &str| -> Vec<String> { serde_json::from_str(text).expect("a list of words") };
        let mut image = Self {
            root: tempfile::tempdir().expect("there is a place for files"),
            variables: Vec::new(),
            command: Vec::new(),
            health: Vec::new(),
        };
        for line in stage.lines() {
            match line.split_once(' ') {
                Some(("COPY", arguments)) => {
                    let mut paths = arguments.split(' ').filter(|word| !word.starts_with("--"));
                    let (from, to) = (paths.next().expect("a source"), paths.next().expect("a destination"));
                    image.copy(from, to, arguments.contains("--chown=nonroot:nonroot"));
                }
                Some(("ENV", assignment)) => {
                    let (name, value) = assignment.split_once('=').expect("an assignment");
                    image.variables.push((name.to_owned(), value.to_owned()));
                }
                Some(("HEALTHCHECK", arguments)) => {
                    image.health = words(arguments.split_once("CMD ").expect("a command").1);
                }
                Some(("ENTRYPOINT" | "CMD", arguments)) => image.command.extend(words(arguments)),
                _ => {}
            }
        }
        image
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let path = self.root.path().join(path.strip_prefix("/").unwrap_or(path));
        std::fs::create_dir_all(path.parent().expect("it is below the root")).expect("it can be made");
        path
    }

    /// Copies something that the build leaves. What is the user's own is a directory.
    fn copy(&self, from: &str, to: &str, owned: bool) {
        let path = self.path(to);
        if owned {
            std::fs::create_dir(&path).expect("it can be made");
            return std::os::unix::fs::chown(path, Some(Self::USER), Some(Self::USER)).expect("this is root");
        }
        let from = Path::new(from).strip_prefix("/build").expect("it comes from the build");
        if from.ends_with("caxton") {
            self.copy_program(&binary(), &path);
        } else {
            std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(from), path).expect("it is there");
        }
    }

    /// Copies a program with its libraries, of which the image may have no others.
    fn copy_program(&self, from: &Path, to: &Path) {
        std::fs::copy(from, to).expect("it is there");
        let libraries = Command::new("ldd").arg(from).output().expect("there is ldd");
        for line in text(&libraries.stdout).lines() {
            assert!(Self::LIBRARIES.iter().any(|library| line.contains(library)), "the image has no {line}");
            if let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) {
                std::fs::copy(path, self.path(path)).expect("it is there");
            }
        }
    }

    /// Listens on free ports, so that nothing else is in the way.
    fn choose_ports(&self) {
        let path = self.path("etc/caxton/caxton.toml");
        let settings = std::fs::read_to_string(&path).expect("it was copied");
        let held = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free"));
        let [http, metrics] = held.each_ref().map(|listener| listener.local_addr().expect("it has one").to_string());
        let settings = settings.replace("127.0.0.1:7411", &http).replace("127.0.0.1:9464", &metrics);
        std::fs::write(path, settings).expect("it can be written");
    }

    /// Returns a command in the image, as its user and with the profile for containers. `/proc` is there, as in a container.
    fn run(&self, words: &[String]) -> Command {
        let proc = self.root.path().join("proc");
        let mut command = Command::new("unshare");
        command.arg(format!("--mount-proc={}", proc.display())).args(["/usr/sbin/chroot", "--userspec"]);
        command.arg(format!("{0}:{0}", Self::USER)).arg(self.root.path());
        command.args(["/this", "--exact", "a_filter_is_set_up", "--nocapture"]).env_clear();
        command.env("PATH", "/usr/bin:/usr/sbin").envs(self.variables.iter().cloned());
        command.env(FILTERED_CALL, SHIPPED_PROFILE).env(FILTERED_PROGRAM, words.join("\n"));
        command
    }
}

/// Ends a program that a failed test has left.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What an image for containers has to have, apart from a container: the files of the Dockerfile, its user, its profile.
#[test]
fn the_image_serves_without_privileges_and_with_nothing_but_its_files() {
    if !geteuid().is_root() {
        return common::skipped("only root can enter the image");
    }
    bounded(|| {
        let image = Image::build();
        image.choose_ports();
        std::fs::create_dir(image.root.path().join("proc")).expect("it can be made");
        std::fs::create_dir_all(image.root.path().join("tmp")).expect("it can be made");
        std::os::unix::fs::chown(image.root.path(), Some(Image::USER), None).expect("this is root");
        image.copy_program(&std::env::current_exe().expect("this program has a path"), &image.path("this"));
        let mut serve = image.run(&image.command);
        let mut child = Running(serve.stderr(Stdio::piped()).spawn().expect("it starts"));
        let mut errors = BufReader::new(child.0.stderr.take().expect("it is piped"));
        let mut heard = String::new();
        while !heard.contains("\ndata: /var/lib/caxton\n") {
            if errors.read_line(&mut heard).expect("it is text") == 0 {
                let explained =
                    heard.contains("To fix it: ") || heard.contains("unshare: ") || heard.contains("chroot: ");
                assert!(explained, "{heard}");
                return common::skipped(&format!("this host cannot run the image: {heard}"));
            }
        }
        let health = image.run(&image.health).output().expect("it runs");
        assert!(health.status.success(), "{}", said(&health));
        let id = Pid::from_child(&child.0);
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.0.id())).expect("it runs");
        assert!(status.contains(&format!("Uid:\t{}", Image::USER)) && status.contains("Seccomp:\t2"), "{status}");
        kill_process(id, Signal::TERM).expect("it runs");
        errors.read_to_string(&mut heard).expect("it is text");
        assert!(child.0.wait().expect("it ends").success(), "{heard}");
        for sign in UNCHECKED {
            assert!(!heard.contains(sign), "{heard}");
        }
    });
}

/// A file with one message.
fn one_message() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("there is a place for files");
    let file = directory.path().join("one.acl");
    std::fs::write(&file, "(inform :sender a :receiver b :content \"x\")\n").expect("it is written");
    let file = file.to_str().expect("the path is UTF-8").to_owned();
    (directory, file)
}

/// Whether a command can be run here. Prints a message if not.
fn is_possible(case: &str, command: &str) -> bool {
    let output = Command::new("sh").args(["-c", command]).output().expect("there is a shell");
    let possible = output.status.success();
    if !possible {
        println!("left out, because this environment forbids it: {case}: {}", said(&output).trim());
    }
    possible
}

#[test]
fn forbidden_system_calls_are_explained_as_the_doctor_explains_them() {
    bounded(|| {
        let (_directory, file) = one_message();
        for (call, error, words) in [
            (libc::SYS_io_uring_setup, libc::EPERM, "io_uring is forbidden by the seccomp filter"),
            (libc::SYS_io_uring_setup, libc::ENOSYS, "io_uring is missing: it is hidden by the seccomp filter"),
            (libc::SYS_io_uring_enter, libc::EPERM, "(io_uring_enter is refused)"),
            (libc::SYS_io_uring_register, libc::EPERM, "(io_uring_register is refused)"),
            (libc::SYS_io_uring_register, libc::ENOSYS, "(io_uring_register does not exist)"),
        ] {
            let case = format!("call {call} fails with {error}");
            let route = filtered(call, error, &["route", &file]);
            assert!(!works_or_explains(&case, &route), "{case}");
            let doctor = filtered(call, error, &["doctor"]);
            assert_eq!(doctor.status.code(), Some(1), "{case}: {}", said(&doctor));
            for said in [said(&route), said(&doctor)] {
                assert!(said.contains(words) && said.contains("seccomp=unconfined"), "{case}: {words}: {said}");
            }
        }
    });
}

#[test]
fn system_calls_that_are_no_more_than_useful_may_be_forbidden() {
    bounded(|| {
        let (_directory, file) = one_message();
        for call in [
            libc::SYS_sched_setaffinity,
            libc::SYS_sched_getaffinity,
            libc::SYS_membarrier,
            libc::SYS_adjtimex,
            libc::SYS_mlock,
            libc::SYS_sched_setscheduler,
            libc::SYS_statfs,
        ] {
            for error in [libc::EPERM, libc::ENOSYS] {
                let case = format!("call {call} fails with {error}");
                let output = filtered(call, error, &["route", &file]);
                assert!(works_or_explains(&case, &output), "{case}: {}", said(&output));
            }
        }
    });
}

#[test]
fn too_little_lockable_memory_is_explained() {
    bounded(|| {
        let output = caxton("ulimit -l 64", "", BENCH);
        assert!(!works_or_explains("64 KiB of locked memory", &output));
        let doctor = caxton("ulimit -l 64", "", "doctor");
        assert_eq!(doctor.status.code(), Some(1));
        for said in [said(&output), said(&doctor)] {
            let words = "memory lock: this process may lock 65536 bytes; a shard needs 524288";
            assert!(said.contains(words), "{words:?} is missing in: {said}");
        }
    });
}

#[test]
fn limits_of_any_size_are_met_or_explained() {
    bounded(|| {
        let (_directory, file) = one_message();
        let route = format!("route '{file}'");
        let mut explained = 0;
        for limit in [
            "ulimit -n 24",
            "ulimit -n 64",
            "ulimit -n 100",
            "ulimit -n 256",
            "ulimit -v 400000",
            "ulimit -v 600000",
            "ulimit -v 1000000",
            "ulimit -v 4000000",
            "ulimit -d 200000",
            "ulimit -d 500000",
            "ulimit -s 1024",
            "ulimit -l 512",
            "ulimit -f 0",
            "ulimit -c 0",
        ] {
            if is_possible(limit, limit) {
                explained += u32::from(!works_or_explains(limit, &caxton(limit, "", &route)));
            }
        }
        assert!(explained > 0, "some of these are too small for anybody");
    });
}

#[test]
fn another_user_with_few_processes_no_home_and_a_single_core() {
    bounded(|| {
        let (directory, file) = one_message();
        let route = format!("route '{file}'");
        for (case, limit, through) in [
            ("no HOME and no other variable", "", "env -i PATH=/usr/bin:/bin"),
            ("a HOME that is not there", "export HOME=/nowhere TMPDIR=/nowhere", ""),
            ("one core", "", "taskset -c $(taskset -cp $$ | sed 's/.*: *\\([0-9]*\\).*/\\1/')"),
        ] {
            assert!(works_or_explains(case, &caxton(limit, through, &route)), "{case}");
        }
        let user = "setpriv --reuid=61234 --regid=61234 --clear-groups";
        let reachable = format!("{user} cat '{file}' && {user} '{}' --version", binary().display());
        let permitted = Command::new("chmod").arg("755").arg(directory.path()).status();
        assert!(permitted.is_ok_and(|status| status.success()));
        if !is_possible("another user", &reachable) {
            return;
        }
        for processes in [1, 4, 8, 12, 1_000] {
            let case = format!("another user with {processes} processes");
            let limit = format!("ulimit -u {processes}");
            // The limit applies to another user, so it is set before and checked after the change.
            let output = caxton(&limit, user, &route);
            let may_not_even_begin = said(&output).contains("fork") || output.status.code() == Some(125);
            if !may_not_even_begin {
                works_or_explains(&case, &output);
            }
        }
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("it is made");
        let output = caxton("", user, &format!("{route} --data '{}'", data.display()));
        assert!(!works_or_explains("a directory of somebody else's", &output), "{}", said(&output));
        assert!(said(&output).contains("store directory: this process may not read and write"), "{}", said(&output));
    });
}

#[test]
fn a_bare_root_without_proc_and_sys() {
    bounded(|| {
        let enter = if is_possible("a user of its own name space", "unshare -Ur true") { "unshare -Ur" } else { "" };
        let root = tempfile::tempdir().expect("there is a place for files");
        if !is_possible("another root", &format!("{enter} chroot / true")) {
            return;
        }
        install(&binary(), root.path());
        std::fs::write(root.path().join("one.acl"), "(inform :sender a :receiver b :content \"x\")\n")
            .expect("it is written");
        let into = |arguments: &str| {
            let script = format!("exec {enter} chroot '{}' /caxton {arguments}", root.path().display());
            let mut command = Command::new("timeout");
            program::without_settings(&mut command);
            command.args(["-s", "KILL", &SECONDS_MAX.to_string(), "sh", "-c", &script]).output().expect("it runs")
        };
        if !is_possible(
            "a copy of the program",
            &format!("{enter} chroot '{}' /caxton --version", root.path().display()),
        ) {
            return;
        }
        let output = into("route /one.acl");
        assert!(works_or_explains("neither /proc nor /sys", &output), "{}", said(&output));
        let doctor = into("doctor");
        assert_eq!(doctor.status.code(), Some(0), "{}", said(&doctor));
        assert!(said(&doctor).contains("neither /proc nor /sys is there"), "{}", said(&doctor));
        works_or_explains("a load without a place for temporary files", &into(BENCH));
    });
}

/// Copies a program and its libraries into another root.
fn install(program: &Path, root: &Path) {
    let place = |from: &Path, to: &Path| {
        std::fs::create_dir_all(to.parent().expect("it lies somewhere")).expect("it is made");
        if std::fs::hard_link(from, to).is_err() {
            std::fs::copy(from, to).expect("it is copied");
        }
    };
    place(program, &root.join("caxton"));
    let libraries = Command::new("ldd").arg(program).output().expect("there is ldd");
    for word in text(&libraries.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let from = std::fs::canonicalize(word).expect("the library is there");
        std::fs::create_dir_all(root.join(&word[1..]).parent().expect("it lies somewhere")).expect("it is made");
        std::fs::copy(&from, root.join(&word[1..])).expect("it is copied");
    }
}

#[test]
fn a_read_only_root() {
    bounded(|| {
        let (_directory, file) = one_message();
        // Everything is read-only there, including the places for temporary files.
        let enter =
            "unshare -Urm sh -c 'mount -o bind,remount,ro / && mount -t tmpfs -o ro none /dev/shm; exec \"$@\"' sh";
        if !is_possible("a read-only root", &format!("{enter} true")) {
            return;
        }
        assert!(works_or_explains("a read-only root", &caxton("", enter, &format!("route '{file}'"))));
    });
}

#[test]
fn rings_that_do_not_fit_into_memory_are_refused_with_their_size_before_they_are_made() {
    bounded(|| {
        let output = caxton("", "", "bench mixed --shards 1024 --messages 1000 --agents 3000");
        assert!(!works_or_explains("1024 shards", &output), "{}", said(&output));
        let said = said(&output);
        assert!(said.contains("memory: the rings between 1024 shards take up to 479.5 GiB, and "), "{said}");
        assert!(said.contains("set router.shards = "), "{said}");
    });
}

#[test]
fn more_shards_than_cores_are_a_warning() {
    bounded(|| {
        let through = "taskset -c $(taskset -cp $$ | sed 's/.*: *\\([0-9]*\\).*/\\1/')";
        let output = caxton("", through, &format!("{BENCH} --shards 3"));
        assert!(works_or_explains("three shards on a core", &output), "{}", said(&output));
        assert!(text(&output.stderr).starts_with("warning: shards: 3 shards share 1 cores"), "{}", said(&output));
        let doctor = caxton("", through, "doctor --set router.shards=3");
        assert_eq!(doctor.status.code(), Some(0));
        assert!(said(&doctor).contains("warning  shards: 3 shards share 1 cores"), "{}", said(&doctor));
    });
}

#[test]
fn the_automatic_number_of_shards_follows_the_cores_that_are_allowed() {
    bounded(|| {
        let core = core_affinity::get_core_ids().and_then(|cores| cores.first().map(|core| core.id));
        let core = core.expect("this process may run on some core");
        let output = caxton("", &format!("taskset -c {core}"), &format!("{BENCH} --json"));
        let said = text(&output.stdout);
        assert!(output.status.success(), "{said}{}", text(&output.stderr));
        let report: serde_json::Value = serde_json::from_str(&said).expect("the report is JSON");
        assert_eq!(report["shards"], 1, "{report}");
        assert_eq!(report["machine"]["cores_allowed"], 1, "{report}");
    });
}

#[test]
fn variables_that_orchestrators_set_are_passed_over() {
    bounded(|| {
        let (_directory, file) = one_message();
        let links = "export CAXTON_PORT=tcp://10.0.0.1:80 CAXTON_SERVICE_HOST=10.0.0.1 CAXTON_SERVICE_PORT=80 \
                     CAXTON_PORT_80_TCP_ADDR=10.0.0.1 CAXTON_ROUTER_SERVICE_PORT_HTTP=80";
        let output = caxton(links, "", &format!("route '{file}'"));
        assert!(output.status.success(), "{}", said(&output));
        let mistaken = caxton("export CAXTON_PORT=80", "", &format!("route '{file}'"));
        assert_eq!(mistaken.status.code(), Some(2), "{}", said(&mistaken));
    });
}
