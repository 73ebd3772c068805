/** The keyboard. */

import { helpDialog } from "./dialogs.js";
import { byId } from "./dom.js";
import { clearOne, openFilters, rename } from "./filters.js";
import { focusTile, perRow, rowsOnScreen } from "./grid.js";
import { decideHere, turn } from "./inspector.js";
import { store } from "./store.js";

/** @param {number} steps */
function move(steps) {
  store.focus(store.focused + steps);
  focusTile();
}

/** @param {"confirm"|"reject"} action */
function decideAndMove(action) {
  decideHere(action);
  move(1);
}

/** @type {Object<string, () => void>} */
const ANYWHERE = {
  j: () => move(1),
  k: () => move(-1),
  y: () => decideAndMove("confirm"),
  n: () => decideAndMove("reject"),
  a: () => byId("add-tag")?.focus(),
  r: rename,
  u: () => store.undo(),
  "/": () => byId("text").focus(),
  "?": helpDialog,
};

/** @type {Object<string, () => void>} */
const IN_GRID = {
  ArrowRight: () => move(1),
  ArrowLeft: () => move(-1),
  ArrowDown: () => move(perRow()),
  ArrowUp: () => move(-perRow()),
  PageDown: () => move(perRow() * rowsOnScreen()),
  PageUp: () => move(-perRow() * rowsOnScreen()),
  Home: () => move(-store.total),
  End: () => move(store.total),
};

/** @param {Element|null} element */
const takesText = (element) => element instanceof HTMLInputElement && !["radio", "range", "checkbox"].includes(element.type);

/** Listen to keys. */
export function startKeys() {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const active = document.activeElement;
    if (event.key === "Escape") {
      if (byId("filters").classList.contains("open")) openFilters(false);
      else if (active?.id === "text" && byId("text").value === "") focusTile();
      else if (takesText(active) && active?.id !== "text") focusTile();
      else clearOne();
      return;
    }
    if (takesText(active) || active instanceof HTMLSelectElement) {
      if (event.key === "Enter" && active?.id === "text") focusTile();
      return;
    }
    const isUndo = event.key === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey;
    if (!isUndo && (event.ctrlKey || event.metaKey || event.altKey)) return;
    const inGrid = active === document.body || byId("scroll").contains(active);
    const act = isUndo ? ANYWHERE.u : ANYWHERE[event.key] ?? (inGrid ? IN_GRID[event.key] : undefined);
    if (act) {
      event.preventDefault();
      act();
    } else if (/^[1-9]$/.test(event.key)) turn(Number(event.key) - 1);
  });
}
