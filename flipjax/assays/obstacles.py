"""Reasons why no network can tell whether an attribute is a shortcut, checked before training."""

import numpy as np

from flipjax.assays.inputs import AssayImages
from flipjax.assays.statistics.association import Association
from flipjax.assays.statistics.contrast import contrast_weights
from flipjax.assays.statistics.verdict import UNKNOWN, AssayVerdict
from flipjax.support.terminal import listed

PER_FOLD = 2
"""Images of each group that a fold needs on average."""
FEWEST_CLUSTERS = 2
"""Clusters of each group without which nothing tells how far clusters differ."""


def find_obstacle(images: AssayImages, association: Association) -> AssayVerdict | None:
    """Returns `cannot be told`, with the reason and the data that would tell, or None if networks can tell."""
    attribute = images.attribute
    folds = len(np.unique(images.found.folds))
    least = PER_FOLD * folds
    classes, values = association.counts.shape
    if values > classes and association.counts.sum(0).max() < least:
        return AssayVerdict(
            UNKNOWN,
            f"{attribute} has {values} values, and none has the {least} images that each group needs, {PER_FOLD} for "
            f"each of {folds} folds.",
            "Fewer values, such as low and high in place of a number, or more images would tell.",
        )
    if association.counter_examples.sum() == 0:
        return AssayVerdict(
            UNKNOWN,
            f"{attribute} is the class: no counter-example exists, so that nothing separates the two.",
            f"Images of each class with every {attribute} would tell.",
        )
    if contrast_weights(association.counts, association.usual) is None:
        empty = empty_groups(images, association)
        return AssayVerdict(
            UNKNOWN,
            f"No image shows {listed(empty)}: the other groups are too few to tell a shortcut from a harder class "
            "or value.",
            f"Images of {listed(empty)} would tell.",
        )
    few = _smaller(images, association.counts, least)
    if few:
        return AssayVerdict(
            UNKNOWN,
            f"Too few images of {listed(few)}: {least} are needed, {PER_FOLD} for each of {folds} folds.",
            f"More such images would tell, or fewer folds: --folds 2 needs {2 * PER_FOLD}.",
        )
    lonely = _smaller(images, cluster_counts(images), FEWEST_CLUSTERS)
    if lonely:
        return AssayVerdict(
            UNKNOWN,
            f"All images of {listed(lonely)} are of one cluster: nothing tells how far clusters differ.",
            "Images of further clusters would tell.",
        )
    return None


def empty_groups(images: AssayImages, association: Association) -> list[str]:
    """Returns the names of the groups without images."""
    return [_group_name(images, y, value) for y, value in np.argwhere(association.counts == 0)]


def notes_on_empty_groups(images: AssayImages, association: Association) -> list[str]:
    """Returns a sentence for each group without images."""
    names = empty_groups(images, association)
    return [f"No image shows {name}: the contrast rests on the other groups." for name in names]


def cluster_counts(images: AssayImages) -> np.ndarray:
    """Returns the number of clusters of each class with each value, int64 (F, V)."""
    units = images.units
    of_groups = np.unique(np.stack([units.class_, units.value, units.cluster]), axis=1)
    counts = np.zeros((units.classes, units.values), np.int64)
    np.add.at(counts, (of_groups[0], of_groups[1]), 1)
    return counts


def _smaller(images: AssayImages, counts: np.ndarray, least: int) -> list[str]:
    """Returns the groups with fewer than `least`, but any, of what is counted, with their numbers."""
    return [
        f"{_group_name(images, y, value)} ({count})"
        for (y, value), count in np.ndenumerate(counts)
        if 0 < count < least
    ]


def _group_name(images: AssayImages, y: int, value: int) -> str:
    names = images.catalog
    return f"{names.class_names[y]} with {images.attribute} {names.scene_names[value]}"
