"""One member on a table of the pool: logits, and the decomposition that every number is made from."""

import jax

from flipjax import metrics
from flipjax.config import Experiment
from flipjax.data.pool import Pool, gather
from flipjax.train import Weights, apply, evaluation_batch, map_batches


def predict(experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array) -> jax.Array:
    """Returns logits (n, H, W, C) float32 of the weights on pool rows (n, 2)."""

    def of_batch(batch: jax.Array) -> jax.Array:
        images, _ = gather(pool, batch)
        return apply(experiment, *weights, images, training=False)[0]

    return map_batches(of_batch, rows, largest=evaluation_batch(experiment))


def evaluate(experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array) -> metrics.Decomposition:
    """Returns the decomposition, leading axis n, of the weights on pool rows (n, 2)."""

    def of_batch(batch: jax.Array) -> metrics.Decomposition:
        images, labels = gather(pool, batch)
        logits, _ = apply(experiment, *weights, images, training=False)
        return metrics.decompose(logits, labels)

    return map_batches(of_batch, rows, largest=evaluation_batch(experiment))
