/** What is shown: search, state, score, folder, order, tags; and decisions about one tag everywhere. */

import * as api from "./api.js";
import { afterwards, byId, counted, make, several, toast } from "./dom.js";
import { renameDialog } from "./dialogs.js";
import { store } from "./store.js";

/** @type {{scores: number[], tags: number[], photographs: number[]}} */
let cuts = { scores: [], tags: [], photographs: [] };

/** Put the filters on the page. @param {any} summary */
export function startFilters(summary) {
  fillFolders(summary.folders);
  const typed = afterwards(180, () => store.select({ text: byId("text").value.trim() || undefined }));
  byId("text").addEventListener("input", typed);
  for (const radio of document.querySelectorAll("input[name=state]"))
    radio.addEventListener("change", () => store.select({ state: /** @type {any} */ (radio).value || undefined }));
  byId("folder").addEventListener("change", () => store.select({ folder: byId("folder").value || undefined }));
  byId("order").addEventListener("change", () => {
    store.order = byId("order").value;
    store.list();
  });
  const cut = afterwards(150, () => store.select({ min_score: chosenCut() }));
  byId("cut").addEventListener("input", () => {
    showCut();
    cut();
  });
  byId("reject-below").addEventListener("click", () => {
    const { min_score: below, state, ...where } = store.where;
    store.decide({ action: "reject", where: { ...where, max_score: below, state: "undecided" } });
  });
  byId("tag-part").addEventListener("input", afterwards(120, showTags));
  byId("open-filters").addEventListener("click", () => openFilters(!byId("filters").classList.contains("open")));
  byId("scroll").addEventListener("pointerdown", () => openFilters(false));
  store.addEventListener("list", () => {
    showCount();
    showTagBar();
    renew();
  });
  store.addEventListener("decided", afterwards(200, renew)); // not at every key of somebody who is quick
}

/** In a narrow window the filters lie over the photographs. @param {boolean} open */
export function openFilters(open) {
  byId("filters").classList.toggle("open", open);
  byId("open-filters").setAttribute("aria-expanded", String(open));
}

const renew = afterwards(60, () => {
  showTags();
  loadCuts();
});

/** Every folder, also folders that hold folders only. @param {{folder: string, photographs: number}[]} folders */
function fillFolders(folders) {
  const counts = new Map();
  for (const { folder, photographs } of folders)
    for (let path = folder; path; path = path.slice(0, Math.max(0, path.lastIndexOf("/"))))
      counts.set(path, (counts.get(path) ?? 0) + photographs);
  const paths = [...counts.keys()].sort();
  const options = paths.map((path) => {
    const depth = path.split("/").length - 1;
    return make("option", { value: path }, `${"\u2003".repeat(depth)}${path.slice(path.lastIndexOf("/") + 1)} (${counted(counts.get(path))})`);
  });
  byId("folder").replaceChildren(make("option", { value: "" }, "All folders"), ...options);
}

function showCount() {
  const filtered = Object.keys(store.where).length > 0;
  byId("count").textContent = `${several(store.total, "photograph")}${filtered ? " fit" + (store.total === 1 ? "s" : "") : ""}`;
  byId("empty").hidden = store.total > 0;
  byId("empty").replaceChildren(filtered ? "No photograph fits. Take a filter out, or " : "The plan holds no photographs.");
  if (filtered) byId("empty").append(make("button.small", { onclick: clearAll }, "Show all photographs"));
}

/** Ask what each cut would leave. */
async function loadCuts() {
  const { min_score: _, ...where } = store.where;
  cuts = await api.scores(where);
  const slider = byId("cut");
  const cut = store.where.min_score;
  slider.max = String(Math.max(0, cuts.scores.length - 1));
  slider.value = String(cut === undefined ? 0 : Math.max(0, cuts.scores.findIndex((score) => score >= cut - 1e-6)));
  showCut();
}

/** @returns {number|undefined} */
const chosenCut = () => (byId("cut").value === "0" ? undefined : cuts.scores[+byId("cut").value]);

