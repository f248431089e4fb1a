"""Draws the grounds of flips-1, the scenes behind its blossoms, with the same bytes on every machine.

Four kinds of ground differ in colour and texture. Numbers in the code are shares of the image's side or of full
brightness. Arrays of random numbers are (n, 1, 1), one for each of n grounds; arrays of samples are (n, H, H).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from flipjax.data.sources.flips.exact import rgb, sample_grid, to_pixels, wave


class _Numbers(NamedTuple):
    """The random numbers of n grounds, uniform in [0, 1), (n, 1, 1) each."""

    hue: np.ndarray
    saturation: np.ndarray
    brightness: np.ndarray
    phase: np.ndarray
    """The phase of its waves."""
    light: np.ndarray
    """How bright it is at the top."""
    shadow: np.ndarray
    """How much darker it becomes towards the bottom."""


class _Samples(NamedTuple):
    """Places and noise of the samples of images."""

    x: np.ndarray
    """From left to right, (1, 1, H) from 0 to 1."""
    y: np.ndarray
    """From top to bottom, (1, H, 1) from 0 to 1."""
    coarse: np.ndarray
    """Coarse noise in [0, 1], (n, H, H)."""
    fine: np.ndarray
    """Fine noise in [0, 1], (n, H, H)."""

    @property
    def bend(self) -> np.ndarray:
        """How far waves are bent at each sample."""
        return 0.12 * (self.coarse - 0.5)


def _meadow(at: _Samples, phase: np.ndarray) -> np.ndarray:
    return 0.55 * wave(11 * at.x + 6 * at.bend + phase) * at.fine + 0.3 * at.coarse


def _pond(at: _Samples, phase: np.ndarray) -> np.ndarray:
    return 0.55 * wave(9 * at.y + 9 * at.bend + phase) + 0.25 * at.fine


def _dune(at: _Samples, phase: np.ndarray) -> np.ndarray:
    return 0.45 * wave(4 * (at.x + at.y) + 10 * at.bend + phase) + 0.2 * at.fine


def _scree(at: _Samples, phase: np.ndarray) -> np.ndarray:
    return 0.9 * np.clip(4 * np.abs(at.coarse - at.fine), 0, 1)


@dataclasses.dataclass(frozen=True)
class GroundKind:
    """A kind of ground. Each part of its colour is a least value and how much more it may be."""

    hue: tuple[float, float]
    saturation: tuple[float, float]
    brightness: tuple[float, float]
    texture: Callable[[_Samples, np.ndarray], np.ndarray]
    """From samples and the phase of the waves to light (n, H, H)."""


KINDS = (
    GroundKind(hue=(0.27, 0.07), saturation=(0.50, 0.15), brightness=(0.62, 0.12), texture=_meadow),
    GroundKind(hue=(0.54, 0.06), saturation=(0.45, 0.20), brightness=(0.66, 0.12), texture=_pond),
    GroundKind(hue=(0.10, 0.03), saturation=(0.30, 0.15), brightness=(0.84, 0.10), texture=_dune),
    GroundKind(hue=(0.72, 0.06), saturation=(0.06, 0.10), brightness=(0.60, 0.12), texture=_scree),
)
"""Meadow, pond, dune and scree."""


def draw_grounds(kind: GroundKind, numbers: np.ndarray, lattice: np.ndarray, *, size: int) -> np.ndarray:
    """Draws grounds of a kind.

    Args:
        kind: of all of them.
        numbers: (n, NUMBERS), uniform.
        lattice: (n, 2, 13, 13), uniform, of coarse and fine noise.
        size: side of the images in pixels.

    Returns:
        uint8 (n, size, size, 3).

    Example:
        >>> meadow = draw_grounds(KINDS[0], np.full((1, 24), 0.5), np.full((1, 2, 13, 13), 0.5), size=16)
        >>> int(meadow[0, :, :, 1].mean()) > int(meadow[0, :, :, 0].mean())  # More green than red.
        True
    """
    u = _Numbers(*numbers.T[: len(_Numbers._fields), :, None, None])
    grid = sample_grid(size)
    at = _Samples(
        x=grid[None, None, :],
        y=grid[None, :, None],
        coarse=_noise(lattice[:, 0, :5, :5], grid),
        fine=_noise(lattice[:, 1], grid),
    )
    texture = kind.texture(at, u.phase)
    shade = (0.72 + 0.16 * u.light) + 0.5 * texture - 0.22 * at.y * u.shadow
    colour = rgb(
        hue=_between(kind.hue, u.hue),
        saturation=_between(kind.saturation, u.saturation),
        brightness=_between(kind.brightness, u.brightness),
    )
    layers = [np.clip(channel * shade, 0, 1) for channel in colour]
    return to_pixels(np.stack(layers, axis=-1), size)


def _between(part: tuple[float, float], number: np.ndarray) -> np.ndarray:
    """Returns a part of a colour, its least value and a random share of what it may be more."""
    least, more = part
    return least + more * number


def _noise(lattice: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Returns smooth noise (n, H, H) in [0, 1] from a lattice (n, k, k)."""
    intervals = lattice.shape[-1] - 1
    position = intervals * grid
    low = np.minimum(np.floor(position).astype(np.int64), intervals - 1)
    t = position - low
    weight = t * t * (3 - 2 * t)
    rows = lattice[:, low] + (lattice[:, low + 1] - lattice[:, low]) * weight[None, :, None]
    return rows[:, :, low] + (rows[:, :, low + 1] - rows[:, :, low]) * weight
