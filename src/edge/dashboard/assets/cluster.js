// The other nodes of the cluster, the links to them, and what is wrong. The section is hidden for a router in none.

import { get } from "./api.js";
import { announce, byId, count, duration, fillTable, setText, showProblem } from "./dom.js";

const HEALTH = { alive: ["✓", "good"], suspect: ["▲", "warn"], dead: ["■", "bad"] };
const STATUS = { warning: ["▲", "warn"], problem: ["■", "bad"] };
const section = byId("cluster");
let before = null;

const mark = (marks) => (cell, word) => {
  const [sign, className] = marks[word] ?? ["•", ""];
  setText(cell, `${sign} ${word}`);
  cell.className = className;
};
const markHealth = mark(HEALTH);
const markStatus = mark(STATUS);

function stateOf(link) {
  if (!link) return "";
  if (!link.open) return "opening";
  if (link.silent) return "silent";
  return link.full ? "full" : "open";
}

const number = (text) => ({ text, className: "number" });
const NODES = [
  { ...number(({ node }) => node), head: true },
  { fill: (cell, { health }) => markHealth(cell, health) },
  number(({ for_ms }) => duration(for_ms / 1000)),
  number(({ shards }) => count(shards)),
  number(({ load }) => count(load?.agents)),
  number(({ load }) => count(load?.pending)),
  { text: ({ link }) => stateOf(link) },
  number(({ link }) => count(link?.messages_sent)),
  number(({ link }) => count(link?.messages_received)),
  number(({ link }) => count(link?.retransmitted)),
  number(({ link }) => count(link?.frames_in_flight)),
  number(({ link }) => count(link?.unsettled)),
  number(({ link }) => (link?.round_trip_ms == null ? "" : duration(link.round_trip_ms / 1000))),
];
const FINDINGS = [
  { fill: (cell, { status }) => markStatus(cell, status) },
  { text: ({ found }) => found, head: true },
  { text: ({ mend }) => mend },
];

function show(cluster) {
  const connection = cluster.connected ? "connected to NATS" : "not connected to NATS";
  const state = `Node ${cluster.node} of ${cluster.name}, ${connection} for ${duration(cluster.connection_for_ms / 1000)}. `
    + `Agents of other nodes that are known: ${count(cluster.remote_agents)}. Messages that got lost: ${count(cluster.lost)}.`;
  setText(byId("cluster-state"), state);
  fillTable(byId("nodes").tBodies[0], cluster.nodes, ({ node }) => node, NODES);
  byId("nodes-none").hidden = cluster.nodes.length > 0;
  const findings = cluster.findings.filter(({ status }) => status !== "ok");
  byId("findings-table").hidden = findings.length === 0;
  // A sentence has times in it: a finding keeps its row by its place.
  fillTable(byId("findings").tBodies[0], findings.map((finding, place) => ({ ...finding, place })), ({ place }) => place, FINDINGS);
  const names = findings.map(({ name }) => name).join(", ");
  if (before !== null && before !== names) announce(names ? `Wrong in the cluster: ${names}` : "Nothing is wrong in the cluster");
  before = names;
}

/** Shows the cluster, if the router is in one. */
export async function refreshCluster(isInCluster) {
  section.hidden = !isInCluster;
  byId("to-cluster").hidden = !isInCluster;
  if (!isInCluster) return;
  try {
    show(await get("/v1/cluster"));
    showProblem(section, null);
  } catch (problem) {
    showProblem(section, problem);
  }
}
