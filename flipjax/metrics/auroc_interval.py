"""95% intervals of an AUROC that hold where few images are flipped. NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from flipjax.metrics import selective
from flipjax.metrics.statistics import Images

_Z = 1.959963984540054
_HALVINGS = 40


class AurocEstimate(NamedTuple):
    """An AUROC and the ends of its 95% interval; all NaN where one side is empty."""

    value: float
    low: float
    high: float


def auroc_ends(auroc: float, events: int, others: int) -> tuple[float, float]:
    """Returns the 95% interval of an AUROC of so many events and others, that of Newcombe's score method.

    It holds the values that the AUROC found does not contradict: those nearer than 1.96 standard errors, each with the
    standard error that scores of two exponential distributions have at that value. It needs one event, and is no point
    where the AUROC is 0 or 1. `sweeps/studies/coverage` says how often it holds the truth.

    Args:
        auroc: in [0, 1].
        events: independent images with an event, at least 1.
        others: independent images without, at least 1.

    Source: Newcombe, Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2, 2006,
        method 5, on the variance of Hanley and McNeil, 1982.

    Example:
        >>> low, high = auroc_ends(1.0, 2, 18)
        >>> round(low, 3), high
        (0.573, 1.0)
    """
    size = (events + others) / 2 - 1
    ends = []
    for outer in (0.0, 1.0):
        inside = auroc
        for _ in range(_HALVINGS):
            middle = (inside + outer) / 2
            spread = 1 + size * ((1 - middle) / (2 - middle) + middle / (1 + middle))
            variance = middle * (1 - middle) * spread / (events * others)
            near = (middle - auroc) ** 2 <= _Z**2 * variance
            inside, outer = (middle, outer) if near else (inside, middle)
        ends.append(outer)
    return ends[0], ends[1]


def auroc_estimates(images: Images, members: Mapping[str, np.ndarray], pairs: Any = None) -> dict[str, AurocEstimate]:
    """Returns how well flip-risk ranks the images flipped by more than half, by the keys of `summarize`.

    Args:
        images: of one model.
        members: the places of each group's images.
        pairs: int (n,), images that are drawn together, -1 for one alone: of one side they count as one.
    """
    numbers = np.full(len(images.flip), -1) if pairs is None else np.asarray(pairs)
    numbers = np.where(numbers < 0, -1 - np.arange(len(numbers)), numbers)
    sides = {"": np.arange(len(numbers))} | {f"group/{name}/": places for name, places in members.items()}
    estimates = {}
    for prefix, places in sides.items():
        places = places[images.ranked[places]]
        flipped = images.flip[places] > 0.5
        counts = [len(np.unique(numbers[places[side]])) for side in (flipped, ~flipped)]
        value = selective.auroc(images.risk[places], flipped)
        ends = auroc_ends(value, counts[0], counts[1]) if min(counts) else (np.nan, np.nan)
        estimates[f"{prefix}risk_auroc"] = AurocEstimate(value, *ends)
    return estimates
