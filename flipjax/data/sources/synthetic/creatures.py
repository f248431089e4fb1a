"""Draws creatures of the synthetic pool from a key, and renders them from signed distances; pure and vmappable.

A creature lives in its own frame: x forwards, y down, the body about one unit long. Its ears, limbs, tail and coat are
those of a *mossling* (pointed ears, long legs, a round brush, stripes), a *ripplet* (round fins, flippers, a fluke,
spots), a *duneling* (long ears laid back, thin legs, a tufted whip, bands), a *frostlet* (hanging ears, stout paws, a
stub, patches), or lie between those of the kinds that are drawn. All else has one distribution for all kinds.

The file reads from top to bottom:

1. `draw_creature` turns random numbers into a `Creature`: where it is, how it is built, and four traits.
2. `render_creature` turns a `Creature` into an image. At every sample it lays the parts of the body over one another
   from back to front (`_body`), then paints the coat, the belly and the face (`_painted`).
3. Each part of the body has a table of its measures for the four kinds (`OfKinds`) and a function that returns its
   signed distance. A trait chooses between the columns of a table (`_blend`).
4. The last functions are the shapes that parts are made of.

Lengths are in creature units and angles in radians unless said otherwise. Stored results are of the pool that this
arithmetic draws: to change a number, or the order of operations, is to draw another pool.
"""

import enum
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

Scalar: TypeAlias = jax.Array | float
"""A number, in Python or traced."""
Point: TypeAlias = tuple[Scalar, Scalar]
"""x and y in creature units: of one place, or of every sample of the image, each (H, W)."""
Samples: TypeAlias = tuple[jax.Array, jax.Array]
"""x and y of every sample of the image in creature units, each (H, W)."""

PAIR = (0, 1)
"""Indices of mossling and ripplet in `flipjax.config.naming.CREATURES`, and of land and water in `LANDSCAPES`."""
SUPERSAMPLE = 2
"""Samples along each side of a pixel, whose mean is the pixel."""
UNIFORM_COUNT = 37
"""How many uniform random numbers a creature is drawn from."""
LEAN_EXPONENT = 0.28
"""The lean is u ** LEAN_EXPONENT, with u uniform in [0, 1]: near 1 for most creatures, near 0 for a few hybrids."""
STRAY = 0.2
"""Largest deviation of a trait from the creature's lean, on a scale from 0 (hybrid) to 1 (one kind)."""
SCALES = (0.24, 0.345)
"""Smallest and largest length of one creature unit, as a fraction of the frame."""
MIDDLE = (-0.15, -0.10)
"""The point of a creature that is drawn at `Creature.centre`: the middle of a circle that holds every creature."""
CIRCLE_RADIUS = 1.40
"""Radius of that circle, which keeps every creature inside the frame."""
LARGEST_TILT = 0.55
"""Largest angle by which a creature is turned, either way."""
BUILD_SPREAD = 0.14
"""Largest deviation of a proportion from 1."""


TRAITS = ("ears", "limbs", "tail", "coat")
"""What tells the kinds apart, in the order of `Creature.traits`."""


class OfKinds(NamedTuple):
    """A measure of one part of the body, for each kind of creature."""

    mossling: Scalar
    ripplet: Scalar
    duneling: Scalar
    frostlet: Scalar


class Creature(NamedTuple):
    """The appearance of one creature, float32."""

    traits: jax.Array
    """What the ears, limbs, tail and coat look like, in this order. Of a creature of `PAIR`, (4,), from 0
    (mossling) to 1 (ripplet); of other kinds (4, 4), the share of each kind (columns) in each trait (rows)."""
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
    """(5,) of the markings on the coat: period, direction, phases along and across the body, contrast."""


