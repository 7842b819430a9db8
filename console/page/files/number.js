// Numbers as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = [0, 1, 2, 3, 4].map((digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits, minimumFractionDigits: digits }));

export const count = (value) => whole.format(value);

const large = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"]];

// value writes a reading with about four digits that mean something. Large ones
// have a prefix instead of an exponent, which the axes have no room for.
export function value(number) {
  if (number === null || number === undefined) return "–";
  if (number === 0) return "0"; // -0 too
  const size = Math.abs(number);
  if (Number.isInteger(number) && size < 1e7) return whole.format(number);
  if (size >= 1e7 && size < 1e18) {
    const [unit, prefix] = large.find(([unit]) => size >= unit);
    return value(number / unit) + " " + prefix;
  }
  if (size !== 0 && (size >= 1e7 || size < 1e-3)) return number.toExponential(2);
  return fine[size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3].format(number);
}

// Units that take a prefix; kB, ms, %, °C and m/s don't.
const plain = /^(B|bit|W|Wh|VA|J|V|A|Hz|Pa|N|Ω)(\/s|\/h)?$/;

// reading writes a value and its unit, [number, unit]: the prefix of a large one
// stands at the unit, as in 22.94 GB.
export function reading(number, unit = "") {
  const text = value(number);
  const [, digits, prefix] = /^(\S+) ([PTGM])$/.exec(text) ?? [];
  if (!prefix || !unit) return [text, unit];
  if (plain.test(unit)) return [digits, prefix + unit];
  return [Math.abs(number) < 1e9 ? whole.format(number) : number.toExponential(2), unit];
}

// quantity is a reading in one piece.
export function quantity(number, unit) {
  const [text, of] = reading(number, unit);
  return of ? text + (of === "°" ? "" : " ") + of : text;
}

export function rate(number) {
  return number >= 10 || number === 0 ? whole.format(number) : fine[1].format(number);
}

export function bytes(number) {
  for (const unit of ["B", "KiB", "MiB"]) {
    if (number < 1024) return [unit === "B" ? whole.format(number) : fine[1].format(number), unit];
    number /= 1024;
  }
  return [fine[1].format(number), "GiB"];
}

export function milliseconds(number) {
  if (!number) return ["–", ""];
  if (number < 10) return [fine[1].format(number), "ms"];
  if (number < 1000) return [whole.format(number), "ms"];
  return [fine[1].format(number / 1000), "s"];
}

// An axis goes no further: its length must be a number too.
const farthest = Number.MAX_VALUE / 4;

// axis are the ends of an axis on which values from least to most have room. What
// differs in its last digits only is one value: between two neighbouring numbers
// there is no mark.
export function axis(least, most) {
  const size = Math.max(Math.abs(least), Math.abs(most)), spread = most - least;
  const pad = spread > size * 1e-12 && spread > 1e-300 ? spread * 0.08 : size > 1e-290 ? size * 0.05 : 1;
  return {
    low: Math.max(-farthest, Math.min(least - pad, 0.9 * farthest)),
    high: Math.min(farthest, Math.max(most + pad, -0.9 * farthest)),
  };
}

// ticks are round numbers between two, about so many.
export function ticks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw) * power;
  const list = [];
  // No more than there can be, also where a step is lost in the size of the numbers.
  for (let at = Math.ceil(low / step) * step, left = 2 * wanted + 2; at <= high + step * 1e-9 && left > 0; at += step, left--) list.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  // All of them with as many digits as their distance needs.
  const digits = Math.min(4, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + (step / 10 ** Math.floor(Math.log10(step)) === 2.5 ? 1 : 0)));
  const small = step >= 1e-4 && Math.max(Math.abs(low), Math.abs(high)) < 1e7;
  return { list, text: (number) => (small ? fine[digits].format(number) : value(number)) };
}
