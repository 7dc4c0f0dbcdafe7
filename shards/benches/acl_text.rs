//! Benchmark of the string form: nanoseconds to read and to write a message with 200 bytes of content.
//!
//! `cargo bench -p caxton-shards --bench acl_text` prints the best and the median of several rounds. Without Cargo's
//! `--bench` argument it runs one short round, as a test. An argument selects the kinds whose names contain it.

use std::hint::black_box;
use std::time::Instant;

use caxton_shards::codec::text::{Limits, NoNames, parse, print};
use caxton_shards::message::WallTime;

const NOW: WallTime = WallTime(1_700_000_000_000);
const CONTENT_BYTES: usize = 200;

fn main() {
    let whole = std::env::args().any(|argument| argument == "--bench");
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let (rounds, operations) = if whole { (15, 200_000) } else { (1, 2_000) };
    let plain = "x".repeat(CONTENT_BYTES);
    let quotes = r#"{\"name\":\"value\"},"#.repeat(CONTENT_BYTES / 16);
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
        ("quotes in content", format!("(inform :sender {sender} :receiver {receiver} :content \"{quotes}\")")),
    ];
    println!("nanoseconds per message, best / median of {rounds} rounds of {operations}");
    for (name, text) in kinds.iter().filter(|(name, _)| name.contains(&wanted)) {
        let limits = Limits::default();
        let message = parse(text.as_bytes(), NOW, &limits).expect("the message is well-formed");
        let read = measure(rounds, operations, || {
            black_box(parse(black_box(text.as_bytes()), NOW, &limits)).expect("the message is well-formed");
        });
        let mut output = Vec::new();
        let written = measure(rounds, operations, || {
            output.clear();
            print(black_box(&message), &NoNames, &mut output);
            black_box(&output);
        });
        println!(
            "{name:<22} {:>5} bytes   parse {:6.0} / {:6.0}   print {:6.0} / {:6.0}",
            text.len(),
            read.0,
            read.1,
            written.0,
            written.1
        );
    }
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
