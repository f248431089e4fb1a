"""Strange checkpoints for `flipjax convert`: archives, headers, types, shapes, names, places."""

import functools
import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
from safetensors.numpy import save

from doors.files import archive, header, npy, write
from doors.harm import both, nothing, option, options, put, replaced
from doors.trial import Door, Strange
from flipjax.models import smp
from flipjax.models.__main__ import main

SIGN = "layer1.0.conv1.weight"


class Code:
    """What runs where a pickle is loaded."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def source(name, content, *more):
    """A file of weights, and options more."""
    return both(put(name, content), option("--from", name), options(*more))


def at(make, name="x.npz"):
    """A path that `make` puts something else in than a file."""
    return both(replaced(name, make), option("--from", name))


def safetensors(header, data=b"", *, size=None):
    """A safetensors file with a header of one's own: a text, or what JSON writes."""
    line = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return struct.pack("<Q", len(line) if size is None else size) + line + data


def tensor(dtype="F32", shape=(1,), offsets=(0, 4), **more):
    """A header of one tensor."""
    return {SIGN: {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}, **more}


def packed(method, *, names=("a.npy",), size=None):
    """An archive packed by a method, whose directory may claim another size."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name in names:
            file.writestr(name, npy(np.zeros(10**5)))
    content = bytearray(stream.getvalue())
    if size is not None:
        place = content.rindex(b"PK\1\2") + 24
        content[place : place + 4] = struct.pack("<I", size)
    return bytes(content)


def one_name():
    """An archive with two members of one name, which zipfile would not write without a warning."""
    return packed(zipfile.ZIP_STORED, names=("a.npy", "b.npy")).replace(b"b.npy", b"a.npy")


@functools.cache
def encoder():
    """Names and shapes of a ResNet-50 alone."""
    shapes = smp.expected_shapes("resnet50", num_classes=3)
    return {name.removeprefix("encoder."): shape for name, shape in shapes.items() if name.startswith("encoder.")}


def whole(dtype=np.float16, **changed):
    """An encoder's file, where arrays may be others."""

    def make(place):
        arrays = {name: np.zeros(shape, dtype) for name, shape in encoder().items()}
        arrays |= {name.replace("_", "."): array for name, array in changed.items()}
        write(place / "x.safetensors", save(arrays))
        return "--from", place / "x.safetensors"

    return make


def big_endian(place):
    """An encoder's npz, of big-endian arrays."""
    arrays = {f"{name}.npy": npy(np.zeros(shape, ">f4")) for name, shape in encoder().items()}
    return source("x.npz", archive(**arrays))(place)


def out(name, make=nothing):
    """A whole file, and another target, in whose place there is something."""
    return both(replaced(name, make), whole(), option("--out", name))


