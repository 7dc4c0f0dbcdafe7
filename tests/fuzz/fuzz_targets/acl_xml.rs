//! Reads arbitrary bytes as a text of messages in XML (FIPA SC00071), and as a transport envelope (SC00085).
//!
//! Reading must terminate, make progress and never panic; everything it accepts as a message or an envelope must read
//! back as the same one; a message's string form must be the same message; and the same message must always give the
//! same bytes.

#![no_main]

use caxton_shards::domain::ContentLimit;
use caxton_shards::codec::text::{self, Limits, NoNames};
use caxton_shards::codec::xml::{Messages, envelope_from_xml, envelope_to_xml, from_xml, limits, to_xml};
use caxton_shards::message::{Message, WallTime};
use libfuzzer_sys::fuzz_target;

const NOW: WallTime = WallTime(1_700_000_000_000);

fuzz_target!(|input: &[u8]| {
    let small = ContentLimit::try_new(64).expect("the limit is in range");
    let usual = limits(ContentLimit::default());
    for limits in [usual, Limits { message_bytes_max: 256, aids_max: 3, ..limits(small) }] {
        let mut end = 0;
        let mut count = 0;
        for read in Messages::new(input, NOW, &limits) {
            count += 1;
            assert!(count <= input.len(), "each message and each error takes at least a byte");
            let Ok(located) = read.map_err(|error| assert!(error.offset <= input.len())) else { continue };
            assert!(end <= located.range.start && located.range.start < located.range.end);
            end = located.range.end;
            let alone = from_xml(&input[located.range], NOW, &limits).expect("it was read among others");
            assert_eq!(alone, located.value);
            let first = written(&located.value);
            let again = from_xml(&first, NOW, &usual).expect("what was written reads back");
            assert_eq!(again, located.value);
            assert_eq!(written(&again), first);
            let mut string_form = Vec::new();
            text::print(&again, &NoNames, &mut string_form);
            assert_eq!(text::parse(&string_form, NOW, &Limits::default()).expect("it has a string form"), again);
        }
    }
    let _ = from_xml(input, NOW, &usual);
    if let Ok(envelope) = envelope_from_xml(input, NOW, &usual) {
        let mut output = Vec::new();
        envelope_to_xml(&envelope, &mut output);
        assert_eq!(envelope_from_xml(&output, NOW, &usual), Ok(envelope));
    }
});

fn written(message: &Message) -> Vec<u8> {
    let mut output = Vec::new();
    to_xml(message, &NoNames, &mut output);
    output
}
