"""Draws scenes of the synthetic pool from a key: hills, sea, desert or snow; pure and vmappable.

All scenes have the same distribution of sky, light and horizon. A shore divides the ground into two sorts; the scene's
own sort covers most or all of it.

`draw_landscape` draws random numbers, and `render_landscape` makes an image of them: a sky, two grounds, and the shore
between them. `_land`, `_water`, `_desert` and `_snow` draw the grounds; noise is smooth, from lattices of numbers.
Lengths are fractions of the frame, x from left to right and y from top to bottom. Stored results are of the pool that
this arithmetic draws: to change a number, or the order of operations, is to draw another pool.
"""

import math
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.data.sources.synthetic.creatures import PAIR
from flipjax.data.sources.synthetic.render import SUPERSAMPLE
from flipjax.data.sources.synthetic.shapes import mix

Line: TypeAlias = np.ndarray | jax.Array
"""Places along one side of the frame: x (W,) or y (H,), from 0 to 1."""
Point: TypeAlias = tuple[jax.Array, jax.Array]
"""x and y of a place in the frame, () each."""

SHORES = 0.6
"""How far below 1 a scene's lean can be; at 1 its own ground fills the frame, see `_offshore`."""
TREES = 7
"""Trees or cacti in a row."""


class Draw(NamedTuple):
    """The random numbers behind one scene, uniform in [0, 1], of the shapes in `SHAPES`; lattices of noise are last."""

    heights: jax.Array
    """Of the horizon and of the sun."""
    hour: jax.Array
    """Of the day, which colours the sky."""
    across: jax.Array
    """Where the sun stands."""
    tones: jax.Array
    """Of meadow, flowers and sea."""
    shore: jax.Array
    """Its bearing, and how much of it there is."""
    trees: jax.Array
    """Of two rows of TREES trees: position, height, presence and shape."""
    ridges: jax.Array
    """Lattices of the crests of hills or dunes."""
    broad: jax.Array
    """Lattices of clouds, patches and bays."""
    fine: jax.Array
    """Lattice of clouds."""
    grass: jax.Array
    """Lattices of blades and flowers."""
    swell: jax.Array
    """Lattices of waves."""
    ripple: jax.Array
    """Lattices of foam and glints."""


SHAPES = {
    "heights": (2,),
    "hour": (),
    "across": (),
    "tones": (3,),
    "shore": (2,),
    "trees": (2, 4, TREES),
    "ridges": (3, 1, 6),
    "broad": (3, 10, 6),
    "fine": (1, 21, 12),
    "grass": (2, 36, 56),
    "swell": (2, 17, 7),
    "ripple": (2, 33, 25),
}
"""The shape of each field of `Draw`, in the order in which they are drawn."""


def draw_landscape(key: jax.Array) -> Draw:
    """Draws the numbers of one scene, which are the same for all kinds.

    Example:
        >>> import jax
        >>> draw_landscape(jax.random.key(0)).ridges.shape
        (3, 1, 6)
    """
    sizes = [math.prod(shape) for shape in SHAPES.values()]
    # A single call, since the generator is slow to compile.
    parts = jnp.split(jax.random.uniform(key, (sum(sizes),)), np.cumsum(sizes)[:-1])
    fields = zip(SHAPES.items(), parts, strict=True)
    return Draw(**{name: part.reshape(shape) for (name, shape), part in fields})


