// The same events as /v1/live has, from the API, for where WebSockets don't get
// through.
import { get, query, devicePath, Lost } from "./api.js";

const readingsEvery = 1500, fleetEvery = 1000, othersEvery = 1500; // ms
const atOnce = 100; // devices of one question

export class Poll {
  #message;
  #lost;
  #devices = [];
  #stop = new AbortController();
  #commands = null; // number → state last told; null: not read yet
  #refusal = 0; // number of the last one told

  constructor(message, lost) {
    this.#message = message;
    this.#lost = lost;
  }

  // start says whether the API answers.
  async start() {
    try {
      await this.#fleet();
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#lost(error);
      return false;
    }
    this.#again(fleetEvery, () => this.#fleet());
    this.#again(readingsEvery, () => this.#readings());
    this.#again(othersEvery, () => this.#others());
    return true;
  }

  watch(devices) {
    this.#devices = devices.slice(0, atOnce);
    this.#refusal = 0;
    this.#commands = null;
    this.#readings().catch(() => {});
  }

  close() { this.#stop.abort(); }

  async #again(every, what) {
    while (!this.#stop.signal.aborted) {
      await new Promise((go) => setTimeout(go, every));
      if (this.#stop.signal.aborted) return;
      if (document.hidden) continue;
      try {
        await what();
      } catch (error) {
        if (error instanceof Lost && !this.#stop.signal.aborted) return this.#lost(error);
      }
    }
  }

  #get(path) { return get(path, this.#stop.signal); }

  async #fleet() { this.#message(await this.#get("/fleet")); }

  async #readings() {
    if (this.#devices.length === 0) return;
    if (this.#devices.length === 1) {
      const [device] = this.#devices;
      const latest = await this.#get(devicePath(device) + "/latest");
      const channels = Object.fromEntries(latest.map((r) => [r.metric, { time: r.ts, value: r.value ?? null, text: r.text, unit: r.unit }]));
      return this.#message({ type: "readings", readings: [{ device, rows: 0, channels }] });
    }
    const found = await this.#get("/sparklines" + query({ device: this.#devices, points: 2, stretch: "2s", channels: 8 }));
    const readings = found.map(({ device, channels }) => ({
      device, rows: 0,
      channels: Object.fromEntries(channels.filter((c) => c.last_at).map((c) => [c.metric, { time: c.last_at, value: c.last, unit: c.unit }])),
    }));
    this.#message({ type: "readings", readings });
  }

  // others are the commands and refusals of a device that is looked at alone.
  async #others() {
    const commands = await this.#get("/commands" + query({ limit: 20, device: this.#devices.length === 1 ? this.#devices[0] : null }));
    const before = this.#commands;
    this.#commands = new Map(commands.map((command) => [command.number, command.state]));
    for (const command of commands.reverse()) {
      if (before && before.get(command.number) !== command.state) this.#message({ type: "command", command });
    }
    if (this.#devices.length !== 1) return;
    const [device] = this.#devices;
    const refusals = await this.#get(devicePath(device) + "/rejects?limit=20");
    const known = this.#refusal;
    this.#refusal = Math.max(1, ...refusals.map((r) => r.number));
    for (const r of refusals.reverse()) {
      if (known && r.number > known) this.#message({ type: "refusal", device, time: r.at, code: r.code, message: r.detail });
    }
  }
}
