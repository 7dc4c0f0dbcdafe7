//! Which parts of WASI guests are granted, and what happens to those that want more.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use caxton_router::config::Preset;
use caxton_router::domain::AgentName;
use caxton_router::wasm::{Grant, Grants, Guest, GuestError, LogLevel, Manifest, Permissions, Sandbox, WIT};
use caxton_router::{AgentId, Config, Message, Performative, Router};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::common::PATIENCE;

/// An older version than the router's: those of one minor number are compatible.
const VERSION: &str = "0.2.3";
/// Only the part of the file system that is called here.
const FILES: &str = "package wasi:filesystem@0.2.3;
interface types { resource descriptor { sync: func() -> bool; } }
interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }";
/// Functions that guests import: interface, function, and their core signature.
const FUNCTIONS: [[&str; 3]; 18] = [
    ["clocks/monotonic-clock", "now", "(func $now (result i64))"],
    ["clocks/monotonic-clock", "subscribe-duration", "(func $after (param i64) (result i32))"],
    ["clocks/wall-clock", "now", "(func $wall (param i32))"],
    ["io/poll", "[method]pollable.block", "(func $block (param i32))"],
    ["io/poll", "[method]pollable.ready", "(func $ready (param i32) (result i32))"],
    ["io/poll", "poll", "(func $poll (param i32 i32 i32))"],
    ["random/random", "get-random-bytes", "(func $bytes (param i64 i32))"],
    ["random/insecure-seed", "insecure-seed", "(func $seed (param i32))"],
    ["cli/stdout", "get-stdout", "(func $stdout (result i32))"],
    ["cli/stderr", "get-stderr", "(func $stderr (result i32))"],
    ["cli/stdin", "get-stdin", "(func $stdin (result i32))"],
    ["cli/exit", "exit", "(func $exit (param i32))"],
    ["cli/environment", "get-environment", "(func $environment (param i32))"],
    ["io/streams", "[method]output-stream.write", "(func $write (param i32 i32 i32 i32))"],
    ["io/streams", "[method]output-stream.blocking-write-and-flush", "(func $print (param i32 i32 i32 i32))"],
    ["io/streams", "[method]input-stream.blocking-read", "(func $read (param i32 i64 i32))"],
    ["filesystem/types", "[method]descriptor.sync", "(func $sync (param i32) (result i32))"],
    ["filesystem/preopens", "get-directories", "(func $directories (param i32))"],
];

/// A core module that replies to each message with an inform of the text at `$at` and `$length`, after `body`, in which
/// `$first` is the first letter of the content. Its text is at 256. Its start function is `start`.
fn core(imports: &str, start: &str, text: &str, body: &str) -> Vec<u8> {
    // The adapter for WASI preview 1 keeps what it allocates.
    let forget = if imports.contains("preview1") { "" } else { "(global.set $heap (i32.const 16384))" };
    wat::parse_str(format!(
        r#"(module
            (import "caxton:agent/router@1.0.0" "reply" (func $reply (param i32 i32 i32 i32 i32 i32)))
            {imports}
            (memory (export "memory") 8)
            (global $heap (mut i32) (i32.const 16384))
            (func (export "cabi_realloc") (param i32 i32 i32) (param $bytes i32) (result i32)
              (local $at i32)
              (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
              (global.set $heap (i32.add (local.get $at) (local.get $bytes)))
              (if (i32.gt_u (global.get $heap) (i32.const 524288)) (then (unreachable)))
              (local.get $at))
            (func (export "start") (result i32) {start} (i32.store8 (i32.const 16) (i32.const 0)) (i32.const 16))
            (func (export "stop"))
            (func (export "handle") (param $message i32) (result i32)
              (local $first i32) (local $at i32) (local $length i32) (local $n i32) (local $began i64)
              (local.set $first (i32.load8_u (i32.load offset=176 (local.get $message))))
              (local.set $at (i32.const 256)) (local.set $length (i32.const 4))
              {body}
              (call $reply (i32.const 7) (i32.const 0) (i32.const 0) (local.get $at) (local.get $length) (i32.const 64))
              (i32.store8 (i32.const 16) (i32.const 0))
              (i32.const 16))
            (func (export "cabi_post_handle") (param i32) {forget})
            (data (i32.const 256) "done{text}"))"#
    ))
    .unwrap()
}

