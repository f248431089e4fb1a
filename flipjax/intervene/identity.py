"""What follows from the scene-marginal identity: the split point, the risk, the repair and the reliance on scenes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.metrics.checks import check_logits, to_array
from flipjax.metrics.classes import background_classes, check_background, is_foreground

CENTERS = ("auto", "clusters", "median")
EVEN = 0.25
"""How far the share of a class may be from even, relative to it, for `auto` to take the classes as equally frequent."""


def split_point(log_odds: Any, *, center: Any = "auto") -> jax.Array:
    """Returns the identity at which a model is undecided, from unlabelled images.

    Pasting moves log-odds, so zero is no good split. `median` is the better centre where the classes are equally
    frequent, and does harm where they are not; `clusters` splits the identities into two clusters of least variance
    (of more classes: each against the others) and bears unequal classes. `auto` looks whether the two clusters are
    about even, between 3/8 and 5/8, and takes the median if so; if not, it is the split itself, midway between those of
    least squared and of least absolute distance. A user who knows that the classes are even should say `median`.

    Args:
        log_odds: (n, K, F) of `scene_marginal`; images with NaN are left out.
        center: 'auto', 'clusters', 'median', (F,) numbers, or one number of logit_2 - logit_1 where F = 2.

    Returns:
        (F,) float32, which sum to 0; NaN where no image has a region.

    Raises:
        ValueError: another center, or a shape that does not fit.

    Source: Otsu, A threshold selection method from gray-level histograms, 1979.

    Example:
        >>> log_odds = jnp.array([-4.0, -3.0, -3.0, 5.0])[:, None, None] * jnp.array([-0.5, 0.5])
        >>> split_point(log_odds, center="median").tolist(), split_point(log_odds, center=1.0).tolist()
        ([1.5, -1.5], [-0.5, 0.5])
    """
    identity = _identity(log_odds)
    F = identity.shape[-1]
    if isinstance(center, str):
        if center not in CENTERS:
            raise ValueError(f"center: expected one of {', '.join(CENTERS)}, or numbers, found {center!r}.")
        points = _center(identity, center)
    else:
        points = jnp.asarray(to_array(center), jnp.float32)
        if points.ndim == 0 and F == 2:
            points = jnp.stack([-points, points]) / 2
        if points.shape != (F,):
            raise ValueError(f"center: expected {F} numbers, one a foreground class, found shape {points.shape}.")
    return points - points.mean()


def scene_swap_risk(
    logits: Any, log_odds: Any, *, center: Any, background: int | tuple[int, ...] | None = 0
) -> jax.Array:
    """Returns how strongly the identity of a region speaks against the label that most of it has: it needs no labels.

    The largest log-odds of the other classes less those of the region's own label, both less the centre; above 0 the
    model itself would label the region otherwise on average scenes. Entropy does not see flips that are confident.

    An AUROC inside rare groups alone rewards any detector of "the prediction agrees with the scene": judge the score
    on all groups.

    Args:
        logits: (B, H, W, C) floating point, of the images as they are.
        log_odds: (B, K, F) of `scene_marginal`.
        center: of `split_point`; (F,) numbers, or one number for two foreground classes.
        background: the class that is background, several in a tuple, or None.

    Returns:
        (B,) float32, in nats of log-odds; NaN for an image without predicted foreground.

    Raises:
        TypeError, ValueError: logits or shapes that do not fit.

    Example:
        >>> logits = jax.nn.one_hot(jnp.array([[[0, 1, 1]]]), 3)
        >>> scene_swap_risk(logits, jnp.array([[[-2.0, 2.0]]]), center=0.0).tolist()
        [4.0]
    """
    logits = check_logits(logits, background=background, spatial_ndim=2)
    classes = np.flatnonzero(is_foreground(logits.shape[-1], background))
    _check_fit(logits, log_odds, len(classes))
    relative = _relative(log_odds, center)
    label = region_label(logits, background=background)
    is_own = classes == label[:, None]
    risk = jnp.where(is_own, -jnp.inf, relative).max(-1) - jnp.where(is_own, relative, 0).sum(-1)
    return jnp.where(is_own.any(-1), risk, jnp.nan)


def repair(logits: Any, log_odds: Any, *, center: Any, background: int | tuple[int, ...] | None = 0) -> jax.Array:
    """Returns the predicted labels, with the class of the identity for the whole predicted region.

    The region stays as it is, and so does foreground IoU. What the model knows is brought out and no more: where the
    identities of the classes lie no further apart than by chance, nothing is mended. On data still at the training rho
    repair *raises* Flip, because there the scene is a help: it is for balanced or shifted data. Where two members of
    other seeds agree on the repaired classes with a kappa of 0.6 or more (`flipjax.results.repair_sign`, no labels), it
    did no harm even there; no sign is known of how much it helps on balanced data (sweeps/studies/scene_swap).

    Args:
        logits: (B, H, W, C) floating point, of the images as they are.
        log_odds: (B, K, F) of `scene_marginal`.
        center: of `split_point`; (F,) numbers, or one number for two foreground classes.
        background: the class that is background, several in a tuple, or None.

    Returns:
        (B, H, W) int32; unchanged where there is no region.

    Raises:
        TypeError, ValueError: logits or shapes that do not fit.

    Example:
        >>> logits = jax.nn.one_hot(jnp.array([[[0, 1, 2]]]), 3)
        >>> repair(logits, jnp.array([[[-2.0, 2.0]]]), center=0.0).tolist()
        [[[0, 2, 2]]]
    """
    logits = check_logits(logits, background=background, spatial_ndim=2)
    inside = is_foreground(logits.shape[-1], background)
    _check_fit(logits, log_odds, inside.sum())
    labels = logits.argmax(-1)
    target = repaired_class(log_odds, center=center, background=background)[:, None, None]
    kept = jnp.asarray(inside)
    mended = kept[labels] & (target >= 0) & kept[target]
    return jnp.where(mended, target, labels).astype(jnp.int32)


def repaired_class(log_odds: Any, *, center: Any, background: int | tuple[int, ...] | None = 0) -> jax.Array:
    """Returns the class that `repair` gives a region: (B,) int32; the first background class for an image without.

    Without a background -1 stands for no class.

    Example:
        >>> repaired_class(jnp.array([[[-2.0, 2.0]], [[jnp.nan, jnp.nan]]]), center=0.0).tolist()
        [2, 0]
    """
    relative = _relative(log_odds, center)
    known = background_classes(background)
    classes = np.flatnonzero(is_foreground(relative.shape[-1] + len(known), background))
    label = jnp.asarray(classes)[relative.argmax(-1)]
    return jnp.where(jnp.isnan(relative).any(-1), _nothing(background), label).astype(jnp.int32)


def region_label(logits: Any, *, background: int | tuple[int, ...] | None = 0) -> jax.Array:
    """Returns the label of most of each predicted region: (B,) int32; the first background class where there is none.

    Of labels equally frequent it is the first.

    Example:
        >>> region_label(jax.nn.one_hot(jnp.array([[[0, 1, 2, 2]], [[0, 0, 0, 0]]]), 3)).tolist()
        [2, 0]
    """
    logits = jnp.asarray(to_array(logits))
    labels = logits.argmax(-1)
    C = logits.shape[-1]
    inside = is_foreground(C, check_background(background, C, name="logits"))
    counts = (labels[..., None] == jnp.arange(logits.shape[-1])).sum((-3, -2)) * inside
    return jnp.where(counts.any(-1), counts.argmax(-1), _nothing(background))


def scene_reliance(log_odds: Any) -> jax.Array:
    """Returns the share of the log-odds' variance that the scene makes: it needs no labels and no centre.

    The variance over the kinds of scenes, averaged over images, against the variance of the identity over images.
    Between populations of models it follows the gap Flip(rare) - Flip(common); between two seeds it may not. A high
    value says that there is a scene error to mend, not that the model knows the class.

    Args:
        log_odds: (n, K, F) of `scene_marginal`, K >= 2; images with NaN are left out.

    Returns:
        A float32 number in 0..1; NaN for one kind of scene, or no image with a region.

    Example:
        >>> half = jnp.array([-0.5, 0.5])
        >>> round(scene_reliance(jnp.array([[3.0, 1.0], [-1.0, -3.0]])[..., None] * half).item(), 6)
        0.2
    """
    log_odds = _check_log_odds(log_odds)
    within = jnp.nanmean(log_odds.var(1).sum(-1))
    between = jnp.nanvar(log_odds.mean(1), axis=0).sum()
    return within / (within + between) if log_odds.shape[1] > 1 else jnp.float32(jnp.nan)


def join_members(log_odds: Any, *, center: Any, scale: Any) -> jax.Array:
    """Returns the log-odds of an ensemble, centred: those of each member less its centre, over its scale, averaged.

    Args:
        log_odds: (M, B, K, F), of `scene_marginal` for each member.
        center: (M, F) of `split_point` for each member.
        scale: (M,) of `spread` for each member.

    Returns:
        (B, K, F) float32, for a center of 0; a member without region has no say; NaN where none has one.

    Example:
        >>> halves = jnp.array([-0.5, 0.5])
        >>> members = jnp.array([3.0, 4.0])[:, None, None, None] * halves
        >>> join_members(members, center=jnp.array([1.0, 0.0])[:, None] * halves, scale=[1.0, 2.0]).tolist()
        [[[-1.0, 1.0]]]
    """
    log_odds = jnp.asarray(to_array(log_odds), jnp.float32)
    center = jnp.asarray(to_array(center), jnp.float32)[:, None, None]
    scale = jnp.asarray(to_array(scale), jnp.float32)[:, None, None, None]
    return jnp.nanmean((log_odds - center) / scale, axis=0)


def spread(log_odds: Any) -> jax.Array:
    """Returns the standard deviation of the identity over images, a float32 number: the scale of a member.

    Example:
        >>> spread(jnp.array([3.0, 1.0])[:, None, None] * jnp.array([-0.5, 0.5])).item()
        0.5
    """
    return jnp.sqrt(jnp.nanvar(_identity(log_odds), axis=0).mean())


def _check_log_odds(log_odds: Any) -> jax.Array:
    array = jnp.asarray(to_array(log_odds), jnp.float32)
    if array.ndim != 3 or array.shape[-1] < 2:
        raise ValueError(f"log_odds: expected (images, kinds of scenes, F), F >= 2, found shape {array.shape}.")
    return array


def _identity(log_odds: Any) -> jax.Array:
    return _check_log_odds(log_odds).mean(1)


def _nothing(background: int | tuple[int, ...] | None) -> int:
    """The class of an image without region."""
    return next(iter(background_classes(background)), -1)


def _check_fit(logits: jax.Array, log_odds: Any, F: int) -> None:
    B = len(logits)
    shape = jnp.shape(to_array(log_odds))
    if len(shape) != 3 or (shape[0], shape[2]) != (B, F):
        raise ValueError(f"log_odds: expected ({B}, kinds of scenes, {F}) for logits {logits.shape}, found {shape}.")


def _relative(log_odds: Any, center: Any) -> jax.Array:
    identity = _identity(log_odds)
    return identity - split_point(identity[:, None], center=center)


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
    """The split of each column (n, F) into two clusters of least absolute distance: midway between their medians."""
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
    """Otsu's threshold of each column (n, F), NaN left out: midway between the means of the two clusters."""
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
