// <line-chart> draws one channel over a stretch of time: a line of averages in a
// band from the least to the greatest value. It asks for another stretch by the
// event "stretch", and leaves it to others to bring the data.
import { h, setText } from "./dom.js";
import { axis, ticks, quantity, count } from "./number.js";
import { whenOf, clockOf, dayOf } from "./time.js";

const left = 56, right = 12, top = 8, bottom = 22; // px around the plot
const timeSteps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000, 7776000, 31536000, 157680000];
const leastStretch = 5000, longestStretch = 20 * 31536000_000; // ms; what zooming ends at

class LineChart extends HTMLElement {
  #canvas = h("canvas", { "aria-hidden": "true" });
  #tip = h("div", { class: "tip", hidden: true });
  #plot = h("div", { class: "plot", tabindex: "0", role: "group", "aria-roledescription": "chart" }, this.#canvas, this.#tip);
  #buckets = []; // {t, min, max, avg, last, count}, in the order of time
  #step = 1000; // ms of a bucket
  #from = 0;
  #until = 1;
  #unit = "";
  #floor;
  #name = "";
  #frame = 0;
  #size = { width: 0, height: 0 };
  #pointer = null; // x under the pointer
  #drag = null; // x where a drag began
  #described = 0;
  #ranges = { low: NaN, high: NaN };
  #observer = new ResizeObserver(([entry]) => {
    this.#size = { width: entry.contentRect.width, height: entry.contentRect.height };
    this.#soon();
  });

  connectedCallback() {
    if (!this.firstChild) {
      this.append(this.#plot);
      this.#listen();
    }
    this.#observer.observe(this.#plot);
  }

  disconnectedCallback() {
    this.#observer.disconnect();
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  // describe names the channel; floor, if given, is where its axis begins.
  describe(name, unit, floor) {
    this.#name = name;
    this.#unit = unit;
    this.#floor = floor;
    this.#plot.setAttribute("aria-label", name);
  }

  // show shows buckets of step ms between two times.
  show(buckets, step, from, until) {
    // Another stretch, and the first readings in it, are said at once.
    const other = Math.abs(from - this.#from) > 10_000 || Math.abs(until - from - (this.#until - this.#from)) > 1;
    if (other || (buckets.length > 0 && this.#buckets.length === 0)) this.#described = 0;
    this.#buckets = buckets;
    this.#step = step;
    this.#from = from;
    this.#until = until;
    this.#soon();
  }

  #soon() { if (this.isConnected) this.#frame ||= requestAnimationFrame(() => { this.#frame = 0; this.#draw(); }); }

  #x(time) { return left + ((time - this.#from) / (this.#until - this.#from)) * (this.#size.width - left - right); }
  #time(x) { return this.#from + ((x - left) / (this.#size.width - left - right)) * (this.#until - this.#from); }

  #ask(from, until) {
    const middle = (from + until) / 2, half = Math.min(longestStretch, Math.max(leastStretch, until - from)) / 2;
    this.dispatchEvent(new CustomEvent("stretch", { bubbles: true, detail: { from: middle - half, until: middle + half } }));
  }

  // zoom makes the stretch longer (factor above 1) or shorter around a time.
  #zoom(factor, around = (this.#from + this.#until) / 2) {
    this.#ask(around - (around - this.#from) * factor, around + (this.#until - around) * factor);
  }

  #listen() {
    const plot = this.#plot;
    const at = (event) => event.clientX - plot.getBoundingClientRect().left;
    plot.addEventListener("pointermove", (event) => { this.#pointer = at(event); this.#soon(); });
    plot.addEventListener("pointerleave", () => { if (this.#drag === null) { this.#pointer = null; this.#soon(); } });
    plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.#pointer = this.#drag = at(event);
      plot.setPointerCapture(event.pointerId);
    });
    plot.addEventListener("pointerup", (event) => {
      const begun = this.#drag, ended = at(event);
      this.#drag = null;
      if (begun !== null && Math.abs(ended - begun) > 8) this.#ask(this.#time(Math.min(begun, ended)), this.#time(Math.max(begun, ended)));
      this.#soon();
    });
    plot.addEventListener("pointercancel", () => { this.#drag = this.#pointer = null; this.#soon(); });
    plot.addEventListener("dblclick", (event) => this.#zoom(2, this.#time(at(event))));
    plot.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return; // the page scrolls
      event.preventDefault();
      this.#zoom((event.deltaY || event.deltaX) > 0 ? 1.25 : 0.8, this.#time(at(event)));
    }, { passive: false });
    plot.addEventListener("keydown", (event) => {
      const length = this.#until - this.#from;
      switch (event.key) {
        case "ArrowLeft": this.#ask(this.#from - length / 4, this.#until - length / 4); break;
        case "ArrowRight": this.#ask(this.#from + length / 4, this.#until + length / 4); break;
        case "+": case "=": this.#zoom(0.5); break;
        case "-": this.#zoom(2); break;
        default: return;
      }
      event.preventDefault();
    });
    plot.addEventListener("focus", () => this.#label(true));
  }

  // label says in words what is drawn, not at every new value.
  #label(now) {
    if (!now && Date.now() - this.#described < 10_000) return;
    this.#described = Date.now();
    const seen = this.#seen();
    const unit = this.#unit;
    const words = seen.length === 0 ? "no readings"
      : `between ${quantity(Math.min(...seen.map((b) => b.min)), unit)} and ${quantity(Math.max(...seen.map((b) => b.max)), unit)}, last ${quantity(seen.at(-1).last, unit)}`;
    this.#plot.setAttribute("aria-label", `${this.#name}, ${whenOf(this.#from)} to ${whenOf(this.#until)}: ${words}. Arrow keys move, plus and minus zoom.`);
  }

  #seen() { return this.#buckets.filter((b) => b.t + this.#step >= this.#from && b.t <= this.#until); }

  #draw() {
    const { width, height } = this.#size;
    if (width === 0) return;
    this.#label(false);
    const scale = devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(width * scale) || this.#canvas.height !== Math.round(height * scale)) {
      this.#canvas.width = Math.round(width * scale);
      this.#canvas.height = Math.round(height * scale);
    }
    const c = this.#canvas.getContext("2d");
    const style = getComputedStyle(this);
    const color = (name) => style.getPropertyValue(name).trim();
    c.setTransform(scale, 0, 0, scale, 0, 0);
    c.clearRect(0, 0, width, height);
    c.font = `11px ${style.fontFamily}`;

    const seen = this.#seen();
    const { low, high } = this.#bounds(seen);
    const y = (v) => top + (1 - (v - low) / (high - low)) * (height - top - bottom);

    // The grid: recessive, and of round numbers.
    c.strokeStyle = color("--grid");
    c.fillStyle = color("--soft");
    c.lineWidth = 1;
    c.textAlign = "right";
    c.textBaseline = "middle";
    const marks = ticks(low, high, 4);
    if (seen.length) for (const v of marks.list) {
      const at = Math.round(y(v)) + 0.5;
      c.beginPath(); c.moveTo(left, at); c.lineTo(width - right, at); c.stroke();
      c.fillText(marks.text(v), left - 8, at);
    }
    this.#drawTimes(c, width, height);

    if (seen.length === 0) {
      c.textAlign = "center";
      c.fillText("no readings in this stretch", left + (width - left - right) / 2, (height - bottom) / 2);
    }
    c.save();
    c.beginPath(); c.rect(left, 0, width - left - right, height - bottom + 2); c.clip();
    this.#drawLine(c, seen, y, color("--accent"), color("--band"));
    if (this.#drag !== null && this.#pointer !== null) {
      c.fillStyle = color("--band");
      c.fillRect(Math.min(this.#drag, this.#pointer), 0, Math.abs(this.#pointer - this.#drag), height - bottom);
    }
    c.restore();
    this.#drawPointer(c, seen, y, height, color);
  }

  // bounds are the value axis' ends. They widen at once and narrow only when
  // half of the room is empty, so that a live chart stays calm.
  #bounds(seen) {
    if (seen.length === 0) return { low: 0, high: 1 };
    let low = Infinity, high = -Infinity;
    for (const b of seen) { low = Math.min(low, b.min); high = Math.max(high, b.max); }
    if (this.#floor !== undefined) low = this.#floor;
    const room = axis(low, high);
    low = Math.max(low, room.low);
    high = Math.min(high, room.high);
    const kept = this.#ranges;
    const fits = low >= kept.low && high <= kept.high && high - low > (kept.high - kept.low) * 0.5;
    if (!fits) this.#ranges = { low: this.#floor ?? room.low, high: room.high };
    return this.#ranges;
  }

  #drawTimes(c, width, height) {
    const wanted = Math.max(2, Math.floor((width - left - right) / 110));
    const seconds = (this.#until - this.#from) / 1000;
    const step = (timeSteps.find((s) => seconds / s <= wanted) ?? timeSteps.at(-1)) * 1000;
    const offset = new Date(this.#from).getTimezoneOffset() * 60_000;
    c.textAlign = "center";
    c.textBaseline = "alphabetic";
    for (let mark = Math.ceil((this.#from - offset) / step) * step + offset; mark <= this.#until; mark += step) {
      // A mark at midnight is at midnight also behind a change of the clocks.
      const at = step > 3600_000 ? mark + new Date(mark).getTimezoneOffset() * 60_000 - offset : mark;
      const x = Math.round(this.#x(at)) + 0.5;
      c.beginPath(); c.moveTo(x, height - bottom); c.lineTo(x, height - bottom + 4); c.stroke();
      const text = step >= 86400_000 ? dayOf(at) : clockOf(at).slice(0, step >= 60_000 ? 5 : 8);
      const half = c.measureText(text).width / 2;
      if (x - half > left - 20 && x + half < width) c.fillText(text, x, height - 5);
    }
  }

  #drawLine(c, seen, y, line, band) {
    // A gap is longer than three times what is usual between two buckets.
    const gaps = seen.slice(1).map((b, i) => b.t - seen[i].t).sort((a, b) => a - b);
    const gap = 3 * Math.max(this.#step, gaps[gaps.length >> 1] ?? 0);
    const x = (b) => this.#x(b.t + this.#step / 2);
    const pieces = [];
    seen.forEach((b, i) => {
      if (i === 0 || b.t - seen[i - 1].t > gap) pieces.push([]);
      pieces.at(-1).push(b);
    });
    for (const piece of pieces) {
      if (piece.length === 1) {
        c.fillStyle = line;
        c.beginPath(); c.arc(x(piece[0]), y(piece[0].avg), 2, 0, 7); c.fill();
        continue;
      }
      c.fillStyle = band;
      c.beginPath();
      for (const b of piece) c.lineTo(x(b), y(b.max));
      for (const b of piece.toReversed()) c.lineTo(x(b), y(b.min));
      c.fill();
      c.strokeStyle = line;
      c.lineWidth = 1.75;
      c.lineJoin = "round";
      c.beginPath();
      for (const b of piece) c.lineTo(x(b), y(b.avg));
      c.stroke();
    }
  }

  #drawPointer(c, seen, y, height, color) {
    const pointer = this.#pointer;
    if (pointer === null || pointer < left || seen.length === 0) { this.#tip.hidden = true; return; }
    const time = this.#time(pointer);
    let best = seen[0];
    for (const b of seen) if (Math.abs(b.t + this.#step / 2 - time) < Math.abs(best.t + this.#step / 2 - time)) best = b;
    const x = this.#x(best.t + this.#step / 2);
    c.strokeStyle = color("--soft");
    c.lineWidth = 1;
    c.beginPath(); c.moveTo(x, top); c.lineTo(x, height - bottom); c.stroke();
    c.fillStyle = color("--accent");
    c.beginPath(); c.arc(x, y(best.avg), 3.5, 0, 7); c.fill();
    const unit = this.#unit;
    setText(this.#tip, `${whenOf(best.t)}\n` + (best.count === 1 ? quantity(best.last, unit)
      : `average ${quantity(best.avg, unit)}\n${quantity(best.min, unit)} to ${quantity(best.max, unit)}\n${count(best.count)} readings`));
    this.#tip.hidden = false;
    const wide = this.#tip.offsetWidth;
    this.#tip.style.left = Math.max(0, Math.min(this.#size.width - wide, x > this.#size.width / 2 ? x - wide - 12 : x + 12)) + "px";
  }
}
customElements.define("line-chart", LineChart);