/// A component that imports these functions, as named by a core module.
fn component(functions: &[&str], text: &str, body: &str) -> Vec<u8> {
    starting(functions, "", text, body)
}

/// Like [`component`], with a start function.
fn starting(functions: &[&str], start: &str, text: &str, body: &str) -> Vec<u8> {
    let chosen: Vec<_> = FUNCTIONS
        .iter()
        .filter(|[.., kind]| functions.iter().any(|name| kind.contains(&format!("${name} "))))
        .collect();
    assert_eq!(chosen.len(), functions.len(), "each of {functions:?} exists");
    let import = |[interface, function, kind]: &[&str; 3]| {
        format!("(import \"wasi:{interface}@{VERSION}\" \"{function}\" {kind})\n")
    };
    let imports = chosen.iter().map(|function| import(function)).collect::<Vec<_>>().concat();
    let interfaces: BTreeSet<_> = chosen.iter().map(|[interface, ..]| interface).collect();
    let import = |interface: &&str| format!("import wasi:{interface}@{VERSION};\n");
    let world = interfaces.into_iter().map(import).collect::<Vec<_>>().concat();
    let mut resolve = Resolve::default();
    resolve.push_str("agent.wit", WIT).unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wasm/wit/wasi/deps");
    for package in ["io", "clocks", "random", "cli"] {
        let text = std::fs::read_to_string(directory.join(package).with_extension("wit")).unwrap();
        resolve.push_str(package, &text.replace("0.2.12", VERSION)).unwrap();
    }
    resolve.push_str("files.wit", FILES).unwrap();
    let world = format!("package test:guest; world guest {{ include caxton:agent/agent@1.0.0; {world} }}");
    let package = resolve.push_str("guest.wit", &world).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let mut module = core(&imports, start, text, body);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

fn granting(grants: &[Grant]) -> Manifest {
    let wasi = grants.iter().copied().collect();
    Manifest::permitting(Permissions { wasi, ..Permissions::default() })
}

fn config() -> Config {
    let mut config = Config::preset(Preset::Testing);
    config.wasm.call_ms = 60_000.try_into().unwrap();
    config.message.timeout_ms = 60_000.try_into().unwrap();
    config.retry.delay_ms = "1".parse().unwrap();
    config.set("retry.attempts", "0", "test").unwrap();
    config
}

fn start(config: &Config) -> (Sandbox, Router) {
    let router = Router::builder().config(config.clone()).shards(1.try_into().unwrap()).start().unwrap();
    (Sandbox::start(&config.wasm).unwrap(), router)
}

fn register(router: &Router, guest: &Guest, agent: &str) {
    let name = AgentName::try_new(agent).unwrap();
    router.blocking().register_all(vec![guest.agent(name)]).pop().unwrap().unwrap();
}

/// Returns the outcome of a message to a guest, in words: its reply, or why there is none.
fn fate(router: &Router, agent: &str, content: &str) -> String {
    let request = Message::builder(Performative::Request).receiver(AgentId::of_text(agent)).content(content).build();
    match router.blocking().ask(request.unwrap(), PATIENCE) {
        Ok(message) => message.content().as_text().unwrap_or_default().to_owned(),
        Err(error) => error.to_string(),
    }
}

fn lines(sandbox: &Sandbox) -> Vec<(LogLevel, String)> {
    std::iter::from_fn(|| sandbox.next_log_line()).map(|line| (line.level, line.text)).collect()
}

/// A guest with these grants, and a router in which it runs.
fn run(grants: &[Grant], functions: &[&str], text: &str, body: &str) -> (Sandbox, Router) {
    let (sandbox, router) = start(&config());
    let guest = sandbox.load_with("guest", &component(functions, text, body), &granting(grants)).unwrap();
    register(&router, &guest, "guest");
    (sandbox, router)
}

/// Waits for this many milliseconds.
fn sleep(ms: u32) -> String {
    format!("(call $block (call $after (i64.mul (i64.const {ms}) (i64.const 1000000))))")
}

#[test]
fn a_guest_with_clocks_reads_them_and_waits_for_them() {
    let body = format!(
        "(local.set $began (call $now))
         {}
         (if (i64.lt_u (i64.sub (call $now) (local.get $began)) (i64.const 30000000)) (then (unreachable)))
         ;; A moment that is long past, and one that is far off.
         (i32.store (i32.const 512) (call $after (i64.const 3600000000000)))
         (i32.store (i32.const 516) (call $after (i64.const 0)))
         (if (call $ready (i32.load (i32.const 512))) (then (unreachable)))
         (if (i32.eqz (call $ready (i32.load (i32.const 516)))) (then (unreachable)))
         (call $poll (i32.const 512) (i32.const 2) (i32.const 520))
         (if (i32.ne (i32.load (i32.const 524)) (i32.const 1)) (then (unreachable)))
         (if (i32.ne (i32.load (i32.load (i32.const 520))) (i32.const 1)) (then (unreachable)))
         ;; 2020 at the earliest.
         (call $wall (i32.const 528))
         (if (i64.lt_u (i64.load (i32.const 528)) (i64.const 1577836800)) (then (unreachable)))",
        sleep(30)
    );
    let functions = ["now", "after", "wall", "block", "ready", "poll"];
    let (_sandbox, router) = run(&[Grant::Clocks], &functions, "", &body);
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(fate(&router, "guest", "go"), "done");
        assert!(began.elapsed() >= Duration::from_millis(30), "it slept for {:?} only", began.elapsed());
    }
}

