//! `caxton doctor`: checks whether this host can run the router.

use caxton_router::config::Preset;
use caxton_router::doctor::{Finding, Status, examine};
use clap::Args;
use serde_json::json;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::printable;
use super::settings::Settings;

/// Arguments of `caxton doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a store (store.directory, or --data) its disk is not examined. What is examined is also what a router examines before it \
starts, and the words are the same.

Exit status: 0 if the router can start, also with warnings; 1 if a problem keeps it from starting; 2 if the arguments or the \
settings cannot be used.")]
pub struct DoctorArguments {
    #[command(flatten)]
    settings: Settings,
    /// Examine the disk of a store in this directory, overriding the settings
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Examines the host; fails if a problem prevents the router from starting.
pub fn run(arguments: &DoctorArguments) -> ExitCode {
    let mut config = match arguments.settings.load(Preset::Development) {
        Ok(config) => config,
        Err(mistakes) => return super::refuse(&mistakes),
    };
    if let Some(directory) = &arguments.data {
        config.store.directory = directory.clone().into();
    }
    let findings = examine(&config);
    let printed = super::print(&if arguments.json { as_json(&findings) } else { as_text(&findings) });
    if can_start(&findings) { printed } else { ExitCode::FAILURE }
}

fn can_start(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.status != Status::Problem)
}

fn as_text(findings: &[Finding]) -> String {
    let explain =
        |finding: &Finding| explain(finding.status.name(), finding.name, &finding.found, finding.mend.as_deref());
    let mut text: String = findings.iter().map(explain).collect();
    text.push_str(if can_start(findings) { "The router can start.\n" } else { "The router cannot start.\n" });
    text
}

/// Returns a finding for people: a line, and another one if something is to be done.
pub fn explain(status: &str, name: &str, found: &str, mend: Option<&str>) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{status:<8} {}: {}", printable(name), printable(found));
    if let Some(mend) = mend {
        let _ = writeln!(text, "         to fix it: {}", printable(mend));
    }
    text
}

fn as_json(findings: &[Finding]) -> String {
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "name": finding.name,
                "status": finding.status.name(),
                "found": finding.found,
                "mend": finding.mend,
            })
        })
        .collect();
    format!("{:#}\n", json!({ "can_start": can_start(findings), "findings": list }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(status: Status) -> Vec<Finding> {
        let mend = (status != Status::Ok).then(|| "turn it off and on".to_owned());
        vec![Finding { name: "kernel", status, found: "a \"kernel\"".to_owned(), mend }]
    }

    #[test]
    fn only_a_problem_keeps_the_router_from_starting() {
        for (status, start) in [(Status::Ok, true), (Status::Warning, true), (Status::Problem, false)] {
            assert_eq!(can_start(&findings(status)), start, "{status:?}");
        }
    }

    #[test]
    fn findings_are_printed_for_people_and_programs() {
        assert_eq!(as_text(&findings(Status::Ok)), "ok       kernel: a \"kernel\"\nThe router can start.\n");
        assert_eq!(
            as_text(&findings(Status::Problem)),
            "problem  kernel: a \"kernel\"\n         to fix it: turn it off and on\nThe router cannot start.\n"
        );
        let value: serde_json::Value = serde_json::from_str(&as_json(&findings(Status::Warning))).expect("it is JSON");
        assert_eq!(value["can_start"], true);
        assert_eq!(value["findings"][0]["status"], "warning");
        assert_eq!(value["findings"][0]["found"], "a \"kernel\"");
    }
}
