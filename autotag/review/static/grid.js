/** The grid of photographs. Only the rows near the screen are in the document, however long the list is. */

import { byId, make, shownScore } from "./dom.js";
import { store } from "./store.js";

/** @typedef {import("./api.js").Photo} Photo */
/** @typedef {import("./api.js").Tag} Tag */

const WIDE = 160; // pixels that a tile wants
const GAP = 12;
const CHIPS = 34;
const AROUND = 3; // rows kept above and below the screen
const SETTLED = 40; // milliseconds without scrolling after which missing photographs are asked for

const scroll = byId("scroll");
const grid = byId("grid");

/** @type {Map<number, HTMLElement>} */ const rows = new Map();
let columns = 1;
let height = 1;
let settle = 0;
let near = { first: 0, last: -1 }; // the places near the screen; the row of the focus may be far from them

/** Put the grid on the page. */
export function startGrid() {
  new ResizeObserver(layOut).observe(scroll);
  scroll.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  grid.addEventListener("click", clicked);
  store.addEventListener("list", () => {
    scroll.scrollTop = 0;
    layOut();
  });
  store.addEventListener("photos", fill);
  store.addEventListener("focus", () => {
    reveal();
    fill();
  });
}

/** How many photographs stand in a row. */
export const perRow = () => columns;

/** How many rows fit on the screen. */
export const rowsOnScreen = () => Math.max(1, Math.floor(scroll.clientHeight / (height + GAP)));

/** Put the keyboard's focus on the photograph in hand. */
export function focusTile() {
  tile(store.focused)?.focus({ preventScroll: true });
}

/** Lay the rows out for the width that there is. */
function layOut() {
  const width = scroll.clientWidth - 2 * parseFloat(getComputedStyle(scroll).paddingLeft);
  if (width <= 0) return;
  const first = Math.floor(scroll.scrollTop / (height + GAP)) * columns;
  columns = Math.max(2, Math.floor((width + GAP) / (WIDE + GAP)));
  height = Math.round(((width - GAP * (columns - 1)) / columns) * 0.7) + CHIPS;
  const count = Math.ceil(store.total / columns);
  grid.style.height = `${Math.max(0, count * (height + GAP) - GAP)}px`;
  grid.setAttribute("aria-rowcount", String(count));
  grid.setAttribute("aria-colcount", String(columns));
  for (const row of rows.values()) row.remove();
  rows.clear();
  scroll.scrollTop = Math.floor(first / columns) * (height + GAP);
  draw();
}

/** Bring the rows into the document that are near the screen, and take the others out. */
function draw() {
  const count = Math.ceil(store.total / columns);
  const top = Math.floor(scroll.scrollTop / (height + GAP));
  const bottom = top + Math.ceil(scroll.clientHeight / (height + GAP));
  const last = Math.min(count - 1, bottom + AROUND);
  const first = Math.max(0, top - AROUND);
  const held = Math.floor(store.focused / columns); // the focus must not fall out of the document
  for (const [number, row] of rows) {
    if ((number < first || number > last) && number !== held) {
      for (const picture of row.querySelectorAll("img")) picture.removeAttribute("src"); // no longer wanted
      row.remove();
      rows.delete(number);
    }
  }
  const onScreen = (/** @type {number} */ number) => number >= top && number <= bottom;
  const missing = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i).filter((number) => !rows.has(number));
  missing.sort((one, two) => +onScreen(two) - +onScreen(one)); // pictures come in the order in which they were asked for
  for (const number of missing) addRow(number);
  if (held < count && !rows.has(held)) addRow(held);
  near = { first: first * columns, last: Math.min(store.total, (last + 1) * columns) - 1 };
  clearTimeout(settle);
  settle = setTimeout(() => store.need(near.first, near.last), SETTLED);
}

/** @param {number} number */
function addRow(number) {
  const row = make("div.grid-row", { role: "row", "aria-rowindex": number + 1 });
  row.style.transform = `translateY(${number * (height + GAP)}px)`;
  row.style.height = `${height}px`;
  row.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  for (let column = 0; column < columns; column++) {
    const place = number * columns + column;
    if (place >= store.total) break;
    const cell = make("div.tile", { role: "gridcell", "aria-colindex": column + 1, "data-place": place, tabindex: -1 });
    show(cell, place);
    row.append(cell);
  }
  const after = [...rows.keys()].filter((other) => other > number).sort((one, two) => one - two)[0];
  grid.insertBefore(row, after === undefined ? null : rows.get(after)); // screen readers go by the document
  rows.set(number, row);
}

