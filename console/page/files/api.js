// The HTTP API, with errors that say what a person can do.

const prefix = "/api/v1";

// Lost: the server can't be reached. Refused: it answered, with a problem.
export class Lost extends Error {}
export class Refused extends Error {
  constructor(status, problem) {
    const more = (problem.errors ?? []).map((e) => [e.location, e.message].filter(Boolean).join(" ")).join("; ");
    super([problem.detail || problem.title, more].filter(Boolean).join(": "));
    this.status = status;
  }
}

// whenLoggedOut is called when the server no longer knows who asks.
let whenLoggedOut = () => {};
export function onLoggedOut(call) { whenLoggedOut = call; }

async function ask(method, path, body, signal) {
  let response;
  try {
    response = await fetch(prefix + path, {
      method, signal, credentials: "same-origin",
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Lost("the server can't be reached");
  }
  if (response.ok) {
    if (response.status === 204) return null;
    try {
      return await response.json();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Lost("the answer broke off");
    }
  }
  let problem = { title: response.statusText || "HTTP " + response.status };
  try { problem = await response.json(); } catch { /* not ours: a proxy's */ }
  if (response.status === 401 && path !== "/login" && path !== "/me") whenLoggedOut();
  throw new Refused(response.status, problem);
}

export const get = (path, signal) => ask("GET", path, undefined, signal);
export const post = (path, body) => ask("POST", path, body);

// query writes parameters; lists are repeated, null is left out.
export function query(parameters) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") search.append(name, each);
    }
  }
  const text = search.toString();
  return text && "?" + text;
}

export const devicePath = (name) => "/devices/" + encodeURIComponent(name);
