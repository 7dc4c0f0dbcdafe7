//! Reads arbitrary bytes as messages (FIPA SC00069) and as envelopes (SC00088) in bit-efficient form.
//!
//! Reading must terminate and never panic; everything it accepts as a message must read back as the same message, here
//! and in the string form; and two ends of a connection must agree about it.

#![no_main]

use caxton_shards::domain::ContentLimit;
use caxton_shards::codec::bits::{
    CodeTableSize, Decoder, Encoder, Messages, parse, parse_envelope, print, print_envelope,
};
use caxton_shards::codec::text::{self, Limits, NoNames};
use caxton_shards::message::{Message, WallTime};
use libfuzzer_sys::fuzz_target;

const NOW: WallTime = WallTime(1_700_000_000_000);

fuzz_target!(|input: &[u8]| {
    let small = ContentLimit::try_new(64).expect("the limit is in range");
    for limits in [Limits::default(), Limits { message_bytes_max: 256, nesting_max: 4, ..Limits::with_content(small) }]
    {
        read_in_a_row(input, &limits);
        read_from_a_connection(input, &limits);
    }
    if let Ok((envelope, length)) = parse_envelope(input, NOW, &Limits::default()) {
        assert!(length <= input.len());
        let mut output = Vec::new();
        print_envelope(&envelope, &mut output).expect("what was read keeps the limits");
        let again = parse_envelope(&output, NOW, &Limits::default()).expect("what was written reads back");
        assert_eq!(again, (envelope, output.len()));
    }
    let _ = parse(input, NOW, &Limits::default());
});

fn read_in_a_row(input: &[u8], limits: &Limits) {
    let mut end = 0;
    let (mut encoder, mut decoder) = (Encoder::new(CodeTableSize::SMALLEST), Decoder::new(CodeTableSize::SMALLEST));
    for read in Messages::new(input, NOW, limits) {
        let Ok((message, range)) = read.map_err(|error| assert!(error.offset <= input.len())) else { continue };
        assert!(end == range.start && range.start < range.end);
        end = range.end;
        assert_eq!(parse(&input[range], NOW, limits).expect("it was read among others"), message);
        check(&message);
        let mut output = Vec::new();
        encoder.print(&message, &NoNames, &mut output);
        let sent = decoder.parse(&output, NOW, &Limits::default()).expect("both ends agree");
        assert_eq!(sent, (message, output.len()));
    }
}

fn read_from_a_connection(input: &[u8], limits: &Limits) {
    let mut decoder = Decoder::new(CodeTableSize::SMALLEST);
    let mut rest = input;
    while let Ok((message, length)) = decoder.parse(rest, NOW, limits) {
        assert!(length > 0);
        check(&message);
        rest = &rest[length..];
    }
}

fn check(message: &Message) {
    let first = written(message);
    let again = parse(&first, NOW, &Limits::default()).expect("what was written reads back");
    assert_eq!(&again, message);
    assert_eq!(written(&again), first);
    let mut string = Vec::new();
    text::print(message, &NoNames, &mut string);
    assert_eq!(&text::parse(&string, NOW, &Limits::default()).expect("it has a string form"), message);
}

fn written(message: &Message) -> Vec<u8> {
    let mut output = Vec::new();
    print(message, &NoNames, &mut output);
    output
}
