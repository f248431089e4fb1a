"""Flip by class and group, by pair of classes, and the gap between rare and common groups, with intervals."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from flipjax.audit.metadata.image_groups import ImageGroups
from flipjax.config.groups import Groups
from flipjax.metrics import Decomposition
from flipjax.metrics.decomposition import Ratio, flips_of, margins
from flipjax.metrics.inputs.classes import is_foreground
from flipjax.metrics.statistics.intervals import (
    Estimate,
    difference_of,
    estimate_rate,
    estimate_rates,
    mean_of_estimates,
)
from flipjax.metrics.statistics.permutation import PermutationUnits, false_discovery_q, group_p_values, make_units
from flipjax.support.frames import DIGITS

MOST_PAIRS = 400
"""Pairs of classes that have a row and an interval, at most: those with the most flipped pixels."""

COLUMNS = (
    "class",
    "group",
    "images",
    "flip",
    "low",
    "high",
    "others",
    "others_images",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "q",
)
"""The columns of flips_by_group.csv, see `group_table`."""
ImagesByGroup = Mapping[str, Mapping[int, np.ndarray]]
"""Images, int64 indices, by the name of their group (a scene; or `common`, `rare`), then by class."""


def class_pixels(decomposition: Decomposition) -> tuple[np.ndarray, np.ndarray]:
    """Returns the flipped and all pixels of each foreground class in each image, int64 (n, C)."""
    counts = margins(np.asarray(decomposition.confusion), background=decomposition.background)
    flipped = counts.truth - counts.same - counts.missed
    return np.asarray(flipped), np.asarray(counts.truth)


def images_by_group(groups: ImageGroups, foreground: Sequence[int], class_names: Sequence[str]) -> ImagesByGroup:
    """Returns the images that are compared: of each group, or, where groups are of a class in a scene, of each scene.

    Args:
        groups: of n images.
        foreground: the foreground classes.
        class_names: of all C classes.
    """
    numbers = groups.numbers
    if numbers is None:
        return {}
    if isinstance(groups.all_groups, Groups):
        scene_names = groups.scene_names or [f"scene {scene}" for scene in range(groups.all_groups.scenes)]
        return _images_by_scene(numbers, groups.all_groups, scene_names, foreground)
    names = groups.names([class_names[c] for c in foreground])
    # Any class may be shown by an image of the group.
    return {name: dict.fromkeys(foreground, np.flatnonzero(numbers == group)) for group, name in names.items()}


def _images_by_scene(
    numbers: np.ndarray, all_groups: Groups, scene_names: Sequence[str], foreground: Sequence[int]
) -> ImagesByGroup:
    """Returns the images of each scene, of a class those that are in a group of it."""
    class_of_image = np.array(foreground)[all_groups.class_of(numbers)]
    scene_of_image = all_groups.scene_of(numbers)
    images: dict[str, dict[int, np.ndarray]] = {}
    for scene, name in enumerate(scene_names):
        images[name] = {c: np.flatnonzero((class_of_image == c) & (scene_of_image == scene)) for c in foreground}
    return images


def common_and_rare(groups: ImageGroups, foreground: Sequence[int]) -> ImagesByGroup:
    """Returns the images in `common` and in `rare` groups of each class that has both."""
    numbers = groups.numbers
    all_groups = groups.all_groups
    if numbers is None or not isinstance(all_groups, Groups):
        return {}
    class_of_image = np.array(foreground)[all_groups.class_of(numbers)]
    images: dict[str, dict[int, np.ndarray]] = {"common": {}, "rare": {}}
    for c in foreground:
        common = np.flatnonzero((class_of_image == c) & np.isin(numbers, all_groups.common))
        rare = np.flatnonzero((class_of_image == c) & np.isin(numbers, all_groups.rare))
        if len(common) and len(rare):
            images["common"][c] = common
            images["rare"][c] = rare
    return images


@dataclasses.dataclass(frozen=True)
class GroupFlip:
    """Flip of one class in one group of images, beside that in all other groups."""

    class_name: str
    """The class."""
    group: str
    """The group."""
    rivals: tuple[str, ...]
    """The other groups that show the class, at least one."""
    images: int
    """Images of the group that show the class."""
    other_images: int
    """Images of the other groups that do."""
    here: Estimate
    """The flipped share of the class's pixels in the group."""
    elsewhere: Estimate
    """That in the other groups."""
    mean_difference: float
    """The mean flipped share of the group's images, or clusters, minus that of the others: what is tested."""
    p: float = math.nan
    """Probability of such a difference by chance, by permutation; 1 where the class never flips, NaN where it cannot be
    tested."""
    q: float = math.nan
    """p corrected over all classes and groups."""

    @property
    def difference(self) -> Estimate:
        """Flip in the group minus Flip elsewhere."""
        return difference_of(self.here, self.elsewhere)

    @property
    def flips(self) -> bool:
        """Whether the class flips in any group."""
        return self.here.value > 0 or self.elsewhere.value > 0

    @property
    def repeats(self) -> bool:
        """Whether the row mirrors that of the only other group, which flips more and is kept."""
        if len(self.rivals) != 1:
            return False
        change = self.difference.value
        return change < 0 or (change == 0 and self.group > self.rivals[0])

    def row(self) -> dict[str, object]:
        """Returns the row of flips_by_group.csv."""
        difference = self.difference
        return {
            "class": self.class_name,
            "group": self.group,
            "images": self.images,
            "flip": self.here.value,
            "low": self.here.low,
            "high": self.here.high,
            "others": self.elsewhere.value,
            "others_images": self.other_images,
            "difference": difference.value,
            "difference_low": difference.low,
            "difference_high": difference.high,
            "p": self.p,
            "q": self.q,
        }


