//! Tests of the router, linked as one program with a module for each behaviour. To run one module: `cargo test --test
//! it embedding::`.
//!
//! Each test program contains the WebAssembly compiler and costs a link after every change, so a new test belongs here
//! unless it needs its own process: because it limits, signals or counts what a process has, or because it restarts
//! itself. Those are `crash`, `durability`, `shutdown`, `start_failures` and `vfs`.

#![allow(clippy::unwrap_used)] // Tests fail by panicking.

#[path = "../common/mod.rs"]
mod common;
#[path = "../program/mod.rs"]
mod program;

mod breaker;
mod cli_acl;
mod cli_agent;
mod cli_bench;
mod cli_config;
mod cli_route;
mod cli_signals;
mod cli_sim;
mod cli_store;
mod config;
mod damage;
mod dead_letters;
mod embedding;
mod examples;
mod inboxes;
mod journal_crash;
mod lifecycle;
mod management;
mod overflow;
mod projection;
mod sim;
mod supervision;
mod wasm;
mod wasm_mutations;
mod wasm_wasi;