def render_landscape(
    u: Draw, kind: int | jax.Array, size: int, *, drawn: tuple[int, ...] = PAIR, step: int | jax.Array = 1
) -> jax.Array:
    """Renders one scene.

    Args:
        u: its random numbers.
        kind: int32 (), its index in `drawn`.
        size: side of the image in pixels.
        drawn: the possible kinds, as indices into `flipjax.config.naming.LANDSCAPES`.
        step: offset in `drawn` of the other sort of ground.

    Returns:
        float32 (size, size, 3), RGB in [0, 1].

    Example:
        >>> import jax
        >>> jax.eval_shape(lambda key: render_landscape(draw_landscape(key), 1, 16), jax.random.key(0)).shape
        (16, 16, 3)
    """
    side = size * SUPERSAMPLE
    x = y = (np.arange(side) + 0.5) / side
    horizon = 0.30 + 0.16 * u.heights[0]
    depth = y - horizon
    clouds, patches, bays = _noise(u.broad, y, x)
    sky = _sky(u, x, y, horizon, 0.6 * clouds + 0.4 * _noise(u.fine, y, x)[0])
    land = _land(u, x, y, horizon, sky.colours, patches)
    water = _water(u, x, depth / (1 - horizon), sky.sun)
    lean = 1 - SHORES * u.shore[1] ** 2
    below = _over(depth)[:, None]
    if drawn == PAIR:
        # Land and water share a shore, and the kind says which of them is the larger.
        offshore = _offshore(u.shore[0], x, y, bays, (2.0 * kind - 1.0) * lean)
        beyond = _over(offshore, 0.01)
        view = _View(land.colours, water, offshore, beyond, land.cover * (1 - beyond), beyond * below)
    else:
        desert = _desert(u, x, y, horizon, sky.colours)
        snow = _snow(u, x, y, horizon, sky.colours, patches)
        # In the order of LANDSCAPES.
        grounds = [land, Ground(water, jnp.zeros_like(land.cover)), desert, snow]
        colours = jnp.stack([grounds[number].colours for number in drawn])
        covers = jnp.stack([grounds[number].cover for number in drawn])
        # The scene's own ground lies beyond a shore of another kind.
        other = (kind + step) % len(drawn)
        near = colours[other]
        far = colours[kind]
        offshore = _offshore(u.shore[0], x, y, bays, lean)
        beyond = _over(offshore, 0.01)
        cover = mix(covers[other], covers[kind], beyond)
        view = _View(near, far, offshore, beyond, cover, beyond * jnp.maximum(below, cover))
    beach = jnp.clip(1.5 + view.offshore / 0.03, 0, 1) * (1 - view.beyond) * below
    near = mix(view.near, jnp.array([0.90, 0.82, 0.62]), 0.8 * beach[..., None])
    ground = mix(near, view.far, view.far_share[..., None]) * sky.light
    colour = mix(sky.colours, ground, jnp.maximum(below, view.cover)[..., None])
    return jnp.clip(colour.reshape(size, SUPERSAMPLE, size, SUPERSAMPLE, 3).mean((1, 3)), 0, 1)


class Ground(NamedTuple):
    """A sort of ground, at each sample of the frame."""

    colours: jax.Array
    """(H, W, 3), RGB."""
    cover: jax.Array
    """(H, W), where it hides the sky above the horizon, in [0, 1]."""


class _View(NamedTuple):
    """Two grounds and the shore that divides them, at each sample of the frame."""

    near: jax.Array
    """(H, W, 3), colours of the ground on the near side of the shore."""
    far: jax.Array
    """(H, W, 3), colours of the ground beyond it."""
    offshore: jax.Array
    """(H, W), distance beyond the shore."""
    beyond: jax.Array
    """(H, W), 1 beyond the shore, 0 on its near side, soft between."""
    cover: jax.Array
    """(H, W), where the grounds hide the sky above the horizon, in [0, 1]."""
    far_share: jax.Array
    """(H, W), part of each sample that shows the far ground, in [0, 1]."""


class Sky(NamedTuple):
    """The sky and its light."""

    colours: jax.Array
    """(H, W, 3), RGB at each sample of the frame."""
    light: jax.Array
    """(3,), the colour of the light on the ground."""
    sun: Point
    """Where the sun stands."""


def _over(distance: Line | jax.Array, softness: float = 0.004) -> jax.Array:
    """Returns the cover of a shape with a soft edge, in [0, 1], from distances to its edge, positive inside."""
    return jnp.clip(0.5 + distance / (2 * softness), 0, 1)


def _noise(lattices: jax.Array, y: Line, x: Line) -> jax.Array:
    """Returns smooth noise (n, H, W) in [0, 1] at y by x, from lattices (n, down + 1, across + 1)."""
    down = lattices.shape[1] - 1
    across = lattices.shape[2] - 1
    return jnp.asarray(_weights(y, down)) @ lattices @ _weights(x, across).T


def _weights(t: Line, cells: int) -> Line:
    """Returns the weights (T, cells + 1) of the points of a lattice of `cells` at places t (T,) along it."""
    xp = np if isinstance(t, np.ndarray) else jnp
    near = xp.clip(1 - xp.abs(cells * xp.clip(t, 0, 1)[:, None] - np.arange(cells + 1)), 0, 1)
    return (near * near * (3 - 2 * near)).astype(np.float32)


def _palette(t: jax.Array, *colours: tuple[float, float, float]) -> jax.Array:
    """Returns a colour (3,) along a row of colours, t () in [0, 1]."""
    return (_weights(t[None], len(colours) - 1) @ jnp.array(colours))[0]


