// Draws messages between agents as a sequence diagram.

import { svg } from "./dom.js";

const LANE = 170;
const LEFT = 70;
const TOP = 44;
const STEP = 36;
const NAME_MAX = 20;

const shorten = (name) => (name.length > NAME_MAX ? `${name.slice(0, NAME_MAX - 1)}…` : name);

/** Returns the picture of steps `{from, to, performative, isReply, time}` between these participants. */
export function sequence(participants, steps) {
  const width = LEFT + LANE * Math.max(participants.length, 1);
  const height = TOP + STEP * (steps.length + 1);
  const x = (name) => LEFT + LANE * (Math.max(participants.indexOf(name), 0) + 0.5);
  const head = svg("marker", { id: "arrow-head", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto" }, svg("path", { class: "head", d: "M0 0L8 4L0 8Z" }));
  const parts = [svg("defs", {}, head)];
  for (const name of participants) {
    const box = { x: x(name) - LANE / 2 + 6, y: 4, width: LANE - 12, height: 28, rx: 4 };
    parts.push(svg("path", { class: "life", d: `M${x(name)} 32V${height}` }), svg("rect", box));
    parts.push(svg("text", { x: x(name), y: 23, "text-anchor": "middle" }, svg("title", {}, name), shorten(name)));
  }
  steps.forEach((step, index) => {
    const y = TOP + STEP * (index + 1) - 10;
    const [from, to] = [x(step.from), x(step.to)];
    const line = from === to ? `M${from} ${y - 8}h28v14h-26` : `M${from} ${y}H${to}`;
    parts.push(svg("text", { class: "time", x: 4, y: y + 4 }, step.time));
    parts.push(svg("path", { class: `arrow${step.isReply ? " reply" : ""}`, d: line, "marker-end": "url(#arrow-head)" }));
    const middle = from === to ? { x: from + 34, anchor: "start" } : { x: (from + to) / 2, anchor: "middle" };
    parts.push(svg("text", { x: middle.x, y: y - 5, "text-anchor": middle.anchor }, `${index + 1} ${step.performative}`));
  });
  const label = `Sequence diagram of ${steps.length} messages between ${participants.join(", ")}. The table below lists them.`;
  return svg("svg", { class: "sequence", role: "img", "aria-label": label, width, height, viewBox: `0 0 ${width} ${height}` }, ...parts);
}
