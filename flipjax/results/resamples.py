"""Intervals over the test images of trained models: bootstrap resamples of what each image left behind."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from flipjax.metrics.evaluate import evaluate, with_group
from flipjax.metrics.quantities import SWEPT
from flipjax.metrics.resampling import draw_images, percentile_ends
from flipjax.metrics.summary import auroc_intervals
from flipjax.results.cells import Cell, cells_by_member
from flipjax.results.rows import COMPARED

SAMPLES = 500
"""Resamples of an interval."""
IMAGES_INTERVAL = "95% interval over the test images, for these models"
RESAMPLED = [evaluator for evaluator in SWEPT if evaluator.resampled]
"""The quantities with an interval over images."""
AUROCS = ("risk_auroc", "swap_auroc")
"""The quantities whose interval does not come from resamples."""


@dataclasses.dataclass(frozen=True)
class _MemberResamples:
    """One member's quantities on resampled images."""

    values: dict[str, np.ndarray]
    """Resamples (samples,) of each quantity, by key."""
    auroc_ends: dict[str, np.ndarray]
    """The interval (2,) of each AUROC, by key."""


class Resamples:
    """Quantities of a run's members on resampled test images, computed lazily.

    Images of one object are drawn together, and all members of a cell see the same resamples.
    """

    def __init__(self, cells: Mapping[str, Cell], *, samples: int = SAMPLES):
        """Takes the cells of `flipjax.results.load`, by place."""
        self._cells = cells_by_member(cells)
        self._samples = samples
        self._draws: dict[int, np.ndarray] = {}

    def intervals(self, members: Sequence[str], selection: str) -> dict[str, np.ndarray]:
        """Returns the 95% interval (2,) of each quantity's mean over members, empty if no images are stored.

        Uses bootstrap percentiles; for an AUROC, the mean of the members' own intervals.
        """
        resamples = []
        for member in members:
            cell = self._cells.get(member)
            if cell is None or selection not in cell.rules:
                return {}
            resamples.append(self._of(member, cell, selection))
        if not resamples:
            return {}
        intervals = {}
        for key in resamples[0].values:
            intervals[key] = percentile_ends(np.mean([member.values[key] for member in resamples], axis=0))
        for key in resamples[0].auroc_ends:
            intervals[key] = np.mean([member.auroc_ends[key] for member in resamples], axis=0)
        return intervals

    def _of(self, member: str, cell: Cell, selection: str) -> _MemberResamples:
        """Evaluates one member on resamples; all members of a cell share the draws, so that differences are paired."""
        images = cell.images_of(member, "test", selection)
        if id(cell) not in self._draws:
            generator = np.random.default_rng(0)
            self._draws[id(cell)] = draw_images(
                generator, len(images.group), samples=self._samples, groups=images.group, pairs=images.pair
            )
        drawn = dataclasses.replace(images, weights=self._draws[id(cell)])
        evaluated = evaluate(drawn, groups=COMPARED, evaluators=RESAMPLED)
        values = {quantity.name: quantity.value for quantity in evaluated}
        names = [with_group(key, group) for group in COMPARED for key in AUROCS]
        aurocs = auroc_intervals(images, names, pairs=images.pair)
        return _MemberResamples(values, {key: np.array(ends) for key, ends in aurocs.items()})
