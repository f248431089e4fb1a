"""Scene swap from stored counts and log-odds: host arithmetic of one model's images, without another inference."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from flipjax.groups import TWO_BY_TWO, Groups
from flipjax.metrics import selective, summarize
from flipjax.metrics.classes import is_foreground
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.statistics import usual_table

REPAIR_NOTE = (
    "Repair is opt-in: for scenes that training did not show, in tests whose labels are balanced over them. It raises "
    "Flip on data still at the training rho; on usual photos .23 fewer of a published model's regions were right by it."
)
"""What must stand wherever figures after repair stand."""
LEAST_EVIDENCE = 1e-12
"""Squared nats, below which the scenes say the same."""


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
    others = np.where(np.arange(len(foreground)) == own[:, None], -np.inf, relative)
    risk = np.where(known & (counts.sum(1) > 0), others.max(1) - relative[images, own], np.nan)
    moved = np.where(inside, 0, confusion)
    target = foreground[np.where(known[:, None], relative, 0).argmax(1)]
    moved[images, :, target] += confusion[..., foreground].sum(-1)
    repaired = np.where(known[:, None, None], moved, confusion)
    return SceneSwap(risk, dataclasses.replace(decomposition, confusion=repaired))


def training_evidence(groups: np.ndarray, all_groups: Groups) -> np.ndarray:
    """Returns log P(scene | class), of how often training shows each class in each scene: float64 (S, F).

    Minus infinity where it never does.

    Args:
        groups: int (n,), those of a training table.
        all_groups: what groups number, of F classes and S scenes.

    Example:
        >>> np.exp(training_evidence(np.array([0, 0, 0, 1, 2, 3, 3, 3]), Groups())).tolist()
        [[0.75, 0.25], [0.25, 0.75]]
    """
    counts = np.bincount(groups, minlength=all_groups.count).reshape(all_groups.classes, -1).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(counts / counts.sum(0))


def scene_use(log_odds: np.ndarray, evidence: np.ndarray) -> float:
    """Returns context use: nat by which regions' log-odds follow the evidence of the scene that they stand on, per nat.

    The least-squares slope of the log-odds of a region on log P(scene | class), over scenes and classes, within the
    region. Of two classes and two scenes it is the mean shift of log-odds between the scenes over 2 log(rho / (1 -
    rho)). `flipjax.context.context_use` is the same of photos, whose scenes are told from labels.

    Args:
        log_odds: (n, S, F) of `scene_marginal`, on one scene of each kind; regions with NaN are left out.
        evidence: (S, F) of `training_evidence`.

    Returns:
        The slope: 0, the scene has no say; 1, all that training gave it. NaN where the evidence is the same of all
        scenes, as at rho .5, or infinite, as at rho 1.

    Example:
        >>> log_odds = np.array([[[3.0, -3.0], [2.0, -2.0]]])  # logit_2 - logit_1 rises by 2 from scene 1 to 2
        >>> evidence = training_evidence(np.array([0, 0, 0, 1, 2, 3, 3, 3]), Groups())
        >>> round(scene_use(log_odds, evidence), 6), round(2 / (2 * math.log(3)), 6)
        (0.910239, 0.910239)
    """
    known = ~np.isnan(log_odds).any((1, 2))
    if log_odds.shape[1:] != evidence.shape or not known.any() or not np.isfinite(evidence).all():
        return math.nan
    told = evidence - evidence.mean(0)
    told -= told.mean(1, keepdims=True)
    size = float((told**2).sum())
    return float((log_odds[known].mean(0, dtype=np.float64) * told).sum() / size) if size > LEAST_EVIDENCE else math.nan


def scene_shift(log_odds: np.ndarray, all_groups: Groups) -> float:
    """Returns by how many nats log-odds for a class rise from its other scenes to its usual ones.

    Twice the mean over the classes; of two classes and two scenes, what logit_2 - logit_1 moves by.

    Args:
        log_odds: (n, S, F) of `scene_marginal`, on one scene of each kind; regions with NaN are left out.
        all_groups: what groups number, of F classes and S scenes.

    Example:
        >>> scene_shift(np.array([[[3.0, -3.0], [2.0, -2.0]]]), Groups())
        2.0
    """
    known = ~np.isnan(log_odds).any((1, 2))
    if log_odds.shape[1:] != (all_groups.scenes, all_groups.classes) or not known.any():
        return math.nan
    means = log_odds[known].mean(0, dtype=np.float64)
    usual = usual_table(all_groups).T
    return float(2 * (means.mean(0, where=usual) - means.mean(0, where=~usual)).mean())


def scene_quantities(
    decomposition: Decomposition,
    log_odds: np.ndarray,
    center: np.ndarray,
    groups: np.ndarray,
    *,
    all_groups: Groups = TWO_BY_TWO,
    evidence: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns the quantities of a model's scene swap over its images, and of its groups: see `results.quantities`.

    Args:
        decomposition: numpy leaves (n, C, C) and (n,).
        log_odds: (n, K, F) of `scene_marginal`, of F foreground classes.
        center: (F,) of `split_point`, from validation images.
        groups: int (n,).
        all_groups: what they number.
        evidence: (S, F) of `training_evidence`; None: it is not known, and so context use neither.

    Returns:
        Numbers by key, `group/<g>/<key>` for those of a group.
    """
    risk, repaired = scene_swap(decomposition, log_odds, center)
    after = summarize(repaired, groups, all_groups=all_groups)
    flip = np.asarray(decomposition.flip)
    within = np.var(log_odds, axis=1).sum(-1)
    between = np.nanvar(log_odds.mean(1), axis=0).sum() if np.isfinite(within).any() else np.nan
    values = {"repair_worst_iou": after["worst_group_iou"], "scene_shift": scene_shift(log_odds, all_groups)}
    if evidence is not None:
        values["context_use"] = scene_use(log_odds, evidence)
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
