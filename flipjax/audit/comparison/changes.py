"""Tests what got worse or better from one audit to another: flips and misses of each class, in each group of images.

Both audits are of the same images, so differences are paired. All tests are corrected as one family.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from flipjax.audit.comparison.stored import ComparedAudits
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.statistics.intervals import Estimate
from flipjax.metrics.statistics.paired import paired_difference, paired_p_values
from flipjax.metrics.statistics.permutation import LEVEL, false_discovery_q
from flipjax.metrics.summary.evaluate import ratios_of

OUTCOMES = {"flip": "flips", "miss": "is missed"}
"""Outcomes of a class, which are the beginnings of the keys of its rates, in words."""
LEAST_DIFFERENCE = 0.0005
"""Largest difference that has no sentence: it is 0.000 in print."""


@dataclasses.dataclass(frozen=True)
class Change:
    """How the flips, or misses, of a class differ between two audits, in all images or in a group."""

    class_name: str
    """The class."""
    group: str
    """The group, or `all`."""
    outcome: str
    """A key of OUTCOMES."""
    images: int
    """Images that show the class."""
    old: float
    """The share of the class in the old audit."""
    new: float
    """The share in the new audit."""
    difference: Estimate
    """New less old."""
    p: float
    """Probability of such a difference by chance; 1 where no image differs."""
    newly: tuple[str, ...] = ()
    """Names of images in which a whole segment of the class has this outcome in the new audit, but none in the old."""
    no_longer: tuple[str, ...] = ()
    """Names of images in which one has it in the old audit, but none in the new."""
    q: float = math.nan
    """p corrected over all changes that are tests."""

    @property
    def is_test(self) -> bool:
        """Whether the class differs in some image; where it differs in none, nothing is tested."""
        return self.p < 1

    @property
    def has_sentence(self) -> bool:
        """Whether the change is significant, and not 0 in print."""
        return self.q < LEVEL and abs(self.difference.value) > LEAST_DIFFERENCE

    @property
    def is_worse(self) -> bool:
        """Whether more of the class flips, or is missed, than in the old audit."""
        return self.difference.value > 0

    def row(self) -> dict[str, object]:
        """Returns the row of changes.csv."""
        return {
            "class": self.class_name,
            "group": self.group,
            "outcome": self.outcome,
            "images": self.images,
            "old": self.old,
            "new": self.new,
            "difference": self.difference.value,
            "low": self.difference.low,
            "high": self.difference.high,
            "p": self.p,
            "q": self.q,
            "newly_whole": len(self.newly),
            "no_longer_whole": len(self.no_longer),
        }


def find_changes(compared: ComparedAudits) -> list[Change]:
    """Tests the flips and misses of each class in all images and in each group, corrected as one family."""
    changes = []
    for group in compared.new.group_names:
        inside = np.flatnonzero(compared.new.in_group(group))
        clusters = None
        if compared.clusters is not None:
            clusters = compared.clusters[inside]
        old = ratios_of(compared.old.of_group(group))
        new = ratios_of(compared.new.of_group(group))
        for c in compared.new.foreground.tolist():
            for outcome in _outcomes_of(compared):
                key = f"{outcome}/{compared.new.class_names[c]}"
                if new[key].whole.any():
                    change = _change_of(compared, key, group, old[key], new[key], clusters)
                    changes.append(_with_images(change, compared, c, inside))
    return _corrected(changes)


def _outcomes_of(compared: ComparedAudits) -> Sequence[str]:
    """Returns the possible outcomes of a class's pixels: without a background class, none can be missed."""
    if compared.new.background is None:
        return ("flip",)
    return tuple(OUTCOMES)


def _change_of(
    compared: ComparedAudits, key: str, group: str, old: Ratio, new: Ratio, clusters: np.ndarray | None
) -> Change:
    """Returns the change of a rate, not corrected yet.

    Args:
        compared: both audits.
        key: of the rate, `flip/CLASS` or `miss/CLASS`.
        group: of the images.
        old: the pixels with the outcome and all pixels of the class, in each image of the group (m,).
        new: the same of the new audit.
        clusters: of the images of the group, (m,).
    """
    outcome, _, class_name = key.partition("/")
    # The test takes a column for each rate, of which there is one.
    old_column = Ratio(old.part[:, None], old.whole[:, None])
    new_column = Ratio(new.part[:, None], new.whole[:, None])
    [p] = paired_p_values(old_column, new_column, clusters=clusters)
    return Change(
        class_name=class_name,
        group=group,
        outcome=outcome,
        images=int((new.whole > 0).sum()),
        old=float(old.total().value),
        new=float(new.total().value),
        difference=paired_difference(old, new, clusters=clusters),
        p=float(p),
    )


def _with_images(change: Change, compared: ComparedAudits, c: int, inside: np.ndarray) -> Change:
    """Returns the change with the images, of those inside the group, in which whole segments of class c changed."""
    if compared.old_segments is None or compared.new_segments is None:
        return change
    had = compared.old_segments.of_outcome(change.outcome)[inside, c] > 0
    has = compared.new_segments.of_outcome(change.outcome)[inside, c] > 0
    newly = tuple(compared.names[image] for image in inside[has & ~had].tolist())
    no_longer = tuple(compared.names[image] for image in inside[had & ~has].tolist())
    return dataclasses.replace(change, newly=newly, no_longer=no_longer)


def _corrected(changes: Sequence[Change]) -> list[Change]:
    """Returns the changes with q (Benjamini and Hochberg, 1995); where a class differs in no image it is 1."""
    p_values = np.array([change.p for change in changes])
    is_test = np.array([change.is_test for change in changes], bool)
    q_values = np.ones(len(changes))
    if is_test.any():
        q_values[is_test] = false_discovery_q(p_values[is_test])
    return [dataclasses.replace(change, q=q) for change, q in zip(changes, q_values.tolist(), strict=True)]


def changes_table(changes: Sequence[Change]) -> pd.DataFrame:
    """Returns the rows of changes.csv, the smallest q first, then the largest difference."""
    table = pd.DataFrame([change.row() for change in changes])
    if table.empty:
        return table
    # `lexsort` sorts by its last key first.
    order = np.lexsort((-table["difference"].abs().to_numpy(), table["q"].to_numpy()))
    return table.iloc[order].reset_index(drop=True)
