//! Core modules that were built for the world `caxton:agent/agent@1.0.0`, made into components.
//!
//! Compilers give core modules; what makes a component of one is the description of its world. Where a module has the world's
//! names and no description, the router adds its own, so that a guest in C needs nothing but clang.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The world, as text.
pub const WIT: &str = include_str!("wit/agent.wit");

/// A component of the world, made of a core module.
///
/// # Errors
/// What the module lacks, or has with another type.
pub fn component_of(module: &[u8]) -> Result<Vec<u8>, String> {
    let encode = |mut module: Vec<u8>| -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("agent.wit", WIT)?;
        let world = resolve.select_world(&[package], Some("agent"))?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
        Ok(ComponentEncoder::default().module(&module)?.validate(true).encode()?)
    };
    encode(module.to_vec()).map_err(|error| format!("{error:#}"))
}
