//! The journal's formats: records, and the frames that contain them on disk.

pub(crate) mod commits;
pub mod frame;
pub mod record;
pub(crate) mod window;
