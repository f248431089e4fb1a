"""Flips with and without a context, compared among segments of one class and size alone."""

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from flipjax.context.choice import count_others, draw_images
from flipjax.context.evidence import context_classes
from flipjax.metrics.classes import Background, is_foreground

COLUMNS = ("class", "context", "segments_with", "flips_with", "segments_without", "flips_without", "difference", "p")
LEAST = 10
"""Segments with a context, and without it, from which on a pair of class and context is tested."""


class Gap(NamedTuple):
    """SegFlip in rare contexts less that in common ones, its 95 % interval over images, and the numbers of segments."""

    gap: float
    low: float
    high: float
    rare: int
    common: int


def natural_gap(true: pd.DataFrame, evidence: np.ndarray, *, samples: int = 1000, seed: int = 0) -> Gap:
    """Returns how much more often segments flip where their context speaks for their class's most frequent rival.

    The rival is the class that the class flips to most often in other images; a segment is rare where the evidence for
    it is above 0, and left out where it is in the image. Rare and common are compared within a class and a stratum of
    size, and averaged with weights n_rare n_common / (n_rare + n_common).

    It is observational, and an illustration: of four models in the trial one had an interval that left out 0.

    Args:
        true: of `flipjax.metrics.segments`, S rows.
        evidence: float (S, C) of `context_evidence`.
        samples: resamples of images.
        seed: of the resamples.

    Returns:
        `Gap`; NaN where no class and size has both.

    Source: Mantel and Haenszel, Statistical aspects of the analysis of data from retrospective studies, 1959.
    """
    flip = (true["outcome"] == "flip").to_numpy()
    others = count_others(true, num_classes=evidence.shape[1])
    rival = others.argmax(1)
    rows = np.arange(len(true))
    kept = (others.max(1) > 0) & ~context_classes(true)[rows, rival]
    rare = kept & (evidence[rows, rival] > 0)
    common = kept & ~rare
    cell = true.groupby(["class", "stratum"]).ngroup()
    place, counts = draw_images(true["image"], np.random.default_rng(seed), samples=samples)
    sums = np.zeros((4, counts.shape[1], cell.max() + 1))
    for number, event in enumerate((rare, common, rare & flip, common & flip)):
        np.add.at(sums[number], (place[event], cell[event]), 1)
    drawn = _standardised(*(counts @ each for each in sums))
    low, high = np.nanpercentile(drawn, (2.5, 97.5)) if np.isfinite(drawn).any() else (np.nan, np.nan)
    gap = _standardised(*(each.sum(0) for each in sums))
    return Gap(float(gap), float(low), float(high), int(rare.sum()), int(common.sum()))


def context_pairs(true: pd.DataFrame, *, background: Background = 0) -> pd.DataFrame:
    """Returns which contexts go with more confusion of a class, or with less, within strata of size.

    A flip to a class that is in the image, bleeding, does not count: the context would name itself.

    Args:
        true: of `flipjax.metrics.segments`.
        background: the class that is background, several in a tuple, or None.

    Returns:
        A DataFrame by class and context, those with and without which the class has 10 segments each, the least p
        first: `segments_with`, `flips_with`, `segments_without`, `flips_without`, `difference` of the shares within
        strata, `p` of Cochran's, Mantel's and Haenszel's test, and `q`, the false discovery rate up to that row.

    Source: Benjamini and Hochberg, Controlling the false discovery rate, 1995.
    """
    from scipy import stats

    z = context_classes(true)
    truth, stratum = (true[name].to_numpy(np.int64) for name in ("class", "stratum"))
    flip = (true["outcome"] == "flip").to_numpy() & ~true["bleeding"].fillna(False).to_numpy(bool)
    rows = []
    for c, e in itertools.product(np.unique(truth), np.flatnonzero(is_foreground(z.shape[1], background))):
        having, lacking = ((truth == c) & (z[:, e] == there) for there in (True, False))
        if e == c or min(having.sum(), lacking.sum()) < LEAST:
            continue
        events = (having, lacking, having & flip, lacking & flip)
        numbers = [np.bincount(stratum[each], minlength=stratum.max() + 1).astype(np.float64) for each in events]
        counts = (int(events[k].sum()) for k in (0, 2, 1, 3))
        rows.append((int(c), int(e), *counts, float(_standardised(*numbers)), _test_strata(*numbers)))
    table = pd.DataFrame(rows, columns=list(COLUMNS)).dropna(subset=["p"])
    table["q"] = stats.false_discovery_control(table["p"]) if len(table) else []
    return table.sort_values(["p", "class", "context"], ignore_index=True)


def _standardised(rare: np.ndarray, common: np.ndarray, rare_flips: np.ndarray, common_flips: np.ndarray) -> np.ndarray:
    """Returns the difference of two shares, averaged over the last axis by Mantel's and Haenszel's weights."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total = rare + common
        part = np.where((rare > 0) & (common > 0), (rare_flips * common - common_flips * rare) / total, 0).sum(-1)
        return part / np.where((rare > 0) & (common > 0), rare * common / total, 0).sum(-1)


def _test_strata(having: np.ndarray, lacking: np.ndarray, having_flips: np.ndarray, lacking_flips: np.ndarray) -> float:
    """Returns p of the test that flips do not hang on a context in any stratum; NaN where it cannot be told."""
    total, flips = having + lacking, having_flips + lacking_flips
    told = total > 1
    having, lacking, flips, total = having[told], lacking[told], flips[told], total[told]
    excess = (having_flips[told] - having * flips / total).sum()
    variance = (having * lacking * flips * (total - flips) / (total**2 * (total - 1))).sum()
    return float(special.chdtrc(1, excess**2 / variance)) if variance > 0 else float("nan")
