"""Curves and matrices over the test images of a run, from its stored decompositions: means over seeds."""

from typing import NamedTuple

import numpy as np

from flipjax.metrics import statistics, summarize
from flipjax.metrics.decomposition import Decomposition
from flipjax.report.run import Run, images_of
from flipjax.results.cells import Row
from flipjax.results.rows import axes_of

COVERAGE = np.linspace(0.02, 1, 50)


class Ranking(NamedTuple):
    """Of one setting, means over seeds: risk, nats, and flip (10,) by flip-risk decile; flip (50,) at COVERAGE."""

    setting: Row
    risk: np.ndarray
    flip: np.ndarray
    remaining: np.ndarray


class Matrix(NamedTuple):
    """Of one setting: the pixels of its test images over all seeds, (C, C), rows the truth; the classes' names."""

    setting: Row
    confusion: np.ndarray
    class_names: tuple[str, ...]


def rankings(run: Run) -> list[Ranking]:
    """Returns the test images sorted by flip-risk: deciles, and what is left when the riskiest are set aside."""
    names = [name for name in axes_of(run.rows) if name != "seed"]
    curves: dict[tuple, list[np.ndarray]] = {}
    for images in images_of(run):
        decomposition = Decomposition(images.confusion, images.risk_sum)
        summary = summarize(decomposition)
        values = [summary["risk_decile"], summary["flip_by_risk_decile"], remaining(decomposition)]
        curves.setdefault(tuple(images.record[name] for name in names), []).append(np.concatenate(values))
    table = []
    for setting, values in curves.items():
        means = np.split(mean_of_finite(np.stack(values)), [10, 20])
        table.append(Ranking(dict(zip(names, setting, strict=True)), *means))
    return table


def remaining(decomposition: Decomposition) -> np.ndarray:
    """Returns the mean flip share (50,) of the images of least flip-risk, at the shares of images COVERAGE.

    NaN where no image has a flip-risk.

    Example:
        >>> counts = np.array([[[5, 0, 0], [0, 4, 0], [0, 0, 0]], [[5, 0, 0], [0, 0, 0], [0, 2, 2]]])
        >>> remaining(Decomposition(counts, np.array([1.0, 2.0])))[[0, 24, 25, 49]].tolist()
        [0.0, 0.0, 0.25, 0.25]
    """
    images = statistics.read_images(decomposition)
    count = np.count_nonzero(images.ranked)
    if not count:
        return np.full(len(COVERAGE), np.nan)
    flip = images.flip[np.argsort(images.rank)[:count]]
    # A share that is not a whole number of images is rounded up.
    places = np.ceil(np.round(COVERAGE * count, 9)).astype(int) - 1
    return (np.cumsum(flip) / np.arange(1, count + 1))[places]


def matrices(run: Run) -> list[Matrix]:
    """Returns which class is predicted as which, for each setting."""
    names = [name for name in axes_of(run.rows) if name != "seed"]
    sums: dict[tuple, np.ndarray] = {}
    for images in images_of(run):
        key = tuple(images.record[name] for name in names), images.class_names
        confusion = images.confusion.sum(0, dtype=np.int64)
        sums[key] = sums[key] + confusion if key in sums else confusion
    return [
        Matrix(dict(zip(names, setting, strict=True)), confusion, classes)
        for (setting, classes), confusion in sums.items()
    ]


def mean_of_finite(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the first axis; NaN where no value is finite."""
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    total = np.where(finite, values, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)
