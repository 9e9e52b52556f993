// The first page: what the store holds, and who is there.

import { byId, el, say, svg, sync } from "./dom.js";
import { brief, bytes, clock, many, number, now, rate, since } from "./format.js";
import { ask, follow, trouble } from "./live.js";

const query = new URLSearchParams(location.search);
const search = { text: query.get("text") ?? "", status: query.get("status") ?? "" };
let rows = [];
let next = null;
let older = false;
let turn = 0;

// Figures

function card(title, figure, more, { wide = false, picture = null } = {}) {
  return el("article", { class: wide ? "card wide" : "card" }, picture, el("h2", {}, title), el("div", { class: "figure" }, figure), el("div", { class: "more" }, more));
}

function rates(history) {
  const found = [];
  for (let place = 1; place < history.length; place += 1) {
    const [[before, had], [at, has]] = [history[place - 1], history[place]];
    if (at > before) found.push(Math.max(0, has - had) / ((at - before) / 1000));
  }
  return found;
}

function present(history) {
  const [last, first] = [history.at(-1), history.findLast(([at]) => at <= history.at(-1)?.[0] - 9000) ?? history[0]];
  return last && first && last[0] > first[0] ? Math.max(0, last[1] - first[1]) / ((last[0] - first[0]) / 1000) : null;
}

function sparkline(values) {
  if (values.length < 2) return null;
  const most = Math.max(...values, 1e-9);
  const points = values.map((value, place) => `${((place / (values.length - 1)) * 100).toFixed(2)} ${(38 - (value / most) * 34).toFixed(2)}`);
  return svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "spark-area", d: `M0 40L${points.join("L")}L100 40z` }),
    svg("path", { class: "spark-line", d: `M${points.join("L")}` }));
}

function showFigures(data) {
  trouble("figures", data.error ? `The figures cannot be read: ${data.error}` : null);
  if (data.error) return;
  const { last_minute: minute, last_hour: hour } = data;
  const expired = data.sessions_expired ? ` · ${number(data.sessions_expired)} expired` : "";
  byId("cards").replaceChildren(
    card("Events a second", rate(present(data.history)), `${many(minute.streams, "stream")} opened in the last minute`, { wide: true, picture: sparkline(rates(data.history)) }),
    card("Open sessions", brief(data.sessions_open), `of ${many(data.sessions, "session")}${expired}`),
    card("Open streams", brief(data.streams_unfinished), `of ${many(data.streams, "stream")}`),
    card("Events stored", brief(data.events), data.oldest_stream === null ? "none yet" : el("span", {}, "the first stream ", since(data.oldest_stream))),
    card("Last hour", brief(hour.sessions), `${hour.sessions === 1 ? "session" : "sessions"} opened, ${many(hour.streams, "stream")}`),
    card("Size", bytes(data.disk_bytes), "of all that is kept"),
    card("Nodes", number(data.nodes), data.nodes === 1 ? "serves" : data.nodes ? "serve" : "none serves now"),
  );
  showLargest(data.largest);
  if (!search.text && !search.status && !older) load();
}

function showLargest(largest) {
  const most = largest[0]?.events || 1;
  byId("no-largest").hidden = largest.length > 0;
  sync(byId("largest"), largest.map((each, place) => ({ ...each, most, place })), (each) => each.session_id ?? `unrecorded ${each.place}`, (each) => {
    const bar = el("span", {});
    bar.style.width = `${(100 * each.events) / most}%`;
    const name = each.session_id === null ? el("span", { class: "soft" }, "never recorded") : sessionLink(each.session_id);
    return el("li", { title: many(each.streams, "stream") }, el("span", { class: "line" }, name, el("span", {}, brief(each.events))), el("span", { class: "bar" }, bar));
  });
}

// Sessions

const sessionLink = (id) => el("a", { class: "mono", href: `session.html?${new URLSearchParams({ id })}`, title: id }, id);
const text = (value, kind = "") => (value === null ? el("td", { class: `soft ${kind}` }, "–") : el("td", { class: kind, title: value }, value));

function row(session) {
  const ends = session.status === "closed" ? el("span", { class: "soft" }, since(session.closed)) : since(session.expires);
  return el("tr", { class: session.status },
    el("td", {}, sessionLink(session.id)), el("td", { class: "roomy" }, el("span", { class: `chip ${session.status}` }, session.status)),
    text(session.owner), text(session.tenant, "roomy"), text(session.client, "roomy"),
    el("td", { class: "number roomy" }, since(session.opened)), el("td", { class: "number" }, since(session.seen)), el("td", { class: "number roomy" }, ends));
}

function showSessions(lookedAt) {
  sync(byId("rows"), rows, (session) => session.id, row);
  const searched = Boolean(search.text || search.status);
  byId("nothing").hidden = rows.length > 0;
  say(byId("nothing"), searched ? "No session is found." : "There are no sessions. Clients open them when they connect.");
  const found = searched ? `${many(rows.length, "session")} found, ${number(lookedAt)} looked at, at ${clock(now(), { millis: false })}` : many(rows.length, "session");
  say(byId("said"), `${found}${!searched && !older ? ", the newest first" : ""}${older && !searched ? "; not live while older ones are shown" : ""}`);
  byId("more").hidden = next === null;
  say(byId("more"), searched ? "Look further back" : "Older sessions");
}

let looked = 0;

async function load({ further = false } = {}) {
  turn += 1;
  const mine = turn;
  try {
    const page = await ask("api/sessions", { ...search, after: further ? next : null });
    if (mine !== turn) return;
    const known = new Set(further ? rows.map((session) => session.id) : []);
    rows = further ? [...rows, ...page.sessions.filter((session) => !known.has(session.id))] : page.sessions;
    looked = further ? looked + page.looked_at : page.looked_at;
    next = page.next;
    trouble("sessions", null);
    showSessions(looked);
  } catch (error) {
    if (mine === turn) trouble("sessions", `The sessions cannot be read: ${error.message}`);
  }
}

function searchAnew() {
  search.text = byId("text").value.trim();
  search.status = byId("status").value;
  older = false;
  const kept = new URLSearchParams(Object.entries(search).filter(([, value]) => value));
  history.replaceState(null, "", kept.size ? `?${kept}` : "./");
  load();
}

let typing = 0;
byId("text").value = search.text;
byId("status").value = search.status;
byId("text").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(searchAnew, 250); });
byId("status").addEventListener("change", searchAnew);
byId("search").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); searchAnew(); });
byId("more").addEventListener("click", () => { older = true; load({ further: true }); });
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && document.activeElement === document.body) { event.preventDefault(); byId("text").focus(); }
});

load();
follow("", { figures: showFigures });
