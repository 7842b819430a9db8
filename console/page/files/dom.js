// Elements made from script. Nothing here takes HTML as text, so nothing that a
// device is called or says can become markup.

const svgNames = new Set(["svg", "path", "circle", "line", "polyline", "g", "title"]);

// h makes an element: properties that begin with "on" are listeners, class,
// text and dataset are what they say, everything else is an attribute; null and
// false leave it out.
export function h(name, properties, ...children) {
  const element = svgNames.has(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.setAttribute("class", value);
    else if (key === "text") element.textContent = value;
    else if (key === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

// setText changes a text only if it differs: no work, and nothing said twice to
// a screen reader.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// announce says something to a screen reader when it has time.
export function announce(text) {
  setText(document.getElementById("said"), text);
}

// icons are paths in a square of 16.
const icons = {
  copy: "M5 5V2.5A1 1 0 0 1 6 1.5h7.5a1 1 0 0 1 1 1V10a1 1 0 0 1-1 1H11M2.5 5H10a1 1 0 0 1 1 1v7.5a1 1 0 0 1-1 1H2.5a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1Z",
  back: "M10 3 5 8l5 5",
  earlier: "M10 3 5 8l5 5",
  later: "M6 3l5 5-5 5",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10Zm3.6-1.4L14.5 14.5",
};

export function icon(name) {
  return h("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" }, h("path", { d: icons[name] }));
}

// copyButton copies what text() gives.
export function copyButton(what, text) {
  const words = h("span", { text: "Copy" });
  const button = h("button", { type: "button", class: "quiet copy", "aria-label": "Copy " + what }, icon("copy"), words);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      setText(words, "Copied");
      announce(what + " copied");
    } catch {
      setText(words, "Select it by hand"); // no right to, or no secure context
    }
    setTimeout(() => setText(words, "Copy"), 2000);
  });
  return button;
}
