"""DFR: refits the 1 x 1 head on group-balanced validation images, a convex problem (Kirichenko et al., 2023)."""

from typing import TypeAlias

import jax
import jax.numpy as jnp

from flipjax import losses
from flipjax.config import Experiment
from flipjax.data.pool import Pool, gather
from flipjax.support.arrays import Array
from flipjax.training.network.forward import Weights, evaluation_batch, flat, map_batches, model_of, nested

Head: TypeAlias = dict[str, jax.Array]
"""`kernel` (F, C) and `bias` (C,), float32."""

RIDGES = (0.1, 0.01, 0.001, 0.0001)
"""Ridge penalties, strongest first; each fit starts from the previous solution."""
STEPS = 6
"""Newton steps for each ridge."""
LEAST_SCALE = 1e-6
"""Added to the standard deviation of a feature, which is 0 for one that never varies."""
LENGTHS = (1.0, 0.5, 0.125, 0.0)
"""Step sizes tried in each Newton step; the one with the lowest loss is used."""


def fit_head(features: jax.Array, masks: jax.Array, head: Head, *, ridge: float | jax.Array) -> Head:
    """Fits a linear head to features by ridge-penalised cross-entropy with Newton's method.

    Args:
      features: (n, H, W, F) float32.
      masks: (n, H, W) integer in [0, C).
      head: initial `kernel` (F, C) and `bias` (C,) float32.
      ridge: weight of half the squared norm of kernel and bias, > 0.

    Returns:
      The head, a dict as `head`.

    Example:
      >>> x = jnp.array([-1.0, 0.0, 1.0]).reshape(1, 1, 3, 1)
      >>> start = {"kernel": jnp.zeros((1, 3)), "bias": jnp.zeros(3)}
      >>> head = fit_head(x, jnp.array([[[1, 0, 2]]]), start, ridge=0.1)
      >>> print((head["kernel"] / head["kernel"].max()).round(2) + 0.0, head["bias"].round(1))
      [[ 0. -1.  1.]] [ 0.2 -0.1 -0.1]
    """
    F, C = head["kernel"].shape
    # A further feature of 1, so that kernel and bias are one table (F + 1, C).
    pixels = jnp.concatenate([features.reshape(-1, F), jnp.ones((masks.size, 1))], axis=1)
    truth = jax.nn.one_hot(masks.reshape(-1), C)

    def loss_of(table: jax.Array) -> jax.Array:
        return -(jax.nn.log_softmax(pixels @ table) * truth).sum(1).mean() + ridge / 2 * (table**2).sum()

    def step(table: jax.Array, _: None) -> tuple[jax.Array, None]:
        probabilities = jax.nn.softmax(pixels @ table)
        gradient = pixels.T @ (probabilities - truth) / masks.size + ridge * table
        # The Hessian of one pixel is (diag(p) - p p') times x x'.
        curvature = [
            [pixels.T @ (pixels * (probabilities[:, c] * ((c == d) - probabilities[:, d]))[:, None]) for d in range(C)]
            for c in range(C)
        ]
        hessian = jnp.block(curvature) / masks.size + ridge * jnp.eye((F + 1) * C)
        direction = jnp.linalg.solve(hessian, gradient.T.reshape(-1)).reshape(C, F + 1).T
        tried = jnp.array([table - length * direction for length in LENGTHS])
        return tried[jnp.argmin(jax.lax.map(loss_of, tried))], None

    table = jnp.concatenate([head["kernel"], head["bias"][None]])
    table, _ = jax.lax.scan(step, table, None, length=STEPS)
    return {"kernel": table[:-1], "bias": table[-1]}


def refit(experiment: Experiment, weights: Weights, pool: Pool, rows: Array, other_rows: Array) -> Weights:
    """Refits the head on validation rows (n, 2), and picks the ridge on other rows (m, 2); returns `flat` weights.

    Both should be group-balanced (`flipjax.data.correlation.Table.refit`). Features are standardised, as
    published. The ridge with the lowest cross-entropy on the other rows is chosen.

    Raises:
      KeyError: the model's head is not a 1 x 1 convolution.
    """
    weights = nested(experiment, weights)
    head = weights.params["head"]
    model = model_of(experiment, weights, training=False)

    def of_batch(batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        images, masks = gather(pool, batch)
        return model.features(images), masks

    largest = evaluation_batch(experiment)
    features, masks = map_batches(of_batch, rows, largest=largest)
    other_features, other_masks = map_batches(of_batch, other_rows, largest=largest)
    mean = features.mean((0, 1, 2))
    scale = features.std((0, 1, 2)) + LEAST_SCALE
    features = (features - mean) / scale
    other_features = (other_features - mean) / scale
    start = {"kernel": head["kernel"] * scale[:, None], "bias": head["bias"] + mean @ head["kernel"]}

    def fit(head: Head, ridge: jax.Array) -> tuple[Head, tuple[Head, jax.Array]]:
        head = fit_head(features, masks, head, ridge=ridge)
        loss = losses.cross_entropy(other_features @ head["kernel"] + head["bias"], other_masks).mean()
        return head, (head, jnp.where(jnp.isfinite(loss), loss, jnp.inf))

    _, (heads, scores) = jax.lax.scan(fit, start, jnp.array(RIDGES))
    best = jax.tree.map(lambda leaf: leaf[jnp.argmin(scores)], heads)
    kernel = best["kernel"] / scale[:, None]
    fitted = {**head, "kernel": kernel, "bias": best["bias"] - mean @ kernel}
    return flat(Weights({**weights.params, "head": fitted}, weights.statistics))
