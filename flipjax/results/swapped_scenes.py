"""Scene swap from stored counts and log-odds: host arithmetic of one model's images, without another inference."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from flipjax.groups import TWO_BY_TWO, Groups
from flipjax.metrics import selective, summarize
from flipjax.metrics.classes import is_foreground
from flipjax.metrics.decomposition import Decomposition

REPAIR_NOTE = (
    "Repair brings out what the model knows of the object and no more, and raises flip on data that are still at the "
    "training rho: it is for balanced or shifted data."
)
"""What must stand wherever figures after repair stand."""


class SceneSwap(NamedTuple):
    """Of n images: the score, float64 (n,), NaN without region; and the decomposition after repair."""

    risk: np.ndarray
    repaired: Decomposition


def scene_swap(decomposition: Decomposition, log_odds: np.ndarray, center: np.ndarray) -> SceneSwap:
    """Returns what `scene_swap_risk` and `repair` give, from an image's counts.

    Repair gives the whole predicted region one class, so it only moves counts between columns of the confusion matrix.
    The label of most of a region is read off its columns: ignored pixels, which count nowhere, have no say.

    Args:
        decomposition: numpy leaves (n, C, C) and (n,).
        log_odds: (n, K, F) of `scene_marginal`, of F foreground classes.
        center: (F,) of `split_point`.

    Example:
        >>> one = Decomposition(np.array([[[4, 1, 0], [0, 3, 1], [0, 0, 0]]]), np.zeros(1))
        >>> swap = scene_swap(one, np.array([[[-2.0, 2.0]]]), np.zeros(2))
        >>> swap.risk.tolist(), swap.repaired.confusion.tolist()
        ([4.0], [[[4, 0, 1], [0, 0, 4], [0, 0, 0]]])
    """
    confusion = np.asarray(decomposition.confusion)
    inside = is_foreground(confusion.shape[-1], decomposition.background)
    foreground = np.flatnonzero(inside)
    relative = log_odds.astype(np.float64).mean(1) - center
    known = ~np.isnan(relative).any(1)
    counts = confusion.sum(1)[:, foreground]
    own = counts.argmax(1)
    images = np.arange(len(own))
    others = relative.copy()
    others[images, own] = -np.inf
    risk = np.where(known & (counts.sum(1) > 0), others.max(1) - relative[images, own], np.nan)
    moved = np.zeros_like(confusion)
    moved[..., ~inside] = confusion[..., ~inside]
    target = foreground[np.where(known[:, None], relative, 0).argmax(1)]
    moved[images, :, target] += confusion[..., foreground].sum(-1)
    repaired = np.where(known[:, None, None], moved, confusion)
    return SceneSwap(risk, dataclasses.replace(decomposition, confusion=repaired))


def scene_quantities(
    decomposition: Decomposition,
    log_odds: np.ndarray,
    center: np.ndarray,
    groups: np.ndarray,
    *,
    all_groups: Groups = TWO_BY_TWO,
) -> dict[str, float]:
    """Returns the quantities of a model's scene swap over its images, and of its groups: see `results.quantities`.

    Args:
        decomposition: numpy leaves (n, C, C) and (n,).
        log_odds: (n, K, F) of `scene_marginal`, of F foreground classes.
        center: (F,) of `split_point`, from validation images.
        groups: int (n,).
        all_groups: what they number.

    Returns:
        Numbers by key, `group/<g>/<key>` for those of a group.
    """
    risk, repaired = scene_swap(decomposition, log_odds, center)
    after = summarize(repaired, groups, all_groups=all_groups)
    flip = np.asarray(decomposition.flip)
    within = np.var(log_odds, axis=1).sum(-1)
    between = np.nanvar(log_odds.mean(1), axis=0).sum() if np.isfinite(within).any() else np.nan
    values = {"repair_worst_iou": after["worst_group_iou"]}
    if log_odds.shape[1] > 1 and np.isfinite(between):
        values["scene_reliance"] = float(np.nanmean(within) / (np.nanmean(within) + between))
    sides = {"": np.ones(len(groups), bool)}
    sides |= {f"group/{name}/": np.isin(groups, ids) for name, ids in all_groups.named.items()}
    for prefix, inside in sides.items():
        values |= {
            f"{prefix}swap_auroc": selective.auroc(risk[inside], np.where(np.isnan(flip), 0, flip)[inside] > 0.5),
            f"{prefix}swap_aurc": selective.aurc(risk[inside], flip[inside]),
            f"{prefix}repair_flip": after[f"{prefix}fg_flip"],
            f"{prefix}repair_correct": after[f"{prefix}fg_correct"],
        }
    return values
