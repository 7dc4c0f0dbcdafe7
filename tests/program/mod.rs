//! The program, as the tests of its verbs start it.

use std::process::Command;

/// `caxton`, without the settings of whoever runs the tests.
pub fn caxton() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caxton"));
    without_settings(&mut command);
    command
}

/// Keeps the settings of whoever runs the tests from a command.
pub fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CAXTON_") {
            command.env_remove(name);
        }
    }
}
