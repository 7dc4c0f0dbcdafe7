//! Core modules that were built for the world `caxton:agent/agent@1.0.0`, made into components.
//!
//! Compilers give core modules; what makes a component of one is the description of its world. Where a module has the world's
//! names and no description, the router adds its own, so that a guest in C needs nothing but clang. What such a module has of the
//! first WASI (`wasi_snapshot_preview1`, which C libraries are written for) is turned into WASI 0.2 by Wasmtime's adapter.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The world, as text.
pub const WIT: &str = include_str!("wit/agent.wit");

/// The world of routing plugins, as text.
pub const ROUTING_WIT: &str = include_str!("wit/routing.wit");

/// A component of the world `agent` or `plugin`, made of a core module.
///
/// # Errors
/// What the module lacks, or has with another type.
pub fn component_of(module: &[u8], world: &str) -> Result<Vec<u8>, String> {
    let encode = |mut module: Vec<u8>| -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let mut resolve = Resolve::default();
        let packages = [resolve.push_str("agent.wit", WIT)?, resolve.push_str("routing.wit", ROUTING_WIT)?];
        let package = if world == "plugin" { packages[1] } else { packages[0] };
        let world = resolve.select_world(&[package], Some(world))?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
        let encoder = ComponentEncoder::default().module(&module)?.validate(true);
        // The adapter stays out of modules that have no use for it.
        Ok(encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?.encode()?)
    };
    encode(module.to_vec()).map_err(|error| format!("{error:#}"))
}
