//! Tests of the router, linked as one program with a module for each behaviour. To run one module: `cargo test --test
//! it embedding::`.
//!
//! Each test program contains the WebAssembly compiler and costs a link after every change, so a new test belongs here
//! unless it needs its own process: because it limits, signals or counts what a process has, or because it restarts
//! itself. Those are `crash`, `durability`, `shutdown`, `start_failures` and `vfs`.

#![allow(clippy::unwrap_used)] // Tests fail by panicking.

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "cli")]
#[path = "../program/mod.rs"]
mod program;

mod breaker;
#[cfg(feature = "cli")]
mod cli_acl;
#[cfg(feature = "cli")]
mod cli_agent;
#[cfg(feature = "cli")]
mod cli_bench;
#[cfg(feature = "cli")]
mod cli_cluster;
#[cfg(feature = "cli")]
mod cli_config;
#[cfg(feature = "cli")]
mod cli_logs;
#[cfg(feature = "cli")]
mod cli_remote;
#[cfg(feature = "cli")]
mod cli_route;
#[cfg(feature = "cli")]
mod cli_serve;
#[cfg(feature = "cli")]
mod cli_signals;
#[cfg(feature = "cli")]
mod cli_sim;
#[cfg(feature = "cli")]
mod cli_store;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "telemetry")]
mod collected;
mod config;
#[cfg(feature = "store")]
mod damage;
#[cfg(feature = "serve")]
mod dashboard;
mod dead_letters;
#[cfg(feature = "telemetry")]
mod edge;
mod embedding;
mod examples;
#[cfg(feature = "telemetry")]
mod health;
#[cfg(feature = "serve")]
mod http;
mod inboxes;
#[cfg(feature = "store")]
mod journal_crash;
mod lifecycle;
#[cfg(feature = "telemetry")]
mod logs;
mod management;
#[cfg(feature = "telemetry")]
mod metrics;
#[cfg(feature = "serve")]
mod nats;
#[cfg(feature = "serve")]
mod nats_clients;
mod overflow;
#[cfg(feature = "store")]
mod projection;
mod sim;
mod supervision;
mod surface;
#[cfg(feature = "serve")]
mod tls;
#[cfg(feature = "telemetry")]
mod traces;
#[cfg(feature = "wasm")]
mod wasm;
#[cfg(feature = "wasm")]
mod wasm_mutations;
#[cfg(feature = "wasm")]
mod wasm_wasi;
