//! Wraps core modules built for the world `caxton:agent/agent@1.0.0` as components.
//!
//! Compilers emit core modules; the description of the world makes a component of one. If a module uses the world's
//! names without a description, the router adds its own, so that a guest in C needs nothing but clang. Uses of WASI
//! preview 1 (`wasi_snapshot_preview1`, which C libraries are written for) are translated to WASI 0.2 by Wasmtime's
//! adapter.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The definition of the world.
pub const WIT: &str = include_str!("wit/agent.wit");

/// The definition of the world of routing plugins.
pub const ROUTING_WIT: &str = include_str!("wit/routing.wit");

/// Creates a component of the world `agent` or `plugin` from a core module.
///
/// # Errors
///
/// Returns what the module lacks, or what has another type.
pub fn component_of(module: &[u8], world: &str) -> Result<Vec<u8>, String> {
    let encode = |mut module: Vec<u8>| -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let mut resolve = Resolve::default();
        let packages = [resolve.push_str("agent.wit", WIT)?, resolve.push_str("routing.wit", ROUTING_WIT)?];
        let package = if world == "plugin" { packages[1] } else { packages[0] };
        let world = resolve.select_world(&[package], Some(world))?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
        let encoder = ComponentEncoder::default().module(&module)?.validate(true);
        // The adapter is left out of modules that do not use it.
        Ok(encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?.encode()?)
    };
    encode(module.to_vec()).map_err(|error| format!("{error:#}"))
}
