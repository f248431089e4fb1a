"""Rates that follow from the tables of `flipjax.metrics.objects.table`.

- `segment_flips` and `segment_confusion`, of the table of true segments: the rates of each class, and their matrix;
- `segment_auroc`, of the table of predicted segments: how well a score finds those that are wrong;
- `error_budget`, of the table of pixels by kind of error: what mending each kind would gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flipjax.metrics.decomposition import Ratio, divide, mean_over_classes, pixel_ratios
from flipjax.metrics.objects.columns import KINDS, OUTCOMES
from flipjax.metrics.statistics import selective
from flipjax.metrics.statistics.intervals import estimate_rates

if TYPE_CHECKING:
    import pandas as pd


def segment_flips(
    true_segments: pd.DataFrame,
    *,
    clusters: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Computes flip rates of the segments of each class, with their 95% intervals over images or clusters.

    Args:
        true_segments: from `segments`.
        clusters: int (n,), the cluster of each image, such as its patient; None: each image alone.
        class_names: of all C classes, for the index; None: class numbers.

    Returns:
        A DataFrame with a row for each class that has segments, and a last row `all`. Columns:
        `segments`, and the numbers of them that are `correct`, `flip`, `miss`, `mixed`;
        `seg_flip`: flips over segments; `flip_of_found`: flips over segments that are correct or flip;
        `bleeding`: of the flips, the share whose predicted class the image really shows somewhere else;
        `matched`: segments that a predicted one matches at IoU above 1/2, and `strict_flip`, the share of these whose
        match has another class; `..._low` and `..._high` of `seg_flip` and `strict_flip`, by
        `flipjax.metrics.statistics.intervals.estimate_rate`, if several images or clusters have segments.
        NaN where the denominator is 0.

    Source: Kirillov et al., Panoptic segmentation, 2019, for the match.

    Example:
        >>> truth, prediction = np.array([[[1, 1], [2, 2]]]), np.array([[[2, 2], [2, 2]]])
        >>> from flipjax.metrics import segments
        >>> table = segment_flips(segments(prediction, truth, kind="masks", min_pixels=1))
        >>> table[["segments", "flip", "seg_flip", "bleeding"]].values.tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, nan], [2.0, 1.0, 0.5, 1.0]]
    """
    import pandas as pd

    class_of_segment = np.asarray(true_segments["class"], np.int64)
    classes = np.unique(class_of_segment)
    unit = np.asarray(true_segments["image"], np.int64)
    if clusters is not None:
        unit = clusters[unit]
    # The rows of the result: a class each, and `all`, which has every segment.
    is_of_class = class_of_segment[:, None] == classes
    in_row = np.column_stack([is_of_class, np.ones(len(true_segments), bool)])
    segments_with = {name: in_row & has[:, None] for name, has in _properties(true_segments).items()}
    counts = {name: chosen.sum(0) for name, chosen in segments_with.items()}
    table = {name: counts[name] for name in ("segments", *OUTCOMES)}
    table["seg_flip"] = divide(counts["flip"], counts["segments"])
    table["flip_of_found"] = divide(counts["flip"], counts["flip"] + counts["correct"])
    table["bleeding"] = divide(counts["bleeding"], counts["flip"])
    table["matched"] = counts["matched"]
    table["strict_flip"] = divide(counts["strict_flip"], counts["matched"])
    if len(np.unique(unit)) > 1:
        rates = {
            "seg_flip": Ratio(segments_with["flip"], segments_with["segments"]),
            "strict_flip": Ratio(segments_with["strict_flip"], segments_with["matched"]),
        }
        for name, ratio in rates.items():
            estimate = estimate_rates(ratio, clusters=unit)
            table[f"{name}_low"] = estimate.low
            table[f"{name}_high"] = estimate.high
    if class_names is None:
        names = [str(c) for c in classes]
    else:
        names = [class_names[c] for c in classes]
    return pd.DataFrame(table, index=pd.Index([*names, "all"], name="class"))


