"""Draws the blossoms of flips-1, the objects whose class is to be found, with the same bytes on every machine.

Four kinds of blossom differ in two traits: few or many petals, dots or rings. Everything else, such as size, place,
turn and colour, is drawn from one distribution for all kinds, so that nothing but the traits tells them apart. Numbers
in the code are lengths in radii of a blossom, or shares of full brightness. Arrays of random numbers are (n, 1, 1), one
for each of n blossoms; arrays of samples are (n, H, H).
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from flipjax.data.sources.flips.exact import chebyshev, rgb, sample_grid, to_pixels, wave

SPREAD = 0.12
"""Largest deviation of a trait from the blossom's lean, on a scale from 0 (no kind) to 1 (one kind)."""
NOTCHES = 0.30
"""Depth of the notches between petals, in radii."""
PETALS = (3, 5)
"""Petals of the kinds with few and with many."""
RADII = (0.18, 0.30)
"""Smallest and largest radius of a blossom, as a fraction of the frame."""
MARGIN = 1.2
"""Distance of a blossom's centre from the border of the frame, at least, in radii."""


@dataclasses.dataclass(frozen=True)
class BlossomKind:
    """What tells a class from the others, each trait from -1 to 1."""

    petals: int
    """-1: three petals; 1: five."""
    coat: int
    """-1: dots; 1: rings."""


KINDS = (BlossomKind(-1, -1), BlossomKind(1, 1), BlossomKind(-1, 1), BlossomKind(1, -1))
"""The traits of thrift, aster, clover and mallow."""


class _Numbers(NamedTuple):
    """The random numbers of n blossoms, uniform in [0, 1), (n, 1, 1) each."""

    lean: np.ndarray
    """How far it leans towards its kind."""
    petals: np.ndarray
    """How far its petals deviate from the lean."""
    coat: np.ndarray
    """How far its coat deviates from the lean."""
    radius: np.ndarray
    across: np.ndarray
    """Its place from left to right."""
    down: np.ndarray
    """Its place from top to bottom."""
    turn: np.ndarray
    half_turn: np.ndarray
    """Below 0.5 its turn is in one half of the circle, above in the other."""
    dots_along: np.ndarray
    dots_across: np.ndarray
    rings: np.ndarray
    marks: np.ndarray
    """The strength of its markings."""
    petal_hue: np.ndarray
    mark_hue: np.ndarray
    saturation: np.ndarray
    brightness: np.ndarray
    dark: np.ndarray
    """Below 0.5 its marks are dark, above they are pale."""
    heart_hue: np.ndarray


class _Samples(NamedTuple):
    """The samples of images in the frames of their blossoms: in radii, from the centre."""

    x: np.ndarray
    """Along the blossom's own axis, (n, H, H)."""
    y: np.ndarray
    """Across the blossom's own axis, (n, H, H)."""
    down: np.ndarray
    """Downwards in the image, (n, H, 1)."""
    distance: np.ndarray
    """Distance from the centre, (n, H, H)."""


def draw_blossoms(kind: BlossomKind, numbers: np.ndarray, *, size: int) -> np.ndarray:
    """Draws blossoms of a kind.

    Args:
        kind: of all of them.
        numbers: (n, NUMBERS), uniform.
        size: side of the images in pixels.

    Returns:
        uint8 (n, size, size, 4): RGB premultiplied by alpha, and alpha.

    Example:
        >>> middling = np.full((1, 24), 0.5)
        >>> blossom = draw_blossoms(KINDS[0], middling, size=16)
        >>> int((blossom[0, :, :, 3] > 127).sum())  # Pixels of the blossom, of 256.
        38
    """
    u = _Numbers(*numbers.T[: len(_Numbers._fields), :, None, None])
    petals, coat = _traits(kind, u)
    samples = _place_samples(u, size)
    inside = _outline(petals, samples) - samples.distance
    # Edges are soft over 0.12 radii.
    alpha = np.clip(0.5 + inside / 0.12, 0, 1)
    colours = _colours(coat, inside, samples, u)
    layers = [np.clip(colour, 0, 1) * alpha for colour in colours]
    return to_pixels(np.stack([*layers, alpha], axis=-1), size)


