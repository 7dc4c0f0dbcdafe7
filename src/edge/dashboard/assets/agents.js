// The agents: a list with a filter, page by page, and the operations on one.

import { call, get } from "./api.js";
import { confirmed } from "./dialog.js";
import { announce, attempt, byId, bytes, count, element, fillActions, fillTable, setText, showProblem } from "./dom.js";

const PAGE = 50;
/** The largest page that the router sends, and how many of them are looked through for a filter at a time. */
const PAGE_MAX = 1000;
const PAGES_TOGETHER = 10;
const NAMES_MAX = 200;

const section = byId("agents");
const body = section.querySelector("tbody");
/** The cursors of the pages up to this one; the first page has none. */
let pages = [null];
let next = null;
let filter = "";

const MARKS = { active: ["✓", "good"], suspended: ["▲", "warn"], draining: ["▲", "warn"], stopped: ["■", "bad"], initiated: ["•", ""] };

const path = (name, operation = "") => `/v1/agents/${encodeURIComponent(name)}${operation}`;

function actionsOf({ name, state }) {
  const change = (operation, done) => () =>
    attempt(section, async () => {
      await call("POST", path(name, operation));
      announce(`${name} ${done}`);
      await refreshAgents();
    });
  const actions = [];
  if (state === "active") actions.push({ text: "Suspend", name: `Suspend ${name}`, act: change("/suspend", "is suspended") });
  if (state === "suspended") actions.push({ text: "Resume", name: `Resume ${name}`, act: change("/resume", "is resumed") });
  if (state === "active" || state === "suspended") {
    actions.push({ text: "Drain...", name: `Drain ${name}`, className: "danger", act: () => askDrain(name) });
  }
  return actions;
}

function askDrain(name) {
  const text = "It takes no new messages, handles what it has, and is removed. What is left after 30 seconds is dead-lettered.";
  const drain = async () => {
    const { left } = await call("POST", path(name, "/drain"));
    announce(`${name} is removed; ${left} of its messages were dead-lettered`);
    await refreshAgents();
  };
  confirmed(`Drain ${name}?`, text, "Drain", drain, true);
}

const COLUMNS = [
  { text: ({ name }) => name, head: true },
  {
    fill: (cell, { state, stopped_because, closed }) => {
      const [mark, className] = MARKS[state] ?? ["", ""];
      setText(cell, [`${mark} ${state}`, stopped_because, closed && "mailbox full"].filter(Boolean).join(", "));
      cell.className = className;
    },
  },
  { text: ({ mailbox_messages }) => count(mailbox_messages), className: "number" },
  { text: ({ mailbox_bytes }) => bytes(mailbox_bytes), className: "number" },
  { text: ({ waiting }) => count(waiting), className: "number" },
  { text: ({ overflow }) => overflow },
  { text: ({ restarts }) => count(restarts), className: "number" },
  { text: ({ shard }) => shard, className: "number" },
  { text: ({ outside }) => (outside ? `${outside.owner}, ${outside.clients} connected` : "") },
  { className: "actions", fill: (cell, agent) => fillActions(cell, actionsOf(agent)) },
];

async function load(cursor) {
  if (!filter) return get("/v1/agents", { limit: PAGE, cursor });
  // The router's pages have no filter: whole pages are looked through, so that its cursor says where to go on.
  const found = { agents: [], next: cursor };
  for (let looked = 0; looked < PAGES_TOGETHER && found.agents.length < PAGE; looked++) {
    const page = await get("/v1/agents", { limit: PAGE_MAX, cursor: found.next });
    found.agents.push(...page.agents.filter(({ name }) => name.toLowerCase().includes(filter)));
    found.next = page.next;
    if (!page.next) break;
  }
  return found;
}

export async function refreshAgents() {
  const asked = pages;
  try {
    const page = await load(asked.at(-1));
    // Another page was asked for meanwhile.
    if (pages !== asked) return;
    next = page.next;
    fillTable(body, page.agents, ({ name }) => name, COLUMNS);
    byId("agents-none").hidden = page.agents.length > 0;
    setText(byId("agents-none"), filter ? `No agent here has "${filter}" in its name.` : "There are no agents.");
    byId("agents-back").disabled = pages.length === 1;
    byId("agents-next").disabled = !next;
    if (!filter) suggest(page.agents);
    showProblem(section, null);
  } catch (problem) {
    showProblem(section, problem);
  }
}

/** Offers names where an agent is asked for. */
function suggest(agents) {
  const list = byId("agent-names");
  const known = new Set([...list.options].map(({ value }) => value));
  for (const { name } of agents) {
    if (!known.has(name) && list.options.length < NAMES_MAX) list.append(element("option", { value: name }));
  }
}

byId("agents-form").addEventListener("submit", (event) => {
  event.preventDefault();
  filter = byId("agents-filter").value.trim().toLowerCase();
  pages = [null];
  refreshAgents();
});
byId("agents-back").addEventListener("click", () => {
  pages = pages.slice(0, -1);
  refreshAgents();
});
byId("agents-next").addEventListener("click", () => {
  pages = [...pages, next];
  refreshAgents();
});