/** Show again what every tile is about. */
function fill() {
  for (const row of rows.values()) for (const cell of row.children) show(/** @type {any} */ (cell), +cell.dataset.place);
  store.need(near.first, near.last);
}

/** @param {any} cell @param {number} place */
function show(cell, place) {
  const photo = store.photo(place);
  const inHand = place === store.focused;
  cell.setAttribute("aria-selected", String(inHand));
  cell.tabIndex = inHand ? 0 : -1;
  const looks = photo ? JSON.stringify([photo, store.where.tag]) : "";
  if (cell.looks === looks && cell.firstChild) return;
  cell.looks = looks;
  if (!photo) {
    cell.setAttribute("aria-label", "Loading");
    cell.replaceChildren(make("div.photo"), make("div.chips"));
    return;
  }
  cell.setAttribute("aria-label", label(photo));
  const old = cell.querySelector(".photo");
  const picture = old?.of === photo.small && photo.small ? old : pictureOf(photo);
  cell.replaceChildren(picture, make("div.chips", {}, ...chipsOf(photo)));
  picture.querySelector(".decide")?.remove();
  const tag = photo.tags.find((one) => one.text === store.where.tag);
  if (tag) picture.append(decideOf(photo, tag));
}

/** @param {Photo} photo */
function pictureOf(photo) {
  const name = photo.file.slice(photo.file.lastIndexOf("/") + 1);
  const words = make("span", {}, photo.status === "missing" ? `${name} is not there any more` : name);
  const frame = make("div.photo", {}, words);
  frame.of = photo.small;
  if (photo.small) {
    const image = make("img", { alt: "", decoding: "async", draggable: "false" });
    image.addEventListener("load", () => image.classList.add("here"));
    image.addEventListener("error", () => image.getAttribute("src") && (words.textContent = `${name} cannot be shown`));
    image.src = photo.small;
    frame.append(image);
  }
  if (photo.status !== "as planned") frame.append(make("span.badge", {}, photo.status));
  return frame;
}

/** The tag that is looked for stands first, rejected ones last. @param {Photo} photo */
function chipsOf(photo) {
  const rank = (/** @type {Tag} */ tag) => (tag.text === store.where.tag ? 0 : tag.state === "rejected" ? 2 : 1);
  const tags = [...photo.tags].sort((one, two) => rank(one) - rank(two));
  if (!tags.length) return [make("span.chip.none", {}, "no tags")];
  return tags.map((tag) => make(`span.chip.${tag.state}`, {}, tag.text));
}

/** Two buttons for the mouse; keys y and n do the same. @param {Photo} photo @param {Tag} tag */
function decideOf(photo, tag) {
  const button = (/** @type {"confirm"|"reject"} */ action, /** @type {string} */ sign) => {
    const on = tag.state === `${action}ed`;
    const attributes = {
      "data-action": on ? "reset" : action, "aria-pressed": on, tabindex: -1,
      "aria-label": `${action} ${tag.text} in ${photo.file}`, title: `${action} (${action === "confirm" ? "y" : "n"})`,
    };
    return make(action === "confirm" ? "button.yes" : "button.no", attributes, sign);
  };
  const set = tag.state === "undecided" ? "div.decide" : "div.decide.set";
  return make(set, {}, button("confirm", "✓"), button("reject", "✕"));
}

/** @param {Photo} photo */
function label(photo) {
  const tags = photo.tags.map((tag) => `${tag.text} ${tag.state}, ${shownScore(tag.score)}`).join("; ");
  const status = photo.status === "as planned" ? "" : `, ${photo.status} since the plan was made`;
  return `${photo.file}${status}. ${photo.caption ? `${photo.caption}. ` : ""}${tags || "no tags"}`;
}

/** @param {MouseEvent} event */
function clicked(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const cell = /** @type {HTMLElement|null} */ (target.closest(".tile"));
  if (!cell) return;
  const place = Number(cell.dataset.place);
  const photo = store.photo(place);
  const action = /** @type {HTMLElement|null} */ (target.closest("[data-action]"))?.dataset.action;
  store.focus(place);
  focusTile();
  if (photo && action) store.decide({ action, tag: store.where.tag, photos: [photo.id] }, { quiet: true });
}

/** Scroll so that the photograph in hand can be seen. */
function reveal() {
  const top = Math.floor(store.focused / columns) * (height + GAP);
  if (top < scroll.scrollTop) scroll.scrollTop = top;
  else if (top + height > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = top + height - scroll.clientHeight + GAP;
  draw();
}

/** @param {number} place @returns {HTMLElement|null} */
const tile = (place) => grid.querySelector(`[data-place="${place}"]`);
