"""The images worth looking at: the photo where it is known, truth, prediction, errors and flip-risk of each."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image, UnidentifiedImageError

from flipjax import metrics
from flipjax.audit.arrays import AuditError, Reader
from flipjax.audit.layout import Layout
from flipjax.audit.results import Audit
from flipjax.audit.sources import Pair, listed, repeated
from flipjax.audit.values import IGNORED, Values, read_pair
from flipjax.report.pictures import Item, Palette
from flipjax.report.style import IGNORED as IGNORED_COLOUR
from flipjax.report.style import class_colours

SHOWN = 6
LARGEST_SIDE = 256
NAMED = 12
SUFFIXES = (".png", ".jpg", ".jpeg")


def find_photos(folder: Path | None, names: Sequence[str]) -> dict[str, Path]:
    """Returns the photo of each image by its name; none without a folder.

    Raises:
        AuditError: not a folder, images without a photo, or several photos of one name.
    """
    if folder is None:
        return {}
    if not folder.is_dir():
        raise AuditError(f"--images: expected a folder of photos ({' '.join(SUFFIXES)}), found {folder}")
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]
    stems = [path.stem for path in files]
    if repeated(stems):
        raise AuditError(f"--images: several photos of one name in {folder}, {listed(repeated(stems))}")
    photos = dict(zip(stems, files, strict=True))
    missing = [name for name in names if name not in photos]
    if missing:
        raise AuditError(f"--images: expected a photo named as each image in {folder}; none for {listed(missing)}")
    return {name: photos[name] for name in names}


def draw_out(
    audit: Audit,
    pairs: Sequence[Pair],
    layout: Layout,
    values: Values,
    *,
    chosen: Mapping[int, str],
    photos: Mapping[str, Path],
) -> list[Item]:
    """Reads the chosen images once more, in the order of the files, and makes their maps, in the order chosen."""
    made = {}
    with Reader() as reader:
        for index in sorted(chosen):
            logits, labels = read_pair(reader, pairs[index], layout, values)
            step = math.ceil(max(labels.shape) / LARGEST_SIDE)
            path = photos.get(audit.names[index])
            image = None if path is None else _photo(path, labels.shape)[::step, ::step]
            logits = logits[::step, ::step]
            labels = labels[::step, ::step]
            errors = metrics.error_map(logits, labels, background=values.background, ignore_index=IGNORED)
            made[index] = Item(
                name=audit.names[index],
                member="",
                group="" if audit.groups is None else f"group {audit.groups[index]}",
                kind=chosen[index],
                flip=float(audit.decomposition.flip[index]),
                flip_risk=float(audit.decomposition.flip_risk[index]),
                truth=np.where(labels == IGNORED, layout.classes, labels),
                prediction=logits.argmax(-1),
                errors=np.asarray(errors),
                risk=np.asarray(metrics.risk_map(logits, background=values.background)),
                image=image,
            )
    return [made[index] for index in chosen]


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
    pixels: Counter[int] = Counter()
    for item in items:
        for values in (item.truth, item.prediction):
            pixels.update(dict(enumerate(np.bincount(values.ravel(), minlength=classes + 1).tolist())))
    names = [*audit.class_names, "ignored"]
    common = sorted(c for c, count in pixels.most_common(NAMED + 1) if count and c != audit.background)
    return Palette(colours, {names[c]: to_hex(colours[c]) for c in common}, audit.background, classes)
