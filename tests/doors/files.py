"""Bytes of files as strange as a trial asks for."""

import io
import struct
import zipfile

import numpy as np
from PIL import Image, PngImagePlugin


def npy(array, *, version=None):
    """An array as np.save writes it."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), version=version)
    return stream.getvalue()


def header(text, data=b""):
    """An npy file with a header of one's own."""
    line = text.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line + data


def archive(**members):
    """An npz file of members as they are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return stream.getvalue()


def picture(array, *, mode=None, kind="PNG", **options):
    """A picture file of an array."""
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    elif mode:
        image = image.convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def changed(array, value):
    """A copy whose first value is another."""
    array = array.copy()
    array.flat[0] = value
    return array


def rotated():
    """EXIF that turns a picture."""
    exif = Image.Exif()
    exif[0x112] = 6
    return exif


def text_chunk():
    """PNG text that unpacks to megabytes."""
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "b" * 10**7, zip=True)
    return info


def write(path, content):
    """Writes text or bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
