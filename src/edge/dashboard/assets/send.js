// The form to send a message.

import { call } from "./api.js";
import { noteConversation, showExchange } from "./conversations.js";
import { attempt, byId, duration, element, setText } from "./dom.js";

/** The performatives of FIPA SC00037. */
const PERFORMATIVES = [
  "request", "inform", "query-ref", "query-if", "cfp", "propose", "accept-proposal", "reject-proposal", "agree", "refuse",
  "cancel", "confirm", "disconfirm", "failure", "inform-if", "inform-ref", "not-understood", "propagate", "proxy",
  "request-when", "request-whenever", "subscribe",
];

const section = byId("send");
const form = byId("send-form");
const field = (name) => byId(`send-${name}`).value.trim();

byId("send-performative").append(...PERFORMATIVES.map((word) => element("option", { value: word, textContent: word })));

const nameOf = (agent) => (typeof agent === "string" ? agent : agent?.name);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const send = form.querySelector("button");
  const hadFocus = document.activeElement === send;
  send.disabled = true;
  byId("sent").hidden = false;
  byId("sent-text").hidden = true;
  setText(byId("sent-state"), "Sending");
  await attempt(section, async () => {
    try {
      await sendMessage();
    } catch (problem) {
      byId("sent").hidden = true;
      throw problem;
    }
  });
  send.disabled = false;
  if (hadFocus) send.focus();
});

async function sendMessage() {
  const message = { performative: field("performative"), receiver: [field("receiver")], content: byId("send-content").value };
  if (field("protocol")) message.protocol = field("protocol");
  if (field("conversation")) message["conversation-id"] = field("conversation");
  const wait = field("wait");
  const started = performance.now();
  const response = await call("POST", "/v1/messages", { body: message, query: { wait, timeout_ms: Number(field("timeout")) * 1000 } });
  const took = duration((performance.now() - started) / 1000);
  const said = { accepted: "The message was accepted", receipt: `The message was ${response.receipt}`, reply: `The reply is ${response.performative}` };
  setText(byId("sent-state"), `${said[wait]}, after ${took}.`);
  byId("sent-text").textContent = JSON.stringify(response, null, 2);
  byId("sent-text").hidden = false;
  if (wait === "reply") drawReply(message, response, took);
}

function drawReply(message, reply, took) {
  const [own, other] = [nameOf(reply.receiver?.[0]) ?? "this page", nameOf(reply.sender) ?? message.receiver[0]];
  const conversation = reply["conversation-id"];
  if (conversation) noteConversation(conversation, [own, other], `${reply.performative} received`);
  showExchange(conversation ? `Conversation ${conversation}` : `${message.performative} to ${message.receiver[0]}`, [
    { from: own, to: message.receiver[0], performative: message.performative, isReply: false, message: "", time: "+0 s" },
    { from: other, to: own, performative: reply.performative, isReply: true, message: reply["X-caxton-message-id"] ?? "", time: `+${took}` },
  ]);
}
