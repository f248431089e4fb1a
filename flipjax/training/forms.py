"""The forms of a member's heavy work: by itself, and under a map over members as one pack."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.sharding import PartitionSpec as P

from flipjax import losses
from flipjax.config import Experiment
from flipjax.methods import Knobs
from flipjax.ranges import functions_of
from flipjax.training.member import Weights, apply

BATCH = "batch"
"""The axis of a mesh whose devices share each batch."""


def deal_batch(images: jax.Array) -> jax.Array:
    """Deals images (B, ...) over the devices that share a batch; without any it is the identity."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.lax.with_sharding_constraint(images, P(BATCH)) if BATCH in mesh.axis_names else images


def logits_of(experiment: Experiment, weights: Weights, images: jax.Array) -> jax.Array:
    """Returns logits (B, H, W, C) float32 of images (B, H, W, 3), in evaluation mode."""

    def logits(weights: Weights, images: jax.Array) -> jax.Array:
        return apply(experiment, *weights, images, training=False)[0]

    return _packable(logits, logits, experiment)(weights, deal_batch(images))


def loss_and_gradients(
    experiment: Experiment, weights: Weights, batch: tuple[jax.Array, ...], knobs: Knobs, group_weights: jax.Array
) -> tuple[jax.Array, Any, Any, jax.Array]:
    """Returns the loss of a training batch, the parameters' gradients, the statistics and the group weights after it.

    Batch: images (B, H, W, 3), masks (B, H, W) and groups (B,) as `flipjax.training.step.make_batch` makes them.
    """
    knobs = jax.tree.map(jnp.asarray, knobs)
    batch_loss = functools.partial(losses.batch_loss, own=functions_of(experiment.train.loss))
    alone, packed = (
        functools.partial(_loss_and_gradients, experiment, each) for each in (batch_loss, jax.vmap(batch_loss))
    )
    function = _packable(alone, packed, experiment)
    images, masks, groups = batch
    return function(weights, (deal_batch(images), deal_batch(masks), groups), knobs, group_weights)


def _packable(alone: Callable, packed: Callable, experiment: Experiment) -> Callable:
    """Returns `alone`, for one member; mapped over members of a packed experiment it is `packed`, once for all.

    Arguments of `packed` have a leading axis of members, all but images that are the same for all.
    """
    if not experiment.packed:
        return alone
    mapped = custom_vmap(alone)

    @mapped.def_vmap
    def rule(members: int, batched: Any, *arguments: Any) -> tuple[Any, Any]:
        assert all(jax.tree.leaves(batched[0])), "the weights are each member's own"
        outputs = packed(*arguments)
        return outputs, jax.tree.map(lambda _: True, outputs)

    return mapped


def _loss_and_gradients(
    experiment: Experiment, batch_loss: Callable, weights: Weights, batch: tuple[jax.Array, ...], *rest: Any
) -> tuple[jax.Array, Any, Any, jax.Array]:
    """Returns as `loss_and_gradients` does; a pack's losses are added up, whose gradients are each member's own."""
    images, masks, groups = batch

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        logits, statistics = apply(experiment, params, weights.statistics, images, training=True)
        each, group_weights = batch_loss(logits, masks, groups, *rest)
        return each.sum(), (each, statistics, group_weights)

    (_, (each, statistics, group_weights)), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights.params)
    return each, gradients, statistics, group_weights
