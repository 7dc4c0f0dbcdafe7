// Dead letters: a list page by page, why each was given up, and replaying and purging, one or many.

import { call, get } from "./api.js";
import { noteConversation } from "./conversations.js";
import { confirmed, show } from "./dialog.js";
import { announce, attempt, byId, bytes, count, element, fillActions, fillTable, moment, setText, showProblem } from "./dom.js";

const PAGE = 25;

const section = byId("dead-letters");
const fields = { reason: byId("letters-reason"), receiver: byId("letters-receiver"), sender: byId("letters-sender") };
/** The filter as it was submitted: what is listed is what a replay or a purge is about. */
let filter = {};
let pages = [null];
let next = null;

const path = (id, operation = "") => `/v1/dead-letters/${encodeURIComponent(id)}${operation}`;

const showLetter = (id) =>
  attempt(section, async () => {
    const { message, ...letter } = await get(path(id));
    const times = letter.replays ? `, replayed ${letter.replays} times` : "";
    const failure = letter.last_error ? ` Last error: ${letter.last_error}.` : "";
    const text = `${letter.reason}: ${letter.explanation}.${failure} ${letter.attempts} attempts${times}. First given up ${moment(letter.first_ms)}, last ${moment(letter.last_ms)}, on shard ${letter.shard}.`;
    show(`Dead letter ${id}`, text, JSON.stringify(message, null, 2));
  });

function askReplay({ id, receiver }) {
  confirmed(`Replay ${id}?`, `Its message is sent to ${receiver ?? "its receiver"} again. The dead letter is kept if it does not arrive.`, "Replay", async () => {
    const { message } = await call("POST", path(id, "/replay"));
    announce(`${id} was sent again as ${message}`);
    await refreshLetters();
  });
}

function askPurge({ id }) {
  const purge = async () => {
    await call("DELETE", path(id));
    announce(`${id} is deleted`);
    await refreshLetters();
  };
  confirmed(`Purge ${id}?`, "The message is deleted, and cannot be had back.", "Purge", purge, true);
}

/** Returns the parameters of a change of many, and what they select, in words. */
function selection() {
  const given = Object.entries(filter).filter(([, value]) => value);
  if (!given.length) return [{ all: true }, "All dead letters"];
  return [Object.fromEntries(given), `All dead letters with ${given.map(([name, value]) => `${name} ${value}`).join(" and ")}`];
}

byId("letters-replay").addEventListener("click", () => {
  const [query, words] = selection();
  confirmed("Replay dead letters?", `${words}, on this page and beyond, are sent again, oldest first. Those that do not arrive are kept.`, "Replay all", async () => {
    const { replayed, refused, refusal } = await call("POST", "/v1/dead-letters/replay", { query });
    announce(`${replayed} dead letters were sent again, ${refused} were not`);
    await refreshLetters();
    const kept = { describe: () => `${replayed} were sent again, ${refused} were not: ${refusal}` };
    showProblem(section, refused ? kept : null, "action");
  });
});
byId("letters-purge").addEventListener("click", () => {
  const [query, words] = selection();
  const purge = async () => {
    const { purged } = await call("DELETE", "/v1/dead-letters", { query });
    announce(`${purged} dead letters are deleted`);
    await refreshLetters();
  };
  confirmed("Purge dead letters?", `${words}, on this page and beyond, are deleted, and cannot be had back.`, "Purge all", purge, true);
});

const COLUMNS = [
  { text: ({ id }) => id, head: true },
  { text: ({ last_ms }) => moment(last_ms) },
  { text: ({ reason, explanation }) => `${reason}: ${explanation}` },
  { text: ({ performative }) => performative },
  { text: ({ sender }) => sender },
  { text: ({ receiver }) => receiver },
  { text: ({ attempts }) => count(attempts), className: "number" },
  { text: ({ content_bytes }) => bytes(content_bytes), className: "number" },
  {
    className: "actions",
    fill: (cell, letter) =>
      fillActions(cell, [
        { text: "Show", name: `Show ${letter.id}`, act: () => showLetter(letter.id) },
        { text: "Replay...", name: `Replay ${letter.id}`, act: () => askReplay(letter) },
        { text: "Purge...", name: `Purge ${letter.id}`, className: "danger", act: () => askPurge(letter) },
      ]),
  },
];

export async function refreshLetters() {
  const asked = pages;
  try {
    const page = await get("/v1/dead-letters", { ...filter, limit: PAGE, cursor: asked.at(-1) });
    // Another page was asked for meanwhile.
    if (pages !== asked) return;
    next = page.next;
    fillTable(section.querySelector("tbody"), page.dead_letters, ({ id }) => id, COLUMNS);
    for (const { reason, conversation, sender, receiver, last_ms } of [...page.dead_letters].reverse()) {
      offerReason(reason);
      if (conversation) noteConversation(conversation, [sender, receiver], `dead letter, ${reason}`, last_ms);
    }
    byId("letters-none").hidden = page.dead_letters.length > 0;
    setText(byId("letters-none"), Object.values(filter).some(Boolean) ? "No dead letter matches." : "There are no dead letters.");
    byId("letters-back").disabled = pages.length === 1;
    byId("letters-next").disabled = !next;
    showProblem(section, null);
  } catch (problem) {
    showProblem(section, problem);
  }
}

/** Offers a reason that has occurred to the filter. */
export function offerReason(reason) {
  const { options } = fields.reason;
  if (![...options].some(({ value }) => value === reason)) fields.reason.append(element("option", { value: reason, textContent: reason }));
}

byId("letters-form").addEventListener("submit", (event) => {
  event.preventDefault();
  filter = Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value.trim()]));
  pages = [null];
  refreshLetters();
});
byId("letters-back").addEventListener("click", () => {
  pages = pages.slice(0, -1);
  refreshLetters();
});
byId("letters-next").addEventListener("click", () => {
  pages = [...pages, next];
  refreshLetters();
});
