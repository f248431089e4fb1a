"""The `Measurements` of n images, from which the numbers, tables and page of an audit are made; pixels are left behind.

Whether images come from files, batches or a model, `flipjax.audit.counting.tally` reduces them to this record.
`MinSize` is the smallest segment that is counted, which may be given in mm2 or mL. `weigh_pixels` lets pixels count by
their area or volume where these differ between images.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from flipjax.audit.metadata.image_groups import ImageGroups
from flipjax.metrics import Decomposition, RegionSums, SegmentTables
from flipjax.metrics.inputs.classes import is_foreground

UNITS = {"pixels": "pixels", "mm2": "mm2", "ml": "mL"}
"""The spelling of each unit of a smallest segment, by its lower-case one."""
MM3_OF_ML = 1000.0
"""Cubic millimetres of a millilitre."""
WEIGHT_OF_UNIT = 1_000_000
"""Weight of a square or cubic millimetre: weights of pixels are integers, so that their sums are exact."""
LEAST_WEIGHT = 1_000
"""Least weight of the smallest pixel: rounding then changes no weight by more than 0.05%."""
SAME_SIZE = 1e-4
"""Relative difference between pixel sizes below which they count as equal; spacings are stored rounded."""


@dataclasses.dataclass(frozen=True)
class MinSize:
    """The smallest segment that has a row. The default keeps every segment.

    Example:
        >>> MinSize.parse("0.5mL").pixels((1.0, 1.0, 2.0)), str(MinSize.parse("64"))
        (250, '64 pixels')
    """

    amount: float = 1.0
    """How many of the unit; positive."""
    unit: str = "pixels"
    """One of `UNITS`' values; mm2 is of images, mL of volumes, and both need a spacing."""

    @classmethod
    def parse(cls, text: str | float | None) -> MinSize:
        """Reads a number of pixels, or a number with the unit mm2 or mL; None is every size.

        Raises:
            ValueError: another text, or a number that is not positive.
        """
        if text is None:
            return EVERY_SIZE
        written = str(text).strip()
        amount_text = written
        unit = "pixels"
        for ending, spelling in UNITS.items():
            if written.lower().endswith(ending):
                amount_text = written[: -len(ending)]
                unit = spelling
        try:
            amount = float(amount_text)
        except ValueError:
            amount = math.nan
        if not 0 < amount < math.inf:
            raise ValueError(f"min_size: expected a number of pixels such as 64, 3mm2 or 0.5mL, found {written!r}.")
        return cls(amount, unit)

    def __str__(self) -> str:
        """Returns the size with its unit."""
        return f"{self.amount:g} {self.unit}"

    def pixels(self, spacing: Sequence[float] | None) -> int:
        """Returns the least number of pixels of a segment in an image of this spacing in mm.

        Raises:
            ValueError: the unit is mm2 and the spacing is not one of two axes, or mL and not of three.
        """
        if self.unit == "pixels":
            return max(1, math.ceil(self.amount))
        if self.unit == "mL":
            axes = 3
            volume_or_area = self.amount * MM3_OF_ML
        else:
            axes = 2
            volume_or_area = self.amount
        expectation = f"min_size: expected a spacing in mm along {axes} axes beside {self}"
        if spacing is None:
            raise ValueError(f"{expectation}, found none.")
        if len(spacing) != axes:
            raise ValueError(f"{expectation}, found one of {len(spacing)} axes.")
        # 0.7 mL of voxels of 1 x 1 x 0.7 mm are 1,000, but a little more in floating point, which would be 1,001.
        return max(1, math.ceil(round(volume_or_area / math.prod(spacing), 6)))


EVERY_SIZE = MinSize()
"""Leaves no segment out."""
NO_GROUPS = ImageGroups(None)
"""The groups of images that have none."""


def weights_by_size(pixel_size: np.ndarray | None) -> np.ndarray | None:
    """Returns how often a pixel of each image counts, int64 (n,); None if every pixel counts once.

    Each counts once if all have one size, and if sizes are not known: rates are then shares of pixels, which need no
    weights.
    """
    if pixel_size is None or np.allclose(pixel_size, pixel_size[0], rtol=SAME_SIZE, atol=0):
        return None
    # Pixels of a microscope have a ten-millionth of a square millimetre, and would weigh nothing.
    weight_of_unit = max(WEIGHT_OF_UNIT, LEAST_WEIGHT / pixel_size.min())
    return np.rint(pixel_size * weight_of_unit).astype(np.int64)


def weigh_pixels(decomposition: Decomposition, pixel_size: np.ndarray | None) -> Decomposition:
    """Returns the decomposition in which pixels count by their area or volume, if these differ between images.

    Rates over all images are then shares of tissue, not of voxels; those of one image stay. Counts are in millionths of
    a square or cubic millimetre, or smaller where the smallest pixel has less than a thousand of them. If all pixels
    are alike, the result is `decomposition` itself.

    Args:
        decomposition: of n images.
        pixel_size: of each image in mm2 or mm3, float64 (n,); None if it is not known.

    Example:
        >>> counts = Decomposition(np.ones((2, 3, 3), np.int32), np.zeros(2))
        >>> weigh_pixels(counts, np.array([1.0, 2.5])).confusion[:, 0, 0].tolist()
        [1000000, 2500000]
    """
    weights = weights_by_size(pixel_size)
    if weights is None:
        return decomposition
    confusion = np.asarray(decomposition.confusion, np.int64) * weights[:, None, None]
    risk_sum = np.asarray(decomposition.risk_sum, np.float64) * weights
    return Decomposition(confusion, risk_sum, decomposition.background)


