/** The photograph in hand: larger, with all of its tags and a button for each decision. */

import { byId, make, say, shownScore } from "./dom.js";
import { store } from "./store.js";
import { complete } from "./suggest.js";

/** @typedef {import("./api.js").Photo} Photo */
/** @typedef {import("./api.js").Tag} Tag */

const NOTICES = {
  changed: "The picture was changed since the plan was made. Applying leaves it as it is; plan it again.",
  missing: "The file is not there any more. Applying leaves it out.",
};
const NEXT = { undecided: "confirm", confirmed: "reject", rejected: "reset" };

const place = byId("inspector");
let looks = "";

/** Put the inspector on the page. */
export function startInspector() {
  store.addEventListener("focus", show);
  store.addEventListener("photos", show);
  store.addEventListener("list", show);
}

/** Show the photograph in hand, unless it is shown as it is already. */
function show() {
  const photo = store.photo(store.focused);
  const now = JSON.stringify(photo ?? null);
  if (now === looks) return;
  const old = looks ? JSON.parse(looks) : null;
  looks = now;
  if (!photo) return place.replaceChildren();
  const held = focusKey();
  if (old?.id === photo.id && old.large === photo.large) {
    place.querySelector(".tag-rows").replaceWith(rowsOf(photo));
    refocus(held);
    return;
  }
  place.replaceChildren(figureOf(photo), ...noticeOf(photo), rowsOf(photo), bothOf(), addOf());
  refocus(held);
}

/** Name the control that has the focus, so that it can have it again after it is made again. */
function focusKey() {
  const element = /** @type {HTMLElement|null} */ (document.activeElement);
  return element && place.contains(element) ? element.dataset.key ?? "" : "";
}

/** @param {string} key */
function refocus(key) {
  if (key) /** @type {HTMLElement|null} */ (place.querySelector(`[data-key="${CSS.escape(key)}"]`))?.focus();
}

/** @param {Photo} photo */
function figureOf(photo) {
  const name = photo.file.slice(photo.file.lastIndexOf("/") + 1);
  const frame = make("div.frame", {}, photo.large ? null : "no picture");
  if (photo.large) {
    const image = make("img", { src: photo.large, alt: photo.caption || name });
    image.addEventListener("error", () => frame.replaceChildren("This file cannot be shown."));
    frame.append(make("img", { src: photo.small, alt: "" }), image); // the grid's picture, until the larger one is here
  }
  const caption = make("figcaption", {}, make("div.file", {}, photo.file), make("div.words", {}, photo.caption));
  return make("figure", {}, frame, caption);
}

/** @param {Photo} photo */
const noticeOf = (photo) =>
  photo.status === "as planned" ? [] : [make("p.notice", { role: "alert" }, NOTICES[photo.status])];

/** @param {Photo} photo */
function rowsOf(photo) {
  return make("ul.tag-rows", { "aria-label": "Tags of this photograph" }, ...photo.tags.map((tag, number) => rowOf(tag, number)));
}

/** @param {Tag} tag @param {number} number */
function rowOf(tag, number) {
  const was = tag.was ? make("span.was", {}, `was: ${tag.was}`) : tag.added ? make("span.was", {}, "added by you") : null;
  const doubt = tag.near_cut ? make("span.near-cut", {}, "near the cut") : null;
  const name = make("button.name", {
    "data-key": `name ${tag.text}`, title: `Show every photograph with “${tag.text}”${tag.near_cut ? ". Its score only just reaches the keyword’s threshold" : ""}`,
    "aria-label": `${tag.text}, ${tag.state}${tag.near_cut ? ", near the cut" : ""}. Show every photograph with it`,
    onclick: () => store.select({ tag: tag.text }),
  }, tag.text, was, doubt);
  const button = (/** @type {"confirm"|"reject"} */ action, /** @type {string} */ sign) => {
    const on = tag.state === `${action}ed`;
    return make(action === "confirm" ? "button.yes" : "button.no", {
      "data-key": `${action} ${tag.text}`, "aria-pressed": on, "aria-label": `${action} ${tag.text}`,
      onclick: () => decide(on ? "reset" : action, tag.text),
    }, sign);
  };
  return make(`li.${tag.state}`, {},
    number < 9 ? make("kbd", { "aria-hidden": "true" }, String(number + 1)) : make("span"),
    name, make("span.score", {}, shownScore(tag.score)),
    make("div.two", {}, button("confirm", "✓"), button("reject", "✕")));
}

const bothOf = () => make("div.both", {},
  make("button.yes", { "data-key": "all yes", onclick: () => decideRest("confirm") }, "Confirm the rest"),
  make("button.no", { "data-key": "all no", onclick: () => decideRest("reject") }, "Reject the rest"));

function addOf() {
  const input = make("input", { id: "add-tag", type: "text", maxlength: 200, placeholder: "Type a tag", "data-key": "add" });
  const box = make("div.add", {}, make("label", { for: "add-tag" }, "Add a tag to this photograph"), input);
  complete(input, (word) => {
    input.value = "";
    addTag(word);
  });
  return box;
}

/** @param {string} word */
function addTag(word) {
  const photo = store.photo(store.focused);
  if (photo) store.decide({ action: "add", tag: word, photos: [photo.id] }, { quiet: true });
}

/** @param {string} action @param {string} tag */
function decide(action, tag) {
  const photo = store.photo(store.focused);
  if (!photo) return;
  say(`${tag}: ${{ confirm: "confirmed", reject: "rejected", reset: "undecided" }[action]}`);
  store.decide({ action, tag, photos: [photo.id] }, { quiet: true });
}

/** Decide about every tag of the photograph that is undecided. @param {"confirm"|"reject"} action */
export function decideRest(action) {
  const photo = store.photo(store.focused);
  if (!photo) return;
  const left = photo.tags.filter((tag) => tag.state === "undecided").length;
  if (!left) return say("No undecided tag on this photograph");
  say(`${left} tags ${action}ed`);
  store.decide({ action, photos: [photo.id], where: { state: "undecided" } }, { quiet: true });
}

/** Decide about the tag that is looked for, or else the undecided tags. @param {"confirm"|"reject"} action */
export function decideHere(action) {
  const photo = store.photo(store.focused);
  const tag = photo?.tags.find((one) => one.text === store.where.tag);
  if (tag) decide(action, tag.text);
  else decideRest(action);
}

/** Bring a tag into its next state: confirmed, rejected, undecided. @param {number} number from 0 */
export function turn(number) {
  const tag = store.photo(store.focused)?.tags[number];
  if (tag) decide(NEXT[tag.state], tag.text);
}
