"""Rates that follow from the tables of `flipjax.metrics.segment_table`.

Of the true segments, `segment_flips` gives the rates of each class and `segment_confusion` their matrix; of the
predicted ones, `segment_auroc` says how well a score finds those that are wrong; of the pixels by kind of error,
`error_budget` says what mending each kind would gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flipjax.metrics import selective
from flipjax.metrics.decomposition import divide, margins, rates
from flipjax.metrics.resampling import draw_images, percentile_ends
from flipjax.metrics.segment_table import KINDS, OUTCOMES

if TYPE_CHECKING:
    import jax
    import pandas as pd


def segment_flips(
    true: pd.DataFrame, *, key: jax.Array | None = None, samples: int = 1000, class_names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Computes flip rates of the segments of each class, with 95% bootstrap intervals over images with segments.

    Args:
        true: from `segments`.
        key: a JAX PRNG key; None: no intervals.
        samples: the number of resamples of images.
        class_names: of all C classes, for the index; None: class numbers.

    Returns:
        A DataFrame by class that occurs, and `all`:
        `segments`, and the numbers of them that are `correct`, `flip`, `miss`, `mixed`;
        `seg_flip`: flips over segments; `flip_of_found`: flips over segments that are correct or flip;
        `bleeding`: the share of flips to a class that the image has elsewhere;
        `matched`: segments that a predicted one matches at IoU above 1/2, and `strict_flip`, the share of these whose
        match has another class; with a key `..._low` and `..._high` of `seg_flip` and `strict_flip`.
        NaN where the denominator is 0. Intervals leave out resamples without segments of the class.

    Source: Kirillov et al., Panoptic segmentation, 2019, for the match; Efron and Tibshirani, 1993.

    Example:
        >>> truth, prediction = np.array([[[1, 1], [2, 2]]]), np.array([[[2, 2], [2, 2]]])
        >>> from flipjax.metrics import segments
        >>> table = segment_flips(segments(prediction, truth, kind="masks", min_pixels=1))
        >>> table[["segments", "flip", "seg_flip", "bleeding"]].values.tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, nan], [2.0, 1.0, 0.5, 1.0]]
    """
    import pandas as pd

    truth = np.asarray(true["class"], np.int64)
    classes = np.unique(truth)
    image_names, image = np.unique(np.asarray(true["image"], np.int64), return_inverse=True)
    # A column for each class, and one for all.
    in_class = np.column_stack([truth[:, None] == classes, np.ones(len(true), bool)])
    by_image = {}
    total = {}
    for name, event in _events(true).items():
        by_image[name] = pd.DataFrame(in_class & event[:, None]).groupby(image).sum().to_numpy()
        total[name] = by_image[name].sum(0).astype(np.int64)
    table = {name: total[name] for name in ("segments", *OUTCOMES)}
    table["seg_flip"] = divide(total["flip"], total["segments"])
    table["flip_of_found"] = divide(total["flip"], total["flip"] + total["correct"])
    table["bleeding"] = divide(total["bleeding"], total["flip"])
    table["matched"] = total["matched"]
    table["strict_flip"] = divide(total["strict"], total["matched"])
    if key is not None and len(image_names):
        import jax

        generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        # How often each image is in each resample, (samples, images).
        drawn = draw_images(generator, len(image_names), samples=samples)
        flip_rates = divide(drawn @ by_image["flip"], drawn @ by_image["segments"])
        table["seg_flip_low"], table["seg_flip_high"] = percentile_ends(flip_rates)
        strict_rates = divide(drawn @ by_image["strict"], drawn @ by_image["matched"])
        table["strict_flip_low"], table["strict_flip_high"] = percentile_ends(strict_rates)
    if class_names is None:
        names = [str(c) for c in classes]
    else:
        names = [class_names[c] for c in classes]
    return pd.DataFrame(table, index=pd.Index([*names, "all"], name="class"))


def _events(true: pd.DataFrame) -> dict[str, np.ndarray]:
    """Returns what may be so of a true segment, by name: bool (segments,)."""
    truth = np.asarray(true["class"], np.int64)
    outcome = np.asarray(true["outcome"], str)
    # The class of the predicted segment that matches, -1 without one.
    match = np.asarray(true["matched"].fillna(-1), np.int64)
    events = {name: outcome == name for name in OUTCOMES}
    events["segments"] = np.ones(len(true), bool)
    events["matched"] = match >= 0
    events["strict"] = (match >= 0) & (match != truth)
    events["bleeding"] = np.asarray(true["bleeding"].fillna(False), bool)
    return events


