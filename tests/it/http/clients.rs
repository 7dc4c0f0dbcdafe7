//! The clients that the manual prints run as they stand there.

use std::process::{Command, Output};

use super::Served;
use crate::common::{bounded, skipped};

const MANUAL: &str = include_str!("../../../src/manual/http.md");

/// Returns the first block of code in this language.
fn block(language: &str) -> &'static str {
    let (_, rest) = MANUAL.split_once(&format!("```{language}\n")).expect("the chapter has such a block");
    rest.split("```").next().expect("it ends")
}

/// Runs a program on a text in which the usual address is replaced; nothing if the program is missing.
fn run(served: &Served, program: &str, text: &str) -> Option<Output> {
    let text = text.replace("127.0.0.1:7411", &served.address.to_string());
    match Command::new(program).arg("-c").arg(text).output() {
        Ok(output) => Some(output),
        Err(error) => {
            skipped(&format!("{program} cannot be run: {error}"));
            None
        }
    }
}

#[test]
fn ten_lines_of_python_are_an_agent() {
    bounded(|| {
        let served = Served::start();
        let program = block("python");
        assert!(program.lines().filter(|line| !line.is_empty()).count() <= 10, "{program}");
        if let Some(output) = run(&served, "python3", program) {
            assert!(output.status.success(), "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), "Hello, world\n");
        }
        served.stop();
    });
}

#[test]
fn the_lines_with_curl_do_what_they_should() {
    bounded(|| {
        let served = Served::start();
        let lines = block("console").lines().filter_map(|line| line.strip_prefix("$ "));
        if Command::new("curl").arg("--version").output().is_err() {
            skipped("curl cannot be run");
            return;
        }
        let mut last = String::new();
        for line in lines {
            let output = run(&served, "sh", line).expect("there is a shell");
            assert!(output.status.success(), "{line}: {output:?}");
            last = String::from_utf8_lossy(&output.stdout).into_owned();
        }
        let deliveries: serde_json::Value = serde_json::from_str(&last).expect("it is JSON");
        let contents: Vec<_> = deliveries["messages"]
            .as_array()
            .expect("it is a list")
            .iter()
            .map(|one| &one["message"]["content"])
            .collect();
        assert_eq!(contents, ["tea", "milk"]);
        served.stop();
    });
}
