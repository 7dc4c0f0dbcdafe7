//! Agents in WebAssembly, from a file to their replies.

use caxton_router::config::Preset;
use caxton_router::domain::AgentName;
use caxton_router::wasm::{Guest, GuestError, GuestKind, Sandbox};
use caxton_router::{Config, Message, Performative, Router};
use std::path::{Path, PathBuf};

use crate::common::PATIENCE;

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/guests")
}

fn sandbox() -> Sandbox {
    Sandbox::start(&Config::preset(Preset::Testing).wasm).unwrap()
}

fn name(text: &str) -> AgentName {
    AgentName::try_new(text).unwrap()
}

fn router() -> Router {
    Router::builder().preset(Preset::Testing).start().unwrap()
}

fn load(sandbox: &Sandbox, file: &str) -> Guest {
    sandbox.load_file(&guests().join(file)).unwrap()
}

fn register(router: &Router, guest: &Guest, agent: &str) {
    router.blocking().register_all(vec![guest.agent(name(agent))]).pop().unwrap().unwrap();
}

fn ask(router: &Router, to: &str, content: &str) -> Result<Message, String> {
    let request = Message::builder(Performative::Request)
        .receiver(caxton_router::AgentId::of_text(to))
        .content(content)
        .build()
        .unwrap();
    router.blocking().ask(request, PATIENCE).map_err(|error| error.to_string())
}

#[test]
fn guests_of_both_kinds_answer() {
    let (sandbox, router) = (sandbox(), router());
    for (file, kind) in [("echo/raw.wat", GuestKind::Raw), ("echo/component.wat", GuestKind::Component)] {
        let guest = load(&sandbox, file);
        assert_eq!(guest.kind(), kind, "{file}");
        register(&router, &guest, file);
        for number in 0..100 {
            let content = format!("hello {number}");
            let answer = ask(&router, file, &content).unwrap();
            assert_eq!(answer.performative(), Performative::Inform);
            assert_eq!(answer.content().as_text(), Some(content.as_str()), "{file}");
        }
    }
}

/// A raw module whose handler is `body`, with further declarations.
fn raw(declarations: &str, body: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
            (import "caxton" "random" (func $random (result i64)))
            (import "caxton" "log" (func $log (param i32 i32 i32)))
            (import "caxton" "discover" (func $discover (param i32 i32 i32 i32) (result i32)))
            (import "caxton" "get" (func $get (param i32 i32 i32 i32) (result i32)))
            (import "caxton" "put" (func $put (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            {declarations}
            (func (export "caxton_buffer_v1") (param i32) (result i32) (i32.const 1024))
            (func (export "caxton_handle_v1") (param $at i32) (param $length i32) (result i64) {body}))"#
    ))
    .unwrap()
}

/// Settings with which a guest is never too slow, even on a busy machine.
fn config() -> Config {
    let mut config = Config::preset(Preset::Testing);
    config.wasm.call_ms = 60_000.try_into().unwrap();
    config.message.timeout_ms = 60_000.try_into().unwrap();
    config.retry.delay_ms = "1".parse().unwrap();
    config
}

/// A sandbox whose guests may take this many milliseconds per message.
fn impatient(config: &Config, call_ms: u32) -> Sandbox {
    let mut wasm = config.wasm.clone();
    wasm.call_ms = call_ms.try_into().unwrap();
    Sandbox::start(&wasm).unwrap()
}

/// Returns the outcome of a message to a guest, in words: its reply, or why there is none.
fn fate(router: &Router, agent: &str) -> String {
    match ask(router, agent, "hello") {
        Ok(message) => format!("{} {}", message.performative(), message.content().as_text().unwrap_or_default()),
        Err(error) => error,
    }
}

