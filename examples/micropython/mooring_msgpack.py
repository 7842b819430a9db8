"""As much MessagePack as frames need, for MicroPython, which has none."""

import struct


def pack(value):
    out = bytearray()
    _pack(value, out)
    return out


def _pack(value, out):
    if value is None:
        out.append(0xC0)
    elif value is True or value is False:
        out.append(0xC3 if value else 0xC2)
    elif isinstance(value, int):
        if 0 <= value < 128:
            out.append(value)
        elif -32 <= value < 0:
            out.append(value + 256)
        elif -32768 <= value < 32768:
            out += struct.pack(">Bh", 0xD1, value)
        elif -(1 << 31) <= value < 1 << 31:
            out += struct.pack(">Bi", 0xD2, value)
        else:
            out += struct.pack(">Bq", 0xD3, value)
    elif isinstance(value, float):
        out += struct.pack(">Bd", 0xCB, value)
    elif isinstance(value, str):
        text = value.encode()
        out += struct.pack(">BH", 0xDA, len(text)) + text
    elif isinstance(value, dict):
        out += struct.pack(">BH", 0xDE, len(value))
        for key in value:
            _pack(key, out)
            _pack(value[key], out)
    else:
        out += struct.pack(">BH", 0xDC, len(value))
        for element in value:
            _pack(element, out)


_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}


def unpack(message):
    """The value in a message; ValueError if it can't be read or something follows."""
    try:
        value, end = _unpack(message, 0, 8)
    except (IndexError, UnicodeError):
        raise ValueError("the message ends too soon")
    if end != len(message):
        raise ValueError("something follows the frame")
    return value


def _take(message, at, count):
    if at + count > len(message):
        raise IndexError
    return bytes(message[at : at + count])


def _unpack(message, at, depth):
    head = message[at]
    at += 1
    if head < 0x80:
        return head, at
    if head >= 0xE0:
        return head - 256, at
    if head in _NUMBERS:
        form = _NUMBERS[head]
        size = struct.calcsize(form)
        return struct.unpack(form, _take(message, at, size))[0], at + size
    if head in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[head], at
    if head < 0xC0:  # fixed: map, array, string
        count = head & (0x1F if head >= 0xA0 else 0x0F)
        kind = 0xDB if head >= 0xA0 else 0xDD if head >= 0x90 else 0xDF
    elif head in (0xC4, 0xD9):
        count, kind, at = message[at], head, at + 1
    elif head in (0xC5, 0xDA, 0xDC, 0xDE):
        count, kind, at = struct.unpack(">H", _take(message, at, 2))[0], head, at + 2
    else:
        raise ValueError("a type that frames to devices do not have: %d" % head)
    if kind in (0xC4, 0xC5):
        return _take(message, at, count), at + count
    if kind in (0xD9, 0xDA, 0xDB):
        return _take(message, at, count).decode(), at + count
    if depth == 0:
        raise ValueError("nested too deeply")
    if kind in (0xDC, 0xDD):
        values = []
        for _ in range(count):
            value, at = _unpack(message, at, depth - 1)
            values.append(value)
        return values, at
    pairs = {}
    for _ in range(count):
        key, at = _unpack(message, at, depth - 1)
        pairs[key], at = _unpack(message, at, depth - 1)
    return pairs, at
