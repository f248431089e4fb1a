"""What follows from the scene-marginal identity: the risk, the repair and the reliance on scenes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.intervene.center import check_log_odds, mean_over_scenes, split_point
from flipjax.intervene.regions import no_class, region_label, region_rows, warn_of_objects
from flipjax.metrics.checks import check_logits, to_array
from flipjax.metrics.classes import Background, background_classes, is_foreground


def scene_swap_risk(
    logits: Any, log_odds: Any, *, center: Any, regions: Any = "image", background: Background = 0
) -> jax.Array:
    """Returns how strongly the identity of a region speaks against the label that most of it has: it needs no labels.

    The largest log-odds of the other classes less those of the region's own label, both less the centre; above 0 the
    model itself would label the region otherwise on average scenes. Entropy does not see flips that are confident.

    An AUROC inside rare groups alone rewards any detector of "the prediction agrees with the scene": judge the score
    on all groups.

    Args:
        logits: (B, H, W, C) floating point, of the images as they are.
        log_odds: (N, K, F) of `scene_marginal`, with the same regions.
        center: of `split_point`; (F,) numbers, or one number for two foreground classes.
        regions: as in `scene_marginal`.
        background: the class that is background, several in a tuple, or None.

    Returns:
        (N,) float32, in nats of log-odds; NaN for an image without predicted foreground.

    Raises:
        TypeError, ValueError: logits or shapes that do not fit.

    Example:
        >>> logits = jax.nn.one_hot(jnp.array([[[0, 1, 1]]]), 3)
        >>> scene_swap_risk(logits, jnp.array([[[-2.0, 2.0]]]), center=0.0).tolist()
        [4.0]
    """
    logits = check_logits(logits, background=background, spatial_ndim=2)
    classes = np.flatnonzero(is_foreground(logits.shape[-1], background))
    label = region_label(logits, regions=regions, background=background)
    _check_fit(len(label), log_odds, len(classes))
    relative = _relative(log_odds, center)
    is_own = classes == label[:, None]
    risk = jnp.where(is_own, -jnp.inf, relative).max(-1) - jnp.where(is_own, relative, 0).sum(-1)
    return jnp.where(is_own.any(-1), risk, jnp.nan)


def repair(logits: Any, log_odds: Any, *, center: Any, regions: Any = "image", background: Background = 0) -> jax.Array:
    """Returns the predicted labels, each region's those of its identity: for scenes that training did not show, alone.

    Opt-in: its use is a test on scenes that training did not show, with labels balanced over them. Of cats and dogs on
    forest and sea a published model had .12 [.04, .20] more regions right by 'quota'. Elsewhere it does harm, for there
    the scene helps: of VOC-val's regions the same model had .23 [.15, .29] fewer right by 'quota', .31 by 'clusters'
    (sweeps/studies/published_models).

    The region stays as it is, and so does foreground IoU. What the model knows is brought out and no more: where the
    identities of the classes lie no further apart than by chance, nothing is mended. On data still at the training rho
    repair *raises* Flip. Where two members of other seeds agree on the repaired classes with a kappa of 0.6 or more
    (`flipjax.results.repair_sign`, no labels), it did no harm even there; no sign is known of how much it helps on
    balanced data (sweeps/studies/scene_swap).

    Args:
        logits: (B, H, W, C) floating point, of the images as they are.
        log_odds: (N, K, F) of `scene_marginal`, with the same regions.
        center: of `split_point`; (F,) numbers, or one number for two foreground classes.
        regions: as in `scene_marginal`.
        background: the class that is background, several in a tuple, or None.

    Returns:
        (B, H, W) int32; unchanged where there is no region.

    Raises:
        TypeError, ValueError: logits or shapes that do not fit.

    Warns:
        UserWarning: images with several objects of different classes that are one region each.

    Example:
        >>> logits = jax.nn.one_hot(jnp.array([[[0, 1, 2]]]), 3)
        >>> repair(logits, jnp.array([[[-2.0, 2.0]]]), center=0.0).tolist()
        [[[0, 2, 2]]]
    """
    logits = check_logits(logits, background=background, spatial_ndim=2)
    inside = is_foreground(logits.shape[-1], background)
    labels = logits.argmax(-1)
    warn_of_objects(logits, regions=regions, background=background, stacklevel=2)
    rows, count = region_rows(logits, regions=regions, background=background)
    _check_fit(count, log_odds, inside.sum())
    # The last row, -1, is that of no region.
    target = jnp.append(repaired_class(log_odds, center=center, background=background), -1)[rows]
    return jnp.where((target >= 0) & jnp.asarray(inside)[target], target, labels).astype(jnp.int32)


def repaired_class(log_odds: Any, *, center: Any, background: Background = 0) -> jax.Array:
    """Returns the class that `repair` gives a region: (N,) int32; the first background class for an image without.

    Without a background -1 stands for no class.

    Example:
        >>> repaired_class(jnp.array([[[-2.0, 2.0]], [[jnp.nan, jnp.nan]]]), center=0.0).tolist()
        [2, 0]
    """
    relative = _relative(log_odds, center)
    known = background_classes(background)
    classes = np.flatnonzero(is_foreground(relative.shape[-1] + len(known), background))
    label = jnp.asarray(classes)[relative.argmax(-1)]
    return jnp.where(jnp.isnan(relative).any(-1), no_class(background), label).astype(jnp.int32)


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
    log_odds = check_log_odds(log_odds)
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
    return jnp.sqrt(jnp.nanvar(mean_over_scenes(log_odds), axis=0).mean())


def _check_fit(regions: int, log_odds: Any, F: int) -> None:
    shape = jnp.shape(to_array(log_odds))
    if len(shape) != 3 or (shape[0], shape[2]) != (regions, F):
        raise ValueError(
            f"log_odds: expected ({regions}, kinds of scenes, {F}), a row for each of {regions} regions of the logits, "
            f"found {shape}."
        )


def _relative(log_odds: Any, center: Any) -> jax.Array:
    identity = mean_over_scenes(log_odds)
    return identity - split_point(identity[:, None], center=center)