#[test]
fn hostile_guests_fail_cleanly_and_their_neighbours_go_on() {
    let config = config();
    let (sandbox, impatient) = (Sandbox::start(&config.wasm).unwrap(), impatient(&config, 40));
    let router = Router::builder().config(config).start().unwrap();
    register(&router, &load(&sandbox, "echo/raw.wat"), "neighbour");
    let hostile = [
        ("endless", raw("", "(loop $l (br $l)) (i64.const 0)"), "40 ms"),
        (
            "memory-bomb",
            raw("", "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)"),
            "unreachable",
        ),
        (
            "host-call-flood",
            raw("", "(loop $l (drop (call $random)) (br $l)) (i64.const 0)"),
            "more than 1000 host calls",
        ),
        ("stack", raw("(func $deep (call $deep))", "(call $deep) (i64.const 0)"), "stack"),
        // A reply of a megabyte, which the memory does not have; one outside the memory; one longer than it is.
        ("huge", raw("", "(i64.const 0x0000040000100000)"), "the limit is"),
        ("behind", raw("", "(i64.const 0x7fffffff00000010)"), "outside its memory"),
        (
            "cut-off",
            raw("", "(i32.store (i32.const 8) (i32.const 4000)) (i64.const 0x0000000800000010)"),
            "impossible length",
        ),
        (
            "too-long",
            raw(
                "",
                "(i32.store (i32.const 8) (i32.const 102421)) (i32.store (i32.const 12) (i32.const 2))
                 (i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const 7))
                 (i32.store (i32.const 24) (i32.const 102401)) (i64.const 0x0000000800019018)",
            ),
            "102401 bytes",
        ),
        (
            "pointer",
            raw("", "(call $log (i32.const 0) (i32.const -8) (i32.const 100)) (i64.const 0)"),
            "outside its memory",
        ),
        (
            "out",
            raw(
                "",
                "(drop (call $discover (i32.const 0) (i32.const 1) (i32.const 131070) (i32.const 9))) (unreachable)",
            ),
            "unreachable",
        ),
    ];
    for (agent, module, complaint) in &hostile {
        let sandbox = if *agent == "endless" { &impatient } else { &sandbox };
        let guest = sandbox.load(agent, module).unwrap();
        register(&router, &guest, agent);
        let said = fate(&router, agent);
        assert!(
            said.contains("every attempt to handle the message failed") && said.contains(complaint),
            "{agent}: {said}"
        );
        assert_eq!(fate(&router, "neighbour"), "inform hello", "beside {agent}");
    }
    let letters = router.blocking().dead_letters(100).unwrap();
    assert_eq!(letters.len(), hostile.len(), "each is kept: {letters:?}");
    let report = router.shutdown(PATIENCE).unwrap();
    assert!(report.balances());
}

#[test]
fn while_guests_loop_neighbours_are_served() {
    let config = config();
    let sandbox = Sandbox::start(&config.wasm).unwrap();
    let router = Router::builder().config(config).shards(1.try_into().unwrap()).start().unwrap();
    let endless = sandbox.load("endless", &raw("", "(loop $l (br $l)) (i64.const 0)")).unwrap();
    register(&router, &load(&sandbox, "echo/component.wat"), "neighbour");
    for number in 0..5 {
        let agent = format!("endless-{number}");
        register(&router, &endless, &agent);
        let message = Message::builder(Performative::Inform).receiver(caxton_router::AgentId::of_text(&agent));
        router.blocking().send(message.build().unwrap()).unwrap();
    }
    // They take turns while they are called; the replies arrive in between.
    for _ in 0..20 {
        assert_eq!(fate(&router, "neighbour"), "inform hello");
    }
    let account = router.stats().account();
    assert_eq!((account.dead_lettered, account.retried), (0, 0), "all five are still looping");
    assert_eq!(router.shutdown(std::time::Duration::ZERO).unwrap().stats.account().dead_lettered, 5);
}

#[test]
fn a_batch_with_a_message_that_traps_loses_only_that_message() {
    // Traps on content that begins with an exclamation mark, and replies nothing.
    let module = raw(
        "",
        "(local $left i32) (local.set $left (i32.load offset=4 (local.get $at)))
         (local.set $at (i32.add (local.get $at) (i32.const 32)))
         (loop $next
            (if (i32.eq (i32.load8_u offset=96 (local.get $at)) (i32.const 33)) (then (unreachable)))
            (local.set $at (i32.add (local.get $at) (i32.load (local.get $at))))
            (local.set $left (i32.sub (local.get $left) (i32.const 1)))
            (br_if $next (local.get $left)))
         (i64.const 0)",
    );
    let mut config = config();
    config.delivery.batch = "100".parse().unwrap();
    let sandbox = Sandbox::start(&config.wasm).unwrap();
    let router = Router::builder().config(config).start().unwrap();
    let guest = sandbox.load("picky", &module).unwrap();
    register(&router, &guest, "picky");
    let messages = (0..50).map(|number| {
        let content = if number == 20 { "!" } else { "." };
        let to = caxton_router::AgentId::of_text("picky");
        Message::builder(Performative::Inform).receiver(to).content(content).build().unwrap()
    });
    router.blocking().tell_all(messages.collect()).unwrap();
    let report = router.shutdown(PATIENCE).unwrap();
    let account = report.stats.account();
    assert_eq!((account.processed, account.dead_lettered), (49, 1), "{account:?}");
}

