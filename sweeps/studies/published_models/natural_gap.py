"""Flips with and without a context, compared among segments of one class and size alone."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from context import context_classes, count_others, draw_images


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


def _standardised(rare: np.ndarray, common: np.ndarray, rare_flips: np.ndarray, common_flips: np.ndarray) -> np.ndarray:
    """Returns the difference of two shares, averaged over the last axis by Mantel's and Haenszel's weights."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total = rare + common
        part = np.where((rare > 0) & (common > 0), (rare_flips * common - common_flips * rare) / total, 0).sum(-1)
        return part / np.where((rare > 0) & (common > 0), rare * common / total, 0).sum(-1)
