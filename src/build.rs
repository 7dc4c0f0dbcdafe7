//! Passes the current commit to the program.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    if std::env::var_os("CARGO_FEATURE_CLI").is_none() {
        return;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    // Without refreshing the index, which would be another change.
    let changed = git(&["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"])
        .is_some_and(|text| !text.is_empty());
    // Without the prefix of settings: `cargo run` passes it to the program as well.
    println!("cargo:rustc-env=BUILD_COMMIT={commit}{}", if changed { "-modified" } else { "" });
    // Whatever makes another program, and what git writes with every commit and checkout. The index is none of these: any
    // `git status` may write it.
    for path in ["Cargo.toml", "src", "shards"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for path in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", path]).filter(|path| std::path::Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}
