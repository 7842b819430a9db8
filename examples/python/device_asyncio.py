"""A device with asyncio, websockets and msgpack: python3 device_asyncio.py URL TOKEN [SECONDS]

Debian: apt-get install python3-websockets python3-msgpack
"""

import asyncio
import os
import signal
import sys
import time

import msgpack
import websockets

from mooring_link import Fault, Link, ignorable

if len(sys.argv) < 3:
    sys.exit(__doc__)
interval = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0  # s between rows


def measure():  # your sensor
    return [os.getloadavg()[0], time.process_time()]


def set_interval(args):
    global interval
    interval = max(int(args["ms"]), 10) / 1000
    return {"ms": int(interval * 1000)}


link = Link("python", [["load"], ["cpu", "s"]], {"identify": lambda _: "python, asyncio", "set_interval": set_interval})
changed = asyncio.Event()  # there may be something to send


def now():
    return time.time_ns() // 1_000_000


async def measuring(stopping):
    while not stopping.is_set():
        link.measured(now(), measure())
        changed.set()
        try:
            await asyncio.wait_for(stopping.wait(), interval)
        except asyncio.TimeoutError:
            pass


async def talk(ws):
    """One connection; returns when it should be closed, raises when it ended."""
    heard, over = now(), False

    def hears(_):
        nonlocal heard
        heard = now()

    async def send(frames):
        for frame in frames:
            await ws.send(msgpack.packb(frame))

    async def receive():
        async for message in ws:
            hears(None)
            if isinstance(message, str):
                raise Fault(4204, "a text message")
            if ignorable(message):
                continue
            try:
                frame = msgpack.unpackb(message, strict_map_key=False)
            except ValueError as error:
                raise Fault(4200, str(error))
            await send(link.received(frame, now()))
            changed.set()

    async def transmit():
        while not over and not link.done(now()):
            await send(link.to_send(now()))
            changed.clear()
            try:
                await asyncio.wait_for(changed.wait(), 0.5)  # or a gap of THROTTLE has passed
            except asyncio.TimeoutError:
                pass

    async def watch():  # nothing for 2 heartbeats: the link is dead
        while now() - heard < 2 * link.hb:
            # websockets does not tell of the server's Pings, but of answers to ours.
            (await ws.ping()).add_done_callback(lambda pong: pong.cancelled() or pong.exception() or hears(pong))
            await asyncio.sleep(link.hb / 4000)

    await send(link.connected(now()))
    tasks = [asyncio.create_task(task()) for task in (receive, transmit, watch)]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    except Fault as fault:
        print("fault of the server:", fault)
        await ws.close(fault.code)
    finally:
        over = True  # wait_for may swallow the cancellation before Python 3.12
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def connect(url, token):
    """Connect and talk again and again."""
    while True:
        ended = {}
        ws = None
        try:
            ws = await websockets.connect(
                url, subprotocols=["mooring.v1", "mooring.token." + token], compression=None, ping_interval=None, close_timeout=2
            )
            await talk(ws)
            await ws.close()
        except (websockets.InvalidStatus, websockets.InvalidStatusCode) as refusal:
            answer = getattr(refusal, "response", refusal)  # websockets 13 and later
            later = answer.headers.get("Retry-After", "0")
            ended = {"status": answer.status_code, "retry_after": int(later) if later.isdigit() else 0}
        except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as error:
            print("connection:", error)
        finally:
            if ws:
                ended = {"code": ws.close_code}
                await ws.close()
        wait = link.disconnected(now(), **ended)
        print("away for %.1f s" % (wait / 1000), ended or "")
        await asyncio.sleep(wait / 1000)


async def main():
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    connection = asyncio.create_task(connect(sys.argv[1], sys.argv[2]))
    await asyncio.wait([connection, asyncio.create_task(measuring(stopping))], return_when=asyncio.FIRST_COMPLETED)
    for _ in range(20):  # a moment for the last acks
        if link.rows:
            await asyncio.sleep(0.1)
    connection.cancel()
    print("measured %d, settled %d, refused %d, given up %d" % (link.number, link.settled, link.refused, link.given_up))
    await connection  # ends with CancelledError, or with what went wrong


try:
    asyncio.run(main())
except asyncio.CancelledError:
    pass
