// Times, and how old things are. An age is always in sight, and what is old
// looks old.
import { setText } from "./dom.js";

// skew is the server's clock less ours, in ms.
let skew = 0;
export const now = () => Date.now() + skew;
export function serverSays(time) {
  const at = Date.parse(time);
  if (Number.isFinite(at)) skew = at - Date.now();
}

const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

// length writes a number of ms as people say it: 12 s, 5 min, 3 h.
export function length(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [unit, size] = units.find(([, size]) => seconds >= size * (size > 1 ? 1.5 : 1)) ?? ["s", 1];
  return Math.round(seconds / size) + " " + unit;
}

// The ages at which a value begins to look old, and is.
const agingAfter = 30_000;
const oldAfter = 5 * 60_000;

export function freshness(time) {
  if (!time) return "none";
  const age = now() - time;
  return age < agingAfter ? "fresh" : age < oldAfter ? "aging" : "old";
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const full = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
export const clockOf = (time) => clock.format(time);
export const dayOf = (time) => day.format(time);
export const fullTime = (time) => full.format(time);

// dateOf is the day as the API writes it, 2026-11-21.
export function dateOf(time) {
  const at = new Date(time);
  return [at.getFullYear(), at.getMonth() + 1, at.getDate()].map((n) => String(n).padStart(2, "0")).join("-");
}

// daysBefore is the same time of so many days before.
// Not so many times 24 hours: the clocks may have changed.
export function daysBefore(time, days) {
  const at = new Date(time);
  return at.setDate(at.getDate() - days);
}

// whenOf leaves out the date of what happened today.
export function whenOf(time) {
  return new Date(time).toDateString() === new Date(now()).toDateString() ? clockOf(time) : fullTime(time);
}

const shown = new Set();

// <time-age> shows how long ago something was, and marks itself and the nearest
// element with data-aged: fresh, aging or old.
class TimeAge extends HTMLElement {
  #time = 0;
  connectedCallback() { shown.add(this); this.refresh(); }
  disconnectedCallback() { shown.delete(this); }
  set time(value) {
    this.#time = value || 0;
    this.title = this.#time ? fullTime(this.#time) : "";
    if (this.isConnected) this.refresh();
  }
  refresh() {
    const fresh = freshness(this.#time);
    const words = !this.#time ? (this.dataset.never ?? "never") : now() - this.#time < 2000 ? "now" : length(now() - this.#time) + " ago";
    setText(this, words);
    if (this.dataset.fresh === fresh) return;
    this.dataset.fresh = fresh;
    const marked = this.closest("[data-aged]");
    if (marked) marked.dataset.aged = fresh;
  }
}
customElements.define("time-age", TimeAge);

export function age(time, never) {
  const element = document.createElement("time-age");
  if (never !== undefined) element.dataset.never = never;
  element.time = time;
  return element;
}

setInterval(() => { for (const element of shown) element.refresh(); }, 1000);
