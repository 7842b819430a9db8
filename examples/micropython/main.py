# Runs when the board starts: joins the network, then is a device for ever.

import time

import asyncio
import network
import ntptime

import device
import settings  # settings.py: SSID, PASSWORD, URL, TOKEN; for wss AUTHORITY, a file in DER

station = network.WLAN(network.STA_IF)
station.active(True)
station.connect(settings.SSID, settings.PASSWORD)
while not station.isconnected():
    time.sleep(0.2)
authority = None
if settings.URL.startswith("wss:"):
    with open(settings.AUTHORITY, "rb") as file:
        authority = file.read()
    while time.gmtime()[0] < 2025:  # a certificate is valid from some day on
        try:
            ntptime.settime()
        except OSError:
            time.sleep(5)
asyncio.run(device.run(settings.URL, settings.TOKEN, authority))
