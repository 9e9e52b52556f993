// The connection to the dashboard, and what the head of each page says of the store.

import { byId, say } from "./dom.js";
import { clock, setClock } from "./format.js";

const HEARD = { local: "Live", listening: "Live", polling: "Polled", reconnecting: "Listening again" };
const troubles = new Map();

/** Show a trouble, or end it with null; the one that was told first stands. */
export function trouble(name, text) {
  if (text) troubles.set(name, text);
  else troubles.delete(name);
  const [first] = troubles.values();
  const banner = byId("banner");
  banner.hidden = !first;
  say(banner, first ?? "");
  document.documentElement.classList.toggle("away", troubles.has("store") || troubles.has("dashboard"));
}

function pill(text, kind) {
  const node = byId("condition");
  say(node, text);
  node.className = `condition ${kind}`;
}

function showCondition(data, isFollowed) {
  if (data.reachable === undefined) {
    trouble("store", `How the database is cannot be told: ${data.error}`);
    pill("Not known", "bad");
  } else if (data.reachable) {
    trouble("store", null);
    const latency = data.latency < 0.001 ? "under 1 ms" : `${Math.round(data.latency * 1000)} ms`;
    pill(`${isFollowed ? HEARD[data.mode] : "Reachable"} · ${latency}`, "good");
  } else {
    trouble("store", `The database has been away since ${clock(data.since, { millis: false })}: ${data.error} It is tried again all the time; what is shown was read before.`);
    pill(`Away since ${clock(data.since, { millis: false })}`, "bad");
  }
}

async function ended(source) {
  pill("Not connected", "bad");
  if (source.readyState !== EventSource.CLOSED) {
    trouble("dashboard", "The dashboard does not answer. Has it been ended?");
    return;
  }
  const response = await fetch(source.url);
  const answer = response.status === 403 ? {} : await response.json().catch(() => ({}));
  trouble("dashboard", answer.error ?? "The dashboard has a new address: see what `mcp-persist-sa dashboard` has printed.");
}

/** Follow the feed while the page can be seen: nobody asks the database for a page that is not looked at. */
export function follow(query, tellers) {
  let source = null;
  const begin = () => {
    source = new EventSource(`feed${query}`);
    source.onopen = () => trouble("dashboard", null);
    source.onerror = () => ended(source);
    for (const [name, tell] of Object.entries({ ...tellers, condition: tellers.condition ?? (() => {}) })) {
      source.addEventListener(name, ({ data }) => {
        const news = JSON.parse(data);
        if (news.now) setClock(news.now);
        if (name === "condition") showCondition(news, Boolean(tellers.session));
        tell(news);
      });
    }
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else begin();
  });
  if (!document.hidden) begin();
}

export async function ask(path, values = {}) {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const response = await fetch(`${path}?${new URLSearchParams(given)}`);
  const answer = await response.json().catch(() => ({ error: `The dashboard answered ${response.status}.` }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

ask("api/store").then(({ name, namespace }) => {
  say(byId("where"), namespace ? `${name} · namespace ${namespace}` : name);
  byId("where").title = name;
}, () => {});