OBJECTS = header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", pickle.dumps([Code()]))
CASES = {
    "plain": Strange("done", "the encoder alone", whole()),
    "big endian": Strange("done", "the encoder alone", big_endian),
    "beyond float32": Strange("refused", "conv1.weight", whole(np.float64, conv1_weight=np.full((64, 3, 7, 7), 1e300))),
    "NaN": Strange("refused", "conv1.weight", whole(conv1_weight=np.full((64, 3, 7, 7), np.nan, np.float32))),
    "another shape": Strange(
        "refused", "conv1.weight (64, 7, 7, 3) instead", whole(conv1_weight=np.zeros((64, 7, 7, 3)))
    ),
    "no axes": Strange("refused", "conv1.weight ()", whole(conv1_weight=np.zeros(()))),
    "no numbers": Strange("refused", "conv1.weight (0, 3, 7, 7)", whole(conv1_weight=np.zeros((0, 3, 7, 7)))),
    "empty npz": Strange("refused", "x.npz", source("x.npz", b"")),
    "empty safetensors": Strange("refused", "x.safetensors", source("x.safetensors", b"")),
    "archive of nothing": Strange("refused", "x.npz", source("x.npz", archive())),
    "archive of text": Strange("refused", "x.npz", source("x.npz", archive(**{"a.txt": b"text"}))),
    "archive in an archive": Strange("refused", "x.npz", source("x.npz", archive(**{"a.npz": archive()}))),
    "archive that leads out": Strange(
        "refused", "arrays such as", source("x.npz", packed(zipfile.ZIP_STORED, names=("../../a.npy",)))
    ),
    "members of one name": Strange("refused", "x.npz", source("x.npz", one_name())),
    "half an archive": Strange("refused", "x.npz", source("x.npz", packed(zipfile.ZIP_DEFLATED)[:-100])),
    "lzma": Strange("refused", "x.npz", source("x.npz", packed(zipfile.ZIP_LZMA))),
    "bzip2": Strange("refused", "x.npz", source("x.npz", packed(zipfile.ZIP_BZIP2))),
    "bomb": Strange("refused", "--max_bytes", source("x.npz", packed(zipfile.ZIP_DEFLATED), "--max_bytes", 10**5)),
    "bomb that claims little": Strange("refused", "x.npz", source("x.npz", packed(zipfile.ZIP_DEFLATED, size=200))),
    "bomb that claims 4 GB": Strange("refused", "x.npz", source("x.npz", packed(zipfile.ZIP_DEFLATED, size=2**32 - 2))),
    "npy claims exabytes": Strange(
        "refused",
        "x.npz",
        source(
            "x.npz",
            archive(
                **{"a.npy": header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000), }")}
            ),
        ),
    ),
    "npy of code": Strange(
        "refused", "x.npz", source("x.npz", archive(**{"a.npy": header("__import__('os').abort()")}))
    ),
    "npy of brackets": Strange("refused", "x.npz", source("x.npz", archive(**{"a.npy": header("(" * 118)}))),
    "pickled objects": Strange("refused", "x.npz", source("x.npz", archive(**{"a.npy": OBJECTS}))),
    "fields": Strange(
        "refused", f"{SIGN} (", source("x.npz", archive(**{f"{SIGN}.npy": npy(np.zeros(3, [("a", "f4")]))}))
    ),
    "dates": Strange("refused", f"{SIGN} (", source("x.npz", archive(**{f"{SIGN}.npy": npy(np.zeros(3, "M8[s]"))}))),
    "text": Strange("refused", f"{SIGN} (", source("x.npz", archive(**{f"{SIGN}.npy": npy(np.array(["a"]))}))),
    "complex": Strange(
        "refused", f"{SIGN} (complex64)", source("x.npz", archive(**{f"{SIGN}.npy": npy(np.zeros(3, np.complex64))}))
    ),
    "names that steer": Strange("refused", r"a\x1b[2J\nb", source("x.safetensors", save({"a\x1b[2J\nb": np.zeros(1)}))),
    "names that are long": Strange(
        "refused", "found arrays such as", source("x.safetensors", save({"x" * 10**5: np.zeros(1)}))
    ),
    "header too long": Strange("refused", "x.safetensors", source("x.safetensors", safetensors("{}", size=2**63))),
    "header of 100 MB": Strange("refused", "x.safetensors", source("x.safetensors", safetensors("{}", size=10**8 + 1))),
    "header of brackets": Strange("refused", "x.safetensors", source("x.safetensors", safetensors('{"a":' * 10**5))),
    "header a list": Strange("refused", "x.safetensors", source("x.safetensors", safetensors([]))),
    "header a number as metadata": Strange(
        "refused", "x.safetensors", source("x.safetensors", safetensors(tensor(__metadata__={"a": 1}), bytes(4)))
    ),
    "offsets beyond": Strange(
        "refused", "x.safetensors", source("x.safetensors", safetensors(tensor(offsets=(0, 2**40)), bytes(4)))
    ),
    "offsets backwards": Strange(
        "refused", "x.safetensors", source("x.safetensors", safetensors(tensor(offsets=(4, 0)), bytes(4)))
    ),
    "offsets of another shape": Strange(
        "refused", "x.safetensors", source("x.safetensors", safetensors(tensor(shape=(2,)), bytes(4)))
    ),
    "shape beyond 64 bits": Strange(
        "refused", "x.safetensors", source("x.safetensors", safetensors(tensor(shape=(2**63, 2**63)), bytes(4)))
    ),
    "shape negative": Strange(
        "refused", "x.safetensors", source("x.safetensors", safetensors(tensor(shape=(-1,)), bytes(4)))
    ),
    **{
        name: Strange("refused", name, source("x.safetensors", safetensors(tensor(name, shape=(count,)), bytes(4))))
        for name, count in (("F8_E4M3", 4), ("F8_E5M2", 4), ("BF16", 2))
    },
    "unknown type": Strange("refused", "x.safetensors", source("x.safetensors", safetensors(tensor("X9"), bytes(4)))),
    **{
        f"pickled code as {name}": Strange("refused", f"x{name}", source(f"x{name}", pickle.dumps(Code())))
        for name in (".pt", ".pth", ".ckpt", ".npz", ".safetensors")
    },
    "empty pt": Strange("refused", "x.pt", source("x.pt", b"")),
    "another suffix": Strange("refused", "x.bin", source("x.bin", b"")),
    "no suffix": Strange("refused", "expected a file that ends", source("x", b"")),
    "folder": Strange("refused", "x.npz", at(os.mkdir)),
    "FIFO": Strange("refused", "x.npz", at(os.mkfifo)),
    "device": Strange("refused", "x.npz", at(lambda path: path.symlink_to("/dev/zero"))),
    "link to itself": Strange("refused", "x.npz", at(lambda path: path.symlink_to("x.npz"))),
    "dangling link": Strange("refused", "x.npz", at(lambda path: path.symlink_to("nowhere"))),
    "link out to text": Strange("refused", "x.npz", at(lambda path: path.symlink_to("/etc/passwd"))),
    "name of bytes": Strange("refused", r"\udcff", at(nothing, os.fsdecode(b"\xff.npz"))),
    "safetensors' name of bytes": Strange(
        "refused", r"\udcff", source(os.fsdecode(b"\xff.safetensors"), save({"a": np.zeros(1)}))
    ),
    "name of two lines": Strange("refused", r"a\nb.npz", source("a\nb.npz", b"")),
    "name of 5,000 letters": Strange("refused", "expected a file of weights; found", at(nothing, "x" * 5000)),
    "--out a folder": Strange("refused", "--out: expected", out("x.safetensors/a")),
    "--out a link to itself": Strange(
        "refused", "--out: expected", out("loop.safetensors", lambda path: path.symlink_to(path.name))
    ),
    "--out a dangling link": Strange(
        "refused", "--out: expected", out("loop.safetensors", lambda path: path.symlink_to("nowhere"))
    ),
    "--out of 5,000 letters": Strange("refused", "--out: expected", out("x" * 5000)),
    "--out of bytes": Strange("done", r"\udcff", out(os.fsdecode(b"\xff"))),
    "--out a folder's name": Strange("refused", "--out: expected", out("d.safetensors", os.mkdir)),
    "--num_classes 0": Strange("refused", "--num_classes: expected", source("x.npz", b"", "--num_classes", 0)),
    "--num_classes of 30 digits": Strange(
        "refused", "--num_classes: expected", source("x.npz", b"", "--num_classes", 10**29)
    ),
    "--max_bytes negative": Strange(
        "refused", "--max_bytes", source("x.npz", packed(zipfile.ZIP_DEFLATED), "--max_bytes", -1)
    ),
}


def arguments(place, harm):
    """The command's arguments for a file that is made strange."""
    return ["convert", "--out", place / "to", *harm(place)]


DOOR = Door(main, CASES, arguments)
