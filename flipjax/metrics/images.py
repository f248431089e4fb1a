"""`Images`: the counts of N images of one model, and what follows from them in each resample. NumPy only.

Quantities are functions of it; see `flipjax.metrics.quantities`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import AnyGroups, Groups
from flipjax.metrics.decomposition import Decomposition, PixelRatios, Ratio, RegionSums, pixel_ratios, read_leaves
from flipjax.metrics.inputs.classes import Background, is_foreground
from flipjax.metrics.inputs.classes import class_names as class_names_of
from flipjax.metrics.inputs.groups import number_groups
from flipjax.metrics.inputs.host import Array
from flipjax.metrics.scenes.swap import SceneSwap, scene_swap
from flipjax.metrics.statistics.ranking import Ranking, rank_images

ALL = "all"
"""The group of all images."""


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """N images of one model: their counts, C classes, F of them foreground, and their groups.

    Example:
        >>> counts = np.array([[[4, 0, 0], [0, 3, 1], [0, 0, 0]]])
        >>> images = read_images(Decomposition(counts, np.zeros(1)), [1])
        >>> images.pooled(images.ratios.flip).tolist()
        [0.25]
    """

    class_names: tuple[str, ...]
    """Names of the C classes."""
    groups: AnyGroups | None
    """The groups, in the order of their numbers; None: the images have no groups."""
    group: np.ndarray
    """int (N,), the number of each image's group; without `groups` it means nothing."""
    confusion: np.ndarray
    """int (N, C, C), rows truth."""
    risk_sum: np.ndarray
    """float (N,), nats; NaN for masks."""
    weights: np.ndarray
    """float (S, N), how often each of S resamples holds each image; (1, N) ones where there are no resamples."""
    background: Background = 0
    """The background class, several, or None."""
    pair: np.ndarray | None = None
    """int (N,), the number that images of one object share, or -1; None: no image has one."""
    regions: RegionSums | None = None
    """Leaves (N, ...); None if not known."""
    log_odds: np.ndarray | None = None
    """float (N, scenes, F) on other scenes; None if no scenes were swapped."""
    center: np.ndarray | None = None
    """float (F,), the split point of the log-odds."""
    evidence: np.ndarray | None = None
    """float (scenes, F), log P(scene | class) in training; None if not known."""
    own: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Numerators and denominators (N, 2) of a user's own quantities, by name."""

    def __len__(self) -> int:
        """Returns N."""
        return len(self.confusion)

    def where(self, inside: np.ndarray) -> Images:
        """Returns some of the images; `inside` is bool (N,), or indices."""
        if inside.dtype == bool and inside.all():
            # Nothing is copied, and cached properties are kept.
            return self
        regions = None
        if self.regions is not None:
            regions = RegionSums(*(leaf[inside] for leaf in self.regions))
        return dataclasses.replace(
            self,
            group=self.group[inside],
            confusion=self.confusion[inside],
            risk_sum=self.risk_sum[inside],
            pair=_rows_of(self.pair, inside),
            regions=regions,
            log_odds=_rows_of(self.log_odds, inside),
            own={name: ratios[inside] for name, ratios in self.own.items()},
            weights=self.weights[:, inside],
        )

    @property
    def group_names(self) -> tuple[str, ...]:
        """The names of the groups, such as `all`, `0`, ..., `common` and `rare`."""
        if self.groups is None:
            return (ALL,)
        return (ALL, *self.groups.named)

    def of_group(self, name: str) -> Images:
        """Returns the images of a group by its name; `all` are all."""
        if name == ALL:
            return self
        if name not in self._of_groups:
            self._of_groups[name] = self.where(self.in_group(name))
        return self._of_groups[name]

    @cached_property
    def _of_groups(self) -> dict[str, Images]:
        """The groups that `of_group` has made, by name, so that the cached properties of a group are kept."""
        return {}

    def in_group(self, name: str) -> np.ndarray:
        """Returns which images are in a group, bool (N,)."""
        if name == ALL or self.groups is None:
            return np.ones(len(self), bool)
        return np.isin(self.group, self.groups.named[name])

    @cached_property
    def foreground(self) -> np.ndarray:
        """The foreground classes in ascending order, int (F,)."""
        return np.flatnonzero(is_foreground(len(self.class_names), self.background))

    @property
    def scene_groups(self) -> Groups:
        """The groups, each a class in a scene; raises a ValueError for others."""
        if not isinstance(self.groups, Groups):
            raise ValueError(f"groups: expected those of a class in a scene, found {self.groups!r}.")
        return self.groups

    @cached_property
    def compared(self) -> list[int]:
        """The foreground classes, numbered from 0, that have common and rare groups."""
        return [number for number in range(self.scene_groups.classes) if self.scene_groups.sides_of(number)[0]]

    def total(self, values: Array) -> np.ndarray:
        """Returns the sums over images (N, ...) in each resample, float64 (S, ...)."""
        return np.tensordot(self.weights, np.asarray(values, np.float64), axes=1)

    @cached_property
    def decomposition(self) -> Decomposition:
        """The images' decomposition; leaves int64 (N, C, C) and float64 (N,)."""
        return Decomposition(self.confusion.astype(np.int64), self.risk_sum.astype(np.float64), self.background)

    @cached_property
    def flip(self) -> np.ndarray:
        """The flip share of each image (N,), NaN without true foreground."""
        return self.decomposition.flip

    @cached_property
    def flip_risk(self) -> np.ndarray:
        """The flip-risk of each image (N,), NaN without predicted foreground."""
        return self.decomposition.flip_risk

    @cached_property
    def ratios(self) -> PixelRatios:
        """Part and whole of each rate of pixels in each image, leaves (N,) or (N, C)."""
        return pixel_ratios(self.decomposition.confusion, background=self.background)

    def pooled(self, ratio: Ratio) -> np.ndarray:
        """Returns the rate of all images in each resample, (S,) or (S, C), from part and whole of each image."""
        return self.summed(ratio).value

    def summed(self, ratio: Ratio) -> Ratio:
        """Returns the sums of part and whole over images in each resample, (S,) or (S, C)."""
        if np.ndim(ratio.whole) > 1:
            return Ratio(self.total(ratio.part), self.total(ratio.whole))
        # Images that lack the rate are left out, so that they do not change the order in which floats are summed.
        exists = ratio.whole > 0
        weights = self.weights
        if not exists.all():
            weights = weights[:, exists]
        return Ratio(weights @ ratio.part[exists], weights @ ratio.whole[exists])

    @cached_property
    def ranking(self) -> Ranking:
        """What follows from sorting the images by flip-risk."""
        return rank_images(self.flip, self.flip_risk, self.weights)

    @cached_property
    def swap(self) -> SceneSwap:
        """Scene-swap risk and repaired counts, for images whose scenes were swapped."""
        if self.log_odds is None or self.center is None:
            raise ValueError("log_odds: expected those on other scenes and their split point, found none.")
        return scene_swap(self.decomposition, self.log_odds, self.center)

    @cached_property
    def repaired(self) -> Images:
        """The images with their labels repaired."""
        return dataclasses.replace(self, confusion=self.swap.repaired.confusion)

    @cached_property
    def group_ious(self) -> np.ndarray:
        """The IoU of each group's class in the group, (S, groups)."""
        return self._in_groups([self.of_group(group).ratios.iou for group in self._scene_group_names])

    @cached_property
    def group_dices(self) -> np.ndarray:
        """The Dice of each group's class in the group, (S, groups)."""
        return self._in_groups([self.of_group(group).ratios.dice for group in self._scene_group_names])

    @property
    def _scene_group_names(self) -> list[str]:
        """The names of the groups of a class in a scene, in the order of their numbers."""
        return [str(group) for group in range(self.scene_groups.count)]

    def _in_groups(self, ratios: Sequence[Ratio]) -> np.ndarray:
        """Returns the rate of each group's class in the group, (S, groups), from the rates (n, C) of each group."""
        rates = []
        for group, ratio in enumerate(ratios):
            of_class = self.foreground[self.scene_groups.class_of(group)]
            images = self.of_group(str(group))
            rates.append(images.pooled(Ratio(ratio.part[:, of_class], ratio.whole[:, of_class])))
        return np.stack(rates, axis=1)

    def common_minus_rare(self, of_groups: np.ndarray) -> np.ndarray:
        """Returns the mean in common groups minus that in rare groups, (S, compared classes), of rates (S, groups)."""
        gaps = []
        for foreground_class in self.compared:
            common, rare = self.scene_groups.sides_of(foreground_class)
            gaps.append(of_groups[:, list(common)].mean(1) - of_groups[:, list(rare)].mean(1))
        return np.stack(gaps, axis=1)


