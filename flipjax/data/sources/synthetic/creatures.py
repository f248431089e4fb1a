"""Draws creatures of the synthetic pool from a key: their place, build, colours and four traits; pure and vmappable.

A creature lives in its own frame: x forwards, y down, the body about one unit long. Its ears, limbs, tail and coat are
those of a *mossling* (pointed ears, long legs, a round brush, stripes), a *ripplet* (round fins, flippers, a fluke,
spots), a *duneling* (long ears laid back, thin legs, a tufted whip, bands), a *frostlet* (hanging ears, stout paws, a
stub, patches), or lie between those of the kinds that are drawn. All else has one distribution for all kinds.

`flipjax.data.sources.synthetic.render` makes an image of a `Creature`. Lengths are in creature units and angles in
radians unless said otherwise. Stored results are of the pool that this arithmetic draws: to change a number, or the
order of operations, is to draw another pool.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from flipjax.data.sources.synthetic.shapes import Scalar, mix

PAIR = (0, 1)
"""Indices of mossling and ripplet in `flipjax.config.naming.CREATURES`, and of land and water in `LANDSCAPES`."""
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
    """What the ears, limbs, tail and coat look like, in this order. A creature of `PAIR` has (4,), from
    0 (mossling) to 1 (ripplet). Others have (4, 4), the share of each kind (columns) in each trait (rows)."""
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
