"""How much memory a cell needs, from the shapes of its program alone: no backend starts."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Var

from flipjax import losses
from flipjax.config import Experiment
from flipjax.methods import Knobs
from flipjax.train import Weights, apply, build, weights_of


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Bytes. `parameters` is one float32 copy; `activations` what a training batch keeps for its backward pass.

    `working` is what a member at work holds beside its state: activations, gradients, new weights, and two of the
    largest arrays of the forward pass.
    """

    parameters: int
    activations: int
    working: int


def estimate(experiment: Experiment) -> Estimate:
    """Traces a training step's loss and adds up the arrays that its backward pass reads."""
    weights = jax.eval_shape(lambda key: weights_of(build(experiment, key)), jax.random.key(0))
    size, batch = experiment.pool.size, experiment.train.batch_size
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch, size, size), jnp.int32)

    def kept(weights: Weights, images: Any, labels: Any) -> list[Any]:
        def loss(params: Any) -> jax.Array:
            logits, _ = apply(experiment, params, weights.statistics, images, training=True)
            return losses.image_loss(logits, labels, Knobs(dice=1.0)).mean()

        return jax.tree.leaves(jax.vjp(loss, weights.params)[1])

    traced = jax.make_jaxpr(kept)(weights, images, labels).jaxpr
    given = set(map(id, traced.invars))
    saved = {id(var): _bytes(var.aval) for var in traced.outvars if id(var) not in given and isinstance(var, Var)}
    largest = max(_bytes(var.aval) for equation in traced.eqns for var in equation.outvars)
    parameters = sum(map(_bytes, jax.tree.leaves(weights.params)))
    activations = sum(saved.values())
    return Estimate(parameters, activations, activations + 2 * parameters + 2 * largest)


def _bytes(aval: Any) -> int:
    return math.prod(aval.shape) * aval.dtype.itemsize
