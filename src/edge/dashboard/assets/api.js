// Requests to the router: the token, problem documents, and server-sent events.
// A token is kept for this tab only, and leaves it only in the header Authorization.

const TOKEN = "caxton.token";

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** Why a request was not fulfilled: the document of RFC 9457 that the router sends, or what stands for it. */
export class Problem extends Error {
  constructor({ title, detail, reason, status, effect }) {
    super(detail);
    Object.assign(this, { title, detail, reason, status, effect });
  }

  /** Returns everything that a person can use. */
  describe() {
    const effects = {
      possible: " It may have been done, or may be done later.",
      failed: " The message was accepted and has failed.",
    };
    return `${this.title}: ${this.detail} (${this.reason})${effects[this.effect] ?? ""}`;
  }
}

const authorized = new EventTarget();

/** Calls this when a request needs a token, or another one. */
export const onLoginNeeded = (listener) => authorized.addEventListener("needed", (event) => listener(event.detail));

/** Returns the problem of a response to a request with this token. */
async function problemOf(response, used) {
  const fallback = { title: response.statusText || "Error", detail: `the router responded with the status ${response.status}`, reason: `status-${response.status}` };
  const said = await response.json().catch(() => ({}));
  const problem = new Problem({ ...fallback, ...said, status: response.status });
  // What was asked with an older token says nothing of the present one.
  if (response.status === 401 && used === token.get()) authorized.dispatchEvent(new CustomEvent("needed", { detail: problem }));
  return problem;
}

/** Makes a request. A response with an error is thrown as a problem, unless it has the status `alsoGood`. */
async function ask(method, path, { query = {}, body, headers = {}, signal, alsoGood } = {}) {
  const parameters = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value != null));
  const [own, used] = [{ ...headers }, token.get()];
  if (used) own.Authorization = `Bearer ${used}`;
  if (body !== undefined) own["Content-Type"] = "application/json";
  const options = { method, headers: own, signal, cache: "no-store", credentials: "same-origin" };
  if (body !== undefined) options.body = JSON.stringify(body);
  const suffix = parameters.size ? `?${parameters}` : "";
  let response;
  try {
    response = await fetch(path + suffix, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "No connection", detail: "the router cannot be reached", reason: "unreachable", status: 0 });
  }
  const isProblem = response.headers.get("Content-Type")?.startsWith("application/problem+json");
  if (!response.ok && (isProblem || response.status !== alsoGood)) throw await problemOf(response, used);
  return response;
}

/** Returns the JSON of a response, or nothing if it has none. */
export async function call(method, path, options) {
  const response = await ask(method, path, options);
  return response.status === 204 ? undefined : response.json();
}

export const get = (path, query) => call("GET", path, { query });

/** Returns a document whose content counts even if its status is 503, such as that of health. */
export async function getReport(path, query) {
  return (await ask("GET", path, { query, alsoGood: 503 })).json();
}

export async function getText(path) {
  return (await ask("GET", path, { headers: { Accept: "text/plain" } })).text();
}

/** Yields server-sent events as `{kind, data}`. EventSource is of no use, because it sends no token. */
export async function* events(path, signal) {
  const response = await ask("GET", path, { headers: { Accept: "text/event-stream" }, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    // A connection that breaks off ends the events, like the router.
    const { value, done } = await reader.read().catch(() => ({ done: true }));
    if (done) return;
    text += value;
    const pieces = text.split("\n\n");
    text = pieces.pop();
    for (const piece of pieces) {
      let kind = "message";
      const data = [];
      for (const line of piece.split("\n")) {
        if (line.startsWith("event: ")) kind = line.slice(7);
        else if (line.startsWith("data: ")) data.push(line.slice(6));
      }
      if (data.length) yield { kind, data: data.join("\n") };
    }
  }
}
