"""What stored decompositions say of each image, and which class is taken for which."""

import itertools
from collections.abc import Sequence

import numpy as np

from flipjax.intervene.identity import SceneSwap
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import Decomposition, flips_of
from flipjax.results.cells import Row
from flipjax.results.quantities import IMAGE_QUANTITIES
from flipjax.results.rows import rounded


def image_columns(
    decomposition: Decomposition, class_names: Sequence[str], *, swap: SceneSwap | None = None
) -> dict[str, np.ndarray]:
    """Returns a value for each of n images, by column.

    The columns of `IMAGE_QUANTITIES`, float64 and NaN where a denominator is empty, and of `SCENE_IMAGE_QUANTITIES`
    where scenes were swapped; `foreground_pixels` and `pixels`, int64; `largest_flip`, as 'cat as dog', '' without
    flips.

    Args:
        decomposition: confusion (n, C, C), risk_sum (n,), NumPy.
        class_names: C names.
        swap: of the same images.

    Example:
        >>> counts = np.array([[[4, 0, 0], [1, 2, 1], [0, 0, 0]]])
        >>> columns = image_columns(Decomposition(counts, np.array([0.4])), ("background", "cat", "dog"))
        >>> columns["flip"].tolist(), columns["largest_flip"].tolist(), columns["pixels"].tolist()
        ([0.25], ['cat as dog'], [8])
    """
    confusion = np.asarray(decomposition.confusion).astype(np.int64)
    host = Decomposition(confusion, np.asarray(decomposition.risk_sum, np.float64), decomposition.background)
    columns = {name: np.asarray(getattr(host, name), np.float64) for name in IMAGE_QUANTITIES}
    if swap is not None:
        columns |= {"swap_risk": swap.risk, "repaired_flip": np.asarray(swap.repaired.flip, np.float64)}
    inside = is_foreground(confusion.shape[-1], decomposition.background)
    columns["foreground_pixels"] = confusion[:, inside].sum((1, 2))
    columns["pixels"] = confusion.sum((1, 2))
    flips = flips_of(confusion, background=decomposition.background).reshape(len(confusion), -1)
    names = np.array([f"{truth} as {other}" for truth in class_names for other in class_names], np.str_)
    columns["largest_flip"] = np.where(flips.max(1, initial=0) > 0, names[flips.argmax(1)], "")
    return columns


def flip_rows(confusion: np.ndarray, class_names: Sequence[str], *, background: Background = 0) -> list[Row]:
    """Returns a row for each true foreground class and predicted class: pixels, and their share of the true class.

    Args:
        confusion: int (C, C), rows truth.
        class_names: C names.
        background: its class, several or None.
    """
    rows = []
    inside = is_foreground(len(class_names), background)
    for truth, other in itertools.product(np.flatnonzero(inside).tolist(), range(len(class_names))):
        outcome = "correct" if other == truth else "flip" if inside[other] else "miss"
        pixels, whole = int(confusion[truth, other]), int(confusion[truth].sum())
        row = {"truth": class_names[truth], "prediction": class_names[other], "outcome": outcome, "pixels": pixels}
        rows.append(row | {"share": rounded(pixels / whole) if whole else ""})
    return rows
