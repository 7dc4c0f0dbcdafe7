//! Benchmark of the XML and the JSON form: nanoseconds to read and to write a message with 200 bytes of content.
//!
//! `cargo bench -p caxton-shards --bench acl_forms` prints the best and the median of several rounds. Without Cargo's
//! `--bench` argument it runs one short round, as a test. An argument selects the kinds whose names contain it;
//! `--only=xml-parse`, `xml-print`, `json-parse` or `json-print` does nothing else, for tools that count instructions.

use std::hint::black_box;
use std::time::Instant;

use caxton_shards::codec::text::{Limits, NoNames, parse};
use caxton_shards::codec::{json, xml};
use caxton_shards::domain::ContentLimit;
use caxton_shards::message::{Message, WallTime};

const NOW: WallTime = WallTime(1_700_000_000_000);
const CONTENT_BYTES: usize = 200;

fn main() {
    let whole = std::env::args().any(|argument| argument == "--bench");
    let only = std::env::args().find_map(|argument| argument.strip_prefix("--only=").map(str::to_owned));
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let (rounds, operations) = if whole { (15, 100_000) } else { (1, 2_000) };
    println!("nanoseconds per message, best / median of {rounds} rounds of {operations}");
    for (kind, text) in kinds().iter().filter(|(kind, _)| kind.contains(&wanted)) {
        let message = parse(text.as_bytes(), NOW, &Limits::default()).expect("the message is well-formed");
        let limits = xml::limits(ContentLimit::default());
        let mut xml_form = Vec::new();
        xml::to_xml(&message, &NoNames, &mut xml_form);
        let mut json_form = Vec::new();
        json::to_json(&message, &NoNames, &mut json_form);
        let mut output = Vec::new();
        let mut row = |name: &str, bytes: usize, operation: &mut dyn FnMut(&mut Vec<u8>)| {
            if only.as_ref().is_some_and(|only| only != name) {
                return;
            }
            let (best, median) = measure(rounds, operations, || {
                output.clear();
                operation(&mut output);
                black_box(&output);
            });
            println!("{kind:<22} {name:<10} {bytes:>5} bytes {best:6.0} / {median:6.0}");
        };
        row("xml-parse", xml_form.len(), &mut |_| read(xml::from_xml(black_box(&xml_form), NOW, &limits).ok()));
        row("xml-print", xml_form.len(), &mut |output| xml::to_xml(black_box(&message), &NoNames, output));
        row("json-parse", json_form.len(), &mut |_| read(json::from_json(black_box(&json_form), NOW, &limits).ok()));
        row("json-print", json_form.len(), &mut |output| json::to_json(black_box(&message), &NoNames, output));
    }
}

fn read(message: Option<Message>) {
    black_box(message.expect("the message is well-formed"));
}

fn kinds() -> [(&'static str, String); 3] {
    let plain = "x".repeat(CONTENT_BYTES);
    let agents = "(inform :sender (agent-identifier :name buyer@shop.example) \
                  :receiver (set (agent-identifier :name seller@shop.example))";
    [
        ("content only", format!("(inform :content \"{plain}\")")),
        ("agents", format!("{agents} :content \"{plain}\")")),
        (
            "conversation by text",
            format!(
                "{agents} :content \"{plain}\" :language json :ontology trade :protocol fipa-request \
                 :conversation-id buyer-1700000000-1 :reply-with buyer-1700000000-2 :reply-by 20251231T235959999Z)"
            ),
        ),
    ]
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
