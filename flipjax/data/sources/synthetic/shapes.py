"""Shapes that the synthetic creatures are made of, as signed distances: negative inside, in creature units.

A distance is a number for each sample of an image, so a shape is drawn where it is below 0, and two shapes are joined
by the smaller of their distances.

Example:
    >>> float(disc((3.0, 4.0), centre=(0.0, 0.0), radius=1.0))
    4.0
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp

Scalar: TypeAlias = jax.Array | float
"""A number, in Python or traced."""
Point: TypeAlias = tuple[Scalar, Scalar]
"""x and y in creature units: of one place, or of every sample of the image, each (H, W)."""


def ellipse(p: Point, centre: Point, radii: Point) -> jax.Array:
    """Returns the approximate distance to an ellipse, accurate near its edge."""
    x = (p[0] - centre[0]) / radii[0]
    y = (p[1] - centre[1]) / radii[1]
    # The distance from the centre in half-axes: 1 on the edge.
    level = jnp.sqrt(x * x + y * y + 1e-6)
    slope = jnp.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + 1e-6)
    return level * (level - 1) / slope


def disc(p: Point, centre: Point, radius: float) -> jax.Array:
    """Returns the distance to a disc."""
    return jnp.hypot(p[0] - centre[0], p[1] - centre[1]) - radius


def stroke(p: Point, start: Point, stop: Point, start_radius: Scalar, stop_radius: Scalar) -> jax.Array:
    """Returns the distance to a round stroke whose radius changes evenly from `start` to `stop`."""
    along = (stop[0] - start[0], stop[1] - start[1])
    x = p[0] - start[0]
    y = p[1] - start[1]
    # Where on the stroke's axis the nearest point is: 0 at its start, 1 at its stop.
    nearest = jnp.clip((x * along[0] + y * along[1]) / (along[0] ** 2 + along[1] ** 2), 0, 1)
    return jnp.hypot(x - nearest * along[0], y - nearest * along[1]) - mix(start_radius, stop_radius, nearest)


def join(a: jax.Array, b: jax.Array, softness: float) -> jax.Array:
    """Returns the distance to two shapes that melt into each other where their distances differ by under `softness`."""
    # 1 where both are equally far, 0 where their distances differ by `softness` or more.
    closeness = jnp.clip(softness - jnp.abs(a - b), 0, None) / softness
    return jnp.minimum(a, b) - 0.25 * softness * closeness * closeness


def point_towards(start: Point, angle: Scalar, length: Scalar) -> Point:
    """Returns the point at a distance from another; the angle is 0 upwards and grows forwards."""
    return start[0] + length * jnp.sin(angle), start[1] - length * jnp.cos(angle)


def smooth_step(low: Scalar, high: Scalar, x: jax.Array) -> jax.Array:
    """Returns a smooth step: 0 where x is `low` or beyond it, 1 where it is `high` or beyond; `low` may be larger."""
    share = jnp.clip((x - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def mix(a: Scalar, b: Scalar, share: Scalar) -> jax.Array:
    """Returns `a` at share 0, `b` at share 1, and their mixture between."""
    return a + (b - a) * share  # pyright: ignore[reportReturnType]  # One of them is an array.
