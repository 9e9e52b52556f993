// The page of one session: who it is, its timeline, its streams and their events.

import { byId, el, say, sync } from "./dom.js";
import { bytes, clock, day, full, many, now, number, since, span } from "./format.js";
import { ask, follow, trouble } from "./live.js";
import { KINDS, icon } from "./marks.js";
import { draw } from "./timeline.js";

const SPANS = [["All", 0], ["1 h", 3600e3], ["10 min", 600e3], ["1 min", 60e3]];
const query = new URLSearchParams(location.search);
const id = query.get("id") ?? "";
let chosen = query.get("stream");
let shown = 0;
let latest = null;

// Who it is

const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value ?? "–"));

function showFacts({ session, total }) {
  const held = fact("Holds", `${number(total.events)} events in ${total.more ? "more than " : ""}${many(total.streams, "stream")}`);
  const status = session?.status ?? "not recorded";
  byId("chip").className = `chip ${status}`;
  say(byId("chip"), status);
  if (!session) { byId("facts").replaceChildren(held); return; }
  const end = session.status === "closed" ? fact("Closed", since(session.closed)) : fact("Ends, unless it is used", since(session.expires));
  byId("facts").replaceChildren(
    fact("Owner", session.owner), fact("Tenant", session.tenant), fact("Client", session.client), fact("Protocol", session.protocol),
    fact("Opened", since(session.opened)), fact("Last used", since(session.seen)), end, held);
  showInside(session);
}

function showInside({ client_info, handshake, metadata }) {
  if (handshake === undefined) return;
  byId("inside").hidden = false;
  say(byId("said-inside"), JSON.stringify({ client_info, handshake, metadata }, null, 2));
}

// Its picture

function redraw() {
  if (latest) draw(byId("timeline"), latest.streams, { shown, chosen, now: now(), choose });
}

byId("legend").append(...[...Object.keys(KINDS), "gap"].map((kind) => el("li", {}, icon(kind), KINDS[kind] ?? "never stored")));
byId("spans").append(...SPANS.map(([name, milliseconds]) => el("label", {},
  el("input", { type: "radio", name: "span", checked: milliseconds === shown, onchange: () => { shown = milliseconds; redraw(); } }), name)));
new ResizeObserver(redraw).observe(byId("timeline"));
setInterval(() => { if (latest?.streams.some((stream) => !stream.finished)) redraw(); }, 5000);

// Its streams

function link(stream) {
  const href = `?${new URLSearchParams({ id, stream: stream.key })}`;
  const onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    choose(stream.key);
  };
  return el("a", { class: "mono", href, onclick, title: `${stream.name}\n${stream.key}` }, stream.name || "(no name)");
}

function streamRow(stream) {
  const state = stream.finished ? "ended" : "open";
  return el("tr", { "aria-current": String(stream.key === chosen) },
    el("td", {}, link(stream)),
    el("td", {}, el("span", { class: `chip ${state}` }, state), stream.claimed ? el("span", { class: "soft", title: "One node writes it" }, " one writer") : null),
    el("td", { class: "number", title: stream.removed ? `${number(stream.removed)} before these were removed` : null }, number(stream.events)),
    el("td", { class: "number" }, since(stream.opened)),
    el("td", { class: "number" }, span(stream.active - stream.opened)),
    el("td", { class: "number" }, since(stream.active)));
}

function showStreams({ streams, total }) {
  sync(byId("rows"), streams.map(({ points: _points, ...stream }) => ({ ...stream, current: stream.key === chosen })), (stream) => stream.key, streamRow);
  byId("no-streams").hidden = streams.length > 0;
  const drawn = streams.filter((stream) => stream.points).length;
  const all = `${total.more ? "more than " : ""}${many(total.streams, "stream")}`;
  say(byId("drawn"), drawn < total.streams ? `The ${drawn} that were used last are drawn, of ${all}; of each its newest 100 events.` : `${all}, of each its newest 100 events.`);
}

// Their events

let before = null;
let older = false;
let rows = [];
let turn = 0;
let known = "";

