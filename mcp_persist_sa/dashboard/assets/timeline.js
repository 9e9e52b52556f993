// The picture of a session: a lane for each stream, a mark for each event.

import { svg } from "./dom.js";
import { bytes, clock, day, full, number } from "./format.js";
import { KINDS, mark } from "./marks.js";

const LANE = 27;
const HEAD = 27;
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 900e3, 1800e3, 3600e3, 7200e3, 21600e3, 43200e3, 86400e3, 172800e3, 604800e3, 2592000e3, 31536000e3];

function range(lanes, shown, now) {
  const live = lanes.some((lane) => !lane.finished);
  const last = Math.max(...lanes.map((lane) => lane.active));
  const to = live ? Math.max(now, last) : last;
  const from = shown ? to - shown : Math.min(...lanes.map((lane) => lane.opened));
  const room = Math.max((to - from) * 0.015, 2);
  return { from: from - (shown ? 0 : room), to: to + room, live };
}

function label(moment, step) {
  if (step >= 86400e3) return day(moment);
  return clock(moment, { millis: step < 1000 }).slice(0, step >= 60e3 ? 5 : undefined);
}

function axis({ from, to }, left, width, height, place) {
  const room = width < 500 ? 86 : 112;
  const wanted = (to - from) / Math.max(1, (width - left) / room);
  const step = STEPS.find((each) => each >= wanted) ?? STEPS.at(-1);
  const offset = new Date(from).getTimezoneOffset() * 60e3;
  const group = svg("g", {});
  for (let moment = Math.ceil((from - offset) / step) * step + offset; moment <= to; moment += step) {
    const x = Math.round(place(moment)) + 0.5;
    group.append(svg("line", { class: "grid", x1: x, x2: x, y1: HEAD - 5, y2: height }));
    if (x < width - 34) group.append(svg("text", { x, y: 15, "text-anchor": x < left + 30 ? "start" : "middle" }, label(moment, step)));
  }
  return group;
}

function told(point) {
  const [sequence, at, kind, name, size, final] = point;
  return [`No. ${number(sequence)}`, name ?? KINDS[kind], kind === "priming" ? null : bytes(size), full(at), final ? "ends the stream" : null].filter(Boolean).join(" · ");
}

/** The marks of a lane; of several of one kind in the same place, one is drawn. */
function marks(lane, y, place, left) {
  const drawn = [];
  const last = {};
  let at = lane.opened;
  for (const point of lane.points) {
    const isGap = point.length === 2;
    const kind = isGap ? "gap" : point[2];
    at = isGap ? at : point[1];
    const x = place(at);
    const final = !isGap && point[5];
    if (x < left - 2 || (!final && x - (last[kind] ?? -9) < 2.5)) continue;
    last[kind] = x;
    const title = svg("title", {}, isGap ? `Events ${number(point[0])} to ${number(point[1])} were never stored` : told(point));
    const node = mark(kind, x, y, final ? 4.6 : 3.6, final ? { class: "final" } : {});
    node.append(title);
    drawn.push(node);
  }
  return drawn;
}

function lines(lane, y, place, left, now) {
  const stored = lane.points.filter((point) => point.length > 2);
  const missing = lane.events > stored.length;
  const begin = Math.max(left, place(lane.opened));
  const known = missing && stored.length ? Math.max(begin, place(stored[0][1])) : begin;
  const stop = Math.max(begin, place(lane.finished ? lane.active : Math.max(now, lane.active)));
  const found = [svg("line", { class: "span-line", x1: known, x2: Math.max(known, stop), y1: y, y2: y })];
  if (missing) found.push(svg("line", { class: "span-line unread", x1: begin, x2: known, y1: y, y2: y }));
  return found;
}

function shortened(text, letters) {
  return text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
}

/** Draw lanes into a box. `choose` is called with the key of a stream that is clicked. */
export function draw(box, streams, { shown, chosen, now, choose }) {
  const lanes = streams.filter((stream) => stream.points).sort((one, other) => other.opened - one.opened || (one.key < other.key ? -1 : 1));
  const width = box.clientWidth;
  if (!lanes.length || !width) { box.replaceChildren(); return; }
  const seen = range(lanes, shown, now);
  const visible = lanes.filter((lane) => lane.active >= seen.from || !lane.finished);
  const left = width < 620 ? 96 : 190;
  const height = HEAD + visible.length * LANE + 6;
  const place = (moment) => left + ((moment - seen.from) / (seen.to - seen.from)) * (width - left - 16);
  const said = `Timeline of ${visible.length} streams from ${full(seen.from)} to ${full(seen.to)}. The table of streams below says the same in words.`;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": said });
  const groups = visible.map((lane, number) => laneOf(lane, HEAD + number * LANE, { left, width, place, now, chosen, choose }));
  const backs = groups.map(({ back }) => back);
  picture.append(...backs, axis(seen, left, width, height, place), ...groups.map(({ front }) => front));
  if (seen.live) picture.append(svg("line", { class: "now", x1: place(now), x2: place(now), y1: HEAD - 5, y2: height }));
  const scrolled = box.scrollTop;
  box.replaceChildren(picture);
  box.scrollTop = scrolled;
}

function laneOf(lane, top, { left, width, place, now, chosen, choose }) {
  const y = top + LANE / 2;
  const letters = Math.floor((left - 26) / 7.6);
  const on = { onclick: () => choose(lane.key) };
  const kind = `lane${lane.key === chosen ? " chosen" : ""}`;
  const back = svg("g", { class: kind, ...on }, svg("rect", { class: "back", x: 0, y: top, width, height: LANE }));
  const name = svg("text", { class: "name", x: 15, y: y + 4 }, shortened(lane.name, letters));
  name.append(svg("title", {}, lane.name));
  const front = svg("g", { class: kind, ...on }, name, ...lines(lane, y, place, left, now), ...marks(lane, y, place, left));
  return { back, front };
}
