// The form for who comes without a link.
import { h, setText, announce } from "./dom.js";
import { post } from "./api.js";

export function login(main, words, enter) {
  const problem = h("p", { class: "problem", role: "alert", text: words ?? "" });
  const field = h("input", {
    id: "token", name: "token", type: "password", autocomplete: "current-password", required: true, spellcheck: "false", placeholder: "mru_…",
    "aria-describedby": "token-help",
  });
  const button = h("button", { type: "submit", class: "primary", text: "Log in" });
  const form = h("form", { class: "login panel" },
    h("h1", { text: "Mooring" }),
    h("p", { class: "soft", text: "Every reading of your devices, safe in PostgreSQL." }),
    problem,
    h("label", { for: "token", text: "Your token" }), field,
    h("p", { class: "soft small", id: "token-help" }, "An administrator makes one with ", h("code", { text: "mooring user add NAME" }), ". A link from ", h("code", { text: "mooring user link" }), " or ", h("code", { text: "mooring demo" }), " logs in without."),
    button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const user = await post("/login", { token: field.value.trim() });
      announce("Logged in as " + user.name);
      enter(user);
    } catch (error) {
      setText(problem, error.status === 401 ? "That token is none, or no longer one." : error.message);
      field.select();
    } finally {
      button.disabled = false;
    }
  });
  main.append(form);
  field.focus();
}
