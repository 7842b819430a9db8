"""A device in MicroPython; main.py starts it on a board, host.py on a computer.

The board has no clock that is right: rows get their times from the server's.
"""

import asyncio
import time

from mooring_link import Fault, Link, ignorable
from mooring_msgpack import pack, unpack
from mooring_socket import Closed, Refused, connect

interval = 1000  # ms between rows


def measure():  # your sensor: machine.ADC(0).read_u16(), …
    return [now() % 60000 / 1000]


def set_interval(args):
    global interval
    interval = max(int(args["ms"]), 10)
    return {"ms": interval}


if hasattr(time, "ticks_ms"):
    _ticks, _ms = time.ticks_ms(), 0

    def now():  # ms since the start; ticks_ms() begins again at 0 after some days
        global _ticks, _ms
        ticks = time.ticks_ms()
        _ms += time.ticks_diff(ticks, _ticks)
        _ticks = ticks
        return _ms

else:  # CPython

    def now():
        return time.monotonic_ns() // 1000000


# 500 rows of one channel take about 40 KB.
link = Link("micropython", [["second", "s"]], {"identify": lambda _: "micropython", "set_interval": set_interval}, 500, clock=False)


async def measuring():
    last = 0
    while True:
        if now() - last >= interval:
            last = now()
            link.measured(last, measure())
        await asyncio.sleep(0.01)


async def talk(ws):
    """One connection; gives its close code."""
    heard = now()

    async def send(frames):
        for frame in frames:
            await ws.send(pack(frame))

    async def receive():
        nonlocal heard
        while True:
            message = await ws.receive()
            heard = now()
            if message and not ignorable(message):
                try:
                    frame = unpack(message)
                except ValueError as error:
                    raise Fault(4200, str(error))
                await send(link.received(frame, now()))

    await send(link.connected(now()))
    receiving = asyncio.create_task(receive())
    try:
        while not link.done(now()):
            if receiving.done():
                await receiving  # raises what ended it
            if now() - heard >= 2 * link.hb:
                return None  # dead
            await send(link.to_send(now()))
            await asyncio.sleep(0.05)
        await ws.close(1000)
        return 1000
    except Fault as fault:
        print("fault of the server:", fault)
        await ws.close(fault.code)
        return None
    finally:
        receiving.cancel()


async def run(url, token, authority=None):
    """Measure and send for ever. authority: for wss, as mooring_socket.connect has it."""
    task = asyncio.create_task(measuring())
    while True:
        ended, ws = {}, None
        try:
            ws = await asyncio.wait_for(connect(url, token, authority), 20)
            ended = {"code": await talk(ws)}
        except Closed as closed:
            ended = {"code": closed.code}
        except Refused as refused:
            ended = {"status": refused.status, "retry_after": refused.retry_after}
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            print("connection:", error)
        if ws:
            await ws.abort()
        if task.done():
            await task  # raises what ended it
        wait = link.disconnected(now(), **ended)
        print("away for", wait, "ms:", ended)
        await asyncio.sleep(wait / 1000)


def summary():
    return "measured %d, settled %d, refused %d, given up %d" % (link.number, link.settled, link.refused, link.given_up)
