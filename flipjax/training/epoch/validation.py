"""Validation: measures a member on the validation images after an epoch, and scores it for each selection rule.

A selection rule (`config.train.selection`) keeps the weights of the epoch with its lowest score.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from flipjax import losses, metrics
from flipjax.config import Experiment
from flipjax.config.ranges import functions_of
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool, at_strength, gather, inputs_of
from flipjax.metrics.decomposition import pixel_ratios
from flipjax.support.arrays import Array
from flipjax.training.member import Member, State
from flipjax.training.network.forward import Weights, evaluation_batch, logits_of, map_batches


class Validation(NamedTuple):
    """A member's measures on the validation images used for selection: float32 scalars.

    Example:
        >>> validation = Validation(
        ...     loss=0.4, loss_at_rho=0.3, worst_group_iou=0.6, flip=0.1, risk=0.2, cross_entropy=0.4
        ... )
        >>> validation.scores(jnp.int32(3))["val_worst_group_iou"]
        -0.6
    """

    loss: jax.Array
    """The loss of the member's own method, averaged over groups with equal weights so that epochs are comparable; for
    the reference's GroupDRO its robust loss, as in the paper's code. Losses of other methods have other scales."""
    loss_at_rho: jax.Array
    """The member's loss, averaged over groups with the weights that they have in the training set."""
    worst_group_iou: jax.Array
    """The lowest over groups of the IoU of a group's class."""
    flip: jax.Array
    """Flipped pixels as a fraction of the true foreground of all images."""
    risk: jax.Array
    """Mean flip-risk in nats over images that have one; needs no labels."""
    cross_entropy: jax.Array
    """The cross-entropy in nats, averaged over groups with equal weights: one scale for all methods."""

    def scores(self, epoch: jax.Array) -> dict[str, jax.Array]:
        """Returns the score that each selection rule minimises; an epoch whose score is NaN is never kept."""
        return {
            "val_loss": self.loss,
            "val_loss_at_rho": self.loss_at_rho,
            "val_cross_entropy": self.cross_entropy,
            "val_worst_group_iou": -self.worst_group_iou,
            "val_flip": self.flip,
            "label_free_risk": self.risk,
            "last": -epoch.astype(jnp.float32),
        }


def validate(
    experiment: Experiment, member: Member, pool: Pool, state: State, table: Table
) -> tuple[Validation, jax.Array]:
    """Measures a member on an evaluation table, in evaluation mode.

    Returns:
      The validation, and the member's group weights (G,), which only the reference's GroupDRO updates here.
    """
    images = _measure_images(experiment, member, pool, state.evaluated, table)
    groups = jnp.asarray(table.groups)
    count = experiment.groups.count
    # 1 for images that select. Those that DFR refits the head on have 0 in a member with DFR, whose knob is 1.
    selecting = jnp.where(jnp.asarray(table.refit), 1 - member.knobs.dfr, 1.0)
    group_losses, _ = losses.group_means(images.loss, groups, num_groups=count, weights=selecting)
    group_entropies, _ = losses.group_means(images.cross_entropy, groups, num_groups=count, weights=selecting)
    loss = group_losses.mean()
    training_counts = jax.nn.one_hot(member.groups, count).sum(0)
    loss_at_rho = _weighted_sum(group_losses, training_counts) / len(member.groups)
    cross_entropy = _weighted_sum(group_entropies, jnp.ones(count)) / count
    group_weights = state.group_weights
    if "dro_reference" in experiment.active_knobs:
        robust_loss, new_group_weights = losses.reference_validation(
            images.loss, groups, group_weights, step_size=member.knobs.dro_step, batch_size=experiment.train.batch_size
        )
        is_reference = member.knobs.dro_reference > 0
        loss = jnp.where(is_reference, robust_loss, loss)
        group_weights = jnp.where(is_reference, new_group_weights, group_weights)
    confusion = images.decomposition.confusion * selecting[:, None, None]
    has_risk = (selecting > 0) & jnp.isfinite(images.decomposition.flip_risk)
    validation = Validation(
        loss=loss,
        loss_at_rho=loss_at_rho,
        worst_group_iou=_worst_group_iou(experiment, confusion, groups),
        flip=pixel_ratios(confusion.sum(0)).flip.value,
        risk=jnp.where(has_risk, images.decomposition.flip_risk, 0.0).sum() / has_risk.sum(),
        cross_entropy=cross_entropy,
    )
    return validation, group_weights


class _ImageMeasures(NamedTuple):
    """What is measured of each of n images."""

    loss: jax.Array
    """The loss of the member's own method, (n,)."""
    cross_entropy: jax.Array
    """In nats, (n,)."""
    decomposition: metrics.Decomposition
    """Confusion matrices (n, C, C) and summed flip-risk (n,)."""


def _measure_images(
    experiment: Experiment, member: Member, pool: Pool, weights: Weights, table: Table
) -> _ImageMeasures:
    """Returns the measures of a table's images, which show the cue at the member's strength."""
    pool = at_strength(pool, member.cue_strength)
    own_losses = functions_of(experiment.train.loss)

    def measure(batch: jax.Array) -> _ImageMeasures:
        rows = batch[:, :2]
        groups = batch[:, 2]
        images, masks = gather(pool, rows)
        logits = logits_of(experiment, weights, inputs_of(pool, rows, images))
        return _ImageMeasures(
            loss=losses.image_loss(logits, masks, groups, member.knobs, own_losses=own_losses),
            cross_entropy=losses.cross_entropy(logits, masks),
            decomposition=metrics.decompose(logits, masks),
        )

    # One array, as `map_batches` takes: a table's rows and, in a third column, its groups.
    rows_and_groups = jnp.concatenate([jnp.asarray(table.rows), jnp.asarray(table.groups)[:, None]], axis=1)
    return map_batches(measure, rows_and_groups, largest=evaluation_batch(experiment))


def _weighted_sum(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the weighted sum of values (G,), one group after another.

    XLA does not fuse across a loop, so this sum rounds identically for one member and for many.
    """

    def add(group: int, total: jax.Array) -> jax.Array:
        return total + weights[group] * values[group]

    return jax.lax.fori_loop(0, len(values), add, jnp.float32(0))


def _worst_group_iou(experiment: Experiment, confusion: Array, groups: jax.Array) -> jax.Array:
    """Returns the lowest over groups of the IoU of a group's class, of confusion matrices (n, C, C)."""
    count = experiment.groups.count
    by_group = jnp.einsum("ng,nij->gij", jax.nn.one_hot(groups, count), confusion)
    group = jnp.arange(count)
    # Class y, from 0, has the label y + 1.
    label = 1 + experiment.groups.class_of(group)
    return pixel_ratios(by_group).iou.value[group, label].min()
