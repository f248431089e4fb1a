"""One member on a table of the pool: logits, and the decomposition that every number is made from."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flipjax import intervene, metrics
from flipjax.config import Experiment
from flipjax.data.pool import Pool, gather
from flipjax.intervene.scenes import finish_surroundings, sum_surroundings
from flipjax.training.forms import logits_of
from flipjax.training.member import Weights


def predict(experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array) -> jax.Array:
    """Returns logits (n, H, W, C) float32 of the weights on pool rows (n, 2)."""

    def of_batch(batch: jax.Array) -> jax.Array:
        images, _ = gather(pool, batch)
        return logits_of(experiment, weights, images)

    return map_batches(of_batch, rows, largest=evaluation_batch(experiment))


def evaluate(experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array) -> metrics.Decomposition:
    """Returns the decomposition, leading axis n, of the weights on pool rows (n, 2)."""

    def of_batch(batch: jax.Array) -> metrics.Decomposition:
        images, labels = gather(pool, batch)
        return metrics.decompose(logits_of(experiment, weights, images), labels)

    return map_batches(of_batch, rows, largest=evaluation_batch(experiment))


def mean_surroundings(experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array) -> jax.Array:
    """Returns `flipjax.intervene.mean_surroundings`, (1, H, W, channels), of the images of pool rows (m, 2)."""
    size = min(evaluation_batch(experiment), rows.shape[0])
    # The last few that fill no batch have no part in the mean.
    batches = rows[: rows.shape[0] // size * size].reshape(-1, size, 2)

    def add(sums: tuple[jax.Array, jax.Array], batch: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        images, _ = gather(pool, batch)
        more = sum_surroundings(images, intervene.foreground(logits_of(experiment, weights, images)))
        return (sums[0] + more[0], sums[1] + more[1]), None

    H, W, channels = pool.images.shape[1:]
    sums, _ = jax.lax.scan(add, (jnp.zeros((H, W, channels)), jnp.zeros((H, W, 1))), batches)
    return finish_surroundings(*sums)


def evaluation_batch(experiment: Experiment) -> int:
    """Returns how many images are evaluated at once: 16, or fewer large ones, but a training batch at least.

    On a CPU 16 of 48 x 48 take four fifths of their time among 64 (`sweeps/scene_swap/cost.py` of b4a3fac).
    """
    return min(16, max(experiment.train.batch_size, 2**20 // experiment.pool.size**2))


def map_batches(function: Callable[[jax.Array], Any], rows: jax.Array, *, largest: int) -> Any:
    """Maps `function`, from rows (B, 2) to leaves (B, ...), over rows (n, 2); leaves (n, ...).

    Batches are equal and at most `largest`: the first rows fill up the last one.
    """
    count = rows.shape[0]
    steps = math.ceil(count / largest)
    size = math.ceil(count / steps)
    padded = jnp.concatenate([rows, rows[: steps * size - count]])
    mapped = jax.lax.map(function, padded.reshape(steps, size, *rows.shape[1:]))
    return jax.tree.map(lambda leaf: leaf.reshape(steps * size, *leaf.shape[2:])[:count], mapped)
