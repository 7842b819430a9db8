"""Shows readings as they are committed: python3 viewer.py URL TOKEN [DEVICE …]

URL is like ws://localhost:8080/v1/live, TOKEN a user's (mooring user add NAME
--role viewer). docs/LIVE.md says what comes. Debian: apt-get install python3-websockets
"""

import asyncio
import json
import random
import sys
from urllib.parse import urlencode

import websockets

if len(sys.argv) < 3:
    sys.exit(__doc__)
url, token, devices = sys.argv[1], sys.argv[2], sys.argv[3:]
units = {}  # of channels, which the snapshot alone tells
# The argument's name depends on the version of websockets.
headers = "additional_headers" if int(websockets.__version__.split(".")[0]) >= 14 else "extra_headers"


def show(device, channels):
    for name, channel in channels.items():
        unit = units.setdefault((device, name), channel.get("unit", ""))
        value = channel["text"] if "text" in channel else channel["value"]
        print(channel["time"], device, name, value, unit, flush=True)


def see(message):
    kind = message["type"]
    if kind == "snapshot":
        for device in message["devices"]:
            print("#", device["device"], "online" if device["online"] else "away", flush=True)
            show(device["device"], device.get("channels") or {})
    elif kind == "readings":
        for reading in message["readings"]:
            show(reading["device"], reading["channels"])
    elif kind == "presence":
        print("#", message["device"], "online" if message["online"] else "away:", message.get("reason") or "", flush=True)
    elif kind in ("skipped", "gone", "end", "error"):
        print("#", json.dumps(message), flush=True)


async def main():
    cursor, failures = None, 0
    while True:
        query = [("device", device) for device in devices] + [("events", "readings,presence"), ("every", "1s")]
        if cursor:
            query.append(("cursor", cursor))  # go on where we were
        try:
            async with websockets.connect(
                url + "?" + urlencode(query), compression=None, **{headers: {"Authorization": "Bearer " + token}}
            ) as ws:
                async for text in ws:
                    message = json.loads(text)
                    cursor, failures = message.get("cursor") or cursor, 0
                    see(message)
        except (websockets.InvalidStatus, websockets.InvalidStatusCode) as refusal:
            status = getattr(refusal, "response", refusal).status_code
            if status in (401, 403, 422):
                sys.exit("the server says %d: is it a user's token, and may it look?" % status)
            print("# the server says", status)
        except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as error:
            print("#", error)
        failures += 1
        await asyncio.sleep(random.uniform(0, min(60, 2**failures)))


try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
