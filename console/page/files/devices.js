// All devices: search, state, and the last readings of those in sight.
import { h, icon, setText } from "./dom.js";
import { get, query } from "./api.js";
import { live } from "./live.js";
import { store } from "./store.js";
import { VirtualList } from "./list.js";
import { spark, draw } from "./spark.js";
import { age } from "./time.js";
import { count, reading } from "./number.js";
import { setMark } from "./mark.js";

const sparkPoints = 40, sparkStretch = "10m", sparkChannels = 2;
const sparksEvery = 5000; // ms
const atOnce = 100; // devices of one question

export function devices(main, { search, signal }) {
  const states = ["all", "online", "offline", "disabled"];
  let state = states.includes(search.get("state")) ? search.get("state") : "all";
  const field = h("input", { type: "search", id: "search", placeholder: "Name, model or label", autocomplete: "off", spellcheck: "false", value: search.get("q") ?? "" });
  const counted = h("p", { class: "soft small", role: "status" });
  const choice = h("div", { class: "choice", role: "group", "aria-label": "State" }, states.map((each) =>
    h("button", { type: "button", "aria-pressed": String(each === state), dataset: { state: each }, text: each[0].toUpperCase() + each.slice(1) })));
  const lines = new Map(); // device → {channels, at}
  let inSight = [];

  const list = new VirtualList("Devices", { make: makeRow, fill, inSight: seen, signal });
  const empty = h("p", { class: "soft empty", hidden: true });
  main.append(
    h("h1", { text: "Devices" }),
    h("div", { class: "bar" },
      h("div", { class: "search" }, h("label", { for: "search", class: "unseen", text: "Search devices" }), icon("search"), field), choice),
    counted, list.element, empty);

  function fill(row, device) {
    const at = row.parts;
    row.href = "#/devices/" + encodeURIComponent(device.name);
    setMark(at.mark, device.state);
    setText(at.name, device.name);
    setText(at.about, about(device));
    const known = lines.get(device.name);
    at.lines.forEach((line, i) => {
      const channel = known?.channels[i];
      line.element.dataset.aged = "none";
      setText(line.metric, channel?.metric ?? "");
      const [digits, of] = channel ? reading(channel.last, channel.unit ?? "") : ["", ""];
      setText(line.value, digits);
      setText(line.unit, of);
      line.age.time = channel?.last_at ? Date.parse(channel.last_at) : 0;
      line.age.refresh();
      line.element.dataset.aged = line.age.dataset.fresh ?? "none";
      line.element.classList.toggle("vacant", !channel);
      draw(line.spark, channel?.values ?? []);
    });
    const newest = Math.max(device.seen, ...(known?.channels ?? []).map((c) => Date.parse(c.last_at) || 0));
    at.seen.time = newest;
  }

  function seen(shown) {
    inSight = shown.map((device) => device.name).slice(0, atOnce);
    soon();
  }

  // Scrolling past a device asks nothing of the server.
  let timer = 0;
  function soon() {
    clearTimeout(timer);
    timer = setTimeout(readLines, 120);
  }
  signal.addEventListener("abort", () => clearTimeout(timer));

  async function readLines() {
    clearTimeout(timer);
    if (signal.aborted) return;
    const wanted = inSight;
    live.watch(wanted);
    if (wanted.length && live.state === "live" && !document.hidden) {
      try {
        const found = await get("/sparklines" + query({ device: wanted, points: sparkPoints, stretch: sparkStretch, channels: sparkChannels }), signal);
        for (const each of found) lines.set(each.device, each);
        list.refill();
      } catch { /* live tells when the server is back */ }
    }
    if (!signal.aborted) timer = setTimeout(readLines, sparksEvery);
  }

  function filter() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = store.all.filter((device) => (state === "all" || device.state === state) &&
      (words.length === 0 || (device.text ??= textOf(device), words.every((word) => device.text.includes(word)))));
    list.show(found);
    const all = store.all.length;
    setText(counted, !store.complete && all === 0 ? "Reading …" : (found.length === all ? `${count(all)} devices` : `${count(found.length)} of ${count(all)} devices`) + (store.complete ? "" : ", reading more …"));
    empty.hidden = found.length > 0 || !store.complete;
    setText(empty, all === 0 ? "There are no devices yet. Add one: mooring device add NAME" : "No device fits. Search by a part of its name, model, or label.");
  }

  const remember = () => history.replaceState(null, "", "#/devices" + query({ q: field.value, state: state === "all" ? null : state }));
  field.addEventListener("input", () => { remember(); scrollTo(0, 0); filter(); });
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && list.items.length) { event.preventDefault(); list.focus(0); }
  });
  choice.addEventListener("click", (event) => {
    const chosen = event.target.dataset.state;
    if (!chosen) return;
    state = chosen;
    for (const button of choice.children) button.setAttribute("aria-pressed", String(button.dataset.state === state));
    remember();
    filter();
  });
  store.addEventListener("change", () => { filter(); list.refill(); }, { signal });
  // A value that comes by itself is shown before the next line is read.
  live.addEventListener("readings", ({ detail }) => {
    for (const { device, channels } of detail.readings) {
      for (const channel of lines.get(device)?.channels ?? []) {
        const come = Object.hasOwn(channels, channel.metric) ? channels[channel.metric] : null; // a channel may be called "constructor"
        if (!come || Date.parse(come.time) < Date.parse(channel.last_at ?? 0)) continue;
        channel.last = come.value;
        channel.last_at = come.time;
      }
    }
    list.refill();
  }, { signal });
  live.addEventListener("resync", soon, { signal });
  filter();
  if (store.all.length === 0) store.refresh();
  return "Devices";
}

function makeRow() {
  const parts = {
    mark: h("span", { role: "img" }), name: h("span", { class: "name" }), about: h("span", { class: "about soft small" }), seen: age(0, "never"),
    lines: Array.from({ length: sparkChannels }, () => {
      const line = { metric: h("span", { class: "metric soft small" }), value: h("span", { class: "value" }), unit: h("span", { class: "unit soft" }), spark: spark(), age: age(0, "") };
      line.element = h("span", { class: "line", dataset: { aged: "none" } }, line.spark, h("span", { class: "reading" }, line.metric, h("span", null, line.value, line.unit)), line.age);
      return line;
    }),
  };
  const row = h("a", { class: "device-row" }, parts.mark, h("span", { class: "names" }, parts.name, parts.about), parts.lines.map((line) => line.element), h("span", { class: "seen soft small" }, parts.seen));
  row.parts = parts;
  return row;
}

function about(device) {
  const labels = Object.entries(device.labels ?? {}).map(([key, text]) => `${key}=${text}`);
  return [device.model, ...labels].filter(Boolean).join(" · ");
}

const textOf = (device) => (device.name + " " + about(device)).toLowerCase();