#[test]
fn what_is_not_granted_is_refused_with_the_grant_that_would_give_it() {
    let (sandbox, _router) = start(&config());
    let everything = component(&["now", "block", "bytes", "print", "stdout", "directories"], "", "");
    let refused = |manifest: &Manifest| sandbox.load_with("guest", &everything, manifest).unwrap_err().to_string();
    let said = refused(&Manifest::default());
    for complaint in [
        "it imports wasi:clocks/monotonic-clock@0.2.3: not granted; `clocks` in `wasi` under [permissions]",
        "it imports wasi:random/random@0.2.3: not granted; `random`",
        "it imports wasi:cli/stdout@0.2.3: not granted; `stdout`",
        "it imports wasi:io/poll@0.2.3: not granted; `clocks` or `stdout`",
        "it imports wasi:filesystem/preopens@0.2.3: never granted; `stubs` lets it be imported and traps when it is called",
    ] {
        assert!(said.contains(complaint), "{complaint}: {said}");
    }
    let said = refused(&granting(&[Grant::Clocks, Grant::Stdout, Grant::Random]));
    assert!(said.contains("wasi:filesystem/types") && !said.contains("not granted"), "{said}");
    assert!(sandbox.load_with("guest", &everything, &granting(&Grant::ALL)).is_ok());
    // Grants can be added and removed later, and are checked then.
    let random = sandbox.load_with("guest", &component(&["bytes"], "", ""), &granting(&[Grant::Random])).unwrap();
    assert_eq!(random.wasi_imports(), ["wasi:random/random@0.2.3"]);
    assert!(random.clone().with(&granting(&[Grant::Stubs, Grant::Random])).is_ok());
    assert!(matches!(random.permitted(Permissions::default()), Err(GuestError::Unfit { .. })));
}

#[test]
fn the_operators_key_has_the_last_word() {
    let mut config = config();
    config.set("wasm.wasi", "stdout, random", "test").unwrap();
    let (sandbox, _router) = start(&config);
    let module = component(&["now"], "", "");
    let manifest =
        Manifest::parse(Path::new("guest.toml"), "[permissions]\nwasi = [\"clocks\", \"stdout\"]\n").unwrap();
    let error = sandbox.load_with("guest", &module, &manifest).unwrap_err().to_string();
    assert_eq!(error, "guest: its manifest asks for clocks, which wasm.wasi forbids: it allows random, stdout");
    let plain = sandbox.load("plain", &component(&[], "", "")).unwrap();
    assert!(matches!(plain.with(&manifest), Err(GuestError::Forbidden { .. })));
    config.set("wasm.wasi", "", "test").unwrap();
    assert_eq!(config.wasm.wasi, Grants::NONE);
    let error = Sandbox::start(&config.wasm).unwrap().load_with("guest", &module, &manifest).unwrap_err().to_string();
    assert!(error.ends_with("asks for clocks, stdout, which wasm.wasi forbids: it allows nothing"), "{error}");
}

