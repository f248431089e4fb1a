"""The stored results of a run: arrays with named axes.

`MemberResults` holds what tables need, and `ImageResults` what every image left behind. Each field names its axes and
type once; writing, reading, merging (`flipjax.results.store`) and the xarray view all follow from that.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from flipjax.groups import Groups
from flipjax.metrics.classes import class_names
from flipjax.metrics.decomposition import RegionSums
from flipjax.metrics.images import ALL
from flipjax.results.quantities import find_quantity

EVALUATED = ("val", "test")
"""The parts of the images that a sweep evaluates, in order."""
NAME = re.compile(r"[\w.=, +-]+")
"""A member's name: part of the names of its files."""
HISTORY_AXES = frozenset({"member", "epoch"})
"""The columns of history.csv beside the measures."""
HISTORY_MEMBER, HISTORY_ROW = 250, 60
"""Bytes of memory that a member of history.csv takes, and each of its rows, beside its measures."""
RESULTS_ROW, RESULTS_ENTRY = 200, 16
"""Bytes of memory that a row of results.csv takes, and each axis and quantity in it while the table is made."""
AxisValue: TypeAlias = "str | int | float"
"""A member's value of an axis of the grid."""
Table = TypeVar("Table", bound="NamedArrays")


def array(*axes: str, dtype: DTypeLike, optional: bool = False) -> Any:
    """Declares a field: an array with named axes; an optional one may be None.

    The type is that of the field, which a type checker takes from its annotation, as of `dataclasses.field`.
    """
    metadata = {"axes": axes, "dtype": np.dtype(dtype)}
    if optional:
        return dataclasses.field(default=None, metadata=metadata)
    return dataclasses.field(metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedArrays:
    """Arrays with named axes, of K members each."""

    member: np.ndarray = array("member", dtype=np.str_)

    @classmethod
    def axes_of(cls, name: str) -> tuple[str, ...]:
        """Returns the axes of a field."""
        return cls.__dataclass_fields__[name].metadata["axes"]

    @classmethod
    def dtype_of(cls, name: str) -> np.dtype:
        """Returns the type of a field."""
        return cls.__dataclass_fields__[name].metadata["dtype"]

    @classmethod
    def names(cls) -> list[str]:
        """Returns the names of the fields."""
        return list(cls.__dataclass_fields__)

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays that are there, by name."""
        arrays = {}
        for name in self.names():
            value = getattr(self, name)
            if value is not None:
                arrays[name] = np.asarray(value, self.dtype_of(name))
        return arrays

    @cached_property
    def places(self) -> dict[str, int]:
        """The index of each member, by name."""
        return {name: index for index, name in enumerate(self.member.tolist())}

    def check(self) -> None:
        """Raises ValueError unless the values fit each other."""
        names = self.member.tolist()
        if len(set(names)) < len(names):
            raise ValueError("member: expected different names")
        for name in names:
            if not NAME.fullmatch(name):
                raise ValueError(f"member: expected names of letters and digits, found {name!r}")

    def memory(self) -> int:
        """Returns the bytes of memory that the arrays take, and the tables that are made of them."""
        return sum(values.nbytes for values in self.arrays().values())

    def take(self: Table, members: Sequence[str]) -> Table:
        """Returns some members, in the given order."""
        places = [self.places[name] for name in members]
        changed = {}
        for name, value in self.arrays().items():
            axes = self.axes_of(name)
            if "member" in axes:
                changed[name] = value.take(places, axes.index("member"))
        return dataclasses.replace(self, **changed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves(NamedArrays):
    """Training curves of K members, the rows of history.csv.

    Attributes:
        epochs: that each member trained.
        measure: names of the columns.
        curves: NaN after a member's last epoch.
    """

    epochs: np.ndarray = array("member", dtype=np.int32)
    measure: np.ndarray = array("measure", dtype=np.str_)
    curves: np.ndarray = array("member", "epoch", "measure", dtype=np.float64)

    def check(self) -> None:
        """Raises ValueError unless the values fit each other."""
        super().check()
        names = self.measure.tolist()
        if len(set(names)) < len(names) or not HISTORY_AXES.isdisjoint(names):
            raise ValueError("measure: expected different names, none of them member or epoch")
        if (self.epochs < 0).any() or (self.epochs > self.curves.shape[1]).any():
            raise ValueError(f"epochs: expected at most {self.curves.shape[1]}")

    def memory(self) -> int:
        """Returns the bytes of memory that the arrays take, and history.csv as a data frame."""
        row = HISTORY_ROW + 8 * len(self.measure)
        rows = int(self.epochs.sum(dtype=np.int64))
        return super().memory() + HISTORY_MEMBER * len(self.member) + row * rows


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
        program: the identity of the program, as in `flipjax.program.Program`.
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

    def check(self) -> None:
        """Raises ValueError unless the values fit each other."""
        super().check()
        class_names(self.class_names, classes=len(self.class_names))
        groups = self.groups
        if groups.classes != len(self.class_names) - 1:
            raise ValueError(f"usual: expected {len(self.class_names) - 1} foreground classes, found {groups.classes}")
        if not set(self.group.tolist()) <= {ALL, *groups.named} or not set(self.part.tolist()) <= set(EVALUATED):
            raise ValueError("group, part: expected those of the classes and scenes, and val and test")
        if not len(self.rule):
            raise ValueError("rule: expected at least one")
        for name in ("rule", "axis", "part", "group", "quantity"):
            names = getattr(self, name).tolist()
            if len(set(names)) < len(names):
                raise ValueError(f"{name}: expected different names")
        for key in self.quantity.tolist():
            if find_quantity(key) is None:
                raise ValueError(f"quantity: expected known keys, found {key!r}")
        # Rows of a table are asked for the IoU of each class.
        if len(self.quantity):
            lacking = {f"iou/{name}" for name in self.class_names} - set(self.quantity.tolist())
            if lacking:
                raise ValueError(f"quantity: expected {min(lacking)!r} among them")
        for setting in self.settings():
            if not all(isinstance(value, str | int | float) for value in setting.values()):
                raise ValueError("setting: expected numbers and texts")

    def memory(self) -> int:
        """Returns the bytes of memory that the arrays take, and results.csv and history.csv as data frames."""
        rows = len(self.rule) * len(self.member) * len(self.part) * len(self.group)
        row = RESULTS_ROW + RESULTS_ENTRY * (len(self.axis) + len(self.quantity))
        return super().memory() + row * rows

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, background first."""
        return tuple(self.class_name.tolist())

    @cached_property
    def groups(self) -> Groups:
        """The groups of the images: the foreground classes in the scenes."""
        usual = tuple(tuple(np.flatnonzero(row).tolist()) for row in self.usual)
        return Groups(len(self.usual), len(self.scene_name), usual)

    def settings(self) -> list[dict[str, AxisValue]]:
        """Returns each member's values of the axes."""
        names = self.axis.tolist()
        settings = []
        for texts in self.setting.tolist():
            values = [_read_value(text) for text in texts]
            settings.append(dict(zip(names, values, strict=True)))
        return settings


def _read_value(text: str) -> AxisValue:
    """Returns a member's value of an axis; raises ValueError for JSON of an object or a list, which none is."""
    if text.lstrip().startswith(("{", "[")):
        raise ValueError("setting: expected numbers and texts")
    return json.loads(text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageResults(NamedArrays):
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

    def check(self) -> None:
        """Raises ValueError unless the values fit each other."""
        super().check()
        if not set(np.unique(self.image_part).tolist()) <= set(EVALUATED):
            raise ValueError("image_part: expected val and test")
        if self.confusion.ndim and self.confusion.min(initial=0) < 0:
            raise ValueError("confusion: expected counts")
        absent = [values is None for values in self._region_arrays]
        if any(absent) and not all(absent):
            raise ValueError("region_true: expected with all sums over regions, or none")
        pairs = ((self.log_odds, self.center), (self.score, self.scores), (self.own_quantity, self.own))
        for first, second in pairs:
            if (first is None) != (second is None):
                raise ValueError("expected log_odds and center, score and scores, own_quantity and own together")

    def inside(self, part: str) -> np.ndarray:
        """Returns which images are in a part, bool (N,)."""
        return self.image_part == part

    def own_ratios(self, rule: int, index: int, inside: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the numerators and denominators (n, 2) of some images of a member, by a user's own quantity."""
        if self.own is None or self.own_quantity is None:
            return {}
        ratios = self.own[rule, index, inside]
        return {name: ratios[:, number] for number, name in enumerate(self.own_quantity.tolist())}

    def regions(self, rule: int, index: int, inside: np.ndarray) -> RegionSums | None:
        """Returns the region sums of some images of a member, or None if they are not stored."""
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
