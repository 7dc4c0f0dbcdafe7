//! How content is read and written.

pub mod sl;
