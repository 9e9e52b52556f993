// The mark of each kind of event: told apart by form as well as by colour.

import { svg } from "./dom.js";

export const KINDS = {
  priming: "priming",
  notification: "notification",
  request: "request to the client",
  result: "result",
  error: "error",
  other: "other",
};

const SHAPES = {
  priming: (x, y, r) => ["circle", { cx: x, cy: y, r: r * 0.62 }],
  notification: (x, y, r) => ["circle", { cx: x, cy: y, r }],
  request: (x, y, r) => ["path", { d: `M${x} ${y - r * 1.3}l${r * 1.3} ${r * 1.3}l${-r * 1.3} ${r * 1.3}l${-r * 1.3} ${-r * 1.3}z` }],
  result: (x, y, r) => ["rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, rx: 1 }],
  error: (x, y, r) => ["path", { d: `M${x} ${y - r * 1.25}l${r * 1.3} ${r * 2.3}h${-r * 2.6}z` }],
  other: (x, y, r) => ["rect", { x: x - r, y: y - r * 0.5, width: 2 * r, height: r }],
  gap: (x, y, r) => ["rect", { x: x - r * 0.4, y: y - r * 2, width: r * 0.8, height: r * 4 }],
};

export function mark(kind, x, y, radius, more = {}) {
  const [shape, attributes] = SHAPES[kind](x, y, radius);
  return svg(shape, { ...attributes, ...more, class: `mark ${kind} ${more.class ?? ""}`.trim() });
}

export const icon = (kind) => svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, mark(kind, 6, 6, 3.8));
