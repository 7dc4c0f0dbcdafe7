//! The templates of new agents, by language: the same files as in `examples/guests`.

use std::fs;
use std::path::Path;

use caxton_router::wasm::WIT;
use clap::ValueEnum;

/// The language of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// A raw module, built with clang and lld
    C,
    /// A component, built with componentize-js
    Js,
    /// A component, built with componentize-py
    Python,
    /// A component, built with cargo for wasm32-unknown-unknown
    Rust,
}

macro_rules! source {
    ($file:literal) => {
        include_str!(concat!("../../../examples/guests/", $file))
    };
}

impl Language {
    /// Returns the files by name.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::C => &[
                ("caxton.h", source!("c/caxton.h")),
                ("echo.c", source!("c/echo.c")),
                ("contractor.c", source!("c/contractor.c")),
                ("Makefile", source!("c/Makefile")),
            ],
            Self::Js => &[
                ("agent.js", source!("js/agent.js")),
                ("build.js", source!("js/build.js")),
                ("package.json", source!("js/package.json")),
                ("agent.toml", source!("js/agent.toml")),
                ("agent.wit", WIT),
            ],
            Self::Python => &[
                ("agent.py", source!("python/agent.py")),
                ("build.sh", source!("python/build.sh")),
                ("agent.toml", source!("python/agent.toml")),
                ("agent.wit", WIT),
            ],
            Self::Rust => &[
                ("Cargo.toml", source!("rust/Cargo.toml")),
                ("src/lib.rs", source!("rust/src/lib.rs")),
                ("agent.wit", WIT),
            ],
        }
    }

    /// Returns the prerequisites, the build command, and the resulting module.
    fn next(self) -> [&'static str; 3] {
        match self {
            Self::C => ["clang and lld", "make", "echo.wasm"],
            Self::Js => ["node and npm", "npm install && npm run build", "agent.wasm"],
            Self::Python => ["componentize-py (pip install componentize-py)", "sh build.sh", "agent.wasm"],
            Self::Rust => [
                "the target wasm32-unknown-unknown (rustup target add wasm32-unknown-unknown)",
                "cargo build --release --target wasm32-unknown-unknown",
                "target/wasm32-unknown-unknown/release/caxton_agent.wasm",
            ],
        }
    }
}

/// Writes a new agent's directory. Returns what to do next.
pub fn write(language: Language, directory: &Path) -> Result<String, String> {
    if directory.exists() {
        return Err(format!("{}: is there already: name a directory that does not exist", directory.display()));
    }
    for (name, text) in language.files() {
        let path = directory.join(name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(|error| format!("{}: cannot be written: {error}", path.display()))?;
    }
    let [needs, command, module] = language.next();
    let place = directory.display();
    Ok(format!(
        "{place}: an agent that answers requests. It is built with {needs}:\n\n    cd {place} && {command}\n    \
         caxton agent check {module}\n    caxton route --agent NAME={module} FILE\n"
    ))
}
