/** What the page knows: the selection, the list that fits it, the photograph in hand, the revision. */

import * as api from "./api.js";
import { several, toast } from "./dom.js";

/** @typedef {import("./api.js").Photo} Photo */
/** @typedef {import("./api.js").Where} Where */

const PAGE = 100;
const KEPT = 40; // pages; so a tab holds 4,000 of 100,000 photographs
const POLL = 3000;

/**
 * Events: "list" (another list), "photos" (photographs came or changed), "focus" (another one is in hand),
 * "decided" (the revision changed), "view" (the part of the list on the screen).
 */
class Store extends EventTarget {
  /** @type {Where} */ where = {};
  order = "album";
  revision = 0;
  total = 0;
  focused = 0;
  view = "";
  /** @type {Map<number, {photos: Photo[], stale: boolean}>} the latest used last */ #pages = new Map();
  /** @type {Set<number>} */ #asked = new Set();
  #listing = 0;
  #waiting = 0;
  /** @type {Promise<any>} the last change; the next one waits, so that it knows its revision */ #last = Promise.resolve();

  /** @param {string} name */
  #tell(name) {
    this.dispatchEvent(new Event(name));
  }

  /** Ask for the list that fits the selection. @param {boolean} [keepPlace] */
  async list(keepPlace = false) {
    const number = ++this.#listing;
    const id = this.photo(this.focused)?.id;
    const page = await api.photos(this.where, this.order, PAGE);
    if (number !== this.#listing) return; // another list was asked for meanwhile
    this.view = page.view;
    this.total = page.total;
    this.#pages.clear();
    this.#asked.clear();
    this.#pages.set(0, { photos: page.photos, stale: page.revision < this.revision });
    this.#learn(page.revision);
    const again = page.photos.findIndex((photo) => photo.id === id);
    this.focused = keepPlace ? Math.min(this.focused, Math.max(0, page.total - 1)) : Math.max(0, again);
    this.#tell("list");
    this.#tell("focus");
  }

  /** Change the selection. @param {Where} change undefined takes a part out */
  select(change) {
    const where = { ...this.where, ...change };
    this.where = Object.fromEntries(Object.entries(where).filter(([, value]) => value !== undefined));
    return this.list();
  }

  /** Return a photograph if it is here. @param {number} place @returns {Photo|undefined} */
  photo(place) {
    return this.#pages.get(Math.floor(place / PAGE))?.photos[place % PAGE];
  }

  /** Ask for what is missing between two places. @param {number} first @param {number} last */
  need(first, last) {
    for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE) && page * PAGE < this.total; page++) {
      const known = this.#pages.get(page);
      if (known) {
        this.#pages.delete(page);
        this.#pages.set(page, known);
      }
      if (!known || known.stale) this.#fetch(page);
    }
  }

  /** @param {number} page */
  async #fetch(page) {
    if (this.#asked.has(page)) return;
    this.#asked.add(page);
    const view = this.view;
    try {
      const found = await api.part(`${view}.${page * PAGE}`, PAGE);
      if (view !== this.view) return;
      if (this.#waiting && this.#pages.has(page)) return; // it is older than what is foreseen
      const stale = found.revision < this.revision; // read before the latest decision, answered after it
      if (!stale || !this.#pages.has(page)) this.#pages.set(page, { photos: found.photos, stale });
      while (this.#pages.size > KEPT) this.#pages.delete(this.#pages.keys().next().value);
      this.#learn(found.revision);
      this.#asked.delete(page); // so that a page that is stale is asked for again
      this.#tell("photos");
    } catch (error) {
      if (view !== this.view) return;
      if (error.code === "gone") await this.list(true);
      else toast(error.message, { bad: true });
    } finally {
      this.#asked.delete(page);
    }
  }

  /** Put another photograph in hand. @param {number} place */
  focus(place) {
    const inside = Math.max(0, Math.min(this.total - 1, place));
    if (inside === this.focused) return;
    this.focused = inside;
    this.#tell("focus");
  }

  /** Something newer than what is shown came with an answer. @param {number} revision */
  #learn(revision) {
    if (revision > this.revision) this.look();
  }

  /** Look what was decided in any window. */
  async look() {
    try {
      const found = await api.changes(this.revision);
      if (found.revision !== this.revision) this.#took(found);
    } catch (error) {
      if (error.code === "wrong_option") {
        this.revision = 0; // another review began at this address
        await this.list();
        this.#tell("decided");
      }
    }
  }

  /** @param {{revision: number, photos: string[]|null, undo: string|null}} found */
  #took(found) {
    const changed = found.photos && new Set(found.photos);
    for (const page of this.#pages.values()) {
      page.stale ||= !changed || page.photos.some((photo) => changed.has(photo.id));
    }
    this.revision = found.revision;
    this.#tell("decided");
    this.#tell("photos");
  }

  /**
   * Make a decision, and say it.
   * @param {Object<string, any>} decision
   * @param {{quiet?: boolean}} [more] quiet: no message, because the photograph itself shows it
   */
  async decide(decision, { quiet = false } = {}) {
    this.#foresee(decision);
    const outcome = await this.#change(() => api.decide({ revision: this.revision, ...decision }));
    if (!outcome || quiet) return;
    if (!outcome.tags) toast("Nothing to change there.");
    else toast(`${sentence(outcome.words)}: ${several(outcome.tags, "tag")}.`, { label: "Undo", act: () => this.undo() });
  }

  /** Show what a decision about single photographs will do, so that the next key finds it done. @param {any} decision */
  #foresee({ action, tag, photos, where }) {
    const state = /** @type {any} */ ({ confirm: "confirmed", reject: "rejected", reset: "undecided" })[action];
    if (!state || !photos) return;
    const fits = (/** @type {import("./api.js").Tag} */ one) =>
      (tag === undefined || one.text === tag) && (where?.state === undefined || one.state === where.state);
    for (const page of this.#pages.values())
      for (const photo of page.photos)
        if (photos.includes(photo.id)) photo.tags = photo.tags.map((one) => (fits(one) ? { ...one, state } : one));
    this.#tell("photos");
  }

  /** Take the last decision back. */
  async undo() {
    const outcome = await this.#change(() => api.undo(this.revision));
    if (outcome) toast(`${sentence(outcome.words)}.`);
  }

  /** @param {() => Promise<import("./api.js").Outcome>} act @returns {Promise<import("./api.js").Outcome|null>} */
  #change(act) {
    this.#waiting++;
    this.#last = this.#last.then(async () => {
      try {
        const outcome = await act();
        this.#waiting--;
        this.#took(outcome);
        return outcome;
      } catch (error) {
        this.#waiting--;
        toast(error.message, { bad: true });
        this.refresh(); // nothing of what was foreseen has happened
        return null;
      }
    });
    return this.#last;
  }

  /** Look for decisions of other windows from time to time, while this one is visible. */
  watch() {
    setInterval(() => document.hidden || this.look(), POLL);
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  /** Look at the files again: some may have changed. */
  refresh() {
    for (const page of this.#pages.values()) page.stale = true;
    this.look();
    this.#tell("photos");
  }
}

/** @param {string} words */
const sentence = (words) => words[0].toUpperCase() + words.slice(1);

export const store = new Store();
