"""Draws creatures of the synthetic pool from a key, and renders them from signed distances; pure and vmappable.

A creature lives in its own frame: x forwards, y down, the body about one unit long. Its ears, limbs, tail and coat are
those of a *mossling* (pointed ears, long legs, a round brush, stripes), a *ripplet* (round fins, flippers, a fluke,
spots), a *duneling* (long ears laid back, thin legs, a tufted whip, bands), a *frostlet* (hanging ears, stout paws, a
stub, patches), or lie between those of the kinds that are drawn. All else has one distribution for all kinds.

`draw_creature` turns random numbers into a `Creature`. `render_creature` lays its parts over one another from back to
front, each filled where its signed distance is negative, then paints the coat, the belly and the face.
"""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

Scalar: TypeAlias = jax.Array | float
Point: TypeAlias = tuple[Scalar, Scalar]
"""x and y in creature units: of one place, or of every sample of the image, each (H, W)."""

PAIR = (0, 1)
"""Indices of mossling and ripplet in `flipjax.data.naming.CREATURES`, and of land and water in `LANDSCAPES`."""
SUPERSAMPLE = 2
"""Samples along each side of a pixel."""
MIDDLE = (-0.15, -0.10)
"""Centre of a circle, in creature units, that holds every creature."""
REACH = 1.40
"""Radius of that circle."""
SCALES = (0.24, 0.345)
"""Smallest and largest length of one creature unit, as a fraction of the frame."""
LEAN = 0.28
"""A creature leans towards its kind by u ** LEAN, u uniform in [0, 1]: most are plain, a few are hybrids."""
STRAY = 0.2
"""Largest deviation of a trait from the creature's lean, on a scale from 0 (hybrid) to 1 (one kind)."""
INK = 0.07
"""Width of the outline, in creature units."""
FAR = 0.72
"""Brightness of ears and legs on the far side."""
NEAR = 1.0
"""Brightness of the body and of what is on the near side."""


class Dot(NamedTuple):
    """A round spot of the face."""

    paint: int
    """Index of its paint in `Layers.paints`."""
    centre: tuple[float, float]
    """In creature units."""
    radius: float
    """In creature units."""
    opacity: float
    """1: opaque."""


FUR, MARKINGS, BELLY, OUTLINE, BLUSH, WHITE, PUPIL = range(7)
"""Paints, in the order of `Layers.paints`."""
FACE_PAINTS = ((0.95, 0.45, 0.45), (1.0, 1.0, 0.98), (0.10, 0.08, 0.12))
"""Fixed colours: blush, white and pupil."""
FACE = (
    Dot(BLUSH, (0.50, -0.16), radius=0.090, opacity=0.45),
    Dot(WHITE, (0.58, -0.36), radius=0.125, opacity=1.0),
    Dot(PUPIL, (0.61, -0.355), radius=0.085, opacity=1.0),
    Dot(WHITE, (0.585, -0.39), radius=0.032, opacity=1.0),
    Dot(OUTLINE, (0.825, -0.27), radius=0.055, opacity=1.0),
)
"""Cheek, eye, pupil, glint and nose."""


class Creature(NamedTuple):
    """The appearance of one creature, float32."""

    traits: jax.Array
    """(4,) of ears, limbs, tail and coat, from 0 (mossling) to 1 (ripplet); or (4, 4), shares of all kinds."""
    centre: jax.Array
    """(2,), x right and y down, as fractions of the frame."""
    scale: jax.Array
    """Length of a creature unit, as a fraction of the frame."""
    angle: jax.Array
    """Radians."""
    facing: jax.Array
    """1 right, -1 left."""
    build: jax.Array
    """(6,) proportions, about 1: body length, body height, head, ears, limbs, tail."""
    colours: jax.Array
    """(3, 3), fur, markings and belly, RGB in [0, 1]."""
    coat: jax.Array
    """(5,) of the markings: period, direction, two phases, contrast."""