/// A raw module that counts its messages under the key k, replies with the count as one byte, and traps on content that
/// begins with an exclamation mark, after counting it.
fn counter() -> Vec<u8> {
    raw(
        "(data (i32.const 512) \"k\")",
        "(drop (call $get (i32.const 512) (i32.const 1) (i32.const 520) (i32.const 1)))
         (i32.store8 (i32.const 520) (i32.add (i32.load8_u (i32.const 520)) (i32.const 1)))
         (drop (call $put (i32.const 512) (i32.const 1) (i32.const 520) (i32.const 1)))
         (if (i32.eq (i32.load8_u offset=128 (local.get $at)) (i32.const 33)) (then (unreachable)))
         (i32.store (i32.const 8) (i32.const 21)) (i32.store (i32.const 12) (i32.const 2))
         (i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const 7))
         (i32.store (i32.const 24) (i32.const 1))
         (i32.store8 (i32.const 28) (i32.load8_u (i32.const 520)))
         (i64.const 0x0000000800000018)",
    )
}

#[test]
fn what_is_remembered_outlives_a_restart_and_what_a_failed_attempt_changed_does_not() {
    let module = counter();
    let config = config();
    let sandbox = Sandbox::start(&config.wasm).unwrap();
    let router = Router::builder().config(config).start().unwrap();
    let guest = sandbox.load("counter", &module).unwrap();
    register(&router, &guest, "counter");
    let count = || ask(&router, "counter", "hello").unwrap().content().as_bytes().to_vec();
    assert_eq!(count(), [1]);
    assert_eq!(count(), [2]);
    assert!(ask(&router, "counter", "!").unwrap_err().contains("unreachable"));
    assert_eq!(count(), [3], "the instance is new, and what the trapped attempts counted is forgotten");
}

