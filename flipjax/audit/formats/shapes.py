"""Finds the axes of one image in a file's array; formats add axes of length 1, and models add batches of one."""

from collections.abc import Sequence
from pathlib import Path

from flipjax.audit.formats.arrays import SCORES, Header, class_axes_of
from flipjax.audit.formats.problems import BrokenFileError
from flipjax.audit.formats.registry import format_of

NNUNET_ARRAYS = ("probabilities", "softmax")
"""Names of the array in an npz of nnU-Net, (C, Z, Y, X)."""


def axes_of(shape: Sequence[int], path: Path, kind: str) -> int:
    """Returns the number of axes of space of a file's array: 2 of an image, 3 of a volume.

    An array that a model saved as a batch of one has a first axis of length 1, which does not count. NIfTI files always
    hold volumes.

    Example:
        >>> axes_of((1, 6, 7), Path("a.npy"), "labels"), axes_of((5, 6, 7), Path("a.npy"), "masks")
        (2, 3)
        >>> axes_of((6, 7, 3), Path("a.npy"), "logits"), axes_of((1, 6, 7), Path("a.nii"), "labels")
        (2, 3)
    """
    if format_of(path).volumes:
        return 3
    axes = len(shape) - class_axes_of(kind)
    if axes > 2 and shape[0] == 1:
        return axes - 1
    return axes


def image_shape(path: Path, header: Header, kind: str, axes: int) -> tuple[int, ...]:
    """Returns the shape of the image of a file with one image, without the axes of length 1 that its format adds.

    Args:
        path: the file.
        header: of the file.
        kind: of the array.
        axes: of space, 2 or 3.

    Raises:
        BrokenFileError: another number of axes, or an empty array.
    """
    rank = axes + class_axes_of(kind)
    shape = _without_added_axes(path, header, rank)
    if len(shape) != rank or 0 in shape:
        noun = "volume" if axes == 3 else "image"
        problem = f"{path}: expected {kind} of one {noun}, an array of {rank} axes, found {header.shape}"
        raise BrokenFileError(problem + _advice_on_kind(kind, axes, len(shape)))
    return shape


def _without_added_axes(path: Path, header: Header, rank: int) -> tuple[int, ...]:
    """Returns the shape of an array of `rank` axes, without the axes of length 1 that its format adds."""
    shape = tuple(header.shape)
    if format_of(path).volumes:
        return _without_axes_of_volume(shape, rank)
    if format_of(path).stacks and len(shape) == rank + 1:
        if shape[0] == 1:
            # A batch of one.
            return shape[1:]
        if header.array_name in NNUNET_ARRAYS and rank == 3 and shape[1] == 1:
            # nnU-Net's scores of a photo, (C, 1, H, W).
            return (shape[0], *shape[2:])
    return shape


def _without_axes_of_volume(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Returns the shape of a NIfTI array of `rank` axes, without axes of length 1 after the axes of space or first."""
    while len(shape) > max(rank, 3) and shape[3] == 1:
        shape = (*shape[:3], *shape[4:])
    if len(shape) == rank + 1 and shape[0] == 1:
        return shape[1:]
    return shape


def _advice_on_kind(kind: str, axes: int, rank: int) -> str:
    """Returns advice on --kind if an array of `rank` axes looks like another kind, else an empty text."""
    if kind in SCORES and rank == axes:
        return "; for class indices pass --kind masks"
    if kind == "masks" and rank == axes + 1:
        return "; for scores pass --kind logits or --kind probabilities"
    return ""