def compare_groups(
    decomposition: Decomposition,
    images: ImagesByGroup,
    class_names: Sequence[str],
    *,
    clusters: np.ndarray | None = None,
) -> list[GroupFlip]:
    """Compares the Flip of each class in each group with that in all other groups.

    p is by permutation of images (`metrics.statistics.permutation.group_p_values`). q corrects it once over all classes
    that flip and their groups (Benjamini and Hochberg, Controlling the false discovery rate, 1995); two groups make one
    comparison.

    Args:
        decomposition: of n images.
        images: by group and class; a class without pixels in a group is not compared there.
        class_names: names of all C classes.
        clusters: int (n,), images that are alike, such as those of one patient, which count as one; None: each alone.
    """
    flipped, pixels = class_pixels(decomposition)
    comparisons: dict[str, list[GroupFlip]] = {}
    tests: dict[str, PermutationUnits] = {}
    for c in np.flatnonzero(is_foreground(len(class_names), decomposition.background)).tolist():
        images_of_group = {}
        for group, by_class in images.items():
            shown = by_class.get(c, np.zeros(0, np.int64))
            showing = shown[pixels[shown, c] > 0]
            if len(showing):
                images_of_group[group] = showing
        if len(images_of_group) < 2:
            continue
        ratio = Ratio(flipped[:, c], pixels[:, c])
        units = _units_of(ratio, images_of_group, clusters)
        name = class_names[c]
        comparisons[name] = _describe_groups(name, ratio, images_of_group, clusters, units)
        # A class that never flips is no test: its p is 1.
        if units.share.any():
            tests[name] = units
    p_values = dict(zip(tests, group_p_values(list(tests.values())), strict=True))
    rows = []
    for name, comparisons_of_class in comparisons.items():
        p_of_groups = p_values.get(name, np.ones(len(comparisons_of_class)))
        for row, p in zip(comparisons_of_class, p_of_groups.tolist(), strict=True):
            rows.append(dataclasses.replace(row, p=p))
    return _corrected(rows)


def _describe_groups(
    class_name: str,
    ratio: Ratio,
    images_of_group: Mapping[str, np.ndarray],
    clusters: np.ndarray | None,
    units: PermutationUnits,
) -> list[GroupFlip]:
    """Returns a class's Flip in each group and elsewhere, not tested yet.

    Args:
        class_name: of the class.
        ratio: its flipped and all pixels in each image, (n,).
        images_of_group: the images that show it, by group.
        clusters: as in `compare_groups`.
        units: what is permuted, with the groups in the same order.
    """
    groups = []
    for (group, inside), mean_difference in zip(images_of_group.items(), units.differences.tolist(), strict=True):
        rivals = tuple(name for name in images_of_group if name != group)
        outside = np.concatenate([images_of_group[name] for name in rivals])
        groups.append(
            GroupFlip(
                class_name=class_name,
                group=group,
                rivals=rivals,
                images=len(inside),
                other_images=len(outside),
                here=_rate(ratio, inside, clusters),
                elsewhere=_rate(ratio, outside, clusters),
                mean_difference=mean_difference,
            )
        )
    return groups


def _units_of(ratio: Ratio, images_of_group: Mapping[str, np.ndarray], clusters: np.ndarray | None) -> PermutationUnits:
    """Returns what is permuted for a class: its images, or their clusters, with the numbers of their groups."""
    images = np.concatenate([*images_of_group.values()])
    sizes = [len(images_in_group) for images_in_group in images_of_group.values()]
    group_of_image = np.repeat(np.arange(len(sizes)), sizes)
    if clusters is not None:
        clusters = clusters[images]
    return make_units(ratio.part[images], ratio.whole[images], group_of_image, clusters)


def _corrected(rows: Sequence[GroupFlip]) -> list[GroupFlip]:
    """Returns the comparisons with q. A class that never flips is no test, because it cannot differ: q is 1."""
    family = _family_of(rows)
    q_values = {}
    if family:
        corrected = false_discovery_q([row.p for row in family])
        q_values = {(row.class_name, row.group): float(q) for row, q in zip(family, corrected, strict=True)}
    completed = []
    for row in rows:
        q = 1.0
        if row.flips:
            group = row.group
            if row.repeats:
                # It has the q of the comparison that it mirrors.
                [group] = row.rivals
            q = q_values.get((row.class_name, group), math.nan)
        completed.append(dataclasses.replace(row, q=q))
    return completed


