"""Computes Flip of each class, by group and by predicted class, with 95% intervals over images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit
from scipy.stats import false_discovery_control

from flipjax.metrics.classes import is_foreground
from flipjax.metrics.decomposition import Decomposition, divide, flips_of
from flipjax.results.frames import DIGITS

PAIRS = 400
"""Pairs of classes of the most pixels, of which intervals are computed."""


class Ratios(NamedTuple):
    """Ratios of sums, float64 (k,): values, variances and degrees of freedom."""

    value: np.ndarray
    variance: np.ndarray
    freedom: np.ndarray

    def minus(self, other: "Ratios") -> "Ratios":
        """Returns differences from rates on other images, with Welch's degrees of freedom."""
        variance = self.variance + other.variance
        freedom = divide(variance**2, self.variance**2 / self.freedom + other.variance**2 / other.freedom)
        return Ratios(self.value - other.value, variance, freedom)

    def interval(self, least: float = 0.0, most: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Returns the 95% Student t interval, clipped to the range of the values."""
        half = stdtrit(np.maximum(self.freedom, 1e-3), 0.975) * np.sqrt(self.variance)
        return np.clip(self.value - half, least, most), np.clip(self.value + half, least, most)

    @property
    def p(self) -> np.ndarray:
        """The two-sided p of value 0; NaN without a variance."""
        known = self.variance > 0
        t = np.abs(self.value) / np.sqrt(np.where(known, self.variance, 1))
        return np.where(known, 2 * stdtr(np.maximum(self.freedom, 1e-3), -t), np.nan)


def ratios(part: np.ndarray, whole: np.ndarray, clusters: np.ndarray | None = None) -> Ratios:
    """Returns sums of `part` over sums of `whole`, with the variance under sampling of images.

    Args:
        part: (n, k) numbers.
        whole: (n, k) numbers.
        clusters: int (n,), images sampled together, such as the frames of one film; None samples each image alone.

    Returns:
        Ratios (k,). The variance is that of the linearised ratio. Degrees of freedom follow from Kish's effective
        number m of images. If all images have the same share, the standard deviation is half an image, 1/(2 m). NaN if
        one image holds all of a whole.

    Source: Cochran, Sampling Techniques, 1977, section 6.4; Kish, Survey Sampling, 1965.

    Example:
        >>> ratios(np.array([[1], [3]]), np.array([[4], [4]])).value.tolist()
        [0.5]
    """
    part, whole = (np.asarray(counts, np.float64) for counts in (part, whole))
    if clusters is not None:
        place = np.unique(clusters, return_inverse=True)[1]
        sums = np.zeros((2, place.max(initial=-1) + 1, part.shape[1]))
        np.add.at(sums[0], place, part)
        np.add.at(sums[1], place, whole)
        part, whole = sums
    total = whole.sum(0)
    value = divide(part.sum(0), total)
    size = divide(total**2, (whole**2).sum(0))
    residuals = ((part - value * whole) ** 2).sum(0)
    freedom = np.where(size > 1 + 1e-9, size - 1, np.nan)
    variance = np.where(residuals > 0, divide(residuals, total**2) * size / freedom, (0.5 / size) ** 2)
    return Ratios(value, np.where(np.isnan(freedom), np.nan, variance), freedom)


def flips_by_group(
    decomposition: Decomposition,
    columns: Mapping[str, Mapping[int, np.ndarray]],
    class_names: Sequence[str],
    *,
    clusters: np.ndarray | None = None,
) -> pd.DataFrame:
    """Compares the Flip of each class in one group with that in the other groups.

    Args:
        decomposition: of n images.
        columns: image indices by group and class; a class without images in a group has no row there.
        class_names: names of all C classes.
        clusters: as in `ratios`.

    Returns:
        A row per class and group, largest lower bound of a difference first: `class`, `group`; `images` of the group
        that show the class; `flip`, the flipped share of its pixels there, `low`, `high`; `others`, that of the other
        groups, with `others_images`; `difference`, `difference_low`, `difference_high`; `p`, and `q`, corrected over
        all rows (Benjamini and Hochberg). Of two groups, only the one that flips more has a row.
    """
    rows = []
    for c in np.flatnonzero(is_foreground(len(class_names), decomposition.background)).tolist():
        flip, whole = _pixels(decomposition, c)
        # A class that never flips would only make the correction stricter.
        own = (
            {}
            if not flip.any()
            else {group: places[c][whole[places[c]] > 0] for group, places in columns.items() if c in places}
        )
        own = {group: places for group, places in own.items() if len(places)}
        for group, places in own.items() if len(own) > 1 else ():
            others = np.concatenate([rest for name, rest in own.items() if name != group])
            here, there = (
                ratios(flip[few, None], whole[few, None], None if clusters is None else clusters[few])
                for few in (places, others)
            )
            if len(own) == 2 and (here.value, group) < (there.value, next(name for name in own if name != group)):
                continue
            difference = here.minus(there)
            numbers = [here.value, *here.interval(), there.value, difference.value, *difference.interval(-1.0)]
            cells = [float(number[0]) for number in (*numbers, difference.p)]
            rows.append([class_names[c], group, len(places), *cells[:4], len(others), *cells[4:]])
    names = ["class", "group", "images", "flip", "low", "high", "others", "others_images"]
    names += ["difference", "difference_low", "difference_high", "p"]
    table = pd.DataFrame(rows, columns=names)
    known = table["p"].notna()
    table["q"] = np.nan
    if known.any():
        table.loc[known, "q"] = false_discovery_control(table.loc[known, "p"].to_numpy(np.float64))
    bound = np.nan_to_num(np.maximum(table["difference_low"], -table["difference_high"]), nan=-1)
    order = np.lexsort((-table["difference"].abs(), -bound))
    return table.iloc[order].reset_index(drop=True).round(DIGITS)


def _pixels(decomposition: Decomposition, c: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the flipped and all pixels (n,) of a class in each image."""
    rows = np.asarray(decomposition.confusion)[:, c].astype(np.int64)
    inside = is_foreground(rows.shape[1], decomposition.background)
    return rows[:, inside].sum(1) - rows[:, c], rows.sum(1)


def flip_gap(
    decomposition: Decomposition, sides: Mapping[int, tuple[np.ndarray, np.ndarray]], clusters: np.ndarray | None = None
) -> tuple[float, float, float]:
    """Returns Flip in rare minus common groups within each class, averaged over classes that have both.

    Args:
        decomposition: of n images.
        sides: image indices in common and rare groups, by class.
        clusters: as in `ratios`.

    Returns:
        The mean and its 95% interval; NaN if no class has both.
    """
    differences = []
    for c, both in sides.items():
        flip, whole = _pixels(decomposition, c)
        common, rare = (
            ratios(flip[few, None], whole[few, None], None if clusters is None else clusters[few]) for few in both
        )
        differences.append(rare.minus(common))
    if not differences:
        return np.nan, np.nan, np.nan
    value, variance, freedom = (np.concatenate(numbers) for numbers in zip(*differences, strict=True))
    known = np.isfinite(variance)
    if not known.any():
        return float(np.nanmean(value)), np.nan, np.nan
    value, variance, freedom = value[known], variance[known], freedom[known]
    total = variance.sum()
    mean = Ratios(value.mean(), total / len(value) ** 2, divide(total**2, (variance**2 / freedom).sum()))
    low, high = mean.interval(-1.0)
    return float(mean.value), float(low), float(high)


def flip_pairs(
    decomposition: Decomposition, class_names: Sequence[str], *, clusters: np.ndarray | None = None
) -> pd.DataFrame:
    """Returns the share of each class predicted as each other class, largest lower bound first.

    Args:
        decomposition: of n images.
        class_names: of all C classes.
        clusters: as in `ratios`.

    Returns:
        A row per pair of foreground classes, for at most PAIRS with the most pixels: `truth`, `prediction`; `images`
        that show the class, `flipped_images` of these with such a flip; `pixels`; `share` of the class, `low`, `high`.
    """
    confusion = np.asarray(decomposition.confusion)
    flips = flips_of(confusion.sum(0, dtype=np.int64), background=decomposition.background)
    truth, prediction = np.unravel_index(np.argsort(-flips, axis=None, kind="stable")[:PAIRS], flips.shape)
    kept = flips[truth, prediction] > 0
    truth, prediction = truth[kept], prediction[kept]
    part, whole = confusion[:, truth, prediction], confusion.sum(2)[:, truth]
    rates = ratios(part, whole, clusters)
    low, high = rates.interval()
    names = np.array(class_names, object)
    table = pd.DataFrame(
        {
            "truth": names[truth],
            "prediction": names[prediction],
            "images": (whole > 0).sum(0),
            "flipped_images": (part > 0).sum(0),
            "pixels": part.sum(0, dtype=np.int64),
            "share": rates.value,
            "low": low,
            "high": high,
        }
    )
    order = np.lexsort((-table["share"], -table["low"].fillna(0)))
    return table.iloc[order].reset_index(drop=True).round(DIGITS)