#[test]
fn what_a_manifest_does_not_allow_is_refused() {
    use caxton_router::wasm::Manifest;
    // Sends one message to the agent named bob.
    let module = raw(
        "(data (i32.const 8) \"\\5b\\00\\00\\00\\03\\00\\00\\00\\00\\00\\00\\00\\07\\01\\00\\00\")
         (data (i32.const 84) \"\\03\") (data (i32.const 96) \"bob\")",
        "(i64.const 0x0000000800000060)",
    );
    let config = config();
    let sandbox = Sandbox::start(&config.wasm).unwrap();
    let router = Router::builder().config(config).start().unwrap();
    let bob = router.inbox(name("bob")).blocking().open().unwrap();
    let guest = sandbox.load("writer", &module).unwrap();
    register(&router, &guest, "free");
    let go = Message::builder(Performative::Inform).receiver(caxton_router::AgentId::of_text("free"));
    router.blocking().send(go.build().unwrap()).unwrap();
    let heard = bob.blocking().recv_within(PATIENCE).unwrap();
    assert_eq!(heard.sender(), Some(caxton_router::AgentId::of_text("free")));
    for (allowed, may) in [("bob", true), ("ada", false)] {
        let text = format!("[permissions]\nsend_to = [\"{allowed}\"]\n");
        let manifest = Manifest::parse(Path::new("writer.toml"), &text).unwrap();
        let agent = if may { "allowed" } else { "not-allowed" };
        register(&router, &guest.clone().with(&manifest).unwrap(), agent);
        if may {
            let go = Message::builder(Performative::Inform).receiver(caxton_router::AgentId::of_text(agent));
            router.blocking().send(go.build().unwrap()).unwrap();
            let heard = bob.blocking().recv_within(PATIENCE).unwrap();
            assert_eq!(heard.sender(), Some(caxton_router::AgentId::of_text(agent)));
        } else {
            let said = fate(&router, agent);
            assert!(said.contains("does not list it in send_to"), "{said}");
        }
    }
}

#[test]
fn a_module_that_is_no_agent_is_refused_with_all_that_is_missing() {
    let sandbox = sandbox();
    let refused = |text: &str| sandbox.load("guest", &wat::parse_str(text).unwrap()).unwrap_err().to_string();
    let said = refused("(module (import \"env\" \"now\" (func)) (func (export \"caxton_handle_v1\") (param i32)))");
    for complaint in [
        "guest: this is not a valid agent",
        "exports no memory",
        "caxton_buffer_v1 has to be a function (i32) -> (i32), and it is missing",
        "caxton_handle_v1 has to be a function (i32, i32) -> (i64), and it is a function (i32) -> ()",
        "imports env now, which does not exist",
    ] {
        assert!(said.contains(complaint), "{complaint}: {said}");
    }
    let said = refused("(component)");
    assert!(said.contains("exports start, which is missing"), "{said}");
    let said =
        refused("(component (import \"wasi:cli/stdout@0.2.0\" (instance)) (import \"other:thing/x\" (instance)))");
    assert!(said.contains("not granted; `stdout`") && said.contains("other:thing/x"), "{said}");
    let said = refused("(module (func (export \"handle\") (param i32 i32)))");
    assert!(said.contains("this is not a valid agent"), "{said}");
    for bytes in [&b""[..], b"\0asm", b"MZ\0\0\0\0\0\0\0\0", b"\0asm\x01\0\0\0\xff"] {
        sandbox.load("guest", bytes).unwrap_err();
    }
}

#[test]
fn a_compiled_module_is_taken_from_the_cache_and_a_broken_entry_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config();
    config.wasm.cache = directory.path().join("cache").into();
    let entries = || std::fs::read_dir(directory.path().join("cache")).unwrap().map(|entry| entry.unwrap().path());
    for round in 0..3 {
        let sandbox = Sandbox::start(&config.wasm).unwrap();
        let router = Router::builder().config(config.clone()).start().unwrap();
        for (place, file) in ["echo/raw.wat", "echo/component.wat"].into_iter().enumerate() {
            register(&router, &load(&sandbox, file), file);
            assert_eq!(fate(&router, file), "inform hello", "round {round}");
            assert!(entries().count() > place);
        }
        assert_eq!(entries().count(), 2, "round {round}");
        if round == 1 {
            entries().for_each(|path| std::fs::write(path, b"broken").unwrap());
        }
    }
}

/// A raw module that replies to every message with this letter, and whose start is `start`.
fn letter(letter: char, start: &str) -> Vec<u8> {
    raw(
        &format!("(func (export \"caxton_start_v1\") {start})"),
        &format!(
            "(local $number i32) (local $out i32) (local.set $out (i32.const 8))
             (loop $next
               (i32.store (local.get $out) (i32.const 21)) (i32.store offset=4 (local.get $out) (i32.const 2))
               (i32.store offset=8 (local.get $out) (local.get $number)) (i32.store offset=12 (local.get $out) (i32.const 7))
               (i32.store offset=16 (local.get $out) (i32.const 1))
               (i32.store8 offset=20 (local.get $out) (i32.const {}))
               (local.set $out (i32.add (local.get $out) (i32.const 24)))
               (local.set $number (i32.add (local.get $number) (i32.const 1)))
               (br_if $next (i32.lt_u (local.get $number) (i32.load offset=4 (local.get $at)))))
             (i64.or (i64.const 0x0000000800000000) (i64.extend_i32_u (i32.sub (local.get $out) (i32.const 8))))",
            u32::from(letter)
        ),
    )
}

fn answer_in(router: &Router, agent: &str, conversation: u64) -> char {
    let conversation = caxton_router::message::ConversationId::from_u128((1 << 64) | u128::from(conversation)).unwrap();
    let message = Message::builder(Performative::Request)
        .receiver(caxton_router::AgentId::of_text(agent))
        .conversation(conversation)
        .build()
        .unwrap();
    let answer = router.blocking().ask(message, PATIENCE).unwrap();
    char::from(answer.content().as_bytes()[0])
}

