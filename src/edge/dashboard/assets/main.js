// The dashboard: brings the sections together, and says when what they show is asked for.

import { get, getText, onLoginNeeded, token } from "./api.js";
import { refreshAgents } from "./agents.js";
import { refreshConversation } from "./conversations.js";
import { announce, byId, count, describe, duration, every, setText, showProblem } from "./dom.js";
import { followEvents, stopEvents } from "./events.js";
import { refreshHealth } from "./health.js";
import { offerReason, refreshLetters } from "./letters.js";
import "./send.js";
import { parseMetrics } from "./metrics.js";
import { refreshSlow, showShards } from "./shards.js";
import { showTraffic } from "./traffic.js";

/** How often figures are asked for, in milliseconds. */
const SAMPLE = 1000;
const OFTEN = 2000;
const SELDOM = 5000;

let loggedOut = false;
let connected = null;
let lettersChanged = true;

/** Returns the metrics, or null if they cannot be had: the page shows what it has without them. */
async function scrape() {
  try {
    return parseMetrics(await getText("/metrics"));
  } catch {
    return null;
  }
}

async function sample() {
  try {
    const [stats, metrics] = await Promise.all([get("/v1/stats"), scrape()]);
    const now = { time: performance.now() / 1000, stats, metrics };
    setConnected(true);
    setText(byId("uptime"), `running for ${duration(stats.running_for_ms / 1000)}`);
    setText(byId("violations-count"), count(stats.protocol_violations));
    Object.keys(stats.account.dead_lettered_by_reason).forEach(offerReason);
    showTraffic(now);
    showShards(now);
    showProblem(byId("traffic"), null);
  } catch (problem) {
    if (problem.status !== 401) setConnected(problem.reason !== "unreachable");
    showProblem(byId("traffic"), problem);
  }
}

function setConnected(now) {
  if (connected === now) return;
  if (connected !== null) announce(now ? "Connected again" : "The connection to the router is lost");
  connected = now;
  setText(byId("connection"), now ? "Connected" : "■ Not connected");
  byId("connection").className = now ? "" : "bad";
  const trouble = byId("trouble");
  trouble.hidden = now;
  trouble.textContent = now ? "" : "No connection: the router cannot be reached. What is shown is old. The page tries again.";
}

/** Runs a task as long as no token is missing. */
const unlessLoggedOut = (task) => async () => {
  if (!loggedOut) await task();
};

async function refreshChangedLetters() {
  if (!lettersChanged) return;
  lettersChanged = false;
  await refreshLetters();
}

const follow = () => followEvents(() => {
  lettersChanged = true;
});

function start() {
  every(SAMPLE, unlessLoggedOut(sample));
  every(SAMPLE, unlessLoggedOut(refreshConversation));
  every(SAMPLE, unlessLoggedOut(refreshChangedLetters));
  every(OFTEN, unlessLoggedOut(refreshSlow));
  every(SELDOM, unlessLoggedOut(refreshHealth));
  every(SELDOM, unlessLoggedOut(refreshAgents));
  follow();
}

onLoginNeeded((problem) => {
  if (loggedOut) return;
  loggedOut = true;
  stopEvents();
  byId("login").hidden = false;
  byId("content").hidden = true;
  byId("logout").hidden = true;
  setText(byId("connection"), "Not logged in");
  const place = byId("login").querySelector(".problem");
  // The first visit has no token: that is no mistake of anybody.
  place.hidden = problem.reason === "token-missing";
  setText(place, place.hidden ? "" : describe(problem));
  token.forget();
  byId("token").focus();
});

byId("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = byId("token");
  token.set(field.value.trim());
  field.value = "";
  loggedOut = false;
  try {
    await get("/v1/stats");
  } catch (problem) {
    // It was said already. A token that permits less than this page shows is a token all the same.
    if (problem.status === 401) return;
  }
  byId("login").hidden = true;
  byId("content").hidden = false;
  byId("logout").hidden = false;
  connected = null;
  lettersChanged = true;
  announce("Logged in");
  byId("main").focus();
  follow();
});

byId("logout").addEventListener("click", () => {
  token.forget();
  location.reload();
});
byId("logout").hidden = !token.get();

byId("theme").value = document.documentElement.dataset.theme ?? "";
byId("theme").addEventListener("change", ({ target }) => {
  if (target.value) {
    document.documentElement.dataset.theme = target.value;
    localStorage.setItem("caxton.theme", target.value);
  } else {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("caxton.theme");
  }
});

start();
