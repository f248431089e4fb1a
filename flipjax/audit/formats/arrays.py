"""The array of one image: its place and shape before it is read (`StoredArray`, `Header`), and what values it may hold.

`registry` and `npy` read the files; `sources` says which of their axes are those of the image.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from flipjax.audit.formats.label_maps import LabelMap
from flipjax.audit.formats.problems import AuditError, BrokenFileError, naming

SCORES = ("logits", "probabilities")
"""Kinds of arrays with an axis of classes beside the axes of space."""
CLASS_INDICES = ("masks", "labels")
"""Kinds of arrays that hold class indices, as predictions and as truth."""
INTENSITIES = "images"
"""Kind of volumes that a model sees: any numbers. An array is of one of these five kinds."""


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """The array of one image, whose header was read."""

    origin: str
    """Its file, with the row in a stack or the image of a COCO file if any, as messages name it."""
    shape: tuple[int, ...]
    """The shape that `load` returns."""
    load: Callable[[], np.ndarray]
    """Reads the stored values, or computes them by a model."""
    label_map: LabelMap | None = None
    """The map from stored values to classes; None if they are classes."""
    spacing: tuple[float, ...] | None = None
    """Distance of pixels in mm along each axis of space, of a NIfTI header."""
    affine: np.ndarray | None = None
    """Place in the scanner, float64 (4, 4), of a NIfTI header."""
    of_model: bool = False
    """Whether `load` runs a model."""
    of_nnunet: bool = False
    """Whether it is an array as nnU-Net stores its probabilities, (C, Z, Y, X), which `axes.fit_axes` asks."""

    def __str__(self) -> str:
        """Returns its origin."""
        return self.origin

    def read(self) -> np.ndarray:
        """Returns the stored values; raises BrokenFileError if the file is damaged or missing."""
        if self.of_model:
            # An error of the model does not mean that a file is damaged.
            return np.asarray(self.load())
        with naming(self):
            return np.asarray(self.load())

    def to_classes(self, values: np.ndarray, *, ignore_index: int | None = None) -> np.ndarray:
        """Returns the classes of the array's values.

        Raises:
            AuditError: a value has no class (`LabelMap.apply`).
        """
        if self.label_map is None:
            return values
        return self.label_map.apply(values, source=self, ignore_index=ignore_index)

    def transposed(self, order: Sequence[int]) -> "StoredArray":
        """Returns the array with its axes in this order; one without spacing and affine, which would not fit."""
        assert self.spacing is None
        assert self.affine is None
        axes = tuple(order)

        def load() -> np.ndarray:
            return np.transpose(self.load(), axes)

        return dataclasses.replace(self, shape=tuple(self.shape[axis] for axis in axes), load=load)


@dataclasses.dataclass(frozen=True)
class Header:
    """What is known of the array of a file before its values are read."""

    shape: tuple[int, ...]
    """The stored shape."""
    spacing: tuple[float, ...] | None = None
    """Distance of voxels in mm along each axis; None if the format has none."""
    affine: np.ndarray | None = None
    """Place in the scanner, float64 (4, 4); None if the format has none."""
    palette: bytes = b""
    """Red, green and blue of each index of a PNG with a palette."""
    array_name: str = ""
    """Name of the array in an npz."""


def class_axes_of(kind: str) -> int:
    """Returns the number of axes that an array of this kind has beside those of space: 1 of scores, else 0."""
    if kind in SCORES:
        return 1
    return 0


def check_dtype(path: Path, dtype: np.dtype, kind: str) -> None:
    """Raises AuditError if scores are not in floating point."""
    if kind in SCORES and dtype.kind != "f":
        problem = f"expected {kind} in floating point, found {dtype}; for class indices pass --kind masks"
        raise AuditError(f"{path}: {problem}")


def convert_indices(path: Path, values: np.ndarray, kind: str) -> np.ndarray:
    """Returns class indices that are stored as floats or bool as int32, and all other values unchanged.

    Integers keep their type, wide ones too: a label map may give such values classes.

    Raises:
        BrokenFileError: class indices are expected, and floats are not whole, or too large for int32.
    """
    if kind not in CLASS_INDICES or values.dtype.kind not in "fb":
        return values
    return class_indices(path, values)


def class_indices(path: Path, values: np.ndarray) -> np.ndarray:
    """Returns whole values as int32; raises BrokenFileError if they are not whole, or too large."""
    if not _are_int32(values):
        raise BrokenFileError(f"{path}: expected class indices, found other values of {values.dtype}")
    return values.astype(np.int32)


def _are_int32(values: np.ndarray) -> bool:
    """Returns whether values are whole numbers that int32 holds."""
    if values.dtype.kind == "b":
        return True
    if values.dtype.kind not in "iuf":
        return False
    # Some tools store class indices as floating point.
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        return False
    # Numbers of Python, because float16 does not hold the limits.
    lowest = values.min(initial=0).item()
    highest = values.max(initial=0).item()
    return lowest >= -(1 << 31) and highest < 1 << 31
