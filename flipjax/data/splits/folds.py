"""Cross-testing: divides the images of a pool, as they are found, into folds that are each tested once.

A pool whose class and scene already go together has few rare images, and test sets that are balanced over groups would
take most of them. With `config.split.folds` = K, every image is tested by networks that trained on the other folds, and
training sets hold the images in the proportions in which they are found. Draws are those of
`flipjax.data.split`.
"""

import dataclasses

import numpy as np

from flipjax.config import ConfigError
from flipjax.config.groups import Groups
from flipjax.data.correlation import Table, half_of_each_group
from flipjax.data.part_names import FREE
from flipjax.data.pool import Catalog
from flipjax.data.seeded_order import scene_orders
from flipjax.data.split import Split, SplitPart, clusters_of, shuffle, strata

VALIDATION = 8
"""The images outside the tested fold are divided into so many parts, of which one is for validation."""


@dataclasses.dataclass(frozen=True)
class FoundImages:
    """The images of a pool as they are found, and their folds.

    Attributes:
        rows: int32 (n, 2), object (or photo) index and scene-photo index (-1 in a photo pool), as `gather` takes.
        groups: int32 (n,), as in `flipjax.config.groups.Groups`.
        clusters: (n,), images of one cluster, such as those of a patient, stay in one fold.
        folds: int32 (n,), the fold in which an image is tested, from 0.
        all_groups: says which groups are rare.
        seed: of the split.
    """

    rows: np.ndarray
    groups: np.ndarray
    clusters: np.ndarray
    folds: np.ndarray
    all_groups: Groups
    seed: int

    @property
    def rare(self) -> np.ndarray:
        """Whether each image is of a rare group, bool (n,)."""
        return np.isin(self.groups, self.all_groups.rare)

    def validation(self, fold: int) -> np.ndarray:
        """Returns the indices of the validation images beside a tested fold, int64."""
        beside = np.flatnonzero(self.folds != fold)
        clusters = self.clusters[beside]
        parts = min(VALIDATION, len(np.unique(clusters)))
        if parts < 2:
            raise ValueError("config.split.folds: expected two or more images or clusters beside each fold")
        part_of_image = fold_numbers(self.groups[beside], clusters, folds=parts, seed=self.seed)
        return beside[part_of_image == 0]

    def training(self, fold: int) -> np.ndarray:
        """Returns the indices of all training images beside a tested fold, int64."""
        is_training = self.folds != fold
        is_training[self.validation(fold)] = False
        return np.flatnonzero(is_training)

    def evaluation_table(self, indices: np.ndarray) -> Table:
        """Returns the table of a validation or test set, without counterfactual sets."""
        groups = self.groups[indices]
        return Table(self.rows[indices], groups, np.full(len(indices), -1, np.int32), half_of_each_group(groups))


def find_images(catalog: Catalog, *, folds: int, seed: int, rho: float) -> FoundImages:
    """Lists the images of a pool and their folds.

    A photo shows its own scene. In a composite pool each object gets one scene: a fraction rho of a class its usual
    ones in turn, the others its other scenes in turn; and the scene photos are divided over the folds, too.

    Args:
        catalog: the pool's catalog, without fixed parts.
        folds: their number, two or more.
        seed: the split's seed, >= 0.
        rho: fraction of a class's objects in a usual scene; photos keep their own.

    Raises:
        ValueError: fixed parts, or fewer images, clusters or scene photos than folds.

    Example:
        >>> from flipjax.data.pool import PoolItem
        >>> photos = [PoolItem(f"{i}", y=i % 2, scene=(i % 2) ^ (i < 4)) for i in range(20)]
        >>> catalog = Catalog("an example", "photo", ("cat", "dog"), ("land", "water"), photos)
        >>> found = find_images(catalog, folds=2, seed=0, rho=1.0)
        >>> [np.bincount(found.groups[found.folds == fold]).tolist() for fold in range(2)]
        [[4, 1, 1, 4], [4, 1, 1, 4]]
    """
    if (catalog.object_split != FREE).any() or (catalog.scene_split != FREE).any():
        raise ValueError("config.split.folds: expected a pool without fixed parts, since every image is tested once")
    if catalog.kind == "photo":
        groups = strata(catalog).astype(np.int32)
    else:
        groups = _paired_groups(catalog, rho=rho, seed=seed)
    clusters = clusters_of(catalog)
    fold_of_image = fold_numbers(groups, clusters, folds=folds, seed=seed)
    photos = np.full(len(groups), -1)
    if catalog.kind == "composite":
        photos = _paired_photos(catalog, groups, fold_of_image, folds=folds, seed=seed)
    rows = np.stack([np.arange(len(groups)), photos], axis=1).astype(np.int32)
    return FoundImages(rows, groups, clusters, fold_of_image, catalog.groups, seed)


