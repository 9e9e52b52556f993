// Elements made of text and nodes alone: nothing here, or in any other script, is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const el = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
export const svg = (name, attributes = {}, ...children) => filled(document.createElementNS(SVG, name), attributes, children);
export const byId = (id) => document.getElementById(id);

export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Bring children in line with items: what is the same stays, so that focus, selection and scrolling stay too. */
export function sync(parent, items, keyOf, make) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wasEmpty = known.size === 0;
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const mark = JSON.stringify(item);
    let child = known.get(key);
    known.delete(key);
    if (!child || child.dataset.mark !== mark) child = renewed(parent, child, make(item), key, mark, wasEmpty);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of known.values()) child.remove();
}

function renewed(parent, old, child, key, mark, wasEmpty) {
  child.dataset.key = key;
  if (!old) {
    child.dataset.mark = mark;
    if (!wasEmpty) child.classList.add("fresh");
    return child;
  }
  old.dataset.mark = mark;
  const focused = [...old.querySelectorAll("a, button")].indexOf(document.activeElement);
  old.replaceChildren(...child.childNodes);
  for (const { name, value } of [...child.attributes]) if (name !== "data-key") old.setAttribute(name, value);
  if (focused >= 0) old.querySelectorAll("a, button")[focused]?.focus();
  return old;
}
