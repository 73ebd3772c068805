/** Small helpers to build pages. Text is always set as text, never as HTML. */

/**
 * Return the element with an id, which the page is known to have.
 * @param {string} id
 * @returns {any}
 */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element.
 * @param {string} name of the element, with classes after dots: "li.word.on"
 * @param {Object<string, any>} [attributes] "on..." are listeners, true and false set or leave out an attribute
 * @param {...(Node|string|null|undefined)} children
 * @returns {any}
 */
export function make(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith("aria-") && value != null) element.setAttribute(key, String(value));
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, String(value));
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** @param {number} number with separators for thousands */
export const counted = (number) => number.toLocaleString("en");

/**
 * @param {number} number
 * @param {string} one the noun in the singular
 */
export const several = (number, one) => `${counted(number)} ${one}${number === 1 ? "" : "s"}`;

/** @param {number} score */
export const shownScore = (score) => score.toFixed(score === 1 ? 0 : 2);

/**
 * Return a function that calls another one once calls have ceased for a while.
 * @param {number} milliseconds
 * @param {() => void} act
 */
export function afterwards(milliseconds, act) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, milliseconds);
  };
}

/** Say something to screen readers only. @param {string} words */
export function say(words) {
  byId("said").textContent = words;
}

let toastTimer = 0;

/**
 * Show a short message, with a button if something can be done about it.
 * @param {string} words
 * @param {{bad?: boolean, label?: string, act?: () => void}} [more]
 */
export function toast(words, { bad = false, label = "", act = undefined } = {}) {
  const place = byId("toast");
  const button = label ? make("button", { onclick: act }, label) : null;
  place.replaceChildren(make(bad ? "div.bad" : "div", {}, make("span", {}, words), button));
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => place.replaceChildren(), bad ? 12000 : 6000);
}
