//! Calls into code that may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls code that belongs to an agent. Returns what it returns, or the text of its panic.
///
/// The shard's own state is only changed by its own methods, which do not panic half-way; what the agent leaves behind
/// of itself is thrown away by the caller.
#[inline]
pub(crate) fn catch_panic<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(text_of_panic)
}

/// Drops something that belongs to an agent, whatever its destructor does.
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
        // What panics when it is dropped may do so for ever; its memory is the price of ending here.
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
