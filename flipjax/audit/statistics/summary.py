"""The numbers of summary.json and their intervals over images."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from flipjax.audit.counting.measurements import Measurements
from flipjax.audit.metadata.image_groups import ImageGroups, with_names
from flipjax.audit.statistics.flips import GroupFlip, common_and_rare, flip_gap, images_by_group
from flipjax.audit.statistics.kinds import AnatomyFlips
from flipjax.audit.statistics.objects import Objects, SegmentCounts
from flipjax.metrics import Anatomy, Decomposition, RegionSums
from flipjax.metrics.anatomy.flips import FLIP_KINDS
from flipjax.metrics.images import Images, read_images
from flipjax.metrics.inputs.classes import Background, is_foreground
from flipjax.metrics.statistics.draws import read_sets
from flipjax.metrics.statistics.intervals import Estimate
from flipjax.metrics.summary.evaluate import evaluate, rate_intervals
from flipjax.metrics.summary.names import AUDIT_QUANTITIES
from flipjax.metrics.summary.resampling import image_intervals, interval_names

GROUP_DIFFERENCE = "group_difference/"
"""Beginning of the keys of Flip in a group minus Flip elsewhere, `group_difference/<class>/<group>`."""
GROUP_Q = "group_q/"
"""Beginning of the keys of their q."""
LEAST_Q = "least_group_q"
"""Key of the smallest q."""
SEED_WORDS = (0, 0)
"""The data of JAX's key of seed 0, by which images are resampled, as `flipjax.metrics.bootstrap` does with that key."""


SummaryValue: TypeAlias = float | list[float]
"""A number, NaN where it is undefined, or one for each tenth of the images."""
SummaryInterval: TypeAlias = tuple[float, float] | tuple[np.ndarray, np.ndarray]
"""The ends of a number's interval, or those of each tenth, (10,)."""


@dataclasses.dataclass
class Summary:
    """Numbers by key, and their 95% intervals over images or clusters."""

    values: dict[str, SummaryValue] = dataclasses.field(default_factory=dict)
    """All numbers."""
    intervals: dict[str, SummaryInterval] = dataclasses.field(default_factory=dict)
    """The intervals of the numbers that have one."""

    def add(self, key: str, estimate: Estimate) -> None:
        """Adds a number, with its interval where there is one."""
        self.values[key] = estimate.value
        if not math.isnan(estimate.low):
            self.intervals[key] = (estimate.low, estimate.high)


def summarize_audit(
    weighted: Images,
    measured: Measurements,
    objects: Objects,
    *,
    compared: Sequence[GroupFlip],
    kinds: AnatomyFlips | None,
    samples: int,
) -> Summary:
    """Returns all numbers of an audit, without those of empty groups.

    Args:
        weighted: n images, each pixel counted by its size if sizes differ; rates of pixels are of them.
        measured: the same images as they were read, each pixel counted once; has their clusters and pairs.
        objects: the segments of the images.
        compared: Flip by class and group.
        kinds: mirrored and shifted labels.
        samples: resamples for intervals of what is no rate.
    """
    summary = _pixel_summary(weighted, measured, samples=samples)
    for key, estimate in objects.rates.items():
        summary.add(key, estimate)
    if kinds is not None:
        for key, estimate in kinds.rates.items():
            summary.add(key, estimate)
    images = common_and_rare(measured.groups, measured.foreground)
    if images.get("common"):
        summary.add("flip_gap/mean", flip_gap(measured.weighted_decomposition, images, measured.clusters))
    _add_group_differences(summary, compared)
    return summary


def _pixel_summary(weighted: Images, measured: Measurements, *, samples: int) -> Summary:
    """Returns the quantities of the images, rates with closed intervals (`metrics.statistics`), others by bootstrap."""
    groups = [group for group in weighted.group_names if weighted.in_group(group).any()]
    summary = Summary()
    for evaluated in evaluate(weighted, groups=groups):
        # The only row is that of all images; resamples would have more.
        summary.values[evaluated.name] = evaluated.value[0].tolist()
    # One image has no interval.
    if len(weighted) < 2:
        return summary
    rates = rate_intervals(weighted, groups, dependent_images(measured))
    bootstrapped = [name for name in interval_names(weighted) if name in summary.values and name not in rates]
    drawn = {}
    if bootstrapped:
        drawn = image_intervals(
            weighted,
            bootstrapped,
            generator=np.random.default_rng(SEED_WORDS),
            samples=samples,
            pairs=measured.pairs,
            clusters=measured.clusters,
        )
    # In the order of the numbers.
    for key in summary.values:
        if key in rates:
            summary.intervals[key] = rates[key]
        elif key in drawn:
            summary.intervals[key] = drawn[key]
    return summary


