"""Image files to the arrays of a pool: orientation, masks, sizes. What is wrong with a file is said in a line."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flipjax.data.folder.listing import Item, Listing
from flipjax.threads import in_order

In = TypeVar("In")
Out = TypeVar("Out")


class Arrays(NamedTuple):
    """The arrays of a `Pool`, on the host."""

    images: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    scenes: np.ndarray


class Prepared(NamedTuple):
    """The arrays, a line for each bad file (its rows are zero), and how many masks hold which values."""

    arrays: Arrays
    problems: tuple[str, ...]
    mask_values: Counter[str]


class BadFileError(ValueError):
    """A file that cannot be used, as 'path: reason'."""


def prepare(listing: Listing, *, size: int) -> Prepared:
    """Reads every image of a listing, on all cores.

    Photos are turned as their EXIF tag says and made RGB. Cut-outs and photos are squashed to size x size (bilinear,
    antialiased), as the paper does; a cut-out is premultiplied by its alpha before it is resized, so that nothing of
    its old background is mixed in. Label masks take the nearest pixel. Scenes are cropped to their middle square and
    resized (Lanczos).

    Args:
        listing: the files.
        size: pixels a side.

    Returns:
        Arrays uint8 in the order of the listing, and the problems found.
    """
    read = partial(_cut_out if listing.kind == "composite" else _photo, listing, size=size)
    n, s = len(listing.objects), len(listing.scenes)
    arrays = Arrays(
        images=np.zeros((n, size, size, 3), np.uint8),
        masks=np.zeros((n, size, size), np.uint8),
        labels=np.array([1 + item.y for item in listing.objects], np.uint8),
        scenes=np.zeros((s, size, size, 3), np.uint8),
    )
    problems: list[str] = []
    values: Counter[str] = Counter()
    for i, result in enumerate(in_threads(partial(_attempt, read), listing.objects, verb="prepared")):
        if isinstance(result, BadFileError):
            problems.append(str(result))
        else:
            arrays.images[i], arrays.masks[i], value = result
            values[value] += 1
    scene = partial(_attempt, partial(_scene, listing.root, size=size))
    for i, result in enumerate(in_threads(scene, listing.scenes, verb="prepared")):
        if isinstance(result, BadFileError):
            problems.append(str(result))
        else:
            arrays.scenes[i] = result
    return Prepared(arrays, tuple(problems), values)


def in_threads(work: Callable[[In], Out], items: Iterable[In], *, verb: str) -> Iterator[Out]:
    """Maps over the items as `in_order`; says how far it is on stderr every few seconds."""
    items = list(items)
    said = time.monotonic()
    for done, result in enumerate(in_order(work, items), start=1):
        yield result
        if time.monotonic() - said > 3:
            said = time.monotonic()
            print(f"pool: {done} of {len(items)} files {verb}", file=sys.stderr, flush=True)


def _attempt(read: Callable[[In], Out], item: In) -> Out | BadFileError:
    try:
        return read(item)
    except BadFileError as error:
        return error


def _cut_out(listing: Listing, item: Item, *, size: int) -> tuple[np.ndarray, np.ndarray, str]:
    photo = _open(listing.root, item.path)
    if item.mask is None:
        if not photo.has_transparency_data:
            raise BadFileError(f"{item.path}: no alpha channel, and no photo of that name whose mask it could be")
        image = photo.convert("RGBA")
        alpha, values = _alpha(image, item.path)
    else:
        image = _rgb(photo, item.path)
        alpha, values = _alpha(_open(listing.root, item.mask), item.mask)
        _check_sizes(image, alpha, item)
    image.putalpha(alpha)
    # Mode RGBa is premultiplied; a filter without negative lobes keeps every channel at or below alpha.
    small = np.asarray(image.convert("RGBa").resize((size, size), Image.Resampling.BILINEAR))
    if small[..., 3].max() <= 127:
        raise BadFileError(f"{item.mask or item.path}: nothing of the object is left at {size} x {size} pixels")
    return small[..., :3], small[..., 3], values


def _alpha(mask: Image.Image, name: str) -> tuple[Image.Image, str]:
    """Returns the soft alpha (mode L) of a cut-out's mask or RGBA image, and which values it held."""
    expected = "expected one grey channel of 8 bits: 0/255, 0/1 or a soft edge"
    if mask.mode == "P":
        found = _listed(np.unique(np.asarray(mask)))
        raise BadFileError(
            f"{name}: a palette mask, whose pixels are ids of colours: {found}; {expected}. "
            "If the object has the id k, save Image.fromarray(np.uint8(255) * (np.asarray(Image.open(path)) == k))"
        )
    channels = mask.getbands()
    if channels[-1] == "A" and mask.getchannel("A").getextrema() != (255, 255):
        mask = mask.getchannel("A")
    elif channels[:3] == ("R", "G", "B"):
        colours = mask.convert("RGB").getcolors(maxcolors=4)
        found = "more than 4 colours" if colours is None else f"the colours {_listed(sorted(c for _, c in colours))}"
        what = "an image without a transparent pixel" if "A" in channels else "an RGB mask"
        raise BadFileError(f"{name}: {what}, of {found}; {expected}")
    mask = mask.convert("L") if mask.mode in ("1", "LA") else mask
    if mask.mode != "L":
        raise BadFileError(f"{name}: a mask of mode {mask.mode}; {expected}")
    values = np.unique(np.asarray(mask))
    if values[-1] == 1:
        mask = mask.point(lambda value: 255 * value)
    elif values[-1] <= 127:
        raise BadFileError(f"{name}: the mask has no object: its values are {_listed(values)}; {expected}")
    return mask, "soft (many values)" if len(values) > 4 else f"values {_listed(values)}"


