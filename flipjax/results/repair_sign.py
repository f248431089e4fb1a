"""Whether repair can be trusted, without labels: the other members of a setting in place of the truth. NumPy alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from flipjax.results.files import Row, StoredCell
from flipjax.results.pairs import region_class
from flipjax.results.resampling import draw_objects
from flipjax.results.rows import axes_of, number, rounded
from flipjax.results.seeds import by_value


def crossed_gain(labels: np.ndarray, repaired: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns for each image what repair mends, another model's repaired class in place of the truth: 1, 0, -1 or NaN.

    The mean estimates the share of images that repair mends less those that it spoils, without labels. It is right in
    sign where the other model's class is better than chance and its errors are its own; two models of one kind err
    alike on some objects, so that it says too much. NaN where either has no region.

    Args:
        labels: int (n,), the label of most of each region, the background 0 where there is none.
        repaired: int (n,), after repair.
        others: int (n,), after the repair of another model of the same images.

    Example:
        >>> crossed_gain(np.array([1, 1, 2, 0]), np.array([2, 1, 1, 0]), np.array([2, 1, 2, 1])).tolist()
        [1.0, 0.0, -1.0, nan]
    """
    gain = (labels != others) * 1.0 - (repaired != others)
    return np.where((labels > 0) & (others > 0), gain, np.nan)


def repair_signs(rows: Sequence[Row], cells: Mapping[str, StoredCell]) -> list[Row]:
    """Returns a row per setting with two seeds or more: what repair mends by the other seeds' word, without labels.

    `gain` is the mean of `crossed_gain` over the validation images and all pairs of seeds, `low` and `high` its 95%
    bootstrap interval over the objects, for these seeds; `flip` and `repaired` are the means on the test images.

    Args:
        rows: of results.csv, of the first selection rule.
        cells: of the run, by name.
    """
    if "rho" not in axes_of(rows):
        return []
    cell_of = {member: cell for cell in cells.values() for member in cell.members}
    table = []
    for setting, values in by_value(rows, "rho", paired_by="seed", split="test"):
        for rho, (by_seed, _) in values.items():
            records = [record for record in by_seed.values() if record["member"] in cell_of]
            pairs = itertools.permutations(records, 2)
            crossed = [_gain(cell_of[one["member"]], one["member"], other["member"]) for one, other in pairs]
            gains = np.array([gain for gain in crossed if gain is not None], np.float64)
            if not crossed or len(gains) < len(crossed):
                continue
            part = cell_of[records[0]["member"]].parts["val"]
            sums = np.nan_to_num(gains).sum(0)
            counts = np.isfinite(gains).sum(0)
            draws = draw_objects(part.groups, part.pairs)
            spread = sums[draws].sum(1) / np.maximum(counts[draws].sum(1), 1)
            low, high = np.percentile(spread, (2.5, 97.5)).tolist()
            row = (
                {"rho": rho}
                | setting
                | {"seeds": len(records), "gain": rounded(float(sums.sum()) / max(int(counts.sum()), 1))}
            )
            row |= {"low": rounded(low), "high": rounded(high)}
            flips = {"flip": "fg_flip/all", "repaired": "repair_flip/all"}
            for name, quantity in flips.items():
                row[name] = rounded(float(np.mean([number(record[quantity]) for record in records])))
            table.append(row)
    return table


def _gain(cell: StoredCell, member: str, other: str) -> np.ndarray | None:
    if other not in cell.members:
        return None
    swap, swap_of_other = cell.scene_swap(member, "val"), cell.scene_swap(other, "val")
    if swap is None or swap_of_other is None:
        return None
    labels = region_class(cell.counts(member, "val"))
    return crossed_gain(labels, region_class(swap.repaired), region_class(swap_of_other.repaired))
