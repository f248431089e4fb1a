"""Charts of images sorted by flip-risk: the flip of the images that are kept, and flip and flip-risk by decile."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from flipjax.metrics import summarize
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.statistics.selective import risk_coverage
from flipjax.page.charts import Chart, Panel
from flipjax.page.panels import ReferenceLevel, curve_panel

COVERAGE = np.linspace(0.02, 1, 50)
"""Shares of the images that are kept."""
DECILES = np.arange(1.0, 11.0)
"""Numbers of the deciles."""
DECILE_AXIS = "flip-risk decile (10: the riskiest tenth)"
"""The x axis of charts by decile."""


@dataclasses.dataclass(frozen=True, eq=False)
class RankedCurve:
    """A curve over images sorted by flip-risk."""

    key: str
    """The key of its values in a `Ranking`."""
    points: np.ndarray
    """Where its values stand on the x axis."""
    x: str
    """Name of the x axis."""
    y: str
    """Name of the y axis."""


REMAINING_FLIP = RankedCurve(
    key="remaining",
    points=COVERAGE,
    x="coverage: share of the images kept, lowest risk first",
    y="mean flip share of the images kept",
)
FLIP_BY_DECILE = RankedCurve(key="flip_by_risk_decile", points=DECILES, x=DECILE_AXIS, y="mean flip share")
RISK_BY_DECILE = RankedCurve(key="risk_decile", points=DECILES, x=DECILE_AXIS, y="mean flip-risk (nats)")
CURVES = (REMAINING_FLIP, FLIP_BY_DECILE, RISK_BY_DECILE)
"""All of them."""
Ranking = Mapping[str, np.ndarray]
"""The values of each of CURVES at its points, by key."""


def remaining_flip(decomposition: Decomposition) -> np.ndarray:
    """Returns the mean flip share (50,) of the images with lowest flip-risk, at each COVERAGE.

    NaN if no image has a flip-risk.

    Example:
        >>> counts = np.array([[[5, 0, 0], [0, 4, 0], [0, 0, 0]], [[5, 0, 0], [0, 0, 0], [0, 2, 2]]])
        >>> remaining_flip(Decomposition(counts, np.array([1.0, 2.0])))[[0, 24, 25, 49]].tolist()
        [0.0, 0.0, 0.25, 0.25]
    """
    flip_of_first = risk_coverage(decomposition.flip_risk, decomposition.flip)
    if not len(flip_of_first):
        return np.full(len(COVERAGE), np.nan)
    # A fractional number of images is rounded up. Rounding first removes what floating point adds to a whole number.
    numbers = np.ceil(np.round(COVERAGE * len(flip_of_first), 9)).astype(int)
    return flip_of_first[numbers - 1]


def mean_ranking(members: Sequence[Decomposition]) -> Ranking:
    """Returns the mean of members' rankings at each point, ignoring NaN; NaN where none has a value."""
    rankings = []
    for images in members:
        rankings.append({**summarize(images), REMAINING_FLIP.key: remaining_flip(images)})
    means = {}
    for curve in CURVES:
        means[curve.key] = pd.DataFrame([ranking[curve.key] for ranking in rankings]).mean().to_numpy()
    return means


def ranking_charts(
    facets: Mapping[str, Mapping[str, Ranking]],
    *,
    note: str,
    mean: float | None = None,
    intervals: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> list[Chart]:
    """Returns the chart of risk-coverage and that of deciles, with a panel per facet and a curve per labelled ranking.

    Args:
        facets: rankings by panel title.
        note: n and the kind of interval.
        mean: flip share of all images, drawn as reference.
        intervals: low and high (10,) of FLIP_BY_DECILE and RISK_BY_DECILE, by key.
    """
    reference = None
    if mean is not None:
        reference = ReferenceLevel(mean, f"mean of all images, {mean:.2f}")
    intervals = intervals or {}
    coverage: list[Panel] = []
    deciles: list[Panel] = []
    for title, rankings in facets.items():
        coverage.append(_panel(REMAINING_FLIP, rankings, title, reference, intervals))
        deciles.append(_panel(FLIP_BY_DECILE, rankings, title, reference, intervals))
        deciles.append(_panel(RISK_BY_DECILE, rankings, title, None, intervals))
    coverage_caption = (
        "Mean flip share of the images that are kept when the riskiest are set aside. If a curve rises to the right, "
        "setting images aside helps."
    )
    deciles_caption = "Images sorted by flip-risk, in tenths. If a line rises to the right, flip-risk finds the flips."
    return [
        Chart("coverage", "Risk-coverage", coverage_caption, note, coverage),
        Chart("deciles", "Flips and flip-risk by flip-risk decile", deciles_caption, note, deciles, columns=2),
    ]


def _panel(
    curve: RankedCurve,
    rankings: Mapping[str, Ranking],
    title: str,
    reference: ReferenceLevel | None,
    intervals: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> Panel:
    """Returns the panel of one curve of each labelled ranking."""
    values = {label: ranking[curve.key] for label, ranking in rankings.items()}
    table = pd.DataFrame(values, index=curve.points)
    interval = intervals.get(curve.key)
    return curve_panel(table, title=title, x=curve.x, y=curve.y, reference=reference, interval=interval)
