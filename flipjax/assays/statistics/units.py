"""The class, value and cluster of each image, and permutations of the value that keep what must not change."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from flipjax.metrics.statistics.permutation import permute_within


@dataclasses.dataclass(frozen=True, eq=False)
class AssayUnits:
    """The images of an assay.

    Attributes:
        class_: int (n,), from 0.
        value: int (n,), of the attribute, from 0.
        cluster: int (n,), images of one cluster, such as a patient, are not independent.
        classes: F.
        values: V.
    """

    class_: np.ndarray
    value: np.ndarray
    cluster: np.ndarray
    classes: int
    values: int

    @property
    def counts(self) -> np.ndarray:
        """Images of each class with each value, int64 (F, V)."""
        counts = np.zeros((self.classes, self.values), np.int64)
        np.add.at(counts, (self.class_, self.value), 1)
        return counts

    @property
    def clustered(self) -> bool:
        """Whether a cluster has more than one image."""
        return len(np.unique(self.cluster)) < len(self.cluster)

    def where(self, images: np.ndarray) -> "AssayUnits":
        """Returns the images that a bool (n,) chooses."""
        return dataclasses.replace(
            self, class_=self.class_[images], value=self.value[images], cluster=self.cluster[images]
        )


def permuted_values(
    units: AssayUnits, random: np.random.Generator, permutations: int, *, within_classes: bool
) -> tuple[str, Iterator[np.ndarray]]:
    """Permutes the attribute over images, or over whole clusters where each has one value.

    Args:
        units: the images.
        random: draws the permutations.
        permutations: their number.
        within_classes: whether values move only between images (or clusters) of one class, which keeps the association.

    Returns:
        What moves, `images` or `clusters`, and an iterator of values, int (n,).
    """
    stratum = np.zeros_like(units.class_)
    if within_classes:
        stratum = units.class_
    _, blocks = np.unique(np.stack([stratum, units.cluster]), axis=1, return_inverse=True)
    blocks = blocks.ravel()
    _, firsts = np.unique(blocks, return_index=True)
    moved = "clusters"
    if not units.clustered or (units.value != units.value[firsts][blocks]).any():
        moved = "images"
        blocks = np.arange(len(units.value))
        firsts = blocks
    of_block = units.value[firsts]
    of_stratum = stratum[firsts]

    def draw() -> Iterator[np.ndarray]:
        for _ in range(permutations):
            yield permute_within(of_block, of_stratum, permutations=1, generator=random)[0][blocks]

    return moved, draw()