#[tokio::test]
async fn a_module_is_replaced_by_every_strategy_and_rolled_back() {
    use caxton_router::wasm::{DeployError, State, Strategy};
    let config = config();
    let sandbox = impatient(&config, 1_000);
    let router = Router::builder().config(config).start().unwrap();
    let guest = |name: &str, start: &str| sandbox.load(name, &letter(name.chars().next().unwrap(), start)).unwrap();
    let (registration, deployment) = guest("a", "").deploy("agent");
    router.register_one(registration).await.unwrap();
    let answer = |conversation| {
        let router = router.clone();
        tokio::task::spawn_blocking(move || answer_in(&router, "agent", conversation))
    };
    assert_eq!(answer(1).await.unwrap(), 'a');

    // A guest that does not start is not used, whether it traps at once or after being suspended.
    for start in ["unreachable", "(loop $l (br $l))"] {
        let error = deployment.replace(&router, guest("x", start), Strategy::Immediate).await.unwrap_err();
        assert!(
            matches!(&error, DeployError::RolledBack(reason) if reason.contains("unreachable") || reason.contains("1000 ms"))
        );
        assert!(matches!(deployment.state(), State::RolledBack(_)));
        assert_eq!(answer(2).await.unwrap(), 'a');
    }

    deployment.replace(&router, guest("b", ""), Strategy::Immediate).await.unwrap();
    assert_eq!(deployment.state(), State::Settled);
    assert_eq!(answer(3).await.unwrap(), 'b');

    let graceful = Strategy::Graceful { within_ms: 3_600_000 };
    deployment.replace(&router, guest("c", ""), graceful).await.unwrap();
    assert_eq!(deployment.state(), State::Both(graceful));
    assert_eq!(answer(3).await.unwrap(), 'b', "a conversation of the old version");
    assert_eq!(answer(4).await.unwrap(), 'c', "a new one");
    deployment.promote(&router).await.unwrap();
    assert_eq!(answer(3).await.unwrap(), 'c');

    deployment.replace(&router, guest("d", ""), Strategy::Canary { percent: 30 }).await.unwrap();
    let mut new = 0;
    for conversation in 100..200 {
        new += u32::from(answer(conversation).await.unwrap() == 'd');
    }
    assert!((10..50).contains(&new), "{new} of 100 conversations with the new version, of which 30 were wanted");
    deployment.roll_back(&router).await.unwrap();
    for conversation in 100..120 {
        assert_eq!(answer(conversation).await.unwrap(), 'c');
    }
    assert_eq!(deployment.promote(&router).await, Err(DeployError::NothingNew));

    // A new version that traps is rolled back, and the message that it trapped on is handled by the old one.
    let trap = sandbox.load("trap", &raw("", "unreachable")).unwrap();
    deployment.replace(&router, trap, Strategy::Canary { percent: 100 }).await.unwrap();
    assert_eq!(answer(500).await.unwrap(), 'c');
    assert!(matches!(deployment.state(), State::RolledBack(reason) if reason.contains("unreachable")));
}

#[test]
fn plugins_reroute_refuse_and_annotate_and_their_failures_are_handled_as_they_were_set() {
    use caxton_router::error::SendErrorKind;
    use caxton_router::message::ParameterValue;
    use caxton_router::wasm::{OnFailure, Plugin};
    use std::sync::atomic::Ordering;
    let config = config();
    let sandbox = Sandbox::start(&config.wasm).unwrap();
    let text = std::fs::read(guests().join("gatekeeper/component.wat")).unwrap();
    let module = wat::parse_bytes(&text).unwrap();
    for on_failure in [OnFailure::Refuse, OnFailure::Pass] {
        let plugin = Plugin::load(&sandbox, "gatekeeper", &module, 1_000.try_into().unwrap(), on_failure).unwrap();
        let router = Router::builder().config(config.clone()).plugin(plugin.clone()).start().unwrap();
        let [ada, archive] = ["ada", "archive"].map(|agent| router.inbox(name(agent)).blocking().open().unwrap());
        let send = |act, content: &str| {
            let message = Message::builder(act).receiver(caxton_router::AgentId::of_text("ada")).content(content);
            router.blocking().send(message.build().unwrap()).map_err(SendErrorKind::from)
        };
        let next = |inbox: &caxton_router::Inbox| inbox.blocking().recv_within(PATIENCE).unwrap();

        send(Performative::Inform, "plain").unwrap();
        assert_eq!(next(&ada).content().as_text(), Some("plain"));
        send(Performative::Inform, &"long".repeat(300)).unwrap();
        assert_eq!(next(&archive).content().len(), 1_200);
        send(Performative::Inform, "?").unwrap();
        let asked = next(&ada);
        let parameter = &asked.details().unwrap().user_parameters[0];
        assert_eq!((&*parameter.name, &parameter.value), ("X-asked", &ParameterValue::Text("yes".into())));
        let error = send(Performative::Cancel, "now").unwrap_err();
        assert_eq!(error.to_string(), "the routing plugin gatekeeper refuses it: no cancelling now");
        for (content, failure) in [("!", "unreachable"), ("-", "interrupt")] {
            match (on_failure, send(Performative::Inform, content)) {
                (OnFailure::Pass, Ok(_)) => assert_eq!(next(&ada).content().as_text(), Some(content)),
                (OnFailure::Refuse, Err(SendErrorKind::RefusedByPlugin { reason, .. })) => {
                    assert!(reason.contains(failure), "{reason}");
                }
                (_, other) => panic!("{content}: {other:?}"),
            }
        }
        send(Performative::Inform, "afterwards").unwrap();
        assert_eq!(next(&ada).content().as_text(), Some("afterwards"));
        let figures = plugin.figures();
        let counted = [&figures.asked, &figures.rerouted, &figures.refused, &figures.annotated, &figures.failed];
        assert_eq!(counted.map(|figure| figure.load(Ordering::Relaxed)), [7, 1, 1, 1, 2]);
    }
    let error = Plugin::load(
        &sandbox,
        "echo",
        &std::fs::read(guests().join("echo/raw.wat")).unwrap(),
        5.try_into().unwrap(),
        OnFailure::Refuse,
    );
    error.unwrap_err();
}

