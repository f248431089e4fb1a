"""Indoor or outdoor, by the areas of what stands in the image."""

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
