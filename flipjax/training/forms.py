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
    return _packable(_logits, _logits, experiment)(weights, deal_batch(images))


def loss_and_gradients(
    experiment: Experiment,
    weights: Weights,
    images: jax.Array,
    masks: jax.Array,
    groups: jax.Array,
    knobs: Knobs,
    group_weights: jax.Array,
) -> tuple[jax.Array, Any, Any, jax.Array]:
    """Returns the loss of a training batch, the parameters' gradients, the statistics and the group weights after it.

    Images (B, H, W, 3), masks (B, H, W) and groups (B,) as `flipjax.training.step.make_batch` makes them.
    """
    knobs = jax.tree.map(jnp.asarray, knobs)
    function = _packable(_loss_and_gradients, _pack_loss_and_gradients, experiment)
    return function(weights, deal_batch(images), deal_batch(masks), groups, knobs, group_weights)


def _packable(alone: Callable, packed: Callable, experiment: Experiment) -> Callable:
    """Returns `alone`, for one member; mapped over members of a packed experiment it is `packed`, once for all.

    Both take the experiment first. Arguments of `packed` have a leading axis of members, all but images that are the
    same for all.
    """
    function = functools.partial(alone, experiment)
    if not experiment.packed:
        return function
    mapped = custom_vmap(function)

    @mapped.def_vmap
    def rule(members: int, batched: Any, *arguments: Any) -> tuple[Any, Any]:
        assert all(jax.tree.leaves(batched[0])), "the weights are each member's own"
        outputs = packed(experiment, *arguments)
        return outputs, jax.tree.map(lambda _: True, outputs)

    return mapped


def _logits(experiment: Experiment, weights: Weights, images: jax.Array) -> jax.Array:
    return apply(experiment, *weights, images, training=False)[0]


def _loss_and_gradients(
    experiment: Experiment, weights: Weights, images: jax.Array, masks: jax.Array, *rest: Any
) -> tuple[jax.Array, Any, Any, jax.Array]:
    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        logits, statistics = apply(experiment, params, weights.statistics, images, training=True)
        loss, group_weights = losses.batch_loss(logits, masks, *rest, own=functions_of(experiment.train.loss))
        return loss, (statistics, group_weights)

    (loss, (statistics, group_weights)), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights.params)
    return loss, gradients, statistics, group_weights


def _pack_loss_and_gradients(
    experiment: Experiment, weights: Weights, images: jax.Array, masks: jax.Array, *rest: Any
) -> tuple[jax.Array, Any, Any, jax.Array]:
    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        logits, statistics = apply(experiment, params, weights.statistics, images, training=True)
        batch_loss = functools.partial(losses.batch_loss, own=functions_of(experiment.train.loss))
        each, group_weights = jax.vmap(batch_loss)(logits, masks, *rest)
        return each.sum(), (each, statistics, group_weights)

    (_, (each, statistics, group_weights)), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights.params)
    return each, gradients, statistics, group_weights
