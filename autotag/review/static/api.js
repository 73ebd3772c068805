/** The server's endpoints (see docs/guides/review.md and /openapi.json). */

/**
 * @typedef {"undecided"|"confirmed"|"rejected"} State
 * @typedef {{text: string, score: number, state: State, was: string|null, added: boolean, near_cut: boolean}} Tag
 * @typedef {{id: string, file: string, caption: string, status: "as planned"|"changed"|"missing",
 *   small: string, large: string, tags: Tag[]}} Photo
 * @typedef {{tag?: string, state?: State, min_score?: number, max_score?: number, folder?: string, text?: string}} Where
 * @typedef {{revision: number, view: string, total: number, position: number, photos: Photo[], next: string|null}} Page
 * @typedef {{revision: number, tags: number, photos: string[]|null, words: string, undo: string|null}} Outcome
 */

const BASE = "/review/api/";

/** An answer that is not what was asked for. */
export class Refusal extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** @type {() => Promise<void>} asks the user for a token; set by the page */
let askForToken = async () => {};
/** @type {Promise<void>|null} several answers may want a token at once, and the user is asked once */
let asking = null;

let review = ""; // the plan that this window shows
/** @type {() => void} this address has another plan now; set by the page */
let leave = () => {};

/** @param {() => void} act */
export function onAnotherReview(act) {
  leave = act;
}

/** @param {() => Promise<void>} ask */
export function onTokenNeeded(ask) {
  askForToken = ask;
}

/**
 * Ask the server.
 * @param {string} path below the API, with its query
 * @param {RequestInit} [init]
 * @returns {Promise<any>}
 */
async function ask(path, init = {}) {
  let answer;
  try {
    const headers = { ...init.headers, ...(review && { "Autotag-Review": review }) };
    answer = await fetch(BASE + path, { credentials: "same-origin", ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Refusal(0, "away", "The server does not answer. Is autotag review still running?");
  }
  if (answer.status === 401) {
    asking ??= askForToken().finally(() => (asking = null));
    await asking;
    return ask(path, init);
  }
  if (answer.status === 204) return null;
  const body = await answer.json();
  if (body.error?.code === "another_review") leave();
  if (!answer.ok) throw new Refusal(answer.status, body.error.code, body.error.message);
  return body;
}

/** @param {string} path @param {Object<string, any>} body */
const send = (path, body) =>
  ask(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

/** Leave out what is not given. @param {Object<string, any>} given */
function query(given) {
  const rows = Object.entries(given).filter(([, value]) => value !== undefined && value !== null);
  return new URLSearchParams(rows.map(([name, value]) => [name, String(value)])).toString();
}

export async function summary() {
  const found = await ask("summary");
  review = found.review;
  return found;
}

/** @param {Where} where @param {string} order @param {number} limit @returns {Promise<Page>} */
export const photos = (where, order, limit) => ask(`photos?${query({ ...where, order, limit })}`);
/** @param {string} cursor @param {number} limit @param {AbortSignal} [signal] @returns {Promise<Page>} */
export const part = (cursor, limit, signal) => ask(`photos?${query({ cursor, limit })}`, { signal });
/** @param {Where} where @param {string} name part of the tag */
export const tags = (where, name) => ask(`tags?${query({ ...where, part: name })}`);
/** @param {Where} where @returns {Promise<{scores: number[], tags: number[], photographs: number[]}>} */
export const scores = (where) => ask(`scores?${query(where)}`);
/** @param {string} typed @returns {Promise<string[]>} */
export const suggestions = (typed) => ask(`suggestions?${query({ part: typed })}`);
/** @param {number} since */
export const changes = (since) => ask(`changes?${query({ since })}`);
/** @param {Object<string, any>} decision with its revision @returns {Promise<Outcome>} */
export const decide = (decision) => send("decisions", decision);
/** @param {number} revision @returns {Promise<Outcome>} */
export const undo = (revision) => send("undo", { revision });
/** @param {number} revision @param {string} undecided */
export const apply = (revision, undecided) => send("apply", { revision, undecided });
export const progress = () => ask("apply");
export const stop = () => send("apply/stop", {});

/** Exchange a token for a cookie. @param {string} token @returns {Promise<boolean>} whether it was right */
export async function signIn(token) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  const answer = await fetch(`${BASE}session`, { method: "POST", body: "{}", headers });
  return answer.ok;
}
