"""Runs device.py on a computer, with CPython: python3 host.py URL TOKEN [SECONDS]"""

import asyncio
import pathlib
import signal
import sys

sys.path.append(str(pathlib.Path(__file__).parent.parent / "python"))  # mooring_link

import device


async def main():
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    running = asyncio.create_task(device.run(sys.argv[1], sys.argv[2]))
    await asyncio.wait([running, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
    device.interval = 1 << 40  # measures no more
    for _ in range(20):  # a moment for the last acks
        if device.link.rows:
            await asyncio.sleep(0.1)
    running.cancel()
    print(device.summary())
    await running  # ends with CancelledError, or with what went wrong


if len(sys.argv) < 3:
    sys.exit(__doc__)
if len(sys.argv) > 3:
    device.interval = int(float(sys.argv[3]) * 1000)
try:
    asyncio.run(main())
except asyncio.CancelledError:
    pass
