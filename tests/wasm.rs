//! Agents in WebAssembly, from a file to their answers.
#![allow(clippy::unwrap_used)] // A test fails by panicking.

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use caxton_router::domain::AgentName;
use caxton_router::wasm::{Guest, GuestKind, Sandbox};
use caxton_router::{Config, Message, Performative, Preset, Router};

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
    router.blocking_register_all(vec![guest.agent(name(agent))]).pop().unwrap().unwrap();
}

fn ask(router: &Router, to: &str, content: &str) -> Result<Message, String> {
    let request = Message::builder(Performative::Request)
        .receiver(caxton_router::AgentId::of_text(to))
        .content(content)
        .build()
        .unwrap();
    router.blocking_ask(request, Duration::from_secs(10)).map_err(|error| error.to_string())
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
