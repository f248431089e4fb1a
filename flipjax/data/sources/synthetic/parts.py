"""The parts of a synthetic creature's body, and the markings of its coat: their measures for the four kinds.

Each part has a table of its measures (`OfKinds`) and a function that returns its signed distance. A trait chooses
between the columns of a table (`_blend`). Lengths are in creature units and angles in radians. Stored results are of
the pool that this arithmetic draws: to change a number, or the order of operations, is to draw another pool.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from flipjax.data.sources.synthetic.creatures import TRAITS, Creature, OfKinds
from flipjax.data.sources.synthetic.shapes import (
    Point,
    Scalar,
    ellipse,
    join,
    mix,
    point_towards,
    smooth_step,
    stroke,
)

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


def body_parts(p: Point, creature: Creature) -> tuple[Part, ...]:
    """Returns the parts of the body, from back to front."""
    ears, limbs, tail, _ = creature.traits
    length, height, head_size, ear_size, leg_size, tail_size = creature.build
    body = ellipse(p, (-0.08, 0.10), (0.60 * length, 0.43 * height))
    head = ellipse(p, (0.46, -0.32), (0.39 * head_size, 0.36 * head_size))
    return (
        Part(_leg(p, (-0.22, 0.42), limbs, leg_size), FAR_BRIGHTNESS),
        Part(_leg(p, (0.34, 0.40), limbs, leg_size), FAR_BRIGHTNESS),
        Part(_tail(p, tail, tail_size), TAIL_BRIGHTNESS),
        Part(_ear(p, (0.62, -0.56), 0.42, ears, ear_size), FAR_BRIGHTNESS),
        Part(join(body, head, 0.25), NEAR_BRIGHTNESS),
        Part(_ear(p, (0.30, -0.58), -0.30, ears, ear_size), NEAR_BRIGHTNESS),
        Part(_leg(p, (-0.40, 0.42), limbs, leg_size), NEAR_BRIGHTNESS),
        Part(_leg(p, (0.18, 0.44), limbs, leg_size), NEAR_BRIGHTNESS),
    )


def markings_at(p: Point, creature: Creature) -> jax.Array:
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
    return contrast * smooth_step(-0.12, 0.12, jnp.asarray(field))


EAR_DROOP = OfKinds(mossling=0.0, ripplet=0.0, duneling=0.7, frostlet=1.7)
"""Angle by which an ear is turned back from its tilt."""
EAR_LENGTH = OfKinds(mossling=0.46, ripplet=0.20, duneling=0.52, frostlet=0.38)
EAR_BASE_RADIUS = OfKinds(mossling=0.15, ripplet=0.11, duneling=0.08, frostlet=0.09)
EAR_TIP_RADIUS = OfKinds(mossling=0.015, ripplet=0.19, duneling=0.07, frostlet=0.14)


def _ear(p: Point, base: Point, tilt: float, trait: jax.Array, size: Scalar) -> jax.Array:
    """Returns the distance to an ear: a stroke from its base, upwards at a tilt of 0."""
    angle = tilt - _blend(trait, EAR_DROOP)
    tip = point_towards(base, angle, size * _blend(trait, EAR_LENGTH))
    return stroke(p, base, tip, _blend(trait, EAR_BASE_RADIUS), _blend(trait, EAR_TIP_RADIUS))


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
    return stroke(p, hip, foot, _blend(trait, LEG_HIP_RADIUS), _blend(trait, LEG_FOOT_RADIUS))


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
    upper = stroke(p, TAIL_ROOT, TAIL_BEND, 0.15, 0.09)
    lower = stroke(p, TAIL_BEND, tip, 0.09, _blend(trait, TAIL_TIP_RADIUS))
    stem = join(upper, lower, 0.1)
    brush_radii = (_blend(trait, BRUSH_WIDTH), _blend(trait, BRUSH_HEIGHT))
    brush = ellipse(p, (tip[0] - 0.01, tip[1] - 0.06), brush_radii)
    lobe_tip_radius = _blend(trait, LOBE_TIP_RADIUS)
    lobes = []
    for angle in LOBE_ANGLES:
        # Hidden lobes lie on one another and are 0.04 long; those of a whole fluke are 0.25 longer.
        lobe_tip = point_towards(tip, angle * spread - 0.5, 0.04 + 0.25 * spread * size)
        lobes.append(stroke(p, tip, lobe_tip, 0.08, lobe_tip_radius))
    return join(join(stem, brush, 0.08), jnp.minimum(*lobes), 0.06)


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
