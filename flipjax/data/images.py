"""Reads tables and images; decodes masks and cut-outs, and resizes them; errors are one line."""

import contextlib
import io
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flipjax.data.tables import Row, TableError, parse_table
from flipjax.support.terminal import listed

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
"""Image formats that are opened. Pillow's other decoders start programs or are rarely tested."""
MASK_FORMATS = ("PNG", "TIFF", "BMP")
"""Formats of masks, which keep each value."""
MASK_MODES = ("P", "L", "I;16", "I;16B", "I", "1", "LA", "RGB", "RGBA")
"""Modes of masks: indices of a palette, integers of 8 to 32 bits, black and white, or grey in several channels."""
ORIENTATION = 274
"""EXIF tag of the orientation."""
TURNED = "a mask that EXIF turns, as viewers do and programs do not; save it without its orientation"
"""Why a mask with an orientation cannot be used."""
MAX_PIXELS = 178_956_970
"""Largest image, in pixels: Pillow refuses more."""
MOST_BYTES = 2**29
"""Largest file, in bytes."""


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


def read_table(path: Path, columns: Sequence[str]) -> list[Row]:
    """Reads the rows of a CSV with some columns, whatever their case; raises BadFileError if it has none."""
    try:
        table = parse_table(read_file(path)).renamed(columns)
    except TableError as error:
        raise BadFileError(f"{path}: {error}") from error
    missing = [name for name in columns if name not in table.columns]
    if missing or not table.rows:
        expected = f"expected rows with {', '.join(columns)}; found {listed(table.columns)}"
        raise BadFileError(f"{path}: no column {', '.join(missing or columns)}; {expected}")
    return list(table.rows)


@contextlib.contextmanager
def _decoding(name: str, formats: Sequence[str]) -> Iterator[None]:
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
    with _decoding(name, FORMATS):
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
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_bits(image, str(path))
    except BadFileError:
        raise
    except Exception as error:  # Pillow raises many exception types for damaged files.
        raise BadFileError(f"{path}: unreadable: {error or type(error).__name__}") from error


class MaskHeader(NamedTuple):
    """What is known of a mask before its pixels are read."""

    height: int
    """Rows."""
    width: int
    """Columns."""
    palette: bytes
    """Red, green and blue of each index of a mask of mode P; of other masks empty."""


def read_mask_header(path: Path) -> MaskHeader:
    """Reads the size of a mask and its palette; raises BadFileError for what is no mask of class indices."""
    with _decoding(str(path), MASK_FORMATS), Image.open(path, formats=MASK_FORMATS) as image:
        frames = getattr(image, "n_frames", 1)
        if image.mode not in MASK_MODES or frames > 1:
            expected = f"expected one mask of mode {', '.join(MASK_MODES)}"
            raise BadFileError(f"{path}: {expected}; found mode {image.mode} and {frames} frames")
        # Of a PNG whose EXIF stands behind its pixels, `read_mask` finds it: pixels are decoded once.
        if image.format != "PNG" or "exif" in image.info:
            _check_orientation(image, path)
        palette = b""
        if image.mode == "P":
            palette = bytes(image.getpalette("RGB") or ())
        return MaskHeader(image.height, image.width, palette)


def read_mask(path: Path) -> np.ndarray:
    """Reads the class indices of a mask, integers (H, W); raises BadFileError for one that EXIF turns, or is none."""
    image = read_image(path)
    _check_orientation(image, path)
    return labels_of(image, str(path))


def _check_orientation(image: Image.Image, path: Path) -> None:
    """Raises BadFileError for a mask that EXIF turns."""
    if image.getexif().get(ORIENTATION, 1) != 1:
        raise BadFileError(f"{path}: {TURNED}")


def clashing_colours(palettes: Mapping[Path, bytes]) -> str:
    """Returns in words where one index has different colours in two masks, so that it is no class; else nothing.

    Programs that reduce colours to indices number them anew in each file.

    Args:
        palettes: of each file, as `read_mask_header` reads them. Pixels are read only where palettes differ.
    """
    if _are_alike(palettes.values()):
        return ""
    first_of_index: dict[int, tuple[bytes, Path]] = {}
    for path, palette in palettes.items():
        for index, colour in _used_colours(path, palette).items():
            first_colour, first_path = first_of_index.setdefault(index, (colour, path))
            if colour != first_colour:
                return f"index {index} is {_rgb_text(first_colour)} in {first_path} and {_rgb_text(colour)} in {path}"
    return ""


def swapped_colours(palettes: Mapping[Path, bytes], others: Mapping[Path, bytes]) -> str:
    """Returns in words which colour has another index in some masks than in others, each alike in itself.

    Masks with quite other colours, such as predictions in grey beside labels in colour, do not clash.
    """
    if not palettes or not others or _are_alike([*palettes.values(), *others.values()]):
        return ""
    index_of_colour: dict[bytes, tuple[int, Path]] = {}
    for path, palette in palettes.items():
        for index, colour in _used_colours(path, palette).items():
            index_of_colour.setdefault(colour, (index, path))
    for path, palette in others.items():
        for index, colour in _used_colours(path, palette).items():
            first_index, first_path = index_of_colour.get(colour, (index, path))
            if index != first_index:
                return f"{_rgb_text(colour)} is index {first_index} in {first_path} and {index} in {path}"
    return ""


def _are_alike(palettes: Collection[bytes]) -> bool:
    """Returns whether palettes agree as far as they go; programs leave out unused colours at their end."""
    longest = max(palettes, key=len, default=b"")
    return all(longest.startswith(palette) for palette in palettes)


