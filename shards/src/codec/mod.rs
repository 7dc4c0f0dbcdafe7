//! Content languages.

pub mod bits;
pub mod json;
pub mod sl;
mod suggestion;
pub mod text;
mod unprefixed;
mod walk;
mod window;
pub mod xml;
