"""What a quantity is, and decorators that register the functions of `metrics.quantities`. NumPy only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from flipjax.config.groups import Groups
from flipjax.metrics.decomposition import PixelRatios, Ratio, mean_over_classes
from flipjax.metrics.images import Images

T = TypeVar("T")

RANGES = {
    "share": (0.0, 1.0),
    "difference of shares": (-1.0, 1.0),
    "nats": (0.0, math.inf),
    "images": (0.0, math.inf),
    "log-odds": (-math.inf, math.inf),
    "ratio": (-math.inf, math.inf),
}
"""The least and the largest value of a quantity, by its unit."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """What a number means."""

    key: str
    """Its key in `flipjax.metrics.summarize`; `<class>` stands for each class, `<foreground>` for each foreground
    class."""
    title: str
    """Its name in tables and charts."""
    unit: str
    """A key of RANGES."""
    better: str = ""
    """The direction: 'up', 'down', or '' for neither."""
    meaning: str = ""
    """One to three sentences."""
    across: bool = False
    """Whether it compares groups, and so does not exist within one."""


Compute = Callable[[Images], np.ndarray]
"""A function from images to the values of a quantity, see `flipjax.metrics.quantities`."""
OfImages = Callable[[Images], Ratio]
"""A function from images to part and whole of a rate in each: (N,), or (N, C) with a column for each class."""
OfPixels = Callable[[PixelRatios], Ratio]
"""A function from the rates of pixels to one of them."""
Condition = Callable[[Images], bool]
"""A function that says whether images have what a quantity needs."""


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """A quantity and how it is computed."""

    quantity: Quantity
    """What it means."""
    compute: Compute
    """Its function."""
    exists: Condition
    """Whether images have what the function needs."""
    swept: bool
    """Whether it is a column of results.csv."""
    weighted: bool
    """Whether it follows the weights of `Images`, and so can have an interval over images."""
    resampled: bool
    """Whether a sweep computes that interval from resamples; the interval of a rate has a formula."""
    of_images: OfImages | None = None
    """Returns part and whole of the quantity in each image, if it is a rate."""
    of_pixels: OfPixels | None = None
    """Returns the quantity from all rates of pixels, if it is one of them; it then follows from confusion matrices."""
    mean_of_pixels: OfPixels | None = None
    """Returns the rate of each class whose mean over the classes the quantity is, if it is such a mean."""


EVALUATORS: list[Evaluator] = []
"""All evaluators, in the order of the columns of results.csv; filled when `flipjax.metrics.quantities` is
imported."""


def always(images: Images) -> bool:
    """Returns True, for a quantity that all images have."""
    return True


def has_classes_in_scenes(images: Images) -> bool:
    """Returns whether a group is a class in a scene, and common or rare."""
    return isinstance(images.groups, Groups)


def has_rivals(images: Images) -> bool:
    """Returns whether a flip in a scene can go to one of several classes."""
    return isinstance(images.groups, Groups) and images.groups.classes > 2


def has_risk(images: Images) -> bool:
    """Returns whether there is a flip-risk: masks have none."""
    return not np.isnan(images.risk_sum).all()


def has_scenes(images: Images) -> bool:
    """Returns whether scenes were swapped."""
    return images.log_odds is not None


def has_swapped_groups(images: Images) -> bool:
    """Returns whether scenes were swapped in images whose groups are a class in a scene."""
    return has_scenes(images) and has_classes_in_scenes(images)


def has_usual_scenes(images: Images) -> bool:
    """Returns whether scenes were swapped, and every class has usual scenes and others."""
    return has_swapped_groups(images) and len(images.compared) == images.scene_groups.classes


def has_evidence(images: Images) -> bool:
    """Returns whether scenes were swapped, and the training set is known."""
    return has_scenes(images) and images.evidence is not None


def has_pairs(images: Images) -> bool:
    """Returns whether images show one object in all scenes."""
    return images.pair is not None and bool((images.pair >= 0).any())


def has_regions(images: Images) -> bool:
    """Returns whether sums over regions are known."""
    return images.regions is not None


def required(value: T | None) -> T:
    """Returns a field of `Images` that the condition of a quantity has found."""
    if value is None:
        raise ValueError("expected what the quantity needs, found none")
    return value


def quantity(
    key: str,
    title: str,
    *,
    unit: str,
    better: str = "",
    across: bool = False,
    needs: Condition = always,
    swept: bool = True,
    weighted: bool = True,
    resampled: bool = True,
    mean_of_pixels: OfPixels | None = None,
) -> Callable[[Compute], Compute]:
    """Registers a function as the quantity `key`, with its docstring as the meaning; see `Quantity`, `Evaluator`."""

    def register(compute: Compute) -> Compute:
        meaning = " ".join((compute.__doc__ or "").split())
        evaluator = Evaluator(
            Quantity(key, title, unit, better, meaning, across),
            compute,
            exists=needs,
            swept=swept,
            weighted=weighted,
            resampled=weighted and resampled,
            mean_of_pixels=mean_of_pixels,
        )
        EVALUATORS.append(evaluator)
        return compute

    return register


def rate(
    key: str,
    title: str,
    *,
    better: str,
    needs: Condition = always,
    swept: bool = True,
    of_pixels: OfPixels | None = None,
) -> Callable[[OfImages], OfImages]:
    """Registers a function that returns part and whole of a share in each image; its docstring is the meaning."""

    def register(of_images: OfImages) -> OfImages:
        def compute(images: Images) -> np.ndarray:
            return images.pooled(of_images(images))

        meaning = " ".join((of_images.__doc__ or "").split())
        evaluator = Evaluator(
            Quantity(key, title, "share", better, meaning),
            compute,
            exists=needs,
            swept=swept,
            weighted=True,
            resampled=False,
            of_images=of_images,
            of_pixels=of_pixels,
        )
        EVALUATORS.append(evaluator)
        return of_images

    return register


def pixel_rate(key: str, title: str, *, better: str, swept: bool = True) -> Callable[[OfPixels], OfPixels]:
    """Registers a function that returns one of the rates of pixels; its docstring is the meaning."""

    def register(of_pixels: OfPixels) -> OfPixels:
        def of_images(images: Images) -> Ratio:
            return of_pixels(images.ratios)

        of_images.__doc__ = of_pixels.__doc__
        rate(key, title, better=better, swept=swept, of_pixels=of_pixels)(of_images)
        return of_pixels

    return register


def pixel_mean(key: str, title: str, *, better: str, swept: bool = True) -> Callable[[OfPixels], OfPixels]:
    """Registers the mean over the classes that occur of a rate of pixels, which the function returns."""

    def register(of_pixels: OfPixels) -> OfPixels:
        def compute(images: Images) -> np.ndarray:
            return mean_over_classes(images.summed(of_pixels(images.ratios)))

        compute.__doc__ = of_pixels.__doc__
        quantity(key, title, unit="share", better=better, swept=swept, mean_of_pixels=of_pixels)(compute)
        return of_pixels

    return register