def draw_creature(key: jax.Array, kind: int | jax.Array, *, drawn: tuple[int, ...] = PAIR) -> Creature:
    """Draws one creature of a kind.

    A creature leans towards its kind by its own random number, from 0 (an unrecognisable hybrid) to 1; each trait then
    varies a little.

    Args:
        key: PRNG key.
        kind: int32 (), its index in `drawn`.
        drawn: the possible kinds, as indices into `flipjax.config.naming.CREATURES`.

    Returns:
        The creature, float32.

    Example:
        >>> import jax
        >>> a, b = (jax.jit(draw_creature)(jax.random.key(0), kind) for kind in (0, 1))
        >>> bool((a.colours == b.colours).all()), bool((a.traits <= b.traits).all())
        (True, True)
    """
    # Each of these uniform numbers has one use, so that what it decides is independent of all else.
    u = jax.random.uniform(key, (UNIFORM_COUNT,))
    lean = u[0] ** LEAN_EXPONENT
    if drawn == PAIR:
        towards_kind = (2.0 * kind - 1.0) * lean
        stray = STRAY * _mostly_small(u[1:5], u[5:9])
        traits = jnp.clip(0.5 + 0.5 * (towards_kind + stray), 0.0, 1.0)
    else:
        traits = _shares(jax.random.fold_in(key, 1), kind, lean, drawn)
    scale = mix(*SCALES, u[9])
    margin = CIRCLE_RADIUS * scale
    return Creature(
        traits=traits,
        centre=mix(margin, 1 - margin, u[10:12]),
        scale=scale,
        angle=LARGEST_TILT * _mostly_small(u[12], u[13]),
        facing=jnp.where(u[14] < 0.5, 1.0, -1.0),
        build=1 + BUILD_SPREAD * _mostly_small(u[15:21], u[21:27]),
        colours=_colours(u[27:32]),
        coat=_coat(u[32:37]),
    )


def _mostly_small(u: jax.Array, v: jax.Array) -> jax.Array:
    """Returns numbers in [-1, 1], most often near 0, from two uniform ones each."""
    return u + v - 1


def _shares(key: jax.Array, kind: int | jax.Array, lean: jax.Array, drawn: tuple[int, ...]) -> jax.Array:
    """Returns the fraction of each kind in each trait (4, 4); a hybrid has equal fractions of all drawn kinds."""
    even = 1 / len(drawn)
    # A row a trait. The fourth power makes one of the fractions stand out.
    draws = jax.random.uniform(key, (len(TRAITS), len(drawn))) ** 4
    stray = STRAY * (draws / draws.sum(1, keepdims=True) - even)
    of_kind = jax.nn.one_hot(kind, len(drawn))
    shares = jnp.clip(mix(even, of_kind, lean) + stray, 0.0, None)
    fractions = shares / shares.sum(1, keepdims=True)
    # A row a drawn kind, one-hot in the columns of all kinds.
    kind_of_drawn = jax.nn.one_hot(jnp.array(drawn), len(OfKinds._fields))
    return fractions @ kind_of_drawn


BEIGE = (0.9, 0.8, 0.7)
"""Colour that is mixed into every fur, at a share of 12%."""
CREAM = (1.0, 0.96, 0.88)
"""Colour that is mixed into the fur's to paint the belly, at a share of 55%."""


def _colours(u: jax.Array) -> jax.Array:
    """Returns the colours of fur, markings and belly (3, 3) from uniform numbers (5,)."""
    hue, saturation, value, hue_change, side = u
    fur = 0.88 * _rgb(hue, 0.28 + 0.37 * saturation, 0.76 + 0.2 * value) + 0.12 * jnp.array(BEIGE)
    hue_of_markings = hue + 0.16 * (hue_change - 0.5)
    # Markings are darker or lighter than the fur with equal probability, so that mean colour is uninformative.
    dark = _rgb(hue_of_markings, 0.55 + 0.3 * saturation, 0.36 + 0.14 * value)
    light = _rgb(hue_of_markings, 0.12 + 0.1 * saturation, 0.97 + 0.03 * value)
    markings = jnp.where(side < 0.5, dark, light)
    belly = 0.45 * fur + 0.55 * jnp.array(CREAM)
    return jnp.stack([fur, markings, belly])


