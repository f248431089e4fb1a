"""From an image file to pixels: what may be opened, orientation, masks, sizes. What is wrong is said in a line."""

import io
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""All that is opened: other decoders of Pillow start programs, or are rarely used and rarely tested."""
MAX_PIXELS = 2**26
"""Pixels of the largest image that is opened."""
BYTES_A_PIXEL = 8
"""A file may have as many bytes for each pixel that it may have: twice RGBA."""
SOFT = 4
"""More values than these make a mask's edge soft."""


class Pixels(NamedTuple):
    """A photo or cut-out at the size asked for.

    image: uint8 (size, size, 3). mask: labels or alpha, uint8 (size, size). values: of the mask, in words. aspect:
    width by height of the photo before it was resized; NaN where unknown.
    """

    image: np.ndarray
    mask: np.ndarray
    values: str
    aspect: float


class BadFileError(ValueError):
    """A file that cannot be used, as 'path: reason'."""


class EmptyObjectError(BadFileError):
    """Nothing of an object is left at the size asked for."""


def read_file(path: Path, *, name: str = "") -> bytes:
    """Reads a file whole; BadFileError, with `name` for the path, if it is none, no regular one, or too large."""
    name = name or str(path)
    most = BYTES_A_PIXEL * MAX_PIXELS
    try:
        if not path.is_file():
            raise BadFileError(f"{name}: no regular file")
        size = path.stat().st_size
        if size > most:
            raise BadFileError(f"{name}: {size:,} bytes, more than the {most:,} of {MAX_PIXELS:,} pixels")
        return path.read_bytes()
    except OSError as error:
        raise BadFileError(f"{name}: unreadable: {error.strerror or error}") from error