def _used_colours(path: Path, palette: bytes) -> dict[int, bytes]:
    """Returns the colour of each index that a mask uses."""
    return {index: palette[3 * index : 3 * index + 3] for index in np.unique(read_mask(path)).tolist()}


def _rgb_text(colour: bytes) -> str:
    return f"RGB {', '.join(map(str, colour))}"


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
    check_object(mask > 127, name)
    return Pixels(np.asarray(Image.merge("RGB", bands)), mask, photo.width / photo.height)


def read_premultiplied(image: Image.Image, alpha: Image.Image, *, names: tuple[str, str], size: int) -> Pixels:
    """Resizes a cut-out that was multiplied by its alpha before; raises BadFileError as `cut_out` and `rgb` do."""
    image = rgb(image, names[0])
    alpha = alpha.convert("L")
    check_sizes(image, alpha, names=names)
    small = np.asarray(squash(alpha, size))
    check_object(small > 127, names[0])
    # No channel may exceed alpha in a pool, as it may in other data sets.
    pixels = np.minimum(np.asarray(squash(image, size)), small[..., None])
    return Pixels(pixels, small, image.width / image.height)


def alpha_of(mask: Image.Image, name: str) -> Image.Image:
    """Returns the soft alpha (mode L) of a cut-out's mask or RGBA image; raises BadFileError if it has none."""
    if mask.getbands()[-1] == "A" and mask.getchannel("A").getextrema() != (255, 255):
        mask = mask.getchannel("A")
        if np.asarray(mask).max(initial=0) > 127:
            return mask
    if mask.mode in ("1", "LA"):
        mask = mask.convert("L")
    elif mask.mode == "RGB" and are_grey(np.asarray(mask)):
        mask = mask.getchannel(0)
    values: list[int] = []
    if mask.mode == "L":
        values = [value for value, pixels in enumerate(mask.histogram()) if pixels]
    # Two values are a mask, whatever the larger one; more are soft edges.
    if (values[:1] == [0] and len(values) == 2) or values == [1]:
        return mask.point([255 * (value > 0) for value in range(256)])
    if not values or values[-1] <= 127 or (len(values) == 1 and values != [255]):
        kinds = {
            "L": f"the values {listed(values)}",
            "P": "a palette mask, whose pixels are ids of colours",
            "RGB": "an RGB mask",
            "RGBA": "an image without a transparent pixel",
        }
        expected = "expected a mask of one grey channel of 8 bits: two values, of which one is 0, or a soft edge"
        raise BadFileError(f"{name}: {expected}; found {kinds.get(mask.mode, f'mode {mask.mode}')}")
    return mask


def are_grey(values: np.ndarray) -> bool:
    """Returns whether all channels of (H, W, channels) are equal."""
    return bool((values == values[..., :1]).all())


def labels_of(mask: Image.Image, name: str) -> np.ndarray:
    """Returns the class indices of a mask, uint8 or int32 (H, W); channels of grey and an opaque alpha count as one.

    Raises:
        BadFileError: it has colours, transparent pixels or floating point.
    """
    values = np.asarray(mask)
    if values.ndim == 3:
        if mask.getbands()[-1] == "A" and mask.getchannel("A").getextrema() != (255, 255):
            raise BadFileError(f"{name}: a mask with transparent pixels; expected one channel of class indices")
        colours = values[..., : 1 if mask.mode == "LA" else 3]
        if not are_grey(colours):
            raise BadFileError(f"{name}: a mask of colours (mode {mask.mode}); expected one channel of class indices")
        values = colours[..., 0]
    if values.dtype.kind == "f":
        raise BadFileError(f"{name}: a mask of mode {mask.mode}; expected one channel of class indices")
    if values.dtype == np.uint8:
        return values
    return values.astype(np.int32)


def squash_labels(labels: np.ndarray, size: int, name: str) -> np.ndarray:
    """Resizes 8-bit labels to size x size (nearest pixel): uint8; raises EmptyObjectError if only zeros remain."""
    small = np.asarray(Image.fromarray(labels.astype(np.uint8)).resize((size, size), Image.Resampling.NEAREST))
    check_object(small, name)
    return small


def read_labelled(
    photo: Image.Image, mask: Image.Image, *, names: tuple[str, str], value: int, label: int, size: int
) -> Pixels:
    """Returns a photo and its mask at size x size.

    Args:
        photo: image of any mode.
        mask: holds 0 and `value`, which becomes `label`.
        names: names of both in messages.
        value: value of the object's pixels.
        label: label of the object.
        size: side in pixels.

    Raises:
        BadFileError: sizes differ, or the mask has other values.
    """
    photo = rgb(photo, names[0])
    labels = labels_of(mask, names[1])
    check_sizes(photo, mask, names=names)
    values = np.unique(labels).tolist()
    if value not in values or not {0, value} >= set(values):
        raise BadFileError(f"{names[1]}: the mask has the values {listed(values)}; expected 0 and {value}")
    small = squash_labels((labels == value) * label, size, names[1])
    return Pixels(np.asarray(squash(photo, size)), small, photo.width / photo.height)


def check_object(pixels: np.ndarray, name: str) -> None:
    """Raises EmptyObjectError if no pixel shows the object."""
    if not pixels.any():
        raise EmptyObjectError(f"{name}: nothing of the object is left at {len(pixels)} x {len(pixels)} pixels")


def check_sizes(photo: Image.Image, mask: Image.Image, *, names: tuple[str, str]) -> None:
    """Raises BadFileError unless photo and mask have the same size."""
    if photo.size != mask.size:
        found = f"the mask has {mask.width} x {mask.height} pixels, {names[0]} has {photo.width} x {photo.height}"
        raise BadFileError(f"{names[1]}: {found}")