def _sky(u: Draw, x: Line, y: Line, horizon: jax.Array, puff: jax.Array) -> Sky:
    """Returns the sky with its sun and clouds; `puff` (H, W) is the noise of the clouds."""
    top = _palette(u.hour, (0.36, 0.62, 0.90), (0.47, 0.68, 0.88), (0.52, 0.55, 0.80), (0.42, 0.40, 0.68))
    rim = _palette(u.hour, (0.80, 0.91, 0.97), (0.97, 0.93, 0.82), (1.00, 0.82, 0.66), (0.98, 0.70, 0.66))
    light = _palette(u.hour, (1.0, 1.0, 1.0), (1.03, 1.0, 0.92), (1.04, 0.95, 0.86), (0.98, 0.86, 0.88))
    sun = 0.1 + 0.8 * u.across, horizon * (0.25 + 0.55 * u.heights[1])
    low = jnp.clip(y / horizon, 0, 1)
    sky = jnp.broadcast_to(mix(top, rim, low[:, None] ** 1.2)[:, None], (*puff.shape, 3))
    away = jnp.hypot(x - sun[0], y[:, None] - sun[1])
    shine = jnp.maximum(_over(0.055 - away), 0.45 * jnp.exp(-((away / 0.16) ** 2)))
    sky = mix(sky, jnp.array([1.0, 0.97, 0.84]), shine[..., None])
    cloud = jnp.clip((puff - 0.52) / 0.16, 0, 1) * jnp.clip(1.25 - low, 0, 1)[:, None]
    return Sky(mix(sky, mix(rim, 1.0, 0.7), (0.85 * cloud)[..., None]), light, sun)


def _land(u: Draw, x: Line, y: Line, horizon: jax.Array, sky: jax.Array, patches: jax.Array) -> Ground:
    """Returns hills in three depths with trees and a meadow; `sky` (H, W, 3) and noise `patches` (H, W)."""
    haze = sky.mean((0, 1))
    tone = u.tones[0]
    grass = _palette(tone, (0.36, 0.56, 0.26), (0.55, 0.62, 0.25), (0.44, 0.60, 0.22))
    leaf = _palette(tone, (0.16, 0.38, 0.20), (0.34, 0.42, 0.14), (0.22, 0.40, 0.24))
    # Of the three ridges, from the back: how far below the horizon, how tall, and what noise is level.
    lower, tall, middle = np.array([[0.03, 0.02, -0.10], [0.16, 0.10, 0.14], [0.0, 0.5, 0.5]])[..., None]
    crests = horizon - lower - tall * (_noise(u.ridges, np.zeros(1), x)[:, 0] - middle)
    colour = jnp.broadcast_to(mix(haze, jnp.array([0.42, 0.58, 0.40]), 0.55), sky.shape)
    cover = _over(y[:, None] - crests[0])
    # The haze leaves 75% of the colours of the middle ridge, and 95% of those of the front one.
    for row, near in ((0, 0.75), (1, 0.95)):
        below = y[:, None] - crests[1 + row]
        wood, bark = _trees(u.trees[row], x, y, crests[1 + row], 0.10 + 0.05 * row)
        colour = mix(colour, jnp.array([0.36, 0.24, 0.16]), bark[..., None])
        crown = mix(haze, leaf, near) * (1.1 - 0.5 * _over(below + 0.05, 0.08))[..., None]
        colour = mix(colour, crown, wood[..., None])
        earth = mix(haze, grass, near) * (1.12 - 0.5 * jnp.clip(below, 0, 0.3))[..., None]
        if row:
            earth = _meadow(u, x, y, below, earth, patches)
        hill = _over(below)
        colour = mix(colour, earth, hill[..., None])
        cover = jnp.maximum(cover, jnp.maximum(hill, jnp.maximum(wood, bark)))
    return Ground(colour, cover)


def _trees(u: jax.Array, x: Line, y: Line, crest: jax.Array, tall: float) -> tuple[jax.Array, jax.Array]:
    """Returns a row of round and pointed trees along a `crest` (W,): the cover of crowns and of trunks (H, W).

    `u` is a row of `Draw.trees`, and `tall` the height of a tree of middle height.
    """
    position, height, presence, shape = u
    centre = _centres(position)
    foot = _weights(centre, len(x) - 1) @ crest + 0.01
    high = tall * (0.6 + 0.8 * height)
    across = jnp.abs(x[:, None] - centre)[None] / high
    up = ((foot - y[:, None]) / high)[:, None]
    ball = 0.42 - jnp.hypot(1.15 * across, up - 0.62)
    cone = jnp.minimum(0.30 * (1.05 - up) - across, up - 0.18)
    visible = presence < 0.6
    crown = _over(jnp.where(shape < 0.5, ball, cone), 0.05) * visible
    trunk = _over(jnp.minimum(0.05 - across, 0.25 - jnp.abs(up - 0.25)), 0.03) * visible
    return crown.max(-1), trunk.max(-1)