def draw_creature(key: jax.Array, kind: int | jax.Array, *, drawn: tuple[int, ...] = PAIR) -> Creature:
    """Draws one creature of a kind.

    A creature leans towards its kind by its own random number, from 0 (an unrecognisable hybrid) to 1; each trait then
    varies a little.

    Args:
        key: PRNG key.
        kind: int32 (), its index in `drawn`.
        drawn: the possible kinds, as indices into `flipjax.data.naming.CREATURES`.

    Returns:
        The creature, float32.

    Example:
        >>> import jax
        >>> a, b = (jax.jit(draw_creature)(jax.random.key(0), kind) for kind in (0, 1))
        >>> bool((a.colours == b.colours).all()), bool((a.traits <= b.traits).all())
        (True, True)
    """
    u = jax.random.uniform(key, (37,))
    lean = u[0] ** LEAN
    if drawn == PAIR:
        towards_kind = (2.0 * kind - 1.0) * lean
        stray = STRAY * (u[1:5] + u[5:9] - 1)
        traits = jnp.clip(0.5 + 0.5 * (towards_kind + stray), 0.0, 1.0)
    else:
        traits = _shares(jax.random.fold_in(key, 1), kind, lean, drawn)
    scale = mix(*SCALES, u[9])
    room = REACH * scale
    # A sum of two uniform numbers lies most often in the middle.
    return Creature(
        traits=traits,
        centre=mix(room, 1 - room, u[10:12]),
        scale=scale,
        angle=0.55 * (u[12] + u[13] - 1),
        facing=jnp.where(u[14] < 0.5, 1.0, -1.0),
        build=1 + 0.14 * (u[15:21] + u[21:27] - 1),
        colours=_colours(u[27:32]),
        coat=_coat(u[32:37]),
    )


def _shares(key: jax.Array, kind: int | jax.Array, lean: jax.Array, drawn: tuple[int, ...]) -> jax.Array:
    """Returns the fraction of each kind in each trait (4, 4); a hybrid has equal fractions of all drawn kinds."""
    even = 1 / len(drawn)
    draws = jax.random.uniform(key, (4, len(drawn))) ** 4
    stray = STRAY * (draws / draws.sum(1, keepdims=True) - even)
    shares = jnp.clip(mix(even, jax.nn.one_hot(kind, len(drawn)), lean) + stray, 0.0, None)
    return shares / shares.sum(1, keepdims=True) @ jax.nn.one_hot(jnp.array(drawn), 4)


def _colours(u: jax.Array) -> jax.Array:
    """Returns the colours of fur, markings and belly (3, 3) from uniform numbers (5,)."""
    hue, saturation, value, turn, side = u
    fur = 0.88 * _rgb(hue, 0.28 + 0.37 * saturation, 0.76 + 0.2 * value) + 0.12 * jnp.array([0.9, 0.8, 0.7])
    hue_of_markings = hue + 0.16 * (turn - 0.5)
    # Markings are darker or lighter than the fur with equal probability, so that mean colour is uninformative.
    dark = _rgb(hue_of_markings, 0.55 + 0.3 * saturation, 0.36 + 0.14 * value)
    light = _rgb(hue_of_markings, 0.12 + 0.1 * saturation, 0.97 + 0.03 * value)
    markings = jnp.where(side < 0.5, dark, light)
    belly = 0.45 * fur + 0.55 * jnp.array([1.0, 0.96, 0.88])
    return jnp.stack([fur, markings, belly])


def _coat(u: jax.Array) -> jax.Array:
    """Returns period, direction, two phases and contrast (5,) of the markings from uniform numbers (5,)."""
    return jnp.stack([0.34 + 0.10 * u[0], 0.9 * (u[1] - 0.5), 6.3 * u[2], 6.3 * u[3], 0.7 + 0.3 * u[4]])


def _rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> jax.Array:
    """Returns a colour (3,) in [0, 1]; hues repeat with period 1."""
    ramp = jnp.clip(jnp.abs((6 * hue + jnp.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - ramp))


def mix(a: Scalar, b: Scalar, share: Scalar) -> jax.Array:
    """Returns `a` at share 0, `b` at share 1, and their mixture between."""
    return a + (b - a) * share  # pyright: ignore[reportReturnType]  # One of them is an array.


def _blend(trait: jax.Array, mossling: Scalar, ripplet: Scalar, duneling: Scalar, frostlet: Scalar) -> Scalar:
    """Returns what a trait makes of the values of the four kinds: a value between those of mossling and ripplet.

    A trait with shares (4,) of all kinds gives their weighted sum.
    """
    if trait.ndim:
        values = (mossling, ripplet, duneling, frostlet)
        return sum(share * value for share, value in zip(trait, values, strict=True))
    # These two are not blended: a sum would round their pixels differently.
    if isinstance(mossling, float) and mossling == ripplet:
        return mossling
    if isinstance(mossling, float) and (mossling, ripplet) == (0, 1):
        return trait
    return mix(mossling, ripplet, trait)


def _step(low: Scalar, high: Scalar, x: jax.Array) -> jax.Array:
    """Returns a smooth step: 0 where x is `low` or beyond it, 1 where it is `high`."""
    t = jnp.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


# Signed distances of shapes at points p, negative inside.


def _ellipse(p: Point, centre: Point, radii: Point) -> jax.Array:
    """Returns the approximate distance to an ellipse, accurate near its edge."""
    x = (p[0] - centre[0]) / radii[0]
    y = (p[1] - centre[1]) / radii[1]
    k = jnp.sqrt(x * x + y * y + 1e-6)
    slope = jnp.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + 1e-6)
    return k * (k - 1) / slope


