//! The table of all metrics. Everything that says which metrics exist is made from it or checked against it: what a
//! scrape and an export contain, the manual's reference, the alert rules and the dashboard.
//!
//! A name is that of OpenTelemetry; [`prometheus_name`](Metric::prometheus_name) makes the other one of it. Names of
//! agents are never labels, because there may be millions.

#[cfg(feature = "cluster")]
mod cluster;
mod read;

#[cfg(feature = "serve")]
use std::sync::atomic::Ordering::Relaxed;

use crate::telemetry::conventions;
use crate::telemetry::latency::Latency;
use crate::telemetry::metric::{Audience, Kind, Metric, Read};

/// Generates the table: for each metric its audience, kind, name, unit in UCUM, labels and meaning, and how it is read.
macro_rules! metrics {
    ($($(#[cfg(feature = $feature:literal)])?
        $audience:ident $kind:ident $name:expr, $unit:literal, [$($label:literal),*], $help:literal = $read:expr;)+
    ) => {
        /// All metrics.
        pub(crate) static METRICS: &[Metric] = &[$(
            $(#[cfg(feature = $feature)])?
            Metric {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                audience: Audience::$audience,
                labels: &[$($label),*],
                help: $help,
                read: $read,
            },
        )+];
    };
}

metrics! {
    Public Counter conventions::MESSAGING_CLIENT_SENT_MESSAGES, "{message}", [],
        "Deliveries accepted from senders; a message to five agents counts five times."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.accepted));
    Public Counter conventions::MESSAGING_CLIENT_CONSUMED_MESSAGES, "{message}", [],
        "Deliveries handled by their receivers."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.processed));
    Public Counter "caxton.messages.dead_lettered", "{message}", ["reason"],
        "Deliveries given up, by reason."
        = Read::Shard(read::dead_lettered);
    Public Counter "caxton.messages.expired", "{message}", ["stage"],
        "Deliveries whose lifetime ended before they were handled, by what they waited for."
        = Read::Shard(read::expired);
    Public Counter "caxton.messages.recovered", "{message}", [],
        "Durable deliveries that an earlier run left unsettled."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.recovered));
    Public Counter "caxton.messages.kept", "{message}", [],
        "Durable deliveries left to the next start because the router stopped."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.kept));
    Public Counter "caxton.messages.retried", "{attempt}", [],
        "Failed attempts that were followed by another."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.retried));
    Public Counter "caxton.messages.refused", "{message}", [],
        "Messages refused at once, with an error to their sender; they were never accepted."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.refused));
    Public Counter "caxton.messages.refused.memory", "{message}", [],
        "Messages refused because the memory budget was used up."
        = Read::Shard(|shard, points| points.add(shard.snapshot.refused_for_memory));
    Public Counter "caxton.messages.refused.receiver", "{message}", [],
        "Messages refused because their receiver was closed and they could not wait, or no longer."
        = Read::Shard(|shard, points| points.add(shard.snapshot.refused_by_receiver));
    Public Counter "caxton.messages.duplicates", "{message}", [],
        "Durable messages that arrived again and were not dispatched again."
        = Read::Shard(|shard, points| points.add(shard.snapshot.duplicates));
    Public Gauge "caxton.messages.pending", "{message}", [],
        "Deliveries that the shards hold."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.pending));
    Public Gauge "caxton.messages.crossing", "{message}", [],
        "Deliveries between two shards."
        = Read::Router(read::crossing);
    Public Gauge "caxton.calls.queued", "{call}", [],
        "Calls from other threads that their shards have not taken yet."
        = Read::Shard(|shard, points| points.add(shard.queued));
    Public Gauge "caxton.mailbox.messages", "{message}", [],
        "Messages in mailboxes, including delayed ones and the router's notices."
        = Read::Shard(|shard, points| points.add(shard.details.mailbox_messages));
    Public Gauge "caxton.mailbox.closed", "{agent}", [],
        "Agents whose mailbox is full while senders wait for room."
        = Read::Shard(|shard, points| points.add(shard.snapshot.receivers_closed));
    Public Counter "caxton.mailbox.closures", "{closure}", [],
        "The number of times that a mailbox became full and senders had to wait."
        = Read::Shard(|shard, points| points.add(shard.snapshot.receivers_closed_so_far));
    Public Gauge "caxton.mailbox.waiting", "{message}", [],
        "Messages that wait for room in a mailbox."
        = Read::Shard(|shard, points| points.add(shard.snapshot.stalled + shard.snapshot.waiting));
    Public Counter "caxton.mailbox.waited", "{message}", [],
        "Messages that had to wait for room in a mailbox."
        = Read::Shard(|shard, points| points.add(shard.snapshot.stalled_so_far + shard.snapshot.waiting_so_far));
    Public Histogram "caxton.message.duration", "s", [],
        "Time from the admission of a message to the end of its handling; sampled."
        = Read::Latency(Latency::EndToEnd);
    Public Histogram "caxton.message.crossing.duration", "s", [],
        "Time from the admission of a message on one shard to its arrival on another; sampled."
        = Read::Latency(Latency::Crossing);
    Public Histogram "caxton.message.journal.duration", "s", [],
        "Time from the arrival of a durable message to its commit; sampled."
        = Read::Latency(Latency::Journal);
    Public Histogram "caxton.mailbox.wait.duration", "s", [],
        "Time of a message in its mailbox; sampled."
        = Read::Latency(Latency::Mailbox);
    Public Histogram conventions::MESSAGING_PROCESS_DURATION, "s", [],
        "Time of an attempt in its handler; sampled."
        = Read::Latency(Latency::Handler);
    Public Histogram "caxton.shard.turn.duration", "s", [],
        "Time of the turns of the shards."
        = Read::Latency(Latency::Turn);
    Public Gauge "caxton.memory.usage", "By", [],
        "Bytes of messages that count against the memory budget."
        = Read::Shard(|shard, points| points.add(shard.snapshot.memory_bytes));
    Public Gauge "caxton.memory.limit", "By", [],
        "The memory budget."
        = Read::Shard(|shard, points| points.add(shard.snapshot.memory_bytes_max));
    Public Gauge "caxton.agents", "{agent}", [],
        "Registered agents, without the router's own."
        = Read::Router(read::agents);
    Public Gauge "caxton.breakers", "{agent}", ["state"],
        "Agents whose circuit breaker is not closed, by its state."
        = Read::Shard(read::breakers);
    Public Counter "caxton.breakers.opened", "{opening}", [],
        "The number of times that a circuit breaker opened."
        = Read::Shard(|shard, points| points.add(shard.snapshot.breakers_opened));
    Public Counter "caxton.calls.slow", "{call}", [],
        "Calls of agents that were slow for their circuit breaker, of those that were timed."
        = Read::Shard(|shard, points| points.add(shard.details.slow_calls));
    Public Gauge "caxton.dead_letters", "{letter}", [],
        "Dead letters kept."
        = Read::Shard(|shard, points| points.add(shard.snapshot.dead_letters));
    Public Gauge "caxton.dead_letters.oldest.age", "s", [],
        "Time since the oldest dead letter kept was given up; zero if there is none."
        = Read::Router(read::oldest_dead_letter);
    Public Counter "caxton.dead_letters.dropped", "{letter}", [],
        "Dead letters dropped for newer ones."
        = Read::Shard(|shard, points| points.add(shard.snapshot.dead_letters_dropped));
    Public Counter "caxton.dead_letters.replayed", "{letter}", [],
        "Dead letters replayed."
        = Read::Shard(|shard, points| points.add(shard.snapshot.dead_letters_replayed));
    Public Gauge "caxton.conversations", "{conversation}", [],
        "Open conversations."
        = Read::Shard(|shard, points| points.add(shard.snapshot.conversations));
    Public Counter "caxton.conversations.opened", "{conversation}", [],
        "Conversations opened."
        = Read::Shard(|shard, points| points.add(shard.snapshot.conversations_opened));
    Public Counter "caxton.conversations.closed", "{conversation}", ["how"],
        "Conversations closed, by how: completed or timed-out."
        = Read::Shard(read::closed);
    Public Gauge "caxton.protocol.conversations", "{conversation}", ["protocol"],
        "Open conversations that are checked against a protocol."
        = Read::Shard(read::open_by_protocol);
    Public Gauge "caxton.protocol.states", "{conversation}", ["protocol", "state"],
        "Open conversations that are checked against a protocol, by their state in it."
        = Read::Shard(read::open_by_state);
    Public Counter "caxton.protocol.conversations.begun", "{conversation}", ["protocol"],
        "Conversations that began to be checked against a protocol."
        = Read::Shard(read::begun_by_protocol);
    Public Counter "caxton.protocol.steps", "{message}", [],
        "Messages that followed the protocol of their conversation."
        = Read::Shard(|shard, points| points.add(shard.snapshot.conformance.steps));
    Public Counter "caxton.protocol.steps.late", "{message}", [],
        "How many of them came after the reply-by of the message before."
        = Read::Shard(|shard, points| points.add(shard.snapshot.conformance.late));
    Public Counter "caxton.protocol.unchecked", "{message}", [],
        "Messages that named a checked protocol and could not be checked."
        = Read::Shard(|shard, points| points.add(shard.snapshot.conformance.unchecked));
    Public Counter "caxton.protocol.violations", "{message}", ["protocol", "kind", "action"],
        "Messages that violated a protocol, by what did (act, or the protocol named) and what followed (observed, refused)."
        = Read::Shard(read::violations);
    Public Gauge "caxton.questions", "{message}", [],
        "Messages with reply-by whose reply is awaited."
        = Read::Shard(|shard, points| points.add(shard.snapshot.questions));
    Public Counter "caxton.replies.missing", "{message}", [],
        "Messages with reply-by that had no reply in time."
        = Read::Shard(|shard, points| points.add(shard.snapshot.replies_missing));
    Public Counter "caxton.replies.late", "{message}", [],
        "Replies that came late."
        = Read::Shard(|shard, points| points.add(shard.snapshot.replies_late));
    Public Counter "caxton.replies.beyond", "{message}", [],
        "Replies accepted beyond the limit of a mailbox."
        = Read::Shard(|shard, points| points.add(shard.snapshot.replies_beyond));
    Public Counter "caxton.notices", "{message}", [],
        "The router's own notices that were sent."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.notices));
    Public Counter "caxton.notices.coalesced", "{message}", [],
        "The router's own notices that found the control lane full, or no receiver."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.notices_coalesced));
    Public Gauge "caxton.rings.messages", "{message}", [],
        "Messages and notices in the rings between shards."
        = Read::Shard(|shard, points| points.add(read::in_rings(shard)));
    Public Gauge "caxton.rings.exhausted", "{ring}", [],
        "Rings whose sender has no credit left."
        = Read::Shard(|shard, points| points.add(read::rings_exhausted(shard)));
    Public Gauge "caxton.shards", "{shard}", [],
        "Shards."
        = Read::Router(|figures, points| points.add(figures.shards.len()));
    Public Gauge "caxton.shards.blocked", "{shard}", [],
        "Shards that are blocked: a call of an agent has not returned for half a second."
        = Read::Shard(|shard, points| points.add(u64::from(shard.is_blocked)));
    Public Counter "caxton.shards.stalls", "{stall}", [],
        "The number of times that a shard was blocked."
        = Read::Shard(|shard, points| points.add(shard.times_blocked));
    Public Counter "caxton.watchdog.wakes", "{wake}", [],
        "The number of times that the watchdog had to wake a stalled shard."
        = Read::Router(|figures, points| points.add(figures.watchdog_wakes));
    #[cfg(feature = "store")]
    Public Counter "caxton.journal.commits", "{commit}", [],
        "Commits of the journals."
        = Read::Shard(|shard, points| points.add(shard.journal.commits));
    #[cfg(feature = "store")]
    Public Counter "caxton.journal.records", "{record}", [],
        "Records on disk in the journals."
        = Read::Shard(|shard, points| points.add(shard.journal.records));
    #[cfg(feature = "store")]
    Public Counter "caxton.journal.written", "By", [],
        "Bytes written to the journals."
        = Read::Shard(|shard, points| points.add(shard.journal.written_bytes));
    #[cfg(feature = "store")]
    Public Gauge "caxton.journal.awaited", "{message}", [],
        "Durable sends and handled durable messages that wait for a commit."
        = Read::Shard(|shard, points| points.add(shard.snapshot.commits_awaited));
    #[cfg(feature = "store")]
    Public Gauge "caxton.journal.refusing", "{shard}", [],
        "Shards whose journal accepts nothing now."
        = Read::Shard(|shard, points| points.add(shard.journal.is_refusing));
    #[cfg(feature = "store")]
    Public Gauge "caxton.journal.size", "By", [],
        "Size of the segments of the journals."
        = Read::Router(|figures, points| points.add_all(figures.store.as_ref().map(|store| store.journal_bytes)));
    #[cfg(feature = "store")]
    Public Gauge "caxton.projection.lag", "{record}", [],
        "Records on disk that the databases have not seen."
        = Read::Shard(|shard, points| points.add(shard.journal.records.saturating_sub(shard.journal.projected)));
    #[cfg(feature = "store")]
    Public Counter "caxton.projection.left_out", "{step}", [],
        "Conversation steps that never became rows because newer ones waited."
        = Read::Shard(|shard, points| points.add(shard.journal.left_out));
    #[cfg(feature = "store")]
    Public Counter "caxton.projection.rebuilds", "{rebuild}", [],
        "The number of times that a database was emptied and rewritten."
        = Read::Shard(|shard, points| points.add(shard.journal.rebuilds));
    #[cfg(feature = "store")]
    Public Gauge "caxton.projection.size", "By", [],
        "Size of the databases."
        = Read::Router(|figures, points| points.add_all(figures.store.as_ref().map(|store| store.database_bytes)));
    #[cfg(feature = "store")]
    Public Gauge "caxton.disk.available", "By", [],
        "Space left on the file system of the store's directory."
        = Read::Router(|figures, points| points.add_all(read::disk(figures).map(|disk| disk.available_bytes)));
    #[cfg(feature = "store")]
    Public Gauge "caxton.disk.size", "By", [],
        "Size of the file system of the store's directory."
        = Read::Router(|figures, points| points.add_all(read::disk(figures).map(|disk| disk.size_bytes)));
    #[cfg(feature = "wasm")]
    Public Counter "caxton.wasm.slices", "{slice}", [],
        "Slices of calls that WebAssembly guests of this process ran, from the first scrape on."
        = Read::Router(|figures, points| points.add(figures.wasm.slices));
    #[cfg(feature = "wasm")]
    Public Counter "caxton.wasm.time", "s", [],
        "Their time."
        = Read::Router(|figures, points| points.add(figures.wasm.time_ns as f64 / 1e9));
    #[cfg(feature = "wasm")]
    Public Counter "caxton.wasm.traps", "{call}", [],
        "Calls of WebAssembly guests that ended with a trap."
        = Read::Router(|figures, points| points.add(figures.wasm.traps));
    #[cfg(feature = "wasm")]
    Public Gauge "caxton.wasm.memory", "By", [],
        "Linear memory of all WebAssembly guests of this process."
        = Read::Router(|figures, points| points.add(figures.wasm.memory_bytes));
    #[cfg(feature = "wasm")]
    Public Counter "caxton.plugin.inspected", "{message}", ["plugin"],
        "Messages that a routing plugin inspected."
        = Read::Router(read::inspected);
    #[cfg(feature = "wasm")]
    Public Counter "caxton.plugin.outcomes", "{message}", ["plugin", "outcome"],
        "Messages that a routing plugin rerouted, refused, annotated, or failed on."
        = Read::Router(read::plugin_outcomes);
    Public Gauge "caxton.health", "1", ["component"],
        "Health of the parts of the router: 0 healthy, 1 degraded, 2 unhealthy."
        = Read::Router(read::health);
    Public Counter "caxton.telemetry.records", "{record}", [],
        "Records of sampled messages that were taken from the shards."
        = Read::Router(|figures, points| points.add(figures.records_taken));
    Public Counter "caxton.telemetry.records.dropped", "{record}", [],
        "Records of sampled messages that found no room."
        = Read::Router(|figures, points| points.add(figures.records_dropped));
    Public Counter "caxton.telemetry.traces.dropped", "{trace}", [],
        "Traces that their receiver had no room for."
        = Read::Router(|figures, points| points.add(figures.traces_dropped));
    Public Counter "caxton.telemetry.messages.unkept", "{message}", [],
        "Messages that failed, expired or were slow and are not traced because there were too many."
        = Read::Router(|figures, points| points.add(figures.messages_unkept));
    Public Counter "caxton.telemetry.messages.unfollowed", "{message}", [],
        "Messages of traces that peers sampled and that are not traced here because there were too many."
        = Read::Router(|figures, points| points.add(figures.messages_unfollowed));
    Public Counter "caxton.telemetry.messages.given_up", "{message}", [],
        "Sampled messages whose end was not recorded in time."
        = Read::Router(|figures, points| points.add(figures.messages_given_up));
    Public Counter "caxton.telemetry.exported", "{item}", ["destination", "signal", "outcome"],
        "Spans, data points and log records by what became of them: exported, dropped, failed, or rejected by the collector."
        = Read::Router(read::exported);
    Public Counter "caxton.telemetry.export.failures", "{item}", ["destination"],
        "Spans, data points and log records that were not exported."
        = Read::Router(read::export_failures);
    Public Counter "caxton.telemetry.export.retries", "{attempt}", ["destination"],
        "Attempts to export that were repeated after a failure."
        = Read::Router(|figures, points| read::of_exports(figures, points, |export| export.retries));
    Public Gauge "caxton.telemetry.export.queued", "{request}", ["destination"],
        "Requests that wait to be exported."
        = Read::Router(|figures, points| read::of_exports(figures, points, |export| export.queued_requests));
    Public Gauge "caxton.telemetry.export.memory", "By", ["destination"],
        "Size of the requests that wait to be exported."
        = Read::Router(|figures, points| read::of_exports(figures, points, |export| export.queued_bytes));
    Public Gauge "caxton.telemetry.sampling", "1", [],
        "Part of all conversations that is sampled, if something takes what is measured."
        = Read::Router(|figures, points| points.add_all(figures.sampling));
    Public Gauge "caxton.edge.connections", "{connection}", [],
        "Open HTTP connections."
        = Read::Router(|figures, points| points.add(figures.connections));
    Public Counter "caxton.edge.connections.refused", "{connection}", [],
        "HTTP connections closed at once because all others were being served."
        = Read::Router(|figures, points| points.add(figures.connections_refused));
    Public Counter "caxton.edge.connections.closed", "{connection}", ["reason"],
        "HTTP connections closed by the router: idle for long, too slow, or to make room for another."
        = Read::Router(read::connections_closed);
    Public Counter "caxton.edge.requests", "{request}", [],
        "HTTP requests."
        = Read::Router(|figures, points| points.add(figures.requests));
    #[cfg(feature = "serve")]
    Public Gauge "caxton.nats.connections", "{connection}", [],
        "Open connections of clients of NATS."
        = Read::Router(|figures, points| points.add(figures.nats.connections.load(Relaxed)));
    #[cfg(feature = "serve")]
    Public Counter "caxton.nats.connections.closed", "{connection}", ["reason"],
        "Connections of clients of NATS that have ended, by why: client if it went by itself."
        = Read::Router(|figures, points| read::by_reason(&figures.nats.closed, points));
    #[cfg(feature = "serve")]
    Public Counter "caxton.nats.messages", "{message}", ["direction"],
        "Messages that clients of NATS published (in), and copies of messages that were written to them (out)."
        = Read::Router(|figures, points| read::of_traffic(figures, points, |traffic| &traffic.messages));
    #[cfg(feature = "serve")]
    Public Counter "caxton.nats.traffic", "By", ["direction"],
        "Their payloads and headers."
        = Read::Router(|figures, points| read::of_traffic(figures, points, |traffic| &traffic.bytes));
    #[cfg(feature = "serve")]
    Public Counter "caxton.nats.refused", "{operation}", ["reason"],
        "Messages of clients of NATS that were refused, by the reason they are told, and subscriptions."
        = Read::Router(|figures, points| read::by_reason(&figures.nats.refused, points));
    #[cfg(feature = "serve")]
    Public Counter "caxton.nats.replies.dropped", "{message}", ["reason"],
        "Replies that no client of NATS got, by why: its subscription, its connection, its agent or the question is gone, or it was too slow."
        = Read::Router(|figures, points| read::by_reason(&figures.nats.dropped, points));
    #[cfg(feature = "cluster")]
    Public Gauge "caxton.cluster.connected", "1", [],
        "Whether the node of a cluster is connected to NATS."
        = Read::Router(cluster::connected);
    #[cfg(feature = "cluster")]
    Public Gauge "caxton.cluster.nodes", "{node}", ["health"],
        "Other nodes of the cluster, by their health: alive, suspect, or dead for less than ten minutes."
        = Read::Router(cluster::nodes);
    #[cfg(feature = "cluster")]
    Public Gauge "caxton.cluster.agents", "{agent}", [],
        "Agents of other nodes that are known here."
        = Read::Router(cluster::agents);
    #[cfg(feature = "cluster")]
    Public Counter "caxton.cluster.messages.lost", "{message}", [],
        "Volatile messages and notices that got lost on their way to or from other nodes."
        = Read::Router(cluster::lost);
    #[cfg(feature = "cluster")]
    Public Counter "caxton.cluster.packets.dropped", "{packet}", ["reason"],
        "Packets about membership that were dropped: their seal was wrong, they were malformed, or another router with this node's number sent them."
        = Read::Router(cluster::packets_dropped);
    #[cfg(feature = "cluster")]
    Public Counter "caxton.cluster.link.messages", "{message}", ["node", "direction"],
        "Messages and notices that came from another node (in), and those that went to it (out)."
        = Read::Router(cluster::messages);
    #[cfg(feature = "cluster")]
    Public Counter "caxton.cluster.link.frames", "{frame}", ["node", "direction"],
        "Frames that came from another node (in) and went to it (out), repetitions and those without messages included."
        = Read::Router(cluster::frames);
    #[cfg(feature = "cluster")]
    Public Counter "caxton.cluster.link.traffic", "By", ["node", "direction"],
        "Size of these frames."
        = Read::Router(cluster::traffic);
    #[cfg(feature = "cluster")]
    Public Counter "caxton.cluster.link.retransmitted", "{frame}", ["node"],
        "Frames that were sent to another node again."
        = Read::Router(cluster::retransmitted);
    #[cfg(feature = "cluster")]
    Public Gauge "caxton.cluster.link.in_flight", "{frame}", ["node"],
        "Frames that were sent to another node and not acknowledged."
        = Read::Router(cluster::in_flight);
    #[cfg(feature = "cluster")]
    Public Gauge "caxton.cluster.link.unsettled", "{message}", ["node"],
        "Durable messages that were sent to another node and not settled."
        = Read::Router(cluster::unsettled);
    #[cfg(feature = "cluster")]
    Public Gauge "caxton.cluster.link.round_trip", "s", ["node"],
        "Estimated time to another node and back."
        = Read::Router(cluster::round_trip);
    Public Counter conventions::PROCESS_CPU_TIME, "s", ["mode"],
        "CPU time of the process."
        = Read::Router(read::cpu_time);
    Public Gauge conventions::PROCESS_MEMORY_USAGE, "By", [],
        "Physical memory of the process."
        = Read::Router(|figures, points| points.add(figures.process.resident_bytes));
    Public Gauge conventions::PROCESS_MEMORY_VIRTUAL, "By", [],
        "Virtual memory of the process."
        = Read::Router(|figures, points| points.add(figures.process.virtual_bytes));
    Public Gauge conventions::PROCESS_THREAD_COUNT, "{thread}", [],
        "Threads of the process."
        = Read::Router(|figures, points| points.add(figures.process.threads));
    Public Gauge conventions::PROCESS_UNIX_FILE_DESCRIPTOR_COUNT, "{file_descriptor}", [],
        "Open file descriptors of the process."
        = Read::Router(|figures, points| points.add(figures.process.descriptors));
    Public Gauge conventions::PROCESS_UPTIME, "s", [],
        "Time since the router was started."
        = Read::Router(|figures, points| points.add(figures.process.uptime_seconds));
    Internal Counter "caxton.shard.messages.accepted", "{message}", ["shard"],
        "Deliveries accepted from senders on the shard."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.accepted));
    Internal Counter "caxton.shard.messages.arrived", "{message}", ["shard"],
        "Deliveries received from other shards."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.arrived));
    Internal Counter "caxton.shard.messages.departed", "{message}", ["shard"],
        "Deliveries transferred to other shards."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.departed));
    Internal Counter "caxton.shard.messages.processed", "{message}", ["shard"],
        "Deliveries handled on the shard."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.processed));
    Internal Counter "caxton.shard.messages.dead_lettered", "{message}", ["shard"],
        "Deliveries given up on the shard."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.dead_lettered));
    Internal Counter "caxton.shard.messages.expired", "{message}", ["shard"],
        "Deliveries that expired on the shard."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.expired));
    Internal Gauge "caxton.shard.messages.pending", "{message}", ["shard"],
        "Deliveries that the shard holds."
        = Read::Shard(|shard, points| points.add(shard.snapshot.account.pending));
    Internal Gauge "caxton.shard.mailbox.messages", "{message}", ["shard"],
        "Messages in the mailboxes of the shard."
        = Read::Shard(|shard, points| points.add(shard.details.mailbox_messages));
    Internal Gauge "caxton.shard.agents", "{agent}", ["shard"],
        "Agents of the shard, including the router's own."
        = Read::Shard(|shard, points| points.add(shard.snapshot.agents));
    Internal Gauge "caxton.shard.conversations", "{conversation}", ["shard"],
        "Open conversations of the shard."
        = Read::Shard(|shard, points| points.add(shard.snapshot.conversations));
    Internal Gauge "caxton.shard.timers", "{timer}", ["shard"],
        "Armed timers of the shard."
        = Read::Shard(|shard, points| points.add(shard.snapshot.timers));
    Internal Gauge "caxton.shard.memory.usage", "By", ["shard"],
        "Bytes of messages of the shard."
        = Read::Shard(|shard, points| points.add(shard.snapshot.memory_bytes));
    Internal Gauge "caxton.shard.calls.queued", "{call}", ["shard"],
        "Calls from other threads that the shard has not taken yet."
        = Read::Shard(|shard, points| points.add(shard.queued));
    Internal Counter "caxton.shard.turns", "{turn}", ["shard"],
        "Turns of the shard."
        = Read::Shard(|shard, points| points.add(shard.turns));
    Internal Counter "caxton.shard.parks", "{park}", ["shard"],
        "The number of times that the shard parked."
        = Read::Shard(|shard, points| points.add(shard.parks));
    Internal Counter "caxton.shard.stalls", "{stall}", ["shard"],
        "The number of times that the shard was blocked."
        = Read::Shard(|shard, points| points.add(shard.times_blocked));
    Internal Gauge "caxton.shard.turn.current", "s", ["shard"],
        "Time of the current turn of the shard."
        = Read::Shard(|shard, points| points.add(shard.in_turn.unwrap_or_default().as_secs_f64()));
    #[cfg(feature = "store")]
    Internal Counter "caxton.shard.journal.commits", "{commit}", ["shard"],
        "Commits of the journal of the shard."
        = Read::Shard(|shard, points| points.add(shard.journal.commits));
    #[cfg(feature = "store")]
    Internal Counter "caxton.shard.journal.records", "{record}", ["shard"],
        "Records on disk in the journal of the shard."
        = Read::Shard(|shard, points| points.add(shard.journal.records));
    #[cfg(feature = "store")]
    Internal Gauge "caxton.shard.journal.segments", "{segment}", ["shard"],
        "Segments of the journal of the shard."
        = Read::Shard(|shard, points| points.add(shard.journal.segments));
    #[cfg(feature = "store")]
    Internal Gauge "caxton.shard.projection.lag", "{record}", ["shard"],
        "Records on disk that the database of the shard has not seen."
        = Read::Shard(|shard, points| points.add(shard.journal.records.saturating_sub(shard.journal.projected)));
    Internal Gauge "caxton.ring.messages", "{message}", ["shard", "to"],
        "Messages and notices in the ring from one shard to another."
        = Read::Shard(|shard, points| read::of_lanes(shard, points, |lane| lane.in_flight as u64));
    Internal Gauge "caxton.ring.credits", "{message}", ["shard", "to"],
        "Messages that can be sent through the ring now."
        = Read::Shard(|shard, points| read::of_lanes(shard, points, |lane| lane.credits as u64));
    Internal Gauge "caxton.ring.capacity", "{message}", ["shard", "to"],
        "Messages that the ring has room for."
        = Read::Shard(|shard, points| read::of_lanes(shard, points, |lane| lane.credits_max as u64));
    Internal Counter "caxton.ring.sent", "{message}", ["shard", "to"],
        "Messages sent through the ring."
        = Read::Shard(|shard, points| read::of_lanes(shard, points, |lane| lane.sent));
    Internal Gauge "caxton.ring.waiting", "{agent}", ["shard", "to"],
        "Agents whose outboxes wait for a credit of the ring."
        = Read::Shard(|shard, points| read::of_lanes(shard, points, |lane| lane.senders_waiting as u64));
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::fmt::Write as _;

    #[test]
    fn names_are_legal_and_no_two_are_alike() {
        let legal = |name: &str| name.chars().all(|letter| letter.is_ascii_lowercase() || "_.".contains(letter));
        let mut names = HashSet::new();
        for metric in METRICS {
            assert!(legal(metric.name) && metric.name.contains('.'), "{}", metric.name);
            assert!(!["_total", "_bucket", "_sum", "_created", "_info"].iter().any(|end| metric.name.ends_with(end)));
            assert!(names.insert(metric.prometheus_name()), "{} is there twice", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\', '"']), "{}", metric.name);
            let per_shard = metric.labels.first() == Some(&"shard");
            assert_eq!(per_shard, metric.audience == Audience::Internal, "{}", metric.name);
            assert!(!metric.labels.contains(&"agent"), "{} would have a series for each agent", metric.name);
            assert_eq!(matches!(metric.read, Read::Latency(_)), metric.kind == Kind::Histogram, "{}", metric.name);
        }
    }

    /// Returns the manual's reference of the metrics.
    fn reference() -> String {
        let mut text = String::new();
        for (audience, path) in [(Audience::Public, "/metrics"), (Audience::Internal, "/metrics/internal")] {
            let _ = write!(
                text,
                "\n`{path}`:\n\n| name in Prometheus | name in OpenTelemetry | kind | unit | labels | meaning |\n"
            );
            text += "|---|---|---|---|---|---|\n";
            for metric in METRICS.iter().filter(|metric| metric.audience == audience) {
                let total = if metric.kind == Kind::Counter { "_total" } else { "" };
                let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
                let _ = writeln!(
                    text,
                    "| `{}{total}` | `{}` | {} | `{}` | {} | {} |",
                    metric.prometheus_name(),
                    metric.name,
                    metric.kind.as_str(),
                    metric.unit,
                    labels.join(", "),
                    metric.help
                );
            }
        }
        text + "\n"
    }

    #[test]
    fn the_manual_has_every_metric() {
        const BEGIN: &str = "<!-- The table of metrics begins. -->\n";
        const END: &str = "<!-- The table of metrics ends. -->";
        let manual = include_str!("../manual/telemetry.md");
        let (_, behind) = manual.split_once(BEGIN).expect("the table has a beginning");
        let (table, _) = behind.split_once(END).expect("the table has an end");
        let wanted = reference();
        assert!(table == wanted, "put this into src/manual/telemetry.md, between the two comments:\n{wanted}");
    }
}