def _centres(position: jax.Array) -> Line:
    """Returns x of each tree of a row (TREES,), at a random `position` (TREES,) within its part of the row."""
    return (np.arange(TREES) + 0.2 + 0.6 * position) / TREES


def _meadow(u: Draw, x: Line, y: Line, below: jax.Array, earth: jax.Array, patches: jax.Array) -> jax.Array:
    """Returns earth (H, W, 3) with blades of grass and flowers; `below` (H, W) is the depth below the crest."""
    depth = jnp.clip(below / 0.6, 0, 1)
    blades, flowers = _noise(u.grass, y, x)
    texture = 0.6 * blades + 0.4 * patches - 0.5
    earth = earth * (1 + 0.4 * (0.3 + depth) * texture - 0.1 * depth)[..., None]
    tint = _palette(u.tones[1], (1.0, 0.96, 0.86), (0.98, 0.84, 0.42), (0.95, 0.66, 0.70))
    return mix(earth, tint, (0.8 * jnp.clip((flowers * (0.55 + 0.45 * depth) - 0.82) / 0.06, 0, 1))[..., None])


def _water(u: Draw, x: Line, below: Line, sun: Point) -> jax.Array:
    """Returns a sea with waves, foam and the sun's path on it (H, W, 3).

    `below` (H,) is the depth below the horizon, 1 at the lower border.
    """
    far = _palette(u.tones[2], (0.50, 0.74, 0.82), (0.46, 0.68, 0.86), (0.48, 0.74, 0.76))
    deep = _palette(u.tones[2], (0.10, 0.40, 0.56), (0.12, 0.32, 0.60), (0.08, 0.44, 0.50))
    depth = jnp.clip(below, 0, 1)
    # Rows of waves crowd towards the horizon, as on a plane seen from above.
    row = jnp.log1p(9 * depth) / math.log(10)
    swell, chop = _noise(u.swell, row, x)
    broken, glints = _noise(u.ripple, row, x)
    crest = jnp.sin(2 * jnp.pi * (9 * row[:, None] + 0.9 * swell + 0.5 * chop + u.heights[1]))
    depth = depth[:, None]
    sea = mix(far, deep, depth[..., None] ** 0.6) * (1 + (0.05 + 0.10 * depth) * crest)[..., None]
    foam = jnp.clip((crest - 0.72) / 0.2, 0, 1) * jnp.clip((broken - 0.58) / 0.12, 0, 1)
    sea = mix(sea, jnp.array([0.93, 0.98, 1.0]), (0.75 * foam)[..., None])
    path = jnp.exp(-(((x - sun[0]) / (0.035 + 0.16 * depth)) ** 2)) * jnp.clip(1.1 - depth, 0, 1)
    glint = path * jnp.clip((glints + 0.25 * crest - 0.42) / 0.2, 0, 1)
    return mix(sea, jnp.array([1.0, 0.95, 0.80]), (0.75 * glint)[..., None])


def _desert(u: Draw, x: Line, y: Line, horizon: jax.Array, sky: jax.Array) -> Ground:
    """Returns dunes with mesas behind and cacti on them, under a `sky` (H, W, 3)."""
    sand = _palette(u.tones[0], (0.93, 0.74, 0.44), (0.88, 0.62, 0.38), (0.95, 0.80, 0.54))
    rock = mix(sky.mean((0, 1)), jnp.array([0.66, 0.34, 0.22]), 0.75)
    far, near, _ = _noise(u.ridges, np.zeros(1), x)[:, 0]
    mesa = _over(y[:, None] - (horizon - 0.02 - 0.13 * _over(far - 0.55, 0.05)))
    layers = jnp.sin(90 * y[:, None] + 4 * far) * 0.06 + 1
    dune = y[:, None] - (horizon + 0.01 - 0.05 * near)
    depth = jnp.clip(dune / 0.6, 0, 1)
    row = jnp.log1p(9 * jnp.clip((y - horizon) / (1 - horizon), 0, 1)) / math.log(10)
    swell, chop = _noise(u.swell, row, x)
    ripples = jnp.sin(2 * jnp.pi * (11 * row[:, None] + 1.6 * swell + 0.3 * chop))
    colour = jnp.broadcast_to(rock, sky.shape) * layers[..., None]
    cactus = _cacti(u.trees[1], x, y, horizon + 0.06)
    earth = sand * (1.02 + (0.03 + 0.09 * depth) * ripples - 0.22 * depth * swell)[..., None]
    colour = mix(colour, earth, _over(dune)[..., None])
    colour = mix(colour, jnp.array([0.22, 0.44, 0.24]), cactus[..., None])
    return Ground(colour, jnp.maximum(jnp.maximum(mesa, _over(dune)), cactus))


