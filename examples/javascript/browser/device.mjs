// A device in a browser, which can set no headers, sees no Pings and is not told why
// a handshake failed: the token is a subprotocol, signs of life are PING frames, and
// a wrong token looks like a network that is down.
//
// The rows are in the page's memory: they end with the page.

import { decode, encode } from '@msgpack/msgpack';
import { Fault, Link, ignorable, ping } from '../mooring-link.mjs';

const options = new URLSearchParams(location.hash.slice(1));
const token = options.get('token') ?? '';
let interval = Number(options.get('seconds') ?? 1) * 1000; // ms between rows
const url = `${location.origin.replace(/^http/, 'ws')}/v1/stream`;
const pointer = { x: 0, y: 0 };
let current = null; // the connection

const link = new Link('browser', [['x', 'px'], ['y', 'px']], {
  identify: () => {
    document.body.animate([{ background: 'gold' }, {}], 1000);
    return navigator.userAgent;
  },
  set_interval: (args) => {
    if (!(args?.ms > 0)) throw new Error('ms must be a number above 0');
    interval = Math.max(args.ms, 10);
    return { ms: interval };
  },
});

/** One connection; the promise resolves with how it ended. */
function talk() {
  return new Promise((resolve) => {
    const ws = new WebSocket(url, ['mooring.v1', `mooring.token.${token}`]);
    ws.binaryType = 'arraybuffer';
    let heard = Date.now(), asked = Date.now();
    const send = (frames) => frames.forEach((frame) => ws.send(encode(frame)));
    const end = (code) => { // not after close(), which waits for the other side
      clearInterval(ticker);
      ws.onclose = ws.onmessage = null;
      ws.close(code >= 4000 || code === 1000 ? code : undefined);
      resolve({ code });
    };
    const work = () => {
      const now = Date.now();
      if (ws.readyState !== WebSocket.OPEN) {
        if (now - heard > 15_000) end(1006); // no answer to the handshake
        return;
      }
      if (now - heard >= 2 * link.hb) return end(1006); // the link is dead
      if (link.done(now)) return end(1000);
      if (now - Math.max(heard, asked) >= link.hb / 2) {
        asked = now;
        send([ping()]);
      }
      send(link.toSend(now));
    };
    const ticker = setInterval(work, 100);
    current = { work };
    ws.onopen = () => {
      heard = Date.now();
      send(link.connected(heard));
    };
    ws.onmessage = ({ data }) => {
      heard = Date.now();
      const message = new Uint8Array(data);
      if (ignorable(message)) return;
      try {
        if (typeof data === 'string') throw new Fault(4204, 'a text message');
        let frame;
        try { frame = decode(message); } catch (error) { throw new Fault(4200, error.message); }
        send(link.received(frame, heard));
        work();
      } catch (fault) {
        if (!(fault instanceof Fault)) throw fault;
        console.log('fault of the server:', fault.message);
        end(fault.code);
      }
    };
    ws.onclose = ({ code }) => end(code);
  });
}

addEventListener('pointermove', ({ clientX, clientY }) => Object.assign(pointer, { x: clientX, y: clientY }));

let last = 0;
setInterval(() => {
  if (Date.now() < last + interval) return;
  last = Date.now();
  link.measured(last, [pointer.x, pointer.y]);
  current?.work();
  document.querySelector('#rows').textContent = link.summary();
}, 10);

for (;;) {
  document.querySelector('#state').textContent = 'connected, or trying';
  const ended = await talk();
  const wait = link.disconnected(Date.now(), ended);
  document.querySelector('#state').textContent = `away for ${(wait / 1000).toFixed(1)} s (${ended.code})`;
  await new Promise((again) => { setTimeout(again, wait); });
}