/** Say what the cut leaves, from what is known already: no question to the server while it moves. */
function showCut() {
  const place = +byId("cut").value;
  const cut = chosenCut();
  const left = cuts.scores.length ? `${several(cuts.tags[place], "tag")} on ${several(cuts.photographs[place], "photograph")}` : "no tags";
  const name = cut === undefined ? "any" : cut.toFixed(cuts.scores[1] - cuts.scores[0] < 0.01 ? 3 : 2);
  byId("cut-value").textContent = name;
  byId("cut-counts").textContent = left;
  byId("cut").setAttribute("aria-valuetext", `${name}: ${left}`);
  const button = byId("reject-below");
  button.hidden = cut === undefined;
  button.textContent = `Reject what is undecided below ${name}`;
}

/** List the tags of what is shown, whatever tag and score are looked for. */
async function showTags() {
  const { tag: chosen, min_score: _, ...where } = store.where;
  const part = byId("tag-part").value.trim();
  const found = await api.tags(where, part);
  byId("tag-total").textContent = found.total > found.tags.length ? `${found.tags.length} of ${counted(found.total)}` : counted(found.total);
  const held = /** @type {HTMLElement} */ (document.activeElement)?.dataset?.tag;
  byId("tags").replaceChildren(...found.tags.map((/** @type {any} */ one) => tagRow(one, one.tag === chosen)));
  if (held !== undefined) byId("tags").querySelector(`[data-tag="${CSS.escape(held)}"]`)?.focus();
}

/** @param {{tag: string, undecided: number, confirmed: number, rejected: number}} one @param {boolean} on */
function tagRow(one, on) {
  const total = one.undecided + one.confirmed + one.rejected;
  const meter = make("span.meter", { "aria-hidden": "true" }, make("i.confirmed"), make("i.rejected"));
  meter.children[0].style.width = `${(100 * one.confirmed) / total}%`;
  meter.children[1].style.width = `${(100 * one.rejected) / total}%`;
  const label = `${one.tag}: ${several(total, "photograph")}, ${one.confirmed} confirmed, ${one.rejected} rejected`;
  const click = () => {
    openFilters(false);
    store.select({ tag: on ? undefined : one.tag });
  };
  return make("li", {}, make("button", { "aria-pressed": on, "aria-label": label, "data-tag": one.tag, onclick: click },
    make("span.word", {}, one.tag), make("span.number", {}, counted(total)), meter));
}

/** Offer what can be decided about the tag that is looked for, in all of the album. */
function showTagBar() {
  const tag = store.where.tag;
  const bar = byId("tag-bar");
  bar.hidden = tag === undefined;
  if (tag === undefined) return bar.replaceChildren();
  bar.setAttribute("aria-label", `The tag ${tag}, everywhere`);
  const everywhere = (more = "") => make("span", {}, ` everywhere${more}`); // a narrow window says it once, beside the name
  bar.replaceChildren(
    make("span.name", { title: tag }, tag),
    make("button.small.yes", { onclick: () => store.decide({ action: "confirm", tag }) }, "Confirm", everywhere()),
    make("button.small.no", { onclick: () => store.decide({ action: "reject", tag }) }, "Reject", everywhere()),
    make("button.small", { onclick: () => rename() }, "Rename", everywhere("…")),
    make("button.small.icon.quiet.out", { "aria-label": `Show other tags than ${tag}, too`, title: "Take this filter out (Esc)", onclick: () => store.select({ tag: undefined }) }, "✕"),
  );
}

/** Ask for another name of the tag that is looked for, and follow it. */
export function rename() {
  const tag = store.where.tag;
  if (tag === undefined) return toast("Choose a tag first: in the list, or on a photograph.");
  renameDialog(tag, async (to) => {
    await store.decide({ action: "rename", tag, to });
    await store.select({ tag: to });
  });
}

/** Take every filter out, also filters that Esc leaves. */
function clearAll() {
  byId("text").value = byId("folder").value = "";
  /** @type {any} */ (document.querySelector("input[name=state]")).checked = true; // "All" is the first
  store.select({ tag: undefined, text: undefined, state: undefined, min_score: undefined, folder: undefined });
}

/** Take the filters out, one after another. @returns {boolean} whether there was one */
export function clearOne() {
  for (const name of ["tag", "text", "min_score"]) {
    if (/** @type {any} */ (store.where)[name] !== undefined) {
      if (name === "text") byId("text").value = "";
      store.select({ [name]: undefined });
      return true;
    }
  }
  return false;
}
