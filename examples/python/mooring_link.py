"""What every device must remember and decide: docs/PROTOCOL.md without sockets.

Frames are lists here; who uses a Link packs them with MessagePack, one binary
WebSocket message each. Times are ms. MicroPython runs this file unchanged.
"""

import random

HELLO, LAYOUT, DATA, RESULT = 1, 2, 3, 4
WELCOME, ACK, COMMAND, NOTICE, PONG = 16, 17, 18, 19, 20
DONE, FAILED, UNKNOWN, BAD_ARGS = 0, 2, 3, 4  # status of a RESULT


class Fault(Exception):
    """The server sent what the protocol does not allow: close with .code."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Link:
    def __init__(self, layout, channels, commands=None, capacity=10000, clock=True):
        """channels: a list of [name, unit]. commands: name -> function(args).

        capacity is in rows. Without a clock (clock=False) the server's is taken:
        rows measured before the first WELCOME get their time then.
        """
        self.layout, self.channels = layout, channels
        self.commands, self.capacity = commands or {}, capacity
        self.boot_id = random.getrandbits(30) + 1
        self.rows = []  # [number, ms, values] of rows that are not settled, oldest first
        self.number = 0  # of the next row
        self.offset = 0 if clock else None  # to the server's clock
        self.settled = self.refused = self.given_up = 0
        self.spread, self.failures, self.terminal, self.poison = 5000, 0, 0, 0
        self._fresh()

    def _fresh(self):
        self.welcomed = self.progress = self.sent_data = False
        self.in_flight = []  # for each DATA frame without an ACK, the number behind its last row
        self.next = self.rows[0][0] if self.rows else self.number  # to be sent next
        self.window, self.max_frame, self.hb = 4, 256, 30000
        self.gap = self.gap_until = self.last_data = 0  # THROTTLE
        self.quiet_until = 0  # QUOTA
        self.goaway = self.leave_at = None

    # --- rows

    def measured(self, ms, values):
        """Keep a row until it is settled; when the buffer is full the oldest goes."""
        if len(self.rows) >= self.capacity:
            self._give_up(1)
        self._append(ms + (self.offset or 0), values)

    def _append(self, ms, values):
        self.rows.append([self.number, ms, values])
        self.number += 1

    def _give_up(self, count):  # leaves a gap in the numbers (8.3.3)
        self.given_up += count
        del self.rows[:count]
        if self.rows:
            self.next = max(self.next, self.rows[0][0])

    # --- a connection

    def connected(self, now):
        """What to send first. Rows go again from the oldest that is not settled."""
        self._fresh()
        self.since = now
        return [[HELLO, self.boot_id, 30, 1024, self.layout], self._layout()]

    def _layout(self):
        return [LAYOUT, 1, self.layout, self.channels]

    def to_send(self, now):
        """DATA frames, as many as the window allows now (8.2)."""
        frames = []
        if not self.welcomed or self.goaway is not None or now < self.quiet_until:
            return frames
        while len(self.in_flight) < self.window and self.next < self.number:
            if now < self.gap_until:
                if frames or now < self.last_data + self.gap:
                    break
            frames.append(self._data())
            self.last_data, self.sent_data = now, True
        return frames

    def _data(self):
        widest = 9 * (1 + len(self.channels))  # bytes of a row; 40 are the frame's head
        count = min(max((self.max_frame - 40) // widest, 1), 500)
        begin = self.next - self.rows[0][0]
        batch = self.rows[begin : begin + count]
        values, before = [], batch[0][1]
        for _, ms, row in batch:
            values.append(ms - before)  # ms since the row before
            values.extend(row)
            before = ms
        self.next = batch[-1][0] + 1
        self.in_flight.append(self.next)
        return [DATA, batch[0][0], len(batch), batch[0][1], 1, 0, values]

    def done(self, now):
        """After GOAWAY: nothing is outstanding, or the grace is over: close with 1000."""
        return self.goaway is not None and (not self.in_flight or now >= self.leave_at)

    def received(self, frame, now):
        """Take a frame of the server; gives the frames to answer with."""
        try:
            kind = frame[0]
            if kind == WELCOME:
                self._welcome(frame, now)
            elif kind == ACK:
                self._ack(frame, now)
            elif kind == COMMAND:
                return [self._command(frame)]
            elif kind == NOTICE:
                return self._notice(frame, now)
            elif kind != PONG and not 32 <= kind <= 127:
                raise Fault(4203, "unknown type %d" % kind)
        except (TypeError, ValueError, IndexError, KeyError) as error:
            raise Fault(4200, "bad frame: %s" % error)
        return []

    def _welcome(self, frame, now):
        self.hb, self.max_frame, self.window, self.spread = frame[3] * 1000, frame[4], frame[5], max(frame[6], 1) * 1000
        if self.offset is None:
            self.offset = frame[1] - now
            for row in self.rows:
                row[1] += self.offset
        self.welcomed = True
        print("connected: session %d" % frame[2])

    def _ack(self, frame, now):
        upto, window = frame[1], frame[2]
        rejects = frame[4] if len(frame) > 4 and frame[4] else []
        again = []
        for i in range(0, len(rejects), 4):
            first, count, channel, code = rejects[i : i + 4]
            self.refused += count
            print("refused: rows %d to %d, channel %s, code %d" % (first, first + count - 1, channel, code))
            if code >= 64 and channel is None:  # may pass (7.2): again, under new numbers
                again += [row for row in self.rows if first <= row[0] < first + count]
                if code == 65:  # QUOTA: nothing more would be taken so soon (8.6)
                    self.quiet_until = now + 10000
        upto = min(upto, self.next)  # an ACK speaks of this connection's rows
        settled = 0
        while settled < len(self.rows) and self.rows[settled][0] < upto:
            settled += 1
        if settled:
            del self.rows[:settled]
            self.settled += settled
            self.progress = True
            self.failures = self.terminal = self.poison = 0
        while self.in_flight and self.in_flight[0] <= upto:
            self.in_flight.pop(0)
        for _, ms, values in again:
            self._append(ms, values)
        self.window = window

    def _command(self, frame):
        number, name, args = frame[1], frame[2], frame[3] if len(frame) > 3 else None
        if name not in self.commands:
            return [RESULT, number, UNKNOWN]
        try:
            return [RESULT, number, DONE, self.commands[name](args)]
        except (ValueError, TypeError, KeyError) as error:
            return [RESULT, number, BAD_ARGS, str(error)]
        except Exception as error:  # whatever the hardware says
            return [RESULT, number, FAILED, str(error)]

    def _notice(self, frame, now):
        kind = frame[1]
        if kind == 2:  # THROTTLE
            self.gap, self.gap_until = frame[2], now + frame[3] * 1000
        elif kind == 3:  # GOAWAY
            grace, least, most = (frame[3:6] + [0, 0, 0])[:3]
            self.goaway = (frame[2], least or 0, most or 0)
            self.leave_at = now + (grace or 0)
        elif kind == 4:  # PARAMS; None: unchanged
            hb, max_frame, window, spread = (frame[2:6] + [None] * 4)[:4]
            self.hb = self.hb if hb is None else hb * 1000
            self.max_frame = self.max_frame if max_frame is None else max_frame
            self.window = self.window if window is None else window
            self.spread = self.spread if spread is None else max(spread, 1) * 1000
        elif kind == 5:  # LAYOUT_REJECTED: none of our rows can be stored now
            print("the server refuses the layout: channel %s, code %s" % (frame[3], frame[4]))
            self.goaway, self.leave_at = (4100, 0, 0), now  # stay away as class L does
        elif kind == 6:  # NEED_LAYOUT
            return [self._layout()]
        return []

    # --- coming back

    def disconnected(self, now, code=None, status=None, retry_after=0):
        """How many ms to stay away (9.2), by close code or HTTP status."""
        if self.goaway:  # many libraries hide close codes
            code = self.goaway[0]
        kind = close_class(code, status)
        if status == 401:
            print("the server does not know the token: is it a device's, and of this server?")
        if self.progress or self.welcomed and now - self.since >= 60000:
            self.failures = self.terminal = 0
        else:
            self.failures += 1
        if kind == "F" and self.sent_data and not self.progress:
            self.poison += 1
            if self.poison >= 2 and self.in_flight:  # 9.4
                self._give_up(sum(1 for row in self.rows if row[0] < self.in_flight[0]))
                self.poison = 0
        wait = uniform(min(600000, self.spread << min(self.failures, 16)))
        if kind == "L":
            wait += 60000
        elif kind == "F":
            wait += 10000
        elif kind == "T":
            wait += min(900000 << min(self.terminal, 8), 6 * 3600000)
            self.terminal += 1
        if self.goaway and (self.goaway[1] or self.goaway[2]):
            width = self.goaway[2] - self.goaway[1]
            slot = self.goaway[1] + uniform(width if width > 0 else 1000)
            wait = slot if kind == "R" and self.failures == 0 else max(wait, slot)
        if retry_after:
            wait = max(wait, retry_after * 1000 + uniform(self.spread))
        self._fresh()
        return wait


def uniform(limit):
    return int(random.random() * max(limit, 0))


def ignorable(message):
    """Of a later version: types 32 to 127, whatever bytes follow the type (3.6)."""
    at = 3 if message[:1] == b"\xdc" else 1
    if message[at : at + 1] == b"\xcc":
        at += 1
    return len(message) > at and 32 <= message[at] <= 127


def close_class(code, status=None):
    """R retry, L later, F fault of the sender, T terminal (9.1)."""
    if status is not None:
        if status in (401, 403):
            return "T"
        if status in (429, 503) or status < 400:
            return "L"
        return "R" if status == 408 or status >= 500 else "F"
    if code is None:
        return "R"
    if code >= 4000:
        return {40: "R", 41: "L", 42: "F", 45: "T"}.get(code // 100, "L")
    if code in (1008, 1013):
        return "L"
    return "F" if code in (1002, 1003, 1007, 1009) else "R"
