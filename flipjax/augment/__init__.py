"""Pure augmentations of a batch on the device, with the PRNG key as the first argument."""

from flipjax.augment.background import background_cutmix, background_swap
from flipjax.augment.colour import colour_jitter
from flipjax.augment.geometry import exchanged, horizontal_flip, mirror, random_resized_crop

__all__ = [
    "background_cutmix",
    "background_swap",
    "colour_jitter",
    "exchanged",
    "horizontal_flip",
    "mirror",
    "random_resized_crop",
]


def __dir__() -> list[str]:
    return __all__
