"""Reads masks of class indices, and finds masks whose pixels are indices of colours instead."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from flipjax.data.decoding.images import BadFileError, decoding, labels_of, read_image

FORMATS = ("PNG", "TIFF", "BMP")
"""Formats of masks, which keep each value."""
MODES = ("P", "L", "I;16", "I;16B", "I", "1", "LA", "RGB", "RGBA")
"""Modes of masks: indices of a palette, integers of 8 to 32 bits, black and white, or grey in several channels."""
ORIENTATION = 274
"""EXIF tag of the orientation."""
TURNED = "a mask that EXIF turns, as viewers do and programs do not; save it without its orientation"
"""Why a mask with an orientation cannot be used."""


class MaskHeader(NamedTuple):
    """What is known of a mask before its pixels are read."""

    height: int
    """Rows."""
    width: int
    """Columns."""
    palette: bytes
    """Red, green and blue of each index of a mask of mode P. Other masks have none."""


def read_mask_header(path: Path) -> MaskHeader:
    """Reads the size of a mask and its palette; raises BadFileError for what is no mask of class indices."""
    with decoding(str(path), FORMATS), Image.open(path, formats=FORMATS) as image:
        frames = getattr(image, "n_frames", 1)
        if image.mode not in MODES or frames > 1:
            expected = f"expected one mask of mode {', '.join(MODES)}"
            raise BadFileError(f"{path}: {expected}; found mode {image.mode} and {frames} frames")
        # The EXIF of a PNG may stand behind its pixels; `read_mask` checks it once these are decoded.
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
    """Returns a clause that names an index with different colours in two masks, or "" if there is none.

    Such an index is no class: programs that reduce colours to indices number them anew in each file.

    Args:
        palettes: the palette of each mask, as in `MaskHeader`. Pixels are read only if palettes differ.
    """
    if _are_alike(palettes.values()):
        return ""
    # The colour of each index in the first mask that uses it, and that mask.
    first_of_index: dict[int, tuple[bytes, Path]] = {}
    for path, palette in palettes.items():
        for index, colour in _used_colours(path, palette).items():
            first_colour, first_path = first_of_index.setdefault(index, (colour, path))
            if colour != first_colour:
                return f"index {index} is {_rgb_text(first_colour)} in {first_path} and {_rgb_text(colour)} in {path}"
    return ""


def swapped_colours(predictions: Mapping[Path, bytes], labels: Mapping[Path, bytes]) -> str:
    """Returns a clause that names a colour with one index in predictions and another in labels, or "" without one.

    Colours that only one side uses, such as grey predictions beside labels in colour, do not count.

    Args:
        predictions: the palette of each mask of predictions, which do not clash among themselves.
        labels: the palette of each mask of labels, the same.
    """
    if not predictions or not labels or _are_alike([*predictions.values(), *labels.values()]):
        return ""
    # The index of each colour in the first prediction that uses it, and that prediction.
    index_of_colour: dict[bytes, tuple[int, Path]] = {}
    for path, palette in predictions.items():
        for index, colour in _used_colours(path, palette).items():
            index_of_colour.setdefault(colour, (index, path))
    for path, palette in labels.items():
        for index, colour in _used_colours(path, palette).items():
            predicted_index, prediction = index_of_colour.get(colour, (index, path))
            if index != predicted_index:
                return f"{_rgb_text(colour)} is index {predicted_index} in {prediction} and {index} in {path}"
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
