"""The outcomes of an assay's images, and the share of each group's pixels that they are.

A group is a class with a value of the attribute. Images were tested by networks that did not train on them.
"""

import dataclasses

import numpy as np

from flipjax.assays.statistics.units import AssayUnits


@dataclasses.dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcomes of n images under S seeds; NaN where a seed did not test an image.

    Attributes:
        correct: correct pixels of the true object, float64 (S, n).
        flip: flipped pixels of the true object, float64 (S, n).
        spill: background pixels predicted as foreground, float64 (S, n).
        foreground: pixels of the true object, float64 (n,).
    """

    correct: np.ndarray
    flip: np.ndarray
    spill: np.ndarray
    foreground: np.ndarray

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.flip)

    @property
    def tested(self) -> np.ndarray:
        """Whether each image was tested by any seed, bool (n,)."""
        return np.isfinite(self.flip).max(axis=0)

    def where(self, images: np.ndarray) -> "Outcomes":
        """Returns the outcomes of the images that a bool (n,) chooses."""
        return Outcomes(
            self.correct[:, images],
            self.flip[:, images],
            self.spill[:, images],
            self.foreground[images],
        )


def mean_over_seeds(pixels: np.ndarray) -> np.ndarray:
    """Returns the mean (n,) of pixels (S, n) over the seeds that tested an image, NaN where none did."""
    was_tested = np.isfinite(pixels)
    count = was_tested.sum(0)
    total = np.where(was_tested, pixels, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(1, count), np.nan)


def group_of_images(units: AssayUnits) -> np.ndarray:
    """Returns the group of each image, class * V + value for V values, int (n,)."""
    return units.class_ * units.values + units.value


def group_shares(units: AssayUnits, foreground: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Returns the share of each group's true foreground that some pixels are, float64 (S, F, V).

    Args:
        units: class and value of each image.
        foreground: pixels of the true object, (n,).
        pixels: such as the flipped ones, (S, n), NaN where a seed did not test an image.

    Returns:
        NaN for groups without tested images.

    Example:
        >>> units = AssayUnits(np.array([0, 0]), np.array([0, 1]), np.arange(2), classes=1, values=2)
        >>> group_shares(units, np.array([10.0, 20.0]), np.array([[1.0, 10.0]])).tolist()
        [[[0.1, 0.5]]]
    """
    group = group_of_images(units)
    in_group = np.zeros((len(group), units.classes * units.values))
    in_group[np.arange(len(group)), group] = 1
    was_tested = np.isfinite(pixels)
    denominator = np.where(was_tested, np.nan_to_num(foreground), 0.0) @ in_group
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = (np.where(was_tested, pixels, 0.0) @ in_group) / denominator
    return shares.reshape(-1, units.classes, units.values)
