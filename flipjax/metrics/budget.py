"""What mending each kind of wrong pixel would be worth, and how far flips reach: arithmetic on stored counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flipjax.metrics.classes import class_names as class_names_of
from flipjax.metrics.classes import is_foreground
from flipjax.metrics.decomposition import Decomposition, divide, flips_of
from flipjax.metrics.objects import KINDS

if TYPE_CHECKING:
    import pandas as pd


def error_budget(pixels: pd.DataFrame, *, num_classes: int) -> pd.DataFrame:
    """Returns the wrong pixels of each kind, and what mending that kind alone would add to mIoU.

    Mended means that the true class is written into those pixels, as TIDE does for detectors; a kind's gain depends on
    what else is left wrong, so gains do not add up. Kinds: `whole`: segments that flip; `rim` and `inside` of the
    others; `miss`; `spill`; `background`: one background class taken for another.

    Args:
        pixels: of `segment_tables`, of any number of batches.
        num_classes: C.

    Returns:
        A DataFrame by kind and `all`: `pixels`, `share` of the wrong pixels, `mean_iou` after mending, and `gain`.
        NaN where nothing is wrong or no class occurs.

    Source: Bolya et al., TIDE: A general toolbox for identifying object detection errors, 2020.

    Example:
        >>> import pandas as pd
        >>> rows = [["correct", 1, 1, 6], ["whole", 2, 1, 3], ["miss", 1, 0, 1], ["correct", 0, 0, 5]]
        >>> table = error_budget(pd.DataFrame(rows, columns=["kind", "class", "predicted", "pixels"]), num_classes=3)
        >>> table.loc[["whole", "miss", "all"], ["pixels", "gain"]].round(3).values.tolist()
        [[3.0, 0.419], [1.0, 0.089], [4.0, 0.522]]
    """
    import pandas as pd

    counts = np.zeros((len(KINDS), num_classes, num_classes), np.int64)
    kinds = np.array([KINDS.index(name) for name in pixels["kind"]], np.int64)
    truth, predicted, number = (np.asarray(pixels[name], np.int64) for name in ("class", "predicted", "pixels"))
    np.add.at(counts, (kinds, truth, predicted), number)
    confusion = counts.sum(0)
    base = mean_iou(confusion)
    wrong = confusion.sum() - np.trace(confusion)
    rows = {}
    for name, part in [*zip(KINDS[1:], counts[1:], strict=True), ("all", counts[1:].sum(0))]:
        after = mean_iou(confusion - part + np.diag(part.sum(1)))
        rows[name] = {
            "pixels": int(part.sum()),
            "share": float(divide(part.sum(), wrong)),
            "mean_iou": after,
            "gain": after - base,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("kind")


def mean_iou(confusion: np.ndarray) -> float:
    """Returns the mean IoU over the classes that occur in truth or prediction; NaN where none does.

    Example:
        >>> mean_iou(np.array([[2, 1, 0], [0, 1, 0], [0, 0, 0]]))
        0.5833333333333333
    """
    same = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - same
    return float(np.mean(same[union > 0] / union[union > 0])) if union.any() else float("nan")


def near_and_far(
    decomposition: Decomposition,
    superclasses: Mapping[Any, Any] | Sequence[Any],
    *,
    class_names: Sequence[str] | None = None,
) -> dict[str, float]:
    """Splits flips into near ones, to a class of the same superclass, and far ones.

    Args:
        decomposition: leaves of any leading axes, whose counts are pooled.
        superclasses: of each foreground class, by its name or index; or a sequence of C, of which the background's
            are not looked at. Two classes with equal values are near.
        class_names: as in `summarize`; needed for names.

    Returns:
        `fg_correct`, `fg_near_flip`, `fg_far_flip`, `fg_miss`: shares of the true foreground; and `near_flip/<class>`,
        `far_flip/<class>`: shares of each class. NaN where the denominator is empty.

    Raises:
        ValueError: a foreground class that the map does not name, or a name that is no class.

    Example:
        >>> counts = np.array([[4, 0, 0, 0], [1, 5, 2, 1], [0, 0, 0, 0], [0, 0, 0, 1]])
        >>> split = near_and_far(Decomposition(counts, 0.0), {1: "pet", 2: "pet", 3: "vehicle"})
        >>> {name: round(split[name], 2) for name in ("fg_near_flip", "fg_far_flip", "near_flip/class1")}
        {'fg_near_flip': 0.2, 'fg_far_flip': 0.1, 'near_flip/class1': 0.22}
        >>> split["far_flip/class2"]
        nan
    """
    counts = np.asarray(decomposition.confusion)
    C = counts.shape[-1]
    counts = counts.reshape(-1, C, C).sum(0, dtype=np.int64)
    names = class_names_of(class_names, classes=C, background=decomposition.background)
    inside = is_foreground(C, decomposition.background)
    of_class = _superclasses(superclasses, names, inside)
    same = np.array([[own == other for other in of_class] for own in of_class])
    flips = flips_of(counts, background=decomposition.background)
    near, far, whole = (flips * same).sum(1), (flips * ~same).sum(1), counts.sum(1)
    parts = [np.diag(counts)[inside].sum(), near.sum(), far.sum(), counts[inside][:, ~inside].sum()]
    shares = divide(parts, whole[inside].sum()).tolist()
    split: dict[str, float] = dict(zip(("fg_correct", "fg_near_flip", "fg_far_flip", "fg_miss"), shares, strict=True))
    of_classes = {"near_flip": divide(near, whole).tolist(), "far_flip": divide(far, whole).tolist()}
    for c in np.flatnonzero(inside).tolist():
        split |= {f"{name}/{names[c]}": values[c] for name, values in of_classes.items()}
    return split


def _superclasses(superclasses: Any, names: Sequence[str], inside: np.ndarray) -> list[Any]:
    """Returns the superclass of each class; None for those of the background that have none."""
    if isinstance(superclasses, Mapping):
        known = {*names, *range(len(names))}
        unknown = [key for key in superclasses if key not in known]
        if unknown:
            raise ValueError(f"superclasses: expected classes of {', '.join(names)}, found {unknown[0]!r}.")
        values = [superclasses.get(name, superclasses.get(c)) for c, name in enumerate(names)]
    else:
        values = list(superclasses)
        if len(values) != len(names):
            raise ValueError(f"superclasses: expected {len(names)}, one a class, found {len(values)}.")
    missing = [names[c] for c in np.flatnonzero(inside).tolist() if values[c] is None]
    if missing:
        raise ValueError(f"superclasses: expected one for each foreground class, found none for {', '.join(missing)}.")
    return values
