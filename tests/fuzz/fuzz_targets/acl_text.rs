//! Reads arbitrary bytes as a text of messages (FIPA SC00070).
//!
//! Reading must terminate, make progress and never panic; everything it accepts as a message must read back as the same
//! message, alone as well as among others; and the same message must always give the same bytes.

#![no_main]

use caxton_shards::domain::ContentLimit;
use caxton_shards::codec::text::{Limits, Messages, NoNames, parse, print};
use caxton_shards::message::{Message, WallTime};
use libfuzzer_sys::fuzz_target;

const NOW: WallTime = WallTime(1_700_000_000_000);

fuzz_target!(|input: &[u8]| {
    let small = ContentLimit::try_new(64).expect("the limit is in range");
    for limits in [Limits::default(), Limits { message_bytes_max: 256, nesting_max: 4, ..Limits::with_content(small) }]
    {
        let mut end = 0;
        let mut count = 0;
        for read in Messages::new(input, NOW, &limits) {
            count += 1;
            assert!(count <= input.len(), "each message and each error takes at least a byte");
            let Ok(located) = read.map_err(|error| assert!(error.offset <= input.len())) else { continue };
            assert!(end <= located.range.start && located.range.start < located.range.end);
            end = located.range.end;
            let alone = parse(&input[located.range], NOW, &limits).expect("it was read among others");
            assert_eq!(alone, located.value);
            let first = written(&located.value);
            let again = parse(&first, NOW, &Limits::default()).expect("what was written reads back");
            assert_eq!(again, located.value);
            assert_eq!(written(&again), first);
        }
    }
    let _ = parse(input, NOW, &Limits::default());
});

fn written(message: &Message) -> Vec<u8> {
    let mut output = Vec::new();
    print(message, &NoNames, &mut output);
    output
}
