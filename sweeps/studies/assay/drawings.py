"""Drawn images of two shapes, with an attribute that is a tint: cold or warm."""

import dataclasses

import numpy as np

import flipjax
from flipjax.data.sources.arrays import ArrayData

TINT = (25.0, 0.0, -25.0)
"""What a warm image adds to red, green and blue, and a cold one takes from them."""
NOISE = 22.0
"""Standard deviation of the noise of a pixel, of 255."""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Drawn images of two classes.

    Attributes:
        shapes: of the two classes: disc, oval, kite or ring.
        ratio: of the axes of an oval.
        rho: fraction of a class with its usual tint.
        strength: of the tint; 0 is not seen.
        count: number of images.
        size: side in pixels.
    """

    shapes: tuple[str, str]
    ratio: float = 1.6
    rho: float = 0.9
    strength: float = 1.0
    count: int = 600
    size: int = 32


def inside(shape: str, *, ratio: float, centre: tuple[float, float], angle: float, radius: float, size: int):
    """Returns the pixels of a shape, bool (size, size); shapes of one radius have about equal areas."""
    rows, columns = np.mgrid[:size, :size]
    top, left = centre
    along = (columns - left) * np.cos(angle) + (rows - top) * np.sin(angle)
    across = (rows - top) * np.cos(angle) - (columns - left) * np.sin(angle)
    if shape == "kite":
        return np.abs(along) / 1.6 + np.abs(across) <= 1.1 * radius
    distance = np.hypot(along, across)
    if shape == "ring":
        return (distance <= 1.2 * radius) & (distance >= 0.7 * radius)
    longer = 1.0
    if shape == "oval":
        longer = np.sqrt(ratio)
    return (along / longer) ** 2 + (across * longer) ** 2 <= radius**2


def draw(drawing: Drawing, *, collected: int = 0, key: int = 0):
    """Returns images, masks, classes and values.

    Args:
        drawing: what is drawn.
        collected: counter-examples of each class that are drawn in addition.
        key: of the draw. The first `drawing.count` images are the same for any number collected.
    """
    random = np.random.default_rng(key)
    y = np.arange(drawing.count) % 2
    value = np.where(random.random(drawing.count) < drawing.rho, y, 1 - y)
    more = np.arange(2 * collected) % 2
    y = np.concatenate([y, more])
    value = np.concatenate([value, 1 - more])
    size = drawing.size
    images = np.empty((len(y), size, size, 3))
    masks = np.empty((len(y), size, size), bool)
    for index in range(len(y)):
        masks[index] = inside(
            drawing.shapes[y[index]],
            ratio=drawing.ratio,
            centre=tuple(random.uniform(0.4 * size, 0.6 * size, 2)),
            radius=random.uniform(0.17, 0.22) * size,
            angle=random.uniform(0, np.pi),
            size=size,
        )
        image = random.normal(110, NOISE, (size, size, 3))
        image[masks[index]] += 50
        sign = 1 if value[index] else -1
        images[index] = image + sign * drawing.strength * np.array(TINT)
    return images.clip(0, 255).astype(np.uint8), masks, y, value


def drawn_data(drawing: Drawing, *, collected: int = 0, key: int = 0) -> ArrayData:
    """Returns drawn images as a pool; takes what `draw` takes."""
    images, masks, y, value = draw(drawing, collected=collected, key=key)
    return flipjax.data.from_arrays(
        images,
        masks,
        y,
        value,
        class_names=("first", "second"),
        scene_names=("cold", "warm"),
    )
