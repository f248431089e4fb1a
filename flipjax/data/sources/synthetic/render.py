"""Renders a synthetic creature into an image: its parts over one another, then the coat, the belly and the face.

At every sample of the image the parts of the body are laid over one another from back to front (`_body`); then the
coat, the belly and the face are painted (`_painted`). Lengths are in creature units. Stored results are of the pool
that this arithmetic draws: to change a number, or the order of operations, is to draw another pool.
"""

import enum
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from flipjax.data.sources.synthetic.creatures import MIDDLE, Creature
from flipjax.data.sources.synthetic.parts import body_parts, markings_at
from flipjax.data.sources.synthetic.shapes import disc, ellipse, mix, smooth_step

Samples: TypeAlias = tuple[jax.Array, jax.Array]
"""x and y of every sample of the image in creature units, each (H, W)."""

SUPERSAMPLE = 2
"""Samples along each side of a pixel, whose mean is the pixel."""


class Paint(enum.IntEnum):
    """A paint of a creature, numbered by its place in `Layers.paints`."""

    FUR = 0
    MARKINGS = 1
    BELLY = 2
    OUTLINE = 3
    BLUSH = 4
    WHITE = 5
    PUPIL = 6


FACE_COLOURS = ((0.95, 0.45, 0.45), (1.0, 1.0, 0.98), (0.10, 0.08, 0.12))
"""RGB of the paints that are alike in all creatures: blush, white and pupil."""
OUTLINE_BRIGHTNESS = 0.28
"""Brightness of the outline, as a fraction of the fur's."""
EDGE_SOFTNESS = 0.6
"""Half the width of the soft edge of a shape, in samples."""


def render_creature(creature: Creature, size: int) -> jax.Array:
    """Renders a creature without background.

    Args:
        creature: one creature.
        size: side of the image in pixels.

    Returns:
        float32 (size, size, 4): RGB premultiplied by alpha, and alpha, in [0, 1].

    Example:
        >>> from flipjax.data.sources.synthetic.creatures import draw_creature
        >>> jax.eval_shape(lambda key: render_creature(draw_creature(key, 1), 16), jax.random.key(0)).shape
        (16, 16, 4)
    """
    points = _points(creature, size)
    blur = EDGE_SOFTNESS / (size * SUPERSAMPLE) / creature.scale
    layers = _painted(points, creature, blur=blur)
    # Layer by layer: XLA would make all of them anew for each plane of one stacked array.
    alpha = _mean_of_samples(layers.alpha, size)
    amounts = [_mean_of_samples(paint, size) for paint in layers.paints]
    fur, markings, belly = creature.colours
    colours = jnp.stack([fur, markings, belly, OUTLINE_BRIGHTNESS * fur, *jnp.array(FACE_COLOURS)])
    colour = jnp.einsum("lhw,lc->hwc", jnp.stack(amounts), colours)
    return jnp.concatenate([jnp.clip(colour, 0, alpha[..., None]), alpha[..., None]], -1)


def _points(creature: Creature, size: int) -> Samples:
    """Returns the samples of an image in the creature's frame."""
    side = size * SUPERSAMPLE
    grid = (jnp.arange(side) + 0.5) / side
    x = (grid[None, :] - creature.centre[0]) / creature.scale * creature.facing
    y = (grid[:, None] - creature.centre[1]) / creature.scale
    cos = jnp.cos(creature.angle)
    sin = jnp.sin(creature.angle)
    return x * cos + y * sin + MIDDLE[0], y * cos - x * sin + MIDDLE[1]


def _mean_of_samples(samples: jax.Array, size: int) -> jax.Array:
    """Returns the mean of each pixel's samples, (size, size)."""
    return samples.reshape(size, SUPERSAMPLE, size, SUPERSAMPLE).mean((1, 3))


class Dot(NamedTuple):
    """A round spot of the face."""

    paint: Paint
    """Its paint."""
    centre: tuple[float, float]
    """Its centre, in creature units."""
    radius: float
    """Its radius, in creature units."""
    opacity: float
    """The share of the paints below it that it hides, from 0 to 1."""


