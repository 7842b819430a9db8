// A line small enough for a row of a list.
import { h } from "./dom.js";

const width = 100, height = 24, margin = 2;

// spark makes an empty one; draw fills it.
export function spark() {
  return h("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, h("path"));
}

// draw shows values at equal steps; null interrupts the line. The lower end is
// the least value, or floor.
export function draw(svg, values, floor) {
  const line = svg.firstChild;
  const known = values.filter((value) => value !== null && Number.isFinite(value));
  if (known.length === 0) {
    line.setAttribute("d", "");
    return;
  }
  let low = floor ?? Math.min(...known), high = Math.max(...known);
  if (high - low < Math.abs(high) * 1e-6 + 1e-12) {
    const room = Math.max(1, Math.abs(high) * 1e-3);
    high += room;
    if (floor === undefined) low -= room;
  }
  const x = (i) => (margin + (i / Math.max(1, values.length - 1)) * (width - 2 * margin)).toFixed(1);
  const y = (value) => (height - margin - ((value / 2 - low / 2) / (high / 2 - low / 2)) * (height - 2 * margin)).toFixed(1);
  let path = "", open = false;
  values.forEach((value, i) => {
    if (value === null || !Number.isFinite(value)) { open = false; return; }
    // A point by itself is a short stroke.
    path += open ? `L${x(i)} ${y(value)}` : `M${x(i)} ${y(value)}h.1`;
    open = true;
  });
  line.setAttribute("d", path);
}
