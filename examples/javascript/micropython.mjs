// Runs ../micropython/device.py as a board does, with the MicroPython interpreter
// (compiled to WebAssembly): node micropython.mjs URL TOKEN [SECONDS]
//
// That interpreter has no sockets and no random numbers of the system. Both come from
// Node: a connection is Node's, and what stands for asyncio's streams below behaves as
// MicroPython's do, where close() does nothing and wait_closed() closes.

import { randomFillSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { loadMicroPython } from '@micropython/micropython-webassembly-pyscript';

const [url, token, seconds = '1'] = process.argv.slice(2);

// open gives a connection; read gives what has come, an empty array at the end.
function open(host, port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, host);
    const pieces = [];
    let ended = false;
    let wake = () => {};
    socket.on('data', (piece) => (pieces.push(piece), wake()));
    socket.on('close', () => ((ended = true), wake()));
    socket.on('end', () => ((ended = true), wake()));
    socket.on('error', (error) => ((ended = true), reject(error), wake()));
    socket.on('connect', () =>
      resolve({
        read: async () => {
          if (!pieces.length && !ended) await new Promise((woken) => (wake = woken));
          return pieces.shift() ?? new Uint8Array();
        },
        write: (bytes) => !ended && socket.write(Uint8Array.from(bytes)),
        close: () => socket.destroy(),
      }),
    );
  });
}

const python = await loadMicroPython({
  heapsize: 192 * 1024, // as much as a board has
  linebuffer: true,
  stdout: (line) => console.log(line),
});
python.registerJsModule('node', { open, url, token, seconds, random: (count) => randomFillSync(new Uint8Array(count)) });
python.FS.mkdir('/lib');
for (const file of ['python/mooring_link.py', 'micropython/mooring_msgpack.py', 'micropython/mooring_socket.py', 'micropython/device.py']) {
  python.FS.writeFile('/lib/' + file.split('/')[1], readFileSync(new URL('../' + file, import.meta.url)));
}
python.runPython(`
import asyncio, os, node

os.urandom = lambda count: bytes(node.random(count))


class Stream:
    def __init__(self, socket):
        self.socket, self.come = socket, b""

    async def more(self):
        piece = bytes(await self.socket.read())
        self.come += piece
        return piece

    async def readexactly(self, count):
        while len(self.come) < count:
            if not await self.more():
                raise EOFError
        taken, self.come = self.come[:count], self.come[count:]
        return taken

    async def readline(self):
        while b"\\n" not in self.come and await self.more():
            pass
        end = self.come.find(b"\\n") + 1 or len(self.come)
        taken, self.come = self.come[:end], self.come[end:]
        return taken

    def write(self, message):
        self.socket.write(bytes(message))  # Node keeps what the system does not take

    async def drain(self):
        await asyncio.sleep(0)

    def close(self):
        pass

    async def wait_closed(self):
        self.socket.close()


async def open_connection(host, port):
    try:
        stream = Stream(await node.open(host, port))
    except Exception as error:
        raise OSError(str(error))
    return stream, stream


asyncio.open_connection = open_connection

import device


device.interval = int(float(node.seconds) * 1000)
running = asyncio.create_task(device.run(node.url, node.token))


async def end():
    device.interval = 1 << 40  # measures no more
    for _ in range(20):  # a moment for the last acks
        if device.link.rows:
            await asyncio.sleep(0.1)
    print(device.summary())
`);
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await python.runPythonAsync('await end()');
    process.exit(0);
  });
}
