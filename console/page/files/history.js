// What a device was refused, and when it was connected.
import { h } from "./dom.js";
import { get, devicePath } from "./api.js";
import { live } from "./live.js";
import { age, whenOf, length, now } from "./time.js";
import { count } from "./number.js";

const page = 20;
const readEvery = 10_000; // ms

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
  read();
  return h("section", { class: "panel", "aria-label": title }, h("h2", { text: title }), empty, table, more);
}

export function refusals({ name, signal }) {
  return pages("Refusals", devicePath(name) + "/rejects", {
    signal, none: "Nothing was refused.", columns: ["When", "What", "Why"],
    row: (r) => [
      age(Date.parse(r.at)),
      r.channel ? h("span", null, r.channel, h("span", { class: "soft", text: r.n > 1 ? ` in ${count(r.n)} rows` : "" })) : `${count(r.n)} ${r.n === 1 ? "row" : "rows"}`,
      h("span", null, h("code", { text: r.code }), " ", h("span", { class: "soft", text: r.detail })),
    ],
    again: (call) => live.addEventListener("refusal", ({ detail }) => { if (detail.device === name) call(); }, { signal }),
  });
}

export function sessions({ name, signal }) {
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
