// What a device was refused, and when it was connected.
import { h, setText } from "./dom.js";
import { get, query, devicePath } from "./api.js";
import { live } from "./live.js";
import { age, whenOf, dateOf, daysBefore, length, now } from "./time.js";
import { count } from "./number.js";

const page = 20;
const readEvery = 10_000; // ms
const uptimeDays = 30;

// pages shows a list that goes back in time, a page at a time.
function pages(title, path, { signal, none, row, columns, again }) {
  const body = h("tbody");
  const empty = h("p", { class: "soft", text: "Reading …" });
  const more = h("button", { type: "button", class: "quiet", text: "Earlier ones", hidden: true });
  const table = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title, hidden: true },
    h("table", null, h("thead", null, h("tr", null, columns.map((text) => h("th", { scope: "col", text })))), body));
  let last = 0;
  async function read(before) {
    try {
      const list = await get(`${path}?limit=${page}${before ? "&before=" + before : ""}`, signal);
      if (!before) body.replaceChildren();
      body.append(...list.map((each) => h("tr", null, row(each).map((cell) => h("td", null, cell)))));
      last = list.at(-1)?.number ?? last;
      more.hidden = list.length < page;
      table.hidden = body.children.length === 0;
      empty.hidden = !table.hidden;
      empty.textContent = none;
    } catch { /* the page says why */ }
  }
  more.addEventListener("click", () => read(last));
  let timer = 0;
  again(() => {
    clearTimeout(timer);
    timer = setTimeout(() => { if (!signal.aborted && body.children.length <= page) read(); }, 300);
  });
  live.addEventListener("resync", () => read(), { signal });
  const regular = setInterval(() => { if (live.state === "live" && !document.hidden && body.children.length <= page) read(); }, readEvery);
  signal.addEventListener("abort", () => clearInterval(regular));
  const section = h("section", { class: "panel", "aria-label": title }, h("h2", { text: title }), empty, table, more);
  section.ready = read();
  return section;
}

export function refusals({ name, signal }) {
  return pages("Refusals", devicePath(name) + "/rejects", {
    signal, none: "Nothing was refused.", columns: ["When", "What", "Why"],
    row: (r) => [
      age(Date.parse(r.at)),
      r.channel ? h("span", { class: "what" }, r.channel, h("span", { class: "soft", text: r.n > 1 ? ` in ${count(r.n)} rows` : "" })) : `${count(r.n)} ${r.n === 1 ? "row" : "rows"}`,
      h("span", null, h("code", { text: r.code }), " ", h("span", { class: "soft", text: r.detail })),
    ],
    again: (call) => live.addEventListener("refusal", ({ detail }) => { if (detail.device === name) call(); }, { signal }),
  });
}

// uptime is a bar a day, for which part of it the device was connected.
function uptime({ name, signal }) {
  const bars = h("ol", { class: "uptime", "aria-label": "Connected, day by day" });
  const words = h("p", { class: "soft small", text: " " });
  const read = async () => {
    try {
      const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
      const days = Array.from({ length: uptimeDays }, (_, i) => ({ day: dateOf(daysBefore(now(), uptimeDays - 1 - i)), known_s: 0, online_s: 0 }));
      for (const found of await get(devicePath(name) + "/uptime" + query({ from: days[0].day, zone }), signal)) {
        const day = days.find((each) => each.day === found.day);
        if (day) Object.assign(day, found);
      }
      bars.replaceChildren(...days.map((day) => {
        const fill = h("span");
        fill.style.height = (day.known_s ? Math.max(2, day.percent) : 0) + "%";
        const text = `${day.day}: ` + (day.known_s ? `${day.percent.toFixed(1)} %, offline ${count(day.losses)} ${day.losses === 1 ? "time" : "times"}` : "not known");
        return h("li", { title: text, dataset: { kind: !day.known_s ? "none" : day.percent >= 99 ? "good" : day.percent >= 90 ? "warn" : "bad" } }, fill, h("span", { class: "unseen", text }));
      }));
      const known = days.reduce((sum, day) => sum + day.known_s, 0), online = days.reduce((sum, day) => sum + day.online_s, 0);
      setText(words, known ? `Connected ${((100 * online) / known).toFixed(1)} % of the last ${count(uptimeDays)} days, as far as it is known` : "Nothing is known yet of when it was connected.");
    } catch { /* the page says why */ }
  };
  live.addEventListener("resync", read, { signal });
  read();
  return [bars, words];
}

// interruptions are looked for when asked for: every sample of a day is read.
function interruptions({ name, signal }) {
  const kinds = { link: "no link", silent: "silent", lost: "lost", refused: "refused" };
  const list = h("ul", { class: "plain-list small gaps", role: "status" });
  const button = h("button", { type: "button", class: "quiet", text: "Find gaps of the last day" });
  button.addEventListener("click", async () => {
    button.disabled = true;
    list.replaceChildren(h("li", { class: "soft", text: "Reading …" }));
    try {
      const found = await get(devicePath(name) + "/gaps?longer_than=1m", signal);
      list.replaceChildren(...(found.length ? found.map((gap) => h("li", null,
        h("span", { class: "chip", dataset: { state: gap.kind === "link" ? "offline" : "failed" }, text: kinds[gap.kind] ?? gap.kind }),
        h("span", { text: ` ${whenOf(Date.parse(gap.began))}, ${length(gap.lasted_s * 1000)}` }), h("span", { class: "soft", text: gap.reason && ": " + gap.reason }),
      )) : [h("li", { class: "soft", text: "None longer than a minute: neither of the link nor of the data." })]));
    } catch (error) {
      list.replaceChildren(h("li", { class: "problem", text: error.message }));
    }
    button.disabled = false;
  });
  return [button, list];
}

export function sessions({ name, signal }) {
  const section = sessionPages({ name, signal });
  section.querySelector("h2").after(...uptime({ name, signal }));
  section.append(...interruptions({ name, signal }));
  return section;
}

function sessionPages({ name, signal }) {
  return pages("Sessions", devicePath(name) + "/sessions", {
    signal, none: "It never connected.", columns: ["From", "For", "Rows", "Ended"],
    row: (s) => {
      const begun = Date.parse(s.connected_at), ended = Date.parse(s.disconnected_at) || 0;
      return [
        whenOf(begun), length((ended || now()) - begun), count(s.counts.rows_committed),
        ended ? h("span", { class: "soft", text: [s.close_code || null, s.reason || (s.close_code ? null : "an end that nobody saw")].filter(Boolean).join(" ") }) : h("span", { class: "chip", dataset: { state: "online" }, text: "open" }),
      ];
    },
    again: (call) => live.addEventListener("presence", ({ detail }) => { if (detail.device === name) call(); }, { signal }),
  });
}
