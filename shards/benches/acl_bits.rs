//! Benchmark of the bit-efficient form: nanoseconds to read and to write a message with 200 bytes of content.
//!
//! `cargo bench -p caxton-shards --bench acl_bits` prints the best and the median of several rounds. Without Cargo's
//! `--bench` argument it runs one round, as a test. An argument selects the kinds whose names contain it.

use std::hint::black_box;
use std::time::Instant;

use caxton_shards::codec::bits::{CodeTableSize, Decoder, Encoder, parse, print};
use caxton_shards::codec::text::{self, Limits, NoNames};
use caxton_shards::message::{Message, WallTime};

const NOW: WallTime = WallTime(1_700_000_000_000);
const CONTENT_BYTES: usize = 200;

fn main() {
    let whole = std::env::args().any(|argument| argument == "--bench");
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    // Short rounds: the best of many is one that nothing else on the machine disturbed.
    let (rounds, operations) = if whole { (2_000, 1_000) } else { (1, 2_000) };
    let plain = "x".repeat(CONTENT_BYTES);
    let sender = "(agent-identifier :name buyer@shop.example)";
    let receiver = "(set (agent-identifier :name seller@shop.example))";
    let kinds = [
        ("content only", format!("(inform :content \"{plain}\")")),
        ("agents", format!("(inform :sender {sender} :receiver {receiver} :content \"{plain}\")")),
        (
            "conversation",
            format!(
                "(request :sender {sender} :receiver {receiver} :content \"{plain}\" :language json :ontology trade \
                 :protocol fipa-request :conversation-id c000700000000000000010000000000ff \
                 :reply-with r00000000000000ff)"
            ),
        ),
        (
            "conversation by text",
            format!(
                "(request :sender {sender} :receiver {receiver} :content \"{plain}\" :language json :ontology trade \
                 :protocol fipa-request :conversation-id buyer-1700000000-1 :reply-with buyer-1700000000-2 \
                 :reply-by 20251231T235959999Z)"
            ),
        ),
    ];
    println!("nanoseconds per message, best / median of {rounds} rounds of {operations}");
    for (name, text) in kinds.iter().filter(|(name, _)| name.contains(&wanted)) {
        let limits = Limits::default();
        let message = text::parse(text.as_bytes(), NOW, &limits).expect("the message is well-formed");
        let mut bits = Vec::new();
        print(&message, &NoNames, &mut bits);
        let read = measure(rounds, operations, || {
            black_box(parse(black_box(&bits), NOW, &limits)).expect("the message is well-formed");
        });
        let mut output = Vec::new();
        let written = measure(rounds, operations, || {
            output.clear();
            print(black_box(&message), &NoNames, &mut output);
            black_box(&output);
        });
        show(name, bits.len(), read, written);
        with_table(name, &message, rounds, operations);
    }
}

/// Repeats the same message over one connection.
fn with_table(name: &str, message: &Message, rounds: usize, operations: u32) {
    let limits = Limits::default();
    let (mut encoder, mut decoder) = (Encoder::new(CodeTableSize::SMALLEST), Decoder::new(CodeTableSize::SMALLEST));
    let mut output = Vec::new();
    encoder.print(message, &NoNames, &mut output);
    decoder.parse(&output, NOW, &limits).expect("the message is well-formed");
    let written = measure(rounds, operations, || {
        output.clear();
        encoder.print(black_box(message), &NoNames, &mut output);
        black_box(&output);
    });
    let read = measure(rounds, operations, || {
        black_box(decoder.parse(black_box(&output), NOW, &limits)).expect("the message is well-formed");
    });
    show(&format!("{name}, table"), output.len(), read, written);
}

fn show(name: &str, bytes: usize, read: (f64, f64), written: (f64, f64)) {
    println!(
        "{name:<28} {bytes:>5} bytes   parse {:6.0} / {:6.0}   print {:6.0} / {:6.0}",
        read.0, read.1, written.0, written.1
    );
}

fn measure(rounds: usize, operations: u32, mut operation: impl FnMut()) -> (f64, f64) {
    let mut nanoseconds: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..operations {
                operation();
            }
            start.elapsed().as_nanos() as f64 / f64::from(operations)
        })
        .collect();
    nanoseconds.sort_unstable_by(f64::total_cmp);
    (nanoseconds[0], nanoseconds[rounds / 2])
}
