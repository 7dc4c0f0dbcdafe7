//! Calls into code that may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls an agent's code. Returns its result, or the text of its panic.
///
/// Unwind safety: the shard's own state is only changed by its own methods, which do not panic half-way, and the caller
/// discards whatever state the agent leaves behind.
#[inline]
pub(crate) fn catch_panic<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(text_of_panic)
}

/// Drops a value that belongs to an agent, whatever its destructor does.
pub(crate) fn drop_quietly<T>(value: T) {
    let _ = catch_panic(|| drop(value));
}

#[cold]
fn text_of_panic(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a text".to_owned()
    };
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        // The payload of a panic may itself panic when dropped, endlessly; leaking it ends the chain.
        std::mem::forget(again);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_panics_when_it_is_dropped_after_a_panic_ends_here() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in the payload");
            }
        }
        let result = catch_panic(|| std::panic::panic_any(Bomb));
        assert_eq!(result, Err("a panic without a text".to_owned()));
        drop_quietly(Bomb);
    }
}
