"""One member on a table of the pool: logits, and the decomposition that every number is made from."""

from typing import Any

import jax

from flipjax import metrics
from flipjax.config import Experiment
from flipjax.data.pool import Pool, gather
from flipjax.train import State, apply, evaluation_batch, map_batches


def predict(experiment: Experiment, state: State, pool: Pool, rows: jax.Array) -> jax.Array:
    """Returns logits (n, H, W, C) float32 of the member's best parameters on pool rows (n, 2)."""

    def of_batch(batch: jax.Array) -> jax.Array:
        images, _ = gather(pool, batch)
        return apply(experiment, state.best_params, state.best_statistics, images, training=False)[0]

    return map_batches(of_batch, rows, largest=evaluation_batch(experiment))


def evaluate(experiment: Experiment, state: State, pool: Pool, rows: jax.Array) -> metrics.Decomposition:
    """Returns the decomposition, leading axis n, of the member's best parameters on pool rows (n, 2)."""
    return decompose_rows(experiment, state.best_params, state.best_statistics, pool, rows)


def decompose_rows(
    experiment: Experiment, params: Any, statistics: Any, pool: Pool, rows: jax.Array
) -> metrics.Decomposition:
    """Returns the decomposition, leading axis n, of a model's parameters and batch statistics on pool rows (n, 2)."""

    def of_batch(batch: jax.Array) -> metrics.Decomposition:
        images, labels = gather(pool, batch)
        logits, _ = apply(experiment, params, statistics, images, training=False)
        return metrics.decompose(logits, labels)

    return map_batches(of_batch, rows, largest=evaluation_batch(experiment))
