"""Columns of single images and rows of outcomes by class, for files of runs and of audits. NumPy only."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from flipjax.metrics.decomposition import divide, flips_of
from flipjax.metrics.images import Images
from flipjax.metrics.inputs.classes import Background, is_foreground
from flipjax.metrics.summary import names as quantities
from flipjax.support.frames import Row, rounded

REPAIR_NOTE = (
    "Repair is opt-in: use it only on balanced test sets with scenes that training did not show; elsewhere it "
    "increases Flip."
)
"""Stands wherever figures after repair stand."""


def image_columns(images: Images) -> dict[str, np.ndarray]:
    """Returns the columns of n images.

    The columns of `IMAGE_QUANTITIES`, float64 and NaN where a denominator is empty, and of `SCENE_IMAGE_QUANTITIES`
    where scenes were swapped; `foreground_pixels` and `pixels`, int64; `largest_flip`, as 'cat as dog', '' without
    flips.

    Example:
        >>> from flipjax.metrics import Decomposition
        >>> from flipjax.metrics.images import read_images
        >>> counts = np.array([[[4, 0, 0], [1, 2, 1], [0, 0, 0]]])
        >>> columns = image_columns(read_images(Decomposition(counts, np.array([0.4])), class_names=("cat", "dog")))
        >>> columns["flip"].tolist(), columns["largest_flip"].tolist(), columns["pixels"].tolist()
        ([0.25], ['cat as dog'], [8])
    """
    counts = images.decomposition
    confusion = np.asarray(counts.confusion)
    columns: dict[str, np.ndarray] = {}
    for name in quantities.IMAGE_QUANTITIES:
        columns[name] = np.asarray(getattr(counts, name), np.float64)
    if images.log_odds is not None:
        columns["swap_risk"] = images.swap.risk
        columns["repaired_flip"] = np.asarray(images.swap.repaired.flip, np.float64)
    columns["foreground_pixels"] = confusion[:, images.foreground].sum((1, 2))
    columns["pixels"] = confusion.sum((1, 2))
    # A column for each true class and predicted class.
    flips = flips_of(confusion, background=images.background).reshape(len(images), -1)
    flip_names = np.array([f"{truth} as {other}" for truth, other in itertools.product(images.class_names, repeat=2)])
    columns["largest_flip"] = np.where(flips.max(1, initial=0) > 0, flip_names[flips.argmax(1)], "")
    return columns


def flip_rows(
    pixels: np.ndarray, confusion: np.ndarray, class_names: Sequence[str], *, background: Background = 0
) -> list[Row]:
    """Returns a row for each true foreground class and predicted class: pixels, and their share of the true class.

    Args:
        pixels: int (C, C), rows truth.
        confusion: float (C, C), the weight of these pixels in shares, such as their size.
        class_names: C names.
        background: its class, several or None.
    """
    rows = []
    inside = is_foreground(len(class_names), background)
    shares = divide(confusion, confusion.sum(1, keepdims=True))
    for truth, predicted in itertools.product(np.flatnonzero(inside).tolist(), range(len(class_names))):
        if predicted == truth:
            outcome = "correct"
        elif inside[predicted]:
            outcome = "flip"
        else:
            outcome = "miss"
        rows.append(
            {
                "truth": class_names[truth],
                "prediction": class_names[predicted],
                "outcome": outcome,
                "pixels": int(pixels[truth, predicted]),
                "share": rounded(shares[truth, predicted]),
            }
        )
    return rows
