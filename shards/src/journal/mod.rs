//! The journal's formats: records, and the frames that contain them on disk.

pub mod frame;
pub mod record;
