"""Quantities of members under resampling of the test images: what an interval rests on where seeds are few."""

from collections.abc import Mapping

import numpy as np

from flipjax.metrics import resampled, statistics
from flipjax.results.files import StoredCell
from flipjax.results.quantities import column, of_classes

SAMPLES = 500


class Resamples:
    """Resampled quantities of a run's members, computed when asked for.

    Images of one object are drawn together. All members of a cell see the same resamples, so that differences between
    them are paired.
    """

    def __init__(self, cells: Mapping[str, StoredCell], *, part: str = "test", samples: int = SAMPLES):
        """Starts no work; `cells` by name, as `flipjax.results.load_cell` reads them."""
        self._cells = {member: cell for cell in cells.values() for member in cell.members}
        self._part = part
        self._samples = samples
        self._rows: dict[int, np.ndarray] = {}
        self._values: dict[tuple[str, str], dict[str, np.ndarray]] = {}

    def of(self, member: str, selection: str) -> Mapping[str, np.ndarray]:
        """Returns float64 (samples,) for each quantity, named `<column>/<group>`; empty for an unknown member."""
        cell = self._cells.get(member)
        if cell is None or selection not in cell.selections:
            return {}
        if (member, selection) not in self._values:
            self._values[member, selection] = self._resample(cell, member, selection)
        return self._values[member, selection]

    def _resample(self, cell: StoredCell, member: str, selection: str) -> dict[str, np.ndarray]:
        part = cell.parts[self._part]
        if id(cell) not in self._rows:
            self._rows[id(cell)] = draw_objects(part.groups, part.pairs, samples=self._samples)
        quantities = of_classes(cell.class_names)
        names = {key: f"{column(key)}/all" for key in quantities}
        for group in ("common", "rare"):
            for key, quantity in quantities.items():
                if not quantity.across:
                    names[f"group/{group}/{key}"] = f"{column(key)}/{group}"
        values = resampled(
            cell.counts(member, self._part, selection=selection),
            [key for key in names if "n_images" not in key],
            self._rows[id(cell)],
            groups=part.groups,
            class_names=cell.class_names,
        )
        return {names[key]: value for key, value in values.items()}


def draw_objects(groups: np.ndarray, pairs: np.ndarray, *, samples: int = SAMPLES) -> np.ndarray:
    """Returns resamples of n images, int64 (samples, n): images of one object together, the same ones every time."""
    generator = np.random.default_rng(0)
    strata = statistics.strata(len(groups), groups, pairs)
    return statistics.resample(strata, samples, draw=lambda _, shape: generator.integers(0, shape[1], shape))
