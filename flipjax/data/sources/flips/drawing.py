"""Draws the blossoms and grounds of flips-1 in NumPy, with the same bytes on every machine.

`draw_blossoms` and `draw_grounds` turn uniform random numbers, of which each has one use, into images. Numbers in the
code are lengths in radii of a blossom, or shares of full brightness. Another number, or another order of arithmetic,
is another benchmark: its digests would not be those of digests.json.

Random numbers are the words of PCG64, whose stream NumPy keeps. Everything else is sums, products, quotients, roots and
comparisons of single float64 numbers, which IEEE 754 rounds in one way; sines, powers, matrix products and long sums
are not. Samples are rounded to integers before they are averaged.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from flipjax.data.split import random_words

SAMPLES = 2
"""Samples along each side of a pixel, whose mean is the pixel."""
SPREAD = 0.12
"""Largest deviation of a trait from the blossom's lean, on a scale from 0 (no kind) to 1 (one kind)."""
PETALS = 0.30
"""Depth of the notches between petals, in radii."""
LOBES = (3, 5)
"""Petals of the kinds with few and with many."""
SCALES = (0.18, 0.30)
"""Smallest and largest radius of a blossom, as a fraction of the frame."""
MARGIN = 1.2
"""Distance of a blossom's centre from the border of the frame, at least, in radii."""
NUMBERS = 24
"""Random numbers that a blossom or a ground is drawn from.

Of a blossom's, 0 to 2 decide traits, 3 the size, 4 and 5 the place, 6 and 7 the turn, 8 to 11 the markings, and 12 to
17 the colours. Of a ground's, 0 to 2 decide the colour, 3 the phase of its waves, and 4 and 5 its shade.
"""


@dataclasses.dataclass(frozen=True)
class BlossomKind:
    """What tells a class from the others, each trait from -1 to 1."""

    lobes: int
    """-1: three petals; 1: five."""
    coat: int
    """-1: dots; 1: rings."""


KINDS = (BlossomKind(-1, -1), BlossomKind(1, 1), BlossomKind(-1, 1), BlossomKind(1, -1))
"""The traits of thrift, aster, clover and mallow."""


