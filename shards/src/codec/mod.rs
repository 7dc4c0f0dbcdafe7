//! How messages, transport envelopes and content are read and written.
//!
//! | Module | Form | Source |
//! |---|---|---|
//! | [`text`] | string form of messages | FIPA SC00070 |
//! | [`bits`] | bit-efficient form of messages and envelopes | FIPA SC00069, SC00088 |
//! | [`xml`] | XML form of messages and envelopes | FIPA SC00071, SC00085 |
//! | [`json`] | JSON form of messages, the router's own | |
//! | [`sl`] | content in the language SL | FIPA SC00008 |

pub mod bits;
pub mod json;
pub mod sl;
mod suggestion;
pub mod text;
mod unprefixed;
mod walk;
mod window;
pub mod xml;
