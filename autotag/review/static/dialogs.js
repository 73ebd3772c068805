/** Dialogs: keys and help, rename, apply, token. */

import * as api from "./api.js";
import { byId, make, several } from "./dom.js";
import { store } from "./store.js";
import { complete } from "./suggest.js";

/** @param {string} title @param {...Node} children @returns {HTMLDialogElement} */
function open(title, ...children) {
  const id = `title-${Math.random().toString(36).slice(2)}`;
  const dialog = make("dialog", { "aria-labelledby": id }, make("h2", { id }, title), ...children);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

const closing = (/** @type {string} */ words) =>
  make("button", { onclick: (/** @type {Event} */ event) => /** @type {any} */ (event.target).closest("dialog").close() }, words);

const KEYS = [
  ["j k", "next, previous photograph (also the arrows, Home, End, Page Up, Page Down)"],
  ["y n", "confirm, reject: the tag that is looked for, or else all tags that are undecided; then the next photograph"],
  ["1 … 9", "one tag of the photograph: confirmed, rejected, undecided"],
  ["a", "add a tag to the photograph"],
  ["r", "rename the tag that is looked for, everywhere"],
  ["u", "undo, also Ctrl+Z"],
  ["/", "search"],
  ["Esc", "take a filter out"],
  ["?", "this help"],
];

/** Show keys, and what happens to files. */
export function helpDialog() {
  const rows = KEYS.flatMap(([keys, words]) => [
    make("dt", {}, ...keys.split(" ").map((key) => (key === "…" ? key : make("kbd", {}, key)))),
    make("dd", {}, words),
  ]);
  open("Keys", make("dl", {}, ...rows),
    make("p", {}, "Every decision is kept at once. Photographs and sidecars change only when you apply."),
    make("div.ends", {}, closing("Close")));
}

/** @param {string} tag @param {(to: string) => void} take */
export function renameDialog(tag, take) {
  const input = make("input", { id: "new-name", type: "text", maxlength: 200, value: tag });
  const done = (/** @type {string} */ word) => {
    const to = word.trim().replace(/\s+/g, " ");
    if (!to || to === tag) return input.focus();
    dialog.close();
    take(to);
  };
  const field = make("div.field", {}, make("label", { for: "new-name" }, "New name"), input);
  const dialog = open(`Rename “${tag}” everywhere`, field,
    make("p", {}, "Where a photograph has a tag of the new name already, the two become one."),
    make("div.ends", {}, closing("Cancel"), make("button.strong", { onclick: () => done(input.value) }, "Rename")));
  complete(input, done);
  input.select();
}

/** Ask for a token until one is right. */
export function tokenDialog() {
  return new Promise((/** @type {(value: void) => void} */ resolve) => {
    const input = make("input", { id: "token", type: "password", autocomplete: "off" });
    const wrong = make("p.wrong", { role: "alert" });
    const enter = async () => {
      if (!(await api.signIn(input.value.trim()))) {
        wrong.textContent = "This server does not know that token.";
        return input.select();
      }
      dialog.close();
      resolve();
    };
    input.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && enter());
    const dialog = open("This review wants a token",
      make("p", {}, "One of those in the file that was given to autotag review as --token-file."),
      make("div.field", {}, make("label", { for: "token" }, "Token"), input), wrong,
      make("div.ends", {}, make("button.strong", { onclick: enter }, "Enter")));
    dialog.addEventListener("cancel", (event) => event.preventDefault());
  });
}

/** Say what applying will do, do it, and show how far it is. */
export async function applyDialog() {
  const [summary, running] = await Promise.all([api.summary(), api.progress()]);
  const body = make("div");
  const dialog = open("Apply", body);
  if (running.status === "running") return watch(dialog, body, summary.album);
  const number = (/** @type {string} */ name, /** @type {number} */ count) =>
    make(`div.${name}`, {}, make("b", {}, count.toLocaleString("en")), name);
  const choice = (/** @type {string} */ value, /** @type {string} */ words, /** @type {string} */ more, /** @type {boolean} */ on) =>
    make("label.choice", {}, make("input", { type: "radio", name: "undecided", value, checked: on }),
      make("span", {}, words, make("small", {}, more)));
  const wrong = make("p.wrong", { role: "alert" });
  const start = async () => {
    const chosen = /** @type {HTMLInputElement} */ (dialog.querySelector("[name=undecided]:checked")).value;
    try {
      await api.apply(store.revision, chosen);
    } catch (error) {
      wrong.textContent = error.message;
      return store.look();
    }
    watch(dialog, body, summary.album);
  };
  body.replaceChildren(
    make("p", {}, summary.of_album
      ? "Writes the photographs whose tags you changed. Rejected tags are removed; your own keywords stay."
      : `Applies ${summary.plan} with your decisions. Rejected tags are not written; your own keywords stay.`),
    make("div.numbers", {}, number("confirmed", summary.tags.confirmed), number("undecided", summary.tags.undecided), number("rejected", summary.tags.rejected)),
    make("fieldset", {}, make("legend", {}, "Tags that are undecided"),
      choice("write", "Write them", "Only what you rejected is left out.", true),
      choice("leave out", "Leave them out", "Only what you confirmed is written.", false)),
    wrong,
    make("p", {}, "To undo it: ", make("code", {}, `autotag undo --last ${quoted(summary.album)}`)),
    make("div.ends", {}, closing("Cancel"), make("button.strong", { onclick: start }, "Apply now")));
}

/** Show how far it is, until it is over. @param {HTMLDialogElement} dialog @param {HTMLElement} body @param {string} album */
async function watch(dialog, body, album) {
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const words = make("p", { role: "status" });
  const stop = make("button", { onclick: () => api.stop() }, "Stop");
  body.replaceChildren(bar, words, make("div.ends", {}, stop, closing("Close")));
  for (;;) {
    const now = await api.progress();
    bar.max = Math.max(1, now.photographs);
    bar.value = now.done;
    words.textContent = `${now.done.toLocaleString("en")} of ${several(now.photographs, "photograph")}`;
    if (now.status !== "running") {
      body.replaceChildren(...ended(now, album), make("div.ends", {}, closing("Close")));
      store.refresh();
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}

/** @param {any} now @param {string} album */
function ended(now, album) {
  const said = { done: "Done.", stopped: `It ended early: ${now.message}. Apply again to go on.`, failed: `It could not run: ${now.message}` };
  const parts = [make("p", { role: "status" }, said[/** @type {"done"} */ (now.status)])];
  if (now.status !== "failed") {
    const number = (/** @type {string} */ name, /** @type {number} */ count) => make("div", {}, make("b", {}, count.toLocaleString("en")), name);
    parts.push(make("div.numbers", {}, number("written", now.written), number("as they should be", now.unchanged), number("failed", now.failed)));
    if (now.written) parts.push(make("p", {}, "Take it back: ", make("code", {}, `autotag undo --last ${quoted(album)}`)));
  }
  parts.push(...now.notes.map((/** @type {string} */ note) => make("p", {}, note)));
  if (now.errors.length)
    parts.push(make("ul.failures", { tabindex: 0, "aria-label": "Failures" }, ...now.errors.map((/** @type {any} */ one) => make("li", {}, `${one.file}: ${one.reason}`))));
  return parts;
}

/** A path as a shell takes it. @param {string} path */
const quoted = (path) => (/^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`);

byId("help").addEventListener("click", helpDialog);
byId("apply").addEventListener("click", applyDialog);
