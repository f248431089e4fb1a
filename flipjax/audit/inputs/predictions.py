"""Computes predictions by a model, one image at a time, from the photos or volumes of --images."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import jax
import numpy as np

from flipjax.audit.formats import pictures, registry
from flipjax.audit.formats.arrays import INTENSITIES, StoredArray
from flipjax.audit.formats.names import files_below, is_hidden, name_files, suffix_of
from flipjax.audit.formats.problems import AuditError, BrokenFileError, raise_broken
from flipjax.audit.formats.sources import Source, open_source
from flipjax.metrics.inputs.checks import to_array
from flipjax.support.terminal import listed

Predictor: TypeAlias = Callable[[np.ndarray], np.ndarray | jax.Array]
"""Maps a batch of photos or volumes to logits, an array of any framework, such as a `flipjax.Model`."""
Predict: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Maps one photo uint8 (H, W, 3), or one volume float32 (D, H, W), to logits float32 with the axis of classes last."""
PHOTOS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Suffixes of photos."""


def predict_image(model: Predictor, image: np.ndarray) -> np.ndarray:
    """Returns a model's logits float32 for a photo uint8 (H, W, 3) or a volume (D, H, W), with classes last.

    A photo is padded to a multiple of the model's stride by its edge pixels, and its logits are cut to its size.
    """
    # A `flipjax.Model` has this method for inference outside of JAX's transformations.
    predict = getattr(model, "logits", model)
    is_photo = image.ndim == 3 and image.dtype == np.uint8
    padded = image
    if is_photo:
        height, width = image.shape[:2]
        stride = stride_of(model)
        padded = np.pad(image, ((0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")
    logits = np.asarray(to_array(predict(padded[None]), name="predictions"), np.float32)[0]
    if is_photo:
        return logits[: image.shape[0], : image.shape[1]]
    return logits


def stride_of(model: object) -> int:
    """Returns the number that height and width must be multiples of: a model's `stride`, or its spec's, or 1."""
    spec = getattr(model, "spec", None)
    return int(getattr(model, "stride", getattr(spec, "stride", 1)))


def predicted_source(
    predict: Predict,
    folder: Path | None,
    labels: Source,
    *,
    kind: str,
    pattern: re.Pattern[str] | None = None,
) -> Source:
    """Returns the predictions of labelled images, each of which is computed when it is read.

    The first one is computed at once, as it says how many classes there are.

    Args:
        predict: computes the logits of an image.
        folder: of the photos, or of volumes in npy, npz or NIfTI.
        labels: with names, those of the photos.
        kind: of predictions that the options ask for; a model gives logits.
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


def _predicted(predict: Predict, read: Callable[[], np.ndarray]) -> np.ndarray:
    """Returns the logits of an image, which is read now."""
    return predict(read())


def _readers_of(folder: Path, labels: Source, pattern: re.Pattern[str] | None) -> dict[str, Callable[[], np.ndarray]]:
    """Returns a function for each image, by name, that reads what a model sees of it."""
    names = tuple(labels.images)
    if labels.spatial_ndim == 2:
        photos = find_photos(folder, names, pattern)
        return {name: functools.partial(pictures.read_photo, photo) for name, photo in photos.items()}
    volumes = find_volumes(folder, names, pattern)
    return {name: functools.partial(read_intensities, volume) for name, volume in volumes.items()}


def read_intensities(volume: StoredArray) -> np.ndarray:
    """Returns the values of a volume as a model sees them, float32 (D, H, W)."""
    return np.asarray(volume.read(), np.float32)


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
            pictures.check_photo(folder / photos[name])
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
        types = " ".join(registry.suffixes_of(INTENSITIES))
        raise AuditError(f"--images: expected a folder of volumes ({types}), found {folder}")
    volumes = open_source(folder, kind=INTENSITIES, spatial_ndim=3, pattern=pattern)
    raise_broken(volumes.broken)
    without_volume = [name for name in names if not volumes.named or name not in volumes.images]
    if without_volume:
        raise AuditError(
            f"--images: expected a volume named as each of labels in {folder}; none for {listed(without_volume)}"
        )
    return {name: volumes.images[name] for name in names}
