"""Sampling of training images: pure functions, key first, that return positions in a member's training table."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Directory(NamedTuple):
    """Positions sorted by a small integer."""

    order: jax.Array
    """int32 (n,), the positions."""
    starts: jax.Array
    """int32 (V,), where those of each value begin."""
    counts: jax.Array
    """int32 (V,), how many each value has."""


def directory(values: jax.Array, *, size: int) -> Directory:
    """Sorts positions by value, stably.

    Args:
      values: (n,) integer in [0, size).
      size: number of values, V.

    Example:
      >>> [leaf.tolist() for leaf in directory(jnp.array([2, 0, 2]), size=3)]
      [[1, 0, 2], [0, 1, 1], [1, 0, 2]]
    """
    counts = (values[:, None] == jnp.arange(size)).sum(0)
    return Directory(jnp.argsort(values, stable=True).astype(jnp.int32), jnp.cumsum(counts) - counts, counts)


def draw(key: jax.Array, entries: Directory, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws a position of each value uniformly.

    Args:
      key: PRNG key.
      entries: the positions by value.
      values: (B,) integer in [0, V).

    Returns:
      Positions (B,) int32, 0 for absent values; and whether each value is present, (B,) bool.

    Example:
      >>> position, present = draw(jax.random.key(0), directory(jnp.array([2, 0, 2]), size=3), jnp.array([0, 1]))
      >>> int(position[0]), present.tolist()
      (1, [True, False])
    """
    counts = entries.counts[values]
    step = jnp.floor(jax.random.uniform(key, values.shape) * counts).astype(jnp.int32)
    position = entries.starts[values] + jnp.minimum(step, jnp.maximum(counts - 1, 0))
    present = counts > 0
    return jnp.where(present, entries.order[jnp.where(present, position, 0)], 0), present


def weighted_order(key: jax.Array, weights: jax.Array) -> jax.Array:
    """Draws n positions in random order, position i about n * weights[i] / sum(weights) times.

    Systematic resampling (Kitagawa, 1996) draws each position the floor or ceiling of that number of times.

    Args:
      key: PRNG key.
      weights: (n,) float, positive.

    Returns:
      (n,) int32.

    Example:
      >>> sorted(jax.jit(weighted_order)(jax.random.key(0), jnp.array([1.0, 1.0, 2.0, 4.0])).tolist())[-2:]
      [3, 3]
    """
    count = weights.shape[0]
    start, order = jax.random.split(key)
    edges = jnp.cumsum(weights)
    ticks = (jnp.arange(count) + jax.random.uniform(start)) * (edges[-1] / count)
    drawn = jnp.minimum(jnp.searchsorted(edges, ticks, side="right"), count - 1)
    return jax.random.permutation(order, drawn.astype(jnp.int32))


def balanced_order(order: jax.Array, groups: jax.Array, *, num_groups: int = 4) -> jax.Array:
    """Rearranges an order so that consecutive images cycle through the groups; small groups repeat.

    Args:
      order: (n,) int32, positions.
      groups: (n,) integer in [0, num_groups), of each position.
      num_groups: largest number of groups; groups without images are skipped.

    Returns:
      (n,) int32; any batch of consecutive positions is balanced over groups, up to one image.

    Example:
      >>> jax.jit(balanced_order)(jnp.arange(6), jnp.array([0, 0, 0, 0, 1, 3])).tolist()
      [0, 4, 5, 1, 4, 5]
    """
    entries = directory(groups[order], size=num_groups)
    # Put groups with images first.
    present = jnp.argsort(entries.counts == 0, stable=True)
    turns = jnp.maximum((entries.counts > 0).sum(), 1)
    slots = jnp.arange(order.shape[0])
    group = present[slots % turns]
    position = entries.starts[group] + (slots // turns) % jnp.maximum(entries.counts[group], 1)
    return order[entries.order[position]]