def _photo(listing: Listing, item: Item, *, size: int) -> tuple[np.ndarray, np.ndarray, str]:
    assert item.mask is not None
    image = _rgb(_open(listing.root, item.path), item.path)
    mask = _open(listing.root, item.mask)
    if len(mask.getbands()) > 1:
        channels = ", ".join(mask.getbands())
        raise BadFileError(f"{item.mask}: a mask of channels {channels}; expected one channel of labels 0, 1 and 2")
    _check_sizes(image, mask, item)
    values = np.unique(np.asarray(mask)).astype(int)
    _check_labels(listing, item, values.tolist())
    small = np.asarray(mask.resize((size, size), Image.Resampling.NEAREST)).astype(np.uint8)
    if not small.any():
        raise BadFileError(f"{item.mask}: nothing of the object is left at {size} x {size} pixels")
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)), small, f"values {_listed(values)}"


def _check_labels(listing: Listing, item: Item, values: list[int]) -> None:
    name, label, other = listing.class_names[item.y], 1 + item.y, 2 - item.y
    strange = [value for value in values if value not in (0, label)]
    if label in values and not strange:
        return
    if strange == [other]:
        reason = f"label {other} is {listing.class_names[1 - item.y]}, but metadata.csv says {name}"
    elif strange == [255] and label not in values:
        reason = f"looks like a 0/255 mask; write {label} where the {name} is"
    elif 255 in strange:
        reason = "255 usually marks void pixels; write 0 (background) or the label there"
    else:
        reason = "no pixel has its label" if not strange else "labels must be 0, 1 or 2"
    raise BadFileError(f"{item.mask}: values {_listed(values)}; expected 0 and {label} ({name}): {reason}")


def _scene(root: Path, item: Item, *, size: int) -> np.ndarray:
    image = _rgb(_open(root, item.path), item.path)
    width, height = image.size
    side = min(image.size)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.LANCZOS))


def _open(root: Path, name: str) -> Image.Image:
    return ImageOps.exif_transpose(open_image(root / name, name))


def open_image(path: Path, name: str | None = None) -> Image.Image:
    """Reads an image whole.

    Args:
        path: of the file.
        name: of it in a message; the path unless given.

    Raises:
        BadFileError: the file is missing, no image, damaged or cut short.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except UnidentifiedImageError as error:
        raise BadFileError(f"{name or path}: unreadable: no image, or a damaged one") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file.
        raise BadFileError(f"{name or path}: unreadable: {error or type(error).__name__}") from error


def _rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode[0] in "IF":
        raise BadFileError(f"{name}: more than 8 bits a channel (mode {image.mode}); save it with 8")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise BadFileError(f"{name}: has transparent pixels, which have no colour; save it without an alpha channel")
    return image.convert("RGB")


def _check_sizes(image: Image.Image, mask: Image.Image, item: Item) -> None:
    if image.size != mask.size:
        sizes = ["{} x {}".format(*each.size) for each in (mask, image)]
        raise BadFileError(
            f"{item.mask}: the mask has {sizes[0]} pixels, {item.path} has {sizes[1]} (as its EXIF tag turns it)"
        )


def _listed(values: Iterable) -> str:
    values = [value.item() if isinstance(value, np.generic) else value for value in values]
    return " ".join(map(str, values[:8])) + (f" ... {values[-1]}" if len(values) > 8 else "")