def _traits(kind: BlossomKind, u: _Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Returns the traits of petals and coat, each from 0 to 1.

    A blossom leans towards its kind from 0 (unrecognisable) to 1; its petals and its coat then vary a little.
    """
    away = 1 - u.lean
    lean = 1 - away * away
    petals = 0.5 + 0.5 * np.clip(kind.petals * lean + SPREAD * (2 * u.petals - 1), -1, 1)
    coat = 0.5 + 0.5 * np.clip(kind.coat * lean + SPREAD * (2 * u.coat - 1), -1, 1)
    return petals, coat


def _place_samples(u: _Numbers, size: int) -> _Samples:
    """Places, scales and turns blossoms, and returns the samples in their frames."""
    smallest, largest = RADII
    radius = smallest + (largest - smallest) * u.radius
    margin = MARGIN * radius
    grid = sample_grid(size)
    across = (grid[None, None, :] - (margin + (1 - 2 * margin) * u.across)) / radius
    down = (grid[None, :, None] - (margin + (1 - 2 * margin) * u.down)) / radius
    # A rotation by any angle: (1 - t^2, 2 t) / (1 + t^2) runs over half of the circle, its negative over the other.
    t = 2 * u.turn - 1
    half = np.where(u.half_turn < 0.5, 1.0, -1.0)
    cosine = half * (1 - t * t) / (1 + t * t)
    sine = half * 2 * t / (1 + t * t)
    x = across * cosine + down * sine
    y = down * cosine - across * sine
    return _Samples(x, y, down, np.sqrt(x * x + y * y))


def _outline(petals: np.ndarray, samples: _Samples) -> np.ndarray:
    """Returns the radius of a blossom towards each sample: that of few petals, of many, or of a mixture."""
    towards = samples.x / np.maximum(samples.distance, 1e-9)
    few, many = (chebyshev(count, towards) for count in PETALS)
    return 1 + NOTCHES * ((1 - petals) * few + petals * many - 0.35)


def _markings(coat: np.ndarray, samples: _Samples, u: _Numbers) -> np.ndarray:
    """Returns the strength of the markings at each sample: dots, rings, or a mixture."""
    dots = np.minimum(wave(1.9 * samples.x + u.dots_along), wave(1.9 * samples.y + u.dots_across))
    rings = wave(2.6 * samples.distance + u.rings)
    return np.clip(0.5 + 4 * ((1 - coat) * (dots - 0.42) + coat * (rings - 0.5)), 0, 1) * (0.75 + 0.25 * u.marks)


def _colours(coat: np.ndarray, inside: np.ndarray, samples: _Samples, u: _Numbers) -> list[np.ndarray]:
    """Returns red, green and blue of petals with their markings, heart, light from above and dark rim, (n, H, H)."""
    marked = _markings(coat, samples, u)
    # The heart's edge is soft over 0.10 radii.
    in_heart = np.clip(0.5 + (0.26 - samples.distance) / 0.10, 0, 1)
    light = 1.05 - 0.25 * np.clip(0.5 + 0.4 * samples.down, 0, 1)
    rim = np.clip(1 - inside / 0.14, 0, 1)
    mark_hue = u.petal_hue + 0.2 * (u.mark_hue - 0.5)
    petals = rgb(u.petal_hue, 0.30 + 0.35 * u.saturation, 0.78 + 0.20 * u.brightness)
    dark_marks = rgb(mark_hue, 0.55 + 0.30 * u.saturation, 0.36 + 0.14 * u.brightness)
    pale_marks = rgb(mark_hue, 0.12 + 0.10 * u.saturation, 0.97)
    hearts = rgb(u.heart_hue, 0.75, 0.92)
    colours = []
    for petal, dark, pale, heart in zip(petals, dark_marks, pale_marks, hearts, strict=True):
        mark = np.where(u.dark < 0.5, dark, pale)
        colour = petal + (mark - petal) * marked
        colour = colour + (heart - colour) * in_heart
        colours.append(colour * light * (1 - 0.7 * rim))
    return colours
