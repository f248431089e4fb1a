"""Categories of COCO and COCO-Stuff that determine class and scene, as the paper lists them.

Every other category (walls, floors, house, paper, window-other, cell phone ...) is neutral.
"""

from collections.abc import Sequence

CLASSES = ("cat", "dog")
"""Class y; its label in a mask is 1 + y."""

SCENES = ("indoor", "outdoor")
"""Unless others are asked for."""

N_VAL = 50
N_TEST = 125
"""Images of each group in val and test, in the reference's split."""


def _names(text: str) -> frozenset[str]:
    return frozenset(" ".join(text.split()).split(", "))


INDOOR_THINGS = _names(
    """
    bed, blender, book, chair, clock, couch, desk, dining table, hair brush, hair drier, keyboard, laptop,
    microwave, mirror, mouse, oven, refrigerator, remote, scissors, sink, teddy bear, toaster, toilet, toothbrush,
    tv, vase
    """
)

OUTDOOR_THINGS = _names(
    """
    airplane, bench, bicycle, boat, bus, car, fire hydrant, kite, motorcycle, parking meter, skateboard, skis,
    snowboard, stop sign, street sign, surfboard, traffic light, train, truck
    """
)

INDOOR_STUFF = _names(
    """
    blanket, cabinet, carpet, ceiling-other, ceiling-tile, counter, cupboard, curtain, desk-stuff, door-stuff,
    mat, mirror-stuff, pillow, rug, shelf, stairs, table, textile-other, towel, window-blind
    """
)

OUTDOOR_STUFF = _names(
    """
    branch, bridge, building-other, bush, clouds, dirt, fence, flower, fog, grass, gravel, ground-other, hill,
    leaves, moss, mountain, mud, pavement, plant-other, platform, playingfield, railing, railroad, river, road,
    rock, roof, sand, sea, sky-other, skyscraper, snow, tent, tree, water-other, waterdrops
    """
)

THINGS = {"indoor": INDOOR_THINGS, "outdoor": OUTDOOR_THINGS}
"""The names of a scene's categories that count in an instances file; none of a scene that is not here."""

STUFF = {"indoor": INDOOR_STUFF | INDOOR_THINGS, "outdoor": OUTDOOR_STUFF | OUTDOOR_THINGS}
"""The names of a scene's categories that count in a stuff file; a scene that is not here is a category, or many."""

LEAST_SHARE = 0.02
"""Share of the image that a scene's categories must cover."""


def scene_of(areas: Sequence[float], pixels: int) -> int | None:
    """Returns the first scene whose categories cover half of the area of all scenes, and 2% of the image.

    Args:
        areas: total area of each scene's categories in pixels; overlapping annotations count twice.
        pixels: number of pixels of the image.

    Returns:
        The index of the scene, or None if unknown.

    Example:
        >>> scene_of([50, 50], 1000), scene_of([10, 50], 1000), scene_of([10, 5], 1000), scene_of([0, 0], 1000)
        (0, 1, None, None)
        >>> scene_of([30, 30, 70], 1000), scene_of([30, 30, 50], 1000)
        (2, None)
    """
    most = max(areas)
    return areas.index(most) if most >= sum(areas) / 2 and most / pixels >= LEAST_SHARE else None
