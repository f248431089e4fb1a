"""The rows of results.csv, and what they say of each member: one value per quantity."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from flipjax.groups import TWO_BY_TWO, Groups
from flipjax.metrics import summarize
from flipjax.metrics.decomposition import Decomposition
from flipjax.results.cells import Row
from flipjax.results.quantities import PULL_QUANTITIES, column, of_classes, quantity_of

COMPARED = ("all", "common", "rare")
TRAILING = ("status", "epochs", "best_epoch", "selection")
DIGITS = 6
NOT_DONE = "not done"
LEFT_OUT = ("diverged", "failed", NOT_DONE)
"""The statuses of members that no mean holds."""


def rounded(value: float) -> float | int | str:
    """Returns a number as a value of a row: six decimals, a count as it is, blank where it is not finite.

    Example:
        >>> rounded(1 / 3), rounded(4), rounded(math.nan)
        (0.333333, 4, '')
    """
    if isinstance(value, int):
        return value
    return round(float(value), DIGITS) + 0.0 if math.isfinite(value) else ""


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
    """Returns the rows of one member on one split: one for each of `all 0 1 2 3 common rare`, of F S groups.

    Args:
        member: `member` and its axes, in the order of the columns, then `status`, `epochs`, `best_epoch`, `selection`.
        decomposition: confusion (n, C, C), risk_sum (n,); None for a member that was not evaluated: blank numbers.
        groups: int (n,), the group of each image.
        part: the split's name, `val` or `test`.
        class_names: C names, the background's first.
        more: values of quantities that `summarize` has not, by key; `group/<g>/<key>` for those of a group.
        further: the keys of all such quantities that the run has.
        all_groups: what `groups` number.

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
    """Returns the axes' names: the columns of results.csv between `member` and `split`, then `selection`."""
    names = list(rows.columns)
    return (*(name for name in names[: names.index("split")] if name != "member"), "selection")


def member_quantities(rows: pd.DataFrame, *, split: str = "test") -> pd.DataFrame:
    """Returns a row per member and selection rule: its axes, `member`, `status`, and the value of every quantity.

    A quantity is named `<column>/<group>` for the groups all, common and rare; one that compares groups for all alone.

    Args:
        rows: of results.csv.
        split: whose images count, `val` or `test`.
    """
    axes = axes_of(rows)
    rows = rows[rows["split"] == split]
    place = rows.groupby(["member", *axes], sort=False, dropna=False).ngroup()
    of_group = {group: rows.set_index(place)[(rows["group"] == group).to_numpy()] for group in COMPARED}
    names = list(rows.columns)
    quantities = {
        f"{name}/{group}": of_group[group][name]
        for name in names[names.index("n_images") + 1 : names.index("status")]
        for group in (("all",) if quantity_of(name).across else COMPARED)
    }
    whole = of_group["all"][[*axes, "member", "status"]]
    return pd.concat([whole, pd.DataFrame(quantities, index=whole.index)], axis=1)


def kept_records(records: pd.DataFrame) -> pd.DataFrame:
    """Returns the members of which means are made: all but those that diverged or failed."""
    return records[~records["status"].isin(LEFT_OUT)]
