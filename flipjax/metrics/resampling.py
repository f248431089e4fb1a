"""Resamples of images, and the percentile intervals that follow from them. NumPy only."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.host import read_array, read_numbers


def draw_images(
    generator: np.random.Generator,
    images: int,
    *,
    samples: int,
    groups: ArrayLike | None = None,
    pairs: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> np.ndarray:
    """Draws resamples of images with replacement.

    Args:
        generator: of NumPy.
        images: N.
        samples: S.
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

    def draw(number: int) -> np.ndarray:
        """Returns how often each of `number` sets is drawn, in place of all of them: (S, number)."""
        places = generator.integers(0, number, (samples, number)) + number * np.arange(samples)[:, None]
        return np.bincount(places.ravel(), minlength=samples * number).reshape(samples, number).astype(np.float64)

    if clusters is not None:
        if pairs is not None:
            raise ValueError("clusters: expected none beside pairs; give images of a pair one cluster.")
        present, cluster = np.unique(read_together("clusters", clusters, images), return_inverse=True)
        return draw(len(present))[:, cluster]
    counts = np.empty((samples, images))
    for stratum in strata_of(groups, pairs, images):
        counts[:, stratum] = draw(len(stratum))[:, :, None]
    return counts


def strata_of(groups: ArrayLike | None, pairs: ArrayLike | None, images: int) -> list[np.ndarray]:
    """Returns the sets of images that may be drawn in place of each other: int (sets, size) for each kind."""
    group = np.zeros(images, np.int64)
    if groups is not None:
        group = read_integers("groups", groups, images)
    pair = read_together("pairs", pairs, images)
    sets: dict[int, list[int]] = {}
    for image in np.argsort(group, kind="stable").tolist():
        sets.setdefault(int(pair[image]), []).append(image)
    strata: dict[tuple[int, ...], list[list[int]]] = {}
    for members in sets.values():
        strata.setdefault(tuple(group[members].tolist()), []).append(members)
    return [np.array(strata[kind], np.int64) for kind in sorted(strata)]


def read_integers(name: str, values: ArrayLike, images: int) -> np.ndarray:
    """Returns values as integers (N,); raises ValueError if they are not N integers."""
    numbers = read_array(values, name=name)
    if numbers.shape != (images,) or numbers.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected {images} integers, found {numbers.dtype} of shape {numbers.shape}.")
    return numbers


def read_counts(counts: ArrayLike, images: int) -> np.ndarray:
    """Returns how often each resample holds each image, float64 (S, N).

    Raises:
        TypeError: no numbers.
        ValueError: another shape, or other than whole numbers of 0 or more.
    """
    numbers = read_numbers(counts, name="counts")
    if numbers.ndim != 2 or numbers.shape[1] != images or not len(numbers):
        raise ValueError(f"counts: expected (samples, {images}), found {numbers.shape}.")
    # The negated form also rejects NaN.
    wrong = ~((numbers >= 0) & (numbers < 1 << 31) & (numbers == np.floor(numbers)))
    if wrong.any():
        raise ValueError(f"counts: expected whole numbers in 0..2^31 - 1, found {numbers[wrong][0]}.")
    return numbers


def read_together(name: str, values: ArrayLike | None, images: int) -> np.ndarray:
    """Returns numbers (N,) of what is drawn together, a unique one for each single image."""
    numbers = np.full(images, -1)
    if values is not None:
        numbers = read_integers(name, values, images)
    return np.where(numbers < 0, -1 - np.arange(images), numbers)


def percentile_ends(values: np.ndarray) -> np.ndarray:
    """Returns the 95% percentile interval of resamples (S, ...), ignoring NaN: (2, ...)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        return np.nanpercentile(values, (2.5, 97.5), axis=0)
