"""Reads images from files, and makes what a pool holds of them: photos, cut-outs and scenes of one size.

An unusable file is a `BadFileError` of one line that names it.
"""

import contextlib
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flipjax.support.tables import Row, TableError, parse_table
from flipjax.support.terminal import listed

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""Image formats that are opened. Pillow's other decoders start programs or are rarely tested."""
MAX_PIXELS = 178_956_970
"""Largest image, in pixels: Pillow refuses more."""
MOST_BYTES = 2**29
"""Largest file, in bytes."""
OBJECT_ALPHA = 127
"""Alpha, of 255, above which a pixel is the object's."""


class Pixels(NamedTuple):
    """A resized photo, cut-out or scene.

    Attributes:
        image: uint8 (H, W, 3).
        mask: uint8 (H, W): labels, alpha, or zeros of a scene.
        aspect: width by height of the photo before it was resized; NaN if unknown.
    """

    image: np.ndarray
    mask: np.ndarray
    aspect: float


class BadFileError(ValueError):
    """An unusable file; the message is 'path: reason'."""

    exit_code = 1


class EmptyObjectError(BadFileError):
    """An object that vanishes at this size."""


def read_file(path: Path, *, name: str = "") -> bytes:
    """Reads a file; raises BadFileError, with `name` for the path, if it is missing, not regular or too large."""
    name = name or str(path)
    try:
        if not path.is_file():
            raise BadFileError(f"{name}: no regular file")
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise BadFileError(f"{name}: {size:,} bytes, more than {MOST_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise BadFileError(f"{name}: unreadable: {error.strerror or error}") from error


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Reads the rows of a CSV with these columns, in any case; raises BadFileError if it lacks one, or has no row."""
    try:
        table = parse_table(read_file(path)).renamed(columns)
    except TableError as error:
        raise BadFileError(f"{path}: {error}") from error
    expected = f"expected rows with {', '.join(columns)}; found {listed(table.columns)}"
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise BadFileError(f"{path}: no column {', '.join(missing)}; {expected}")
    if not table.rows:
        raise BadFileError(f"{path}: no row below its header; {expected}")
    return list(table.rows)


@contextlib.contextmanager
def decoding(name: str, formats: Sequence[str]) -> Iterator[None]:
    """Converts errors of Pillow to a BadFileError that names the file."""
    try:
        yield
    except BadFileError:
        raise
    except UnidentifiedImageError as error:
        raise BadFileError(f"{name}: unreadable: no image of {', '.join(formats)}, or a damaged one") from error
    except Exception as error:  # Pillow raises many exception types for damaged files.
        raise BadFileError(f"{name}: unreadable: {error or type(error).__name__}") from error


def decode(data: bytes, *, name: str, turn: bool = False) -> Image.Image:
    """Decodes an image.

    Args:
        data: content of a file in one of FORMATS.
        name: its name in messages.
        turn: whether to apply its EXIF orientation.

    Raises:
        BadFileError: it is no image, damaged, truncated, too large, or has several frames.
    """
    with decoding(name, FORMATS):
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadFileError(f"{name}: {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
            # In MPO files of cameras the first frame is the photo, and others are previews.
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise BadFileError(f"{name}: several frames or pages; save the one that is meant")
            image.verify()  # Loading does not compare the checksums of a PNG.
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            if turn:
                return ImageOps.exif_transpose(image)
            return image


def read_image(path: Path, *, name: str = "", turn: bool = False) -> Image.Image:
    """Reads and decodes an image file; raises as `read_file` and `decode` do."""
    return decode(read_file(path, name=name), name=name or str(path), turn=turn)


def read_photo(path: Path, *, name: str = "") -> np.ndarray:
    """Reads a photo uint8 (H, W, 3), turned as its EXIF orientation says.

    Raises:
        BadFileError: it is no image, has more than 8 bits a channel, or transparent pixels.
    """
    return np.asarray(rgb(read_image(path, name=name, turn=True), name or str(path)))


def check_photo(path: Path) -> None:
    """Raises BadFileError, without reading pixels, for a photo of more than 8 bits a channel or no photo at all."""
    with decoding(str(path), FORMATS), Image.open(path, formats=FORMATS) as image:
        check_bits(image, str(path))


def encode_png(image: Image.Image) -> bytes:
    """Returns a PNG file. For photos, run lengths are as small as zlib's search for repetitions, and faster."""
    stream = io.BytesIO()
    image.save(stream, format="PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return stream.getvalue()


def rgb(image: Image.Image, name: str) -> Image.Image:
    """Converts a photo to RGB; raises BadFileError for transparent pixels or more than 8 bits per channel."""
    check_bits(image, name)
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise BadFileError(f"{name}: has transparent pixels, which have no colour; save it without an alpha channel")
    return image.convert("RGB")


def check_bits(image: Image.Image, name: str) -> None:
    """Raises BadFileError if an image has more than 8 bits per channel, which a conversion would cut off."""
    if image.mode[0] in "IF":
        raise BadFileError(f"{name}: more than 8 bits a channel (mode {image.mode}); save it with 8")


def squash(image: Image.Image, size: int) -> Image.Image:
    """Resizes an image to size x size (bilinear, antialiased) as the paper does; size 0 keeps it."""
    if not size:
        return image
    return image.resize((size, size), Image.Resampling.BILINEAR)


def read_scene(photo: Image.Image, *, name: str, size: int) -> Pixels:
    """Resizes the central square of a scene to size x size (Lanczos); size 0 keeps the whole scene."""
    photo = rgb(photo, name)
    view = photo
    if size:
        side = min(photo.size)
        left = (photo.width - side) // 2
        top = (photo.height - side) // 2
        box = (left, top, left + side, top + side)
        view = photo.crop(box).resize((size, size), Image.Resampling.LANCZOS)
    return Pixels(np.asarray(view), np.zeros(view.size[::-1], np.uint8), photo.width / photo.height)


def cut_out(photo: Image.Image, alpha: Image.Image, *, name: str, size: int) -> Pixels:
    """Cuts an object out and resizes it.

    The photo is multiplied by alpha before the resize, so that its old background does not leak in. No channel exceeds
    alpha, since the filter has no negative lobes.

    Args:
        photo: RGB or RGBA.
        alpha: L, with the size of the photo.
        name: its name in messages.
        size: side in pixels; 0: the size of the photo.

    Raises:
        EmptyObjectError: no pixel of the object is left.
    """
    both = photo.copy()
    both.putalpha(alpha)
    *bands, alpha = squash(both.convert("RGBa"), size).split()
    mask = np.asarray(alpha)
    check_object(mask > OBJECT_ALPHA, name)
    return Pixels(np.asarray(Image.merge("RGB", bands)), mask, photo.width / photo.height)


def read_premultiplied(
    image: Image.Image, alpha: Image.Image, *, image_name: str, alpha_name: str, size: int
) -> Pixels:
    """Resizes a cut-out that was multiplied by its alpha before; raises BadFileError as `cut_out` and `rgb` do."""
    image = rgb(image, image_name)
    alpha = alpha.convert("L")
    check_sizes(image, alpha, photo_name=image_name, mask_name=alpha_name)
    small_alpha = np.asarray(squash(alpha, size))
    check_object(small_alpha > OBJECT_ALPHA, image_name)
    # No channel may exceed alpha in a pool, as it may in other data sets.
    pixels = np.minimum(np.asarray(squash(image, size)), small_alpha[..., None])
    return Pixels(pixels, small_alpha, image.width / image.height)


def alpha_of(mask: Image.Image, name: str) -> Image.Image:
    """Returns the alpha (mode L) of a cut-out's mask or RGBA image.

    Soft edges stay. A mask of two values, of which one is 0, becomes one of 0 and 255.

    Raises:
        BadFileError: it has no object, or is no mask of one grey channel of 8 bits.
    """
    if _is_partly_transparent(mask):
        mask = mask.getchannel("A")
        if np.asarray(mask).max(initial=0) > OBJECT_ALPHA:
            return mask
    if mask.mode in ("1", "LA"):
        mask = mask.convert("L")
    elif mask.mode == "RGB" and _are_grey(np.asarray(mask)):
        mask = mask.getchannel(0)
    expected = "expected a mask of one grey channel of 8 bits: two values, of which one is 0, or a soft edge"
    if mask.mode != "L":
        kinds = {
            "P": "a palette mask, whose pixels are ids of colours",
            "RGB": "an RGB mask",
            "RGBA": "an image without a transparent pixel",
        }
        raise BadFileError(f"{name}: {expected}; found {kinds.get(mask.mode, f'mode {mask.mode}')}")
    values = [value for value, pixels in enumerate(mask.histogram()) if pixels]
    has_two_values = values == [1] or (len(values) == 2 and values[0] == 0)
    if has_two_values:
        return mask.point([255 * (value > 0) for value in range(256)])
    has_soft_edge = len(values) > 1 and values[-1] > OBJECT_ALPHA
    if has_soft_edge or values == [255]:
        return mask
    raise BadFileError(f"{name}: {expected}; found the values {listed(values)}")


def _is_partly_transparent(image: Image.Image) -> bool:
    """Returns whether an image has an alpha channel that is not 255 everywhere."""
    return image.getbands()[-1] == "A" and image.getchannel("A").getextrema() != (255, 255)


def _are_grey(values: np.ndarray) -> bool:
    """Returns whether all channels of (H, W, channels) are equal."""
    return bool((values == values[..., :1]).all())


def labels_of(mask: Image.Image, name: str) -> np.ndarray:
    """Returns the class indices of a mask, uint8 or int32 (H, W); channels of grey and an opaque alpha count as one.

    Raises:
        BadFileError: it has colours, transparent pixels or floating point.
    """
    expected = "expected one channel of class indices"
    values = np.asarray(mask)
    if values.ndim == 3:
        if _is_partly_transparent(mask):
            raise BadFileError(f"{name}: a mask with transparent pixels; {expected}")
        colours = values[..., : 1 if mask.mode == "LA" else 3]
        if not _are_grey(colours):
            raise BadFileError(f"{name}: a mask of colours (mode {mask.mode}); {expected}")
        values = colours[..., 0]
    if values.dtype.kind == "f":
        raise BadFileError(f"{name}: a mask of mode {mask.mode}; {expected}")
    if values.dtype == np.uint8:
        return values
    return values.astype(np.int32)


def squash_labels(labels: np.ndarray, size: int, name: str) -> np.ndarray:
    """Resizes 8-bit labels to size x size (nearest pixel): uint8; raises EmptyObjectError if only zeros remain."""
    small = np.asarray(Image.fromarray(labels.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST))
    check_object(small, name)
    return small


def read_labelled(
    photo: Image.Image, mask: Image.Image, *, photo_name: str, mask_name: str, value: int, label: int, size: int
) -> Pixels:
    """Returns a photo and its mask at size x size.

    Args:
        photo: image of any mode.
        mask: holds 0 and `value`, which becomes `label`.
        photo_name: name of the photo in messages.
        mask_name: name of the mask in messages.
        value: value of the object's pixels.
        label: label of the object.
        size: side in pixels.

    Raises:
        BadFileError: sizes differ, or the mask has other values.
    """
    photo = rgb(photo, photo_name)
    labels = labels_of(mask, mask_name)
    check_sizes(photo, mask, photo_name=photo_name, mask_name=mask_name)
    values = np.unique(labels).tolist()
    if value not in values or not {0, value} >= set(values):
        raise BadFileError(f"{mask_name}: the mask has the values {listed(values)}; expected 0 and {value}")
    small_mask = squash_labels((labels == value) * label, size, mask_name)
    return Pixels(np.asarray(squash(photo, size)), small_mask, photo.width / photo.height)


def check_object(pixels: np.ndarray, name: str) -> None:
    """Raises EmptyObjectError if no pixel (H, H) shows the object."""
    if not pixels.any():
        raise EmptyObjectError(f"{name}: nothing of the object is left at {len(pixels)} x {len(pixels)} pixels")


def check_sizes(photo: Image.Image, mask: Image.Image, *, photo_name: str, mask_name: str) -> None:
    """Raises BadFileError unless photo and mask have the same size."""
    if photo.size != mask.size:
        found = f"the mask has {mask.width} x {mask.height} pixels, {photo_name} has {photo.width} x {photo.height}"
        raise BadFileError(f"{mask_name}: {found}")
