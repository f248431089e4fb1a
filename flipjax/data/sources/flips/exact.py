"""Arithmetic that gives flips-1 the same bytes on every machine, from random numbers to pixels.

Random numbers are the words of PCG64, whose stream NumPy keeps. Everything else is sums, products, quotients, roots and
comparisons of single float64 numbers, which IEEE 754 rounds in one way; sines, powers, matrix products and long sums
are not. Samples are rounded to integers before they are averaged. Another order of arithmetic is another benchmark: its
digests would not be those of digests.json.
"""

import numpy as np

from flipjax.data.split import random_words

NUMBERS = 24
"""Random numbers that a blossom or a ground is drawn from, in the order of its fields; the last ones have no use."""
SAMPLES = 2
"""Samples along each side of a pixel, whose mean is the pixel."""
PRIMARIES = (0.0, 2 / 3, 1 / 3)
"""The turns by which hues of red, green and blue differ."""


def draw_numbers(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns uniform float64 numbers in [0, 1) from PCG64 seeded by (seed, name)."""
    words = random_words(seed, name, count=int(np.prod(shape)))
    return (words >> np.uint64(11)).reshape(shape) * 2.0**-53


def sample_grid(size: int) -> np.ndarray:
    """Returns the places of the H samples along a side of `size` pixels, from 0 to 1."""
    return (np.arange(size * SAMPLES) + 0.5) / (size * SAMPLES)


def wave(phase: np.ndarray) -> np.ndarray:
    """Returns a triangle wave in [0, 1] of period 1.

    Example:
        >>> wave(np.array([0.0, 0.25, 0.5, 1.0])).tolist()
        [1.0, 0.5, 0.0, 1.0]
    """
    return 2 * np.abs(phase - np.floor(phase) - 0.5)


def chebyshev(degree: int, cosine: np.ndarray) -> np.ndarray:
    """Returns cos(degree * angle) from the cosine of the angle, by products alone.

    Example:
        >>> chebyshev(2, np.array([0.5])).tolist()  # The cosine of 120 degrees, of 60.
        [-0.5]
    """
    previous = np.ones_like(cosine)
    current = cosine
    for _ in range(degree - 1):
        following = 2 * cosine * current - previous
        previous = current
        current = following
    return current


def rgb(hue: np.ndarray, saturation: np.ndarray | float, brightness: np.ndarray | float) -> list[np.ndarray]:
    """Returns red, green and blue in [0, 1] of a colour; hues repeat with period 1."""
    channels = []
    for primary in PRIMARIES:
        turn = hue + primary
        ramp = np.clip(np.abs(6 * (turn - np.floor(turn)) - 3) - 1, 0, 1)
        channels.append(brightness * (1 - saturation * (1 - ramp)))
    return channels


def to_pixels(samples: np.ndarray, size: int) -> np.ndarray:
    """Returns the means of samples (n, H, H, channels) in [0, 1] as uint8 pixels (n, size, size, channels)."""
    levels = np.floor(255 * samples + 0.5).astype(np.uint16)
    blocks = levels.reshape(len(levels), size, SAMPLES, size, SAMPLES, samples.shape[-1])
    total = blocks[:, :, 0, :, 0] + blocks[:, :, 0, :, 1] + blocks[:, :, 1, :, 0] + blocks[:, :, 1, :, 1]
    return ((total + 2) // 4).astype(np.uint8)
