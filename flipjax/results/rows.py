"""The rows of results.csv, and what they say of each member: one value per quantity."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flipjax.metrics import summarize
from flipjax.metrics.decomposition import Decomposition
from flipjax.results.files import Row

GROUPS = ("all", "0", "1", "2", "3", "common", "rare")
TRAILING = ("status", "epochs", "best_epoch", "selection")
DIGITS = 6


def number(cell: Any) -> float:
    """Returns a cell as float; NaN for a blank and for text.

    Example:
        >>> number(3), number("")
        (3.0, nan)
    """
    return float(cell) if isinstance(cell, int | float) else math.nan


def rounded(value: float) -> float | str:
    """Returns a number as a cell: six decimals, blank where it is not finite.

    Example:
        >>> rounded(1 / 3), rounded(math.nan)
        (0.333333, '')
    """
    return round(float(value), DIGITS) + 0.0 if math.isfinite(value) else ""


def member_rows(
    member: Mapping[str, Any],
    decomposition: Decomposition | None,
    groups: np.ndarray,
    *,
    part: str,
    class_names: Sequence[str],
) -> list[Row]:
    """Returns the rows of one member on one split: one for each of `all 0 1 2 3 common rare`.

    Args:
        member: `member` and its axes, in the order of the columns, then `status`, `epochs`, `best_epoch`, `selection`.
        decomposition: confusion (n, C, C), risk_sum (n,); None for a member that was not evaluated: blank numbers.
        groups: int (n,), 2 * class + scene of each image.
        part: the split's name, `val` or `test`.
        class_names: C names, the background's first.

    Example:
        >>> d = Decomposition(np.array([[[4, 0, 0], [0, 3, 1], [0, 0, 0]]]), np.array([0.4]))
        >>> member = {"member": "a", "seed": 0, "status": "done"}
        >>> rows = member_rows(member, d, np.array([1]), part="test", class_names=("background", "cat", "dog"))
        >>> [(r["group"], r["n_images"], r["fg_flip"]) for r in rows if r["group"] in ("common", "rare")]
        [('common', 0, ''), ('rare', 1, 0.25)]
    """
    leading = {name: value for name, value in member.items() if name not in TRAILING}
    trailing = {name: member.get(name, "") for name in TRAILING}
    keys = ("fg_correct", "fg_flip", "fg_miss", "flip_image_mean", *(f"iou/{name}" for name in class_names))
    keys += ("iou/foreground", "risk_auroc", "top_decile_flip_share")
    known = {} if decomposition is None else summarize(decomposition, np.asarray(groups), class_names=class_names)
    rows = []
    for group in GROUPS:
        prefix = "" if group == "all" else f"group/{group}/"
        measures = {key.replace("/", "_"): rounded(known.get(prefix + key, math.nan)) for key in keys}
        n_images = known.get(prefix + "n_images", "")
        rows.append({**leading, "split": part, "group": group, "n_images": n_images, **measures, **trailing})
    return rows


def axes_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Returns the axes' names: the columns of results.csv between `member` and `split`, then `selection`."""
    names = list(rows[0]) if rows else ["split"]
    return (*(name for name in names[: names.index("split")] if name != "member"), "selection")


def member_quantities(rows: Sequence[Row], *, split: str = "test") -> list[Row]:
    """Returns one record per member and selection rule: its axes, `member`, `status`, and the value of every quantity.

    A quantity is named `<column>/<group>` for the groups all, common and rare. `gap/<class>` is the class's IoU in
    its common group minus that in its rare group, and `gap/mean` the mean of the two. `worst_group_iou/all` is the
    lowest over the four groups of the IoU of the group's class. A value that does not exist is NaN.
    """
    axes = axes_of(rows)
    by_member: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        if row["split"] == split:
            by_member.setdefault((row["member"], *(row[name] for name in axes)), {})[str(row["group"])] = row
    return [_record(groups, axes) for groups in by_member.values()]


def _record(groups: Mapping[str, Row], axes: Sequence[str]) -> Row:
    whole = groups["all"]
    names = list(whole)
    columns = names[names.index("n_images") + 1 : names.index("status")]
    record = {name: whole[name] for name in (*axes, "member", "status")}
    record |= {f"{column}/{g}": number(groups[g][column]) for column in columns for g in ("all", "common", "rare")}
    classes = [name for name in columns if name.startswith("iou_") and name not in ("iou_foreground", "iou_background")]
    # Cells of other pools have other classes: their columns are blank here.
    own = [column for column in classes if whole[column] != ""] or classes
    gaps = dict.fromkeys((f"gap/{column.removeprefix('iou_')}" for column in classes), math.nan)
    ious = []
    for y, column in enumerate(own[:2]):
        usual, other = number(groups[str(3 * y)][column]), number(groups[str(1 + y)][column])
        gaps[f"gap/{column.removeprefix('iou_')}"] = usual - other
        ious += [usual, other]
    mean = sum(gaps[f"gap/{column.removeprefix('iou_')}"] for column in own[:2]) / 2
    # A sum carries NaN on, a minimum may not.
    worst = min(ious) if math.isfinite(sum(ious)) else math.nan
    return record | gaps | {"gap/mean": mean, "worst_group_iou/all": worst}


def quantities_of(records: Sequence[Row]) -> list[str]:
    """Returns the names of the quantities in records of `member_quantities`, in order."""
    return [name for name in records[0] if "/" in name] if records else []