def _rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> jax.Array:
    """Returns a colour (3,) in [0, 1]; hues repeat with period 1."""
    ramp = jnp.clip(jnp.abs((6 * hue + jnp.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - ramp))


def _coat(u: jax.Array) -> jax.Array:
    """Returns period, direction, two phases and contrast (5,) of the markings from uniform numbers (5,)."""
    period = 0.34 + 0.10 * u[0]
    direction = 0.9 * (u[1] - 0.5)
    # 6.3 is a little more than a whole period, 2 pi.
    phase_along = 6.3 * u[2]
    phase_across = 6.3 * u[3]
    contrast = 0.7 + 0.3 * u[4]
    return jnp.stack([period, direction, phase_along, phase_across, contrast])


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
        >>> import jax
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
    marked = _markings(p, creature)
    pale = BELLY_OPACITY * _step(0.08, -0.14, _ellipse(p, BELLY_CENTRE, BELLY_RADII))
    fur = body.brightness * (1 - marked) * (1 - pale)
    markings = body.brightness * marked * (1 - pale)
    belly = body.brightness * pale
    paints = [fur, markings, belly, body.outline]
    paints += [jnp.zeros_like(body.outline)] * len(FACE_COLOURS)
    for dot in FACE:
        cover = dot.opacity * _step(blur, -blur, _disc(p, dot.centre, dot.radius))
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
    for part in _parts(p, creature):
        edge = OUTLINE_OPACITY * _step(-OUTLINE_WIDTH, -0.3 * OUTLINE_WIDTH, part.distance)
        cover = _step(blur, -blur, part.distance)
        brightness = mix(brightness, part.brightness * (1 - edge), cover)
        outline = mix(outline, edge, cover)
        alpha = mix(alpha, 1.0, cover)
    light = LIGHT - SHADE_BELOW * _step(-0.75, 0.75, p[1]) - SHADE_BEHIND * _step(0.2, -0.9, p[0])
    return Body(brightness * light, outline, alpha)


FAR_BRIGHTNESS = 0.72
"""Brightness of ears and legs on the far side of the body."""
TAIL_BRIGHTNESS = 0.9
"""Brightness of the tail, which is behind the body."""
NEAR_BRIGHTNESS = 1.0
"""Brightness of the body and of what is on its near side."""


class Part(NamedTuple):
    """A part of the body."""

    distance: jax.Array
    """(H, W), signed: negative inside."""
    brightness: float
    """`FAR_BRIGHTNESS`, `TAIL_BRIGHTNESS` or `NEAR_BRIGHTNESS`."""


def _parts(p: Point, creature: Creature) -> tuple[Part, ...]:
    """Returns the parts of the body, from back to front."""
    ears, limbs, tail, _ = creature.traits
    length, height, head_size, ear_size, leg_size, tail_size = creature.build
    body = _ellipse(p, (-0.08, 0.10), (0.60 * length, 0.43 * height))
    head = _ellipse(p, (0.46, -0.32), (0.39 * head_size, 0.36 * head_size))
    return (
        Part(_leg(p, (-0.22, 0.42), limbs, leg_size), FAR_BRIGHTNESS),
        Part(_leg(p, (0.34, 0.40), limbs, leg_size), FAR_BRIGHTNESS),
        Part(_tail(p, tail, tail_size), TAIL_BRIGHTNESS),
        Part(_ear(p, (0.62, -0.56), 0.42, ears, ear_size), FAR_BRIGHTNESS),
        Part(_join(body, head, 0.25), NEAR_BRIGHTNESS),
        Part(_ear(p, (0.30, -0.58), -0.30, ears, ear_size), NEAR_BRIGHTNESS),
        Part(_leg(p, (-0.40, 0.42), limbs, leg_size), NEAR_BRIGHTNESS),
        Part(_leg(p, (0.18, 0.44), limbs, leg_size), NEAR_BRIGHTNESS),
    )


EAR_DROOP = OfKinds(mossling=0.0, ripplet=0.0, duneling=0.7, frostlet=1.7)
"""Angle by which an ear is turned back from its tilt."""
EAR_LENGTH = OfKinds(mossling=0.46, ripplet=0.20, duneling=0.52, frostlet=0.38)
EAR_BASE_RADIUS = OfKinds(mossling=0.15, ripplet=0.11, duneling=0.08, frostlet=0.09)
EAR_TIP_RADIUS = OfKinds(mossling=0.015, ripplet=0.19, duneling=0.07, frostlet=0.14)


def _ear(p: Point, base: Point, tilt: float, trait: jax.Array, size: Scalar) -> jax.Array:
    """Returns the distance to an ear: a stroke from its base, upwards at a tilt of 0."""
    angle = tilt - _blend(trait, EAR_DROOP)
    tip = _towards(base, angle, size * _blend(trait, EAR_LENGTH))
    return _stroke(p, base, tip, _blend(trait, EAR_BASE_RADIUS), _blend(trait, EAR_TIP_RADIUS))


LEG_BEND = OfKinds(mossling=0.0, ripplet=1.0, duneling=-0.6, frostlet=0.0)
"""How far the foot is behind the hip: 0.24 times this number."""
LEG_LENGTH = OfKinds(mossling=0.40, ripplet=0.22, duneling=0.50, frostlet=0.18)
"""How far the foot is below the hip."""
LEG_HIP_RADIUS = OfKinds(mossling=0.11, ripplet=0.10, duneling=0.08, frostlet=0.15)
LEG_FOOT_RADIUS = OfKinds(mossling=0.10, ripplet=0.14, duneling=0.05, frostlet=0.17)


def _leg(p: Point, hip: Point, trait: jax.Array, size: Scalar) -> jax.Array:
    """Returns the distance to a leg: a stroke from hip to foot."""
    back = 0.24 * _blend(trait, LEG_BEND)
    foot = (hip[0] - back, hip[1] + size * _blend(trait, LEG_LENGTH))
    return _stroke(p, hip, foot, _blend(trait, LEG_HIP_RADIUS), _blend(trait, LEG_FOOT_RADIUS))


TAIL_ROOT = (-0.50, 0.0)
"""Where the tail leaves the body."""
TAIL_BEND = (-0.77, -0.14)
"""Where the tail turns upwards."""
TAIL_EXTENSION = OfKinds(mossling=1.0, ripplet=1.0, duneling=2.2, frostlet=-0.4)
"""How far the tip is from the bend: 0.12 times this number backwards and 0.18 times it upwards. Below 0 the tip is on
the side of the body: a stub."""
TAIL_TIP_RADIUS = OfKinds(mossling=0.08, ripplet=0.08, duneling=0.05, frostlet=0.08)
"""Radius of the stem at its tip."""
BRUSH_WIDTH = OfKinds(mossling=0.20, ripplet=0.07, duneling=0.10, frostlet=0.10)
BRUSH_HEIGHT = OfKinds(mossling=0.27, ripplet=0.07, duneling=0.13, frostlet=0.10)
"""Half-axes of the ellipse at the tip."""
FLUKE_SPREAD = OfKinds(mossling=0.0, ripplet=1.0, duneling=0.0, frostlet=0.0)
"""How far the lobes of the fluke are spread: 0 hides them in the brush."""
LOBE_TIP_RADIUS = OfKinds(mossling=0.05, ripplet=0.10, duneling=0.05, frostlet=0.05)
LOBE_ANGLES = (-1.1, 1.0)
"""Angles of the two lobes of a whole fluke, from the direction between them, which is 0.5 backwards from upwards."""


def _tail(p: Point, trait: jax.Array, size: Scalar) -> jax.Array:
    """Returns the distance to a tail: a bent stem, a brush at its tip, and the two lobes of a fluke."""
    extension = size * _blend(trait, TAIL_EXTENSION)
    spread = _blend(trait, FLUKE_SPREAD)
    tip = (TAIL_BEND[0] - 0.12 * extension, TAIL_BEND[1] - 0.18 * extension)
    upper = _stroke(p, TAIL_ROOT, TAIL_BEND, 0.15, 0.09)
    lower = _stroke(p, TAIL_BEND, tip, 0.09, _blend(trait, TAIL_TIP_RADIUS))
    stem = _join(upper, lower, 0.1)
    brush_radii = (_blend(trait, BRUSH_WIDTH), _blend(trait, BRUSH_HEIGHT))
    brush = _ellipse(p, (tip[0] - 0.01, tip[1] - 0.06), brush_radii)
    lobe_tip_radius = _blend(trait, LOBE_TIP_RADIUS)
    lobes = []
    for angle in LOBE_ANGLES:
        # Hidden lobes lie on one another and are 0.04 long; those of a whole fluke are 0.25 longer.
        lobe_tip = _towards(tip, angle * spread - 0.5, 0.04 + 0.25 * spread * size)
        lobes.append(_stroke(p, tip, lobe_tip, 0.08, lobe_tip_radius))
    return _join(_join(stem, brush, 0.08), jnp.minimum(*lobes), 0.06)


def _markings(p: Point, creature: Creature) -> jax.Array:
    """Returns the strength of the markings at each point, in [0, 1]: stripes, spots, bands or patches.

    Each kind has a wavy field, which is marked where it is above 0.
    """
    period, direction, phase_along, phase_across, contrast = creature.coat
    trait = creature.traits[TRAITS.index("coat")]
    x = p[0] * jnp.cos(direction) + p[1] * jnp.sin(direction)
    y = p[1] * jnp.cos(direction) - p[0] * jnp.sin(direction)
    wavenumber = 2 * jnp.pi / period
    # Waves along the body and across it. The waves of patches are nearly twice as long.
    along = jnp.cos(wavenumber * x + phase_along + 0.35 * jnp.sin(3 * y))
    across = jnp.cos(wavenumber * y + phase_across)
    patches = 1.6 * jnp.cos(0.55 * wavenumber * x + phase_along) * jnp.cos(0.55 * wavenumber * y + phase_across) - 0.35
    stripes = along - 0.2
    spots = 1.4 * (0.5 * (along + across) - 0.34)
    bands = across - 0.2
    field = _blend(trait, OfKinds(stripes, spots, bands, patches))
    return contrast * _step(-0.12, 0.12, jnp.asarray(field))


def _blend(trait: jax.Array, measures: OfKinds) -> Scalar:
    """Returns a measure between those of the kinds.

    Args:
        trait: () from 0 (mossling) to 1 (ripplet); or (4,), the shares of all kinds.
        measures: numbers, or arrays of one shape.
    """
    if trait.ndim:
        return sum(share * measure for share, measure in zip(trait, measures, strict=True))
    mossling = measures.mossling
    ripplet = measures.ripplet
    # Equal measures, and those from 0 to 1, need no arithmetic. Mixing them all the same would round some pixels of the
    # pool differently.
    if isinstance(mossling, float) and mossling == ripplet:
        return mossling
    if isinstance(mossling, float) and (mossling, ripplet) == (0, 1):
        return trait
    return mix(mossling, ripplet, trait)


# Signed distances of shapes at points p, negative inside.


def _ellipse(p: Point, centre: Point, radii: Point) -> jax.Array:
    """Returns the approximate distance to an ellipse, accurate near its edge."""
    x = (p[0] - centre[0]) / radii[0]
    y = (p[1] - centre[1]) / radii[1]
    # The distance from the centre in half-axes: 1 on the edge.
    level = jnp.sqrt(x * x + y * y + 1e-6)
    slope = jnp.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + 1e-6)
    return level * (level - 1) / slope


