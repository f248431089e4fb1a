"""Whether a change is so small that it counts as none: two one-sided t tests against a margin that is fixed before."""

import dataclasses

import numpy as np
from scipy.stats import t

LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Equivalence:
    """The mean of paired differences, and the test that it lies within a margin."""

    mean: float
    low: float
    """Of the 90% interval, which lies within the margin where the test says so."""
    high: float
    p: float
    """The larger of the two one-sided tests' p."""

    @property
    def shown(self) -> bool:
        """Whether the mean lies within the margin, at LEVEL."""
        return self.p < LEVEL


def two_one_sided_tests(differences, *, margin: float) -> Equivalence:
    """Returns the test of paired differences (seeds,), two or more, against -margin and margin.

    Source: Schuirmann, A comparison of the two one-sided tests procedure and the power approach, 1987.
    """
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"differences: expected one of each of two seeds or more, found shape {values.shape}")
    mean = values.mean()
    error = values.std(ddof=1) / np.sqrt(len(values))
    freedom = len(values) - 1
    distance = margin - abs(mean)
    # Without any spread the mean is what it is.
    p = float(distance <= 0)
    if error > 0:
        p = float(t.sf(distance / error, freedom))
    half = t.ppf(1 - LEVEL, freedom) * error
    return Equivalence(mean, mean - half, mean + half, p)
