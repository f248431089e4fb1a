"""Computes image scores and how well each ranks its member's errors (scores.csv).

Everything is computed from the stored cells, without JAX. An image's loss is its flip share; an event is a share above
0.5. Images without predicted foreground have no scores, so that all scores rank the same images.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from flipjax.metrics.decomposition import divide
from flipjax.metrics.images import Images
from flipjax.metrics.statistics import selective
from flipjax.metrics.summary.measures import MEASURES, ScoredImages
from flipjax.metrics.summary.names import SCORES
from flipjax.results.arrays import EVALUATED
from flipjax.results.cells import Cell
from flipjax.results.rows import COMPARED, axes_of, kept_records
from flipjax.support.frames import groups_of, records_of, rounded, to_frame

WANTED_RISK = 0.1
"""The mean flip share that a threshold from validation images is to keep."""
Arrays = dict[str, np.ndarray]
"""Arrays by the name of a score, part or column."""

SCORE_COLUMNS = {f"{measure.quantity.key}_{side}": measure.quantity for measure in MEASURES for side in COMPARED}
"""The columns of scores.csv that are numbers, beside `passes` and the `threshold`, which has the score's unit."""


def image_scores(cell: Cell, part: str, rows: pd.DataFrame, *, rule: str) -> Iterator[tuple[str, Arrays]]:
    """Yields each member with the stored SCORES of a part's images, float64 (n,), by selection rule.

    Rules after the first have only flip-risk and scene swap. `rows` of results.csv are used to find members that differ
    only in their seed.
    """
    all_images = cell.images
    inside = all_images.inside(part)
    is_first_rule = rule == cell.rules[0]
    ensemble_scores = {}
    if is_first_rule:
        ensemble_scores = _ensemble_scores(cell, part, rows)
    for index, member in enumerate(cell.members):
        images = cell.images_of(member, part, rule)
        scores = {"flip_risk": images.flip_risk}
        if is_first_rule and all_images.scores is not None and all_images.score is not None:
            columns = all_images.scores[index, inside].T.astype(np.float64)
            scores.update(zip(all_images.score.tolist(), columns, strict=True))
        scores.update(ensemble_scores.get(member, {}))
        if images.log_odds is not None:
            scores["swap_risk"] = images.swap.risk
        # All scores rank the same images: those with predicted foreground.
        has_foreground = ~np.isnan(images.flip_risk)
        yield member, {name: np.where(has_foreground, scores[name], np.nan) for name in SCORES if name in scores}


def _ensemble_scores(cell: Cell, part: str, rows: pd.DataFrame) -> dict[str, Arrays]:
    """Returns the scores of each member that compare it with other seeds of its setting, empty without stored masks."""
    all_images = cell.images
    if all_images.masks is None:
        return {}
    inside = all_images.inside(part)
    index_of = cell.results.index_of_member
    scores = {}
    for members in ensembles_of(rows, rule=cell.rules[0]):
        if not set(members) <= index_of.keys():
            continue
        masks = all_images.masks[[index_of[member] for member in members]][:, inside]
        shared = shared_pixels(unpack_classes(masks))
        dice = 1 - pairwise_dice(shared)
        for member, disagreements in zip(members, disagreement(shared), strict=True):
            scores[member] = {"disagreement": disagreements, "pairwise_dice": dice}
    return scores


def ensembles_of(rows: pd.DataFrame, *, rule: str) -> list[list[str]]:
    """Returns sets of two or more members that differ only in their seed, without diverged or failed ones."""
    axes = [name for name in axes_of(rows) if name not in ("seed", "selection")]
    kept = kept_records(rows[rows["selection"] == rule])
    members = [group["member"].unique().tolist() for _, group in groups_of(kept, axes)]
    return [names for names in members if len(names) > 1]


