"""Ways in which the bytes of a file get lost."""

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