def _properties(true_segments: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns which true segments are counted in each column of `segment_flips`, by name: bool (segments,)."""
    class_of_segment = np.asarray(true_segments["class"], np.int64)
    outcome = np.asarray(true_segments["outcome"], str)
    # The class of the predicted segment that matches, -1 without one.
    matched_class = np.asarray(true_segments["matched"].fillna(-1), np.int64)
    is_matched = matched_class >= 0
    properties = {name: outcome == name for name in OUTCOMES}
    properties["segments"] = np.ones(len(true_segments), bool)
    properties["matched"] = is_matched
    properties["strict_flip"] = is_matched & (matched_class != class_of_segment)
    # Blank for all segments but flips.
    properties["bleeding"] = np.asarray(true_segments["bleeding"].fillna(False), bool)
    return properties


def segment_confusion(true_segments: pd.DataFrame, *, num_classes: int) -> np.ndarray:
    """Returns the confusion matrix of segments by class (rows) and prediction (columns): int64 (C, C).

    Mixed segments are left out. Off the diagonal, a background column holds misses and every other column flips.

    Example:
        >>> truth, prediction = np.array([[[1, 1], [2, 2]]]), np.array([[[2, 2], [2, 2]]])
        >>> from flipjax.metrics import segments
        >>> segment_confusion(segments(prediction, truth, kind="masks", min_pixels=1), num_classes=3).tolist()
        [[0, 0, 0], [0, 0, 1], [0, 0, 1]]
    """
    counts = np.zeros((num_classes, num_classes), np.int64)
    not_mixed = true_segments[true_segments["outcome"] != "mixed"]
    truth = np.asarray(not_mixed["class"], np.int64)
    prediction = np.asarray(not_mixed["predicted"], np.int64)
    np.add.at(counts, (truth, prediction), 1)
    return counts


def segment_auroc(predicted_segments: pd.DataFrame, *, score: str = "flip_risk") -> pd.DataFrame:
    """Computes the AUROC of a score for wrong predicted segments, and that of their size for comparison.

    Small segments are more often wrong and uncertain, so any score correlated with size ranks well. The AUROC within
    strata of size removes this effect.

    Args:
        predicted_segments: from `segment_tables`.
        score: the column to rank by, high where an error is expected; blank segments are left out.

    Returns:
        A DataFrame with the rows `all`, `within strata` and each stratum. Columns: the numbers of `segments` and of
        those that are `wrong`; `auroc` of the score; `size_auroc` of small size. The AUROC `within strata` is the share
        of the pairs of a wrong and a right segment of one stratum in which the wrong one ranks higher. NaN where no
        segment is wrong, or none is right.

    Example:
        >>> import pandas as pd
        >>> rows = {"flip_risk": [0.9, 0.2, 0.4, 0.1], "pixels": [70, 80, 900, 950], "stratum": [0, 0, 1, 1]}
        >>> segment_auroc(pd.DataFrame(rows | {"right": [False, True, False, True]})).round(2)["size_auroc"].tolist()
        [0.75, 1.0, 1.0, 1.0]
    """
    import pandas as pd

    ranked = predicted_segments[predicted_segments[score].notna()]
    is_wrong = ~np.asarray(ranked["right"], bool)
    score_values = np.asarray(ranked[score], np.float64)
    smallness = -np.asarray(ranked["pixels"], np.float64)

    def row_of(chosen: np.ndarray) -> dict[str, float]:
        return {
            "segments": int(chosen.sum()),
            "wrong": int(is_wrong[chosen].sum()),
            "auroc": selective.auroc(score_values[chosen], is_wrong[chosen]),
            "size_auroc": selective.auroc(smallness[chosen], is_wrong[chosen]),
        }

    stratum_of_segment = np.asarray(ranked["stratum"])
    of_all = row_of(np.ones(len(is_wrong), bool))
    by_stratum = {stratum: row_of(stratum_of_segment == stratum) for stratum in np.unique(stratum_of_segment).tolist()}
    strata = pd.DataFrame.from_dict(by_stratum, orient="index", columns=list(of_all))
    # An AUROC is a mean over pairs of a wrong and a right segment, so strata count by their pairs.
    pair_counts = strata["wrong"] * (strata["segments"] - strata["wrong"])
    within_strata = dict(of_all)
    for name in ("auroc", "size_auroc"):
        # Strata without pairs have a NaN AUROC, which the sum leaves out.
        within_strata[name] = float(divide((pair_counts * strata[name]).sum(), pair_counts.sum()))
    rows = {"all": of_all, "within strata": within_strata, **by_stratum}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("stratum")


def error_budget(pixel_counts: pd.DataFrame, *, num_classes: int) -> pd.DataFrame:
    """Counts the wrong pixels of each kind and computes the mIoU gained by correcting only that kind.

    As in TIDE, each gain is computed by replacing only these predictions with the true class; gains do not add up.

    The kinds of wrong pixels are

    - `whole`: flips in segments that flip as a whole;
    - `rim`, `inside`: flips in other segments, near their border and away from it;
    - `miss`: foreground predicted as background;
    - `spill`: background predicted as foreground;
    - `background`: confusion between background classes.

    Args:
        pixel_counts: the table `pixels` of `segment_tables`, of any number of batches.
        num_classes: the number of classes, C.

    Returns:
        A DataFrame with a row for each kind, and a last row `all` of all wrong pixels. Columns: `pixels`; `share` of
        the wrong pixels, NaN where nothing is wrong; `mean_iou` once these pixels are corrected, and the `gain` in it,
        NaN where no class occurs.

    Source: Bolya et al., TIDE: A general toolbox for identifying object detection errors, 2020.

    Example:
        >>> import pandas as pd
        >>> rows = [["correct", 1, 1, 6], ["whole", 2, 1, 3], ["miss", 1, 0, 1], ["correct", 0, 0, 5]]
        >>> table = error_budget(pd.DataFrame(rows, columns=["kind", "class", "predicted", "pixels"]), num_classes=3)
        >>> table.loc[["whole", "miss", "all"], ["pixels", "gain"]].round(3).values.tolist()
        [[3.0, 0.419], [1.0, 0.089], [4.0, 0.522]]
    """
    import pandas as pd

    # A confusion matrix for each kind; the first kind is correct.
    by_kind = np.zeros((len(KINDS), num_classes, num_classes), np.int64)
    kind = np.array([KINDS.index(name) for name in pixel_counts["kind"]], np.int64)
    truth = np.asarray(pixel_counts["class"], np.int64)
    prediction = np.asarray(pixel_counts["predicted"], np.int64)
    np.add.at(by_kind, (kind, truth, prediction), np.asarray(pixel_counts["pixels"], np.int64))
    confusion = by_kind.sum(0)
    mean_iou = mean_over_classes(pixel_ratios(confusion).iou)
    wrong_pixels = confusion.sum() - np.trace(confusion)
    errors_by_kind: dict[str, np.ndarray] = dict(zip(KINDS[1:], by_kind[1:], strict=True))
    errors_by_kind["all"] = by_kind[1:].sum(0)
    rows = {}
    for name, errors in errors_by_kind.items():
        # Corrected, the errors of a class are on the diagonal.
        corrected = confusion - errors + np.diag(errors.sum(1))
        mean_iou_corrected = mean_over_classes(pixel_ratios(corrected).iou)
        rows[name] = {
            "pixels": int(errors.sum()),
            "share": float(divide(errors.sum(), wrong_pixels)),
            "mean_iou": float(mean_iou_corrected),
            "gain": float(mean_iou_corrected - mean_iou),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("kind")
