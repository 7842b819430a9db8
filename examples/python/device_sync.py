"""A device without asyncio, with websocket-client and msgpack: python3 device_sync.py URL TOKEN [SECONDS]

Debian: apt-get install python3-websocket python3-msgpack
"""

import os
import signal
import struct
import sys
import time

import msgpack
import websocket

from mooring_link import Fault, Link, ignorable

if len(sys.argv) < 3:
    sys.exit(__doc__)
interval = float(sys.argv[3]) if len(sys.argv) > 3 else 1.0  # s between rows
due = 0  # when to measure next, ms
stopping = False


def measure():  # your sensor
    return [os.getloadavg()[0], time.process_time()]


def set_interval(args):
    global interval
    interval = max(int(args["ms"]), 10) / 1000
    return {"ms": int(interval * 1000)}


link = Link("python", [["load"], ["cpu", "s"]], {"identify": lambda _: "python, websocket-client", "set_interval": set_interval})


def now():
    return time.time_ns() // 1_000_000


def measure_if_due():
    """Measures; gives the seconds until the next time, 0.2 at most."""
    global due
    if not stopping and now() >= due:
        link.measured(now(), measure())
        due = now() + interval * 1000
    return min(max((due - now()) / 1000, 0.001), 0.2)


def talk(ws):
    """One connection, until it ends; gives its close code."""

    def send(frames):
        for frame in frames:
            ws.send_binary(msgpack.packb(frame))

    heard = now()
    send(link.connected(now()))
    while not link.done(now()) and not (stopping and not link.rows):
        if now() - heard >= 2 * link.hb:
            return None  # dead
        ws.settimeout(measure_if_due())
        try:
            opcode, message = ws.recv_data(control_frame=True)  # it answers Pings itself
        except websocket.WebSocketTimeoutException:
            opcode = None
        if opcode is not None:
            heard = now()
        ws.settimeout(30)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return struct.unpack("!H", message[:2])[0] if len(message) >= 2 else 1005
        if opcode == websocket.ABNF.OPCODE_TEXT or opcode == websocket.ABNF.OPCODE_BINARY and not ignorable(message):
            try:
                if opcode == websocket.ABNF.OPCODE_TEXT:
                    raise Fault(4204, "a text message")
                send(link.received(msgpack.unpackb(message, strict_map_key=False), now()))
            except (Fault, ValueError) as fault:
                print("fault of the server:", fault)
                ws.close(getattr(fault, "code", 4200), timeout=1)
                return None
        send(link.to_send(now()))
    ws.close(timeout=1)
    return 1000


def connect(url, token):
    """One attempt; gives what link.disconnected wants to know."""
    ws = None
    try:
        ws = websocket.create_connection(
            url, timeout=10, subprotocols=["mooring.v1"], header=["Authorization: Bearer " + token], enable_multithread=False
        )
        return {"code": talk(ws)}
    except websocket.WebSocketBadStatusException as refusal:
        later = (refusal.resp_headers or {}).get("retry-after", "0")
        return {"status": refusal.status_code, "retry_after": int(later) if later.isdigit() else 0}
    except (OSError, websocket.WebSocketException) as error:
        print("connection:", error)
        return {}
    finally:
        if ws:
            ws.shutdown()


def stop(*_):
    global stopping
    stopping = True
    signal.setitimer(signal.ITIMER_REAL, 2)  # a moment for the last acks


def give_up(*_):
    raise SystemExit


signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGALRM, give_up)
try:
    while not stopping:
        ended = connect(sys.argv[1], sys.argv[2])
        if stopping:
            break
        wait = link.disconnected(now(), **ended)
        print("away for %.1f s" % (wait / 1000), ended or "")
        back = now() + wait
        while now() < back and not stopping:  # measuring goes on meanwhile
            time.sleep(measure_if_due())
finally:
    print("measured %d, settled %d, refused %d, given up %d" % (link.number, link.settled, link.refused, link.given_up))
