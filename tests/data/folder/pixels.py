"""Made-up photos and masks, and files of them."""

import io

import numpy as np
from PIL import Image

RED, GREEN, BLUE = (200, 20, 20), (20, 200, 20), (20, 20, 200)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(path, **options)


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def place(folder, files):
    """Puts files in a folder: pixels as images, bytes as they are; for None a file is taken away."""
    for name, content in files.items():
        if content is None:
            (folder / name).unlink()
        elif isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            save(folder / name, content)


def solid(colour, width=20, height=20):
    return np.full((height, width, 3), colour, np.uint8)


def square(width=20, height=20, value=255):
    """A mask: the middle half of each side."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] = value
    return mask


def palette(value):
    image = Image.fromarray(square(value=value))
    image.putpalette([0, 0, 0] * 8 + [64, 0, 0] * 248)
    return image