def _paired_groups(catalog: Catalog, *, rho: float, seed: int) -> np.ndarray:
    """Returns the group of each object of a composite pool, int32 (N,)."""
    groups = catalog.groups
    scenes = np.empty(len(catalog.objects), np.int32)
    for y, (usual, others) in enumerate(zip(*scene_orders(groups), strict=True)):
        objects = shuffle(np.flatnonzero(catalog.object_class == y), seed, f"fold scenes {y}")
        common = round(rho * len(objects))
        scenes[objects[:common]] = np.resize(usual, common)
        scenes[objects[common:]] = np.resize(others, len(objects) - common)
    return groups.of(catalog.object_class, scenes).astype(np.int32)


def _paired_photos(
    catalog: Catalog, groups: np.ndarray, fold_of_image: np.ndarray, *, folds: int, seed: int
) -> np.ndarray:
    """Returns the scene photo behind each object, int64 (N,); each photo is shown in one fold alone."""
    scenes = catalog.groups.scene_of(groups)
    photos = np.empty(len(groups), np.int64)
    for kind, name in enumerate(catalog.scene_names):
        order = shuffle(np.flatnonzero(catalog.scene_kind == kind), seed, f"fold photos {kind}")
        if len(order) < folds:
            raise ValueError(f"config.split.folds: expected at most the {len(order)} scene photos of kind {name!r}")
        for fold in range(folds):
            shown = np.flatnonzero((scenes == kind) & (fold_of_image == fold))
            photos[shown] = np.resize(order[fold::folds], len(shown))
    return photos


