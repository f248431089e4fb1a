"""Finds the photos or volumes of --images, which a model predicts, and which the page shows beneath the labels."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from flipjax.audit import formats
from flipjax.audit.arrays import INTENSITIES, StoredArray
from flipjax.audit.names import files_below, is_hidden, name_files, suffix_of
from flipjax.audit.problems import AuditError, BrokenFileError, raise_broken
from flipjax.audit.sources import Source, open_source
from flipjax.support.terminal import listed

PHOTOS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Suffixes of photos."""


def find_photos(folder: Path, names: Sequence[str], pattern: re.Pattern[str] | None = None) -> dict[str, Path]:
    """Returns the photos of images by name.

    Raises:
        AuditError: the folder is missing, an image has no photo or several, or photos have more than 8 bits.
    """
    if not folder.is_dir():
        raise AuditError(f"--images: expected a folder of photos ({' '.join(PHOTOS)}), found {folder}")
    files = []
    for file in files_below(folder):
        if suffix_of(file) in PHOTOS and not is_hidden(file) and (folder / file).is_file():
            files.append(file)
    photos = name_files(folder, files, pattern)
    without_photo = [name for name in names if name not in photos]
    if without_photo:
        raise AuditError(
            f"--images: expected a photo named as each image in {folder}; none for {listed(without_photo)}"
        )
    broken = []
    for name in names:
        try:
            formats.check_photo(folder / photos[name])
        except BrokenFileError as error:
            broken.append(error)
    raise_broken(broken)
    return {name: folder / photos[name] for name in names}


def find_volumes(folder: Path, names: Sequence[str], pattern: re.Pattern[str] | None = None) -> dict[str, StoredArray]:
    """Returns the volumes of images by name: intensities float32 with the place that a NIfTI header says.

    Raises:
        AuditError: the folder is missing, files are broken, or an image has no volume.
    """
    if not folder.is_dir():
        types = " ".join(formats.suffixes_of(INTENSITIES))
        raise AuditError(f"--images: expected a folder of volumes ({types}), found {folder}")
    volumes = open_source(folder, kind=INTENSITIES, spatial_ndim=3, pattern=pattern)
    raise_broken(volumes.broken)
    without_volume = [name for name in names if not volumes.named or name not in volumes.images]
    if without_volume:
        raise AuditError(
            f"--images: expected a volume named as each of labels in {folder}; none for {listed(without_volume)}"
        )
    return {name: volumes.images[name] for name in names}


def predicted_source(
    predict: Callable[[np.ndarray], np.ndarray],
    folder: Path | None,
    labels: Source,
    *,
    kind: str,
    pattern: re.Pattern[str] | None = None,
) -> Source:
    """Returns the photos or volumes of labelled images as predictions to compute, with C taken from the first one.

    Args:
        predict: from a photo uint8 (H, W, 3) or a volume float32 (D, H, W) to scores, with the axis of classes last.
        folder: of the photos, or of volumes in npy, npz or NIfTI.
        labels: with names, those of the photos.
        kind: of the scores; a model gives logits.
        pattern: of `read_pattern`.

    Raises:
        AuditError: options or photos do not fit.
    """
    if kind != "logits" or folder is None:
        raise AuditError(f"--model: expected --images beside it and --kind logits, found {folder} and {kind}")
    if not labels.named:
        raise AuditError(f"{labels.path}: expected labels with names beside --model, those of the photos")
    readers = _readers_of(folder, labels, pattern)
    read_first = next(iter(readers.values()))
    classes = predict(read_first()).shape[-1]
    images = {}
    for name, array in labels.images.items():
        load = functools.partial(_predicted, predict, readers[name])
        images[name] = StoredArray(f"the prediction of {folder / name}", (*array.shape, classes), load, of_model=True)
    return Source(folder, images, spatial_ndim=labels.spatial_ndim)


def _predicted(predict: Callable[[np.ndarray], np.ndarray], read: Callable[[], np.ndarray]) -> np.ndarray:
    return predict(read())


def _readers_of(folder: Path, labels: Source, pattern: re.Pattern[str] | None) -> dict[str, Callable[[], np.ndarray]]:
    """Returns functions that read what a model sees, by name."""
    names = tuple(labels.images)
    if labels.spatial_ndim == 2:
        photos = find_photos(folder, names, pattern)
        return {name: functools.partial(formats.read_photo, photo) for name, photo in photos.items()}
    volumes = find_volumes(folder, names, pattern)
    return {name: functools.partial(read_intensities, volume) for name, volume in volumes.items()}


def read_intensities(volume: StoredArray) -> np.ndarray:
    """Returns the values of a volume as a model sees them, float32 (D, H, W)."""
    return np.asarray(volume.read(), np.float32)