function eventRow(item) {
  if (item.gap) return el("tr", {}, el("td", { class: "number" }, `${number(item.gap[0])}–${number(item.gap[1])}`), el("td", { colspan: 4 }, el("span", { class: "kind" }, icon("gap"), "were never stored")));
  return el("tr", {},
    el("td", { class: "number" }, number(item.sequence)),
    el("td", { title: full(item.at) }, el("span", { class: "soft" }, day(item.at) === day(now()) ? "" : `${day(item.at)} `), clock(item.at)),
    el("td", {}, el("span", { class: "kind" }, icon(item.kind), el("span", {}, item.kind === "error" ? `error ${item.name ?? ""}` : item.name ?? KINDS[item.kind]), item.final ? el("span", { class: "chip" }, "end") : null)),
    el("td", { class: "number", title: bytes(item.size) }, item.kind === "priming" ? "–" : number(item.size)),
    item.message === undefined ? el("td", { class: "mono soft", title: item.id }, item.id) : el("td", { class: "message mono" }, payload(item)));
}

function payload({ id: eventId, message }) {
  if (message === null) return el("span", { class: "soft", title: eventId }, eventId);
  let text = message;
  try { text = JSON.stringify(JSON.parse(message), null, 2); } catch { /* It is shown as it is. */ }
  return el("details", {}, el("summary", { title: eventId }, message.slice(0, 200)), el("pre", { tabindex: "0" }, `${eventId}\n\n${text}`));
}

function showEvents() {
  const stream = latest?.streams.find(({ key }) => key === chosen);
  if (rows.some((item) => item.message !== undefined)) say(byId("last-column"), "Message");
  say(byId("events-title"), stream ? `Events of ${stream.name || "(no name)"}` : "Events");
  byId("no-events").hidden = rows.length > 0;
  say(byId("no-events"), chosen ? "It holds no events that can be read." : "Choose a stream to see its events.");
  sync(byId("event-rows"), rows, (item) => item.id ?? `gap ${item.gap}`, eventRow);
  say(byId("events-said"), rows.length ? `${many(rows.length, "event")}, the newest first${older ? "; not live while older ones are shown" : ""}` : "");
  byId("older").hidden = before === null;
}

async function loadEvents({ further = false } = {}) {
  turn += 1;
  const mine = turn;
  try {
    const page = await ask("api/events", { session: id, stream: chosen, before: further ? before : null });
    if (mine !== turn) return;
    rows = further ? [...rows, ...page.events] : page.events;
    before = page.before;
    trouble("events", null);
  } catch (error) {
    if (mine !== turn) return;
    if (!further) [rows, before, known] = [[], null, ""];
    trouble("events", `The events cannot be read: ${error.message}`);
  }
  showEvents();
}

function choose(key) {
  chosen = key;
  [older, known, rows, before] = [false, "", [], null];
  byId("event-rows").replaceChildren();
  history.replaceState(null, "", `?${new URLSearchParams({ id, stream: key })}`);
  showSession(latest);
}

byId("older").addEventListener("click", () => { older = true; loadEvents({ further: true }); });

// All of it

function showSession(data) {
  latest = data;
  trouble("session", null);
  chosen ??= data.streams[0]?.key ?? null;
  showFacts(data);
  showStreams(data);
  redraw();
  loadNewEvents();
}

/** Load events where there are others than those that were read, or none could be. */
function loadNewEvents() {
  const mark = JSON.stringify(latest.streams.find(({ key }) => key === chosen)?.points?.at(-1) ?? chosen);
  if (chosen && !older && mark !== known) { known = mark; loadEvents(); }
}

say(byId("title"), id);
document.title = `${id} · mcp-persist-sa`;
follow(`?${new URLSearchParams({ session: id })}`, {
  session: showSession,
  condition: ({ reachable }) => { if (reachable && latest) loadNewEvents(); },
  gone: ({ error }) => { trouble("session", error); say(byId("chip"), "gone"); byId("chip").className = "chip"; },
  trouble: ({ error }) => trouble("session", error),
});
