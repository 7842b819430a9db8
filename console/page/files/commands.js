// Commands to a device: a form, and what becomes of them, as it happens.
import { h, setText, announce } from "./dom.js";
import { get, post, query, devicePath } from "./api.js";
import { live } from "./live.js";
import { age } from "./time.js";

const shown = 20;

export function commands({ name, signal, session }) {
  const list = h("ol", { class: "commands" });
  const none = h("p", { class: "soft", text: "None yet." });
  const byNumber = new Map();
  const section = h("section", { class: "panel", "aria-label": "Commands" }, h("h2", { text: "Commands" }),
    session.may("operator") ? form() : h("p", { class: "soft small", text: "Sending commands needs the role operator." }), none, list);

  function form() {
    const command = h("input", { id: "command", name: "command", required: true, maxlength: "64", pattern: "[A-Za-z0-9_.\\/\\-]+", list: "command-names", autocomplete: "off", spellcheck: "false", placeholder: "identify" });
    const args = h("textarea", { id: "args", name: "args", rows: "2", spellcheck: "false", placeholder: '{"ms": 500}', "aria-describedby": "args-problem" });
    const ttl = h("input", { id: "ttl", name: "ttl", type: "number", min: "1", max: "2592000", value: "60", required: true });
    const idempotent = h("input", { id: "idempotent", type: "checkbox" });
    const problem = h("p", { class: "problem", role: "alert", id: "args-problem" });
    const button = h("button", { type: "submit", class: "primary", text: "Send" });
    const form = h("form", { class: "command-form", "aria-label": "Send a command" },
      h("div", { class: "field" }, h("label", { for: "command", text: "Command" }), command),
      h("datalist", { id: "command-names" }, ["identify", "set_interval", "reboot"].map((value) => h("option", { value }))),
      h("div", { class: "field" }, h("label", { for: "args", text: "Arguments, JSON" }), args),
      h("div", { class: "field-row" },
        h("div", { class: "field" }, h("label", { for: "ttl", text: "Waits for it, s" }), ttl),
        h("label", { class: "check" }, idempotent, "May run twice"), button),
      problem);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      setText(problem, "");
      const body = { name: command.value.trim(), ttl_s: Number(ttl.value), idempotent: idempotent.checked };
      if (args.value.trim()) {
        try {
          body.args = JSON.parse(args.value);
        } catch (error) {
          setText(problem, "The arguments are no JSON: " + error.message);
          return args.focus();
        }
      }
      button.disabled = true;
      try {
        show(await post(devicePath(name) + "/commands", body));
      } catch (error) {
        setText(problem, error.message);
      } finally {
        button.disabled = false;
      }
    });
    return form;
  }

  // show puts a command where it belongs, or what is new of it, and tells it if
  // it is news.
  function show(command, told = true) {
    let row = byNumber.get(command.number);
    if (row && rank(row.command.state) > rank(command.state)) return; // older news
    if (!row) {
      row = {
        chip: h("span", { class: "chip" }), answer: h("pre", { class: "answer", hidden: true }), note: h("p", { class: "soft small", hidden: true }),
        steps: h("ol", { class: "steps small" }),
      };
      const more = h("details", null, h("summary", { class: "small soft" }, `by ${command.asked_by || "somebody"} `, age(Date.parse(command.created_at))), row.steps);
      more.addEventListener("toggle", () => { if (more.open) history(row); });
      row.more = more;
      row.element = h("li", { dataset: { number: command.number } },
        h("div", { class: "command-head" }, h("code", { text: command.name + (command.args === undefined ? "" : " " + JSON.stringify(command.args)) }), row.chip), row.answer, row.note, more);
      byNumber.set(command.number, row);
      const after = [...byNumber.entries()].filter(([number]) => number < command.number).sort(([a], [b]) => b - a)[0];
      list.insertBefore(row.element, after?.[1].element ?? null);
      none.hidden = true;
    }
    const news = row.command?.state !== command.state;
    row.command = command;
    setText(row.chip, command.state);
    row.chip.dataset.state = command.state;
    row.answer.hidden = command.detail === undefined;
    setText(row.answer, command.detail === undefined ? "" : typeof command.detail === "string" ? command.detail : JSON.stringify(command.detail, null, 1));
    row.note.hidden = !command.note;
    setText(row.note, command.note ?? "");
    if (news && told) announce(`Command ${command.name}: ${command.state}`);
    if (news && row.more.open) history(row);
  }

  async function history(row) {
    try {
      const { steps } = await get("/commands/" + row.command.number, signal);
      row.steps.replaceChildren(...(steps ?? []).map((step) => h("li", null, h("span", { text: step.state }), age(Date.parse(step.at)),
        h("span", { class: "soft", text: [step.gateway && "by " + step.gateway, step.note].filter(Boolean).join(", ") }))));
    } catch { /* next time */ }
  }

  async function read() {
    try {
      for (const command of (await get("/commands" + query({ device: name, limit: shown }), signal)).reverse()) show(command, byNumber.has(command.number));
    } catch { /* the page says why */ }
  }
  live.addEventListener("command", ({ detail }) => { if (detail.command.device === name) show(detail.command); }, { signal });
  live.addEventListener("resync", read, { signal });
  section.ready = read();
  return section;
}

const order = ["queued", "sent", "accepted"];
const rank = (state) => (order.includes(state) ? order.indexOf(state) : order.length);
