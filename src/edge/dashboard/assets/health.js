// The health of the router's parts. Its summary stands at the top of the page.

import { getReport } from "./api.js";
import { refreshCluster } from "./cluster.js";
import { announce, byId, fillTable, moment, setText, showProblem } from "./dom.js";

const MARKS = { healthy: ["✓", "good"], degraded: ["▲", "warn"], unhealthy: ["■", "bad"] };
const section = byId("health");
let before = null;

function mark(node, status) {
  const [sign, className] = MARKS[status] ?? ["•", ""];
  setText(node, `${sign} ${status}`);
  node.className = className;
}

export async function refreshHealth() {
  try {
    const health = await getReport("/healthz");
    mark(byId("overall"), health.status);
    byId("overall").hidden = false;
    fillTable(section.querySelector("tbody"), health.components, ({ name }) => name, [
      { text: ({ name }) => name, head: true },
      { fill: (cell, { status }) => mark(cell, status) },
      { text: ({ since_ms }) => moment(since_ms) },
      { text: ({ why }) => why },
    ]);
    const summary = `${health.status}, ${health.phase}${health.ready ? "" : ", not ready"}`;
    if (before && before !== summary) announce(`The router is ${summary}`);
    before = summary;
    showProblem(section, null);
    await refreshCluster(health.components.some(({ name }) => name === "cluster"));
  } catch (problem) {
    showProblem(section, problem);
  }
}