#[test]
fn a_stub_traps_when_it_is_called_and_not_before() {
    let body = "(call $directories (i32.const 512))
                (if (i32.load (i32.const 516)) (then (unreachable)))
                (if (i32.eq (local.get $first) (i32.const 33)) (then (drop (call $sync (i32.const 0)))))
                (if (i32.eq (local.get $first) (i32.const 63)) (then (drop (call $now))))";
    let (_sandbox, router) = run(&[Grant::Stubs], &["directories", "sync", "now"], "", body);
    assert_eq!(fate(&router, "guest", "go"), "done");
    let said = fate(&router, "guest", "?");
    assert!(said.contains("it called now of wasi:clocks/monotonic-clock@0.2.3, which is a stub"), "{said}");
    // There are no descriptors, so the guest has none to call anything with.
    assert!(fate(&router, "guest", "!").contains("every attempt to handle the message failed"));
    assert_eq!(fate(&router, "guest", "go"), "done", "it was made anew");
}

#[test]
fn sleeping_guests_hold_up_nobody() {
    const SLEEPERS: usize = 10;
    let mut config = config();
    // They never wake during the test.
    config.wasm.call_ms = 3_600_000.try_into().unwrap();
    let (sandbox, router) = start(&config);
    let body =
        format!("(call $print (call $stdout) (i32.const 260) (i32.const 7) (i32.const 512)) {}", sleep(3_000_000));
    let sleeper = component(&["after", "block", "stdout", "print"], "asleep\\0a", &body);
    let sleeper = sandbox.load_with("sleeper", &sleeper, &granting(&[Grant::Clocks, Grant::Stdout])).unwrap();
    register(&router, &sandbox.load("neighbour", &component(&[], "", "")).unwrap(), "neighbour");
    for number in 0..SLEEPERS {
        let agent = format!("sleeper-{number}");
        register(&router, &sleeper, &agent);
        let message = Message::builder(Performative::Inform).receiver(AgentId::of_text(&agent)).content("go");
        router.blocking().send(message.build().unwrap()).unwrap();
    }
    let mut asleep = Vec::new();
    while asleep.len() < SLEEPERS {
        assert_eq!(fate(&router, "neighbour", "go"), "done");
        asleep.extend(lines(&sandbox));
    }
    for _ in 0..20 {
        assert_eq!(fate(&router, "neighbour", "go"), "done", "while all ten sleep");
    }
    assert!(asleep.iter().all(|(_, text)| text == "asleep") && lines(&sandbox).is_empty(), "{asleep:?}");
    let report = router.shutdown(Duration::ZERO).unwrap();
    assert_eq!(report.stats.account().dead_lettered, 10, "none of them woke up: {report}");
}

#[test]
fn a_guest_that_sleeps_beyond_its_time_traps() {
    let mut config = config();
    config.wasm.call_ms = 60.try_into().unwrap();
    let (sandbox, router) = start(&config);
    let long = component(&["after", "block"], "", &sleep(3_600_000));
    let many = component(&["after", "block"], "", &format!("(loop $l {} (br $l))", sleep(5)));
    for (agent, module) in [("long", long), ("many", many)] {
        let guest = sandbox.load_with(agent, &module, &granting(&[Grant::Clocks])).unwrap();
        register(&router, &guest, agent);
        let said = fate(&router, agent, "go");
        assert!(said.contains("for more than 60 ms"), "{agent}: {said}");
    }
}