def draw_numbers(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns uniform float64 numbers in [0, 1) from PCG64 seeded by (seed, name)."""
    words = random_words(seed, name, count=int(np.prod(shape)))
    return (words >> np.uint64(11)).reshape(shape) * 2.0**-53


def draw_blossoms(kind: BlossomKind, numbers: np.ndarray, *, size: int) -> np.ndarray:
    """Draws blossoms of a kind.

    A blossom leans towards its kind by its own random number, from 0 (unrecognisable) to 1; its petals and its coat
    then vary a little. All else has one distribution for all kinds.

    Args:
        kind: of all of them.
        numbers: (n, NUMBERS), uniform.
        size: side of the images in pixels.

    Returns:
        uint8 (n, size, size, 4): RGB premultiplied by alpha, and alpha.
    """
    u = numbers.T[:, :, None, None]
    petals, coat = _traits(kind, u)
    points = _points(u, size)
    inside = _outline(petals, points) - points.distance
    # Edges are soft over 0.12 radii, the heart's over 0.10.
    alpha = np.clip(0.5 + inside / 0.12, 0, 1)
    marked = _markings(coat, points, u)
    heart = np.clip(0.5 + (0.26 - points.distance) / 0.10, 0, 1)
    rim = np.clip(1 - inside / 0.14, 0, 1)
    light = 1.05 - 0.25 * np.clip(0.5 + 0.4 * points.down, 0, 1)
    petal_hue = u[12]
    mark_hue = petal_hue + 0.2 * (u[13] - 0.5)
    saturation = u[14]
    value = u[15]
    has_dark_marks = u[16] < 0.5
    heart_hue = u[17]
    layers = []
    for channel in range(3):
        petal = _colour(petal_hue, 0.30 + 0.35 * saturation, 0.78 + 0.20 * value, channel)
        dark = _colour(mark_hue, 0.55 + 0.30 * saturation, 0.36 + 0.14 * value, channel)
        pale = _colour(mark_hue, 0.12 + 0.10 * saturation, 0.97, channel)
        mark = np.where(has_dark_marks, dark, pale)
        colour = petal + (mark - petal) * marked
        colour = colour + (_colour(heart_hue, 0.75, 0.92, channel) - colour) * heart
        colour = colour * light * (1 - 0.7 * rim)
        layers.append(np.clip(colour, 0, 1) * alpha)
    return _pixels(np.stack([*layers, alpha], axis=-1), size)


def _traits(kind: BlossomKind, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the traits of petals and coat, each from 0 to 1, from random numbers (NUMBERS, n, 1, 1)."""
    away = 1 - u[0]
    lean = 1 - away * away
    petals = 0.5 + 0.5 * np.clip(kind.lobes * lean + SPREAD * (2 * u[1] - 1), -1, 1)
    coat = 0.5 + 0.5 * np.clip(kind.coat * lean + SPREAD * (2 * u[2] - 1), -1, 1)
    return petals, coat


class _Points(NamedTuple):
    """The samples of images in the frames of their blossoms: in radii, from the centre."""

    x: np.ndarray
    """Along the blossom's own axis, (n, H, H)."""
    y: np.ndarray
    """Across the blossom's own axis, (n, H, H)."""
    down: np.ndarray
    """Downwards in the image, (n, H, 1)."""
    distance: np.ndarray
    """Distance from the centre, (n, H, H)."""


def _points(u: np.ndarray, size: int) -> _Points:
    """Places, scales and turns blossoms, and returns the samples in their frames."""
    radius = SCALES[0] + (SCALES[1] - SCALES[0]) * u[3]
    room = MARGIN * radius
    grid = (np.arange(size * SAMPLES) + 0.5) / (size * SAMPLES)
    across = (grid[None, None, :] - (room + (1 - 2 * room) * u[4])) / radius
    down = (grid[None, :, None] - (room + (1 - 2 * room) * u[5])) / radius
    # A rotation by any angle: (1 - t^2, 2 t) / (1 + t^2) runs over half of the circle, its negative over the other.
    t = 2 * u[6] - 1
    side = np.where(u[7] < 0.5, 1.0, -1.0)
    cosine = side * (1 - t * t) / (1 + t * t)
    sine = side * 2 * t / (1 + t * t)
    x = across * cosine + down * sine
    y = down * cosine - across * sine
    return _Points(x, y, down, np.sqrt(x * x + y * y))


def _outline(petals: np.ndarray, points: _Points) -> np.ndarray:
    """Returns the radius of a blossom towards each sample: that of few petals, of many, or of a mixture."""
    towards = points.x / np.maximum(points.distance, 1e-9)
    few = _chebyshev(LOBES[0], towards)
    many = _chebyshev(LOBES[1], towards)
    return 1 + PETALS * ((1 - petals) * few + petals * many - 0.35)


def _markings(coat: np.ndarray, points: _Points, u: np.ndarray) -> np.ndarray:
    """Returns the strength of the markings at each sample: dots, rings, or a mixture."""
    dots = np.minimum(_wave(1.9 * points.x + u[8]), _wave(1.9 * points.y + u[9]))
    rings = _wave(2.6 * points.distance + u[10])
    return np.clip(0.5 + 4 * ((1 - coat) * (dots - 0.42) + coat * (rings - 0.5)), 0, 1) * (0.75 + 0.25 * u[11])


def draw_grounds(kind: int, numbers: np.ndarray, lattice: np.ndarray, *, size: int) -> np.ndarray:
    """Draws grounds of a kind: meadow, pond, dune or scree.

    Args:
        kind: from 0.
        numbers: (n, NUMBERS), uniform.
        lattice: (n, 2, 13, 13), uniform, of coarse and fine noise.
        size: side of the images in pixels.

    Returns:
        uint8 (n, size, size, 3).
    """
    u = numbers.T[:, :, None, None]
    grid = (np.arange(size * SAMPLES) + 0.5) / (size * SAMPLES)
    x = grid[None, None, :]
    y = grid[None, :, None]
    coarse = _noise(lattice[:, 0, :5, :5], grid)
    fine = _noise(lattice[:, 1], grid)
    bend = 0.12 * (coarse - 0.5)
    if kind == 0:
        hue = 0.27 + 0.07 * u[0]
        saturation = 0.50 + 0.15 * u[1]
        value = 0.62 + 0.12 * u[2]
        texture = 0.55 * _wave(11 * x + 6 * bend + u[3]) * fine + 0.3 * coarse
    elif kind == 1:
        hue = 0.54 + 0.06 * u[0]
        saturation = 0.45 + 0.20 * u[1]
        value = 0.66 + 0.12 * u[2]
        texture = 0.55 * _wave(9 * y + 9 * bend + u[3]) + 0.25 * fine
    elif kind == 2:
        hue = 0.10 + 0.03 * u[0]
        saturation = 0.30 + 0.15 * u[1]
        value = 0.84 + 0.10 * u[2]
        texture = 0.45 * _wave(4 * (x + y) + 10 * bend + u[3]) + 0.2 * fine
    else:
        hue = 0.72 + 0.06 * u[0]
        saturation = 0.06 + 0.10 * u[1]
        value = 0.60 + 0.12 * u[2]
        texture = 0.9 * np.clip(4 * np.abs(coarse - fine), 0, 1)
    shade = (0.72 + 0.16 * u[4]) + 0.5 * texture - 0.22 * y * u[5]
    layers = [np.clip(_colour(hue, saturation, value, channel) * shade, 0, 1) for channel in range(3)]
    return _pixels(np.stack(layers, axis=-1), size)


def _chebyshev(degree: int, cosine: np.ndarray) -> np.ndarray:
    """Returns cos(degree * angle) from the cosine of the angle, by products alone."""
    previous = np.ones_like(cosine)
    current = cosine
    for _ in range(degree - 1):
        following = 2 * cosine * current - previous
        previous = current
        current = following
    return current


def _wave(phase: np.ndarray) -> np.ndarray:
    """Returns a triangle wave in [0, 1] of period 1."""
    return 2 * np.abs(phase - np.floor(phase) - 0.5)


def _colour(hue: np.ndarray, saturation: np.ndarray | float, value: np.ndarray | float, channel: int) -> np.ndarray:
    """Returns red (channel 0), green or blue in [0, 1] of a colour; hues repeat with period 1."""
    turn = hue + (0.0, 2 / 3, 1 / 3)[channel]
    ramp = np.clip(np.abs(6 * (turn - np.floor(turn)) - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - ramp))


def _noise(lattice: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Returns smooth noise (n, H, H) in [0, 1] from a lattice (n, k, k)."""
    cells = lattice.shape[-1] - 1
    position = cells * grid
    low = np.minimum(np.floor(position).astype(np.int64), cells - 1)
    t = position - low
    weight = t * t * (3 - 2 * t)
    rows = lattice[:, low] + (lattice[:, low + 1] - lattice[:, low]) * weight[None, :, None]
    return rows[:, :, low] + (rows[:, :, low + 1] - rows[:, :, low]) * weight


def _pixels(samples: np.ndarray, size: int) -> np.ndarray:
    """Returns the means of samples (n, H, H, channels) in [0, 1] as uint8 pixels."""
    levels = np.floor(255 * samples + 0.5).astype(np.uint16)
    blocks = levels.reshape(len(levels), size, SAMPLES, size, SAMPLES, samples.shape[-1])
    total = blocks[:, :, 0, :, 0] + blocks[:, :, 0, :, 1] + blocks[:, :, 1, :, 0] + blocks[:, :, 1, :, 1]
    return ((total + 2) // 4).astype(np.uint8)