def _cacti(u: jax.Array, x: Line, y: Line, foot: jax.Array) -> jax.Array:
    """Returns the cover of a row of cacti with two arms each (H, W); `u` is a row of `Draw.trees`."""
    position, height, presence, _ = u
    high = 0.14 * (0.6 + 0.8 * height)
    across = (x[:, None] - _centres(position))[None] / high
    up = ((foot - y)[:, None] / high)[:, None]

    def column(middle: float, low: float, top: float, radius: float) -> jax.Array:
        """Returns the depth inside a round column, in heights of a cactus."""
        return radius - jnp.hypot(across - middle, up - jnp.clip(up, low, top))

    arms = jnp.maximum(column(-0.28, 0.45, 0.75, 0.07), column(0.28, 0.30, 0.65, 0.07))
    bars = jnp.minimum(0.05 - jnp.abs(up - 0.38 - 0.08 * jnp.sign(-across)), 0.28 - jnp.abs(across))
    shape = jnp.maximum(jnp.maximum(column(0.0, 0.0, 0.95, 0.10), arms), bars)
    return (_over(shape, 0.04) * (presence < 0.5)).max(-1)


def _snow(u: Draw, x: Line, y: Line, horizon: jax.Array, sky: jax.Array, patches: jax.Array) -> Ground:
    """Returns a snowfield with firs and white peaks behind; `sky` (H, W, 3) and noise `patches` (H, W)."""
    far, near, _ = _noise(u.ridges, np.zeros(1), x)[:, 0]
    jagged = jnp.abs(((5 + 2 * u.tones[0]) * x + u.tones[1]) % 1 - 0.5) * (0.5 + far)
    peak = y[:, None] - (horizon - 0.02 - 0.30 * jagged)
    cap = _over(0.06 + 0.03 * jnp.sin(60 * x) - peak, 0.01)
    rock = mix(sky.mean((0, 1)), jnp.array([0.36, 0.42, 0.54]), 0.8)
    colour = mix(jnp.broadcast_to(rock, sky.shape), jnp.array([0.95, 0.97, 1.0]), cap[..., None])
    field = y[:, None] - (horizon + 0.02 - 0.04 * near)
    wood, bark = _trees(u.trees[0].at[3].set(1.0), x, y, horizon + 0.02 - 0.04 * near, 0.13)
    colour = mix(colour, jnp.array([0.13, 0.27, 0.27]), jnp.maximum(wood, bark)[..., None])
    depth = jnp.clip(field / 0.6, 0, 1)
    drift = jnp.clip((0.7 * patches + 0.3 * _noise(u.ripple, y, x)[0] - 0.5) * 2.2, -0.6, 0.5)
    white = mix(jnp.array([0.95, 0.97, 1.0]), jnp.array([0.72, 0.80, 0.94]), (0.35 * depth - 0.5 * drift)[..., None])
    colour = mix(colour, jnp.clip(white, 0, 1), _over(field)[..., None])
    return Ground(colour, jnp.maximum(jnp.maximum(_over(peak), _over(field)), jnp.maximum(wood, bark)))


def _offshore(bearing: jax.Array, x: Line, y: Line, bays: jax.Array, lean: jax.Array) -> jax.Array:
    """Returns the distance beyond the shore (H, W); about (1 + lean) / 2 of the frame lies beyond it.

    `bearing` () is in turns, `bays` (H, W) noise that bends the shore, and `lean` () in [-1, 1].
    """
    angle = 2 * jnp.pi * bearing
    along = (x - 0.5) * jnp.cos(angle) + 0.35 * (y[:, None] - 0.65) * jnp.sin(angle) + 0.14 * (bays - 0.5)
    return 0.70 * lean - along
