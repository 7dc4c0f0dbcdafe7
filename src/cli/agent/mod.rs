//! `caxton agent`: checks modules, builds components from them, and creates new agents; lists and controls the agents of a
//! running router.
//!
//! Exit status: 0 on success; 1 if a module is not an agent, or the router does not respond or refuses; 2 if the arguments or a file cannot be used.

mod template;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caxton_router::config::Preset;
use caxton_router::wasm::{Guest, GuestError, Manifest, OnFailure, Plugin, Sandbox, component_of};
use clap::{Args, Subcommand};

use self::template::Language;
use super::remote::agents::{self, AgentVerb};
use super::settings::Settings;
use super::{complain, fail, print, refuse};

/// Arguments of `caxton agent`.
#[derive(Debug, Args)]
pub struct AgentArguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check whether modules are agents or routing plugins, of which kind, and what they may use
    Check {
        /// The modules: .wasm, or .wat as text; a manifest beside one, such as echo.toml for echo.wasm, is read too
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Build a component from a core module made for the world caxton:agent/agent@1.0.0
    Build {
        /// The core module
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The file to write the component to
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Create a new agent: a directory with its source, its build script, and the interface
    New {
        /// The directory to create
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// The language
        #[arg(long, value_name = "LANGUAGE")]
        lang: Language,
    },
    /// Print the interface of components, world caxton:agent/agent@1.0.0
    Wit,
    #[command(flatten)]
    Running(AgentVerb),
}

/// Runs `caxton agent`.
pub fn run(arguments: &AgentArguments) -> ExitCode {
    match &arguments.verb {
        Verb::Check { files, settings } => check(files, settings),
        Verb::Build { file, output } => build(file, output),
        Verb::New { directory, lang } => match template::write(*lang, directory) {
            Ok(next) => {
                print(&next);
                ExitCode::SUCCESS
            }
            Err(complaint) => refuse(&complaint),
        },
        Verb::Wit => {
            print(caxton_router::wasm::WIT);
            ExitCode::SUCCESS
        }
        Verb::Running(verb) => agents::run(verb),
    }
}

fn check(files: &[PathBuf], settings: &Settings) -> ExitCode {
    let config = match settings.load(Preset::Development) {
        Ok(config) => config,
        Err(mistakes) => return refuse(&mistakes),
    };
    let sandbox = match Sandbox::start(&config.wasm) {
        Ok(sandbox) => sandbox,
        Err(error) => return fail(&error.to_string()),
    };
    let mut code = ExitCode::SUCCESS;
    for file in files {
        let manifest = match Manifest::beside(file) {
            Ok(manifest) => manifest,
            Err(error) => return refuse(&error.to_string()),
        };
        match sandbox.load_file_with(file, &manifest) {
            Ok(guest) => {
                let limits = guest.limits();
                let offers: Vec<String> = manifest.offers.iter().map(ToString::to_string).collect();
                let offers = if offers.is_empty() { "nothing".to_owned() } else { offers.join(", ") };
                print(&format!(
                    "{}: an agent, {}\n  memory {} bytes, tables {} elements, {} ms and {} calls of the router per message,\n  \
                     content {} bytes, remembered {} bytes, log {} lines per second, offers {offers}\n",
                    file.display(),
                    guest.kind(),
                    limits.memory_bytes,
                    limits.table_elements,
                    limits.call_ms,
                    limits.host_calls,
                    limits.message_bytes,
                    limits.state_bytes,
                    limits.log_lines,
                ));
                if let Some(line) = wasi(&guest) {
                    print(&line);
                }
            }
            Err(error @ GuestError::File { .. }) => return refuse(&error.to_string()),
            Err(GuestError::Unfit { .. })
                if Plugin::load_file(&sandbox, "plugin", file, sandbox.limits().call_ms, OnFailure::Refuse).is_ok() =>
            {
                print(&format!("{}: a routing plugin, component\n", file.display()));
            }
            Err(GuestError::Unfit { name, problems, .. }) => {
                complain(&format!("{name}: this is not an agent"));
                for problem in problems {
                    complain(&format!("  {problem}"));
                }
                code = ExitCode::FAILURE;
            }
            Err(error) => {
                complain(&error.to_string());
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Describes the parts of WASI that a guest has, if any.
fn wasi(guest: &Guest) -> Option<String> {
    let (imports, granted) = (guest.wasi_imports(), guest.permissions().wasi);
    if imports.is_empty() && granted.is_empty() {
        return None;
    }
    let imports = if imports.is_empty() { "nothing".to_owned() } else { imports.join(", ") };
    let granted = if granted.is_empty() { "nothing".to_owned() } else { granted.to_string() };
    Some(format!("  WASI: granted {granted}; imports {imports}\n"))
}

fn build(file: &Path, output: &Path) -> ExitCode {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => return refuse(&format!("{}: cannot be read: {error}", file.display())),
    };
    let module = match wat::parse_bytes(&bytes) {
        Ok(module) => module,
        Err(error) => return refuse(&format!("{}: {error}", file.display())),
    };
    match component_of(&module, "agent") {
        Ok(component) => match std::fs::write(output, component) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{}: cannot be written: {error}", output.display())),
        },
        Err(reason) => fail(&format!("{}: {reason}", file.display())),
    }
}