#[tokio::test]
async fn versions_that_sleep_while_they_start_replace_each_other() {
    use caxton_router::wasm::{DeployError, State, Strategy};
    let mut config = config();
    config.wasm.call_ms = 2_000.try_into().unwrap();
    let (sandbox, router) = start(&config);
    let version = |letter: &str, start_ms| {
        let body = "(local.set $at (i32.const 260)) (local.set $length (i32.const 1))";
        let module = starting(&["after", "block"], &sleep(start_ms), letter, body);
        sandbox.load_with(letter, &module, &granting(&[Grant::Clocks])).unwrap()
    };
    let (registration, deployment) = version("a", 50).deploy("guest");
    router.register_one(registration).await.unwrap();
    let answer = || {
        let router = router.clone();
        tokio::task::spawn_blocking(move || fate(&router, "guest", "go"))
    };
    assert_eq!(answer().await.unwrap(), "a");
    deployment.replace(&router, version("b", 50), Strategy::Immediate).await.unwrap();
    assert_eq!(answer().await.unwrap(), "b");
    let error = deployment.replace(&router, version("c", 3_600_000), Strategy::Immediate).await.unwrap_err();
    assert!(matches!(&error, DeployError::RolledBack(reason) if reason.contains("for more than 2000 ms")), "{error}");
    assert!(matches!(deployment.state(), State::RolledBack(_)));
    assert_eq!(answer().await.unwrap(), "b");
}

#[test]
fn what_is_printed_reaches_the_log_line_by_line() {
    let body = "(call $print (call $stdout) (i32.const 260) (i32.const 7) (i32.const 512))
                (call $print (call $stderr) (i32.const 268) (i32.const 5) (i32.const 512))
                (call $environment (i32.const 520))
                (if (i32.load (i32.const 524)) (then (unreachable)))
                ;; The input has ended: an error, and closed.
                (call $read (call $stdin) (i64.const 10) (i32.const 528))
                (if (i32.ne (i32.load8_u (i32.const 528)) (i32.const 1)) (then (unreachable)))
                (if (i32.ne (i32.load8_u (i32.const 532)) (i32.const 1)) (then (unreachable)))
                (if (i32.eq (local.get $first) (i32.const 33)) (then (call $exit (i32.const 1))))";
    let functions = ["stdout", "stderr", "stdin", "print", "read", "exit", "environment"];
    let (sandbox, router) = run(&[Grant::Stdout], &functions, "one\\ntwo\\0aoops\\0a", body);
    let printed = [(LogLevel::Info, "one"), (LogLevel::Info, "two"), (LogLevel::Warn, "oops")];
    let printed = printed.map(|(level, text)| (level, text.to_owned()));
    assert_eq!(fate(&router, "guest", "go"), "done");
    let mut written = lines(&sandbox);
    written.sort();
    assert_eq!(written, printed);
    let said = fate(&router, "guest", "!");
    assert!(said.contains("it ended itself with exit code 1"), "{said}");
    assert_eq!(lines(&sandbox).len(), 3, "what was printed before a trap is kept");
}

#[test]
fn output_is_bounded_however_much_a_guest_prints() {
    // Endless lines, writes that are too long, and lines without end.
    let body = "(if (i32.eq (local.get $first) (i32.const 46)) (then
                  (loop $l (call $print (call $stdout) (i32.const 4096) (i32.const 4096) (i32.const 512)) (br $l))))
                (if (i32.eq (local.get $first) (i32.const 33)) (then
                  (call $write (call $stdout) (i32.const 4096) (i32.const 4097) (i32.const 512))))
                (loop $l (call $print (call $stdout) (i32.const 260) (i32.const 2) (i32.const 512)) (br $l))";
    let (sandbox, router) = run(&[Grant::Stdout], &["stdout", "print", "write"], "x\\0a", body);
    let said = fate(&router, "guest", ".");
    assert!(said.contains("more than 1000 host calls"), "{said}");
    let written = lines(&sandbox);
    assert_eq!(written.iter().map(|(_, text)| text.len()).collect::<Vec<_>>(), [4_096], "the rest is cut off");
    let said = fate(&router, "guest", "!");
    assert!(said.contains("4097 bytes at once: the limit is 4096"), "{said}");
    let said = fate(&router, "guest", "go");
    assert!(said.contains("more than 1000 host calls"), "{said}");
    let written = lines(&sandbox).len();
    assert!((1..=300).contains(&written), "{written} lines");
    assert!(sandbox.log_lines_lost() > 100, "{} are lost", sandbox.log_lines_lost());
}

