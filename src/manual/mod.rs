//! The manual, in short chapters. Begin with the [tutorial].
//!
//! | Chapter | What it answers |
//! |---|---|
//! | [`tutorial`] | How do I get from a fresh clone to agents of my own, in an hour? |
//! | [`embedding`] | How does a program start a router, send, ask, register agents and stop? |
//! | [`messages`] | What is in a message, which forms are read and written, which FIPA documents hold? |
//! | [`routing`] | How does a message find its receiver? |
//! | [`conversations`] | How are conversations held to interaction protocols? |
//! | [`failures`] | What happens when a handler fails, a mailbox is full or an agent is slow? |
//! | [`durability`] | What outlives the process, and what lies in a data directory? |
//! | [`webassembly`] | How do agents run that nobody trusts? |
//! | [`http`] | How does any program send and receive messages, and control the router, over HTTP? |
//! | [`nats`] | How does a client of NATS, in any language, talk to agents? |
//! | [`cluster`] | How do routers on several hosts reach each other's agents? |
//! | [`operations`] | How is a router configured, deployed, watched and stopped? |
//! | [`daemon`] | How does the router run as a process of its own, and who may reach it? |
//! | [`telemetry`] | How is a router watched: which metrics, traces, health checks and logs are there? |
//! | [`diagnosis`] | What do I do when an alert fires? |
//! | [`benchmarks`] | How fast is it, measured how? |
//! | [`architecture`] | What are the parts, and what is the path of a message through them? |
//! | [`guarantees`] | What can I rely on, and what does the router not do? |
//! | [`glossary`] | What does this word mean? |

/// Makes each chapter a module whose examples are tested. The link definitions at the front take precedence over those
/// at the end of a chapter, which are for readers of the files themselves.
///
/// A chapter whose examples need a Cargo feature is tested with that feature.
macro_rules! chapters {
    ($($(#[$condition:meta])? $chapter:ident: $file:literal),+ $(,)?) => {$(
        $(#[$condition])?
        #[doc = include_str!("links.md")]
        #[doc = ""]
        #[doc = include_str!($file)]
        pub mod $chapter {}
    )+};
}

chapters! {
    #[cfg(any(not(doctest), feature = "store"))]
    tutorial: "tutorial.md",
    embedding: "embedding.md",
    messages: "messages.md",
    routing: "routing.md",
    conversations: "conversations.md",
    failures: "failures.md",
    #[cfg(any(not(doctest), feature = "store"))]
    durability: "durability.md",
    #[cfg(any(not(doctest), feature = "wasm"))]
    webassembly: "webassembly.md",
    #[cfg(any(not(doctest), feature = "serve"))]
    http: "http.md",
    nats: "nats.md",
    cluster: "cluster.md",
    operations: "operations.md",
    daemon: "daemon.md",
    #[cfg(any(not(doctest), feature = "telemetry"))]
    telemetry: "telemetry.md",
    diagnosis: "diagnosis.md",
    benchmarks: "benchmarks.md",
    architecture: "architecture.md",
    guarantees: "guarantees.md",
    glossary: "glossary.md",
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Maximum length of the README, in bytes: longer texts are chapters.
    const README_BYTES_MAX: usize = 8 << 10;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn chapters() -> Vec<PathBuf> {
        let files = fs::read_dir(root().join("src/manual")).expect("the manual is there");
        let files = files.map(|file| file.expect("it can be read").path());
        files.filter(|file| file.extension().is_some_and(|extension| extension == "md")).collect()
    }

    /// Returns the files that a document links to, relative to its directory.
    fn targets(text: &str) -> impl Iterator<Item = &str> {
        let behind = |mark| text.split(mark).skip(1).filter_map(|rest: &str| rest.split([')', '\n', ' ', '#']).next());
        behind("](").chain(behind("]: ")).filter(|target| {
            let extension = Path::new(target).extension();
            !target.starts_with("http") && extension.is_some_and(|extension| extension == "md")
        })
    }

    #[test]
    fn the_readme_is_short_and_names_every_chapter() {
        let readme = read(&root().join("README.md"));
        assert!(readme.len() <= README_BYTES_MAX, "{} bytes: the limit is {README_BYTES_MAX}", readme.len());
        for chapter in chapters() {
            let name = chapter.file_name().expect("it has a name").to_str().expect("it is ASCII").to_owned();
            assert!(name == "links.md" || readme.contains(&format!("(src/manual/{name})")), "{name}");
        }
    }

    #[test]
    fn links_between_documents_lead_to_files() {
        let others = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(|name| root().join(name));
        let mut found = 0;
        for document in chapters().into_iter().chain(others) {
            let directory = document.parent().expect("it is in a directory");
            for target in targets(&read(&document)) {
                assert!(directory.join(target).is_file(), "{} links to {target}", document.display());
                found += 1;
            }
        }
        assert!(found > 25, "{found} links");
    }
}
