// Conversations: those that this page has heard of, and one of them as a sequence diagram that goes on.

import { get } from "./api.js";
import { announce, attempt, byId, count, duration, fillActions, fillTable, moment, setText, showProblem } from "./dom.js";
import { sequence } from "./sequence.js";

const SEEN_MAX = 20;

const section = byId("conversations");
const [agentField, idField] = [byId("conversation-agent"), byId("conversation-id")];
/** By conversation: who may have begun it, and what was heard of it. The newest are last. */
const seen = new Map();
/** The conversation that is followed: `{id, agents}`, and `ended` once it has ended. */
let followed = null;
let drawn = "";

/** Notes a conversation, with the agents of which one may have begun it. */
export function noteConversation(id, agents, what, time = Date.now()) {
  if (!id) return;
  const named = [...new Set([...(seen.get(id)?.agents ?? []), ...agents].filter(Boolean))];
  seen.delete(id);
  seen.set(id, { id, agents: named, what, time });
  if (seen.size > SEEN_MAX) seen.delete(seen.keys().next().value);
  byId("seen-none").hidden = true;
  fillTable(byId("seen").tBodies[0], [...seen.values()].reverse(), (entry) => entry.id, [
    { text: (entry) => entry.id, head: true },
    { text: (entry) => entry.agents.join(", ") },
    { text: (entry) => entry.what },
    { text: (entry) => moment(entry.time) },
    { className: "actions", fill: (cell, entry) => fillActions(cell, [{ text: "Follow", name: `Follow ${entry.id}`, act: () => followNoted(entry.id) }]) },
  ]);
}

/** Follows a conversation that was noted; one that was forgotten by now, with those of its agents that are known. */
export const followNoted = (id, agents = []) => follow(id, seen.get(id)?.agents ?? agents.filter(Boolean));

async function find({ id, agents }) {
  let missing;
  for (const agent of agents) {
    try {
      return await get(`/v1/agents/${encodeURIComponent(agent)}/conversations/${encodeURIComponent(id)}`);
    } catch (problem) {
      if (problem.reason !== "unknown-conversation") throw problem;
      missing = problem;
    }
  }
  throw missing;
}

function follow(id, agents) {
  agentField.value = agents[0] ?? "";
  idField.value = id;
  const wanted = { id, agents };
  return attempt(section, async () => {
    draw(await find(wanted), id);
    followed = wanted;
    byId("followed").scrollIntoView({ block: "nearest" });
    announce(`Following the conversation ${id}`);
  });
}

/** Draws the followed conversation as it is now. */
export async function refreshConversation() {
  const asked = followed;
  if (!asked || asked.ended) return;
  try {
    const conversation = await find(asked);
    if (followed === asked) draw(conversation, asked.id);
    showProblem(section, null);
  } catch (problem) {
    if (followed !== asked) return;
    if (problem.reason !== "unknown-conversation") return showProblem(section, problem);
    asked.ended = true;
    setText(byId("followed-state"), "It has ended: this is what was seen of it.");
    announce("The conversation has ended");
  }
}

function draw(conversation, id) {
  const { participants, history, protocol } = conversation;
  const opened = conversation.open_for_ms;
  const steps = history.map((step) => ({
    from: step.from ?? "?",
    to: step.to ?? "?",
    performative: step.performative,
    isReply: step.is_reply,
    message: step.message,
    time: `+${duration(Math.max(0, opened - step.ago_ms) / 1000)}`,
  }));
  const state = [`messages: ${count(conversation.messages)}`, `replies awaited: ${count(conversation.awaited_replies)}`, `open for ${duration(opened / 1000)}`];
  if (protocol) state.push(`${protocol.name}: ${protocol.parties.map((party) => `${party.participant} ${party.state}`).join(", ")}`);
  setText(byId("followed-title"), `Conversation ${id}`);
  setText(byId("followed-state"), `${state.join("; ")}.`);
  const key = JSON.stringify([conversation.id, participants, steps.map(({ message, to }) => [message, to])]);
  if (key !== drawn) {
    const everybody = [...new Set([...participants, ...steps.flatMap(({ from, to }) => [from, to])])];
    show(everybody, steps);
    drawn = key;
  }
  byId("followed").hidden = false;
}

function show(participants, steps) {
  byId("diagram").replaceChildren(sequence(participants, steps));
  const numbered = steps.map((step, index) => ({ ...step, number: index + 1 }));
  fillTable(byId("steps").tBodies[0], numbered, ({ message, to }) => `${message} ${to}`, [
    { text: ({ number }) => number, className: "number" },
    { text: ({ time }) => time, className: "number" },
    { text: ({ from }) => from },
    { text: ({ performative, isReply }) => (isReply ? `${performative} (reply)` : performative) },
    { text: ({ to }) => to },
    { text: ({ message }) => message },
  ]);
}

/** Draws messages whose conversation may have ended already: `{from, to, performative, isReply, message, time}`. */
export function showExchange(title, steps) {
  followed = null;
  drawn = "";
  setText(byId("followed-title"), title);
  setText(byId("followed-state"), "Sent from this page.");
  show([...new Set(steps.flatMap(({ from, to }) => [from, to]))], steps);
  byId("followed").hidden = false;
}

byId("conversation-form").addEventListener("submit", (event) => {
  event.preventDefault();
  follow(idField.value.trim(), [agentField.value.trim()]);
});
byId("unfollow").addEventListener("click", () => {
  followed = null;
  drawn = "";
  byId("followed").hidden = true;
  idField.focus();
});
