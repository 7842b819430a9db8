"""A WebSocket client on asyncio's streams, for MicroPython: masks what it sends,
takes fragments, answers Pings, tells of close codes."""

import asyncio
import binascii
import os
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
LARGEST = 1024  # bytes of a message to a device: no more is asked for in HELLO


class Refused(Exception):
    """The server's HTTP answer instead of 101."""

    def __init__(self, status, retry_after):
        super().__init__("HTTP %d" % status)
        self.status, self.retry_after = status, retry_after


class Closed(Exception):
    """The server closed with this code."""

    def __init__(self, code):
        super().__init__("closed with %d" % code)
        self.code = code


async def connect(url, token, authority=None):
    """authority: certificate in DER, for wss; MicroPython knows none by itself."""
    scheme, rest = url.split("://", 1)
    host, path = rest.split("/", 1)
    name, _, port = host.partition(":")
    secure = scheme == "wss"
    more = {"ssl": trusting(authority)} if secure else {}
    reader, writer = await asyncio.open_connection(name, int(port or (443 if secure else 80)), **more)
    socket = Socket(reader, writer)
    try:
        await socket.upgrade(host, path, token)
        return socket
    except BaseException:  # a timeout too: a board has but a few sockets
        await socket.abort()
        raise


def trusting(authority):
    import ssl  # not every board has it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_mode = ssl.CERT_REQUIRED  # MicroPython's takes any certificate unless told otherwise
    if authority:
        context.load_verify_locations(cadata=authority)
    elif hasattr(context, "load_default_certs"):
        context.load_default_certs()
    return context


class Socket:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.lock = asyncio.Lock()  # two tasks send, and MicroPython's drain is for one at a time

    async def upgrade(self, host, path, token):
        key = binascii.b2a_base64(os.urandom(16)).strip().decode()
        request = (
            "GET /%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n"
            "Sec-WebSocket-Protocol: mooring.v1\r\nAuthorization: Bearer %s\r\n\r\n"
        )
        self.writer.write((request % (path, host, key, token)).encode())
        await self.writer.drain()
        line = await self.reader.readline()
        parts = line.split()
        if len(parts) < 2 or parts[0][:5] != b"HTTP/" or not parts[1].isdigit():
            raise OSError("the server did not answer in HTTP")
        status, retry_after = int(parts[1]), 0
        while True:
            line = (await self.reader.readline()).strip()
            if not line:
                break
            field, _, value = line.decode().partition(":")
            if field.lower() == "retry-after" and value.strip().isdigit():
                retry_after = int(value)
        if status != 101:
            raise Refused(status, retry_after)

    async def send(self, payload, opcode=BINARY):
        length = len(payload)
        head = struct.pack(">BB", 0x80 | opcode, 0x80 | length) if length < 126 else struct.pack(">BBH", 0x80 | opcode, 0xFE, length)
        mask = os.urandom(4)
        masked = bytearray(payload)
        for i in range(length):
            masked[i] ^= mask[i & 3]
        async with self.lock:
            self.writer.write(head + mask + masked)
            await self.writer.drain()

    async def receive(self):
        """The next binary message, or None: something else came, a sign of life."""
        message = bytearray()
        while True:
            first, second = await self.reader.readexactly(2)
            opcode, length = first & 15, second & 127
            if length == 126:
                length = struct.unpack(">H", await self.reader.readexactly(2))[0]
            if first & 0x70 or second & 0x80 or length + len(message) > LARGEST:
                await self.close(1002 if length <= LARGEST else 1009)
                raise Closed(1006)
            payload = await self.reader.readexactly(length) if length else b""
            if opcode == PING:
                await self.send(payload, PONG)
            elif opcode == CLOSE:
                code = struct.unpack(">H", payload[:2])[0] if length >= 2 else 1005
                await self.close(code if length >= 2 else 1000)
                raise Closed(code)
            elif opcode in (0, BINARY):
                message += payload
                if first & 0x80:
                    return message
                continue
            elif opcode == TEXT:
                await self.close(4204)
                raise Closed(1006)
            if not message:
                return None

    async def close(self, code):
        try:
            await self.send(struct.pack(">H", code), CLOSE)
        except OSError:
            pass

    async def abort(self):
        self.writer.close()  # does nothing in MicroPython, where wait_closed closes
        try:
            await self.writer.wait_closed()
        except (OSError, EOFError):
            pass
