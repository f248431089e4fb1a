"""The names that decide what is shown and where: COCO's things and COCO-Stuff's categories, as the paper lists them.

Every other category (walls, floors, house, paper, window-other, cell phone ...) is neutral.
"""

CLASSES = ("cat", "dog")
"""Class y; its label in a mask is 1 + y."""

SCENES = ("indoor", "outdoor")
"""Scene y is the usual scene of class y."""


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

IN_INSTANCES = (INDOOR_THINGS, OUTDOOR_THINGS)
"""The names of scene 0 and scene 1 that count in an instances file."""

IN_STUFF = (INDOOR_STUFF | INDOOR_THINGS, OUTDOOR_STUFF | OUTDOOR_THINGS)
"""The names of scene 0 and scene 1 that count in a stuff file."""

LEAST_SHARE = 0.02
"""Share of the image that a scene's categories must cover."""


def scene_of(indoor: float, outdoor: float, pixels: int) -> int | None:
    """Tells the scene of an image.

    Indoor if the indoor categories make up at least half of all that tells a scene and at least 2% of the image;
    else outdoor if the outdoor categories do.

    Args:
        indoor: summed area of the indoor categories, pixels; annotations that overlap count twice.
        outdoor: the same of the outdoor categories.
        pixels: of the image.

    Returns:
        0 indoor, 1 outdoor, None unknown.

    Example:
        >>> scene_of(50, 50, 1000), scene_of(10, 50, 1000), scene_of(10, 5, 1000), scene_of(0, 0, 1000)
        (0, 1, None, None)
    """
    if indoor + outdoor <= 0:
        return None
    share = indoor / (indoor + outdoor)
    if share >= 0.5 and indoor / pixels >= LEAST_SHARE:
        return 0
    return 1 if share <= 0.5 and outdoor / pixels >= LEAST_SHARE else None
