"""Computes predictions by a model, from photos of --images in batches, or from its volumes one at a time."""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
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
BATCH_IMAGES = 8
"""Most photos in a batch."""
BATCH_PIXELS = BATCH_IMAGES * 256 * 256
"""Most pixels of a batch of several photos, which bounds its memory; a larger photo is predicted alone."""
PHOTOS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Suffixes of photos."""


def predict_images(model: Predictor, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns a model's logits float32 for photos uint8 (H, W, 3) or volumes (D, H, W) of one size, with classes last.

    Photos are padded to a multiple of the model's stride by their edge pixels, and their logits are cut to their size.

    Raises:
        AuditError: the model returns logits of another number of images.
    """
    batch = np.stack(images)
    if not is_photo(images[0]):
        return list(_logits_of(model, batch))
    height, width = batch.shape[1:3]
    stride = stride_of(model)
    padded = np.pad(batch, ((0, 0), (0, -height % stride), (0, -width % stride), (0, 0)), mode="edge")
    # Copies: an image that is kept for the page does not keep the others of its batch.
    return [scores[:height, :width].copy() for scores in _logits_of(model, padded)]


def _logits_of(model: Predictor, batch: np.ndarray) -> np.ndarray:
    """Returns a model's logits float32 for a batch; raises AuditError if they are of another number of images."""
    # A `flipjax.Model` has this method for inference outside of JAX's transformations.
    predict = getattr(model, "logits", model)
    logits = np.asarray(to_array(predict(batch), name="predictions"), np.float32)
    if logits.shape[:1] != (len(batch),):
        raise AuditError(f"--model: expected logits of a batch of {len(batch)} images, found an array {logits.shape}")
    return logits


def is_photo(image: np.ndarray) -> bool:
    """Returns whether an image is a photo uint8 (H, W, 3), not a volume (D, H, W)."""
    return image.ndim == 3 and image.dtype == np.uint8


def stride_of(model: object) -> int:
    """Returns the number that height and width must be multiples of: a model's `stride`, or its spec's, or 1."""
    spec = getattr(model, "spec", None)
    return int(getattr(model, "stride", getattr(spec, "stride", 1)))


class BatchedPredictions:
    """The logits of images, computed in batches as they are asked for; those of one batch are held.

    A batch is an image and those that follow it, if they are photos of its size. Only a model with a method `logits`,
    such as a `flipjax.Model`, is given several photos at a time; another sees one image alone.
    """

    def __init__(
        self,
        model: Predictor,
        readers: Mapping[str, Callable[[], np.ndarray]],
        *,
        label_shapes: Mapping[str, tuple[int, ...]],
    ):
        """Begins without logits.

        Args:
            model: predicts the images.
            readers: a function for each image, by name, that reads what the model sees of it, in the order in which
                images are asked for.
            label_shapes: of the labels of each image, which are read before photos.
        """
        self._model = model
        self._readers = readers
        self._label_shapes = label_shapes
        self._names = list(readers)
        self._position = {name: position for position, name in enumerate(self._names)}
        self._held: dict[str, np.ndarray] = {}

    def logits(self, name: str) -> np.ndarray:
        """Returns the logits of an image, float32 with the axis of classes last.

        Raises:
            BrokenFileError: the image's own file is broken.
        """
        if name not in self._held:
            images = self._read_batch(name)
            # Those of the last batch go before the next ones are computed.
            self._held = {}
            self._held = dict(zip(images, predict_images(self._model, list(images.values())), strict=True))
        return self._held[name]

    def _read_batch(self, name: str) -> dict[str, np.ndarray]:
        """Reads an image, and those after it that the model may see with it."""
        first = self._readers[name]()
        images = {name: first}
        if not (is_photo(first) and hasattr(self._model, "logits")):
            return images
        begin = self._position[name] + 1
        height, width = first.shape[:2]
        size = min(BATCH_IMAGES, max(1, BATCH_PIXELS // (height * width)))
        for following in self._names[begin : begin + size - 1]:
            if self._label_shapes[following] != self._label_shapes[name]:
                break
            try:
                image = self._readers[following]()
            except BrokenFileError:
                # It is named when the image itself is asked for.
                break
            if image.shape != first.shape:
                break
            images[following] = image
        return images


def predicted_source(
    model: Predictor,
    folder: Path | None,
    labels: Source,
    *,
    kind: str,
    pattern: re.Pattern[str] | None = None,
) -> Source:
    """Returns the predictions of labelled images, which are computed when they are read.

    The first ones are computed at once, as they say how many classes there are.

    Args:
        model: computes the logits of images.
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
    label_shapes = {name: array.shape for name, array in labels.images.items()}
    predictions = BatchedPredictions(model, readers, label_shapes=label_shapes)
    classes = predictions.logits(next(iter(readers))).shape[-1]
    images = {}
    for name, shape in label_shapes.items():
        load = functools.partial(predictions.logits, name)
        images[name] = StoredArray(f"the prediction of {folder / name}", (*shape, classes), load, of_model=True)
    return Source(folder, images, spatial_ndim=labels.spatial_ndim)


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
