"""Whether repair can be trusted, without labels: do members of other seeds give the regions the same class? NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from flipjax.results.cells import StoredCell
from flipjax.results.estimates import draw_objects
from flipjax.results.frames import groups_of, rounded, to_frame
from flipjax.results.images import region_class
from flipjax.results.rows import axes_of, kept_records, member_quantities

SAFE = 0.6
"""Kappa from which repair harmed 1 of 26 cases: chosen and confirmed on other seeds (sweeps/studies/scene_swap)."""
RATES = {"flip": "fg_flip", "repaired": "repair_flip"}


def agreement(first: np.ndarray, second: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns Cohen's kappa of two labellings of the same images, for each of several samples of them: float64 (S,).

    1: always the same, 0: no more often than by chance. Images that either calls background, 0, are left out.

    Args:
        first: int (n,), a class for each image, such as the repaired ones of a model.
        second: int (n,), of another model.
        rows: int (S, n), the images of each sample; `np.arange(n)[None]` for all.

    Source: Cohen, A coefficient of agreement for nominal scales, 1960.

    Example:
        >>> agreement(np.array([1, 1, 2, 2]), np.array([1, 1, 2, 1]), np.arange(4)[None]).tolist()
        [0.5]
    """
    known = (first != 0) & (second != 0)
    count = known[rows].sum(1)
    same = ((first == second) & known)[rows].sum(1) / np.maximum(count, 1)
    shares = [
        [((side == c) & known)[rows].sum(1) / np.maximum(count, 1) for c in np.unique(np.append(first, second))]
        for side in (first, second)
    ]
    chance = (np.array(shares[0]) * np.array(shares[1])).sum(0)
    fits = (count > 0) & (chance < 1)
    return np.where(fits, (same - chance) / np.where(fits, 1 - chance, 1), np.nan)


def repair_signs(rows: pd.DataFrame, cells: Mapping[str, StoredCell]) -> pd.DataFrame:
    """Returns a row per setting with two seeds or more: how far they agree on the class that repair gives a region.

    `agreement` is the mean over pairs of seeds of Cohen's kappa of the repaired classes of the validation images, which
    needs no labels; `low` and `high` its 95% bootstrap interval over the objects, for these seeds; `flip` and
    `repaired` are the means on the test images. Below `SAFE` repair does harm on data still at the training rho.

    Args:
        rows: of results.csv, of the first selection rule.
        cells: of the run, by name.
    """
    names = [name for name in axes_of(rows) if name not in ("rho", "seed")]
    cell_of = {member: cell for cell in cells.values() for member in cell.members}
    kept = kept_records(member_quantities(rows))
    kept = kept[kept["member"].isin(cell_of)]
    table = []
    settings = groups_of(kept, names) if "rho" in kept else ()
    for records in (group for _, setting in settings for _, group in groups_of(setting, ["rho"])):
        swaps = [cell_of[member].scene_swap(member, "val") for member in records["member"]]
        classes = [region_class(swap.repaired) for swap in swaps if swap is not None]
        if len(classes) < max(2, len(records)):
            continue
        part = cell_of[records["member"].iloc[0]].parts["val"]
        samples = np.concatenate([np.arange(len(part.groups))[None], draw_objects(part.groups, part.pairs)])
        kappa = np.mean([agreement(*both, samples) for both in itertools.combinations(classes, 2)], axis=0)
        low, high = np.nanpercentile(kappa[1:], (2.5, 97.5)) if np.isfinite(kappa[1:]).any() else (np.nan, np.nan)
        row = {name: records[name].iloc[0] for name in ("rho", *names)} | {"seeds": len(records)}
        row |= {"agreement": rounded(kappa[0]), "low": rounded(low), "high": rounded(high)}
        table.append(row | {name: rounded(records[quantity].to_numpy().mean()) for name, quantity in RATES.items()})
    return to_frame(table)
