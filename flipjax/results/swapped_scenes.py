"""Scene-swap quantities from stored counts and log-odds, on the host and without further inference."""

from __future__ import annotations

import numpy as np

from flipjax.groups import TWO_BY_TWO, Groups
from flipjax.intervene.identity import scene_reliance, scene_shift, scene_swap, scene_use
from flipjax.metrics import selective, summarize
from flipjax.metrics.decomposition import Decomposition

REPAIR_NOTE = (
    "Repair is opt-in: use it only on balanced test sets with scenes that training did not show; elsewhere it "
    "increases Flip."
)
"""Stands wherever figures after repair stand."""


def scene_quantities(
    decomposition: Decomposition,
    log_odds: np.ndarray,
    center: np.ndarray,
    groups: np.ndarray,
    *,
    all_groups: Groups = TWO_BY_TWO,
    evidence: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns the scene-swap quantities of a model over all images and by group; see `results.quantities`.

    Args:
        decomposition: NumPy leaves (n, C, C) and (n,).
        log_odds: (n, K, F) of `scene_marginal`, for F foreground classes.
        center: (F,) of `split_point`, from validation images.
        groups: int (n,).
        all_groups: the groups that are numbered.
        evidence: (S, F) of `training_evidence`; None skips context use.

    Returns:
        Numbers by key, `group/<g>/<key>` for those of a group.
    """
    risk, repaired = scene_swap(decomposition, log_odds, center)
    after = summarize(repaired, groups, all_groups=all_groups)
    flip = np.asarray(decomposition.flip)
    values = {"repair_worst_iou": after["worst_group_iou"], "scene_shift": scene_shift(log_odds, all_groups)}
    if evidence is not None:
        values["context_use"] = scene_use(log_odds, evidence)
    if np.isfinite(reliance := scene_reliance(log_odds)):
        values["scene_reliance"] = reliance
    sides = {"": np.ones(len(groups), bool)}
    sides |= {f"group/{name}/": np.isin(groups, ids) for name, ids in all_groups.named.items()}
    for prefix, inside in sides.items():
        values |= {
            f"{prefix}swap_auroc": selective.auroc(risk[inside], flip[inside] > 0.5),
            f"{prefix}swap_aurc": selective.aurc(risk[inside], flip[inside]),
            f"{prefix}repair_flip": after[f"{prefix}fg_flip"],
            f"{prefix}repair_correct": after[f"{prefix}fg_correct"],
        }
    return values
