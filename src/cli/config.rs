//! `caxton config`: checks and shows the configuration, and prints files for monitoring.

use caxton_router::config::{Config, Preset, process_environment};
use caxton_router::telemetry::operators;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

use super::settings;

/// Arguments of `caxton config`.
#[derive(Debug, Args)]
pub struct ConfigArguments {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(Debug, Subcommand)]
enum ConfigVerb {
    /// Report every error in the file, in the CAXTON_ variables, and in the files of protocols and rules that they name
    Check(ConfigSources),
    /// Print every key with its value and the origin of the value
    Show(ConfigSources),
    /// Print alerting rules for Prometheus, in YAML
    Alerts,
    /// Print a dashboard for Grafana, in JSON
    Dashboard,
}

/// The sources of the configuration besides the environment.
#[derive(Debug, Default, Args)]
pub struct ConfigSources {
    /// A TOML file with settings
    file: Option<PathBuf>,
    /// The preset to start from: development, testing or production
    #[arg(long)]
    preset: Option<Preset>,
    /// Set one key, such as mailbox.messages=1000; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigSources {
    /// Loads the configuration; the error is text for the operator, one line per error.
    pub fn load(&self, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, String> {
        let environment: Vec<_> = environment.into_iter().collect();
        settings::load(self.preset, None, self.file.as_deref(), &environment, &self.set)
    }
}

/// Runs `caxton config`. A configuration with an error cannot be used, here as for every other command.
pub fn run(arguments: &ConfigArguments) -> ExitCode {
    match answer(arguments, process_environment()) {
        Ok(text) => super::print(&text),
        Err(mistakes) => super::refuse(&mistakes),
    }
}

fn answer(
    arguments: &ConfigArguments,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<String, String> {
    match &arguments.verb {
        ConfigVerb::Check(sources) => {
            let config = sources.load(environment)?;
            config.check_files().map_err(|errors| errors.to_string())?;
            Ok(format!("The configuration is valid; it builds on the preset {}.\n", config.chosen_preset()))
        }
        ConfigVerb::Show(sources) => Ok(sources.load(environment)?.to_toml()),
        ConfigVerb::Alerts => Ok(operators::ALERTS.to_owned()),
        ConfigVerb::Dashboard => Ok(operators::DASHBOARD.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: ConfigArguments,
    }

    fn answer_to(line: &str, environment: &[(&str, &str)]) -> Result<String, String> {
        let line = Line::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        answer(&line.arguments, environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn check_names_the_preset_or_the_mistakes() {
        assert_eq!(
            answer_to("config check --preset testing", &[]),
            Ok("The configuration is valid; it builds on the preset testing.\n".to_owned())
        );
        let mistakes = answer_to("config check", &[("CAXTON_RING_CAPACITY", "0")]).expect_err("a ring of 0 is refused");
        assert!(mistakes.starts_with("environment variable CAXTON_RING_CAPACITY: ring.capacity: "), "{mistakes}");
        let mistakes = answer_to("config check /no/such/file", &[]).expect_err("there is no such file");
        assert!(mistakes.starts_with("/no/such/file: cannot read the configuration file: "), "{mistakes}");
    }

    #[test]
    fn show_prints_what_was_set() {
        let shown = answer_to("config show --set ring.capacity=64 --set mailbox.bytes=2MiB", &[]).expect("it is valid");
        assert!(shown.contains("\ncapacity = 64  # --set\n"), "{shown}");
        assert!(shown.contains("\nbytes = \"2 MiB\"  # --set\n"), "{shown}");
    }

    #[test]
    fn mistakes_on_the_command_line_are_told() {
        assert_eq!(
            answer_to("config show --set ring.capacty=64 --set ring", &[]),
            Err("--set: unknown key ring.capacty; did you mean ring.capacity?\n\
                 --set: \"ring\" is not a setting: expected KEY=VALUE"
                .to_owned())
        );
        let mistakes = answer_to("config show --preset prod", &[]).expect_err("there is no such preset");
        assert!(mistakes.contains("expected development, testing or production"), "{mistakes}");
    }
}
