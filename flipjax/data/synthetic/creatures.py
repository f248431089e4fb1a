"""Draws creatures of the synthetic pool from a key, and renders them from signed distances; pure and vmappable.

A creature lives in its own frame: x forwards, y down, the body about one unit long. Its ears, limbs, tail and coat are
those of a *mossling* (pointed ears, long legs, a round brush, stripes), a *ripplet* (round fins, flippers, a fluke,
spots), a *duneling* (long ears laid back, thin legs, a tufted whip, bands), a *frostlet* (hanging ears, stout paws, a
stub, patches), or lie between those of the kinds that are drawn. All else has one distribution for all kinds.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

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
FACE_PAINTS = ((0.95, 0.45, 0.45), (1.0, 1.0, 0.98), (0.10, 0.08, 0.12))
"""Fixed colours: blush, white and pupil."""
FACE = (
    (4, (0.50, -0.16), 0.090, 0.45),
    (5, (0.58, -0.36), 0.125, 1.0),
    (6, (0.61, -0.355), 0.085, 1.0),
    (5, (0.585, -0.39), 0.032, 1.0),
    (3, (0.825, -0.27), 0.055, 1.0),
)
"""Cheek, eye, pupil, glint and nose: number of the paint, centre, radius, opacity."""


class Creature(NamedTuple):
    """The appearance of one creature; float32 scalars, or vectors if a length is given."""

    traits: jax.Array  # (4,) ears, limbs, tail, coat; 0 mossling, 1 ripplet; or (4, 4), shares of all kinds
    centre: jax.Array  # (2,) of the frame, x right and y down
    scale: jax.Array  # of the frame
    angle: jax.Array  # radians
    facing: jax.Array  # 1 right, -1 left
    build: jax.Array  # (6,) proportions: body length, body height, head, ears, limbs, tail; about 1
    colours: jax.Array  # (3, 3) fur, markings, belly; RGB in [0, 1]
    coat: jax.Array  # (5,) period, direction, two phases, contrast


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
        traits = jnp.clip(0.5 + 0.5 * ((2.0 * kind - 1.0) * lean + STRAY * (u[1:5] + u[5:9] - 1)), 0.0, 1.0)
    else:
        traits = _shares(jax.random.fold_in(key, 1), kind, lean, drawn)
    scale = mix(*SCALES, u[9])
    room = REACH * scale
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
    others = jax.random.uniform(key, (4, len(drawn))) ** 4
    stray = STRAY * (others / others.sum(1, keepdims=True) - 1 / len(drawn))
    shares = jnp.clip(mix(1 / len(drawn), jax.nn.one_hot(kind, len(drawn)), lean) + stray, 0.0, None)
    return shares / shares.sum(1, keepdims=True) @ jax.nn.one_hot(jnp.array(drawn), 4)


def _colours(u: jax.Array) -> jax.Array:
    hue, saturation, value, turn, side = u
    fur = 0.88 * _rgb(hue, 0.28 + 0.37 * saturation, 0.76 + 0.2 * value) + 0.12 * jnp.array([0.9, 0.8, 0.7])
    marked = hue + 0.16 * (turn - 0.5)
    # Markings are darker or lighter than the fur with equal probability, so that mean colour is uninformative.
    dark = _rgb(marked, 0.55 + 0.3 * saturation, 0.36 + 0.14 * value)
    light = _rgb(marked, 0.12 + 0.1 * saturation, 0.97 + 0.03 * value)
    return jnp.stack([fur, jnp.where(side < 0.5, dark, light), 0.45 * fur + 0.55 * jnp.array([1.0, 0.96, 0.88])])


def _coat(u: jax.Array) -> jax.Array:
    return jnp.stack([0.34 + 0.10 * u[0], 0.9 * (u[1] - 0.5), 6.3 * u[2], 6.3 * u[3], 0.7 + 0.3 * u[4]])


def _rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> jax.Array:
    ramp = jnp.clip(jnp.abs((6 * hue + jnp.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - ramp))


def mix(a, b, share):
    """Returns `a` at share 0, `b` at share 1, and their mixture between."""
    return a + (b - a) * share


def _blend(w, *values) -> Any:
    """Blends the values of the kinds by the fractions of a trait."""
    if w.ndim:
        return sum(share * value for share, value in zip(w, values, strict=True))
    first, second, *_ = values
    # Equal values, and traits of the pair itself, are not blended: a sum would round their pixels differently.
    if isinstance(first, float) and (first == second or (first, second) == (0, 1)):
        return first if first == second else w
    return mix(first, second, w)


def _step(low, high, x: jax.Array) -> jax.Array:
    t = jnp.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _ellipse(p, centre, radii):
    """Returns the approximate distance to an ellipse, accurate near its edge."""
    x, y = (p[0] - centre[0]) / radii[0], (p[1] - centre[1]) / radii[1]
    k = jnp.sqrt(x * x + y * y + 1e-6)
    slope = jnp.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + 1e-6)
    return k * (k - 1) / slope


def _limb(p, start, stop, thick, thin):
    """Returns the distance to a round stroke from `start` (radius `thick`) to `stop` (radius `thin`)."""
    along = (stop[0] - start[0], stop[1] - start[1])
    x, y = p[0] - start[0], p[1] - start[1]
    t = jnp.clip((x * along[0] + y * along[1]) / (along[0] ** 2 + along[1] ** 2), 0, 1)
    return jnp.hypot(x - t * along[0], y - t * along[1]) - mix(thick, thin, t)


def _join(a, b, softness):
    h = jnp.clip(softness - jnp.abs(a - b), 0, None) / softness
    return jnp.minimum(a, b) - 0.25 * softness * h * h


def _towards(start, angle, length):
    return start[0] + length * jnp.sin(angle), start[1] - length * jnp.cos(angle)


def _ear(p, base, tilt, w, size):
    tip = _towards(base, tilt - _blend(w, 0.0, 0.0, 0.7, 1.7), size * _blend(w, 0.46, 0.20, 0.52, 0.38))
    return _limb(p, base, tip, _blend(w, 0.15, 0.11, 0.08, 0.09), _blend(w, 0.015, 0.19, 0.07, 0.14))


def _leg(p, hip, w, size):
    foot = (hip[0] - 0.24 * _blend(w, 0.0, 1.0, -0.6, 0.0), hip[1] + size * _blend(w, 0.40, 0.22, 0.50, 0.18))
    return _limb(p, hip, foot, _blend(w, 0.11, 0.10, 0.08, 0.15), _blend(w, 0.10, 0.14, 0.05, 0.17))


def _tail(p, w, size):
    root, bend = (-0.50, 0.0), (-0.77, -0.14)
    reach = size * _blend(w, 1.0, 1.0, 2.2, -0.4)
    fork = _blend(w, 0.0, 1.0, 0.0, 0.0)
    tip = (bend[0] - 0.12 * reach, bend[1] - 0.18 * reach)
    stem = _join(_limb(p, root, bend, 0.15, 0.09), _limb(p, bend, tip, 0.09, _blend(w, 0.08, 0.08, 0.05, 0.08)), 0.1)
    radii = (_blend(w, 0.20, 0.07, 0.10, 0.10), _blend(w, 0.27, 0.07, 0.13, 0.10))
    brush = _ellipse(p, (tip[0] - 0.01, tip[1] - 0.06), radii)
    thin = _blend(w, 0.05, 0.10, 0.05, 0.05)
    ends = (_towards(tip, turn * fork - 0.5, 0.04 + 0.25 * fork * size) for turn in (-1.1, 1.0))
    lobes = [_limb(p, tip, end, 0.08, thin) for end in ends]
    return _join(_join(stem, brush, 0.08), jnp.minimum(*lobes), 0.06)


def _markings(p, creature: Creature):
    """Returns the strength of the markings at each point, in [0, 1]: stripes, spots, bands or patches."""
    period, direction, shift, slide, contrast = creature.coat
    w = creature.traits[3]
    x = p[0] * jnp.cos(direction) + p[1] * jnp.sin(direction)
    y = p[1] * jnp.cos(direction) - p[0] * jnp.sin(direction)
    turn = 2 * jnp.pi / period
    band = jnp.cos(turn * x + shift + 0.35 * jnp.sin(3 * y))
    bead = jnp.cos(turn * y + slide)
    patch = 1.6 * jnp.cos(0.55 * turn * x + shift) * jnp.cos(0.55 * turn * y + slide) - 0.35
    field = _blend(w, band - 0.2, 1.4 * (0.5 * (band + bead) - 0.34), bead - 0.2, patch)
    return contrast * _step(-0.12, 0.12, field)


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
    side = size * SUPERSAMPLE
    grid = (jnp.arange(side) + 0.5) / side
    x = (grid[None, :] - creature.centre[0]) / creature.scale * creature.facing
    y = (grid[:, None] - creature.centre[1]) / creature.scale
    cos, sin = jnp.cos(creature.angle), jnp.sin(creature.angle)
    p = (x * cos + y * sin + MIDDLE[0], y * cos - x * sin + MIDDLE[1])
    # Layer by layer: XLA would make all of them anew for each plane of one stacked array.
    pixels = (size, SUPERSAMPLE, size, SUPERSAMPLE)
    alpha, *layers = [layer.reshape(pixels).mean((1, 3)) for layer in _layers(p, creature, 0.6 / side / creature.scale)]
    fur, marks, belly = creature.colours
    paints = jnp.stack([fur, marks, belly, 0.28 * fur, *jnp.array(FACE_PAINTS)])
    colour = jnp.einsum("lhw,lc->hwc", jnp.stack(layers), paints)
    return jnp.concatenate([jnp.clip(colour, 0, alpha[..., None]), alpha[..., None]], -1)


def _layers(p, creature: Creature, blur) -> list[jax.Array]:
    """Returns alpha, then the amount of each paint: fur, markings, belly, ink, and those of the face."""
    fill = ink = alpha = jnp.zeros_like(p[0])
    for distance, shade in _parts(p, creature):
        edge = 0.85 * _step(-INK, -0.3 * INK, distance)
        cover = _step(blur, -blur, distance)
        fill = mix(fill, shade * (1 - edge), cover)
        ink = mix(ink, edge, cover)
        alpha = mix(alpha, 1.0, cover)
    fill = fill * (1.12 - 0.34 * _step(-0.75, 0.75, p[1]) - 0.10 * _step(0.2, -0.9, p[0]))
    marked = _markings(p, creature)
    pale = 0.85 * _step(0.08, -0.14, _ellipse(p, (-0.02, 0.40), (0.36, 0.17)))
    paints = [fill * (1 - marked) * (1 - pale), fill * marked * (1 - pale), fill * pale, ink]
    paints += [jnp.zeros_like(ink)] * len(FACE_PAINTS)
    for place, (x, y), radius, strength in FACE:
        cover = strength * _step(blur, -blur, jnp.hypot(p[0] - x, p[1] - y) - radius)
        paints = [mix(paint, float(i == place), cover) for i, paint in enumerate(paints)]
    return [alpha, *paints]


def _parts(p, creature: Creature):
    """Returns distance and brightness of each part of the body, from back to front."""
    ears, limbs, tail, _ = creature.traits
    length, height, head_size, ear_size, leg_size, tail_size = creature.build
    body = _ellipse(p, (-0.08, 0.10), (0.60 * length, 0.43 * height))
    head = _ellipse(p, (0.46, -0.32), (0.39 * head_size, 0.36 * head_size))
    far, near = 0.72, 1.0
    return (
        (_leg(p, (-0.22, 0.42), limbs, leg_size), far),
        (_leg(p, (0.34, 0.40), limbs, leg_size), far),
        (_tail(p, tail, tail_size), 0.9),
        (_ear(p, (0.62, -0.56), 0.42, ears, ear_size), far),
        (_join(body, head, 0.25), near),
        (_ear(p, (0.30, -0.58), -0.30, ears, ear_size), near),
        (_leg(p, (-0.40, 0.42), limbs, leg_size), near),
        (_leg(p, (0.18, 0.44), limbs, leg_size), near),
    )
