"""The results of an audit, from which all its tables, sentences, files and pages are made."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from flipjax.audit.counting.maps import rank_of_image
from flipjax.audit.counting.measurements import Measurements
from flipjax.audit.metadata.image_groups import with_names
from flipjax.audit.statistics.flips import GroupFlip, compare_groups, flip_pairs, group_table, images_by_group
from flipjax.audit.statistics.kinds import AnatomyFlips, count_kinds, kinds_table
from flipjax.audit.statistics.objects import Objects, count_objects
from flipjax.audit.statistics.rows import image_rows
from flipjax.audit.statistics.summary import SummaryInterval, SummaryValue, summarize_audit
from flipjax.metrics import Anatomy, Decomposition, RegionSums
from flipjax.metrics.images import Images, read_images
from flipjax.metrics.inputs.classes import Background

FEWEST_IN_TENTHS = 30
"""Fewest images that are shown in tenths."""
SAME_RISK = 1e-6
"""Range of the flip-risk of all images, in nats, up to which they count as equal: it is stored in 24 bits."""


@dataclasses.dataclass(frozen=True)
class Audit:
    """An audit of n images of C classes."""

    measured: Measurements
    """What was counted, and how it was read."""
    summary: Mapping[str, SummaryValue]
    """Numbers by key: those of `flipjax.metrics.summarize` but its matrix, and those of segments, anatomy and groups.

    Keys of groups have the groups' names."""
    intervals: Mapping[str, SummaryInterval]
    """The 95% intervals of the numbers over images or clusters, by key."""
    objects: Objects
    """Segments."""
    images: pd.DataFrame
    """The rows of images.csv: `rows.image_rows`."""
    compared: Sequence[GroupFlip]
    """Flip of each class in each group, beside that elsewhere."""
    pairs: pd.DataFrame
    """How often each class is predicted as each other one: `flips.flip_pairs`."""
    anatomy: AnatomyFlips | None = None
    """Mirrored and shifted labels; None where classes have neither mirror images nor chains."""

    def number(self, key: str) -> float:
        """Returns a number of the summary; raises KeyError for one that it lacks."""
        value = self.summary[key]
        assert not isinstance(value, list)
        return value

    def tenths(self, key: str) -> np.ndarray:
        """Returns the numbers of each tenth of the images, (10,), which only audits of scores have."""
        return np.array(self.summary[key])

    @functools.cached_property
    def worst_images(self) -> list[int]:
        """The images with something wrong, the worst first: by `rank_of_image`."""
        counts = self.objects.counts
        wrong_segments = (counts.flipped_segments + counts.missed_segments).sum(1).tolist()
        segments = counts.segments.sum(1).tolist()
        correct = np.asarray(self.decomposition.correct).tolist()
        ranks = [rank_of_image(*counted) for counted in zip(wrong_segments, segments, correct, strict=True)]
        # A rank is a pair: the share of whole segments that are wrong, and that of the foreground.
        wrong_images = [image for image, rank in enumerate(ranks) if max(rank) > 0]
        return sorted(wrong_images, key=ranks.__getitem__, reverse=True)

    @property
    def groups(self) -> np.ndarray | None:
        """The group of each image, int64 (n,), or None."""
        return self.measured.groups.numbers

    @property
    def clusters(self) -> np.ndarray | None:
        """The cluster of each image, int64 (n,), or None."""
        return self.measured.clusters

    @property
    def decomposition(self) -> Decomposition:
        """Counts of pixels."""
        return self.measured.decomposition

    @property
    def class_names(self) -> tuple[str, ...]:
        """The C classes' names."""
        return self.measured.class_names

    @functools.cached_property
    def by_group(self) -> pd.DataFrame:
        """The rows of flips_by_group.csv: `flips.group_table`."""
        return group_table(self.compared)

    @functools.cached_property
    def kinds(self) -> pd.DataFrame:
        """The shares of each kind of flip: `kinds.kinds_table`."""
        return kinds_table(self.measured, self.anatomy)

    @property
    def has_scores(self) -> bool:
        """Whether flip-risk exists; masks have none."""
        return "flip_risk_mean" in self.summary

    @functools.cached_property
    def risk_ranks_images(self) -> bool:
        """Whether flip-risk puts images in an order: masks have none, and all images may have the same."""
        risk = np.asarray(self.decomposition.flip_risk)
        known = risk[~np.isnan(risk)]
        return self.has_scores and len(known) > 1 and bool(np.ptp(known) > SAME_RISK)

    @property
    def has_tenths(self) -> bool:
        """Whether images are shown in tenths: flip-risk ranks them, and there are enough."""
        return self.risk_ranks_images and len(self.images) - self.number("n_images_without_risk") >= FEWEST_IN_TENTHS

    @functools.cached_property
    def pixel_confusion(self) -> np.ndarray:
        """The pixels of all images, int64 (C, C), rows truth: numbers to show, of which no share is taken."""
        return np.asarray(self.decomposition.confusion).sum(0, dtype=np.int64)

    @functools.cached_property
    def weighted_confusion(self) -> np.ndarray:
        """The pixels of all images by their size, if that differs, int64 (C, C): every share is of these."""
        return np.asarray(self.measured.weighted_decomposition.confusion).sum(0, dtype=np.int64)

    @property
    def background(self) -> Background:
        """The background class, several, or None."""
        return self.decomposition.background

    @property
    def foreground(self) -> list[int]:
        """The other classes."""
        return self.measured.foreground