def segment_confusion(true: pd.DataFrame, *, num_classes: int) -> np.ndarray:
    """Returns the confusion matrix of segments by class (rows) and prediction (columns): int64 (C, C).

    Mixed segments are left out. Flips lie off the diagonal, outside of background columns.

    Example:
        >>> truth, prediction = np.array([[[1, 1], [2, 2]]]), np.array([[[2, 2], [2, 2]]])
        >>> from flipjax.metrics import segments
        >>> segment_confusion(segments(prediction, truth, kind="masks", min_pixels=1), num_classes=3).tolist()
        [[0, 0, 0], [0, 0, 1], [0, 0, 1]]
    """
    counts = np.zeros((num_classes, num_classes), np.int64)
    not_mixed = true[true["outcome"] != "mixed"]
    truth = np.asarray(not_mixed["class"], np.int64)
    prediction = np.asarray(not_mixed["predicted"], np.int64)
    np.add.at(counts, (truth, prediction), 1)
    return counts


def segment_auroc(predicted: pd.DataFrame, *, score: str = "flip_risk") -> pd.DataFrame:
    """Computes how well a score, and size alone, tell wrong predicted segments from right ones: their AUROC.

    Small segments are more often wrong and uncertain, so any score correlated with size ranks well. The AUROC within
    strata of size removes this effect.

    Args:
        predicted: from `segment_tables`.
        score: the column to rank by, high where an error is expected; blank segments are left out.

    Returns:
        A DataFrame by `all`, `within strata` (pairs of one stratum) and each stratum: `segments`, `wrong`, `auroc` of
        the score and `size_auroc` of small size. NaN where one side is empty.

    Example:
        >>> import pandas as pd
        >>> rows = {"flip_risk": [0.9, 0.2, 0.4, 0.1], "pixels": [70, 80, 900, 950], "stratum": [0, 0, 1, 1]}
        >>> segment_auroc(pd.DataFrame(rows | {"right": [False, True, False, True]})).round(2)["size_auroc"].tolist()
        [0.75, 1.0, 1.0, 1.0]
    """
    import pandas as pd

    table = predicted[predicted[score].notna()]
    wrong = ~np.asarray(table["right"], bool)
    score_values = np.asarray(table[score], np.float64)
    smallness = -np.asarray(table["pixels"], np.float64)

    def row_of(inside: np.ndarray) -> dict[str, float]:
        return {
            "segments": int(inside.sum()),
            "wrong": int(wrong[inside].sum()),
            "auroc": selective.auroc(score_values[inside], wrong[inside]),
            "size_auroc": selective.auroc(smallness[inside], wrong[inside]),
        }

    stratum_of_segment = np.asarray(table["stratum"])
    whole = row_of(np.ones(len(wrong), bool))
    by_stratum = {stratum: row_of(stratum_of_segment == stratum) for stratum in np.unique(stratum_of_segment).tolist()}
    strata = pd.DataFrame.from_dict(by_stratum, orient="index", columns=list(whole))
    # An AUROC is a mean over pairs of a wrong and a right segment.
    pairs = strata["wrong"] * (strata["segments"] - strata["wrong"])
    within = dict(whole)
    for name in ("auroc", "size_auroc"):
        # Strata without pairs have a NaN AUROC, which the sum leaves out.
        within[name] = float(divide((pairs * strata[name]).sum(), pairs.sum()))
    rows = {"all": whole, "within strata": within, **by_stratum}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("stratum")


def error_budget(pixels: pd.DataFrame, *, num_classes: int) -> pd.DataFrame:
    """Counts the wrong pixels of each kind and computes the mIoU gained by correcting that kind alone.

    As in TIDE, each gain is computed by replacing only these predictions with the true class; gains do not add up.

    Kinds are `whole`, flipped segments; `rim` and `inside`, flips in other segments; `miss`; `spill`; and `background`,
    confusion between background classes.

    Args:
        pixels: from `segment_tables`, of any number of batches.
        num_classes: C.

    Returns:
        A DataFrame by kind and `all`: `pixels`, `share` of the wrong pixels, `mean_iou` once corrected, and `gain`.
        NaN where nothing is wrong or no class occurs.

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
    kind = np.array([KINDS.index(name) for name in pixels["kind"]], np.int64)
    truth = np.asarray(pixels["class"], np.int64)
    prediction = np.asarray(pixels["predicted"], np.int64)
    np.add.at(by_kind, (kind, truth, prediction), np.asarray(pixels["pixels"], np.int64))
    confusion = by_kind.sum(0)
    mean_iou = rates(margins(confusion)).mean_iou
    wrong = confusion.sum() - np.trace(confusion)
    errors: dict[str, np.ndarray] = dict(zip(KINDS[1:], by_kind[1:], strict=True))
    errors["all"] = by_kind[1:].sum(0)
    rows = {}
    for name, mended in errors.items():
        corrected = confusion - mended + np.diag(mended.sum(1))
        mean_iou_corrected = rates(margins(corrected)).mean_iou
        rows[name] = {
            "pixels": int(mended.sum()),
            "share": float(divide(mended.sum(), wrong)),
            "mean_iou": float(mean_iou_corrected),
            "gain": float(mean_iou_corrected - mean_iou),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("kind")