def _disc(p: Point, centre: Point, radius: float) -> jax.Array:
    """Returns the distance to a disc."""
    return jnp.hypot(p[0] - centre[0], p[1] - centre[1]) - radius


def _limb(p: Point, start: Point, stop: Point, thick: Scalar, thin: Scalar) -> jax.Array:
    """Returns the distance to a round stroke from `start` (radius `thick`) to `stop` (radius `thin`)."""
    along = (stop[0] - start[0], stop[1] - start[1])
    x = p[0] - start[0]
    y = p[1] - start[1]
    t = jnp.clip((x * along[0] + y * along[1]) / (along[0] ** 2 + along[1] ** 2), 0, 1)
    return jnp.hypot(x - t * along[0], y - t * along[1]) - mix(thick, thin, t)


def _join(a: jax.Array, b: jax.Array, softness: float) -> jax.Array:
    """Returns the distance to two shapes that melt into each other where they meet."""
    h = jnp.clip(softness - jnp.abs(a - b), 0, None) / softness
    return jnp.minimum(a, b) - 0.25 * softness * h * h


def _towards(start: Point, angle: Scalar, length: Scalar) -> Point:
    """Returns the point at a distance from another; the angle is 0 upwards."""
    return start[0] + length * jnp.sin(angle), start[1] - length * jnp.cos(angle)


def _ear(p: Point, base: Point, tilt: float, trait: jax.Array, size: Scalar) -> jax.Array:
    angle = tilt - _blend(trait, 0.0, 0.0, 0.7, 1.7)
    tip = _towards(base, angle, size * _blend(trait, 0.46, 0.20, 0.52, 0.38))
    thick = _blend(trait, 0.15, 0.11, 0.08, 0.09)
    thin = _blend(trait, 0.015, 0.19, 0.07, 0.14)
    return _limb(p, base, tip, thick, thin)


def _leg(p: Point, hip: Point, trait: jax.Array, size: Scalar) -> jax.Array:
    back = 0.24 * _blend(trait, 0.0, 1.0, -0.6, 0.0)
    foot_x = hip[0] - back
    foot_y = hip[1] + size * _blend(trait, 0.40, 0.22, 0.50, 0.18)
    thick = _blend(trait, 0.11, 0.10, 0.08, 0.15)
    thin = _blend(trait, 0.10, 0.14, 0.05, 0.17)
    return _limb(p, hip, (foot_x, foot_y), thick, thin)


def _tail(p: Point, trait: jax.Array, size: Scalar) -> jax.Array:
    """Returns the distance to a tail: a bent stem, a brush at its tip, and the two lobes of a fluke."""
    root = (-0.50, 0.0)
    bend = (-0.77, -0.14)
    reach = size * _blend(trait, 1.0, 1.0, 2.2, -0.4)
    fork = _blend(trait, 0.0, 1.0, 0.0, 0.0)
    tip = (bend[0] - 0.12 * reach, bend[1] - 0.18 * reach)
    upper = _limb(p, root, bend, 0.15, 0.09)
    lower = _limb(p, bend, tip, 0.09, _blend(trait, 0.08, 0.08, 0.05, 0.08))
    stem = _join(upper, lower, 0.1)
    radii = (_blend(trait, 0.20, 0.07, 0.10, 0.10), _blend(trait, 0.27, 0.07, 0.13, 0.10))
    brush = _ellipse(p, (tip[0] - 0.01, tip[1] - 0.06), radii)
    thin = _blend(trait, 0.05, 0.10, 0.05, 0.05)
    lobes = []
    for turn in (-1.1, 1.0):
        end = _towards(tip, turn * fork - 0.5, 0.04 + 0.25 * fork * size)
        lobes.append(_limb(p, tip, end, 0.08, thin))
    return _join(_join(stem, brush, 0.08), jnp.minimum(*lobes), 0.06)


def _markings(p: Point, creature: Creature) -> jax.Array:
    """Returns the strength of the markings at each point, in [0, 1]: stripes, spots, bands or patches."""
    period, direction, shift, slide, contrast = creature.coat
    trait = creature.traits[3]
    x = p[0] * jnp.cos(direction) + p[1] * jnp.sin(direction)
    y = p[1] * jnp.cos(direction) - p[0] * jnp.sin(direction)
    turn = 2 * jnp.pi / period
    band = jnp.cos(turn * x + shift + 0.35 * jnp.sin(3 * y))
    bead = jnp.cos(turn * y + slide)
    patch = 1.6 * jnp.cos(0.55 * turn * x + shift) * jnp.cos(0.55 * turn * y + slide) - 0.35
    field = _blend(trait, band - 0.2, 1.4 * (0.5 * (band + bead) - 0.34), bead - 0.2, patch)
    return contrast * _step(-0.12, 0.12, jnp.asarray(field))