def score_rows(cells: Mapping[str, Cell], rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of scores.csv, one per member and score under the first selection rule.

    Columns: `member`, its axes, `selection`, `score`, `passes`, `threshold`, then `SCORE_COLUMNS` for all,
    common and rare groups. The threshold is the largest at which the mean flip share of the validation images at or
    below it is within WANTED_RISK; blank if there is none.
    """
    table = []
    records = {row["member"]: row for row in records_of(kept_records(rows).drop_duplicates("member"))}
    axes = [name for name in axes_of(rows) if name != "selection"]
    for cell in cells.values():
        rule = cell.rules[0]
        of_cell = rows[rows["member"].isin(cell.results.index_of_member)]
        ensemble_sizes = {}
        for members in ensembles_of(of_cell, rule=rule):
            ensemble_sizes.update(dict.fromkeys(members, len(members)))
        validation = dict(image_scores(cell, "val", of_cell, rule=rule))
        refit = cell.images.refit
        for member, scores in image_scores(cell, "test", of_cell, rule=rule):
            if member not in records:
                continue
            record = records[member]
            images = {part: cell.images_of(member, part) for part in EVALUATED}
            losses = {part: images[part].flip.copy() for part in EVALUATED}
            if refit is not None and "dfr" in str(record.get("method", "")).split("+"):
                # Images used to fit a head must not choose the threshold.
                losses["val"][refit[cell.images.inside("val")]] = np.nan
            measures = _measures(images, {"val": validation[member], "test": scores}, losses)
            axis_values = {name: record[name] for name in axes}
            for name in scores:
                passes = _passes(name, cell, ensemble_sizes.get(member, 0))
                table.append(
                    {
                        "member": member,
                        **axis_values,
                        "selection": rule,
                        "score": name,
                        "passes": passes,
                        **measures[name],
                    }
                )
    return to_frame(table)


def _passes(name: str, cell: Cell, seeds: int) -> int:
    """Returns how many forward passes a score takes."""
    if SCORES[name].passes == "seeds":
        return seeds
    images = cell.images
    if name == "swap_risk" and images.log_odds is not None:
        draws = 1
        if images.scene_share is not None:
            draws = len(images.scene_share)
        return 1 + images.log_odds.shape[2] * draws
    return int(SCORES[name].passes)


def _measures(
    images: Mapping[str, Images], scores: Mapping[str, Arrays], losses: Arrays
) -> dict[str, dict[str, float | int | str]]:
    """Returns a member's numbers by score and column, from the images, scores and losses of each part."""
    # Scores that rank the same images in both parts share one computation.
    names_by_unranked: dict[tuple[bytes, ...], list[str]] = {}
    for name in scores["test"]:
        unranked = tuple(np.isnan(scores[part][name] + losses[part]).tobytes() for part in EVALUATED)
        names_by_unranked.setdefault(unranked, []).append(name)
    measures = {}
    for names in names_by_unranked.values():
        stacked = {part: np.stack([scores[part][name] for name in names]) for part in EVALUATED}
        columns = _columns(images, stacked, losses)
        for row, name in enumerate(names):
            measures[name] = {column: rounded(values[row]) for column, values in columns.items()}
    return measures


def _columns(images: Mapping[str, Images], scores: Arrays, losses: Arrays) -> Arrays:
    """Returns the threshold of J scores and their measures, (J,), by column of scores.csv."""
    # All of these scores rank the same images, so the first stands for all.
    ranked = {part: ~np.isnan(scores[part][0] + losses[part]) for part in EVALUATED}
    validation_losses = losses["val"][ranked["val"]]
    thresholds = np.array(
        [
            selective.threshold_at_risk(of_images, validation_losses, risk=WANTED_RISK)
            for of_images in scores["val"][:, ranked["val"]]
        ]
    )
    columns = {"threshold": thresholds}
    for side in COMPARED:
        for part in EVALUATED:
            inside = ranked[part] & images[part].in_group(side)
            scored = ScoredImages(scores[part][:, inside], losses[part][inside], thresholds)
            for measure in MEASURES:
                if measure.part == part:
                    columns[f"{measure.quantity.key}_{side}"] = measure.compute(scored)
    return {name: columns[name] for name in ("threshold", *SCORE_COLUMNS)}


def unpack_classes(masks: np.ndarray) -> np.ndarray:
    """Returns predicted classes from packed bits, masks uint8 (..., planes, bytes): uint8 (..., pixels).

    The result may be padded with zeros at the end.

    Example:
        >>> unpack_classes(np.array([[80], [32]], np.uint8)).tolist()
        [0, 1, 2, 1, 0, 0, 0, 0]
    """
    bits = np.unpackbits(masks, axis=-1)
    weights = (1 << np.arange(bits.shape[-2], dtype=np.uint8))[:, None]
    return (bits * weights).sum(-2, dtype=np.uint8)


def shared_pixels(classes: np.ndarray) -> np.ndarray:
    """Counts pixels that two members assign to the same foreground class, the basis of all ensemble scores.

    Args:
        classes: int (M, n, pixels), the predictions of M members on n images; 0 is the background.

    Returns:
        float32 (F, n, M, M), whole numbers, for foreground classes 1 to F, the largest one predicted. The diagonal
        counts a member's own pixels.

    Example:
        >>> shared_pixels(np.array([[[0, 1, 1]], [[0, 1, 2]]]))[:, 0].tolist()
        [[[2.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]]]
    """
    images = np.moveaxis(classes, 0, 1)
    shared = []
    for foreground_class in range(1, int(classes.max(initial=1)) + 1):
        inside = (images == foreground_class).astype(np.float32)
        shared.append(inside @ inside.transpose(0, 2, 1))
    return np.stack(shared)


def disagreement(shared: np.ndarray) -> np.ndarray:
    """Returns the mean fraction of other members that predict another class, over the pixels of a member's region.

    Args:
        shared: (F, n, M, M) of `shared_pixels`, M >= 2.

    Returns:
        float64 (M, n), in [0, 1]; NaN where a member predicts no foreground.

    Example:
        >>> disagreement(shared_pixels(np.array([[[0, 1, 1]], [[0, 1, 2]], [[1, 1, 2]]]))).ravel().tolist()
        [0.5, 0.25, 0.5]
    """
    pixels = np.einsum("fnmm->mn", shared).astype(np.float64)
    agreements = shared.sum((0, 3), dtype=np.float64).T - pixels
    other_members = shared.shape[-1] - 1
    return 1 - divide(agreements, other_members * pixels)


def pairwise_dice(shared: np.ndarray) -> np.ndarray:
    """Returns the mean Dice of the foreground classes over all pairs of members.

    A class that neither member predicts is skipped; a pair without any foreground scores 1.

    Args:
        shared: (F, n, M, M) of `shared_pixels`, M >= 2.

    Returns:
        float64 (n,), in [0, 1].

    Source: Zenk et al., Comparative benchmarking of failure detection methods in medical image segmentation, 2025,
        arXiv 2406.03323.

    Example:
        >>> pairwise_dice(shared_pixels(np.array([[[0, 1, 1]], [[0, 1, 2]]]))).round(3).tolist()
        [0.333]
    """
    first, second = np.triu_indices(shared.shape[-1], k=1)
    area = np.einsum("fnmm->fnm", shared).astype(np.float64)
    both = area[..., first] + area[..., second]
    dice = np.divide(2 * shared[..., first, second], both, out=np.zeros(both.shape), where=both > 0)
    present = (both > 0).sum(0)
    return np.divide(dice.sum(0), present, out=np.ones(present.shape), where=present > 0).mean(-1)