def decode(data: bytes, *, name: str, turn: bool = False) -> Image.Image:
    """Decodes an image whole.

    Args:
        data: of a file of one of FORMATS.
        name: of it in a message.
        turn: whether it is turned as its EXIF tag says.

    Raises:
        BadFileError: no image, damaged, cut short, of several frames, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height} pixels"
                raise BadFileError(f"{name}: {size}, more than {MAX_PIXELS:,}")
            # Cameras hide previews behind a photo: MPO, whose first frame is the photo.
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise BadFileError(f"{name}: {frames} frames or pages; save the one that is meant")
            image.verify()  # Compares the checksums of a PNG, which loading does not: damage could pass for pixels.
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            return ImageOps.exif_transpose(image) if turn else image
    except BadFileError:
        raise
    except UnidentifiedImageError as error:
        raise BadFileError(f"{name}: unreadable: no image of {', '.join(FORMATS)}, or a damaged one") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file.
        raise BadFileError(f"{name}: unreadable: {error or type(error).__name__}") from error


def read_image(path: Path, *, name: str = "", turn: bool = False) -> Image.Image:
    """Returns an image file decoded, as `read_file` and `decode` do, with their errors."""
    return decode(read_file(path, name=name), name=name or str(path), turn=turn)


def encode_png(image: Image.Image) -> bytes:
    """Returns a PNG file; of photos, run lengths are as small as zlib's search for repetitions, and faster."""
    stream = io.BytesIO()
    image.save(stream, format="PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return stream.getvalue()


def rgb(image: Image.Image, name: str) -> Image.Image:
    """Returns a photo as RGB; BadFileError where it has transparent pixels or more than 8 bits a channel."""
    check_bits(image, name)
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise BadFileError(f"{name}: has transparent pixels, which have no colour; save it without an alpha channel")
    return image.convert("RGB")


def check_bits(image: Image.Image, name: str) -> None:
    """Raises BadFileError where an image has more than 8 bits a channel, which would be cut off."""
    if image.mode[0] in "IF":
        raise BadFileError(f"{name}: more than 8 bits a channel (mode {image.mode}); save it with 8")


def squash(image: Image.Image, size: int) -> Image.Image:
    """Returns an image at size x size (bilinear, antialiased), as the paper does, or as it is for size 0."""
    return image.resize((size, size), Image.Resampling.BILINEAR) if size else image


def middle_square(image: Image.Image, size: int) -> Image.Image:
    """Returns a scene's middle square at size x size (Lanczos), or the whole scene as it is for size 0."""
    if not size:
        return image
    side = min(image.size)
    left = (image.width - side) // 2
    top = (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def cut_out(photo: Image.Image, alpha: Image.Image, size: int) -> tuple[Image.Image, Image.Image]:
    """Cuts an object out and squashes it.

    Args:
        photo: RGB or RGBA.
        alpha: L, of the photo's size.
        size: pixels a side; 0: as large as the photo.

    Returns:
        The object, RGB, premultiplied before it is resized so that nothing of its old background is mixed in; and its
        alpha, L. No channel exceeds alpha: the filter has no negative lobes.
    """
    photo = photo.copy()
    photo.putalpha(alpha)
    *bands, alpha = squash(photo.convert("RGBa"), size).split()
    return Image.merge("RGB", bands), alpha


def alpha_of(mask: Image.Image, name: str) -> tuple[Image.Image, str]:
    """Returns the soft alpha (mode L) of a cut-out's mask or RGBA image, and in words which values it held."""
    expected = "expected one grey channel of 8 bits: 0/255, 0/1 or a soft edge"
    if mask.mode == "P":
        values = listed(np.unique(np.asarray(mask)))
        raise BadFileError(f"{name}: a palette mask, whose pixels are ids of colours: {values}; {expected}")
    channels = mask.getbands()
    if channels[-1] == "A" and mask.getchannel("A").getextrema() != (255, 255):
        mask = mask.getchannel("A")
    elif channels[:3] == ("R", "G", "B"):
        what = "an image without a transparent pixel" if "A" in channels else "an RGB mask"
        raise BadFileError(f"{name}: {what}; {expected}")
    mask = mask.convert("L") if mask.mode in ("1", "LA") else mask
    if mask.mode != "L":
        raise BadFileError(f"{name}: a mask of mode {mask.mode}; {expected}")
    values = np.unique(np.asarray(mask))
    if values[-1] == 1:
        mask = mask.point(lambda value: 255 * value)
    elif values[-1] <= 127:
        raise BadFileError(f"{name}: the mask has no object: its values are {listed(values)}; {expected}")
    return mask, "soft (many values)" if len(values) > SOFT else f"values {listed(values)}"


def labels_of(mask: Image.Image, name: str) -> np.ndarray:
    """Returns the whole numbers of a label mask (H, W); BadFileError where it has several channels or is of floats."""
    labels = np.asarray(mask)
    if labels.ndim > 2 or labels.dtype.kind == "f":
        raise BadFileError(f"{name}: a mask of mode {mask.mode}; expected one channel of labels 0, 1 and 2")
    return labels.astype(np.int64) if labels.dtype != np.uint8 else labels


def squash_labels(labels: np.ndarray, size: int, name: str) -> np.ndarray:
    """Returns labels of 8 bits at size x size (nearest pixel), uint8; EmptyObjectError where only zeros are left."""
    small = np.asarray(Image.fromarray(labels.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST))
    check_object(small, name)
    return small


def read_labelled(
    photo: Image.Image, mask: Image.Image, *, names: tuple[str, str], value: int, label: int, size: int
) -> Pixels:
    """Returns a photo and its mask at size x size.

    Args:
        photo: of any mode.
        mask: of 0 and `value`, which the result calls `label`.
        names: of both, for messages.
        value: of the object's pixels.
        label: of the object.
        size: pixels a side.

    Raises:
        BadFileError: sizes that differ, or a mask of other values.
    """
    photo, labels = rgb(photo, names[0]), labels_of(mask, names[1])
    check_sizes(photo, mask, names=names)
    values = np.unique(labels).tolist()
    if value not in values or not {0, value} >= set(values):
        raise BadFileError(f"{names[1]}: the mask has the values {listed(values)}; expected 0 and {value}")
    small = squash_labels((labels == value) * label, size, names[1])
    return Pixels(np.asarray(squash(photo, size)), small, f"values {listed(values)}", photo.width / photo.height)


def check_object(pixels: np.ndarray, name: str) -> None:
    """Raises EmptyObjectError where none of the pixels that are to show an object does."""
    if not pixels.any():
        raise EmptyObjectError(f"{name}: nothing of the object is left at {len(pixels)} x {len(pixels)} pixels")


def check_sizes(photo: Image.Image, mask: Image.Image, *, names: tuple[str, str]) -> None:
    """Raises BadFileError unless photo and mask, of these names, have the same size."""
    if photo.size != mask.size:
        sizes = ["{} x {}".format(*each.size) for each in (mask, photo)]
        raise BadFileError(f"{names[1]}: the mask has {sizes[0]} pixels, {names[0]} has {sizes[1]}")


def listed(values: Iterable) -> str:
    """Returns the first values in words, and the last."""
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    return " ".join(map(str, values[:8])) + (f" ... {values[-1]}" if len(values) > 8 else "")
