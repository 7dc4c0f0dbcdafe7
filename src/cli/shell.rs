//! `caxton completions` and `caxton man`: what shells and `man` know about this command, from its own definitions.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::{fail, print};

/// The name under which the command is installed.
const NAME: &str = "caxton";

/// Arguments of `caxton completions`.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

/// Arguments of `caxton man`.
#[derive(Debug, Args)]
pub struct ManArguments {
    /// The directory for the pages, which must exist
    directory: PathBuf,
}

/// Prints the completions of a shell.
pub fn complete(arguments: &CompletionsArguments, command: &mut Command) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, command, NAME, &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// Writes a page for the command, and one for each of its verbs.
pub fn write_manual(arguments: &ManArguments, command: &Command) -> ExitCode {
    match clap_mangen::generate_to(command.clone(), &arguments.directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("{}: the pages cannot be written: {error}", arguments.directory.display())),
    }
}
