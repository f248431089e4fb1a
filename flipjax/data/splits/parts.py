"""Divides a pool into train, val and test as `config.split` asks: balanced parts, or folds of images as found."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from flipjax.config import SplitSpec
from flipjax.data.correlation import Table, evaluation_table, largest_n_train, training_table
from flipjax.data.pool import Catalog
from flipjax.data.split import Split, split_pool
from flipjax.data.splits.folds import FoundImages, find_images, fold_split, found_size, found_table


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of a pool, equal for all members of a program.

    Attributes:
        catalog: of the pool.
        sizes: of the configuration.
        split: the objects and scene photos of each part.
        val: the table of the validation images.
        test: the table of the test images.
        found_images: the images as found, and their folds; None without `config.split.folds`.
    """

    catalog: Catalog
    sizes: SplitSpec
    split: Split
    val: Table
    test: Table
    found_images: FoundImages | None

    def training_size(self, rhos: Sequence[float]) -> int:
        """Returns n_train, or the largest number that every level allows."""
        if self.sizes.n_train:
            return self.sizes.n_train
        if self.found_images is not None:
            return found_size(self.found_images)
        return largest_n_train(self.catalog, self.split, rhos=rhos)

    def training_table(
        self, *, rho: float, rare_kept: float, seed: int, n_train: int, rhos: Sequence[float] = ()
    ) -> Table:
        """Draws a member's training set, as `correlation.training_table` or `folds.found_table`."""
        if self.found_images is not None:
            return found_table(self.found_images, self.sizes.fold, rare_kept=rare_kept, seed=seed, n_train=n_train)
        return training_table(self.catalog, self.split, rho=rho, seed=seed, n_train=n_train, rhos=rhos)


def make_parts(catalog: Catalog, sizes: SplitSpec, *, rho: float) -> Parts:
    """Divides a pool, once for all members of a program.

    Args:
        catalog: of the pool.
        sizes: `config.split`.
        rho: with folds, the level at which the objects of a composite pool are shown.

    Raises:
        ValueError: the pool is too small.
    """
    if not sizes.folds:
        split = split_pool(catalog, n_val=sizes.n_val, n_test=sizes.n_test, seed=sizes.seed)
        val = evaluation_table(catalog, split, "val")
        return Parts(catalog, sizes, split, val, evaluation_table(catalog, split, "test"), None)
    found = find_images(catalog, folds=sizes.folds, seed=sizes.seed, rho=rho)
    split = fold_split(catalog, found, sizes.fold)
    val = found.evaluation_table(found.validation(sizes.fold))
    test = found.evaluation_table(np.flatnonzero(found.folds == sizes.fold))
    return Parts(catalog, sizes, split, val, test, found)
