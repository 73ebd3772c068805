/** Completion for a text field, as an ARIA combobox. */

import * as api from "./api.js";
import { afterwards, make } from "./dom.js";

let next = 0;

/**
 * Complete what is typed into a field with words of the album and the vocabulary.
 * @param {HTMLInputElement} input stands in an element with a position of its own
 * @param {(word: string) => void} take gets the word when Enter is pressed or one is chosen
 */
export function complete(input, take) {
  const list = make("ul.options", { id: `options-${++next}`, role: "listbox", "aria-label": "Suggestions", hidden: true });
  input.after(list);
  for (const [name, value] of Object.entries({ role: "combobox", autocomplete: "off", "aria-autocomplete": "list", "aria-controls": list.id, "aria-expanded": "false" }))
    input.setAttribute(name, value);
  /** @type {string[]} */ let words = [];
  let chosen = -1;

  const show = () => {
    list.replaceChildren(...words.map((word, number) =>
      make("li", { role: "option", id: `${list.id}-${number}`, "aria-selected": number === chosen, onmousedown: (/** @type {Event} */ event) => {
        event.preventDefault();
        finish(word);
      } }, word)));
    list.hidden = !words.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    if (chosen >= 0) {
      input.setAttribute("aria-activedescendant", `${list.id}-${chosen}`);
      list.children[chosen].scrollIntoView({ block: "nearest" });
    } else input.removeAttribute("aria-activedescendant");
    const below = innerHeight - input.getBoundingClientRect().bottom;
    list.classList.toggle("above", below < 240 && input.getBoundingClientRect().top > 250);
  };
  const close = () => {
    words = [];
    chosen = -1;
    show();
  };
  const finish = (/** @type {string} */ word) => {
    input.value = word;
    close();
    take(word);
  };
  const look = afterwards(80, async () => {
    const typed = input.value.trim();
    const found = typed ? await api.suggestions(typed) : [];
    if (typed !== input.value.trim() || document.activeElement !== input) return;
    words = found;
    chosen = -1;
    show();
  });

  input.addEventListener("input", look);
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!words.length) return;
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      chosen = ((chosen + 1 + step + words.length + 1) % (words.length + 1)) - 1;
      show();
    } else if (event.key === "Enter") {
      event.preventDefault();
      const word = chosen >= 0 ? words[chosen] : input.value.trim().replace(/\s+/g, " ");
      if (word) finish(word);
    } else if (event.key === "Escape" && words.length) {
      event.preventDefault();
      event.stopPropagation();
      close();
    }
  });
}
