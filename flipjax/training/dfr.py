"""DFR: the 1 x 1 head refitted on group-balanced validation images (Kirichenko et al., 2023), convex, one member."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from flipjax import losses
from flipjax.config import Experiment
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool, gather
from flipjax.training.member import Best, Member, State, Weights, model_of
from flipjax.training.placement import AXIS, Layout, shard, share
from flipjax.training.population import Population
from flipjax.training.predict import evaluation_batch, map_batches

RIDGES = (0.1, 0.01, 0.001, 0.0001)
"""Weights of the squared norm of the head: from the strongest, each fit starts at the last one."""
STEPS = 6
"""Newton steps for each ridge."""
LENGTHS = (1.0, 0.5, 0.125, 0.0)
"""Shares of a Newton step that are tried; the one with the lowest loss is taken."""


def fit_head(features: jax.Array, masks: jax.Array, head: Any, *, ridge: float | jax.Array) -> Any:
    """Fits a linear head to features by cross-entropy with a ridge: a convex problem, by Newton's method.

    Args:
      features: (n, H, W, F) float32.
      masks: (n, H, W) integer in [0, C).
      head: where to start: `kernel` (F, C) and `bias` (C,) float32.
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
    pixels = jnp.concatenate([features.reshape(-1, F), jnp.ones((masks.size, 1))], axis=1)
    truth = jax.nn.one_hot(masks.reshape(-1), C)

    def loss_of(table: jax.Array) -> jax.Array:
        return -(jax.nn.log_softmax(pixels @ table) * truth).sum(1).mean() + ridge / 2 * (table**2).sum()

    def step(table: jax.Array, _: None) -> tuple[jax.Array, None]:
        probabilities = jax.nn.softmax(pixels @ table)
        gradient = pixels.T @ (probabilities - truth) / masks.size + ridge * table
        # Of one pixel: (diag(p) - p p') times x x'.
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


def refit(experiment: Experiment, weights: Weights, pool: Pool, rows: jax.Array, other_rows: jax.Array) -> Weights:
    """Returns the weights with a head refitted on validation rows (n, 2), others (m, 2) picking the ridge.

    Both should hold the groups evenly (`flipjax.data.correlation.Table.refit`). Features are standardised, as
    published. The ridge with the lowest cross-entropy on the other rows wins.

    Raises:
      KeyError: the model's head is not a 1 x 1 convolution.
    """
    head = weights.params["head"]
    model = model_of(experiment, weights, training=False)

    def of_batch(batch: jax.Array) -> tuple[jax.Array, jax.Array]:
        images, masks = gather(pool, batch)
        return model.features(images), masks

    largest = evaluation_batch(experiment)
    features, masks = map_batches(of_batch, rows, largest=largest)
    others, other_masks = map_batches(of_batch, other_rows, largest=largest)
    mean = features.mean((0, 1, 2))
    scale = features.std((0, 1, 2)) + 1e-6
    features, others = (features - mean) / scale, (others - mean) / scale
    start = {"kernel": head["kernel"] * scale[:, None], "bias": head["bias"] + mean @ head["kernel"]}

    def fit(head: Any, ridge: jax.Array) -> tuple[Any, tuple[Any, jax.Array]]:
        head = fit_head(features, masks, head, ridge=ridge)
        loss = losses.cross_entropy(others @ head["kernel"] + head["bias"], other_masks).mean()
        return head, (head, jnp.where(jnp.isfinite(loss), loss, jnp.inf))

    _, (heads, scores) = jax.lax.scan(fit, start, jnp.array(RIDGES))
    best = jax.tree.map(lambda leaf: leaf[jnp.argmin(scores)], heads)
    kernel = best["kernel"] / scale[:, None]
    fitted = {**head, "kernel": kernel, "bias": best["bias"] - mean @ kernel}
    return Weights({**weights.params, "head": fitted}, weights.statistics)


def refit_heads(experiment: Experiment, layout: Layout, population: Population, pool: Pool, table: Table) -> Population:
    """Refits the heads of the members that ask for it (DFR), for every selection rule.

    Of the validation images of a table, those for the refit fit, and the others pick the ridge.
    """
    halves = share(layout, (table.rows[table.refit], table.rows[~table.refit]))
    states = _refit_heads(experiment, layout, population.members, population.states, pool, *halves)
    return dataclasses.replace(population, states=states)


@functools.partial(jax.jit, static_argnames=("experiment", "layout"))
def _refit_heads(
    experiment: Experiment, layout: Layout, members: Member, states: State, pool: Pool, *halves: jax.Array
) -> State:
    def local(members: Member, states: State, pool: Pool, *halves: jax.Array) -> State:
        def one(inputs: tuple[Member, State]) -> State:
            member, state = inputs

            def fitted(best: dict[str, Best]) -> dict[str, Best]:
                weights = {rule: refit(experiment, kept.weights, pool, *halves) for rule, kept in best.items()}
                return {rule: kept._replace(weights=weights[rule]) for rule, kept in best.items()}

            best = jax.lax.cond(member.knobs.dfr > 0, fitted, lambda best: best, state.best)
            return dataclasses.replace(state, best=best)

        return jax.lax.map(one, (members, states))

    return shard(layout, local, P(AXIS), P(AXIS), P(), P(), P())(members, states, pool, *halves)
