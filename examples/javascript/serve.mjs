// Serves the pages of browser/ and hands /v1/ on to a Mooring server, so that page
// and server have one origin: node serve.mjs http://localhost:8080 [PORT]
//
// In this folder first: npm ci. Where pages and server have origins of their own,
// the server's --allowed-origins names the pages' instead.

import { createReadStream } from 'node:fs';
import { createServer, request } from 'node:http';
import { connect } from 'node:net';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

if (!process.argv[2]?.startsWith('http://')) {
  console.error('usage: node serve.mjs http://HOST:PORT [PORT]');
  process.exit(2);
}
const server = new URL(process.argv[2]);
const folder = fileURLToPath(new URL('.', import.meta.url));
const types = { '.html': 'text/html; charset=utf-8', '.mjs': 'text/javascript; charset=utf-8' };
const allowed = /^\/(browser\/[a-z-]+\.(html|mjs)|mooring-link\.mjs|node_modules\/@msgpack\/msgpack\/dist\.esm\/([\w-]+\/)?[\w-]+\.mjs)$/;

const pages = createServer((asked, answer) => {
  const { pathname } = new URL(asked.url, 'http://here');
  if (pathname.startsWith('/v1/')) {
    const on = request({ host: server.hostname, port: server.port, path: asked.url, method: asked.method, headers: asked.headers }, (response) => {
      answer.writeHead(response.statusCode, response.headers);
      response.pipe(answer);
    });
    on.on('error', () => (answer.headersSent ? answer.destroy() : answer.writeHead(502).end()));
    answer.on('close', () => on.destroy());
    asked.pipe(on);
    return;
  }
  if (!allowed.test(pathname)) return void answer.writeHead(404).end('not found\n');
  createReadStream(join(folder, pathname))
    .on('open', () => answer.writeHead(200, { 'Content-Type': types[extname(pathname)] }))
    .on('error', () => answer.writeHead(404).end('not found\n'))
    .pipe(answer);
});

pages.on('upgrade', (asked, socket, head) => {
  const on = connect(server.port, server.hostname, () => {
    const lines = [`GET ${asked.url} HTTP/1.1`];
    for (let i = 0; i < asked.rawHeaders.length; i += 2) lines.push(`${asked.rawHeaders[i]}: ${asked.rawHeaders[i + 1]}`);
    on.write(`${lines.join('\r\n')}\r\n\r\n`);
    on.write(head);
    on.pipe(socket).pipe(on);
  });
  on.on('error', () => socket.destroy());
  socket.on('error', () => on.destroy());
  on.on('close', () => socket.destroy());
  socket.on('close', () => on.destroy());
});

pages.listen(Number(process.argv[3] ?? 8099), '127.0.0.1', () => {
  const { port } = pages.address();
  console.log(`http://localhost:${port}/browser/device.html#token=TOKEN   with a device's token`);
  console.log(`http://localhost:${port}/browser/viewer.html#token=TOKEN   with a user's token`);
});
