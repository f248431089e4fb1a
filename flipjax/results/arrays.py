"""The stored results of a run: arrays with named axes.

`MemberResults` holds what tables need, and `ImageResults` what every image left behind. Each field names its axes and
type once; writing, reading (`flipjax.support.npz`), joining (`flipjax.results.store`) and the xarray view all follow
from that.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Self, TypeAlias

import numpy as np

from flipjax.config.errors import ConfigError
from flipjax.config.groups import Groups
from flipjax.metrics.decomposition import RegionSums
from flipjax.support.npz import NamedArrays, array

EVALUATED = ("val", "test")
"""The parts of the images that a sweep evaluates, in order."""
AxisValue: TypeAlias = "str | int | float"
"""A member's value of an axis of the grid."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberArrays(NamedArrays):
    """Arrays with named axes, of K members each."""

    member: np.ndarray = array("member", dtype=np.str_)

    @cached_property
    def index_of_member(self) -> dict[str, int]:
        """The index of each member, by its name."""
        return {name: index for index, name in enumerate(self.member.tolist())}

    def take(self, members: Sequence[str]) -> Self:
        """Returns some members, in the given order."""
        return self.select("member", [self.index_of_member[name] for name in members])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves(MemberArrays):
    """Training curves of K members, the rows of history.csv.

    Attributes:
        epochs: that each member trained.
        measure: names of the columns.
        curves: NaN after a member's last epoch.
    """

    epochs: np.ndarray = array("member", dtype=np.int32)
    measure: np.ndarray = array("measure", dtype=np.str_)
    curves: np.ndarray = array("member", "epoch", "measure", dtype=np.float64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberResults(Curves):
    """Coordinates, quantities and training curves of K members.

    Attributes:
        rule: names of the selection rules.
        axis: names of the axes of the grid; `setting` holds each member's values as JSON, to keep their types.
        status: such as `finished` or `diverged`.
        best_epoch: the epoch that each rule kept, 0 for none.
        part: `val`, `test`.
        group: `all`, the groups' numbers, `common`, `rare`.
        quantity: keys of `values`, which are NaN where undefined.
        class_name: of the C classes, background first.
        scene_name: of the S scenes.
        usual: whether a scene is usual for a foreground class.
        program: the identity of the program, as in `flipjax.config.program.Program`.
    """

    rule: np.ndarray = array("rule", dtype=np.str_)
    axis: np.ndarray = array("axis", dtype=np.str_)
    setting: np.ndarray = array("member", "axis", dtype=np.str_)
    status: np.ndarray = array("member", dtype=np.str_)
    best_epoch: np.ndarray = array("rule", "member", dtype=np.int32)
    part: np.ndarray = array("part", dtype=np.str_)
    group: np.ndarray = array("group", dtype=np.str_)
    quantity: np.ndarray = array("quantity", dtype=np.str_)
    values: np.ndarray = array("rule", "member", "part", "group", "quantity", dtype=np.float64)
    class_name: np.ndarray = array("class", dtype=np.str_)
    scene_name: np.ndarray = array("scene", dtype=np.str_)
    usual: np.ndarray = array("foreground", "scene", dtype=np.bool_)
    program: np.ndarray = array(dtype=np.str_)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, background first."""
        return tuple(self.class_name.tolist())

    @cached_property
    def groups(self) -> Groups:
        """The groups of the images: the foreground classes in the scenes."""
        usual = tuple(tuple(np.flatnonzero(row).tolist()) for row in self.usual)
        return Groups(len(self.usual), len(self.scene_name), usual)

    @cached_property
    def group_titles(self) -> tuple[str, ...]:
        """The names of the groups in words, such as 'cat on land', in the order of `group`."""
        scenes = self.scene_name.tolist()
        return tuple(self.groups.title_of_name(name, self.class_names[1:], scenes) for name in self.group.tolist())

    def settings(self) -> list[dict[str, AxisValue]]:
        """Returns each member's values of the axes."""
        names = self.axis.tolist()
        settings = []
        for texts in self.setting.tolist():
            values = [json.loads(text) for text in texts]
            settings.append(dict(zip(names, values, strict=True)))
        return settings


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageResults(MemberArrays):
    """What each of N images, of validation and then of test, left behind, for K members.

    Scores, predicted classes and log-odds on other scenes are of the first selection rule alone.

    Attributes:
        image_part: the part of each image.
        image_group: class and scene, as `MemberResults.groups` numbers them.
        pair: the number that images of one object share, or -1.
        object_row, scene_row: rows in the pool.
        refit: the images on which DFR fits heads.
        confusion: pixels by truth and prediction.
        risk_sum: the entropy summed over the predicted foreground, nats.
        region_true, ..., gaps: as in `flipjax.metrics.RegionSums`.
        trained: the number of training images of each group.
        log_odds: of regions on other scenes, as `flipjax.intervene.scene_marginal`.
        center: their split point.
        scene_share: the weights of the passes of each kind of scene.
        score: names of `scores`.
        masks: predicted classes as packed bits, plane by plane.
        own_quantity: names of a user's own quantities.
        own: their numerators and denominators.
    """

    image_part: np.ndarray = array("image", dtype=np.str_)
    image_group: np.ndarray = array("image", dtype=np.int32)
    pair: np.ndarray = array("image", dtype=np.int32)
    object_row: np.ndarray = array("image", dtype=np.int32)
    scene_row: np.ndarray = array("image", dtype=np.int32)
    confusion: np.ndarray = array("rule", "member", "image", "class", "predicted_class", dtype=np.int32)
    risk_sum: np.ndarray = array("rule", "member", "image", dtype=np.float32)
    region_true: np.ndarray | None = array("rule", "member", "image", "zone", dtype=np.int32, optional=True)
    region_flips: np.ndarray | None = array("rule", "member", "image", "zone", dtype=np.int32, optional=True)
    region_predicted: np.ndarray | None = array("rule", "member", "image", "zone", dtype=np.int32, optional=True)
    region_risk: np.ndarray | None = array("rule", "member", "image", "zone", dtype=np.float32, optional=True)
    region_shared: np.ndarray | None = array("rule", "member", "image", dtype=np.int32, optional=True)
    gaps: np.ndarray | None = array("rule", "member", "image", "bin", dtype=np.float32, optional=True)
    trained: np.ndarray | None = array("member", "numbered_group", dtype=np.int32, optional=True)
    refit: np.ndarray | None = array("image", dtype=np.bool_, optional=True)
    log_odds: np.ndarray | None = array("member", "image", "kind", "foreground", dtype=np.float32, optional=True)
    center: np.ndarray | None = array("member", "foreground", dtype=np.float32, optional=True)
    scene_share: np.ndarray | None = array("draw", dtype=np.float32, optional=True)
    score: np.ndarray | None = array("score", dtype=np.str_, optional=True)
    scores: np.ndarray | None = array("member", "image", "score", dtype=np.float32, optional=True)
    masks: np.ndarray | None = array("member", "image", "plane", "byte", dtype=np.uint8, optional=True)
    own_quantity: np.ndarray | None = array("own_quantity", dtype=np.str_, optional=True)
    own: np.ndarray | None = array("rule", "member", "image", "own_quantity", "ratio", dtype=np.float32, optional=True)

    def inside(self, part: str) -> np.ndarray:
        """Returns which images are in a part, bool (N,); raises ConfigError for one that there is not."""
        if part not in EVALUATED:
            raise ConfigError("part", f"one of {', '.join(EVALUATED)}", part)
        return self.image_part == part

    def without_numbers(self, has_none: np.ndarray) -> ImageResults:
        """Returns the results with no pixels, NaN for floats, where bool `has_none` (rules, K) is True.

        Arrays without an axis of rules are of the first one. The training images of a member stay.
        """
        changed = {}
        for name, value in self.arrays().items():
            axes = self.axes_of(name)
            if axes[:2] == ("rule", "member"):
                blank = has_none
            elif axes[0] == "member" and len(axes) > 1 and name != "trained":
                blank = has_none[0]
            else:
                continue
            changed[name] = value.copy()
            if value.dtype.kind == "f":
                changed[name][blank] = np.nan
            else:
                changed[name][blank] = 0
        # A sum over no pixels is 0.
        changed["risk_sum"] = np.where(has_none[..., None], np.float32(0), self.risk_sum)
        return dataclasses.replace(self, **changed)

    def own_ratios(self, rule: int, index: int, inside: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the numerators and denominators (n, 2) of some images of a member, by a user's own quantity.

        Args:
            rule: the index of the selection rule.
            index: of the member.
            inside: bool (N,), the images.
        """
        if self.own is None or self.own_quantity is None:
            return {}
        ratios = self.own[rule, index, inside]
        return {name: ratios[:, number] for number, name in enumerate(self.own_quantity.tolist())}

    def regions(self, rule: int, index: int, inside: np.ndarray) -> RegionSums | None:
        """Returns the region sums of some images of a member, or None if they are not stored; as `own_ratios`."""
        leaves = []
        for values in self._region_arrays:
            if values is None:
                return None
            leaves.append(values[rule, index, inside])
        return RegionSums(*leaves)

    @property
    def _region_arrays(self) -> tuple[np.ndarray | None, ...]:
        """The arrays of `flipjax.metrics.RegionSums`, in its order."""
        return (
            self.region_true,
            self.region_flips,
            self.region_predicted,
            self.region_risk,
            self.region_shared,
            self.gaps,
        )