def family_size(compared: Sequence[GroupFlip]) -> int:
    """Returns the number of comparisons for which q is corrected."""
    return len(_family_of(compared))


def _family_of(rows: Sequence[GroupFlip]) -> list[GroupFlip]:
    """Returns the comparisons that are tests: of classes that flip, each once, with a p."""
    return [row for row in rows if row.flips and not row.repeats and not math.isnan(row.p)]


def _rate(ratio: Ratio, images: np.ndarray, clusters: np.ndarray | None) -> Estimate:
    """Returns Flip of a class in some images, given its flipped and all pixels in each of n images."""
    if clusters is not None:
        clusters = clusters[images]
    return estimate_rate(ratio.take(images), clusters=clusters)


def group_table(compared: Sequence[GroupFlip]) -> pd.DataFrame:
    """Returns the rows of flips_by_group.csv, the largest significant difference first.

    Of two groups, the one that flips more has the row.

    Columns: `class`, `group`; `images` of the group that show the class; `flip`, the flipped share of its pixels there,
    `low`, `high`; `others`, that of the other groups, with `others_images`; `difference`, `difference_low`,
    `difference_high`; `p` and `q`.
    """
    table = pd.DataFrame([row.row() for row in compared if not row.repeats])
    if table.empty:
        return pd.DataFrame(columns=COLUMNS)
    # How far the interval lies from 0. Where it holds 0, the larger difference comes first.
    bound = np.nan_to_num(np.maximum(table["difference_low"], -table["difference_high"]), nan=0)
    bound = np.maximum(bound, 0)
    return by_bound(table, bound, table["difference"].abs())


def by_bound(table: pd.DataFrame, bound: object, value: object) -> pd.DataFrame:
    """Returns rounded rows, those with the largest bound, then the largest value, first."""
    # `lexsort` sorts by its last key first.
    order = np.lexsort((-np.asarray(value, np.float64), -np.asarray(bound, np.float64)))
    return table.iloc[order].round(DIGITS)


def flip_gap(decomposition: Decomposition, images: ImagesByGroup, clusters: np.ndarray | None = None) -> Estimate:
    """Returns Flip in rare minus common groups within each class, averaged over the classes.

    Args:
        decomposition: of n images.
        images: in `common` and in `rare` groups by class, the same classes of both; at least one.
        clusters: as in `compare_groups`.
    """
    flipped, pixels = class_pixels(decomposition)
    differences = []
    for c in images["common"]:
        ratio = Ratio(flipped[:, c], pixels[:, c])
        common = _rate(ratio, images["common"][c], clusters)
        rare = _rate(ratio, images["rare"][c], clusters)
        differences.append(difference_of(rare, common))
    return mean_of_estimates(differences)


def flip_pairs(
    decomposition: Decomposition,
    class_names: Sequence[str],
    *,
    clusters: np.ndarray | None = None,
    weighted: Decomposition | None = None,
) -> pd.DataFrame:
    """Returns the share of each class predicted as each other class, largest lower bound first.

    Args:
        decomposition: of n images.
        class_names: of all C classes.
        clusters: as in `compare_groups`.
        weighted: the same pixels by their size, of which shares are, if that differs between images.

    Returns:
        A row per pair of foreground classes, for the MOST_PAIRS with the most pixels: `truth`, `prediction`; `images`
        that show the class, `flipped_images` of these with such a flip; `pixels`; `share` of the class, `low`, `high`.
    """
    confusion = np.asarray(decomposition.confusion)
    flips = flips_of(confusion.sum(0, dtype=np.int64), background=decomposition.background)
    truth, prediction = np.unravel_index(np.argsort(-flips, axis=None, kind="stable")[:MOST_PAIRS], flips.shape)
    occurs = flips[truth, prediction] > 0
    truth = truth[occurs]
    prediction = prediction[occurs]
    part = confusion[:, truth, prediction]
    whole = confusion.sum(2)[:, truth]
    sizes = confusion
    if weighted is not None:
        sizes = np.asarray(weighted.confusion)
    share = estimate_rates(Ratio(sizes[:, truth, prediction], sizes.sum(2)[:, truth]), clusters=clusters)
    names = np.array(class_names, object)
    table = pd.DataFrame(
        {
            "truth": names[truth],
            "prediction": names[prediction],
            "images": (whole > 0).sum(0),
            "flipped_images": (part > 0).sum(0),
            "pixels": part.sum(0, dtype=np.int64),
            "share": share.value,
            "low": share.low,
            "high": share.high,
        }
    )
    return by_bound(table, table["low"], table["share"])
