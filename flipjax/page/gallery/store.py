"""The images of a gallery as stored: pixels, predictions and maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from flipjax.support.files import DamagedError
from flipjax.support.npz import NamedArrays, array, read_arrays, write_arrays

if TYPE_CHECKING:
    import jax


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredImages(NamedArrays):
    """R images with a member's predictions, as stored in `gallery.npz`.

    Attributes:
        image: the pixels.
        label: true classes.
        prediction: predicted classes.
        error_map: coded as in `flipjax.metrics.error_map`.
        risk_map: nats.
        flip_risk: nats, NaN where undefined.
        flip: NaN where undefined.
        index: the image's index among the test images.
        group: its class and scene as `flipjax.config.groups.Groups` numbers them.
        kind: see `choose_images`.
        member: the name of the member.
        program: the identity of the members' program.
    """

    image: np.ndarray = array("image", "row", "column", "channel", dtype=np.uint8)
    label: np.ndarray = array("image", "row", "column", dtype=np.uint8)
    prediction: np.ndarray = array("image", "row", "column", dtype=np.uint8)
    error_map: np.ndarray = array("image", "row", "column", dtype=np.uint8)
    risk_map: np.ndarray = array("image", "row", "column", dtype=np.float32)
    flip_risk: np.ndarray = array("image", dtype=np.float32)
    flip: np.ndarray = array("image", dtype=np.float32)
    index: np.ndarray = array("image", dtype=np.int32)
    group: np.ndarray = array("image", dtype=np.int32)
    kind: np.ndarray = array("image", dtype=np.str_)
    member: np.ndarray = array("image", dtype=np.str_)
    program: np.ndarray | None = array(dtype=np.str_, optional=True)

    def of_member(self, name: str) -> StoredImages:
        """Returns the images of one member."""
        return self.select("image", np.flatnonzero(self.member == name))


class GalleryMaps(NamedTuple):
    """What a member makes of R images."""

    prediction: jax.Array | np.ndarray
    """Integer (R, H, W), classes."""
    error_map: jax.Array | np.ndarray
    """uint8 (R, H, W), coded as in `flipjax.metrics.error_map`."""
    risk_map: jax.Array | np.ndarray
    """float32 (R, H, W), nats."""
    flip_risk: jax.Array | np.ndarray
    """float32 (R,), nats, NaN where undefined."""
    flip: jax.Array | np.ndarray
    """float32 (R,), NaN where undefined."""


def maps_of(logits: jax.Array | np.ndarray, labels: ArrayLike) -> GalleryMaps:
    """Returns what a member makes of images; also under jit.

    Args:
        logits: float32 (R, H, W, C), a member's, in eval mode.
        labels: int (R, H, W).
    """
    # Imported here so that reading a gallery does not load JAX.
    from flipjax.metrics import decompose, error_map, risk_map

    decomposition = decompose(logits, labels)
    return GalleryMaps(
        prediction=logits.argmax(-1),
        error_map=error_map(logits, labels),
        risk_map=risk_map(logits),
        flip_risk=decomposition.flip_risk,
        flip=decomposition.flip,
    )


def make_gallery(
    images: ArrayLike,
    labels: ArrayLike,
    maps: GalleryMaps,
    *,
    indices: Sequence[int] | np.ndarray,
    groups: Sequence[int] | np.ndarray,
    kinds: Sequence[str] | np.ndarray,
    member: str,
) -> StoredImages:
    """Makes the gallery of one member.

    Args:
        images: float (R, H, W, 3) in [0, 1].
        labels: int (R, H, W).
        maps: of `maps_of`.
        indices: int (R,), the images' indices in their split.
        groups: int (R,).
        kinds: (R,), as `choose_images` returns them.
        member: the member's name.
    """
    return StoredImages(
        image=np.rint(np.clip(np.asarray(images, np.float32), 0, 1) * 255).astype(np.uint8),
        label=np.asarray(labels, np.uint8),
        prediction=np.asarray(maps.prediction, np.uint8),
        error_map=np.asarray(maps.error_map, np.uint8),
        risk_map=np.asarray(maps.risk_map, np.float32),
        flip_risk=np.asarray(maps.flip_risk, np.float32),
        flip=np.asarray(maps.flip, np.float32),
        index=np.asarray(indices, np.int32),
        group=np.asarray(groups, np.int32),
        kind=np.asarray(kinds, np.str_),
        member=np.array([member] * len(indices), np.str_),
    )


def save_gallery(path: str | Path, gallery: StoredImages, *, program: str = "") -> None:
    """Writes `gallery.npz` atomically and deterministically, with the identity of the members' program."""
    write_arrays(path, dataclasses.replace(gallery, program=np.array(program)))


def load_gallery(path: str | Path, *, program: str | None = None) -> StoredImages:
    """Reads a file of `save_gallery`. Raises DamagedError if it is invalid or belongs to another program."""
    gallery = read_arrays(path, StoredImages, needs_schema=False)
    stored = ""
    if gallery.program is not None:
        stored = str(gallery.program)
    if program is not None and stored != program:
        raise DamagedError(f"{path}: expected the images of this run; found those of another")
    return gallery


def concatenate_galleries(galleries: Sequence[StoredImages]) -> StoredImages:
    """Concatenates galleries with images of the same size."""
    parts = [gallery.arrays() for gallery in galleries]
    return StoredImages(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