def _rows_of(values: np.ndarray | None, inside: np.ndarray) -> np.ndarray | None:
    """Returns the rows of an array, if it is known."""
    if values is None:
        return None
    return values[inside]


def read_images(
    decomposition: Decomposition,
    groups: ArrayLike | None = None,
    *,
    class_names: Sequence[str] | None = None,
    all_groups: AnyGroups | None = None,
    pair: np.ndarray | None = None,
    regions: RegionSums | None = None,
    log_odds: np.ndarray | None = None,
    center: np.ndarray | None = None,
) -> Images:
    """Returns the images of a decomposition, once its arrays, groups and class names are checked.

    Args:
        decomposition: leaves of shape (n, C, C) and (n,), NumPy or JAX.
        groups: (n,) integers.
        class_names: of all C classes, or of the foreground classes alone; else `background`, `class1`, ...
        all_groups: the groups in the order of their numbers; by default two by two for two foreground classes, and for
            more classes each integer that occurs.
        pair: as in `Images`.
        regions: as in `Images`.
        log_odds: as in `Images`.
        center: as in `Images`.

    Raises:
        TypeError: confusion does not hold integers.
        ValueError: not exactly one image axis, or groups or class names that do not fit.
    """
    if isinstance(decomposition, list):
        raise TypeError("decomposition: expected one, found a list. Pass flipjax.metrics.concatenate(parts).")
    shape = np.shape(decomposition.confusion)
    risk_shape = np.shape(decomposition.risk_sum)
    if len(shape) != 3 or risk_shape != shape[:1]:
        found = f"{shape} and {risk_shape}; for one image pass leaf[None]"
        raise ValueError(f"decomposition: expected (n, C, C) and (n,), found {found}.")
    confusion, risk_sum = read_leaves(decomposition)
    n, C = confusion.shape[:2]
    background = decomposition.background
    group = np.zeros(n, np.int64)
    numbered = None
    if groups is not None:
        group, numbered = number_groups(groups, n_images=n, classes=C, background=background, all_groups=all_groups)
    return Images(
        class_names_of(class_names, classes=C, background=background),
        numbered,
        group=group,
        confusion=confusion,
        risk_sum=risk_sum,
        weights=np.ones((1, n)),
        background=background,
        pair=pair,
        regions=regions,
        log_odds=log_odds,
        center=center,
    )
