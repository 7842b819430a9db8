// The page's frame: who is logged in, which view is shown, is there a server.
import { h, setText, announce } from "./dom.js";
import { get, post, onLoggedOut, Lost } from "./api.js";
import { live } from "./live.js";
import { store } from "./store.js";
import { length, clockOf } from "./time.js";
import { overview } from "./overview.js";
import { devices } from "./devices.js";
import { device } from "./device.js";
import { sql } from "./sql.js";
import { login } from "./login.js";

const $ = (id) => document.getElementById(id);
export const session = { user: null, may: (role) => ranks.indexOf(session.user?.role) >= ranks.indexOf(role) };
const ranks = ["viewer", "operator", "admin"];

// A view fills main and returns its title; what it starts ends with signal.
let leave = new AbortController();

function route() {
  const [path, search] = (location.hash.slice(1) || "/").split("?");
  const parts = path.split("/").filter(Boolean).map((part) => { try { return decodeURIComponent(part); } catch { return part; } });
  return { parts, search: new URLSearchParams(search) };
}

function show() {
  if (!session.user) return;
  leave.abort();
  leave = new AbortController();
  live.watch([]);
  const { parts, search } = route();
  const view = parts[0] === "devices" ? (parts[1] ? device : devices) : parts[0] === "sql" ? sql : overview;
  const main = $("main");
  main.replaceChildren();
  const title = view(main, { name: parts[1], search, signal: leave.signal, session });
  document.title = title + " · Mooring";
  for (const link of document.querySelectorAll("#nav a[data-view]")) {
    link.toggleAttribute("aria-current", false);
    if (link.dataset.view === (parts[0] ?? "")) link.setAttribute("aria-current", "page");
  }
  scrollTo(0, 0);
}

addEventListener("hashchange", () => {
  if (takeLink()) return;
  show();
  // A screen reader learns where it is.
  const heading = document.querySelector("main h1");
  heading?.setAttribute("tabindex", "-1");
  heading?.focus({ preventScroll: true });
});

// The state of the line is always in sight.
function showState() {
  const chip = $("state"), banner = $("lost");
  document.body.dataset.state = session.user ? live.state : "out";
  if (live.state === "live") {
    setText(chip, "Live");
    if (!banner.hidden) announce("The server is back.");
    banner.hidden = true;
  } else if (live.state === "connecting") {
    setText(chip, "Connecting");
  } else {
    setText(chip, "No server");
    banner.hidden = false;
    setText($("lost-words"), `No connection to the server since ${clockOf(live.since)}. What is shown is from then; trying again.`);
  }
}
live.addEventListener("state", showState);
setInterval(() => {
  if (live.state !== "live" && session.user) setText($("lost-age"), `(${length(Date.now() - live.since)})`);
}, 1000);

function enter(user) {
  session.user = user;
  setText($("who"), user.name);
  $("who").title = "role " + user.role;
  live.start();
  showState();
  show();
}

function out(words) {
  live.stop();
  store.clear();
  leave.abort();
  leave = new AbortController();
  session.user = null;
  document.body.dataset.state = "out";
  $("lost").hidden = true;
  document.title = "Log in · Mooring";
  $("main").replaceChildren();
  login($("main"), words, enter);
}
onLoggedOut(() => { if (session.user) out("Your session has ended. Log in again."); });

$("logout").addEventListener("click", async () => {
  let words;
  try {
    await post("/logout");
  } catch (error) { // only the server can take its cookie back
    if (error.status !== 401) words = `You are still logged in, since ${error.message}. Reload the page and log out again; by itself the session ends within 12 hours.`;
  }
  out(words);
});
// The page's own link to its beginning must not become a route.
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("main").focus();
});

// A link that logs in carries its secret behind #, which browsers don't send: it
// stands in no log of a server or proxy.
function takeLink() {
  const link = /^#login=(\S+)$/.exec(location.hash);
  if (!link) return false;
  history.replaceState(null, "", location.pathname + "#/");
  start(link[1]);
  return true;
}

async function start(link) {
  try {
    if (link) return enter(await post("/login", { token: link }));
    enter(await get("/me"));
  } catch (error) {
    if (error instanceof Lost) {
      $("lost").hidden = false;
      setText($("lost-words"), "The server can't be reached. Trying again.");
      return void setTimeout(() => start(link), 2000);
    }
    if (link) {
      try { return enter(await get("/me")); } catch { /* nobody is logged in */ }
      return out(error.status === 401 ? "That link was used already, or is too old: it logs in once, within ten minutes." : error.message);
    }
    out(error.status === 401 ? "" : error.message);
  }
}

if (!takeLink()) start();

// The page itself opens without its server; nothing of the API is kept.
if ("serviceWorker" in navigator && isSecureContext) {
  const script = globalThis.trustedTypes?.createPolicy("mooring", { createScriptURL: (url) => url }).createScriptURL("/worker.js") ?? "/worker.js";
  navigator.serviceWorker.register(script).catch(() => {}); // a browser that forbids it just has no page without a server
}
