// What happens now: one place that knows how it gets here. Everybody else
// listens to `live`: events fleet, readings, presence, command,
// refusal, skipped, resync (what was missed is to be read again) and state.
import { Line } from "./line.js";
import { Poll } from "./poll.js";
import { serverSays } from "./time.js";

// The pauses between attempts grow to this, in ms, and are scattered.
const firstPause = 500, longestPause = 8000;
// While the API is polled, because a proxy does not let WebSockets through, they are
// tried again so often.
const upgradeEvery = 60_000;
const rememberFleet = 300; // points of the fleet's figures

class Live extends EventTarget {
  state = "connecting"; // connecting, live or lost
  since = Date.now();
  history = []; // of the fleet's figures, oldest first
  devices = []; // whose readings are wanted
  #main = null; // fleet, presence, commands, refusals
  #readings = null; // of this.devices
  #poll = null;
  #timer = 0;
  #pause = firstPause;
  #running = false;

  constructor() {
    super();
    const hurry = () => {
      if (!this.#running || this.state !== "lost") return;
      this.#pause = firstPause;
      this.#connect();
    };
    addEventListener("online", hurry);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) hurry(); });
  }

  // polling says that events come by asking for them, with more delay.
  get polling() { return this.#poll !== null; }

  start() {
    if (this.#running) return;
    this.#running = true;
    this.#become("connecting");
    this.#connect();
  }

  stop() {
    this.#running = false;
    clearTimeout(this.#timer);
    this.#drop();
    this.history = [];
  }

  // watch says whose readings are wanted from now on.
  watch(devices) {
    const same = devices.length === this.devices.length && devices.every((name, i) => name === this.devices[i]);
    if (same) return;
    this.devices = devices;
    this.#watchReadings();
  }

  #drop() {
    for (const part of [this.#main, this.#readings, this.#poll]) part?.close();
    this.#main = this.#readings = this.#poll = null;
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#drop();
    this.#main = new Line({ events: "fleet,presence,commands,refusals", snapshot: "false", every: "1s" }, {
      open: () => {
        this.#arrived();
        this.#watchReadings();
      },
      message: (message) => this.#take(message),
      closed: (wasOpen) => (wasOpen ? this.#lost() : this.#withoutSocket()),
    });
  }

  #watchReadings() {
    if (this.#poll) return this.#poll.watch(this.devices);
    if (!this.#main?.isOpen) return;
    if (this.devices.length === 0) {
      this.#readings?.close();
      this.#readings = null;
    } else if (this.#readings) {
      this.#readings.subscribe({ devices: this.devices, events: ["readings"], every: "1s" });
    } else {
      this.#readings = new Line({ device: this.devices, events: "readings", every: "1s" }, {
        open: () => {},
        message: (message) => this.#take(message),
        closed: () => {
          this.#readings = null; // with the main line lost, that one tries again
          if (this.#main?.isOpen) setTimeout(() => this.#readings ?? this.#watchReadings(), 2000);
        },
      });
    }
  }

  // withoutSocket polls, if the API answers at all.
  async #withoutSocket() {
    if (!this.#running) return;
    this.#drop();
    const poll = new Poll((message) => this.#take(message), () => { if (this.#poll === poll) this.#lost(); });
    this.#poll = poll;
    if (!(await poll.start()) || this.#poll !== poll) return;
    poll.watch(this.devices);
    this.#arrived();
    this.#timer = setTimeout(() => this.#connect(), upgradeEvery);
  }

  #arrived() {
    this.#pause = firstPause;
    if (this.state === "live") return;
    this.#become("live");
    this.dispatchEvent(new Event("resync"));
  }

  #lost() {
    if (!this.#running) return;
    this.#drop();
    if (this.state !== "lost") this.#become("lost");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), this.#pause * (0.5 + Math.random()));
    this.#pause = Math.min(longestPause, this.#pause * 1.6);
  }

  #become(state) {
    this.state = state;
    this.since = Date.now();
    this.dispatchEvent(new Event("state"));
  }

  #take(message) {
    if (message.type === "hello") serverSays(message.server_time);
    if (message.type === "fleet") {
      serverSays(message.time);
      this.history.push(message);
      if (this.history.length > rememberFleet) this.history.shift();
    }
    if (message.type === "snapshot") {
      // The newest values, as if they came just now.
      message = { type: "readings", readings: message.devices.map((d) => ({ device: d.device, rows: 0, channels: d.channels ?? {} })) };
    }
    this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
  }
}

export const live = new Live();
