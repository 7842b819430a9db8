// What every device must remember and decide: docs/PROTOCOL.md without sockets.
//
// Frames are arrays here; who uses a Link packs them with MessagePack, one binary
// WebSocket message each. Times are ms. Node and browsers use this file alike.

const HELLO = 1, LAYOUT = 2, DATA = 3, RESULT = 4, PING = 5;
const WELCOME = 16, ACK = 17, COMMAND = 18, NOTICE = 19, PONG = 20;
const DONE = 0, UNKNOWN = 3, BAD_ARGS = 4;

/** The server sent what the protocol does not allow: close with .code. */
export class Fault extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

const uniform = (limit) => Math.floor(Math.random() * Math.max(limit, 0));

function need(number) {
  if (!Number.isInteger(number)) throw new Fault(4200, `bad frame: ${number} is no integer`);
  return number;
}

export class Link {
  /**
   * channels: [[name, unit], …]. commands: { name: (args) => detail }, which throw if
   * the arguments make no sense. capacity: in rows.
   */
  constructor(layout, channels, commands = {}, capacity = 10_000) {
    Object.assign(this, { layout, channels, commands, capacity });
    this.bootId = 1 + uniform(2 ** 32 - 1);
    this.rows = []; // { number, ms, values } that are not settled, oldest first
    this.number = 0; // of the next row
    this.settled = this.refused = this.givenUp = 0;
    this.spread = 5000;
    this.failures = this.terminal = this.poison = 0;
    this.fresh();
  }

  fresh() {
    this.welcomed = this.progress = this.sentData = false;
    this.inFlight = []; // for each DATA frame without an ACK, the number behind its last row
    this.next = this.rows[0]?.number ?? this.number; // to be sent next
    this.window = 4;
    this.maxFrame = 256;
    this.hb = 30_000;
    this.gap = this.gapUntil = this.lastData = 0; // THROTTLE
    this.quietUntil = 0; // QUOTA
    this.goaway = null;
  }

  // --- rows

  /** Keeps a row until it is settled; when the buffer is full the oldest goes. */
  measured(ms, values) {
    if (this.rows.length >= this.capacity) this.giveUp(1);
    this.rows.push({ number: this.number++, ms, values });
  }

  giveUp(count) { // leaves a gap in the numbers (8.3.3)
    this.givenUp += this.rows.splice(0, count).length;
    if (this.rows.length) this.next = Math.max(this.next, this.rows[0].number);
  }

  // --- a connection

  /** What to send first. Rows go again from the oldest that is not settled. */
  connected(now) {
    this.fresh();
    this.since = now;
    return [[HELLO, this.bootId, 30, 1024, this.layout], this.declaration()];
  }

  declaration() {
    return [LAYOUT, 1, this.layout, this.channels];
  }

  /** DATA frames, as many as the window allows now (8.2). */
  toSend(now) {
    const frames = [];
    if (!this.welcomed || this.goaway || now < this.quietUntil) return frames;
    while (this.inFlight.length < this.window && this.next < this.number) {
      if (now < this.gapUntil && (frames.length || now < this.lastData + this.gap)) break;
      frames.push(this.data());
      this.lastData = now;
      this.sentData = true;
    }
    return frames;
  }

  data() {
    const widest = 9 * (1 + this.channels.length); // bytes of a row; 40 are the frame's head
    const count = Math.min(Math.max(Math.floor((this.maxFrame - 40) / widest), 1), 500);
    const begin = this.next - this.rows[0].number;
    const batch = this.rows.slice(begin, begin + count);
    let before = batch[0].ms;
    const values = batch.flatMap((row) => {
      const since = row.ms - before;
      before = row.ms;
      return [since, ...row.values];
    });
    this.next = batch.at(-1).number + 1;
    this.inFlight.push(this.next);
    return [DATA, batch[0].number, batch.length, batch[0].ms, 1, 0, values];
  }

  /** After GOAWAY: nothing is outstanding, or the grace is over: close with 1000. */
  done(now) {
    return this.goaway !== null && (!this.inFlight.length || now >= this.goaway.leaveAt);
  }

  /** Takes a frame of the server; gives the frames to answer with. */
  received(frame, now) {
    if (!Array.isArray(frame)) throw new Fault(4200, 'bad frame: no array');
    switch (need(frame[0])) {
      case WELCOME: return this.welcome(frame);
      case ACK: return this.ack(frame, now);
      case COMMAND: return [this.command(frame)];
      case NOTICE: return this.notice(frame, now);
      case PONG: return [];
      default:
        if (frame[0] >= 32 && frame[0] <= 127) return [];
        throw new Fault(4203, `unknown type ${frame[0]}`);
    }
  }

  welcome([, , session, hb, maxFrame, window, spread]) {
    [this.hb, this.maxFrame, this.window, this.spread] = [need(hb) * 1000, need(maxFrame), need(window), Math.max(need(spread), 1) * 1000];
    this.welcomed = true;
    console.log(`connected: session ${session}`);
    return [];
  }