def render_creature(creature: Creature, size: int) -> jax.Array:
    """Renders a creature without background.

    Args:
        creature: one creature.
        size: side of the image in pixels.

    Returns:
        float32 (size, size, 4): RGB premultiplied by alpha, and alpha, in [0, 1].

    Example:
        >>> import jax
        >>> jax.eval_shape(lambda key: render_creature(draw_creature(key, 1), 16), jax.random.key(0)).shape
        (16, 16, 4)
    """
    layers = _layers(_points(creature, size), creature, blur=0.6 / (size * SUPERSAMPLE) / creature.scale)
    # Layer by layer: XLA would make all of them anew for each plane of one stacked array.
    alpha = _mean_of_samples(layers.alpha, size)
    amounts = [_mean_of_samples(paint, size) for paint in layers.paints]
    fur, markings, belly = creature.colours
    colours = jnp.stack([fur, markings, belly, 0.28 * fur, *jnp.array(FACE_PAINTS)])
    colour = jnp.einsum("lhw,lc->hwc", jnp.stack(amounts), colours)
    return jnp.concatenate([jnp.clip(colour, 0, alpha[..., None]), alpha[..., None]], -1)


def _points(creature: Creature, size: int) -> tuple[jax.Array, jax.Array]:
    """Returns x and y of every sample of an image in the creature's frame, (H, W) each."""
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


class Layers(NamedTuple):
    """What is at each sample of an image, (H, W) each."""

    alpha: jax.Array
    """Cover of the creature."""
    paints: list[jax.Array]
    """Amount of each paint: fur, markings, belly, outline, and those of the face."""


def _layers(p: tuple[jax.Array, jax.Array], creature: Creature, *, blur: jax.Array) -> Layers:
    """Lays the parts of a creature over one another and paints them; `blur` is half the width of an edge."""
    fill = ink = alpha = jnp.zeros_like(p[0])
    for part in _parts(p, creature):
        edge = 0.85 * _step(-INK, -0.3 * INK, part.distance)
        cover = _step(blur, -blur, part.distance)
        fill = mix(fill, part.brightness * (1 - edge), cover)
        ink = mix(ink, edge, cover)
        alpha = mix(alpha, 1.0, cover)
    # Light comes from above and in front.
    fill = fill * (1.12 - 0.34 * _step(-0.75, 0.75, p[1]) - 0.10 * _step(0.2, -0.9, p[0]))
    marked = _markings(p, creature)
    pale = 0.85 * _step(0.08, -0.14, _ellipse(p, (-0.02, 0.40), (0.36, 0.17)))
    paints = [fill * (1 - marked) * (1 - pale), fill * marked * (1 - pale), fill * pale, ink]
    paints += [jnp.zeros_like(ink)] * len(FACE_PAINTS)
    for dot in FACE:
        cover = dot.opacity * _step(blur, -blur, _disc(p, dot.centre, dot.radius))
        paints = [mix(paint, float(number == dot.paint), cover) for number, paint in enumerate(paints)]
    return Layers(alpha, paints)


class Part(NamedTuple):
    """A part of the body."""

    distance: jax.Array
    """(H, W), signed; negative inside."""
    brightness: float
    """1 on the near side."""


def _parts(p: Point, creature: Creature) -> tuple[Part, ...]:
    """Returns the parts of the body, from back to front."""
    ears, limbs, tail, _ = creature.traits
    length, height, head_size, ear_size, leg_size, tail_size = creature.build
    body = _ellipse(p, (-0.08, 0.10), (0.60 * length, 0.43 * height))
    head = _ellipse(p, (0.46, -0.32), (0.39 * head_size, 0.36 * head_size))
    return (
        Part(_leg(p, (-0.22, 0.42), limbs, leg_size), FAR),
        Part(_leg(p, (0.34, 0.40), limbs, leg_size), FAR),
        Part(_tail(p, tail, tail_size), 0.9),
        Part(_ear(p, (0.62, -0.56), 0.42, ears, ear_size), FAR),
        Part(_join(body, head, 0.25), NEAR),
        Part(_ear(p, (0.30, -0.58), -0.30, ears, ear_size), NEAR),
        Part(_leg(p, (-0.40, 0.42), limbs, leg_size), NEAR),
        Part(_leg(p, (0.18, 0.44), limbs, leg_size), NEAR),
    )
