/** The page of a review: puts its parts together. */

import * as api from "./api.js";
import { tokenDialog } from "./dialogs.js";
import { afterwards, byId, counted, make, toast } from "./dom.js";
import { startFilters } from "./filters.js";
import { focusTile, startGrid } from "./grid.js";
import { startInspector } from "./inspector.js";
import { startKeys } from "./keys.js";
import { store } from "./store.js";

/** Light or dark: as the system has it, until somebody chooses. */
function startTheme() {
  const root = document.documentElement;
  const chosen = localStorage.getItem("autotag-theme");
  if (chosen) root.dataset.theme = chosen;
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("autotag-theme", root.dataset.theme);
  });
}

/** Show how much is decided, and what an undo would take back. */
async function showProgress() {
  const summary = await api.summary();
  const { undecided, confirmed, rejected } = summary.tags;
  byId("progress").replaceChildren(make("b", {}, counted(confirmed + rejected)), ` of ${counted(undecided + confirmed + rejected)} tags decided`);
  const undo = byId("undo");
  undo.disabled = !summary.undo;
  undo.title = summary.undo ? `Take back: ${summary.undo} (u)` : "Nothing to take back";
  return summary;
}

const CHANGED = "autotag-another-review";

/** Show the plan that is under review at this address now, and say so. */
function showAnotherReview() {
  sessionStorage.setItem(CHANGED, "yes");
  location.reload();
}

async function start() {
  startTheme();
  api.onTokenNeeded(tokenDialog);
  api.onAnotherReview(showAnotherReview);
  const summary = await showProgress();
  document.title = `${summary.album.slice(summary.album.lastIndexOf("/") + 1)} – autotag review`;
  store.revision = summary.revision;
  startGrid();
  startInspector();
  startFilters(summary);
  startKeys();
  byId("undo").addEventListener("click", () => store.undo());
  store.addEventListener("decided", afterwards(120, showProgress));
  await store.list();
  focusTile();
  store.watch();
  if (sessionStorage.getItem(CHANGED)) toast("Another plan is under review at this address now. This is it.", { bad: true });
  sessionStorage.removeItem(CHANGED);
}

start().catch((error) => toast(error.message, { bad: true }));
