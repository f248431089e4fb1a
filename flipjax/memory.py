"""How much memory a cell needs, from the shapes of its program alone: no backend starts."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from flipjax import losses
from flipjax.config import Experiment, PopulationSpec
from flipjax.methods import Knobs
from flipjax.models.convolution import plain
from flipjax.plan import Cell, describe, pool_bytes, state_bytes, working_bytes
from flipjax.population import DEFAULT_WIDTH
from flipjax.train import Weights, apply, build, weights_of

GPU_BYTES = 80e9
MARGIN = 2.0
"""Shapes tell neither what XLA fuses nor in which order it works: a member's work is counted this many times."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """`parameters` of the model, and two numbers of bytes for a training step.

    `activations` is what the forward pass keeps for the backward one, and `working` what a member at work holds beside
    its state: activations, gradients, and two of the largest arrays of the forward pass.
    """

    parameters: int
    activations: int
    working: int


def estimate(experiment: Experiment) -> Estimate:
    """Traces the loss of a training batch and adds up the arrays that its backward pass reads."""
    weights = jax.eval_shape(lambda: weights_of(build(experiment, jax.random.key(0))))
    size, batch = experiment.pool.size, experiment.train.batch_size
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch, size, size), jnp.int32)

    def kept(weights: Weights, images: Any, labels: Any) -> list[Any]:
        def loss(params: Any) -> jax.Array:
            logits, _ = apply(experiment, params, weights.statistics, images, training=True)
            return losses.image_loss(logits, labels, Knobs(dice=1.0)).mean()

        return jax.tree.leaves(jax.vjp(loss, weights.params)[1])

    with plain():
        traced = jax.make_jaxpr(kept)(weights, images, labels).jaxpr
    given = set(map(id, traced.invars))
    saved = {id(var): _bytes(var.aval) for var in traced.outvars if id(var) not in given and isinstance(var, Var)}
    largest = max(_bytes(var.aval) for equation in traced.eqns for var in equation.outvars)
    gradients, activations = sum(map(_bytes, jax.tree.leaves(weights.params))), sum(saved.values())
    parameters = sum(leaf.size for leaf in jax.tree.leaves(weights.params))
    return Estimate(parameters, activations, activations + gradients + 2 * largest)


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * aval.dtype.itemsize


def lines(cell: Cell, spec: PopulationSpec) -> list[str]:
    """Returns lines that say what a cell will do, and for a large model how many members an 80 GB GPU holds."""
    found = estimate(cell.experiment)
    # The small U-Net's rule was fitted to XLA:CPU's plans, for any width and depth.
    large = cell.experiment.model.name != "unet"
    working = found.working if large else working_bytes(cell)
    said = describe(cell, parameters=found.parameters, working=working)
    if large:
        width = min(spec.width or DEFAULT_WIDTH, len(cell.settings))
        pool = pool_bytes(cell)
        free = GPU_BYTES - (pool or 0) - MARGIN * width * working
        fit = max(0, int(free // state_bytes(cell, parameters=found.parameters)))
        left_out = ", the pool not counted" if pool is None else ""
        said.append(
            f"  80 GB GPU: {fit} members fit with {width} at work at once{left_out}; "
            f"an estimate from shapes, work counted {MARGIN:g} times"
        )
    return said
