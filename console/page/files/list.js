// A list of any length of which only what is in sight exists. Rows have one
// height and are used again; the whole page scrolls, not a box inside it.
import { h } from "./dom.js";

const spare = 6; // rows above and below what is in sight

// VirtualList shows items in element. make() makes a row; fill(row, item) shows
// an item in it; inSight(items) tells which are to be seen.
export class VirtualList {
  items = [];
  #rows = []; // {element, item, index}
  #box;
  #make;
  #fill;
  #inSight;
  #height = 0;
  #first = -1;
  #last = -1;
  #frame = 0;

  constructor(label, { make, fill, inSight, signal }) {
    this.#make = make;
    this.#fill = fill;
    this.#inSight = inSight;
    this.#box = h("div", { class: "rows" });
    this.element = h("div", { role: "list", "aria-label": label, class: "list" }, this.#box);
    const soon = () => { this.#frame ||= requestAnimationFrame(() => { this.#frame = 0; this.#place(); }); };
    addEventListener("scroll", soon, { passive: true, signal });
    addEventListener("resize", () => { this.#height = 0; soon(); }, { signal });
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  // show shows other items; those that stay keep their place.
  show(items) {
    this.items = items;
    this.#first = -1;
    this.#place();
  }

  // refill shows items again, as they changed.
  refill() {
    for (const row of this.#rows) if (row.item) this.#fill(row.element, row.item);
  }

  #measure() {
    if (this.#height) return;
    const probe = h("div", { role: "listitem" }, this.#make());
    this.#box.append(probe);
    this.#height = probe.getBoundingClientRect().height || 56;
    probe.remove();
  }

  #place() {
    if (!this.element.isConnected) return;
    this.#measure();
    this.#box.style.height = this.items.length * this.#height + "px";
    const top = -this.#box.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / this.#height) - spare);
    const last = Math.min(this.items.length, Math.ceil((top + innerHeight) / this.#height) + spare);
    if (first === this.#first && last === this.#last) return;
    this.#first = first;
    this.#last = last;
    // A row that has an item of the new stretch keeps it, and so its focus.
    const wanted = new Map();
    for (let i = first; i < last; i++) wanted.set(this.items[i], i);
    const free = [];
    for (const row of this.#rows) {
      if (wanted.has(row.item)) {
        this.#put(row, row.item, wanted.get(row.item));
        wanted.delete(row.item);
      } else free.push(row);
    }
    for (const [item, index] of wanted) {
      let row = free.pop();
      if (!row) {
        const content = this.#make();
        row = { element: content, outer: h("div", { role: "listitem", class: "row-place" }, content) };
        this.#rows.push(row);
        this.#box.append(row.outer);
      }
      this.#put(row, item, index);
    }
    for (const row of free) {
      row.item = null;
      row.outer.hidden = true;
    }
    this.#order();
    this.#inSight(this.items.slice(first, last));
  }

  // order brings the rows into the order in which one tabs through them and a
  // screen reader reads them; the one that has the focus would lose it.
  #order() {
    if (this.#box.contains(document.activeElement)) return;
    this.#rows.sort((a, b) => (a.item ? a.index : Infinity) - (b.item ? b.index : Infinity));
    this.#rows.forEach((row, i) => {
      if (this.#box.children[i] !== row.outer) this.#box.insertBefore(row.outer, this.#box.children[i]);
    });
  }

  #put(row, item, index) {
    if (row.item !== item) {
      row.item = item;
      this.#fill(row.element, item);
    }
    row.outer.hidden = false;
    row.outer.style.transform = `translateY(${index * this.#height}px)`;
    row.outer.setAttribute("aria-posinset", index + 1);
    row.outer.setAttribute("aria-setsize", this.items.length);
    row.index = index;
  }

  #key(event) {
    const row = this.#rows.find((row) => row.element === document.activeElement);
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(innerHeight / this.#height) - 3);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.items.length, End: this.items.length }[event.key];
    if (!step) return;
    event.preventDefault();
    this.focus(Math.max(0, Math.min(this.items.length - 1, row.index + step)));
  }

  // focus brings a row into sight and gives it the focus.
  focus(index) {
    const top = this.#box.getBoundingClientRect().top + index * this.#height;
    if (top < 140) scrollBy(0, top - 140);
    else if (top + this.#height > innerHeight - 16) scrollBy(0, top + this.#height - innerHeight + 16);
    this.#place();
    this.#rows.find((row) => row.item && row.index === index)?.element.focus({ preventScroll: true });
  }
}
