// The shards, and the agents whose messages wait longest.

import { getReport } from "./api.js";
import { brief, byId, bytes, count, duration, fillTable, setText, showProblem } from "./dom.js";

const SLOW_MAX = 10;

let before = null;

function stateOf(shard, stats) {
  if (stats.blocked_shards.includes(shard.shard)) return ["■ blocked by an agent", "bad"];
  if (shard.stalled) return [`▲ ${count(shard.stalled)} stalled`, "warn"];
  return ["✓ running", "good"];
}

export function showShards({ time, stats }) {
  const earlier = before && stats.running_for_ms >= before.stats.running_for_ms ? before : null;
  const rate = (key) => (shard) => {
    const old = earlier?.stats.shards[shard.shard];
    return old ? brief((shard.account[key] - old.account[key]) / (time - earlier.time)) : "-";
  };
  const number = (text) => ({ text, className: "number" });
  fillTable(byId("shards").querySelector("tbody"), stats.shards, ({ shard }) => shard, [
    { text: ({ shard }) => shard, className: "number", head: true },
    {
      fill: (cell, shard) => {
        const [text, className] = stateOf(shard, stats);
        setText(cell, text);
        cell.className = className;
      },
    },
    number(rate("accepted")),
    number(rate("processed")),
    number(({ account }) => count(account.pending)),
    number(({ waiting }) => count(waiting)),
    number(({ agents }) => count(agents)),
    number(({ conversations }) => count(conversations)),
    number(({ dead_letters }) => count(dead_letters)),
    number(({ breakers_open }) => count(breakers_open)),
    number(({ memory_bytes, memory_bytes_max }) => `${bytes(memory_bytes)} of ${bytes(memory_bytes_max)}`),
  ]);
  before = { time, stats };
}

const SLOW_COLUMNS = [
  { text: ({ agent }) => agent, head: true },
  { text: ({ state }) => state },
  { text: ({ oldest_ms }) => duration(oldest_ms / 1000), className: "number" },
  { text: ({ messages }) => count(messages), className: "number" },
  { text: ({ bytes: size }) => bytes(size), className: "number" },
  { text: ({ in_inbox }) => count(in_inbox), className: "number" },
  { text: ({ shard }) => shard, className: "number" },
];

/** Asks who is slow. The shards look for them when they are asked, and keep no list. */
export async function refreshSlow() {
  const section = byId("mailboxes");
  try {
    const { agents, failed } = await getReport("/healthz/slow", { limit: SLOW_MAX });
    fillTable(byId("slow").tBodies[0], agents, ({ agent }) => agent, SLOW_COLUMNS);
    byId("slow-none").hidden = agents.length > 0 && failed.length === 0;
    setText(byId("slow-none"), failed.length ? `Not complete: ${failed.join("; ")}` : "No agent has messages that wait.");
    showProblem(section, null);
  } catch (problem) {
    showProblem(section, problem);
  }
}
