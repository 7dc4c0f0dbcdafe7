//! Reads arbitrary text as a content in SL0.
//!
//! Reading must terminate and never panic; what was read must read back as the same once it is written; and the same
//! content must always give the same text.

#![no_main]

use caxton_shards::codec::sl::{parse, print};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let Ok(content) = parse(input) else { return };
    let written = print(&content);
    let again = parse(&written).expect("what was written reads back");
    assert_eq!(again, content);
    assert_eq!(print(&again), written);
});
