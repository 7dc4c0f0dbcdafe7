//! Starts the program, for the tests of its commands.

use std::process::Command;

/// `caxton`, without the settings of the user's environment.
pub fn caxton() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caxton"));
    without_settings(&mut command);
    command
}

/// Keeps the settings of the user's environment from a command.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CAXTON_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
}