def _disc(p: Point, centre: Point, radius: float) -> jax.Array:
    """Returns the distance to a disc."""
    return jnp.hypot(p[0] - centre[0], p[1] - centre[1]) - radius


def _stroke(p: Point, start: Point, stop: Point, start_radius: Scalar, stop_radius: Scalar) -> jax.Array:
    """Returns the distance to a round stroke whose radius changes evenly from `start` to `stop`."""
    along = (stop[0] - start[0], stop[1] - start[1])
    x = p[0] - start[0]
    y = p[1] - start[1]
    # Where on the stroke's axis the nearest point is: 0 at its start, 1 at its stop.
    nearest = jnp.clip((x * along[0] + y * along[1]) / (along[0] ** 2 + along[1] ** 2), 0, 1)
    return jnp.hypot(x - nearest * along[0], y - nearest * along[1]) - mix(start_radius, stop_radius, nearest)


def _join(a: jax.Array, b: jax.Array, softness: float) -> jax.Array:
    """Returns the distance to two shapes that melt into each other where their distances differ by under `softness`."""
    # 1 where both are equally far, 0 where their distances differ by `softness` or more.
    closeness = jnp.clip(softness - jnp.abs(a - b), 0, None) / softness
    return jnp.minimum(a, b) - 0.25 * softness * closeness * closeness


def _towards(start: Point, angle: Scalar, length: Scalar) -> Point:
    """Returns the point at a distance from another; the angle is 0 upwards and grows forwards."""
    return start[0] + length * jnp.sin(angle), start[1] - length * jnp.cos(angle)


def _step(low: Scalar, high: Scalar, x: jax.Array) -> jax.Array:
    """Returns a smooth step: 0 where x is `low` or beyond it, 1 where it is `high` or beyond; `low` may be larger."""
    share = jnp.clip((x - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def mix(a: Scalar, b: Scalar, share: Scalar) -> jax.Array:
    """Returns `a` at share 0, `b` at share 1, and their mixture between."""
    return a + (b - a) * share  # pyright: ignore[reportReturnType]  # One of them is an array.
