"""The identity at which a model is undecided between classes: its centre."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from flipjax.intervene.quota import quota_center
from flipjax.metrics.checks import to_array
from flipjax.metrics.classes import Background, is_foreground

CENTERS = ("auto", "clusters", "median", "quota")
EVEN = 0.25
"""How far the share of a class may be from even, relative to it, for `auto` to take the classes as equally frequent."""
SUM = 1e-3
"""How far the sum of a prior may be from 1."""


def split_point(log_odds: Any, *, center: Any = None, prior: Any = None) -> jax.Array:
    """Returns the identity at which a model is undecided, from unlabelled images.

    Pasting moves log-odds, so zero is no good split. `median` is the better centre where the classes are equally
    frequent, and does harm where they are not; `clusters` splits the identities into two clusters of least variance
    (of more classes: each against the others) and bears unequal classes. `auto` looks whether the two clusters are
    about even, between 3/8 and 5/8, and takes the median if so; if not, it is the split itself, midway between those of
    least squared and of least absolute distance. A user who knows that the classes are even should say `median`.

    `quota` is the centre of more than two classes, which are seldom even: with it the identity of regions is each class
    as often as the prior says, to one region. With two classes as frequent, and an even number of images, it is the
    median. A class whose share is 0 is left out: its centre is infinite.

    Args:
        log_odds: (n, K, F) of `scene_marginal`; images with NaN are left out.
        center: 'auto', of two classes alone, 'clusters', 'median', 'quota', (F,) numbers, or one number of
            logit_2 - logit_1 where F = 2. None: 'auto' where F = 2, else 'quota'.
        prior: (F,) shares that sum to 1, for 'quota': yours, or the predicted ones of usual images (`label_shares`).

    Returns:
        (F,) float32, which sum to 0 over the classes that are not left out; NaN where no image has a region.

    Raises:
        ValueError: another center, 'auto' for more than two classes, no prior where one is needed, one that is none,
            or a shape that does not fit.

    Source: Otsu, A threshold selection method from gray-level histograms, 1979; for the correction of class shares
    Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a priori probabilities, 2002.

    Example:
        >>> log_odds = jnp.array([-4.0, -3.0, -3.0, 5.0])[:, None, None] * jnp.array([-0.5, 0.5])
        >>> split_point(log_odds, center="median").tolist(), split_point(log_odds, center=1.0).tolist()
        ([1.5, -1.5], [-0.5, 0.5])
    """
    identity = mean_over_scenes(log_odds)
    F = identity.shape[-1]
    if center is None:
        center = "auto" if F == 2 else "quota"
    named = isinstance(center, str)
    if prior is not None and not (named and center == "quota"):
        raise ValueError(f"prior: expected none for the centre {center!r}, found one; 'quota' takes it.")
    if named and center not in CENTERS:
        raise ValueError(f"center: expected one of {', '.join(CENTERS)}, or numbers, found {center!r}.")
    if named and center == "auto" and F > 2:
        raise ValueError(f"center: expected 'quota' for {F} classes, found 'auto', which holds them to be even.")
    if named and center == "quota":
        if prior is None:
            raise ValueError(f"prior: expected the shares of {F} classes for 'quota', as of label_shares, found none.")
        shares = check_shares(prior, F, name="prior")
        if not isinstance(shares, Tracer) and (shares > 0).sum() < 2:
            raise ValueError(f"prior: expected two shares or more above 0, found {np.asarray(shares).tolist()}.")
        points = quota_center(identity, shares)
    elif named:
        points = _center(identity, center)
        # A masked mean rounds otherwise.
        return points - points.mean()
    else:
        points = jnp.asarray(to_array(center), jnp.float32)
        if points.ndim == 0 and F == 2:
            points = jnp.stack([-points, points]) / 2
        if points.shape != (F,):
            raise ValueError(f"center: expected {F} numbers, one a foreground class, found shape {points.shape}.")
    return points - points.mean(where=points < jnp.inf)


def label_shares(labels: Any, *, num_classes: int, background: Background = 0) -> np.ndarray:
    """Returns the share of each foreground class among labels of regions, float64 (F,): a prior for `split_point`.

    Args:
        labels: integers (n,) of `region_label`, of usual images; those of no region do not count.
        num_classes: C, with the background.
        background: the class that is background, several in a tuple, or None.

    Raises:
        ValueError: no label of a foreground class.

    Example:
        >>> label_shares([1, 1, 2, 0, 1], num_classes=4).tolist()
        [0.75, 0.25, 0.0]
    """
    array = np.asarray(to_array(labels))
    counts = np.bincount(array[array >= 0], minlength=num_classes)[:num_classes]
    counts = counts[is_foreground(num_classes, background)]
    if not counts.any():
        raise ValueError("labels: expected a label of a foreground class, found none.")
    return counts / counts.sum()


def check_log_odds(log_odds: Any) -> jax.Array:
    """Returns log-odds as float32 (n, K, F).

    Raises:
        ValueError: another shape.
    """
    array = jnp.asarray(to_array(log_odds), jnp.float32)
    if array.ndim != 3 or array.shape[-1] < 2:
        raise ValueError(f"log_odds: expected (images, kinds of scenes, F), F >= 2, found shape {array.shape}.")
    return array


def mean_over_scenes(log_odds: Any) -> jax.Array:
    """Returns the scene-marginal identity (n, F) of log-odds (n, K, F)."""
    return check_log_odds(log_odds).mean(1)


def check_shares(values: Any, count: int, *, name: str) -> jax.Array:
    """Returns shares that sum to 1 as float32 (count,).

    Raises:
        ValueError: another shape, or, where values are known, shares below 0, NaN or of another sum.
    """
    shares = jnp.asarray(to_array(values, name=name), jnp.float32)
    if shares.shape != (count,):
        raise ValueError(f"{name}: expected {count} numbers, found shape {shares.shape}.")
    # Written so that NaN fails, too.
    if not isinstance(shares, Tracer) and not (shares.min() >= 0 and abs(shares.sum() - 1) <= SUM):
        raise ValueError(f"{name}: expected numbers of 0 or more that sum to 1, found {np.asarray(shares).tolist()}.")
    return shares


def _center(identity: jax.Array, center: str) -> jax.Array:
    F = identity.shape[-1]
    even = jnp.nanquantile(identity, (F - 1) / F, axis=0)
    if center == "median":
        return even
    squares = _otsu(identity)
    if center == "clusters":
        return squares
    split = (squares + _least_distance(identity)) / 2
    share = jnp.nanmean(jnp.where(jnp.isnan(identity), jnp.nan, identity > split), axis=0)
    return jnp.where((jnp.abs(F * share - 1) <= EVEN).all(), even, split)


def _least_distance(values: jax.Array) -> jax.Array:
    """Splits each column (n, F) into two clusters of least absolute distance: midway between their medians."""
    n = (~jnp.isnan(values)).sum(0)
    ordered = jnp.sort(values, axis=0)
    centred = jnp.nan_to_num(ordered - jnp.nanmedian(values, axis=0))
    sums = jnp.pad(jnp.cumsum(centred, axis=0), ((1, 0), (0, 0)))
    columns = jnp.arange(values.shape[1])

    def total(count: jax.Array) -> jax.Array:
        return sums[jnp.clip(count, 0, len(values)), columns]

    def distance(start: jax.Array, end: jax.Array) -> jax.Array:
        half = (end - start) // 2
        return total(end) - total(end - half) - total(start + half) + total(start)

    def middle(start: jax.Array, end: jax.Array) -> jax.Array:
        low, high = (start + end - 1) // 2, (start + end) // 2
        return (ordered[low, columns] + ordered[high, columns]) / 2

    first = jnp.arange(1, len(values))[:, None] + jnp.zeros_like(n)
    cost = jnp.where(first < n, distance(jnp.zeros_like(first), first) + distance(first, n + first * 0), jnp.inf)
    best = 1 + cost.argmin(0) if len(values) > 1 else jnp.ones_like(n)
    split = (middle(jnp.zeros_like(n), best) + middle(best, n)) / 2
    return jnp.where(n > 1, split, jnp.nanmean(values, axis=0))


def _otsu(values: jax.Array) -> jax.Array:
    """Returns Otsu's threshold of each column (n, F), NaN left out: midway between the means of the two clusters."""
    count = (~jnp.isnan(values)).sum(0)
    ordered = jnp.sort(values, axis=0)
    shift = jnp.nanmean(values, axis=0)
    below = jnp.cumsum(jnp.where(jnp.isnan(ordered), 0, ordered - shift), axis=0)
    size = jnp.arange(1, len(values) + 1)[:, None]
    other = count - size
    # With the mean at 0, the clusters' sums are opposite: the variance between them is sum^2 (1/n + 1/m) / count.
    between = jnp.where(other > 0, below**2 * (1 / size + 1 / jnp.maximum(other, 1)), -jnp.inf)
    best = between.argmax(0)
    columns = jnp.arange(values.shape[1])
    low = below[best, columns] / (best + 1)
    high = -below[best, columns] / jnp.maximum(count - best - 1, 1)
    return jnp.where(count > 1, shift + (low + high) / 2, shift)
