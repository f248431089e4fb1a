"""A member's optimiser: Adam, SGD or the user's own, with a schedule, clipping and decay. All numbers are traced.

Each is an `optax.GradientTransformation`, made anew in each step from the traced numbers of the member.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from flipjax.config import Experiment, Recipe
from flipjax.config.keys import Scalar
from flipjax.support.arrays import PyTree
from flipjax.training.network.forward import Weights, flat, nested


def _adam(recipe: Recipe) -> optax.GradientTransformation:
    """Returns the moments of the gradients (Kingma and Ba, 2015)."""
    return optax.scale_by_adam()


def _sgd(recipe: Recipe) -> optax.GradientTransformation:
    """Returns the gradients and the decaying sum of those before (Polyak, 1964)."""
    return optax.trace(recipe.momentum)


DIRECTIONS: dict[str, Callable[[Recipe], optax.GradientTransformation]] = {"adam": _adam, "sgd": _sgd}
"""What the built-in optimisers make of gradients, before decay and learning rate, by `config.train.optimizer`.

Example:
    >>> DIRECTIONS["sgd"](Recipe(momentum=0.9)).init(jnp.zeros(2)).trace.tolist()
    [0.0, 0.0]
"""
LEAST_NORM = 1e-16
"""Least norm of gradients that clipping divides by: they may all be 0."""


def make_optimiser(experiment: Experiment, recipe: Recipe, *, rate: Scalar) -> optax.GradientTransformation:
    """Returns the optimiser of a step at learning rate `rate`, for parameters as states hold them, `flat`.

    Gradients are clipped first. Decay is decoupled: it takes part in no moment of the gradients.

    Example:
        >>> from flipjax.config import TrainSpec
        >>> sgd = make_optimiser(Experiment(train=TrainSpec(optimizer="sgd")), Recipe(weight_decay=0.5), rate=0.1)
        >>> params, gradients = jnp.array([2.0]), jnp.array([1.0])
        >>> updates, _ = sgd.update(gradients, sgd.init(params), params)
        >>> round(float(updates[0]), 3)  # -0.1 (1 + 0.5 * 2)
        -0.2
    """
    optimizer = experiment.train.optimizer
    clip = _clip(recipe.clip_norm)
    if callable(optimizer):
        decay = optax.add_decayed_weights(-rate * recipe.weight_decay)
        return optax.chain(clip, _on_nested(experiment, optimizer(rate)), decay)
    decay = optax.add_decayed_weights(recipe.weight_decay)
    return optax.chain(clip, DIRECTIONS[optimizer](recipe), decay, optax.scale_by_learning_rate(rate))


def _clip(clip_norm: Scalar) -> optax.GradientTransformation:
    """Returns clipping of gradients to a norm, 0 for none.

    `optax.clip_by_global_norm` has no number for none.
    """

    def clip(gradients: PyTree, params: PyTree) -> PyTree:
        norm = optax.tree.norm(gradients)
        shrink = jnp.where(clip_norm > 0, jnp.minimum(1.0, clip_norm / jnp.maximum(norm, LEAST_NORM)), 1.0)
        return jax.tree.map(lambda gradient: shrink * gradient, gradients)

    return optax.stateless(clip)


def _on_nested(experiment: Experiment, own: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns the user's optimiser for flat parameters; it sees the network's arrays apart, each by its name."""

    def nest(params: PyTree) -> PyTree:
        return nested(experiment, Weights(params, {})).params

    def init(params: PyTree) -> PyTree:
        return own.init(nest(params))

    def update(gradients: PyTree, state: PyTree, params: PyTree | None = None) -> tuple[PyTree, PyTree]:
        updates, state = own.update(nest(gradients), state, nest(params))
        return flat(Weights(updates, {})).params, state

    return optax.GradientTransformation(init, update)


def rate_at(step: jax.Array, recipe: Recipe, *, total: int) -> jax.Array:
    """Returns the learning rate at a step (from 0) of `total`.

    The schedules of optax take no traced number of steps.

    Example:
      >>> recipe = Recipe(learning_rate=1.0, warmup=0.5, schedule=1.0)
      >>> [round(float(rate_at(step, recipe, total=4)), 3) for step in range(4)]
      [0.5, 1.0, 1.0, 0.5]
    """
    rising = jnp.maximum(jnp.ceil(recipe.warmup * total), 1)
    begin = rising * (recipe.warmup > 0)
    progress = jnp.clip((step - begin) / jnp.maximum(total - begin, 1), 0, 1)
    falling = 1 - recipe.schedule * (0.5 - 0.5 * jnp.cos(jnp.pi * progress))
    return recipe.learning_rate * jnp.where(recipe.warmup > 0, jnp.minimum(1.0, (step + 1) / rising), 1.0) * falling


def update(
    experiment: Experiment, gradients: PyTree, opt_state: PyTree, params: PyTree, recipe: Recipe, *, rate: jax.Array
) -> tuple[PyTree, PyTree]:
    """Returns the parameters after a step at learning rate `rate`, and the state of `make_optimiser`."""
    updates, opt_state = make_optimiser(experiment, recipe, rate=rate).update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def kept_share(step: jax.Array, *, ema: Scalar, swa: Scalar, total: int) -> jax.Array:
    """Returns the decay of the weight average at a step; 0 copies the current weights.

    Args:
      step: counted from 0.
      ema: decay of an exponential average, 0 for none; early steps use min(ema, (1 + step) / (10 + step)).
      swa: fraction of all steps after which a plain average of every step starts, 0 for none (Izmailov et al., 2018).
      total: number of steps.

    Example:
      >>> [round(float(kept_share(step, ema=0.0, swa=0.5, total=4)), 2) for step in range(4)]
      [0.0, 0.0, 0.0, 0.5]
    """
    averaged = jnp.maximum(step - jnp.ceil(swa * total), 0.0)
    plain = jnp.where(swa > 0, averaged / (averaged + 1), 0.0)
    return jnp.maximum(plain, jnp.minimum(ema, (1 + step) / (10 + step)))
