"""Builds the rows of results.csv, and reads one value per member and quantity from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flipjax import metrics
from flipjax.groups import TWO_BY_TWO, Groups
from flipjax.metrics import summarize
from flipjax.metrics.decomposition import Decomposition
from flipjax.results.frames import Row, rounded, to_frame
from flipjax.results.images import counterfactual_flip, region_quantities
from flipjax.results.quantities import (
    PAIR_QUANTITIES,
    PULL_QUANTITIES,
    REGION_QUANTITIES,
    column,
    key_of,
    of_classes,
    quantity_of,
)

if TYPE_CHECKING:
    from flipjax.data.arrays import Benchmark

COMPARED = ("all", "common", "rare")
TRAILING = ("status", "epochs", "best_epoch", "selection")
NOT_DONE = "not done"
NOT_LEARNT = "not learnt"
LEFT_OUT = ("diverged", "failed", NOT_DONE, NOT_LEARNT)
"""The statuses of members that no mean holds."""


def member_rows(
    member: Mapping[str, Any],
    decomposition: Decomposition | None,
    groups: np.ndarray,
    *,
    part: str,
    class_names: Sequence[str],
    more: Mapping[str, float] | None = None,
    further: Iterable[str] = (),
    all_groups: Groups = TWO_BY_TWO,
) -> list[Row]:
    """Returns the rows of one member on one split: `all`, each of the F S groups, `common` and `rare`.

    Args:
        member: `member` and its axes, in the order of the columns, then `status`, `epochs`, `best_epoch`, `selection`.
        decomposition: confusion (n, C, C), risk_sum (n,); None leaves numbers blank (not evaluated).
        groups: int (n,), the group of each image.
        part: the split's name, `val` or `test`.
        class_names: C names, background first.
        more: values of quantities that `summarize` lacks, by key; `group/<g>/<key>` for those of a group.
        further: the keys of all such quantities of the run.
        all_groups: the groups that `groups` number.

    Example:
        >>> d = Decomposition(np.array([[[4, 0, 0], [0, 3, 1], [0, 0, 0]]]), np.array([0.4]))
        >>> member = {"member": "a", "seed": 0, "status": "done"}
        >>> rows = member_rows(member, d, np.array([1]), part="test", class_names=("background", "cat", "dog"))
        >>> [(r["group"], r["n_images"], r["fg_flip"]) for r in rows if r["group"] in ("common", "rare")]
        [('common', 0, ''), ('rare', 1, 0.25)]
    """
    leading = {name: value for name, value in member.items() if name not in TRAILING}
    trailing = {name: member.get(name, "") for name in TRAILING}
    options = {"class_names": class_names, "all_groups": all_groups}
    summary = {} if decomposition is None else summarize(decomposition, np.asarray(groups), **options)
    summary |= more or {}
    keys = [*of_classes(class_names), *(PULL_QUANTITIES if all_groups.classes > 2 else ()), *further]
    rows = []
    for group in ("all", *all_groups.named):
        prefix = "" if group == "all" else f"group/{group}/"
        values = {column(key): rounded(summary.get(prefix + key, math.nan)) for key in keys}
        rows.append({**leading, "split": part, "group": group, **values, **trailing})
    return rows


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
    place = rows.groupby(["member", *axes], sort=False, dropna=False).ngroup()
    of_group = {group: rows.set_index(place)[(rows["group"] == group).to_numpy()] for group in COMPARED}
    names = list(rows.columns)
    quantities = {
        key_of(name, group): of_group[group][name]
        for name in names[names.index("n_images") + 1 : names.index("status")]
        for group in (("all",) if quantity_of(key_of(name)).across else COMPARED)
    }
    whole = of_group["all"][[*axes, "member", "status"]]
    return pd.concat([whole, pd.DataFrame(quantities, index=whole.index)], axis=1)


def quantities_in(records: pd.DataFrame) -> list[str]:
    """Returns the columns of `member_quantities` that are quantities."""
    names = list(records.columns)
    return names[names.index("status") + 1 :]


def kept_records(records: pd.DataFrame) -> pd.DataFrame:
    """Returns the members that enter means: all except those that diverged or failed."""
    return records[~records["status"].isin(LEFT_OUT)]


def score(
    predictions: Any,
    benchmark: Benchmark,
    *,
    part: str = "test",
    kind: str = "logits",
    channels: str = "last",
    **columns: Any,
) -> pd.DataFrame:
    """Returns the rows of results.csv for a model's predictions: each group, `all`, `common` and `rare`.

    The numbers equal those of a sweep, without quantities that need predictions on other scenes. Append them to a run
    with `pd.concat([load(run).members, rows])`. See `flipjax.data.benchmark` for an example.

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
    options: dict[str, Any] = {"kind": kind, "channels": channels}
    C = len(benchmark.class_names)
    counts = metrics.decompose(predictions, images.masks, num_classes=C if kind == "masks" else None, **options)
    if counts.confusion.shape[-1] != C:
        names = ", ".join(benchmark.class_names)
        raise ValueError(f"predictions: expected {C} classes ({names}), found {counts.confusion.shape[-1]}.")
    more = {"counterfactual_flip": counterfactual_flip(counts, images.pairs)}
    if kind != "masks":
        sums = metrics.region_sums(predictions, images.masks, **options)
        more |= region_quantities(sums, images.groups, all_groups=benchmark.all_groups)
    member = {"member": "own", "rho": benchmark.rho, "seed": benchmark.seed, "status": "finished"} | columns
    further = [*(PAIR_QUANTITIES if (images.pairs >= 0).any() else ()), *REGION_QUANTITIES]
    names = {"class_names": benchmark.class_names, "all_groups": benchmark.all_groups}
    return to_frame(member_rows(member, counts, images.groups, part=part, more=more, further=further, **names))
