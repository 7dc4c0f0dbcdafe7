//! Clients of NATS as others publish them, and the programs that the manual prints for them. They are installed from the
//! package indexes of Python, JavaScript and Rust; without those, the tests say so and pass.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use caxton_router::agent::Registration;
use caxton_router::message::ParameterValue;
use caxton_router::serve::Doors;
use caxton_router::{AgentId, Message, Outcome, Performative};

use crate::common::{PATIENCE, bounded, on, skipped, start_with, text_of};
use crate::edge::wait_until;

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

/// The chapter that prints the programs.
const MANUAL: &str = include_str!("../../src/manual/nats.md");

/// Returns the chapter's first block of code in this language, for a server at this address.
fn block(language: &str, address: &str) -> String {
    let (_, rest) = MANUAL.split_once(&format!("```{language}\n")).expect("the chapter has such a block");
    rest.split("```").next().expect("it ends").replace("127.0.0.1:4222", address)
}

/// Ends a program that would go on.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program of the manual, which `start` starts for a server at an address: it asks the greeter, and then it is the
/// librarian.
fn runs(start: impl FnOnce(&str) -> Command + Send + 'static) {
    bounded(move || {
        let router = start_with(2, |config| config.set("nats.listen", "127.0.0.1:0", "the test").expect("it is legal"));
        let doors = Doors::open(&router).expect("the doors open");
        let (asked, questions) = flume::bounded(16);
        let greeter = move || {
            let asked = asked.clone();
            on(move |message, context| {
                let _ = asked.try_send(text_of(message));
                let reply = context.reply(message, Performative::Inform).content("Hello!").build();
                let _ = context.send(reply.expect("it is valid"));
                Outcome::Done
            })
        };
        router.blocking().register("greeter", greeter).expect("the agent is registered");
        let address = doors.nats_address().expect("it listens").to_string();
        let mut running = Running(start(&address).spawn().expect("it runs"));
        let mut answer = None;
        wait_until("the program is the librarian", || {
            assert!(running.0.try_wait().expect("it can be asked").is_none(), "the program has ended");
            let question = Message::builder(Performative::QueryRef).receiver("librarian").content("ants");
            answer = router.blocking().ask(question.build().expect("it is valid"), PATIENCE).ok();
            answer.is_some()
        });
        let answer = text_of(&answer.expect("there is one"));
        assert!(["an answer", "all about ants"].contains(&answer.as_str()), "{answer}");
        assert_eq!(questions.try_iter().collect::<Vec<_>>(), ["world"], "it has asked before");
        drop(running);
        router.shutdown(PATIENCE).expect("it stops");
        doors.close();
    });
}

/// Returns a directory in which a client is installed by this command, or `None` if that is not possible here. `files` are
/// what it says which packages are needed.
fn installed(name: &str, files: &[(&str, &str)], program: &str, arguments: &[&str]) -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let complete = directory.join("complete");
    let stamp: String = files.iter().flat_map(|(file, text)| [*file, *text]).collect();
    if std::fs::read_to_string(&complete).is_ok_and(|installed| installed == stamp) {
        return Some(directory);
    }
    for (file, text) in files {
        let file = directory.join(file);
        std::fs::create_dir_all(file.parent().expect("it is in the directory")).expect("it can be made");
        std::fs::write(file, text).expect("it can be written");
    }
    let output = Command::new(program).args(arguments).current_dir(&directory).output();
    if !output.is_ok_and(|output| output.status.success()) {
        skipped(&format!("{name}: {program} cannot install it here"));
        return None;
    }
    std::fs::write(complete, stamp).ok()?;
    Some(directory)
}

#[test]
fn the_lines_for_python_run_as_the_manual_prints_them() {
    let Some(python) = python() else { return };
    runs(move |address| {
        let lines = block("python", address).replace('\n', "\n    ");
        let text = format!(
            "import asyncio, nats\nasync def main():\n    {lines}await asyncio.Event().wait()\nasyncio.run(main())\n"
        );
        let mut command = Command::new(python);
        command.args(["-c", &text]);
        command
    });
}

#[test]
fn the_lines_for_javascript_run_as_the_manual_prints_them() {
    const PACKAGE: &str = r#"{"type":"module","dependencies":{"@nats-io/transport-node":"3.4.0"}}"#;
    let install = ["install", "--no-audit", "--no-fund", "--fetch-retries=0"];
    let Some(directory) = installed("nats-js", &[("package.json", PACKAGE)], "npm", &install) else { return };
    runs(move |address| {
        let program = directory.join("client.js");
        let text = format!("import {{ connect }} from \"@nats-io/transport-node\";\n{}", block("js", address));
        std::fs::write(&program, text).expect("it can be written");
        // Node makes what it writes to non-blocking, for every process that has it open.
        let errors = File::create(directory.join("errors")).expect("it can be created");
        let mut command = Command::new("node");
        command.arg(program).stdout(Stdio::null()).stderr(errors);
        command
    });
}

#[test]
fn the_lines_for_rust_run_as_the_manual_prints_them() {
    const MANIFEST: &str = "[package]\nname = \"nats-rust\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n\
        [dependencies]\nasync-nats = { version = \"=0.45.0\", default-features = false, features = [\"ring\"] }\n\
        futures = \"0.3\"\ntokio = { version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }\n\
        [profile.dev]\ndebug = false\n";
    let files = [("Cargo.toml", MANIFEST), ("src/main.rs", "fn main() {}\n")];
    let fetch = ["fetch", "--quiet"];
    let Some(directory) = installed("nats-rust", &files, env!("CARGO"), &fetch) else { return };
    let text = format!(
        "use futures::StreamExt as _;\n#[tokio::main]\nasync fn main() -> Result<(), Box<dyn std::error::Error>> {{\n\
         let address = std::env::args().nth(1).ok_or(\"no address\")?;\n{}    Ok(())\n}}\n",
        block("rs", "{address}").replace("\"nats://{address}\"", "format!(\"nats://{address}\")"),
    );
    std::fs::write(directory.join("src/main.rs"), text).expect("it can be written");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--offline", "--target-dir", "target"]).current_dir(&directory);
    succeeded(&build.output().expect("cargo runs"));
    runs(move |address| {
        let mut command = Command::new(directory.join("target/debug/nats-rust"));
        command.arg(address);
        command
    });
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
