"""Resamples of images, drawn with replacement: how often each resample holds each image. NumPy only.

Images that show one object, or come from one patient, form a *set* and are drawn together.
"""

from __future__ import annotations

import collections
import warnings

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.inputs.host import read_integers, read_numbers


def draw_images(
    generator: np.random.Generator,
    n_images: int,
    *,
    samples: int,
    groups: ArrayLike | None = None,
    pairs: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> np.ndarray:
    """Draws resamples of N images with replacement.

    Args:
        generator: of NumPy.
        n_images: N.
        samples: the number of resamples, S.
        groups: int (N,): each image of a resample stands for one of the same group. None: one group.
        pairs: int (N,): images with one number show one object and are drawn together, in place of images of the same
            groups; -1 for a single image.
        clusters: int (N,): whole clusters, such as films or patients, are drawn; -1 for a single image. Sizes of groups
            and resamples vary.

    Returns:
        The count of each image in each resample: whole numbers as float64 (S, N), for BLAS.

    Raises:
        ValueError: arrays that are not N integers, or both pairs and clusters.

    Example:
        >>> counts = draw_images(np.random.default_rng(0), 5, samples=200, clusters=np.array([0, 0, 0, 1, 1]))
        >>> np.unique(counts, axis=0).tolist()
        [[0.0, 0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 0.0, 0.0]]
    """
    if clusters is not None:
        if pairs is not None:
            raise ValueError("clusters: expected none beside pairs; give images of a pair one cluster.")
        set_of_image = read_sets(clusters, n_images=n_images, name="clusters")
        present, index_of_set = np.unique(set_of_image, return_inverse=True)
        return _draw_sets(generator, len(present), samples)[:, index_of_set]
    counts = np.empty((samples, n_images))
    for images_of_sets in _exchangeable_sets(groups, pairs, n_images):
        # All images of a set are held as often as the set is drawn.
        counts[:, images_of_sets] = _draw_sets(generator, len(images_of_sets), samples)[:, :, None]
    return counts


def _draw_sets(generator: np.random.Generator, number: int, samples: int) -> np.ndarray:
    """Draws `number` of `number` sets with replacement: how often each resample holds each set, (samples, number)."""
    sets = generator.integers(0, number, (samples, number))
    # A number for each set of each resample, so that one count serves all resamples.
    codes = sets + number * np.arange(samples)[:, None]
    return np.bincount(codes.ravel(), minlength=samples * number).reshape(samples, number).astype(np.float64)


def _exchangeable_sets(groups: ArrayLike | None, pairs: ArrayLike | None, n_images: int) -> list[np.ndarray]:
    """Returns the sets whose images have the same groups, and so may be drawn in place of each other.

    Each array is int (sets, images of a set): the indices of the images of each set.
    """
    group = np.zeros(n_images, np.int64)
    if groups is not None:
        group = read_integers(groups, n_images=n_images, name="groups")
    set_of_image = read_sets(pairs, n_images=n_images, name="pairs")
    # The images of each set in order of their groups, so that they change places with those of the same groups.
    images_of_set: dict[int, list[int]] = collections.defaultdict(list)
    for image in np.argsort(group, kind="stable").tolist():
        images_of_set[int(set_of_image[image])].append(image)
    sets_with_groups: dict[tuple[int, ...], list[list[int]]] = collections.defaultdict(list)
    for images in images_of_set.values():
        sets_with_groups[tuple(group[images].tolist())].append(images)
    # In order of the groups, which fixes the draws.
    return [np.array(sets_with_groups[groups_of_set], np.int64) for groups_of_set in sorted(sets_with_groups)]


def read_sets(numbers: ArrayLike | None, *, n_images: int, name: str) -> np.ndarray:
    """Returns the set of each image as a number, int (N,): images with one number are drawn together.

    Args:
        numbers: int (N,), such as pairs or clusters; below 0 for an image that is drawn alone. None: all are.
        n_images: N.
        name: of the argument, for messages.

    Returns:
        An image that is drawn alone has a number below 0 that no other image has.

    Raises:
        ValueError: not N integers.

    Example:
        >>> read_sets([4, -1, 4, -1], n_images=4, name="pairs").tolist()
        [4, -2, 4, -4]
    """
    set_of_image = np.full(n_images, -1)
    if numbers is not None:
        set_of_image = read_integers(numbers, n_images=n_images, name=name)
    return np.where(set_of_image < 0, -1 - np.arange(n_images), set_of_image)


def read_counts(counts: ArrayLike, n_images: int) -> np.ndarray:
    """Returns how often each resample holds each image, float64 (S, N).

    Raises:
        TypeError: no numbers.
        ValueError: another shape, or other than whole numbers of 0 or more.
    """
    numbers = read_numbers(counts, name="counts")
    if numbers.ndim != 2 or numbers.shape[1] != n_images or not len(numbers):
        raise ValueError(f"counts: expected (samples, {n_images}), found {numbers.shape}.")
    # The negated form also rejects NaN.
    wrong = ~((numbers >= 0) & (numbers < 1 << 31) & (numbers == np.floor(numbers)))
    if wrong.any():
        raise ValueError(f"counts: expected whole numbers in 0..2^31 - 1, found {numbers[wrong][0]}.")
    return numbers


def percentile_ends(values: np.ndarray) -> np.ndarray:
    """Returns the 95% percentile interval of the values of S resamples (S, ...), without those that are NaN: (2, ...).

    Example:
        >>> percentile_ends(np.array([1.0, np.nan, 2.0, 3.0])).tolist()
        [1.05, 2.95]
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        return np.nanpercentile(values, (2.5, 97.5), axis=0)
