"""DFR: refits a trained network's 1 x 1 head on group-balanced images, so that it no longer rests on the scene.

The features stay as they are, so the refit is a convex problem: cross-entropy of a linear head (Kirichenko et al., Last
layer re-training is sufficient for robustness to spurious correlations, 2023). Newton's method solves it in a few
steps, at several strengths of a ridge penalty, of which other images choose one.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp

from flipjax import losses
from flipjax.config import Experiment
from flipjax.data.pool import Pool, gather
from flipjax.support.arrays import Array
from flipjax.training.network.forward import Weights, evaluation_batch, flat, map_batches, model_of, nested

Head: TypeAlias = dict[str, jax.Array]
"""`kernel` (F, C) and `bias` (C,) of F features and C classes, float32."""

RIDGES = (0.1, 0.01, 0.001, 0.0001)
"""Ridge penalties, strongest first; each fit starts from the previous solution."""
STEPS = 6
"""Newton steps for each ridge."""
LENGTHS = (1.0, 0.5, 0.125)
"""Fractions of the Newton step that are tried; the one with the lowest loss is taken, or none."""
LEAST_SCALE = 1e-6
"""Added to the standard deviation of a feature, which is 0 for one that never varies."""


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
    # The trained head, as one of standardised features.
    start = {"kernel": head["kernel"] * scale[:, None], "bias": head["bias"] + mean @ head["kernel"]}

    def fit(previous: Head, ridge: jax.Array) -> tuple[Head, tuple[Head, jax.Array]]:
        fitted = fit_head(features, masks, previous, ridge=ridge)
        loss = losses.cross_entropy(other_features @ fitted["kernel"] + fitted["bias"], other_masks).mean()
        return fitted, (fitted, loss)

    _, (heads, other_losses) = jax.lax.scan(fit, start, jnp.array(RIDGES))
    chosen = _lowest(other_losses)
    kernel = heads["kernel"][chosen] / scale[:, None]
    refitted = {**head, "kernel": kernel, "bias": heads["bias"][chosen] - mean @ kernel}
    return flat(Weights({**weights.params, "head": refitted}, weights.statistics))


def fit_head(features: jax.Array, masks: jax.Array, head: Head, *, ridge: float | jax.Array) -> Head:
    """Fits a linear head to features by ridge-penalised cross-entropy with Newton's method.

    A step that is not finite, such as one whose curvature overflows, is not taken.

    Args:
      features: (n, H, W, F) float32.
      masks: (n, H, W) integer in [0, C).
      head: where the fit starts.
      ridge: weight of half the squared norm of kernel and bias, > 0.

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
        newton = _newton_step(table, pixels, truth, ridge)
        # The last one is to stay.
        tried = jnp.array([*(table - length * newton for length in LENGTHS), table])
        return tried[_lowest(jax.lax.map(loss_of, tried))], None

    table = jnp.concatenate([head["kernel"], head["bias"][None]])
    table, _ = jax.lax.scan(step, table, None, length=STEPS)
    return {"kernel": table[:-1], "bias": table[-1]}


def _newton_step(table: jax.Array, pixels: jax.Array, truth: jax.Array, ridge: float | jax.Array) -> jax.Array:
    """Returns the inverse Hessian of the loss times its gradient at a table (F, C), of pixels (n, F), truth (n, C)."""
    count, F = pixels.shape
    C = table.shape[1]
    probabilities = jax.nn.softmax(pixels @ table)
    gradient = pixels.T @ (probabilities - truth) / count + ridge * table

    def block(c: int, d: int) -> jax.Array:
        """Returns the second derivatives by the columns c and d: of one pixel p_c (1 - p_c) or -p_c p_d times x x'."""
        curvature = probabilities[:, c] * ((c == d) - probabilities[:, d])
        return pixels.T @ (pixels * curvature[:, None])

    blocks = jnp.block([[block(c, d) for d in range(C)] for c in range(C)])
    hessian = blocks / count + ridge * jnp.eye(F * C)
    # The Hessian's rows are the table's entries, column after column.
    return jnp.linalg.solve(hessian, gradient.T.reshape(-1)).reshape(C, F).T


def _lowest(values: jax.Array) -> jax.Array:
    """Returns the position of the lowest number that is finite, which `argmin` alone would not: NaN is below all.

    If none is finite it is the last position.
    """
    finite = jnp.isfinite(values)
    return jnp.where(finite.any(), jnp.where(finite, values, jnp.inf).argmin(), len(values) - 1)
