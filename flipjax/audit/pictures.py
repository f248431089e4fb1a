"""The images worth looking at: the photo where it is known, truth, prediction, errors and flip-risk of each."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image, UnidentifiedImageError

from flipjax import metrics
from flipjax.audit.arrays import ArrayReader, AuditError, listed
from flipjax.audit.measure import read_pair
from flipjax.audit.read import Encoding, Pair, check_names
from flipjax.audit.results import Audit
from flipjax.metrics.classes import background_classes
from flipjax.report.pictures import Item, Palette
from flipjax.report.style import IGNORED as IGNORED_COLOUR
from flipjax.report.style import class_colours
from flipjax.results import gallery

SHOWN = 6
LARGEST_SIDE = 256
NAMED = 12
SUFFIXES = (".png", ".jpg", ".jpeg")


def find_photos(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Returns the photo of each image by its name.

    Raises:
        AuditError: not a folder, images without a photo, or several photos of one name.
    """
    if not folder.is_dir():
        raise AuditError(f"--images: expected a folder of photos ({' '.join(SUFFIXES)}), found {folder}")
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]
    photos = dict(zip(check_names(f"--images: {folder}", [path.stem for path in files]), files, strict=True))
    missing = [name for name in names if name not in photos]
    if missing:
        raise AuditError(f"--images: expected a photo named as each image in {folder}; none for {listed(missing)}")
    return {name: photos[name] for name in names}


def draw_items(audit: Audit, pairs: Sequence[Pair], encoding: Encoding, *, photos: Mapping[str, Path]) -> list[Item]:
    """Reads the images to look at once more, in the order of the files, and makes their maps, in the order chosen."""
    indices, kinds = gallery.choose_images(audit.decomposition, riskiest=SHOWN, typical=0, sure=SHOWN)
    made = {}
    options = {"kind": encoding.kind, "background": encoding.background}
    with ArrayReader() as reader:
        for place in np.argsort(indices):
            index = int(indices[place])
            scores, labels = read_pair(reader, pairs[index], encoding)
            step = math.ceil(max(labels.shape) / LARGEST_SIDE)
            path = photos.get(audit.names[index])
            scores, labels = scores[::step, ::step], labels[::step, ::step]
            ignored = False if encoding.ignore_index is None else labels == encoding.ignore_index
            made[index] = Item(
                name=audit.names[index],
                member="",
                group="" if audit.groups is None else f"group {audit.groups[index]}",
                kind=str(kinds[place]),
                flip=float(audit.decomposition.flip[index]),
                flip_risk=float(audit.decomposition.flip_risk[index]),
                truth=np.where(ignored, encoding.classes, labels),
                prediction=scores.argmax(-1),
                errors=np.asarray(metrics.error_map(scores, labels, ignore_index=encoding.ignore_index, **options)),
                risk=np.asarray(metrics.risk_map(scores, **options)),
                image=None if path is None else _photo(path, pairs[index].labels.shape)[::step, ::step],
            )
    return [made[index] for index in indices.tolist()]


def _photo(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A photo uint8 (H, W, 3) of the size of its labels."""
    try:
        with Image.open(path, formats=["PNG", "JPEG"]) as image:
            if (image.height, image.width) != tuple(shape):
                size = f"{image.height} x {image.width}"
                raise AuditError(f"{path}: expected the size of its labels, {shape[0]} x {shape[1]}, found {size}")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        if isinstance(error, AuditError):
            raise
        raise AuditError(f"{path}: expected a photo, PNG or JPEG ({error})") from error


def palette_of(audit: Audit, items: Sequence[Item]) -> Palette:
    """Returns the colours of the classes; the legend names those with the most pixels in the items."""
    classes = len(audit.class_names)
    colours = [*class_colours(classes, background=audit.background), IGNORED_COLOUR]
    maps = [values.ravel() for item in items for values in (item.truth, item.prediction)]
    pixels = np.bincount(np.concatenate([*maps, np.zeros(0, int)]), minlength=classes + 1)
    names = [*audit.class_names, "ignored"]
    first = np.argsort(-pixels, kind="stable")[: NAMED + 1].tolist()
    common = sorted(c for c in first if pixels[c] and c not in background_classes(audit.background))
    return Palette(colours, {names[c]: to_hex(colours[c]) for c in common}, audit.background, classes)
