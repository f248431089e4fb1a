"""Shares and rankings of segments, with intervals over images: arithmetic on the tables of segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flipjax.metrics import selective
from flipjax.metrics.decomposition import divide
from flipjax.metrics.objects import OUTCOMES
from flipjax.metrics.statistics import Draws, percentile_ends

if TYPE_CHECKING:
    import jax
    import pandas as pd


def segment_flips(
    true: pd.DataFrame, *, key: jax.Array | None = None, samples: int = 1000, class_names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Returns how many segments of each class flip, with 95% bootstrap intervals over the images that have segments.

    Args:
        true: of `segments`.
        key: a JAX PRNG key; None: no intervals.
        samples: the number of resamples of images.
        class_names: of all C classes, for the index; None: the classes themselves.

    Returns:
        A DataFrame by class that occurs, and `all`:
        `segments`, and of these `correct`, `flip`, `miss`, `mixed`;
        `seg_flip`: flips over segments; `flip_of_found`: flips over those that are correct or flip;
        `bleeding`: the share of the flips to a class that the image has elsewhere;
        `matched`: segments that a predicted one matches at IoU above 1/2, and `strict_flip`, the share of these whose
        match has another class; with a key `..._low` and `..._high` of `seg_flip` and `strict_flip`.
        NaN where the denominator is empty. Resamples without any segment of a class are left out of its interval.

    Source: Kirillov et al., Panoptic segmentation, 2019, for the match; Efron and Tibshirani, 1993.

    Example:
        >>> from flipjax.metrics.segment_table import segments
        >>> truth, prediction = np.array([[[1, 1], [2, 2]]]), np.array([[[2, 2], [2, 2]]])
        >>> table = segment_flips(segments(prediction, truth, kind="masks", min_pixels=1))
        >>> table[["segments", "flip", "seg_flip", "bleeding"]].values.tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, nan], [2.0, 1.0, 0.5, 1.0]]
    """
    import pandas as pd

    classes = np.unique(np.asarray(true["class"], np.int64))
    images, place = np.unique(np.asarray(true["image"], np.int64), return_inverse=True)
    own = np.asarray(true["class"], np.int64)[:, None] == classes
    own = np.concatenate([own, np.ones((len(true), 1), bool)], axis=1)
    outcome = np.asarray(true["outcome"], str)
    matched = np.asarray(true["matched"].notna(), bool)
    strict = matched & (np.asarray(true["matched"].fillna(-1), np.int64) != np.asarray(true["class"], np.int64))
    events = {name: outcome == name for name in OUTCOMES} | {"segments": np.ones(len(true), bool)}
    events |= {"matched": matched, "strict": strict, "bleeding": np.asarray(true["bleeding"].fillna(False), bool)}
    sums = {}
    for name, event in events.items():
        sums[name] = np.zeros((len(images), len(classes) + 1))
        np.add.at(sums[name], place, own & event[:, None])
    total = {name: each.sum(0).astype(np.int64) for name, each in sums.items()}
    table = {name: total[name] for name in ("segments", *OUTCOMES)}
    table["seg_flip"] = divide(total["flip"], total["segments"])
    table["flip_of_found"] = divide(total["flip"], total["flip"] + total["correct"])
    table["bleeding"] = divide(total["bleeding"], total["flip"])
    table["matched"] = total["matched"]
    table["strict_flip"] = divide(total["strict"], total["matched"])
    if key is not None and len(images):
        import jax

        n = len(images)
        counts = Draws(np.asarray(jax.random.randint(key, (samples, n), 0, n)).astype(np.int64), n).counts
        for name, part, whole in (("seg_flip", "flip", "segments"), ("strict_flip", "strict", "matched")):
            drawn = divide(counts @ sums[part], counts @ sums[whole])
            table[f"{name}_low"], table[f"{name}_high"] = percentile_ends(drawn)
    names = [str(c) if class_names is None else class_names[c] for c in classes]
    return pd.DataFrame(table, index=pd.Index([*names, "all"], name="class"))


def segment_confusion(true: pd.DataFrame, *, num_classes: int) -> np.ndarray:
    """Returns int64 (C, C): how many segments of a class (rows) are correct, flip to another or are missed (columns).

    Mixed segments are not in it. The flip matrix in segments is what is off the diagonal and in no background column.

    Example:
        >>> from flipjax.metrics.segment_table import segments
        >>> truth, prediction = np.array([[[1, 1], [2, 2]]]), np.array([[[2, 2], [2, 2]]])
        >>> segment_confusion(segments(prediction, truth, kind="masks", min_pixels=1), num_classes=3).tolist()
        [[0, 0, 0], [0, 0, 1], [0, 0, 1]]
    """
    counts = np.zeros((num_classes, num_classes), np.int64)
    told = true[true["outcome"] != "mixed"]
    np.add.at(counts, (np.asarray(told["class"], np.int64), np.asarray(told["predicted"], np.int64)), 1)
    return counts


def segment_auroc(predicted: pd.DataFrame, *, score: str = "flip_risk") -> pd.DataFrame:
    """Returns how well a score, and size alone, rank predicted segments whose majority is wrong over the others.

    Small segments are wrong more often and uncertain more often: a score that only knows sizes ranks well over all
    sizes. So it is judged within the strata of size, too.

    Args:
        predicted: of `segment_tables`.
        score: the column that is high where an error is expected; segments where it is blank are left out.

    Returns:
        A DataFrame by `all`, `within strata` (pairs of one stratum alone) and each stratum: `segments`, `wrong`,
        `auroc` of the score and `size_auroc` of being small. NaN where one side is empty.

    Example:
        >>> import pandas as pd
        >>> rows = {"flip_risk": [0.9, 0.2, 0.4, 0.1], "pixels": [70, 80, 900, 950], "stratum": [0, 0, 1, 1]}
        >>> segment_auroc(pd.DataFrame(rows | {"right": [False, True, False, True]})).round(2)["size_auroc"].tolist()
        [0.75, 1.0, 1.0, 1.0]
    """
    import pandas as pd

    table = predicted[predicted[score].notna()]
    wrong = ~np.asarray(table["right"], bool)
    stratum = np.asarray(table["stratum"], np.int64)
    scores = {"auroc": np.asarray(table[score], np.float64), "size_auroc": -np.asarray(table["pixels"], np.float64)}
    sides: dict[Any, np.ndarray] = {"all": np.ones(len(table), bool)}
    sides |= {k: stratum == k for k in np.unique(stratum).tolist()}
    rows = {name: _ranked(scores, wrong, inside) for name, inside in sides.items()}
    pairs = {name: row["wrong"] * (row["segments"] - row["wrong"]) for name, row in rows.items() if name != "all"}
    within = dict(rows["all"])
    for name in scores:
        ordered = sum(pairs[k] * rows[k][name] for k in pairs if pairs[k])
        within[name] = ordered / sum(pairs.values()) if sum(pairs.values()) else np.nan
    rows = {"all": rows.pop("all"), "within strata": within} | rows
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("stratum")


def _ranked(scores: dict[str, np.ndarray], wrong: np.ndarray, inside: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"segments": int(inside.sum()), "wrong": int(wrong[inside].sum())}
    return row | {name: selective.auroc(values[inside], wrong[inside]) for name, values in scores.items()}
