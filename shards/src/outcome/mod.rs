//! How messages end, and where they were at that time.

mod ending;
mod reason;
mod stage;

pub use ending::Ending;
pub use reason::DeadLetterReason;
pub use stage::Stage;
