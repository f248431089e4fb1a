"""Ways in which the bytes of a file get lost, and a value of a JSON file becomes another."""

import json
import math
import os

from hypothesis import strategies as st

KINDS = ("bit", "bytes", "cut", "twice")
FUZZ = int(os.environ.get("FLIPJAX_FUZZ", 60))
"""Examples of a law of damaged files."""
DAMAGES = st.tuples(st.sampled_from(KINDS), st.integers(0, 1 << 20), st.integers(0, 255))


def damaged(data, kind, place, value):
    """Returns bytes of which one bit or 16 bytes are others, the end is gone, or the start stands twice."""
    place %= len(data)
    if kind == "bit":
        return data[:place] + bytes([data[place] ^ 1 << value % 8]) + data[place + 1 :]
    if kind == "bytes":
        return data[:place] + bytes(value + k & 255 for k in range(16)) + data[place + 16 :]
    return data[:place] if kind == "cut" else data + data[:place]


def read_damaged(read, path, damage, error):
    """Returns what a damaged copy is read as, or None for an error that names the copy in one line."""
    copy = path.with_name(f"damaged{path.suffix}")
    copy.write_bytes(damaged(path.read_bytes(), *damage))
    try:
        return read(copy)
    except error as raised:
        assert copy.name in str(raised) and "\n" not in str(raised)
        return None


ODD = (None, True, [], {}, "", "a\nb", -1, 0.5, math.inf, math.nan, 10**400, [[[]]], {"a": [1]}, "gone")
"""Values that a file of JSON may hold in the place of another."""
REPLACED = st.tuples(st.integers(0, 1 << 12), st.integers(0, len(ODD) - 1))


def _places(value):
    """Yields the list or object and the index or name of every value of JSON."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def with_another_value(text, place, number):
    """Returns JSON of which one value is an odd one; the last of them stands for its absence."""
    whole = {"": json.loads(text)}
    places = list(_places(whole))
    holder, key = places[place % len(places)]
    holder[key] = ODD[number]
    if ODD[number] == "gone" and holder is not whole:
        del holder[key]
    return json.dumps(whole[""])
