"""Quantities of a member from its stored counts, the rows of results.csv that hold them, and their readers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from flipjax import metrics
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import RegionSums, divide, flips_of
from flipjax.metrics.evaluate import evaluate
from flipjax.metrics.images import Images, read_images
from flipjax.metrics.quantities import SWEPT
from flipjax.results import quantities
from flipjax.results.frames import Row, rounded, to_frame
from flipjax.results.quantities import key_of

if TYPE_CHECKING:
    from flipjax.data.member_images import Benchmark


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


REPAIR_NOTE = (
    "Repair is opt-in: use it only on balanced test sets with scenes that training did not show; elsewhere it "
    "increases Flip."
)
"""Stands wherever figures after repair stand."""


COMPARED = ("all", "common", "rare")
"""The groups that tables compare."""
TRAILING = ("status", "epochs", "best_epoch", "selection")
"""Columns of results.csv after the quantities."""
NOT_DONE = "not done"
"""The status of a member that a sweep has not finished."""
NOT_LEARNT = "not learnt"
"""The status of a member that hardly finds the object."""
CLASSES_NOT_LEARNT = "classes not learnt"
"""The status of a member that finds the object and does not know its class: in means, and without verdicts."""
LEFT_OUT = ("diverged", "failed", NOT_DONE, NOT_LEARNT)
"""The statuses of members that no mean holds."""


def axes_of(rows: pd.DataFrame) -> tuple[str, ...]:
    """Returns the names of the axes: the columns between `member` and `split`, then `selection`."""
    names = list(rows.columns)
    return (*(name for name in names[: names.index("split")] if name != "member"), "selection")


def member_quantities(rows: pd.DataFrame, *, split: str = "test") -> pd.DataFrame:
    """Returns axes, `member`, `status` and every quantity, one row per member and selection rule.

    Quantities have the keys of `summarize`, over all images and for the common and rare groups, and follow `status`.

    Args:
        rows: the rows of results.csv.
        split: `val` or `test`.
    """
    axes = axes_of(rows)
    rows = rows[rows["split"] == split]
    # Rows of a member and selection rule have one index, by which the columns below fit each other.
    member_and_axes = rows.groupby(["member", *axes], sort=False, dropna=False).ngroup()
    indexed = rows.set_index(member_and_axes)
    of_group = {group: indexed[indexed["group"] == group] for group in COMPARED}
    names = list(rows.columns)
    values = {}
    for name in names[names.index("n_images") + 1 : names.index("status")]:
        groups = COMPARED
        if quantities.quantity_of(key_of(name)).across:
            groups = ("all",)
        for group in groups:
            values[key_of(name, group)] = of_group[group][name]
    whole = of_group["all"][[*axes, "member", "status"]]
    return pd.concat([whole, pd.DataFrame(values, index=whole.index)], axis=1)


def quantities_in(records: pd.DataFrame) -> list[str]:
    """Returns the columns of `member_quantities` that are quantities."""
    names = list(records.columns)
    return names[names.index("status") + 1 :]


def kept_records(records: pd.DataFrame) -> pd.DataFrame:
    """Returns the members that enter means: all except those of a status in `LEFT_OUT`."""
    return records[~records["status"].isin(LEFT_OUT)]


def score(
    predictions: ArrayLike,
    benchmark: Benchmark,
    *,
    part: str = "test",
    kind: str = "logits",
    channels: str = "last",
    **columns: str | float,
) -> pd.DataFrame:
    """Returns the rows of results.csv for a model's predictions: each group, `all`, `common` and `rare`.

    The numbers equal those of a sweep, without quantities that need predictions on other scenes. Append them to a run
    with `pd.concat([load(run).results, rows])`. See `flipjax.data.benchmark` for an example.

    Args:
        predictions: for `benchmark.test.images` in order, as in `flipjax.metrics.decompose`: logits (n, H, W, C) of
            NumPy, JAX or PyTorch.
        benchmark: of `flipjax.data.benchmark`.
        part: the split, `val` or `test`.
        kind: `logits`, `probabilities`, or `masks`, whose rows have no flip-risk.
        channels: `last`, or `first` for (n, C, H, W).
        **columns: `member` ("own" by default) and axes, such as `method="mine"`; rho and seed are the benchmark's.

    Raises:
        ValueError: predictions do not match the images or classes.
    """
    images = getattr(benchmark, part)
    C = len(benchmark.class_names)
    num_classes = None
    if kind == "masks":
        # Logits have an axis of classes that says how many there are; masks do not.
        num_classes = C
    counts = metrics.decompose(predictions, images.masks, num_classes=num_classes, kind=kind, channels=channels)
    if counts.confusion.shape[-1] != C:
        names = ", ".join(benchmark.class_names)
        raise ValueError(f"predictions: expected {C} classes ({names}), found {counts.confusion.shape[-1]}.")
    regions = None
    if kind != "masks":
        sums = metrics.region_sums(predictions, images.masks, kind=kind, channels=channels)
        regions = RegionSums(*(np.asarray(leaf) for leaf in sums))
    scored = read_images(
        counts,
        images.groups,
        class_names=benchmark.class_names,
        all_groups=benchmark.all_groups,
        pair=np.asarray(images.pairs),
        regions=regions,
    )
    member = {"member": "own", "rho": benchmark.rho, "seed": benchmark.seed, "status": "finished", **columns}
    leading = {name: value for name, value in member.items() if name not in TRAILING}
    trailing = {name: member.get(name, "") for name in TRAILING}
    rows: dict[str, Row] = {}
    for group in scored.group_names:
        title = benchmark.all_groups.title_of_name(group, benchmark.class_names[1:], benchmark.scene_names)
        rows[group] = {**leading, "split": part, "group": group, "group_name": title}
    for evaluated in evaluate(scored, evaluators=SWEPT):
        rows[evaluated.group][quantities.column(evaluated.key)] = rounded(evaluated.value[0])
    return to_frame([{**row, **trailing} for row in rows.values()])
