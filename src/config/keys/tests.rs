//! Tests of the table: the values of the presets, and what every key has.

use super::*;
use std::collections::HashSet;

/// The agreed values, written a second time so that a mistake in the table is noticed.
const EXPECTED: &[(&str, [&str; 3])] = &[
    ("router.node", ["0", "0", "0"]),
    ("router.shards", ["\"auto\"", "\"auto\"", "\"auto\""]),
    ("router.call_timeout_ms", ["300000", "60000", "60000"]),
    ("channel.capacity", ["1000", "10000", "100000"]),
    ("mailbox.messages", ["100", "1000", "10000"]),
    ("mailbox.bytes", ["\"1 MiB\"", "\"16 MiB\"", "\"64 MiB\""]),
    ("mailbox.overflow", ["\"reject\"", "\"reject\"", "\"reject\""]),
    ("memory.budget", ["\"256 MiB\"", "\"128 MiB\"", "\"4 GiB\""]),
    ("message.timeout_ms", ["10000", "5000", "30000"]),
    ("message.content_bytes_max", ["\"10 MiB\"", "\"10 MiB\"", "\"10 MiB\""]),
    ("message.reading", ["\"lenient\"", "\"lenient\"", "\"lenient\""]),
    ("message.writing", ["\"lenient\"", "\"lenient\"", "\"lenient\""]),
    ("delivery.batch", ["10", "100", "1000"]),
    ("delivery.turn_quota", ["64", "100", "1000"]),
    ("delivery.outbox", ["1024", "1024", "1024"]),
    ("delivery.pending_max", ["1000000", "1000000", "4000000"]),
    ("retry.attempts", ["2", "1", "3"]),
    ("retry.delay_ms", ["500", "100", "1000"]),
    ("retry.factor", ["1.5", "1.1", "2"]),
    ("retry.jitter", ["0.2", "0", "0.2"]),
    ("breaker.failures", ["20", "50", "100"]),
    ("breaker.window_ms", ["10000", "5000", "10000"]),
    ("breaker.slow_call_ms", ["1000", "500", "1000"]),
    ("breaker.slow_calls", ["5", "5", "5"]),
    ("breaker.open_ms", ["1000", "200", "1000"]),
    ("breaker.open_ms_max", ["10000", "1000", "30000"]),
    ("breaker.probes", ["1", "1", "3"]),
    ("supervision.restarts", ["10", "100", "100"]),
    ("supervision.window_ms", ["60000", "10000", "60000"]),
    ("supervision.delay_ms", ["0", "0", "10"]),
    ("dead_letters.messages", ["10000", "10000", "1000000"]),
    ("dead_letters.bytes", ["\"64 MiB\"", "\"64 MiB\"", "\"1 GiB\""]),
    ("conversation.timeout_ms", ["600000", "300000", "1800000"]),
    ("conversation.participants_max", ["5", "3", "20"]),
    ("conversation.history", ["32", "32", "8"]),
    ("conversation.open_max", ["1000000", "1000000", "1000000"]),
    ("management.enabled", ["true", "true", "true"]),
    ("management.platform", ["\"caxton\"", "\"caxton\"", "\"caxton\""]),
    ("management.descriptions", ["10000", "10000", "100000"]),
    ("management.subscriptions", ["1000", "1000", "1000"]),
    ("ring.capacity", ["\"auto\"", "\"auto\"", "\"auto\""]),
    ("protocols.mode", ["\"observe\"", "\"observe\"", "\"off\""]),
    ("protocols.modes", ["\"\"", "\"\"", "\"\""]),
    ("protocols.files", ["\"\"", "\"\"", "\"\""]),
    ("rules.files", ["\"\"", "\"\"", "\"\""]),
    ("store.directory", ["\"\"", "\"\"", "\"\""]),
    ("store.segment_bytes", ["\"8 MiB\"", "\"4 MiB\"", "\"64 MiB\""]),
    ("store.segments_max", ["32", "32", "64"]),
    ("store.lifetime_ms", ["86400000", "86400000", "86400000"]),
    ("store.duplicates_window", ["65536", "65536", "65536"]),
    ("store.history", ["100000", "10000", "100000"]),
    ("store.vfs", ["\"uring\"", "\"uring\"", "\"uring\""]),
    ("wasm.guests", ["1000", "1000", "10000"]),
    ("wasm.memory_bytes", ["\"10 MiB\"", "\"10 MiB\"", "\"10 MiB\""]),
    ("wasm.table_elements", ["10000", "10000", "10000"]),
    ("wasm.stack_bytes", ["\"256 KiB\"", "\"256 KiB\"", "\"256 KiB\""]),
    ("wasm.slice_ms", ["2", "2", "2"]),
    ("wasm.call_ms", ["5000", "5000", "5000"]),
    ("wasm.host_calls", ["1000", "1000", "1000"]),
    ("wasm.message_bytes", ["\"100 KiB\"", "\"100 KiB\"", "\"100 KiB\""]),
    ("wasm.state_bytes", ["\"64 KiB\"", "\"64 KiB\"", "\"64 KiB\""]),
    ("wasm.log_lines", ["100", "100", "100"]),
    ("wasm.module_bytes", ["\"64 MiB\"", "\"16 MiB\"", "\"64 MiB\""]),
    ("wasm.functions", ["50000", "20000", "50000"]),
    ("wasm.function_bytes", ["\"1 MiB\"", "\"512 KiB\"", "\"1 MiB\""]),
    ("wasm.block_depth", ["5000", "5000", "5000"]),
    ("wasm.component_parts", ["200", "200", "200"]),
    ("wasm.wasi", ["\"clocks, random, stdout, stubs\""; 3]),
    ("wasm.cache", ["\"\"", "\"\"", "\"\""]),
    ("plugins.files", ["\"\"", "\"\"", "\"\""]),
    ("plugins.call_ms", ["10", "10", "10"]),
    ("plugins.on_failure", ["\"refuse\"", "\"refuse\"", "\"refuse\""]),
    ("telemetry.sampling", ["1", "0.01", "0.01"]),
    ("telemetry.slow_ms", ["1000", "1000", "1000"]),
    ("telemetry.records_per_second", ["50000", "50000", "50000"]),
    ("telemetry.kept_per_second", ["1000", "1000", "1000"]),
    ("log.level", ["\"debug\"", "\"warn\"", "\"info\""]),
    ("log.format", ["\"text\"", "\"text\"", "\"json\""]),
    ("log.lines_per_second", ["100", "100", "100"]),
    ("otlp.enabled", ["true", "true", "true"]),
    ("otlp.endpoint", ["\"\""; 3]),
    ("otlp.traces_endpoint", ["\"\""; 3]),
    ("otlp.metrics_endpoint", ["\"\""; 3]),
    ("otlp.logs_endpoint", ["\"\""; 3]),
    ("otlp.headers", ["\"\""; 3]),
    ("otlp.certificate", ["\"\""; 3]),
    ("otlp.compression", ["\"gzip\""; 3]),
    ("otlp.timeout_ms", ["10000", "10000", "10000"]),
    ("otlp.interval_ms", ["10000", "10000", "60000"]),
    ("otlp.queue_requests", ["256", "256", "1024"]),
    ("otlp.queue_bytes", ["\"16 MiB\"", "\"16 MiB\"", "\"64 MiB\""]),
    ("otlp.directory", ["\"\""; 3]),
    ("otlp.file_bytes", ["\"64 MiB\""; 3]),
    ("otlp.files_max", ["10", "10", "10"]),
    ("otlp.service", ["\"\""; 3]),
    ("otlp.attributes", ["\"\""; 3]),
    ("metrics.listen", ["\"\"", "\"\"", "\"\""]),
    ("http.listen", ["\"\""; 3]),
    ("http.socket", ["\"\""; 3]),
    ("http.socket_mode", ["\"0600\""; 3]),
    ("nats.listen", ["\"\""; 3]),
    ("nats.messages_per_second", ["0"; 3]),
    ("doors.tokens", ["\"\""; 3]),
    ("doors.certificate", ["\"\""; 3]),
    ("doors.key", ["\"\""; 3]),
    ("doors.client_certificates", ["\"\""; 3]),
    ("doors.connections_max", ["1000", "1000", "20000"]),
    ("doors.agents_max", ["10000", "10000", "100000"]),
    ("doors.grace_ms", ["60000", "5000", "60000"]),
    ("doors.idle_ms", ["60000", "60000", "60000"]),
    ("doors.requests_per_second", ["0", "0", "100000"]),
    ("doors.audit", ["\"\""; 3]),
    ("doors.backups", ["\"\""; 3]),
    ("agents.deploy", ["\"\""; 3]),
    ("cluster.nats", ["\"\""; 3]),
    ("cluster.name", ["\"\""; 3]),
    ("cluster.credentials", ["\"\""; 3]),
    ("cluster.ca", ["\"\""; 3]),
    ("cluster.key_file", ["\"\""; 3]),
    ("cluster.remote_agents_max", ["100000"; 3]),
    ("drive.spin_us", ["50", "20", "100"]),
    ("shutdown.deadline_ms", ["5000", "5000", "20000"]),
];

