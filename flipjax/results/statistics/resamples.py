"""Intervals over the test images of trained models, from what each image left behind."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.images import Images
from flipjax.metrics.quantities import SWEPT
from flipjax.metrics.statistics.draws import draw_images, percentile_ends, read_sets
from flipjax.metrics.statistics.intervals import estimate_mean
from flipjax.metrics.summary.evaluate import evaluate, ratios_of, with_group
from flipjax.metrics.summary.resampling import auroc_intervals
from flipjax.results.cells import Cell, cells_by_member
from flipjax.results.rows import COMPARED

SAMPLES = 500
"""Resamples of an interval."""
IMAGES_INTERVAL = "95% interval over the test images, for these models"
RESAMPLED = [evaluator for evaluator in SWEPT if evaluator.resampled]
"""The quantities with an interval from resamples."""
AUROCS = ("risk_auroc", "swap_auroc")
"""The quantities whose interval is Newcombe's."""


class Resamples:
    """Intervals of quantities of a run's members over the test images, computed lazily.

    Images of one object count as one, and all members of a result file see the same resamples.
    """

    def __init__(self, cells: Mapping[str, Cell], *, samples: int = SAMPLES):
        """Takes result files by their path, as `StoredRun.cells`, and the number of resamples."""
        self._cells = cells_by_member(cells)
        self._samples = samples
        # The weights of images in each resample, by the identity of the cell.
        self._draws: dict[int, np.ndarray] = {}

    def intervals(self, members: Sequence[str], selection: str) -> dict[str, np.ndarray]:
        """Returns the 95% interval (2,) of each quantity's mean over members, empty if no images are stored.

        A rate has that of `metrics.statistics.intervals.estimate_mean`, which knows how members depend on the same
        images. An AUROC has the mean of the members' own intervals, and all others have bootstrap percentiles.
        """
        models = []
        resampled = []
        for member in members:
            cell = self._cells.get(member)
            if cell is None or selection not in cell.rules:
                return {}
            images = cell.images_of(member, "test", selection)
            models.append(images)
            resampled.append(self._resampled_values(cell, images))
        if not models:
            return {}
        intervals = _rate_intervals(models)
        for key in resampled[0]:
            intervals[key] = percentile_ends(np.mean([values[key] for values in resampled], axis=0))
        aurocs = [_auroc_ends(images) for images in models]
        for key in aurocs[0]:
            intervals[key] = np.mean([ends[key] for ends in aurocs], axis=0)
        return intervals

    def _resampled_values(self, cell: Cell, images: Images) -> dict[str, np.ndarray]:
        """Returns the value (samples,) of each of RESAMPLED on each resample of a member's images, by key.

        All members of a result file share the resamples, so that differences are paired.
        """
        if id(cell) not in self._draws:
            generator = np.random.default_rng(0)
            self._draws[id(cell)] = draw_images(
                generator, len(images.group), samples=self._samples, groups=images.group, pairs=images.pair
            )
        resampled = dataclasses.replace(images, weights=self._draws[id(cell)])
        return {value.name: value.value for value in evaluate(resampled, groups=COMPARED, evaluators=RESAMPLED)}


def _rate_intervals(models: Sequence[Images]) -> dict[str, np.ndarray]:
    """Returns the interval (2,) of the mean over models of each rate, by key."""
    intervals = {}
    for group in COMPARED:
        of_group = [images.of_group(group) for images in models]
        # All models have the same images. Those of one object count as one.
        clusters = read_sets(of_group[0].pair, n_images=len(of_group[0]), name="pair")
        ratios_of_model = [ratios_of(images, evaluators=SWEPT) for images in of_group]
        for key in ratios_of_model[0]:
            # (images, models).
            part = np.stack([ratios[key].part for ratios in ratios_of_model], axis=1)
            whole = np.stack([ratios[key].whole for ratios in ratios_of_model], axis=1)
            mean = estimate_mean(Ratio(part, whole), clusters=clusters)
            intervals[with_group(key, group)] = np.array([mean.low, mean.high])
    return intervals


def _auroc_ends(images: Images) -> dict[str, np.ndarray]:
    """Returns the interval (2,) of each AUROC of a model, by key."""
    names = [with_group(key, group) for group in COMPARED for key in AUROCS]
    return {key: np.array(ends) for key, ends in auroc_intervals(images, names, pairs=images.pair).items()}
