"""Quantities of a member from its stored counts, the rows of results.csv that hold them, and their readers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flipjax import metrics
from flipjax.groups import TWO_BY_TWO, AnyGroups, Groups
from flipjax.metrics import selective, summarize
from flipjax.metrics.classes import Background, is_foreground
from flipjax.metrics.decomposition import Decomposition, RegionSums, divide, flips_of
from flipjax.metrics.log_odds import SceneSwap, scene_reliance, scene_shift, scene_swap, scene_use
from flipjax.results import quantities
from flipjax.results.evaluators import Images, evaluate
from flipjax.results.frames import Row, rounded, to_frame
from flipjax.results.quantities import key_of

if TYPE_CHECKING:
    from flipjax.data.arrays import Benchmark


def image_columns(
    decomposition: Decomposition, class_names: Sequence[str], *, swap: SceneSwap | None = None
) -> dict[str, np.ndarray]:
    """Returns the columns of n images.

    The columns of `IMAGE_QUANTITIES`, float64 and NaN where a denominator is empty, and of `SCENE_IMAGE_QUANTITIES`
    where scenes were swapped; `foreground_pixels` and `pixels`, int64; `largest_flip`, as 'cat as dog', '' without
    flips.

    Args:
        decomposition: confusion (n, C, C), risk_sum (n,), NumPy.
        class_names: C names.
        swap: the scene swap of the same images.

    Example:
        >>> counts = np.array([[[4, 0, 0], [1, 2, 1], [0, 0, 0]]])
        >>> columns = image_columns(Decomposition(counts, np.array([0.4])), ("background", "cat", "dog"))
        >>> columns["flip"].tolist(), columns["largest_flip"].tolist(), columns["pixels"].tolist()
        ([0.25], ['cat as dog'], [8])
    """
    confusion = np.asarray(decomposition.confusion).astype(np.int64)
    host = Decomposition(confusion, np.asarray(decomposition.risk_sum, np.float64), decomposition.background)
    names = quantities.IMAGE_QUANTITIES
    columns: dict[str, np.ndarray] = {name: np.asarray(getattr(host, name), np.float64) for name in names}
    if swap is not None:
        columns |= {"swap_risk": swap.risk, "repaired_flip": np.asarray(swap.repaired.flip, np.float64)}
    inside = is_foreground(confusion.shape[-1], decomposition.background)
    columns["foreground_pixels"] = confusion[:, inside].sum((1, 2))
    columns["pixels"] = confusion.sum((1, 2))
    flips = flips_of(confusion, background=decomposition.background).reshape(len(confusion), -1)
    pairs = np.array([f"{truth} as {other}" for truth in class_names for other in class_names], np.str_)
    columns["largest_flip"] = np.where(flips.max(1, initial=0) > 0, pairs[flips.argmax(1)], "")
    return columns


def flip_rows(confusion: np.ndarray, class_names: Sequence[str], *, background: Background = 0) -> list[Row]:
    """Returns a row for each true foreground class and predicted class: pixels, and their share of the true class.

    Args:
        confusion: int (C, C), rows truth.
        class_names: C names.
        background: its class, several or None.
    """
    rows = []
    inside = is_foreground(len(class_names), background)
    shares = divide(confusion, confusion.sum(1, keepdims=True))
    for truth, other in itertools.product(np.flatnonzero(inside).tolist(), range(len(class_names))):
        outcome = "correct" if other == truth else "flip" if inside[other] else "miss"
        row = {"truth": class_names[truth], "prediction": class_names[other], "outcome": outcome}
        rows.append(row | {"pixels": int(confusion[truth, other]), "share": rounded(shares[truth, other])})
    return rows


def _sides(groups: np.ndarray, all_groups: AnyGroups | None) -> dict[str, np.ndarray]:
    """Returns the images, bool (n,), that the keys of a prefix are about: all of them, and those of each group."""
    named = all_groups.named if all_groups else {str(group): group for group in np.unique(groups)}
    sides = {f"group/{name}/": np.isin(groups, ids) for name, ids in named.items()}
    return {"": np.ones(len(groups), bool)} | sides


def region_quantities(
    sums: RegionSums, groups: np.ndarray | None = None, *, all_groups: AnyGroups | None = TWO_BY_TWO
) -> dict[str, float]:
    """Returns the region quantities of a model over all images and by group; see `results.quantities`.

    Pixels are pooled over the images. The calibration error is the mean over bins of |confidence - accuracy|, weighted
    by their pixels.

    Args:
        sums: region sums of n images, NumPy or JAX leaves (n, ...).
        groups: int (n,).
        all_groups: the groups that are numbered; None leaves them undefined.

    Returns:
        Numbers by key, `group/<g>/<key>` for those of a group; NaN without such pixels.

    Example:
        >>> from flipjax.metrics.regions import RegionSums
        >>> two = np.array([[4, 4]])
        >>> sums = RegionSums(two, np.array([[1, 2]]), two, np.array([[2.0, 1.0]]), np.array([8]), np.array([[-1, 3]]))
        >>> region_quantities(sums)
        {'rim_flip': 0.25, 'interior_flip': 0.5, 'rim_risk': 0.5, 'interior_risk': 0.25, 'fg_ece': 0.5}
    """
    arrays = [np.asarray(leaf) for leaf in sums]
    sides = {"": slice(None)} if groups is None else _sides(groups, all_groups)
    values = {}
    for prefix, inside in sides.items():
        true, flips, predicted, risk, shared, gaps = (leaf[inside].sum(0, dtype=np.float64) for leaf in arrays)
        ratios = (divide(flips, true), divide(risk, predicted), divide(np.abs(gaps).sum(keepdims=True), shared))
        ratios = zip(quantities.REGION_QUANTITIES, np.concatenate(ratios).tolist(), strict=True)
        values |= {f"{prefix}{name}": share for name, share in ratios}
    return values


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
    for prefix, inside in _sides(groups, all_groups).items():
        values |= {
            f"{prefix}swap_auroc": selective.auroc(risk[inside], flip[inside] > 0.5),
            f"{prefix}swap_aurc": selective.aurc(risk[inside], flip[inside]),
            f"{prefix}repair_flip": after[f"{prefix}fg_flip"],
            f"{prefix}repair_correct": after[f"{prefix}fg_correct"],
        }
    return values


COMPARED = ("all", "common", "rare")
TRAILING = ("status", "epochs", "best_epoch", "selection")
NOT_DONE = "not done"
NOT_LEARNT = "not learnt"
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
    place = rows.groupby(["member", *axes], sort=False, dropna=False).ngroup()
    of_group = {group: rows.set_index(place)[(rows["group"] == group).to_numpy()] for group in COMPARED}
    names = list(rows.columns)
    values = {
        key_of(name, group): of_group[group][name]
        for name in names[names.index("n_images") + 1 : names.index("status")]
        for group in (("all",) if quantities.quantity_of(key_of(name)).across else COMPARED)
    }
    whole = of_group["all"][[*axes, "member", "status"]]
    return pd.concat([whole, pd.DataFrame(values, index=whole.index)], axis=1)


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
    regions = None
    if kind != "masks":
        sums = metrics.region_sums(predictions, images.masks, **options)
        regions = RegionSums(*(np.asarray(leaf) for leaf in sums))
    own = Images(
        tuple(benchmark.class_names),
        benchmark.all_groups,
        group=np.asarray(images.groups),
        pair=np.asarray(images.pairs),
        confusion=np.asarray(counts.confusion),
        risk_sum=np.asarray(counts.risk_sum),
        regions=regions,
    )
    member = {"member": "own", "rho": benchmark.rho, "seed": benchmark.seed, "status": "finished"} | columns
    leading = {name: value for name, value in member.items() if name not in TRAILING}
    trailing = {name: member.get(name, "") for name in TRAILING}
    rows: dict[str, Row] = {name: {**leading, "split": part, "group": name} for name in ("all", *own.groups.named)}
    for found in evaluate(own):
        rows[found.group][quantities.column(found.key)] = rounded(found.value[0])
    return to_frame([row | trailing for row in rows.values()])