#[test]
fn every_preset_has_the_agreed_values() {
    let known: Vec<_> = KEYS.iter().map(|key| key.path).collect();
    let is_there = |path: &str| path.split_once('.').is_some_and(|(section, _)| absent_feature(section).is_none());
    let expected: Vec<_> = EXPECTED.iter().filter(|(path, _)| is_there(path)).collect();
    assert_eq!(known, expected.iter().map(|(path, _)| *path).collect::<Vec<_>>());
    for preset in Preset::ALL {
        let config = Config::preset(preset);
        for (key, (path, values)) in KEYS.iter().zip(&expected) {
            assert_eq!((key.show)(&config), values[preset as usize], "{path} in {preset}");
        }
    }
}

#[test]
fn no_two_keys_share_a_variable() {
    let variables: HashSet<_> = KEYS.iter().map(Key::variable).collect();
    assert_eq!(variables.len(), KEYS.len());
    assert!(variables.contains("CAXTON_MESSAGE_CONTENT_BYTES_MAX"));
}

#[test]
fn every_key_explains_itself() {
    for key in KEYS.iter() {
        assert!(key.documentation.ends_with('.'), "{} has a sentence", key.path);
        assert!(!key.documentation.starts_with(' '), "{} is trimmed", key.path);
    }
}
