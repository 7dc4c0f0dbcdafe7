//! The Caxton router.

pub mod config;
pub mod doctor;
