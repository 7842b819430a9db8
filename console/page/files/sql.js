// The same readings for SQL: what to copy into psql, Grafana or a notebook.
import { h, copyButton } from "./dom.js";

const quote = (text) => "'" + text.replaceAll("'", "''") + "'";

export function snippets(device, metric) {
  const d = quote(device ?? "boiler-7"), m = quote(metric ?? "temperature");
  return [
    ["The last hour of a channel", `SELECT ts, value FROM readings\n WHERE device = ${d} AND metric = ${m}\n   AND ts > now() - interval '1 hour'\n ORDER BY ts;`],
    ["The last known value of everything", `SELECT metric, value, text, unit, ts FROM latest\n WHERE device = ${d}\n ORDER BY metric;`],
    ["Averages a minute", `SELECT date_bin('1 minute', ts, '2000-01-01') AS minute,\n       min(value), avg(value), max(value), count(*)\n  FROM readings\n WHERE device = ${d} AND metric = ${m}\n   AND ts > now() - interval '1 day'\n GROUP BY minute ORDER BY minute;`],
    ["Is it online, since when, why not", `SELECT device, online, since, last_seen, last_close_reason\n  FROM device_status\n WHERE device = ${d};`],
    ["What was refused, and why", `SELECT * FROM refusals\n WHERE device = ${d}\n ORDER BY at DESC LIMIT 20;`],
  ];
}

export function snippet([title, code]) {
  return h("section", { class: "snippet" },
    h("div", { class: "snippet-head" }, h("h3", { text: title }), copyButton(title, () => code)),
    h("pre", { tabindex: "0", "aria-label": title }, h("code", { text: code })));
}

export function sql(main) {
  main.append(
    h("h1", { text: "SQL" }),
    h("p", { class: "lead" }, "Every reading is a row in PostgreSQL. A role that may only read is enough:"),
    snippet(["Connect", 'psql "$(mooring dsn)"']),
    h("div", { class: "snippets" }, ...snippets().map(snippet)),
    h("h2", { text: "Over HTTP" }),
    snippet(["A stretch of time as CSV", `curl -H "Authorization: Bearer $TOKEN" \\\n  '${location.origin}/api/v1/devices/boiler-7/readings?format=csv&step=1m'`]),
    h("p", null, "All operations: ", h("a", { href: "/api/v1/docs", text: "the API's documentation" }), "."),
  );
  return "SQL";
}
