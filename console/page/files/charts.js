// A device's channels: a chart of each, all over the same stretch of time.
import "./chart.js";
import { h, icon, setText } from "./dom.js";
import { get, query, devicePath } from "./api.js";
import { live } from "./live.js";
import { age, now, whenOf, length } from "./time.js";
import { reading as inUnits } from "./number.js";

const stretches = [["5 min", 300], ["1 h", 3600], ["6 h", 21600], ["24 h", 86400], ["7 d", 604800]];
const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
const points = 300; // at least half as many are drawn
const atOnce = 40; // channels of one question
const seldom = 5000; // ms between looks at steps that are longer

const stepFor = (span) => 1000 * (steps.find((s) => span / (s * 1000) <= points) ?? 604800);

export function charts({ name, signal, known }) {
  let span = 300_000; // ms
  let fixed = null; // {from, until}; null: the last span, moving on
  let step = stepFor(span);
  let reading = null; // AbortController of the whole stretch being read
  let busy = false; // the newest buckets are being read
  let asked = 0;
  let silent = false; // it has not sent anything yet
  const channels = new Map(); // metric → channel

  const status = h("p", { class: "soft small", role: "status", text: "Reading …" });
  const choice = h("div", { class: "choice", role: "group", "aria-label": "Stretch of time" },
    stretches.map(([text, seconds]) => h("button", { type: "button", dataset: { seconds }, text })));
  const moves = h("div", { class: "choice", role: "group", "aria-label": "Move in time" },
    h("button", { type: "button", "aria-label": "Earlier", dataset: { move: -0.5 } }, icon("earlier")),
    h("button", { type: "button", dataset: { live: true }, text: "Live" }),
    h("button", { type: "button", "aria-label": "Later", dataset: { move: 0.5 } }, icon("later")));
  const newest = h("button", { type: "button", hidden: true }); // where a stretch without readings lies behind them
  const box = h("div", { class: "charts" });
  const section = h("section", { class: "panel readings", "aria-label": "Readings" },
    h("div", { class: "bar" }, h("h2", { text: "Readings" }), choice, moves), status, newest, box,
    h("p", { class: "soft small hint", text: "Drag over a chart to look closer, double-click to step back. With the keyboard: arrows move, + and − zoom." }));

  const stretch = () => fixed ?? { from: now() - span, until: now() };

  function say() {
    for (const button of choice.children) button.setAttribute("aria-pressed", String(!fixed && Number(button.dataset.seconds) * 1000 === span));
    moves.children[1].setAttribute("aria-pressed", String(!fixed));
    if (silent) return setText(status, "It has not sent anything yet.");
    const { from, until } = stretch();
    setText(status, reading ? "Reading …" : (fixed ? `${whenOf(from)} to ${whenOf(until)}` : `The last ${length(until - from)}, as it comes`) + `, a point for ${length(step)}`);
  }

  // offer a way to the newest readings if they are older than what is shown.
  function offer() {
    const at = Math.max(0, ...[...channels.values()].map((channel) => (channel.kind === "text" ? 0 : channel.time ?? 0)));
    newest.hidden = at === 0 || at >= stretch().from;
    if (newest.hidden) return;
    newest.value = at;
    setText(newest, `To its newest readings, ${whenOf(at)}`);
  }

  const inSight = new Set();
  const sight = new IntersectionObserver((entries) => {
    let more = false;
    for (const entry of entries) {
      const channel = entry.target.channel;
      if (entry.isIntersecting) { inSight.add(channel); more ||= !channel.read; } else inSight.delete(channel);
    }
    if (more) load();
  }, { rootMargin: "300px" });
  signal.addEventListener("abort", () => { sight.disconnect(); reading?.abort(); });

  // meet makes room for a channel when it is first heard of.
  function meet(metric, unit, kind) {
    if (channels.has(metric)) return channels.get(metric);
    const chart = document.createElement("line-chart");
    chart.describe(metric, unit);
    const channel = { metric, unit, kind, chart, buckets: new Map(), read: false, last: h("span", { class: "value", text: "–" }), of: h("span", { class: "unit soft", text: kind === "number" ? unit : "" }), age: age(0) };
    const element = h("div", { class: "channel", dataset: { aged: "none", metric } },
      h("div", { class: "channel-head" }, h("h3", { text: metric }), h("p", null, channel.last, channel.of, channel.age)),
      kind === "text" ? null : chart);
    element.channel = channel;
    channels.set(metric, channel);
    silent = false;
    box.append(element);
    if (kind !== "text") sight.observe(element);
    if (channels.size === 1 && known) known(metric);
    return channel;
  }

  function took(metric, time, number, text) {
    const channel = channels.get(metric);
    if (!channel) return void start(); // a layout that is new
    if (channel.time > time || (number ?? text ?? null) === null) return;
    channel.time = time;
    if (channel.kind === "number") {
      const [digits, of] = inUnits(number, channel.unit);
      setText(channel.last, digits);
      setText(channel.of, of);
    } else setText(channel.last, text ?? (number ? "yes" : "no"));
    channel.age.time = time;
  }

  function draw() {
    const { from, until } = stretch();
    for (const channel of inSight) {
      channel.sorted ??= [...channel.buckets.values()].sort((a, b) => a.t - b.t);
      channel.chart.show(channel.sorted, step, from, until);
    }
  }

  function put(list) {
    for (const b of list) {
      const channel = channels.get(b.metric);
      if (!channel) continue;
      const t = Date.parse(b.ts);
      channel.buckets.set(t, { t, min: b.min, max: b.max, avg: b.avg, last: b.last, count: b.count });
      channel.sorted = null;
    }
  }

  const read = (from, until, metrics, signal) => get(devicePath(name) + "/readings" + query({
    from: new Date(from).toISOString(), until: new Date(until).toISOString(), step: step / 1000 + "s", metric: metrics,
  }), signal);

  // load reads the whole stretch of the channels in sight.
  async function load() {
    const wanted = [...inSight].slice(0, atOnce);
    if (wanted.length === 0) return say();
    reading?.abort();
    const mine = reading = new AbortController();
    for (const channel of wanted) channel.read = true;
    say();
    try {
      const { from, until } = stretch();
      const list = await read(Math.floor(from / step - 1) * step, until, wanted.map((c) => c.metric), mine.signal);
      if (reading !== mine) return;
      for (const channel of wanted) { channel.buckets.clear(); channel.sorted = null; }
      put(list);
    } catch (error) {
      if (reading !== mine) return;
      for (const channel of wanted) channel.read = false;
      reading = null;
      if (error.status) return setText(status, error.message);
    }
    reading = null;
    say();
    draw();
  }

  // follow reads the newest buckets again, while the chart moves on.
  async function follow() {
    if (fixed || busy || reading || live.state !== "live" || document.hidden) return;
    if (Date.now() - asked < Math.min(step, seldom) - 100) return;
    const wanted = [...inSight].filter((channel) => channel.read).slice(0, atOnce);
    if (wanted.length === 0) return;
    busy = true;
    asked = Date.now();
    try {
      const until = now() + 1000;
      const list = await read(Math.floor((until - 4000) / step - 1) * step, until, wanted.map((c) => c.metric), signal);
      const oldest = now() - span - 2 * step;
      for (const channel of wanted) for (const t of channel.buckets.keys()) if (t < oldest) channel.buckets.delete(t);
      if (!reading) put(list);
    } catch { /* live tells when the server is back */ } finally { busy = false; }
  }

  // look shows a stretch of time; one that reaches up to now moves on with it.
  const look = (from, until) => show(until - from, until >= now() ? null : { from, until });

  function show(lasting, at) {
    span = lasting;
    fixed = at;
    step = stepFor(span);
    for (const channel of channels.values()) { channel.read = false; channel.buckets.clear(); channel.sorted = null; }
    load();
  }

  section.addEventListener("stretch", ({ detail }) => look(detail.from, detail.until));
  choice.addEventListener("click", ({ target }) => {
    const seconds = Number(target.closest("button")?.dataset.seconds);
    if (seconds) show(seconds * 1000, null);
  });
  moves.addEventListener("click", ({ target }) => {
    const { move, live: toLive } = target.closest("button")?.dataset ?? {};
    const { from, until } = stretch();
    if (toLive) show(span, null);
    else if (move) look(from + span * move, until + span * move);
  });

  newest.addEventListener("click", () => {
    const until = Number(newest.value) + span / 50; // so that the newest one is not at the edge
    look(until - span, until);
    offer();
    moves.children[1].focus();
  });

  let starting = false;
  async function start() {
    if (starting) return;
    starting = true;
    try {
      const [layouts, latest] = await Promise.all([get(devicePath(name) + "/layouts", signal), get(devicePath(name) + "/latest", signal)]);
      for (const layout of layouts) for (const c of layout.channels) meet(c.name, c.unit ?? "", c.kind);
      for (const r of latest) took(r.metric, Date.parse(r.ts), r.value, r.text);
      silent = channels.size === 0;
      for (const channel of channels.values()) channel.read = false;
      load();
    } catch { /* the page says that there is no server, or no such device */ } finally {
      setTimeout(() => { starting = false; }, 1000);
    }
  }
  live.addEventListener("readings", ({ detail }) => {
    for (const each of detail.readings) {
      if (each.device !== name) continue;
      for (const [metric, come] of Object.entries(each.channels)) took(metric, Date.parse(come.time), come.value, come.text);
    }
  }, { signal });
  live.addEventListener("resync", start, { signal });
  const timer = setInterval(() => { follow(); offer(); if (!fixed) draw(); }, 500);
  signal.addEventListener("abort", () => clearInterval(timer));
  say();
  section.ready = start();
  return section;
}
