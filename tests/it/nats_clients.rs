//! Clients of NATS as others publish them. They are installed from the package index of Python; without it, the tests say
//! so and pass.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use caxton_router::agent::Registration;
use caxton_router::message::ParameterValue;
use caxton_router::serve::Doors;
use caxton_router::{AgentId, Message, Outcome, Performative};

use crate::common::{PATIENCE, bounded, on, skipped, start_with, text_of};

/// The versions that the tests were written for.
const PACKAGES: [&str; 2] = ["nats-py==2.16.0", "synadia-ai-agents==0.8.1"];

/// Returns a Python with the packages.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    let install = || {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nats-clients");
        let (python, complete) = (directory.join("bin/python"), directory.join("complete"));
        if std::fs::read_to_string(&complete).is_ok_and(|packages| packages == PACKAGES.concat()) {
            return Some(python);
        }
        let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let installed = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))
            && run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--timeout", "10"]).args(PACKAGES));
        if !installed {
            skipped("clients of NATS cannot be installed here");
            return None;
        }
        std::fs::write(complete, PACKAGES.concat()).ok()?;
        Some(python)
    };
    PYTHON.get_or_init(install).as_deref()
}

fn script(python: &Path, name: &str, arguments: &[String]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    Command::new(python).arg(script).args(arguments).output().expect("it runs")
}

fn succeeded(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn nats_py_does_what_the_manual_shows() {
    let Some(python) = python() else { return };
    bounded(move || {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_path_buf();
        let router = start_with(2, |config| {
            config.set("nats.listen", "127.0.0.1:0", "the test").expect("it is an address");
            config.store.directory = path.into();
        });
        let doors = Doors::open(&router).expect("the doors open");
        let greeter = || {
            on(|message, context| {
                let greeting = format!("Hello, {}!", text_of(message));
                let reply = context.reply(message, Performative::Inform).content(greeting).build();
                let _ = context.send(reply.expect("it is valid"));
                Outcome::Done
            })
        };
        router.blocking().register("greeter", greeter).expect("the agent is registered");
        let address = doors.nats_address().expect("it listens").to_string();
        succeeded(&script(python, "nats_client.py", &[address]));
        router.shutdown(PATIENCE).expect("it stops");
        doors.close();
    });
}

#[test]
fn agents_are_found_and_prompted_by_the_agent_protocol() {
    let Some(python) = python() else { return };
    bounded(move || {
        let router = start_with(2, |config| {
            config.set("nats.listen", "127.0.0.1:0", "the test").expect("it is an address");
        });
        let doors = Doors::open(&router).expect("the doors open");
        let oracle = || {
            on(|message, context| {
                for (text, more) in [("because".to_owned(), true), (text_of(message), false)] {
                    let mut reply = context.reply(message, Performative::Inform).content(text);
                    if more {
                        reply = reply.user_parameter("X-more", ParameterValue::Atom("true".into()));
                    }
                    let _ = context.send(reply.build().expect("it is valid"));
                }
                Outcome::Done
            })
        };
        let careful = || {
            let mut asked: Option<Message> = None;
            on(move |message, context| {
                let reply = if let Some(prompt) = asked.take() {
                    let text = format!("done: {}", text_of(message));
                    context.reply(&prompt, Performative::Inform).content(text)
                } else {
                    asked = Some(message.clone());
                    context.reply(message, Performative::QueryRef).content("really?")
                };
                let _ = context.send(reply.build().expect("it is valid"));
                Outcome::Done
            })
        };
        let registrations = [
            Registration::native("oracle", oracle).offering("prompt"),
            Registration::native("careful", careful).offering("prompt"),
        ];
        for registration in registrations {
            let id: AgentId = router.blocking().register_one(registration).expect("the agent is registered");
            assert!(router.blocking().agent(id).expect("it runs").is_some());
        }
        let address = doors.nats_address().expect("it listens").to_string();
        succeeded(&script(python, "prompts_client.py", &[address]));
        router.shutdown(PATIENCE).expect("it stops");
        doors.close();
    });
}
