// Throughput, latency and mailboxes: from the differences of the figures between two samples.

import { brief, byId, bytes, count, duration, element, setText } from "./dom.js";
import { bucketsOf, countBetween, quantileBetween } from "./metrics.js";
import { Plot } from "./plot.js";

const HISTOGRAMS = { message: "caxton_message_duration_seconds", mailbox: "caxton_mailbox_wait_duration_seconds" };

/** The time of which the quantiles are, in samples: long enough that a few sampled messages are among them. */
const WINDOW = 10;

const plots = {
  throughput: new Plot(byId("throughput"), "Messages per second", ["accepted", "processed", "dead letters"], brief, 10),
  latency: new Plot(byId("latency"), "Time from acceptance to the end of handling, last 10 s", ["median", "99 of 100"], duration, 1e-4),
  depth: new Plot(byId("depth"), "Messages in mailboxes, and messages waiting for room in one", ["in mailboxes", "waiting for room"], brief, 10),
  waiting: new Plot(byId("waiting"), "Waiting time in the mailbox, last 10 s", ["median", "99 of 100"], duration, 1e-4),
};

const TOTALS = [
  ["Accepted", (stats) => count(stats.account.accepted)],
  ["Processed", (stats) => count(stats.account.processed)],
  ["In progress", (stats) => count(stats.in_progress)],
  ["Expired", (stats) => count(stats.account.expired)],
  ["Refused", (stats) => count(stats.account.refused)],
  ["Dead letters kept", (stats) => count(stats.dead_letters)],
  ["Agents", (stats) => count(stats.agents)],
  ["Outside agents", (stats) => count(stats.outside_agents)],
  ["Conversations", (stats) => count(stats.conversations)],
  ["Memory", (stats) => `${bytes(stats.memory_bytes)} of ${bytes(stats.memory_bytes_max)}`],
];

const totals = TOTALS.map(([name]) => {
  const value = element("dd", { textContent: "-" });
  byId("totals").append(element("div", {}, element("dt", { textContent: name }), value));
  return value;
});

let before = null;
/** The histograms of the last samples, the oldest first. */
let histograms = [];

/** Shows a sample: `{time, stats, metrics}`, its time in seconds. Without metrics, what they say is left out. */
export function showTraffic({ time, stats, metrics }) {
  // A router that was started again counts from zero.
  if (before && stats.running_for_ms < before.stats.running_for_ms) [before, histograms] = [null, []];
  TOTALS.forEach(([, text], index) => setText(totals[index], text(stats)));
  if (metrics) histograms.push(Object.fromEntries(Object.entries(HISTOGRAMS).map(([key, name]) => [key, bucketsOf(metrics, name)])));
  if (histograms.length > WINDOW + 1) histograms.shift();
  const inMailboxes = metrics?.get("caxton_mailbox_messages")?.[0]?.value ?? null;
  const room = stats.shards.reduce((sum, shard) => sum + shard.waiting, 0);
  plots.depth.add(time, [inMailboxes, room]);
  if (before) {
    const rate = (key) => (stats.account[key] - before.stats.account[key]) / (time - before.time);
    plots.throughput.add(time, [rate("accepted"), rate("processed"), rate("dead_lettered")]);
    plots.latency.add(time, quantiles("message"));
    plots.waiting.add(time, quantiles("mailbox"));
  }
  before = { time, stats };
}

function quantiles(key) {
  const [earlier, later] = [histograms[0]?.[key], histograms.at(-1)?.[key]];
  if (!earlier || countBetween(earlier, later) <= 0) return [null, null];
  return [0.5, 0.99].map((quantile) => quantileBetween(earlier, later, quantile));
}