def conclude_audit(measured: Measurements, *, anatomy: Anatomy | None = None, samples: int = 1000) -> Audit:
    """Summarises counts, with intervals over images or clusters.

    Args:
        measured: what was counted.
        anatomy: mirror pairs and chains of the foreground classes, such as `anatomy.read_anatomy` finds.
        samples: resamples for intervals of what is no rate, such as mean IoU.
    """
    class_names = measured.class_names
    groups = measured.groups
    objects = count_objects(measured)
    anatomy_flips = None
    # False without pairs and chains.
    if anatomy:
        anatomy_flips = count_kinds(measured, anatomy)
    weighted = measured.weighted_decomposition
    compared = compare_groups(
        weighted,
        images_by_group(groups, measured.foreground, class_names),
        class_names,
        clusters=measured.clusters,
    )
    counted = _images_of(measured, measured.decomposition, measured.regions)
    weighted_images = counted
    if measured.is_weighted:
        weighted_images = _images_of(measured, weighted, measured.weighted_regions)
    summary = summarize_audit(
        weighted_images,
        measured,
        objects,
        compared=compared,
        kinds=anatomy_flips,
        samples=samples,
    )
    # Metrics number the groups of a class in a scene: group/1/fg_flip becomes group/cow+sea/fg_flip.
    names_in_keys = groups.names_in_keys(_foreground_names(measured))
    return Audit(
        measured=measured,
        summary=with_names(summary.values, names_in_keys),
        intervals=with_names(summary.intervals, names_in_keys),
        objects=objects,
        # Not weighted: the pixels of one image are all of one size, and those of images.csv are numbers of pixels.
        images=image_rows(_columns_on_images(measured), measured, counted, objects, anatomy=anatomy_flips),
        compared=compared,
        pairs=flip_pairs(measured.decomposition, class_names, clusters=measured.clusters, weighted=weighted),
        anatomy=anatomy_flips,
    )


def _columns_on_images(measured: Measurements) -> dict[str, Sequence[str]]:
    """Returns the columns of images.csv that say which images these are: names, and of groups what is known."""
    groups = measured.groups
    columns: dict[str, Sequence[str]] = {"name": measured.names, **groups.columns}
    if groups.numbers is not None:
        group_names = groups.names(_foreground_names(measured))
        columns["group"] = [group_names[group] for group in groups.numbers.tolist()]
    return columns


def _foreground_names(measured: Measurements) -> list[str]:
    """Returns the names of the foreground classes."""
    return [measured.class_names[c] for c in measured.foreground]


def _images_of(measured: Measurements, decomposition: Decomposition, regions: RegionSums | None) -> Images:
    """Returns the images of an audit as quantities take them, with these counts of pixels, weighted or not."""
    return read_images(
        decomposition,
        measured.groups.numbers,
        class_names=measured.class_names,
        all_groups=measured.groups.all_groups,
        pair=measured.pairs,
        regions=regions,
        log_odds=measured.log_odds,
        center=measured.center,
    )
