# Runs when the board starts: joins the network, then is a device for ever.

import time

import asyncio
import network

import device
import settings  # settings.py: SSID, PASSWORD, URL, TOKEN

station = network.WLAN(network.STA_IF)
station.active(True)
station.connect(settings.SSID, settings.PASSWORD)
while not station.isconnected():
    time.sleep(0.2)
asyncio.run(device.run(settings.URL, settings.TOKEN))
