// A plot of the last minutes: lines over time, told apart by colour and by dashes.

import { element, setText, svg } from "./dom.js";

/** The time that a plot shows, in seconds. */
const SHOWN = 180;
const HEIGHT = 176;
const MARGIN = { top: 8, right: 8, bottom: 20, left: 58 };

/** Returns steps of 1, 2 or 5 times a power of ten, up to above the maximum. */
function steps(max) {
  const raw = max / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw);
  const list = [];
  for (let index = 0; list.length === 0 || list.at(-1) < max; index++) list.push(index * step);
  return list;
}

export class Plot {
  /** Creates a plot in a figure, with lines of these names, whose values `format` writes. `least` is the least scale. */
  constructor(figure, title, names, format, least) {
    Object.assign(this, { title, names, format, least, samples: [], cursor: null });
    this.picture = svg("svg", { class: "plot", role: "img" });
    this.values = names.map(() => element("span"));
    const keys = names.map((name, index) => {
      const line = svg("svg", { viewBox: "0 0 28 8", "aria-hidden": "true" }, svg("path", { d: "M0 4H28", class: `series series-${index}` }));
      return element("li", {}, line, ` ${name} `, this.values[index]);
    });
    this.at = element("li");
    figure.append(element("figcaption", { textContent: title }), element("ul", { className: "legend" }, ...keys, this.at), this.picture);
    new ResizeObserver(() => this.draw()).observe(figure);
    this.picture.addEventListener("pointermove", (event) => {
      this.cursor = event.clientX - this.picture.getBoundingClientRect().left;
      this.draw();
    });
    this.picture.addEventListener("pointerleave", () => {
      this.cursor = null;
      this.draw();
    });
  }

  /** Adds values of a moment in seconds; null where there is none. */
  add(time, values) {
    this.samples.push({ time, values });
    while (this.samples[0].time < time - SHOWN) this.samples.shift();
    this.draw();
  }

  draw() {
    const width = this.picture.clientWidth;
    const last = this.samples.at(-1);
    if (!width || !last) return;
    const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
    const ticks = steps(Math.max(this.least, ...this.samples.flatMap(({ values }) => values)));
    const x = (time) => MARGIN.left + (1 - (last.time - time) / SHOWN) * inner.width;
    const y = (value) => MARGIN.top + (1 - value / ticks.at(-1)) * inner.height;
    const parts = [];
    for (const tick of ticks) {
      parts.push(svg("path", { class: "grid-line", d: `M${MARGIN.left} ${y(tick)}H${width - MARGIN.right}` }));
      parts.push(svg("text", { x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" }, this.format(tick)));
    }
    for (const [ago, text, anchor] of [[SHOWN, "3 min ago", "start"], [SHOWN / 2, "", "middle"], [0, "now", "end"]]) {
      parts.push(svg("text", { x: x(last.time - ago), y: HEIGHT - 4, "text-anchor": anchor }, text));
    }
    this.names.forEach((_, index) => {
      let path = "", drawing = false;
      for (const { time, values } of this.samples) {
        const value = values[index];
        if (value != null) path += `${drawing ? "L" : "M"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
        drawing = value != null;
      }
      parts.push(svg("path", { class: `series series-${index}`, d: path || "M0 0" }));
    });
    const shown = this.pointedAt(x) ?? last;
    if (shown !== last) parts.push(svg("path", { class: "cursor", d: `M${x(shown.time)} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}` }));
    this.picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.picture.replaceChildren(...parts);
    this.values.forEach((place, index) => setText(place, this.format(shown.values[index])));
    setText(this.at, shown === last ? "" : `${Math.round(last.time - shown.time)} s ago`);
    const now = this.names.map((name, index) => `${name} ${this.format(last.values[index])}`);
    this.picture.setAttribute("aria-label", `${this.title}, now: ${now.join(", ")}`);
  }

  pointedAt(x) {
    if (this.cursor == null) return null;
    const distance = ({ time }) => Math.abs(x(time) - this.cursor);
    return this.samples.reduce((best, sample) => (distance(sample) < distance(best) ? sample : best));
  }
}
