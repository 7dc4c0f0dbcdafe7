//! Reads arbitrary bytes as a frame of the journal and as records.
//!
//! Reading must terminate and never panic, and an accepted frame lies inside the bytes.

#![no_main]

use caxton_shards::journal::frame::{Expected, encode_header, read_frame};
use caxton_shards::journal::record::{Record, Records, split};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for (kind, body) in split(input).map_while(Result::ok) {
        // What was read is written back unchanged, except for words with a single canonical spelling.
        if let Ok(record) = Record::read(kind, body) {
            let mut records = Records::default();
            record.write(&mut records);
            let (kind, again) = split(records.bytes()).next().expect("a record was written").expect("it is whole");
            Record::read(kind, again).expect("what was written reads back");
        }
    }
    if let Ok(frame) = read_frame(input, Expected { shard: 2, segment: 4, tag: 8 }) {
        assert!(frame.payload.len() <= input.len());
        let again = encode_header(&frame.header, frame.payload);
        assert_eq!(again[16..56], input[16..56]);
    }
});
