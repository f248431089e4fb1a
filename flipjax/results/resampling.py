"""Quantities of members under resampling of the test images: what an interval rests on where seeds are few."""

import functools
from collections.abc import Mapping

import numpy as np

from flipjax.metrics import resampled, statistics
from flipjax.metrics.selective import AurocEstimate
from flipjax.metrics.summary import risk_aurocs
from flipjax.results.cells import StoredCell
from flipjax.results.quantities import PULL_QUANTITIES, column, of_classes

SAMPLES = 500


class Resamples:
    """Resampled quantities of a run's members, computed when asked for.

    Images of one object are drawn together. All members of a cell see the same resamples, so that differences between
    them are paired.
    """

    def __init__(self, cells: Mapping[str, StoredCell], *, samples: int = SAMPLES):
        """Starts no work; `cells` by name, as `flipjax.results.cells.load_cell` reads them."""
        self._cells = {member: cell for cell in cells.values() for member in cell.members}
        self._samples = samples
        self._draws: dict[int, statistics.Draws] = {}
        self._values: dict[tuple[str, str, bool], dict[str, np.ndarray]] = {}
        self._aurocs: dict[tuple[str, str], dict[str, AurocEstimate]] = {}

    def of(self, member: str, selection: str, quantity: str) -> np.ndarray | None:
        """Returns a quantity, named `<column>/<group>`, of each resample: float64 (samples,); None where unknown."""
        cell = self._cells.get(member)
        names = {} if cell is None else _names(cell.class_names)
        if cell is None or selection not in cell.selections or quantity not in names:
            return None
        # Those that need a ranking of the images take ten times as long as the others.
        place = member, selection, _ranked(names[quantity])
        if place not in self._values:
            part, options = cell.parts["test"], {"class_names": cell.class_names, "all_groups": cell.groups}
            if id(cell) not in self._draws:
                rows = draw_objects(part.groups, part.pairs, samples=self._samples)
                self._draws[id(cell)] = statistics.Draws(rows, len(part.groups), keep=True)
            counts = cell.decomposition(member, "test", selection=selection)
            keys = [key for key in names.values() if _ranked(key) == place[2]]
            self._values[place] = resampled(counts, keys, self._draws[id(cell)], groups=part.groups, **options)
        return self._values[place][names[quantity]]

    def auroc(self, member: str, selection: str, quantity: str) -> AurocEstimate | None:
        """Returns a member's `risk_auroc/<group>` with its interval; None where unknown."""
        cell = self._cells.get(member)
        if cell is None or selection not in cell.selections:
            return None
        if (member, selection) not in self._aurocs:
            part = cell.parts["test"]
            counts = cell.decomposition(member, "test", selection=selection)
            self._aurocs[member, selection] = risk_aurocs(counts, part.groups, pairs=part.pairs, all_groups=cell.groups)
        return self._aurocs[member, selection].get(_names(cell.class_names).get(quantity, ""))


@functools.cache
def _names(class_names: tuple[str, ...]) -> dict[str, str]:
    """Returns the keys of `summarize` by the names of their quantities."""
    table = of_classes(class_names) | (PULL_QUANTITIES if len(class_names) > 3 else {})
    quantities = {key: quantity for key, quantity in table.items() if "n_images" not in key}
    names = {f"{column(key)}/all": key for key in quantities}
    for group in ("common", "rare"):
        names |= {f"{column(key)}/{group}": f"group/{group}/{key}" for key, q in quantities.items() if not q.across}
    return names


def _ranked(key: str) -> bool:
    return key.rpartition("/")[2] in statistics.RANKED


def draw_objects(groups: np.ndarray, pairs: np.ndarray, *, samples: int = SAMPLES) -> np.ndarray:
    """Returns resamples of n images, int64 (samples, n): images of one object together, the same ones every time."""
    return statistics.draw_images(
        np.random.default_rng(0), len(groups), samples=samples, groups=groups, pairs=pairs
    ).rows