  ack([, next, window, , rejects], now) {
    const upto = Math.min(need(next), this.next); // an ACK speaks of this connection's rows
    this.window = need(window);
    const again = [];
    for (let i = 0; rejects && i < rejects.length; i += 4) {
      const [first, count, channel, code] = rejects.slice(i, i + 4);
      this.refused += need(count);
      console.log(`refused: rows ${need(first)} to ${first + count - 1}, channel ${channel}, code ${need(code)}`);
      if (code >= 64 && channel === null) { // may pass (7.2): again, under new numbers
        again.push(...this.rows.filter((row) => row.number >= first && row.number < first + count));
        if (code === 65) this.quietUntil = now + 10_000; // QUOTA: nothing more would be taken so soon (8.6)
      }
    }
    const keep = this.rows.findIndex((row) => row.number >= upto);
    const gone = this.rows.splice(0, keep < 0 ? this.rows.length : keep).length;
    if (gone) {
      this.settled += gone;
      this.progress = true;
      this.failures = this.terminal = this.poison = 0;
    }
    while (this.inFlight.length && this.inFlight[0] <= upto) this.inFlight.shift();
    for (const row of again) this.rows.push({ ...row, number: this.number++ });
    return [];
  }

  command([, id, name, args = null]) {
    if (!Object.hasOwn(this.commands, name)) return [RESULT, need(id), UNKNOWN];
    try {
      return [RESULT, need(id), DONE, this.commands[name](args) ?? null];
    } catch (error) {
      return [RESULT, id, BAD_ARGS, error.message];
    }
  }

  notice([, kind, ...fields], now) {
    switch (need(kind)) {
      case 2: // THROTTLE
        this.gap = need(fields[0]);
        this.gapUntil = now + need(fields[1]) * 1000;
        break;
      case 3: { // GOAWAY
        const [code, grace, least, most] = fields;
        this.goaway = { code: need(code), leaveAt: now + (grace ?? 0), least: least ?? 0, most: most ?? 0 };
        break;
      }
      case 4: { // PARAMS; null: unchanged
        const [hb, maxFrame, window, spread] = fields;
        this.hb = hb == null ? this.hb : hb * 1000;
        this.maxFrame = maxFrame ?? this.maxFrame;
        this.window = window ?? this.window;
        this.spread = spread == null ? this.spread : Math.max(spread, 1) * 1000;
        break;
      }
      case 5: // LAYOUT_REJECTED: none of our rows can be stored now; stay away as class L does
        console.log(`the server refuses the layout: channel ${fields[1]}, code ${fields[2]}`);
        this.goaway = { code: 4100, leaveAt: now, least: 0, most: 0 };
        break;
      case 6: // NEED_LAYOUT
        return [this.declaration()];
    }
    return [];
  }

  // --- coming back

  /** How many ms to stay away (9.2), by close code or HTTP status. */
  disconnected(now, { code, status, retryAfter = 0 } = {}) {
    const kind = closeClass(this.goaway?.code ?? code, status);
    if (status === 401) console.log("the server does not know the token: is it a device's, and of this server?");
    if (this.progress || (this.welcomed && now - this.since >= 60_000)) this.failures = this.terminal = 0;
    else this.failures++;
    if (kind === 'F' && this.sentData && !this.progress && ++this.poison >= 2 && this.inFlight.length) { // 9.4
      this.giveUp(this.rows.filter((row) => row.number < this.inFlight[0]).length);
      this.poison = 0;
    }
    const doubled = (base, times, limit) => Math.min(base * 2 ** times, limit);
    let wait = uniform(doubled(this.spread, this.failures, 600_000));
    if (kind === 'L') wait += 60_000;
    if (kind === 'F') wait += 10_000;
    if (kind === 'T') wait += doubled(900_000, this.terminal++, 6 * 3_600_000);
    if (this.goaway?.least || this.goaway?.most) {
      const width = this.goaway.most - this.goaway.least;
      const slot = this.goaway.least + uniform(width > 0 ? width : 1000);
      wait = kind === 'R' && this.failures === 0 ? slot : Math.max(wait, slot);
    }
    if (retryAfter) wait = Math.max(wait, retryAfter * 1000 + uniform(this.spread));
    this.fresh();
    return wait;
  }

  /** What became of all rows, in words. */
  summary() {
    return `measured ${this.number}, settled ${this.settled}, refused ${this.refused}, given up ${this.givenUp}`;
  }
}

/** A frame by which a browser, which can't see WebSocket Pings, asks for a sign of life. */
export const ping = () => [PING, uniform(2 ** 32)];

/** Of a later version: types 32 to 127, whatever bytes follow the type (3.6). */
export function ignorable(message) {
  let at = message[0] === 0xdc ? 3 : 1;
  if (message[at] === 0xcc) at++;
  return message[at] >= 32 && message[at] <= 127;
}

/** R retry, L later, F fault of the sender, T terminal (9.1). */
export function closeClass(code = 1006, status = undefined) {
  if (status !== undefined) {
    if (status === 401 || status === 403) return 'T';
    if (status === 429 || status === 503 || status < 400) return 'L';
    return status === 408 || status >= 500 ? 'R' : 'F';
  }
  if (code >= 4000) return { 40: 'R', 41: 'L', 42: 'F', 45: 'T' }[Math.floor(code / 100)] ?? 'L';
  if (code === 1008 || code === 1013) return 'L';
  return [1002, 1003, 1007, 1009].includes(code) ? 'F' : 'R';
}
