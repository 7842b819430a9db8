"""Checks the vectors of this folder with another MessagePack implementation.

Usage: python3 agree.py FILE... ; needs the module msgpack. Every vector's bytes
must decode to its plain content ("="), or be refused where that is "!", and the
content must encode to the same bytes unless the vector is loose. Prints what
disagrees and how many vectors agreed; the exit code tells.
"""

import json
import struct
import sys

import msgpack


def vectors(path):
    vector = None
    with open(path, encoding="utf-8") as file:
        for line in file.read().split("\n"):
            if line.startswith("== "):
                vector = {"name": line[3:], "frame": b"", "loose": False}
            elif vector is None:
                continue
            elif line.startswith("=> "):
                yield vector
            elif line.startswith("= "):
                vector["content"] = line[2:]
            elif line.startswith("@ "):
                vector["loose"] |= line == "@ loose"
            else:
                vector["frame"] += bytes.fromhex(line.split(";")[0])


def plain(value):
    """The content notation's form of a decoded value."""
    if isinstance(value, list):
        return [plain(element) for element in value]
    if isinstance(value, dict):
        return {"map": [[plain(k), plain(v)] for k, v in value.items()]}
    if isinstance(value, msgpack.Timestamp):
        return {"ext": [-1, value.to_bytes().hex()]}
    if isinstance(value, msgpack.ExtType):
        return {"ext": [value.code, value.data.hex()]}
    if isinstance(value, bytes):
        return {"bin": value.hex()}
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        return {"str": value.encode("utf-8", "surrogateescape").hex()}
    return value


def same(want, got):
    if isinstance(want, dict) and ("f32" in want or "f64" in want):
        bits = struct.pack(">f" if "f32" in want else ">d", got)
        number = want.get("f32", want.get("f64"))
        if isinstance(number, str):
            # A NaN's payload may change on its way through Python.
            return bits == bytes.fromhex(number) or got != got
        return isinstance(got, float) and got == number
    if isinstance(want, dict) and "str" in want:
        got = got if isinstance(got, dict) else {"str": got.encode().hex()}
    if isinstance(want, list) and isinstance(got, list):
        return len(want) == len(got) and all(map(same, want, got))
    if isinstance(want, dict) and "map" in want:
        return isinstance(got, dict) and same(want["map"], got.get("map"))
    return type(want) is type(got) and want == got


packer = msgpack.Packer()
single = msgpack.Packer(use_single_float=True)


def encode(content):
    if isinstance(content, list):
        return packer.pack_array_header(len(content)) + b"".join(map(encode, content))
    if isinstance(content, dict):
        if "map" in content:
            pairs = content["map"]
            body = b"".join(encode(k) + encode(v) for k, v in pairs)
            return packer.pack_map_header(len(pairs)) + body
        if "ext" in content:
            return packer.pack(msgpack.ExtType(content["ext"][0], bytes.fromhex(content["ext"][1])))
        if "bin" in content:
            return packer.pack(bytes.fromhex(content["bin"]))
        if "f32" in content:
            return single.pack(content["f32"])
        raise ValueError(content)
    return packer.pack(content)


def check(vector):
    try:
        got = msgpack.unpackb(vector["frame"], strict_map_key=False, unicode_errors="surrogateescape")
        got = plain(got)
    except ValueError as fault:  # what all the module's errors are, OverflowError apart
        return None if vector["content"] == "!" else f"refused: {fault!r}"
    if vector["content"] == "!":
        return f"accepted as {got!r}"
    want = json.loads(vector["content"])
    if not same(want, got):
        return f"decoded to {got!r}"
    if not vector["loose"] and encode(want) != vector["frame"]:
        return f"encoded to {encode(want).hex(' ')}"
    return None


def main():
    agreed, faults = 0, 0
    for path in sys.argv[1:]:
        for vector in vectors(path):
            if "content" not in vector:
                continue  # the empty message
            fault = check(vector)
            if fault:
                faults += 1
                print(f"{vector['name']}: {fault}")
            else:
                agreed += 1
    print(f"{agreed} vectors agreed, {faults} did not")
    return 1 if faults or not agreed else 0


sys.exit(main())
