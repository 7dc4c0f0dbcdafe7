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
//! | [`operations`] | How is a router configured, deployed, watched and stopped? |
//! | [`benchmarks`] | How fast is it, measured how? |
//! | [`architecture`] | What are the parts, and what is the path of a message through them? |
//! | [`guarantees`] | What can I rely on, and what does the router not do? |
//! | [`glossary`] | What does this word mean? |

/// Makes each chapter a module whose examples are tested. The definitions in front take precedence over those at the end of a
/// chapter, which are for readers of the files themselves.
macro_rules! chapters {
    ($($chapter:ident: $file:literal),+ $(,)?) => {$(
        #[doc = include_str!("links.md")]
        #[doc = ""]
        #[doc = include_str!($file)]
        pub mod $chapter {}
    )+};
}

chapters! {
    tutorial: "tutorial.md",
    embedding: "embedding.md",
    messages: "messages.md",
    routing: "routing.md",
    conversations: "conversations.md",
    failures: "failures.md",
    durability: "durability.md",
    webassembly: "webassembly.md",
    operations: "operations.md",
    benchmarks: "benchmarks.md",
    architecture: "architecture.md",
    guarantees: "guarantees.md",
    glossary: "glossary.md",
}
