// What the sections share: elements, tables whose rows keep their place, problems, announcements, numbers and times.

export const byId = (id) => document.getElementById(id);

/** Creates an element. Strings among the children become text, never markup. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Sets a text only if it differs, so that a screen reader says nothing twice and a selection stays. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const button = (text, action, properties = {}) => {
  const made = element("button", { type: "button", textContent: text, ...properties });
  made.addEventListener("click", action);
  return made;
};

/**
 * Makes the rows of a table those of these items. A row that stays keeps its elements, and so its focus.
 * A column is `{text, className, head, fill}`: `fill(cell, item)` is for cells that are more than text.
 */
export function fillTable(body, items, keyOf, columns) {
  const present = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  let place = body.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let row = present.get(key);
    present.delete(key);
    if (!row) {
      row = element("tr");
      row.dataset.key = key;
      for (const column of columns) {
        const cell = element(column.head ? "th" : "td", { className: column.className ?? "" });
        if (column.head) cell.scope = "row";
        row.append(cell);
      }
    }
    columns.forEach((column, index) => {
      if (column.fill) column.fill(row.cells[index], item);
      else setText(row.cells[index], String(column.text(item) ?? ""));
    });
    if (row === place) place = place.nextElementSibling;
    else body.insertBefore(row, place);
  }
  for (const row of present.values()) row.remove();
}

/** Shows the buttons of a row; they are made again only if their words change. */
export function fillActions(cell, actions) {
  const words = actions.map(({ name }) => name).join("|");
  if (cell.dataset.words === words) return;
  cell.dataset.words = words;
  const hadFocus = cell.contains(document.activeElement);
  cell.replaceChildren(...actions.map(({ text, name, act, className = "" }) => button(text, act, { ariaLabel: name, className })));
  if (hadFocus) cell.querySelector("button")?.focus();
}

/** The problems of each section: of the last action of a person, and of what is loaded now and then. */
const problems = new Map();

/** Shows a problem in a section, or hides what was shown. An action's stays until another action. */
export function showProblem(section, problem, kind = "loading") {
  problems.set(section, { ...problems.get(section), [kind]: problem });
  const { action, loading } = problems.get(section);
  // What concerns the whole page is said at its top.
  const own = [action, loading].find((one) => one && one.status !== 401 && one.reason !== "unreachable");
  const place = section.querySelector(".problem");
  place.hidden = !own;
  setText(place, own ? describe(own) : "");
}

/** Carries out an action of a person, and shows why it failed. */
export async function attempt(section, action) {
  try {
    await action();
    showProblem(section, null, "action");
  } catch (problem) {
    showProblem(section, problem, "action");
  }
}

export const describe = (problem) => (problem.describe ? problem.describe() : `Error of this page: ${problem.message}`);

/** Says something to those who do not see it. */
export function announce(text) {
  const news = byId("news");
  news.textContent = "";
  news.textContent = text;
}

/** Runs a task now and then at this interval, while the page is visible. One run ends before the next one begins. */
export function every(interval, task) {
  let timer;
  const run = async () => {
    clearTimeout(timer);
    if (!document.hidden) await task();
    clearTimeout(timer);
    timer = setTimeout(run, interval);
  };
  document.addEventListener("visibilitychange", () => document.hidden || (clearTimeout(timer), timer = setTimeout(run, 0)));
  return run();
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (number) => (number == null ? "" : whole.format(number));

/** Returns a number with three digits and a unit for thousands. */
export function brief(number) {
  if (number == null || Number.isNaN(number)) return "-";
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(number) >= size) return `${short.format(number / size)} ${unit}`;
  }
  return short.format(number);
}

export function bytes(number) {
  if (number == null) return "";
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (number >= size) return `${short.format(number / size)} ${unit}`;
  }
  return `${whole.format(number)} B`;
}

/** Returns a length of time, given in seconds. */
export function duration(seconds) {
  if (seconds == null || Number.isNaN(seconds)) return "-";
  if (seconds === 0) return "0 s";
  if (seconds < 1e-3) return `${short.format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${short.format(seconds * 1e3)} ms`;
  if (seconds < 120) return `${short.format(seconds)} s`;
  if (seconds < 7200) return `${short.format(seconds / 60)} min`;
  if (seconds < 172800) return `${short.format(seconds / 3600)} h`;
  return `${short.format(seconds / 86400)} d`;
}

/** Returns the time of a moment, given in milliseconds since 1970: with its date if it is not of today. */
export function moment(milliseconds) {
  const date = new Date(milliseconds);
  const time = date.toLocaleTimeString("en-GB");
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString("en-CA")} ${time}`;
}
