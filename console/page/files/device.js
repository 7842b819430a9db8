// One device: why, charts, commands, what it was refused, when it was connected.
import { h, icon, setText } from "./dom.js";
import { get, devicePath } from "./api.js";
import { live } from "./live.js";
import { age, whenOf } from "./time.js";
import { setMark } from "./mark.js";
import { count } from "./number.js";
import { charts } from "./charts.js";
import { commands } from "./commands.js";
import { sessions, refusals } from "./history.js";
import { snippets, snippet } from "./sql.js";

const whyEvery = 10_000; // ms

export function device(main, { name, signal, session }) {
  const mark = setMark(h("span", { role: "img" }), "offline"), state = h("span", { class: "state-word", text: " " });
  const about = h("p", { class: "soft about-line", text: " " });
  const verdict = h("p", { class: "verdict", text: " " }), advice = h("p", { class: "advice soft small", text: " " });
  const handshakes = h("ul", { class: "plain-list small", hidden: true });
  const why = h("section", { class: "panel why", "aria-label": "Why" }, h("h2", { text: "Why" }), verdict, advice, handshakes);
  const sql = h("div", { class: "snippets" });
  const missing = h("p", { class: "problem", role: "alert" });
  let exists = true;
  const context = { name, signal, session };
  main.append(
    h("nav", { "aria-label": "Way back", class: "crumbs" }, h("a", { href: "#/devices" }, icon("back"), "Devices")),
    h("div", { class: "title" }, h("h1", null, mark, h("span", { class: "name", text: name })), state),
    about, missing);
  const readings = charts({ ...context, known: showSql }), others = [commands(context), refusals(context), sessions(context)];

  function showSql(metric) { sql.replaceChildren(...snippets(name, metric).map(snippet)); }
  showSql();

  async function read() {
    try {
      const [d, reasons] = await Promise.all([get(devicePath(name), signal), get(devicePath(name) + "/why", signal)]);
      setText(missing, "");
      setMark(mark, d.state);
      setText(state, d.state);
      state.dataset.state = d.state;
      const labels = Object.entries(d.labels).map(([key, text]) => `${key}=${text}`);
      const last = d.last_session;
      about.replaceChildren(...[d.model, ...labels, last && (last.firmware && "firmware " + last.firmware), last?.remote && "from " + last.remote,
        `${count(d.totals.rows_committed)} rows`, `${count(d.sessions)} ${d.sessions === 1 ? "session" : "sessions"}`]
        .filter(Boolean).map((text) => h("span", { text })), h("span", null, "seen ", age(Date.parse(d.last_seen) || 0)));
      setText(verdict, reasons.verdict[0].toUpperCase() + reasons.verdict.slice(1) + ".");
      setText(advice, reasons.advice ? "What to do: " + reasons.advice : "");
      why.dataset.kind = d.state !== "online" ? "bad" : reasons.advice ? "warn" : "good";
      handshakes.hidden = reasons.refused_handshakes.length === 0;
      handshakes.replaceChildren(...reasons.refused_handshakes.slice(0, 5).map((r) =>
        h("li", null, `Not let in ${count(r.times)} ${r.times === 1 ? "time" : "times"}, last ${whenOf(Date.parse(r.last_at))}: ${r.words}`)));
    } catch (error) {
      exists = error.status !== 404;
      if (error.status) setText(missing, error.message);
    }
  }
  const timer = setInterval(() => { if (live.state === "live" && !document.hidden) read(); }, whyEvery);
  signal.addEventListener("abort", () => clearInterval(timer));
  live.addEventListener("resync", read, { signal });
  live.addEventListener("presence", ({ detail }) => { if (detail.device === name) read(); }, { signal });
  live.watch([name]);
  // The rest comes at once when all of it has its size, so that nothing jumps.
  Promise.allSettled([read(), ...[readings, ...others].map((section) => section.ready)]).then(() => {
    if (signal.aborted || !exists) return;
    main.append(why, h("div", { class: "device-columns" }, h("div", null, readings), h("div", null, others)),
      h("section", { class: "panel" }, h("h2", { text: "SQL for this device" }), sql));
  });
  return name;
}
