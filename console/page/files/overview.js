// How the fleet does: five figures, who is away, and what happens.
import "./chart.js";
import { h, setText } from "./dom.js";
import { live } from "./live.js";
import { store } from "./store.js";
import { spark, draw } from "./spark.js";
import { age, clockOf, now } from "./time.js";
import { count, rate, bytes, milliseconds } from "./number.js";
import { stateMark } from "./mark.js";

const shownAway = 8, shownEvents = 60, shownFor = 300_000, shownLeast = 60_000; // devices, events, ms

// figures are what the cards show: [number, unit, note] of a message.
const figures = [
  ["Online", (f) => [count(f.online), "", `of ${count(f.devices)} devices`], (f) => f.online],
  ["Rows a second", (f) => [rate(f.rows_per_s), "/s", "committed"], (f) => f.rows_per_s],
  ["Time to ack", (f) => [...milliseconds(f.ack_p50_ms), `99 % within ${milliseconds(f.ack_p99_ms).join(" ")}`], (f) => f.ack_p50_ms],
  ["Waiting", (f) => [...bytes(f.waiting_bytes), "for the database"], (f) => f.waiting_bytes],
  ["Refused", (f) => [rate(f.refusals_per_min), "/min", "rows"], (f) => f.refusals_per_min],
];

export function overview(main, { signal }) {
  const cards = figures.map(([title, show, of]) => {
    const number = h("span", { class: "number", text: "–" }), unit = h("span", { class: "unit" }), note = h("p", { class: "soft small", text: "\u00a0" });
    const line = spark();
    const element = h("div", { class: "card" }, h("h2", { text: title }), h("p", { class: "figure" }, number, unit), note, line);
    return { element, refresh() {
      const last = live.history.at(-1);
      if (!last) return;
      const [n, u, words] = show(last);
      setText(number, n); setText(unit, u); setText(note, words);
      draw(line, live.history.slice(-120).map(of), 0);
    } };
  });
  const charts = [["Rows a second", "/s", (f) => f.rows_per_s], ["Time to ack, 99 % within", "ms", (f) => f.ack_p99_ms]].map(([title, unit, of]) => {
    const chart = document.createElement("line-chart");
    chart.describe(title, unit, 0);
    return { element: h("section", { class: "panel" }, h("h2", null, title, h("span", { class: "unit soft", text: unit })), chart), refresh() {
      const points = live.history.filter((f) => of(f) !== null).map((f) => ({ t: Date.parse(f.time), min: of(f), max: of(f), avg: of(f), last: of(f), count: 1 }));
      // As much as there is, so that a page just opened shows no empty chart.
      chart.show(points, 1000, Math.max(now() - shownFor, Math.min(now() - shownLeast, points[0]?.t ?? 0)), now());
    } };
  });
  const away = h("div", { class: "away" });
  const log = h("ol", { class: "events", role: "log", "aria-live": "off", "aria-label": "What happens" });
  main.append(
    h("div", { class: "title" }, h("h1", { text: "Overview" }), h("p", { class: "soft small" }, "figures ", age(0, "not yet there"))),
    h("section", { class: "cards", "aria-label": "Figures", dataset: { aged: "none" } }, cards.map((card) => card.element)),
    h("div", { class: "pair" }, charts.map((chart) => chart.element)),
    h("div", { class: "columns" },
      h("section", { class: "panel" }, h("h2", { text: "Away" }), away),
      h("section", { class: "panel" }, h("h2", { text: "What happens" }), log, h("p", { class: "soft small empty", text: "Devices that come and go, commands and refusals show here while the page is open." }))));
  const figuresAge = main.querySelector(".title time-age"), section = main.querySelector(".cards");

  const refresh = () => {
    for (const card of [...cards, ...charts]) card.refresh();
    const last = live.history.at(-1);
    if (last) { figuresAge.time = Date.parse(last.time); section.dataset.aged = "fresh"; }
  };
  const showAway = () => {
    const offline = store.all.filter((device) => device.state === "offline").sort((a, b) => b.seen - a.seen);
    const rows = offline.slice(0, shownAway).map((device) => h("li", null,
      stateMark(device.state),
      h("a", { href: "#/devices/" + encodeURIComponent(device.name), text: device.name }),
      h("span", { class: "soft small reason", text: device.reason ?? "" }),
      age(device.seen, "never connected")));
    away.replaceChildren(rows.length ? h("ul", { class: "plain-list" }, rows)
      : h("p", { class: "soft", text: store.complete ? (store.all.length ? "Nobody: every device is online." : "There are no devices yet. Add one: mooring device add NAME") : "Reading …" }));
    if (offline.length > shownAway) away.append(h("p", null, h("a", { href: "#/devices?state=offline", text: `All ${count(offline.length)} that are away` })));
  };
  const add = (kind, device, words, time) => {
    log.prepend(h("li", { class: kind },
      h("time", { text: clockOf(time || now()) }),
      h("a", { href: "#/devices/" + encodeURIComponent(device), text: device }), h("span", { text: words })));
    while (log.children.length > shownEvents) log.lastChild.remove();
  };
  live.addEventListener("fleet", refresh, { signal });
  store.addEventListener("change", showAway, { signal });
  live.addEventListener("presence", ({ detail: p }) => add(p.online ? "came" : "went", p.device,
    p.online ? "came online" : "went offline" + (p.reason ? ": " + p.reason : ""), Date.parse(p.since)), { signal });
  live.addEventListener("command", ({ detail: { command: c } }) => add("command", c.device, `command ${c.name}: ${c.state}`, now()), { signal });
  live.addEventListener("refusal", ({ detail: r }) => add("refusal", r.device, "refused: " + r.message, Date.parse(r.time)), { signal });
  live.addEventListener("skipped", ({ detail: s }) => {
    log.prepend(h("li", { class: "refusal" }, h("time", { text: clockOf(now()) }), h("span", { text: s.count ? `${count(s.count)} ${s.what} came too fast to be shown` : `some ${s.what} may be missing here` })));
  }, { signal });
  refresh();
  showAway();
  return "Overview";
}