#[test]
fn handles_pollables_and_random_bytes_are_bounded() {
    let mut config = config();
    config.wasm.host_calls = 5_000.try_into().unwrap();
    let (sandbox, router) = start(&config);
    let guests = [
        ("streams", vec!["stdout"], "(loop $l (drop (call $stdout)) (br $l))", "no free keys"),
        ("pollables", vec!["after"], "(loop $l (drop (call $after (i64.const 0))) (br $l))", "no free keys"),
        (
            "poll",
            vec!["after", "poll"],
            "(local.set $n (i32.const 1028))
             (loop $l (local.set $n (i32.sub (local.get $n) (i32.const 4)))
               (i32.store offset=4096 (local.get $n) (call $after (i64.const 0)))
               (br_if $l (local.get $n)))
             (call $poll (i32.const 4096) (i32.const 257) (i32.const 512))",
            "waits for 257 things at once: the limit is 256",
        ),
        (
            "transfer",
            vec!["stdout", "write"],
            "(call $write (call $stdout) (i32.const 0) (i32.const 500000) (i32.const 512))",
            "too much data",
        ),
        (
            "random",
            vec!["bytes"],
            "(call $bytes (i64.const 0x10000000000) (i32.const 512))",
            "for 1099511627776 random bytes at once: the limit is 65536",
        ),
        (
            "much-random",
            vec!["bytes"],
            "(loop $l (global.set $heap (i32.const 16384)) (call $bytes (i64.const 65536) (i32.const 512)) (br $l))",
            "more than 5000 host calls",
        ),
    ];
    for (agent, functions, body, complaint) in guests {
        let guest = sandbox.load_with(agent, &component(&functions, "", body), &granting(&Grant::ALL)).unwrap();
        register(&router, &guest, agent);
        let said = fate(&router, agent, "go");
        assert!(said.contains(complaint), "{agent}: {said}");
    }
}

#[test]
fn random_bytes_are_as_many_as_asked_for_and_differ() {
    let body = "(call $bytes (i64.const 13) (i32.const 512))
                (if (i32.ne (i32.load (i32.const 516)) (i32.const 13)) (then (unreachable)))
                (local.set $at (i32.load (i32.const 512)))
                (call $seed (i32.const 520))
                (if (i64.eq (i64.load (i32.const 520)) (i64.load (local.get $at))) (then (unreachable)))
                (if (i64.eq (i64.load (i32.const 520)) (i64.load (i32.const 528))) (then (unreachable)))
                (local.set $at (i32.const 256))";
    let (_sandbox, router) = run(&[Grant::Random], &["bytes", "seed"], "", body);
    assert_eq!(fate(&router, "guest", "go"), "done");
    assert_eq!(fate(&router, "guest", "go"), "done");
}

#[test]
fn a_core_module_for_the_first_wasi_has_the_same_grants() {
    // Prints, reads the clock, and waits for 20 ms.
    let imports = r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))"#;
    let body = "(i32.store (i32.const 512) (i32.const 260)) (i32.store (i32.const 516) (i32.const 6))
                (if (call $write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)) (then (unreachable)))
                (if (call $random (i32.const 600) (i32.const 8)) (then (unreachable)))
                (if (i64.eqz (i64.load (i32.const 600))) (then (unreachable)))
                (if (call $time (i32.const 1) (i64.const 0) (i32.const 528)) (then (unreachable)))
                ;; A subscription to the monotonic clock.
                (memory.fill (i32.const 640) (i32.const 0) (i32.const 48))
                (i32.store (i32.const 656) (i32.const 1)) (i64.store (i32.const 664) (i64.const 20000000))
                (if (call $poll (i32.const 640) (i32.const 704) (i32.const 1) (i32.const 520)) (then (unreachable)))
                (if (call $time (i32.const 1) (i64.const 0) (i32.const 536)) (then (unreachable)))
                (if (i64.lt_u (i64.sub (i64.load (i32.const 536)) (i64.load (i32.const 528))) (i64.const 20000000))
                  (then (unreachable)))";
    let module = core(imports, "", "hello\\0a", body);
    let (sandbox, router) = start(&config());
    let error = sandbox.load("guest", &module).unwrap_err().to_string();
    assert!(error.contains("wasi:cli/stdout") && error.contains("`stubs`"), "{error}");
    let guest = sandbox.load_with("guest", &module, &granting(&Grant::ALL)).unwrap();
    register(&router, &guest, "guest");
    assert_eq!(fate(&router, "guest", "go"), "done");
    assert_eq!(lines(&sandbox), [(LogLevel::Info, "hello".to_owned())]);
}