FACE = (
    Dot(Paint.BLUSH, (0.50, -0.16), radius=0.090, opacity=0.45),
    Dot(Paint.WHITE, (0.58, -0.36), radius=0.125, opacity=1.0),
    Dot(Paint.PUPIL, (0.61, -0.355), radius=0.085, opacity=1.0),
    Dot(Paint.WHITE, (0.585, -0.39), radius=0.032, opacity=1.0),
    Dot(Paint.OUTLINE, (0.825, -0.27), radius=0.055, opacity=1.0),
)
"""Cheek, eye, pupil, glint and nose, each over those before it."""
BELLY_CENTRE = (-0.02, 0.40)
"""Centre of the belly, a pale ellipse."""
BELLY_RADII = (0.36, 0.17)
"""Half-axes of the belly."""
BELLY_OPACITY = 0.85
"""Cover of fur and markings by the belly's paint."""


class Layers(NamedTuple):
    """What is at each sample of an image, (H, W) each."""

    alpha: jax.Array
    """Cover of the creature, in [0, 1]."""
    paints: list[jax.Array]
    """Amount of each `Paint`, in their order: its cover times its brightness."""


def _painted(p: Samples, creature: Creature, *, blur: jax.Array) -> Layers:
    """Paints the coat, the belly and the face on the body; `blur` is half the width of an edge."""
    body = _body(p, creature, blur=blur)
    marked = markings_at(p, creature)
    pale = BELLY_OPACITY * smooth_step(0.08, -0.14, ellipse(p, BELLY_CENTRE, BELLY_RADII))
    fur = body.brightness * (1 - marked) * (1 - pale)
    markings = body.brightness * marked * (1 - pale)
    belly = body.brightness * pale
    paints = [fur, markings, belly, body.outline]
    paints += [jnp.zeros_like(body.outline)] * len(FACE_COLOURS)
    for dot in FACE:
        cover = dot.opacity * smooth_step(blur, -blur, disc(p, dot.centre, dot.radius))
        pure = _one_hot(dot.paint)
        paints = [mix(amount, pure_amount, cover) for amount, pure_amount in zip(paints, pure, strict=True)]
    return Layers(body.alpha, paints)


def _one_hot(paint: Paint) -> list[float]:
    """Returns the amount of each paint where one is pure: 1 for this paint, 0 for the others."""
    return [float(other == paint) for other in Paint]


OUTLINE_WIDTH = 0.07
"""Width of the outline of a part. It lies inside of the part and fades over the inner 70% of its width."""
OUTLINE_OPACITY = 0.85
"""Cover of a part by its outline, at the part's edge."""
LIGHT = 1.12
"""Brightness in full light, which comes from above and in front."""
SHADE_BELOW = 0.34
"""Loss of brightness from the top of the creature to its bottom."""
SHADE_BEHIND = 0.10
"""Loss of brightness from the front of the creature to its back."""


class Body(NamedTuple):
    """The parts of a body, laid over one another, at each sample of an image: (H, W) each."""

    brightness: jax.Array
    """Brightness of all but the outline; 0 outside of the body."""
    outline: jax.Array
    """Amount of outline, in [0, 1]."""
    alpha: jax.Array
    """Cover of the creature, in [0, 1]."""


def _body(p: Samples, creature: Creature, *, blur: jax.Array) -> Body:
    """Lays the parts of a creature over one another, each with an outline, and lights them."""
    nothing = jnp.zeros_like(p[0])
    brightness = nothing
    outline = nothing
    alpha = nothing
    for part in body_parts(p, creature):
        edge = OUTLINE_OPACITY * smooth_step(-OUTLINE_WIDTH, -0.3 * OUTLINE_WIDTH, part.distance)
        cover = smooth_step(blur, -blur, part.distance)
        brightness = mix(brightness, part.brightness * (1 - edge), cover)
        outline = mix(outline, edge, cover)
        alpha = mix(alpha, 1.0, cover)
    light = LIGHT - SHADE_BELOW * smooth_step(-0.75, 0.75, p[1]) - SHADE_BEHIND * smooth_step(0.2, -0.9, p[0])
    return Body(brightness * light, outline, alpha)
