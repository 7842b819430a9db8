// All devices, as far as a list needs them: read in two goes, so that the first
// screenful does not wait for ten thousand, and kept up to date.
import { get, query } from "./api.js";
import { live } from "./live.js";

const firstGo = 100, nextGo = 10_000;
const againEvery = 30_000; // devices that were added or removed; ms
const againEveryPolling = 3000;
const many = 1000; // devices, from which on polling is seldom

class Store extends EventTarget {
  all = []; // by name
  complete = false; // all were read
  #byName = new Map();
  #reading = null;
  #outdated = false; // what is being read, some of it from before live was back
  #timer = 0;
  #told = 0;

  constructor() {
    super();
    live.addEventListener("presence", ({ detail }) => this.#presence(detail));
    live.addEventListener("resync", () => {
      this.#outdated = this.#reading !== null;
      this.refresh();
    });
  }

  get(name) { return this.#byName.get(name); }

  clear() {
    clearTimeout(this.#timer);
    this.#reading?.abort();
    this.#reading = null;
    this.all = [];
    this.#byName.clear();
    this.complete = false;
  }

  // refresh reads all of them; what is under way counts.
  async refresh() {
    if (this.#reading) return;
    clearTimeout(this.#timer);
    const reading = this.#reading = new AbortController();
    this.#outdated = false;
    const begun = Date.now();
    try {
      const found = [];
      for (let limit = firstGo, after = null; ; limit = nextGo) {
        const page = await get("/devices" + query({ limit, after }), reading.signal);
        found.push(...page);
        if (page.length < limit) break;
        after = page.at(-1).name;
        if (!this.complete) this.#take(found, begun);
      }
      this.complete = true;
      this.#take(found, begun);
    } catch { /* live tells when the server is back */ }
    if (this.#reading !== reading) return;
    this.#reading = null;
    if (this.#outdated) return void this.refresh();
    if (live.state === "live") this.#timer = setTimeout(() => this.refresh(), live.polling && this.all.length < many ? againEveryPolling : againEvery);
  }

  #take(found, begun) {
    // A presence that came while this was read may be newer than what was read, however
    // long that took.
    this.all = found.map((device) => {
      const known = this.#byName.get(device.name);
      const time = Date.parse(device.last_seen) || 0;
      return Object.assign(known ?? {}, device, { seen: Math.max(time, known?.seen ?? 0), text: undefined }, known?.told >= begun ? { state: known.state } : null);
    });
    this.#byName = new Map(this.all.map((device) => [device.name, device]));
    this.#tell();
  }

  #presence({ device: name, online, since, reason }) {
    const device = this.#byName.get(name);
    if (!device) return void this.refresh();
    device.state = online ? "online" : device.state === "disabled" ? "disabled" : "offline";
    device.since = since;
    device.reason = reason;
    device.told = Date.now();
    device.seen = Math.max(device.seen, Date.parse(since) || 0);
    this.#tell();
  }

  // tell says so at most once a frame.
  #tell() {
    if (this.#told) return;
    this.#told = requestAnimationFrame(() => {
      this.#told = 0;
      this.dispatchEvent(new Event("change"));
    });
  }
}

export const store = new Store();