@dataclasses.dataclass(frozen=True)
class Measurements:
    """All that the tables of an audit need of n images of C classes."""

    names: tuple[str, ...]
    """The images' names."""
    class_names: tuple[str, ...]
    """The C classes' names."""
    decomposition: Decomposition
    """Counts of pixels: confusion int32 (n, C, C), risk_sum float32 (n,), NaN for masks."""
    ignored_pixels: np.ndarray
    """The number of ignored pixels of each image, int64 (n,)."""
    segments: SegmentTables
    """Three tables: true segments of at least `min_size`; predicted segments likewise; pixels by kind of error."""
    regions: RegionSums | None = None
    """Sums over rims and interiors, a row an image; None for masks."""
    shapes: tuple[tuple[int, ...], ...] = ()
    """Each image's shape: (H, W), or three axes of a volume."""
    spacing: np.ndarray | None = None
    """Distance of pixels in mm along each axis, float64 (n, axes); None if it is not known of every image."""
    without_spacing: tuple[str, ...] = ()
    """Names of the images whose spacing is not known."""
    min_size: MinSize = EVERY_SIZE
    """The smallest segment that has a row."""
    smaller_segments: np.ndarray | None = None
    """How many true segments of each image are smaller than `min_size` and so have no row, int64 (n,); None: no image
    has such segments."""
    groups: ImageGroups = NO_GROUPS
    """The images' groups."""
    clusters: np.ndarray | None = None
    """int64 (n,): images of one cluster, such as a patient, are resampled together; None resamples each alone."""
    pairs: np.ndarray | None = None
    """int64 (n,): the counterfactual pair of each image or -1; pairs are resampled together."""
    log_odds: np.ndarray | None = None
    """Log-odds of the F foreground classes on each of K kinds of other scenes (`flipjax.intervene.scene_marginal`),
    float (n, K, F); None if they were not measured."""
    center: np.ndarray | None = None
    """The split point, from which repair measures these log-odds (`flipjax.intervene.split_point`), float (F,)."""

    @property
    def are_volumes(self) -> bool:
        """Whether the images are volumes, of three axes."""
        return bool(self.shapes) and len(self.shapes[0]) == 3

    @property
    def image_noun(self) -> str:
        """What the images are called: images or volumes."""
        if self.are_volumes:
            return "volumes"
        return "images"

    @property
    def pixel_noun(self) -> str:
        """What their pixels are called: pixels or voxels."""
        if self.are_volumes:
            return "voxels"
        return "pixels"

    @property
    def segments_left_out(self) -> int:
        """The number of true segments of all images below `min_size`, which have no row."""
        if self.smaller_segments is None:
            return 0
        return int(self.smaller_segments.sum())

    @functools.cached_property
    def pixel_size(self) -> np.ndarray | None:
        """The area (mm2) or volume (mm3) of a pixel of each image, float64 (n,); None if it is not known."""
        if self.spacing is None:
            return None
        return self.spacing.prod(axis=1)

    @functools.cached_property
    def weighted_decomposition(self) -> Decomposition:
        """The decomposition whose pixels count by their size, `weigh_pixels`."""
        return weigh_pixels(self.decomposition, self.pixel_size)

    @property
    def is_weighted(self) -> bool:
        """Whether pixels count by their size, because it differs between images."""
        return weights_by_size(self.pixel_size) is not None

    @property
    def weight_noun(self) -> str:
        """By what pixels count in every rate over images: volume or area where sizes differ, else voxels or pixels."""
        if not self.is_weighted:
            return self.pixel_noun
        if self.are_volumes:
            return "volume"
        return "area"

    @property
    def foreground(self) -> list[int]:
        """The classes that are no background."""
        return np.flatnonzero(is_foreground(len(self.class_names), self.decomposition.background)).tolist()

    @functools.cached_property
    def weighted_regions(self) -> RegionSums | None:
        """The sums over rims and interiors whose pixels count by their size."""
        if self.regions is None or not self.is_weighted:
            return self.regions
        # A named tuple of arrays, each with a row an image.
        return RegionSums(*(_times_each(sums, self.pixel_weights) for sums in self.regions))

    @property
    def pixel_weights(self) -> np.ndarray:
        """How often a pixel of each image counts in `weighted_decomposition`, int64 (n,)."""
        weights = weights_by_size(self.pixel_size)
        if weights is None:
            return np.ones(len(self.names), np.int64)
        return weights

    def millilitres(self, pixels: np.ndarray) -> np.ndarray | None:
        """Returns numbers of voxels (n, ...) of each image in mL; None for images, or if no spacing is known."""
        if not self.are_volumes or self.pixel_size is None:
            return None
        return _times_each(pixels, self.pixel_size) / MM3_OF_ML


def _times_each(values: ArrayLike, factors: np.ndarray) -> np.ndarray:
    """Returns values (n, ...) of n images, those of each image times its factor, (n,)."""
    numbers = np.asarray(values)
    axes_of_an_image = tuple(range(1, numbers.ndim))
    return numbers * np.expand_dims(factors, axes_of_an_image)
