"""Validation: what selects a member's weights after an epoch, measured on the validation images."""

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
    """The lowest IoU over groups, each of its own class."""
    flip: jax.Array
    """Fraction of the true foreground."""
    risk: jax.Array
    """Mean flip-risk in nats over images that have one; needs no labels."""
    cross_entropy: jax.Array
    """The cross-entropy in nats, averaged over groups with equal weights: one scale for all methods."""

    def scores(self, epoch: jax.Array) -> dict[str, jax.Array]:
        """Returns the score minimised by each selection rule; NaN is never selected."""
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
    """Validates a member on an evaluation table, in evaluation mode.

    A member with DFR is selected on the images not used for the refit.

    Returns:
      The validation, and the group weights, which only the reference's GroupDRO updates here.
    """
    image_losses, cross_entropies, decomposition = _measure(experiment, member, pool, state.evaluated, table)
    groups = jnp.asarray(table.groups)
    count = experiment.groups.count
    # 1 for images that select, 0 for those that DFR refits the head on.
    selecting = jnp.where(jnp.asarray(table.refit), 1 - member.knobs.dfr, 1.0)
    group_losses, _ = losses.group_means(image_losses, groups, num_groups=count, weights=selecting)
    group_entropies, _ = losses.group_means(cross_entropies, groups, num_groups=count, weights=selecting)
    loss = group_losses.mean()
    training_counts = jax.nn.one_hot(member.groups, count).sum(0)
    loss_at_rho = _sum_over_groups(group_losses, training_counts) / len(member.groups)
    cross_entropy = _sum_over_groups(group_entropies, jnp.ones(count)) / count
    group_weights = state.group_weights
    if "dro_reference" in experiment.active_knobs:
        robust, moved = losses.reference_validation(
            image_losses, groups, group_weights, step_size=member.knobs.dro_step, batch_size=experiment.train.batch_size
        )
        is_reference = member.knobs.dro_reference > 0
        loss = jnp.where(is_reference, robust, loss)
        group_weights = jnp.where(is_reference, moved, group_weights)
    confusion = decomposition.confusion * selecting[:, None, None]
    has_risk = (selecting > 0) & jnp.isfinite(decomposition.flip_risk)
    validation = Validation(
        loss=loss,
        loss_at_rho=loss_at_rho,
        worst_group_iou=_worst_group_iou(experiment, confusion, groups),
        flip=pixel_ratios(confusion.sum(0)).flip.value,
        risk=jnp.where(has_risk, decomposition.flip_risk, 0.0).sum() / has_risk.sum(),
        cross_entropy=cross_entropy,
    )
    return validation, group_weights


def _measure(
    experiment: Experiment, member: Member, pool: Pool, weights: Weights, table: Table
) -> tuple[jax.Array, jax.Array, metrics.Decomposition]:
    """Returns the member's own loss (n,), the cross-entropy (n,) and the decomposition of each image of a table."""
    pool = at_strength(pool, member.cue_strength)
    own_losses = functions_of(experiment.train.loss)

    def of_batch(batch: jax.Array) -> tuple[jax.Array, jax.Array, metrics.Decomposition]:
        rows = batch[:, :2]
        groups = batch[:, 2]
        images, masks = gather(pool, rows)
        logits = logits_of(experiment, weights, inputs_of(pool, rows, images))
        image_losses = losses.image_loss(logits, masks, groups, member.knobs, own_losses=own_losses)
        return image_losses, losses.cross_entropy(logits, masks), metrics.decompose(logits, masks)

    rows_and_groups = jnp.concatenate([jnp.asarray(table.rows), jnp.asarray(table.groups)[:, None]], axis=1)
    return map_batches(of_batch, rows_and_groups, largest=evaluation_batch(experiment))


def _sum_over_groups(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns the weighted sum of values (G,), one group after another.

    XLA does not fuse across a loop, so this sum rounds identically for one member and for many.
    """

    def add(group: int, total: jax.Array) -> jax.Array:
        return total + weights[group] * values[group]

    return jax.lax.fori_loop(0, len(values), add, jnp.float32(0))


def _worst_group_iou(experiment: Experiment, confusion: Array, groups: jax.Array) -> jax.Array:
    """Returns the lowest IoU over groups, each of its own class, of confusion matrices (n, C, C)."""
    count = experiment.groups.count
    by_group = jnp.einsum("ng,nij->gij", jax.nn.one_hot(groups, count), confusion)
    group = jnp.arange(count)
    # Class y, from 0, has the label y + 1.
    label = 1 + experiment.groups.class_of(group)
    return pixel_ratios(by_group).iou.value[group, label].min()
