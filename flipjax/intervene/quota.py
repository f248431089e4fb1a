"""The centre by which the regions of each class come out as often as a prior says: the dual of a transport problem."""

import jax
import jax.numpy as jnp


def quota_center(identity: jax.Array, prior: jax.Array) -> jax.Array:
    """Returns b such that argmax_c (L_ic - b_c) is class c in a share q_c of the regions.

    Regions start at their largest log-odds and move, one along each path of least loss, until the counts fit; b lies in
    the middle of what keeps them there.

    Args:
        identity: L, (n, F) float32; rows with NaN are left out.
        prior: q, (F,) float32 of 0 or more, not all 0; its sum is of no account.

    Returns:
        (F,) float32: infinite for a class whose share is 0, NaN where no region is left. Where no two regions are
        alike, the counts are n q rounded to whole regions, those of the largest remainders up.

    Source: Ahuja, Magnanti and Orlin, Network flows, 1993, 9.7 (successive shortest paths).

    Example:
        >>> L = jnp.array([[5.0, 0.0, 0.0], [4.0, 3.0, 0.0], [4.0, 0.0, 1.0], [6.0, 0.0, 0.0]])
        >>> (L - quota_center(L, jnp.array([2.0, 1.0, 1.0]))).argmax(1).tolist()
        [0, 1, 2, 0]
    """
    n, F = identity.shape
    allowed = prior > 0
    known = ~jnp.isnan(identity).any(1)
    scores = jnp.where(allowed, jnp.where(known[:, None], identity, 0), -jnp.inf)
    wanted = _whole(known.sum(), prior / prior.sum())

    def is_short(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        step, classes, _ = state
        return (step < n) & (_count(classes, F) < wanted).any()

    def move(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        step, classes, points = state
        counts = _count(classes, F)
        losses = _losses(scores, classes)
        # With the points, no loss is negative but by rounding, so that no path runs in a ring.
        shifted = losses - jnp.where(allowed, points, 0)[:, None] + jnp.where(allowed, points, 0)
        distance, before = _shortest(jnp.maximum(shifted, 0), counts > wanted)
        end = jnp.where(counts < wanted, distance, jnp.inf).argmin()
        points = points - jnp.minimum(distance, distance[end])
        return step + 1, _along(scores, classes, before, end), points

    start = jnp.where(known, scores.argmax(1), F)
    _, classes, _ = jax.lax.while_loop(is_short, move, (jnp.int32(0), start, jnp.zeros(F, scores.dtype)))
    points = _middle(scores, classes)
    return jnp.where(known.any(), jnp.where(allowed, points, jnp.inf), jnp.nan)


def _whole(n: jax.Array, shares: jax.Array) -> jax.Array:
    """Returns N regions dealt by shares (F,), in whole regions: those of the largest remainders are rounded up."""
    exact = n * shares
    low = jnp.floor(exact).astype(jnp.int32)
    place = jnp.argsort(jnp.argsort(low - exact, stable=True))
    return low + (place < n - low.sum())


def _count(classes: jax.Array, F: int) -> jax.Array:
    return (classes[:, None] == jnp.arange(F)).sum(0)


def _own(scores: jax.Array, classes: jax.Array) -> jax.Array:
    """Returns what each region has for its class (n, 1)."""
    return jnp.take_along_axis(scores, jnp.minimum(classes, scores.shape[1] - 1)[:, None], axis=1)


def _losses(scores: jax.Array, classes: jax.Array) -> jax.Array:
    """Returns the least that a region of class c loses by a move to d: (F, F), infinite for a class without any."""
    F = scores.shape[1]
    losses = jax.ops.segment_min(_own(scores, classes) - scores, classes, num_segments=F)
    return jnp.where(jnp.eye(F, dtype=bool), 0, losses)


def _shortest(lengths: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the distances (F,) from the classes `first`, and the class before each on its path: -1 for the first."""
    F = len(lengths)

    def relax(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        distance, before = state
        ways = distance[:, None] + lengths
        shorter = ways.min(0) < distance
        return jnp.where(shorter, ways.min(0), distance), jnp.where(shorter, ways.argmin(0), before)

    return jax.lax.fori_loop(0, F - 1, relax, (jnp.where(first, 0.0, jnp.inf), jnp.full(F, -1)))


def _along(scores: jax.Array, classes: jax.Array, before: jax.Array, end: jax.Array) -> jax.Array:
    """Returns the classes after one region has moved along each step of the path to `end`."""
    gaps = _own(scores, classes) - scores

    def step(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        moved, there = state
        here = before[there]
        region = jnp.where(classes == here, gaps[:, there], jnp.inf).argmin()
        moved = jnp.where((here >= 0) & (jnp.arange(len(moved)) == region), there, moved)
        return moved, jnp.where(here >= 0, here, there)

    return jax.lax.fori_loop(0, scores.shape[1] - 1, step, (classes, end))[0]


def _middle(scores: jax.Array, classes: jax.Array) -> jax.Array:
    """Returns the middle of the points (F,) that keep the regions in their classes.

    A class without any has no upper bound: its point lies above all regions by their mean distance.
    """
    F = scores.shape[1]
    held = _count(classes, F) > 0
    both = held[:, None] & held
    losses = jnp.where(both, _losses(scores, classes), jnp.inf)
    through = jax.lax.fori_loop(0, F, lambda k, least: jnp.minimum(least, least[:, k, None] + least[k]), losses)
    # For each class r the largest points with b_r = 0 are through[:, r], the least -through[r].
    points = jnp.where(both, through - through.T, 0).sum(1) / (2 * held.sum())
    inside = (classes < F)[:, None]
    entry = scores - _own(scores - points, classes)
    top = jnp.where(inside, entry, -jnp.inf).max(0)
    gap = (top - jnp.where(inside, entry, jnp.inf).min(0)) / jnp.maximum(1, inside.sum())
    return jnp.where(held, points, top + gap)
