"""Ways in which the bytes of a file get lost."""

KINDS = ("bit", "bytes", "cut", "twice")


def damaged(data, kind, place, value):
    """Returns bytes of which one bit or 16 bytes are others, the end is gone, or the start stands twice."""
    place %= len(data)
    if kind == "bit":
        return data[:place] + bytes([data[place] ^ 1 << value % 8]) + data[place + 1 :]
    if kind == "bytes":
        return data[:place] + bytes(value + k & 255 for k in range(16)) + data[place + 16 :]
    return data[:place] if kind == "cut" else data + data[:place]
