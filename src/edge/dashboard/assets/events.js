// What happens in the router: its events, which the sections take from here.

import { events } from "./api.js";
import { noteConversation, followNoted } from "./conversations.js";
import { announce, byId, fillActions, fillTable, moment, showProblem } from "./dom.js";

const VIOLATIONS_MAX = 50;
/** Delays before the events are asked for again, in milliseconds. */
const AGAIN_MIN = 1000;
const AGAIN_MAX = 30000;
/** How often dead letters are announced at most, in milliseconds. */
const ANNOUNCE = 10000;

const section = byId("violations");
const violations = [];
let letters = 0;
let announced = 0;

function showViolation(violation) {
  violations.unshift({ ...violation, time: Date.now(), number: violations.length ? violations[0].number + 1 : 0 });
  violations.length = Math.min(violations.length, VIOLATIONS_MAX);
  byId("violations-none").hidden = true;
  fillTable(section.querySelector("tbody"), violations, ({ number }) => number, [
    { text: ({ time }) => moment(time) },
    { text: ({ protocol }) => protocol, head: true },
    { text: ({ explanation }) => explanation },
    { text: ({ performative }) => performative },
    { text: ({ sender }) => sender },
    { text: ({ receiver }) => receiver },
    { text: ({ refused }) => (refused ? "refused" : "delivered") },
    {
      className: "actions",
      fill: (cell, { conversation, sender, receiver }) => {
        const action = { text: "Follow", name: `Follow the conversation ${conversation}`, act: () => followNoted(conversation, [sender, receiver]) };
        fillActions(cell, conversation ? [action] : []);
      },
    },
  ]);
  announce(`Protocol violation by ${violation.sender}: ${violation.explanation}`);
}

function countLetter() {
  letters++;
  if (Date.now() - announced < ANNOUNCE) return;
  announce(letters === 1 ? "A new dead letter" : `${letters} new dead letters`);
  announced = Date.now();
  letters = 0;
}

function take(kind, event, onDeadLetter) {
  const agents = [event.sender ?? event.initiator, event.receiver];
  switch (kind) {
    case "dead-lettered":
      noteConversation(event.conversation, agents, `dead letter, ${event.reason}`);
      countLetter();
      onDeadLetter();
      break;
    case "expired":
      noteConversation(event.conversation, agents, `message expired, ${event.stage}`);
      break;
    case "conversation-timed-out":
      noteConversation(event.conversation, agents, "timed out");
      break;
    case "protocol-violation":
      noteConversation(event.conversation, agents, "protocol violation");
      showViolation(event);
      break;
    case "shard-blocked":
      announce(`Shard ${event.shard} is blocked by ${event.agent ?? "an agent"}`);
      break;
    case "agent-panicked":
      announce(`The agent ${event.agent} has panicked`);
      break;
    default:
  }
}

let following = null;

/** Follows the events until they cannot be had any more, and then again. */
export async function followEvents(onDeadLetter) {
  following?.abort();
  following = new AbortController();
  const { signal } = following;
  for (let delay = AGAIN_MIN; !signal.aborted; delay = Math.min(delay * 2, AGAIN_MAX)) {
    try {
      for await (const { kind, data } of events("/v1/events", signal)) {
        showProblem(section, null);
        delay = AGAIN_MIN;
        if (kind === "end") break;
        take(kind, JSON.parse(data), onDeadLetter);
      }
    } catch (problem) {
      if (signal.aborted || problem.status === 401) return;
      showProblem(section, problem);
    }
    await new Promise((resolve) => setTimeout(resolve, delay));
  }
}

export const stopEvents = () => following?.abort();
