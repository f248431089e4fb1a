"""Arrays and files that an audit reads, whole and damaged."""

import io

import numpy as np
from PIL import Image, PngImagePlugin

from flipjax.audit.__main__ import main

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 3, (4, 6, 7)).astype(np.uint8)
LOGITS = (GENERATOR.normal(size=(4, 6, 7, 3)) + np.eye(3)[LABELS]).astype(np.float32)
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)


def refused(capsys, *arguments):
    """Runs the command line, which must refuse in one line, and returns the line."""
    assert main(list(map(str, arguments))) == 2
    lines = capsys.readouterr().err.splitlines()
    lines = [line for line in lines if not line.startswith("[") and "images of" not in line]
    assert len(lines) == 1 and lines[0].startswith("flipjax audit: ")
    return lines[0].removeprefix("flipjax audit: ")


def png(array, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG", **options)
    return stream.getvalue()


def flipped(data, chunk, offset):
    """A bit of a chunk's data is flipped."""
    data = bytearray(data)
    data[data.index(chunk) + offset] ^= 16
    return bytes(data)


def bomb():
    """A text that unpacks to more than Pillow reads."""
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * (1 << 21), zip=True)
    return info


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def named_npz(names, **arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays, names=np.array(list(names)))
    return stream.getvalue()


def each_npz(arrays):
    stream = io.BytesIO()
    np.savez(stream, **{f"n{i}": array for i, array in enumerate(arrays)})
    return stream.getvalue()


def broken_npz(array):
    """An npz whose data are cut short in the middle: its directory is whole, so only reading finds out."""
    stream = io.BytesIO()
    np.savez_compressed(stream, labels=array)
    data = bytearray(stream.getvalue())
    data[60:120] = bytes(60)
    return bytes(data)


GOOD = {f"a/{name}.npy": npy(z) for name, z in zip("pqrs", LOGITS, strict=True)} | {
    f"b/{name}.png": png(mask) for name, mask in zip("pqrs", LABELS, strict=True)
}
