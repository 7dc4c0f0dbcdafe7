//! What is written down: records, and the frames that they lie in on disk.

pub mod frame;
pub mod record;
