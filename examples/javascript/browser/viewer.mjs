// Shows readings as they are committed, by Server-Sent Events (docs/LIVE.md). They are
// read with fetch, since EventSource can set no header for the token.

const options = new URLSearchParams(location.hash.slice(1));
const state = document.querySelector('#state');
const body = document.querySelector('tbody');
const rows = new Map(); // "device channel" → its table row
let cursor = null;

function show(device, channels = {}) {
  for (const [channel, { time, value, text, unit }] of Object.entries(channels)) {
    const key = `${device} ${channel}`;
    if (!rows.has(key)) {
      const row = body.insertRow();
      for (const content of [device, channel, '', '', '']) row.insertCell().textContent = content;
      rows.set(key, row);
    }
    const { cells } = rows.get(key);
    cells[2].textContent = text ?? value ?? '–';
    if (unit) cells[3].textContent = unit;
    cells[4].textContent = new Date(time).toLocaleTimeString();
  }
}

function see(message) {
  cursor = message.cursor ?? cursor;
  if (message.type === 'snapshot') message.devices.forEach((d) => show(d.device, d.channels));
  if (message.type === 'readings') message.readings.forEach((r) => show(r.device, r.channels));
  if (message.type === 'skipped' || message.type === 'end') console.log(message);
}

/** One connection, until it ends. */
async function watch() {
  const query = new URLSearchParams({ events: 'readings', every: '1s' });
  if (options.has('device')) query.set('device', options.get('device'));
  if (cursor) query.set('cursor', cursor); // go on where we were
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), 60_000);
  const response = await fetch(`/v1/live?${query}`, { headers: { Authorization: `Bearer ${options.get('token')}` }, signal: silence.signal });
  if (!response.ok) throw Object.assign(new Error(`the server says ${response.status}`), { final: [401, 403, 422].includes(response.status) });
  state.textContent = 'live';
  let rest = '';
  for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return;
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), 60_000); // a comment comes at least as often
    const events = (rest + value).split('\n\n');
    rest = events.pop();
    for (const event of events) {
      const data = event.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5)).join('\n');
      if (data) see(JSON.parse(data));
    }
  }
}

for (let failures = 0; ;) {
  const began = Date.now();
  try {
    await watch();
    state.textContent = 'the server ended the connection';
  } catch (error) {
    state.textContent = error.message;
    if (error.final) break;
  }
  failures = Date.now() - began > 10_000 ? 1 : failures + 1;
  await new Promise((again) => { setTimeout(again, Math.random() * Math.min(60_000, 1000 * 2 ** failures)); });
}