def fold_numbers(groups: np.ndarray, clusters: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
    """Assigns images to folds so that each fold holds about as many of each group; clusters are never divided.

    Images that are each their own cluster take turns, so that sizes differ by at most one. Larger clusters go,
    the largest first, to the fold that has the least of their groups.

    Args:
        groups: int (n,), the group of each image.
        clusters: int (n,), the cluster of each image.
        folds: their number.
        seed: of the draw, >= 0.

    Returns:
        The fold of each image, int32 (n,).

    Raises:
        ValueError: fewer clusters than folds.

    Example:
        >>> fold_numbers(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 3]), folds=2, seed=0).tolist()
        [0, 0, 1, 1, 1, 0]
    """
    count = len(np.unique(clusters))
    if count < folds:
        raise ValueError(f"config.split.folds: expected at most the {count} images or clusters, found {folds}")
    if count == len(groups):
        return _assign_images(groups, folds=folds, seed=seed)
    return _assign_clusters(groups, clusters, folds=folds, seed=seed)


def _assign_images(groups: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
    """Assigns the images of one group after the other to folds in turn; int32 (n,)."""
    fold_of_image = np.empty(len(groups), np.int32)
    assigned = 0
    for group in np.unique(groups):
        order = shuffle(np.flatnonzero(groups == group), seed, f"fold {group}")
        fold_of_image[order] = (assigned + np.arange(len(order))) % folds
        assigned += len(order)
    return fold_of_image


def _assign_clusters(groups: np.ndarray, clusters: np.ndarray, *, folds: int, seed: int) -> np.ndarray:
    """Assigns clusters, the largest first, to the fold that has the least of their groups; int32 (n,)."""
    names, cluster_of_image, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    counts = np.zeros((len(names), groups.max() + 1))
    np.add.at(counts, (cluster_of_image, groups), 1)
    # What each cluster, and then each fold, holds of each group, as a fraction of the group.
    cluster_shares = counts / np.maximum(1, counts.sum(0))
    fold_shares = np.zeros((folds, counts.shape[1]))
    fold_of_image = np.empty(len(groups), np.int32)
    order = shuffle(np.arange(len(names)), seed, "fold clusters")
    for cluster in order[np.argsort(-sizes[order], kind="stable")]:
        fold = np.argmin(fold_shares @ cluster_shares[cluster])
        fold_shares[fold] += cluster_shares[cluster]
        fold_of_image[cluster_of_image == cluster] = fold
    return fold_of_image


def fold_split(catalog: Catalog, images: FoundImages, fold: int) -> Split:
    """Returns the objects and scene photos of each part when a fold is tested."""
    return Split(
        train=_part_of(images, images.training(fold)),
        val=_part_of(images, images.validation(fold)),
        test=_part_of(images, np.flatnonzero(images.folds == fold)),
    )


def _part_of(images: FoundImages, indices: np.ndarray) -> SplitPart:
    """Returns the objects of some images, and the scene photos that they show."""
    objects, photos = images.rows[indices].T
    return SplitPart(objects, np.unique(photos[photos >= 0]).astype(np.int32))


def found_table(images: FoundImages, fold: int, *, rare_kept: float, seed: int, n_train: int) -> Table:
    """Draws a member's training set: all common images outside a fold and a fraction of each rare group.

    Draws are nested: of one seed, fewer rare images are a part of more. Images are repeated in proportion to their
    groups until there are n_train, so that tables of all fractions have one length.

    Args:
        images: those found.
        fold: the tested one.
        rare_kept: fraction of the images of each rare group that are kept, in [0, 1], rounded to a number of images.
        seed: the member's seed, >= 0.
        n_train: number of rows.

    Example:
        >>> groups = np.repeat(np.arange(4, dtype=np.int32), [8, 4, 4, 8])
        >>> rows = np.stack([np.arange(24), np.full(24, -1)], axis=1)
        >>> images = FoundImages(rows, groups, np.arange(24), np.arange(24) % 2, Groups(), seed=0)
        >>> [np.bincount(found_table(images, 0, rare_kept=kept, seed=1, n_train=12).groups).tolist() for kept in (1, 0)]
        [[4, 2, 2, 4], [6, 0, 0, 6]]
    """
    outside = images.training(fold)
    groups = images.groups[outside]
    kept: list[np.ndarray] = []
    ranks: list[np.ndarray] = []
    for group in np.unique(groups):
        order = shuffle(outside[groups == group], seed, f"found images {group}")
        if group in images.all_groups.rare:
            order = order[: round(rare_kept * len(order))]
        kept.append(order)
        ranks.append((np.arange(len(order)) + 0.5) / max(1, len(order)))
    unsorted = np.concatenate(kept)
    # Sorted by relative rank, every beginning holds the groups in about their proportions.
    trained = unsorted[np.argsort(np.concatenate(ranks), kind="stable")]
    if len(trained) == 0:
        raise ConfigError("config.split.rare_kept", "training images beside the tested fold", "none")
    repeated = np.resize(trained, n_train)
    return Table(
        rows=images.rows[repeated],
        groups=images.groups[repeated],
        pairs=np.full(n_train, -1, np.int32),
        refit=np.zeros(n_train, bool),
    )


def found_size(images: FoundImages) -> int:
    """Returns the largest number of training images beside any fold: tables of all folds have this length."""
    return max(len(images.training(fold)) for fold in np.unique(images.folds))