def known_keys(class_names: Sequence[str], background: Background, groups: ImageGroups, anatomy: Anatomy) -> set[str]:
    """Returns the keys of the numbers of an audit with these classes and groups, which a limit may name.

    Args:
        class_names: of all C classes.
        background: of the classes.
        groups: of the images.
        anatomy: of the classes; false if there is none.
    """
    foreground = np.flatnonzero(is_foreground(len(class_names), background)).tolist()
    pixel_keys = _pixel_keys(class_names, background, groups)
    names_in_keys = groups.names_in_keys([class_names[c] for c in foreground])
    keys = set(with_names(dict.fromkeys(pixel_keys), names_in_keys))
    # A name with <foreground> stands for keys of each class, which are added below.
    keys.update(key for key in AUDIT_QUANTITIES if "<" not in key)
    # Here, too, keys depend on the classes alone.
    keys.update(SegmentCounts.empty(len(class_names)).ratios(class_names, foreground))
    group_names = images_by_group(groups, foreground, class_names).keys()
    if not group_names:
        # Among AUDIT_QUANTITIES.
        keys.discard(LEAST_Q)
    for group in group_names:
        for c in foreground:
            keys.add(f"{GROUP_DIFFERENCE}{class_names[c]}/{group}")
            keys.add(f"{GROUP_Q}{class_names[c]}/{group}")
    if not anatomy:
        keys.difference_update(FLIP_KINDS)
    return keys


def _pixel_keys(class_names: Sequence[str], background: Background, groups: ImageGroups) -> list[str]:
    """Returns the keys of the quantities of images that are one number each, not one for each tenth.

    The keys are those that `evaluate` gives of one image without pixels: they depend on the classes and on all groups,
    not on what images show, and no list of them has to be kept beside the quantities.
    """
    C = len(class_names)
    no_pixels = Decomposition(np.zeros((1, C, C), np.int64), np.zeros(1), background)
    group_of_image = None
    if groups.numbers is not None:
        # Any group does, since `all_groups` says which there are.
        group_of_image = groups.numbers[:1]
    image = read_images(
        no_pixels,
        group_of_image,
        class_names=class_names,
        all_groups=groups.all_groups,
        regions=_regions_without_pixels(),
    )
    return [evaluated.name for evaluated in evaluate(image) if evaluated.value.ndim == 1]


def _regions_without_pixels() -> RegionSums:
    """Returns the sums over rim and interior of one image without pixels."""
    rim_and_interior = np.zeros((1, 2))
    return RegionSums(
        true=rim_and_interior,
        flips=rim_and_interior,
        predicted=rim_and_interior,
        risk=rim_and_interior,
        shared=np.zeros(1),
        gaps=np.zeros((1, 1)),
    )


def dependent_images(measured: Measurements) -> np.ndarray | None:
    """Returns numbers (n,) of images that count as one: clusters, or the images of a counterfactual pair."""
    if measured.clusters is not None:
        return measured.clusters
    if measured.pairs is None:
        return None
    # An image without a pair, -1, counts alone.
    return read_sets(measured.pairs, n_images=len(measured.pairs), name="pairs")


def _add_group_differences(summary: Summary, compared: Sequence[GroupFlip]) -> None:
    """Adds Flip of each class in each group minus that elsewhere, its q, and the least q."""
    for row in compared:
        summary.add(f"{GROUP_DIFFERENCE}{row.class_name}/{row.group}", row.difference)
        summary.values[f"{GROUP_Q}{row.class_name}/{row.group}"] = row.q
    if compared:
        q_values = [row.q for row in compared if not math.isnan(row.q)]
        summary.values[LEAST_Q] = min(q_values, default=math.nan)
