// A device in Node 20: node device.mjs URL TOKEN [SECONDS]
//
// In this folder first: npm ci

import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode, encode } from '@msgpack/msgpack';
import WebSocket from 'ws';
import { Fault, Link, ignorable } from './mooring-link.mjs';

const [url, token, seconds = '1'] = process.argv.slice(2);
if (!url || !token) {
  console.error('usage: node device.mjs URL TOKEN [SECONDS]');
  process.exit(2);
}
let interval = Number(seconds) * 1000; // ms between rows
let stopping = false;
let current = null; // the connection

const measure = () => [loadavg()[0], process.uptime()]; // your sensor

const link = new Link('node', [['load'], ['uptime', 's']], {
  identify: () => 'node',
  set_interval: (args) => {
    if (!(args?.ms > 0)) throw new Error('ms must be a number above 0');
    interval = Math.max(args.ms, 10);
    return { ms: interval };
  },
});

/** One connection; the promise resolves with how it ended. */
function talk() {
  return new Promise((resolve) => {
    const ws = new WebSocket(url, ['mooring.v1'], {
      headers: { Authorization: `Bearer ${token}` }, perMessageDeflate: false, handshakeTimeout: 10_000,
    });
    let heard = Date.now(), ticker = null;
    const send = (frames) => frames.forEach((frame) => ws.send(encode(frame)));
    const work = () => { // whatever may have to be done now
      if (ws.readyState !== WebSocket.OPEN) return;
      if (Date.now() - heard >= 2 * link.hb) ws.terminate(); // the link is dead
      else if (link.done(Date.now()) || (stopping && !link.rows.length)) ws.close(1000);
      else send(link.toSend(Date.now()));
    };
    current = { work };
    ws.on('open', () => {
      heard = Date.now();
      send(link.connected(heard));
      ticker = setInterval(work, 100);
    });
    ws.on('ping', () => { heard = Date.now(); }); // ws answers it
    ws.on('message', (message, binary) => {
      heard = Date.now();
      if (binary && ignorable(message)) return;
      try {
        if (!binary) throw new Fault(4204, 'a text message');
        let frame;
        try { frame = decode(message); } catch (error) { throw new Fault(4200, error.message); }
        send(link.received(frame, heard));
        work();
      } catch (fault) {
        if (!(fault instanceof Fault)) throw fault;
        console.log('fault of the server:', fault.message);
        ws.close(fault.code);
      }
    });
    ws.on('unexpected-response', (request, response) => {
      resolve({ status: response.statusCode, retryAfter: Number(response.headers['retry-after']) || 0 });
      request.destroy();
    });
    ws.on('error', (error) => console.log('connection:', error.message));
    ws.on('close', (code) => {
      clearInterval(ticker);
      resolve({ code });
    });
  });
}

async function measuring() {
  for (let last = 0; !stopping; await sleep(10)) {
    if (Date.now() < last + interval) continue;
    last = Date.now();
    link.measured(last, measure());
    current?.work();
  }
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.on(signal, async () => {
    stopping = true;
    for (let i = 0; i < 20 && link.rows.length; i++) await sleep(100); // a moment for the last acks
    console.log(link.summary());
    process.exit();
  });
}

measuring();
for (;;) {
  const ended = await talk();
  if (stopping) break;
  const wait = link.disconnected(Date.now(), ended);
  console.log(`away for ${(wait / 1000).toFixed(1)} s:`, ended);
  await sleep(wait);
}