#[test]
fn plugins_are_loaded_from_the_files_that_the_settings_name() {
    use caxton_router::error::SendErrorKind;
    let mut config = config();
    let start = |config: &Config| Router::builder().config(config.clone()).start();
    let file = guests().join("gatekeeper/component.wat");
    config.set("plugins.files", &format!("gatekeeper={}", file.display()), "test").unwrap();
    config.set("plugins.on_failure", "pass", "test").unwrap();
    config.set("plugins.call_ms", "1 s", "test").unwrap();
    let router = start(&config).unwrap();
    let ada = router.inbox(name("ada")).blocking().open().unwrap();
    let send = |act, content: &str| {
        let message = Message::builder(act).receiver(caxton_router::AgentId::of_text("ada")).content(content);
        router.blocking().send(message.build().unwrap()).map_err(SendErrorKind::from)
    };
    assert!(matches!(send(Performative::Cancel, "now"), Err(SendErrorKind::RefusedByPlugin { .. })));
    send(Performative::Inform, "!").unwrap();
    let passed = ada.blocking().recv_within(PATIENCE).unwrap();
    assert_eq!(passed.content().as_text(), Some("!"), "it trapped over this");
    router.shutdown(PATIENCE).unwrap();
    let echo = guests().join("echo/component.wat");
    for (files, complaint) in [
        (format!("echo={}", echo.display()), "plugins.files: echo: this is not a valid routing plugin"),
        ("gone=gone.wasm".to_owned(), "plugins.files: gone.wasm: cannot be read"),
    ] {
        config.set("plugins.files", &files, "test").unwrap();
        let error = start(&config).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[cfg(feature = "store")]
#[test]
fn what_is_remembered_on_disk_outlives_the_process() {
    use caxton_router::wasm::GuestStates;
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("guests.db");
    let config = config();
    for run in 0..3 {
        let sandbox = Sandbox::start(&config.wasm).unwrap();
        let states = GuestStates::open(&database).unwrap();
        let guest = sandbox.load("counter", &counter()).unwrap().remembering(&states);
        let router = Router::builder().config(config.clone()).start().unwrap();
        register(&router, &guest, "counter");
        register(&router, &guest, "other");
        let count = |agent: &str| ask(&router, agent, "hello").unwrap().content().as_bytes().to_vec();
        assert_eq!(count("counter"), [3 * run + 1]);
        assert_eq!(count("counter"), [3 * run + 2]);
        assert!(ask(&router, "counter", "!").unwrap_err().contains("unreachable"));
        assert_eq!(count("counter"), [3 * run + 3], "a failed attempt is forgotten");
        assert_eq!(count("other"), [run + 1], "each agent has its own");
        assert!(router.shutdown(PATIENCE).unwrap().balances());
    }
    std::fs::write(directory.path().join("foreign.db"), "no database").unwrap();
    GuestStates::open(&directory.path().join("foreign.db")).unwrap_err();
}

#[cfg(feature = "store")]
#[test]
fn what_guests_remember_is_part_of_a_backup_of_a_router_that_runs() {
    use caxton_router::wasm::{GuestStates, STATES_FILE};
    let directory = tempfile::tempdir().unwrap();
    let [data, copy] = ["data", "copy"].map(|name| directory.path().join(name));
    let config = config();
    let run = |place: &Path| {
        let router = Router::builder().config(config.clone()).store(place).start().unwrap();
        let states = GuestStates::open(&place.join(STATES_FILE)).unwrap();
        let sandbox = Sandbox::start(&config.wasm).unwrap();
        let guest = sandbox.load("counter", &counter()).unwrap().remembering(&states);
        register(&router, &guest, "counter");
        router
    };
    let count = |router: &Router| ask(router, "counter", "hello").unwrap().content().as_bytes().to_vec();
    let original = run(&data);
    assert_eq!((count(&original), count(&original)), (vec![1], vec![2]));
    caxton_router::store::backup::backup(&data, &copy).unwrap();
    assert_eq!(count(&original), [3], "it goes on");
    original.shutdown(PATIENCE).unwrap();
    let copied = run(&copy);
    assert_eq!(count(&copied), [3], "as if it had been stopped at the time");
    copied.shutdown(PATIENCE).unwrap();

    // Half a copy is no copy: a router does not start from it as if it were complete.
    let half = directory.path().join("half");
    std::fs::write(data.join(STATES_FILE), "no database").unwrap();
    caxton_router::store::backup::backup(&data, &half).unwrap_err();
    let refused = Router::builder().store(&half).start().unwrap_err().to_string();
    assert!(refused.contains("an unfinished backup"), "{refused}");
}

#[test]
fn a_guest_that_is_put_off_in_the_middle_of_a_call_keeps_no_other_waiting() {
    let mut config = config();
    config.wasm.call_ms = 400.try_into().unwrap();
    config.set("retry.attempts", "0", "test").unwrap();
    let sandbox = Sandbox::start(&config.wasm).unwrap();
    let router = Router::builder().config(config).shards(1.try_into().unwrap()).start().unwrap();
    let endless = sandbox.load("endless", &raw("", "(loop $l (br $l)) (i64.const 0)")).unwrap();
    let agents = ["put-off", "other"].map(caxton_router::AgentId::of_text);
    for (agent, id) in ["put-off", "other"].into_iter().zip(agents) {
        register(&router, &endless, agent);
        router.blocking().send(Message::builder(Performative::Inform).receiver(id).build().unwrap()).unwrap();
    }
    router.blocking().suspend(agents[0]).unwrap();
    let began = std::time::Instant::now();
    while router.stats().account().dead_lettered == 0 {
        assert!(began.elapsed() < PATIENCE, "the other one never comes up");
        std::thread::yield_now();
    }
    router.blocking().resume(agents[0]).unwrap();
    let report = router.shutdown(PATIENCE).unwrap();
    assert_eq!(report.stats.account().dead_lettered, 2, "{report}");
}

#[test]
fn a_list_of_agents_closes_the_capabilities_and_a_guest_may_always_write_to_itself() {
    use caxton_router::wasm::Manifest;
    // Sets a timer of a millisecond, unless this is one.
    let timer = raw(
        "(data (i32.const 8) \"\\14\\00\\00\\00\\04\\00\\00\\00\\00\\00\\00\\00\\01\\00\\00\\00\")",
        "(if (i32.load16_u offset=120 (local.get $at)) (then (return (i64.const 0)))) (i64.const 0x0000000800000018)",
    );
    // Sends to any provider of weighing.
    let any = raw(
        "(data (i32.const 8) \"\\5f\\00\\00\\00\\03\\00\\00\\00\\00\\00\\00\\00\\07\\02\\00\\00\")
         (data (i32.const 84) \"\\07\") (data (i32.const 96) \"weighing\")",
        "(i64.const 0x0000000800000060)",
    );
    let config = config();
    let sandbox = Sandbox::start(&config.wasm).unwrap();
    let router = Router::builder().config(config).start().unwrap();
    let manifest = Manifest::parse(Path::new("guest.toml"), "[permissions]\nsend_to = [\"bob\"]\n").unwrap();
    for (agent, module) in [("timer", &timer), ("any", &any)] {
        register(&router, &sandbox.load_with(agent, module, &manifest).unwrap(), agent);
    }
    let to = |agent| Message::builder(Performative::Inform).receiver(caxton_router::AgentId::of_text(agent));
    router.blocking().send(to("timer").build().unwrap()).unwrap();
    assert!(fate(&router, "any").contains("does not list it in address"));
    let report = router.shutdown(PATIENCE).unwrap();
    let account = report.stats.account();
    assert_eq!((account.processed, account.dead_lettered), (2, 1), "the timer fired: {account:?}");
}

#[test]
fn what_would_take_too_long_to_compile_is_refused_before_that() {
    let mut config = Config::preset(Preset::Testing);
    config.wasm.functions = "1000".parse().unwrap();
    config.wasm.module_bytes = "65536".parse().unwrap();
    let sandbox = Sandbox::start(&config.wasm).unwrap();
    let module = |functions: usize| wat::parse_str(format!("(module {})", "(func)".repeat(functions))).unwrap();
    let component = format!("(component {})", format!("(core module {})", "(func)".repeat(501)).repeat(2));
    for (bytes, found) in [(module(1_001), 1_001), (wat::parse_str(component).unwrap(), 1_002)] {
        let error = sandbox.load("many", &bytes).unwrap_err();
        assert!(matches!(error, GuestError::TooLarge { .. }), "{error}");
        let expected = format!("it has {found} functions: wasm.functions allows 1000");
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
    // This many are allowed: the only fault is that it is not an agent.
    assert!(matches!(sandbox.load("enough", &module(1_000)), Err(GuestError::Unfit { .. })));
    let directory = tempfile::tempdir().unwrap();
    for name in ["large.wasm", "large.wat"] {
        let path = directory.path().join(name);
        std::fs::write(&path, vec![b' '; 65_537]).unwrap();
        let error = sandbox.load_file(&path).unwrap_err();
        assert!(error.to_string().ends_with("65537 bytes: wasm.module_bytes allows 65536"), "{error}");
    }
}

#[test]
fn a_guest_is_told_that_it_is_stopped_also_when_the_deadline_was_too_short() {
    let config = config();
    let sandbox = Sandbox::start(&config.wasm).unwrap();
    let router = Router::builder().config(config).start().unwrap();
    let stop = r#"(data (i32.const 8) "stopped")
        (func (export "caxton_stop_v1") (call $log (i32.const 2) (i32.const 8) (i32.const 7)))"#;
    let guest = sandbox.load("stopping", &raw(stop, "(i64.const 0)")).unwrap();
    register(&router, &guest, "stopping");
    // It has an instance from its first message on.
    let message = Message::builder(Performative::Inform).receiver(caxton_router::AgentId::of_text("stopping")).build();
    router.blocking().send(message.unwrap()).unwrap();
    while router.stats().account().processed == 0 {
        std::thread::yield_now();
    }
    router.shutdown(std::time::Duration::ZERO).unwrap();
    let line = sandbox.next_log_line().unwrap();
    assert_eq!((line.text.as_str(), line.agent), ("stopped", caxton_router::AgentId::of_text("stopping")));
    assert!(sandbox.next_log_line().is_none(), "once");
}

#[cfg(feature = "telemetry")]
#[test]
fn a_guests_lines_are_logged_with_its_name_and_content_from_it_only_in_fields() {
    let config = config();
    let sandbox = Sandbox::start(&config.wasm).unwrap();
    let capture = crate::logs::Capture::default();
    let router = capture.during(tracing::Level::TRACE, || Router::builder().config(config).start().unwrap());
    let (text, body) =
        (r#"(data (i32.const 8) "one\n\1b[31m")"#, "(call $log (i32.const 3) (i32.const 8) (i32.const 9))");
    let guest = sandbox.load("talker", &raw(text, &format!("{body} (i64.const 0)"))).unwrap();
    register(&router, &guest, "talker");
    let message = Message::builder(Performative::Inform).receiver(caxton_router::AgentId::of_text("talker")).build();
    router.blocking().send(message.unwrap()).unwrap();
    router.shutdown(PATIENCE).unwrap();
    let lines = capture.of("guest");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].level, lines[0].target), (tracing::Level::WARN, caxton_router::logs::GUEST));
    assert_eq!((lines[0].text("agent"), lines[0].text("text")), ("talker", "one\n\u{1b}[31m"));
    assert!(sandbox.next_log_line().is_some(), "the program can read it as well");
}
