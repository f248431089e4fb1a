"""One optimiser for all members: Adam or AdamW, a schedule and gradient clipping, with all hyperparameters traced."""

import jax
import jax.numpy as jnp
import optax

from flipjax.config import Recipe
from flipjax.config.keys import Scalar

ADAM = optax.scale_by_adam()
"""The moments of the gradients, and the count of steps (Kingma and Ba, 2015)."""
LEAST_NORM = 1e-16
"""Least norm of gradients that clipping divides by: they may all be 0."""


def rate_at(step: jax.Array, recipe: Recipe, *, total: int) -> jax.Array:
    """Returns the learning rate at a step (from 0) of `total`.

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
    gradients: optax.Updates, opt_state: optax.OptState, params: optax.Params, recipe: Recipe, *, rate: jax.Array
) -> tuple[optax.Params, optax.OptState]:
    """Returns the parameters after a step at learning rate `rate`, and the state of `ADAM`."""
    norm = optax.tree.norm(gradients)
    shrink = jnp.where(recipe.clip_norm > 0, jnp.minimum(1.0, recipe.clip_norm / jnp.maximum(norm, LEAST_NORM)), 1.0)
    gradients = jax.tree.map(lambda gradient: shrink * gradient, gradients)
    updates, opt_state = ADAM.update(gradients, opt_state)

    def move(param: jax.Array, update: jax.Array) -> jax.Array:
        return param - rate * (update + recipe.weight_decay * param)

    moved = jax.tree.map(move, params, updates)
    return moved, opt_state


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
