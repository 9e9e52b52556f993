// How numbers, sizes and moments are written.

import { el } from "./dom.js";

let ahead = 0;

/** The server's clock, which may be another machine's. */
export const now = () => Date.now() + ahead;
export const setClock = (moment) => { ahead = moment - Date.now(); };

const whole = new Intl.NumberFormat();
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
export const number = (value) => (value === null || value === undefined ? "–" : whole.format(value));
export const brief = (value) => (value < 100_000 ? number(value) : short.format(value));
export const many = (value, one, more = `${one}s`) => `${number(value)} ${value === 1 ? one : more}`;

export function rate(value) {
  if (value === null) return "–";
  return value >= 100 ? number(Math.round(value)) : value.toFixed(value >= 10 || value === 0 ? 0 : 1);
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let place = 0;
  while (value >= 1024 && place < units.length - 1) { value /= 1024; place += 1; }
  return `${place && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[place]}`;
}

export function span(milliseconds) {
  if (milliseconds < 1000) return `${Math.max(0, Math.round(milliseconds))} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= 2 * size || (unit !== "d" && seconds >= size)) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
}

export function relative(moment) {
  const past = now() - moment;
  if (Math.abs(past) < 1500) return "now";
  return past > 0 ? `${span(Math.floor(past / 1000) * 1000)} ago`.replace(".0", "") : `in ${span(Math.floor(-past / 1000) * 1000)}`.replace(".0", "");
}

const two = (value, digits = 2) => String(value).padStart(digits, "0");

export function clock(moment, { millis = true } = {}) {
  const at = new Date(moment);
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}${millis ? `.${two(at.getMilliseconds(), 3)}` : ""}`;
}

export function day(moment) {
  const at = new Date(moment);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

export const full = (moment) => `${day(moment)} ${clock(moment)}`;

/** A moment as it is seen from now; it is kept up to date. */
export function since(moment) {
  if (moment === null || moment === undefined) return el("span", { class: "soft" }, "never");
  return el("time", { datetime: new Date(moment).toISOString(), title: full(moment), "data-at": moment }, relative(moment));
}

setInterval(() => {
  for (const node of document.querySelectorAll("time[data-at]")) {
    const text = relative(Number(node.dataset.at));
    if (node.textContent !== text) node.textContent = text;
  }
}, 1000);
