"""Quantities of a member from its stored counts, the rows of results.csv that hold them, and their readers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from flipjax.metrics.summary import names as quantities
from flipjax.metrics.summary.names import key_of

if TYPE_CHECKING:
    pass


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
