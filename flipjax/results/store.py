"""The stored results of a run: arrays with named axes, one file for each program or part of it.

`MemberResults` holds what tables need, and `ImageResults` what every image left behind. Each field names its axes and
type once; writing, reading, merging and the xarray view all follow from that. A file is an npz whose `schema` lists
every array's axes and digest, so that a reader takes, and checks, only the arrays that it wants.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from flipjax.groups import Groups
from flipjax.metrics.classes import class_names
from flipjax.metrics.decomposition import Decomposition, RegionSums
from flipjax.metrics.images import ALL, Images
from flipjax.metrics.log_odds import SceneSwap, training_evidence
from flipjax.results.quantities import find_quantity
from flipjax.support.extras import to_install
from flipjax.support.files import DamagedError, check_unpacked, digest, replacing, save_npz

if TYPE_CHECKING:
    import xarray

EVALUATED = ("val", "test")
"""The parts of the images that a sweep evaluates, in order."""
STORED = "results.npz"
"""The file of a program's results."""
BLANK = "missing.npz"
"""The file of a program's members that have no results."""
GALLERY = "gallery.npz"
"""The file of a program's pictures; see `flipjax.report.gallery`."""
SCHEMA = "schema"
"""The entry of a file that lists all others."""
MOST_SCHEMA = 1 << 20
"""Bytes of the largest schema."""
VERSION = 1
DAMAGE = (None, errno.EINVAL, errno.EISDIR)
"""Numbers of the system's errors that a damaged file causes: a wrong position in it, or a folder in its place."""
NAME = re.compile(r"[\w.=, +-]+")
"""A member's name: part of the names of its files."""
Table = TypeVar("Table", bound="NamedArrays")


def array(*axes: str, dtype: Any, optional: bool = False) -> Any:
    """Declares a field: an array with named axes; an optional one may be None."""
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
        values = {name: getattr(self, name) for name in self.names()}
        return {name: np.asarray(value, self.dtype_of(name)) for name, value in values.items() if value is not None}

    @cached_property
    def places(self) -> dict[str, int]:
        """The index of each member, by name."""
        return {name: place for place, name in enumerate(self.member.tolist())}

    def check(self) -> None:
        """Raises ValueError unless the values fit each other."""
        names = self.member.tolist()
        if len(set(names)) < len(names):
            raise ValueError("member: expected different names")
        for name in names:
            if not NAME.fullmatch(name):
                raise ValueError(f"member: expected names of letters and digits, found {name!r}")

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
        program: the identity of the program, as in `flipjax.plan`.
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
        if not len(self.rule) or len(set(self.rule.tolist())) < len(self.rule):
            raise ValueError("rule: expected one or more different names")
        for key in self.quantity.tolist():
            if find_quantity(key) is None:
                raise ValueError(f"quantity: expected known keys, found {key!r}")
        for setting in self.settings():
            if not all(isinstance(value, str | int | float) for value in setting.values()):
                raise ValueError("setting: expected numbers and texts")
        if (self.epochs < 0).any() or (self.epochs > self.curves.shape[1]).any():
            raise ValueError(f"epochs: expected at most {self.curves.shape[1]}")

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, background first."""
        return tuple(self.class_name.tolist())

    @cached_property
    def groups(self) -> Groups:
        """The groups of the images: the foreground classes in the scenes."""
        usual = tuple(tuple(np.flatnonzero(row).tolist()) for row in self.usual)
        return Groups(len(self.usual), len(self.scene_name), usual)

    def settings(self) -> list[dict[str, Any]]:
        """Returns each member's values of the axes."""
        names = self.axis.tolist()
        return [dict(zip(names, map(json.loads, row), strict=True)) for row in self.setting.tolist()]


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
        for one, other in ((self.log_odds, self.center), (self.score, self.scores), (self.own_quantity, self.own)):
            if (one is None) != (other is None):
                raise ValueError("expected log_odds and center, score and scores, own_quantity and own together")

    def inside(self, part: str) -> np.ndarray:
        """Returns which images are in a part, bool (N,)."""
        return self.image_part == part

    def own_ratios(self, rule: int, place: int, inside: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the numerators and denominators (n, 2) of some images of a member, by a user's own quantity."""
        if self.own is None or self.own_quantity is None:
            return {}
        ratios = self.own[rule, place, inside]
        return {name: ratios[:, number] for number, name in enumerate(self.own_quantity.tolist())}

    def regions(self, rule: int, place: int, inside: np.ndarray) -> RegionSums | None:
        """Returns the region sums of some images of a member, or None if they are not stored."""
        leaves = []
        for values in self._region_arrays:
            if values is None:
                return None
            leaves.append(values[rule, place, inside])
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


@dataclasses.dataclass(frozen=True)
class Cell:
    """The results of a program's members, or of some of them; images are read when they are asked for.

    Raises:
        ValueError: neither `path` nor `stored_images` is given.
    """

    results: MemberResults
    path: Path | None = None
    """The file that holds the images."""
    stored_images: ImageResults | None = None
    """The images, where they are in memory."""

    def __post_init__(self) -> None:
        """Raises ValueError for a cell without images."""
        if self.path is None and self.stored_images is None:
            raise ValueError("path: expected the file of the images, or stored_images; found neither")

    @property
    def members(self) -> list[str]:
        """The names of the members."""
        return self.results.member.tolist()

    @property
    def rules(self) -> list[str]:
        """The names of the selection rules."""
        return self.results.rule.tolist()

    @property
    def groups(self) -> Groups:
        """The groups of the images."""
        return self.results.groups

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, background first."""
        return self.results.class_names

    @cached_property
    def images(self) -> ImageResults:
        """The results of the images; raises DamagedError if they are not those written."""
        if self.stored_images is not None:
            return self.stored_images
        return self.read_images()

    def read_images(self, *, without: Sequence[str] = ()) -> ImageResults:
        """Reads the results of the images and does not keep them; `without` names optional arrays to leave."""
        if self.path is None:
            return self.images
        images = read(self.path, ImageResults, without=without)
        problem = self._misfit(images)
        if problem:
            raise DamagedError(f"{self.path}: damaged ({problem})")
        return images

    def _misfit(self, images: ImageResults) -> str:
        """Returns how images are not those of the members, or ''."""
        classes = len(self.class_names)
        if images.member.tolist() != self.members:
            return "the images are of other members"
        if images.confusion.shape[0] != len(self.rules) or images.confusion.shape[3:] != (classes, classes):
            return f"expected counts of {len(self.rules)} rules and {classes} classes"
        if len(images.image_group) and not (
            images.image_group.min() >= 0 and images.image_group.max() < self.groups.count
        ):
            return f"image_group: expected 0..{self.groups.count - 1}"
        if images.log_odds is not None and images.log_odds.shape[-1] != classes - 1:
            return f"log_odds: expected {classes - 1} foreground classes"
        if images.trained is not None and images.trained.shape[1] != self.groups.count:
            return f"trained: expected {self.groups.count} groups"
        return ""

    def images_of(self, member: str, part: str, rule: str | None = None) -> Images:
        """Returns the images of a part for a member and a selection rule, by default the first."""
        return select(self.results, self.images, member, part, rule)

    def decomposition(self, member: str, part: str, *, selection: str | None = None) -> Decomposition:
        """Returns the decomposition of a member on a part by a selection rule, by default the first."""
        images = self.images_of(member, part, selection)
        return Decomposition(images.confusion, images.risk_sum)

    def scene_swap(self, member: str, part: str, *, selection: str | None = None) -> SceneSwap | None:
        """Returns a member's scene-swap risk and repaired counts, or None where no scenes were swapped."""
        images = self.images_of(member, part, selection)
        return None if images.log_odds is None else images.swap


def select(results: MemberResults, images: ImageResults, member: str, part: str, rule: str | None = None) -> Images:
    """Returns the images of a part for a member and a selection rule, by default the first."""
    number = 0 if rule is None else results.rule.tolist().index(rule)
    place = results.places[member]
    inside = images.inside(part)
    # Only the first rule was asked on other scenes.
    log_odds, center = None, None
    if number == 0 and images.log_odds is not None and images.center is not None:
        log_odds, center = images.log_odds[place, inside], images.center[place]
    return Images(
        results.class_names,
        results.groups,
        group=images.image_group[inside],
        confusion=images.confusion[number, place, inside],
        risk_sum=images.risk_sum[number, place, inside],
        pair=images.pair[inside],
        regions=images.regions(number, place, inside),
        log_odds=log_odds,
        center=center,
        own=images.own_ratios(number, place, inside),
        evidence=None if images.trained is None else _evidence(images.trained[place], results.groups),
    )


def _evidence(counts: np.ndarray, groups: Groups) -> np.ndarray:
    """Returns log P(scene | class) of a training set with `counts` images of each group, (S, F)."""
    return training_evidence(np.repeat(np.arange(groups.count), counts), groups)


# Files.


def write(path: Path, *tables: NamedArrays) -> None:
    """Writes tables into one file atomically; equal arrays give equal bytes."""
    arrays: dict[str, np.ndarray] = {}
    entries = {}
    for table in tables:
        for name, value in table.arrays().items():
            arrays[name] = value
            entries[name] = {"axes": table.axes_of(name), "sha256": digest({name: value})}
    schema = json.dumps({"version": VERSION, "arrays": entries})
    with replacing(path) as stream:
        save_npz(stream, {SCHEMA: np.array(schema), **arrays})


def read(path: Path, kind: type[Table], *, without: Sequence[str] = ()) -> Table:
    """Reads one table of a file.

    Axes and shapes are compared before any array is read, so that a forged one takes no memory.

    Args:
        path: of `write`.
        kind: `MemberResults` or `ImageResults`.
        without: names of optional arrays to leave.

    Raises:
        DamagedError: the arrays are not those written, or do not fit each other.
        FileNotFoundError: there is no such file.
    """
    try:
        with path.open("rb") as stream, zipfile.ZipFile(stream) as file:
            check_unpacked(file, size=path.stat().st_size)
            entries = _schema(file)
            names = [name for name in kind.names() if name in entries and name not in without]
            _check_axes(file, names, entries, kind)
            table = kind(**{name: _read_array(file, name, entries[name].sha256) for name in names})
        table.check()
        return table
    except Exception as error:
        # zipfile, zlib and NumPy's header parser can raise almost anything on corrupt bytes.
        if isinstance(error, MemoryError) or getattr(error, "errno", None) not in DAMAGE:
            raise
        raise DamagedError(f"{path}: damaged ({type(error).__name__}: {_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    """Returns what an error says, in printable characters."""
    return "".join(character if character.isprintable() else " " for character in str(error))[:400]


@dataclasses.dataclass(frozen=True)
class _Entry:
    """An array of a file, as its schema describes it."""

    axes: tuple[str, ...]
    """Names of its axes."""
    sha256: str
    """The digest of its name, type, shape and values."""


def _schema(file: zipfile.ZipFile) -> dict[str, _Entry]:
    """Returns the arrays of a file by name."""
    if file.getinfo(f"{SCHEMA}.npy").file_size > MOST_SCHEMA:
        raise ValueError(f"{SCHEMA}: expected at most {MOST_SCHEMA} bytes")
    schema = json.loads(str(_load(file, SCHEMA)))
    if schema["version"] != VERSION:
        raise ValueError(f"expected version {VERSION}, found {schema['version']}")
    return {name: _Entry(tuple(entry["axes"]), entry["sha256"]) for name, entry in schema["arrays"].items()}


def _load(file: zipfile.ZipFile, name: str) -> np.ndarray:
    """Reads an array of a file."""
    with file.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _read_array(file: zipfile.ZipFile, name: str, expected: str) -> np.ndarray:
    """Reads an array and compares its digest."""
    array = _load(file, name)
    if digest({name: array}) != expected:
        raise ValueError(f"{name} is not what was written")
    return array


def _check_axes(
    file: zipfile.ZipFile, names: Sequence[str], entries: Mapping[str, _Entry], kind: type[NamedArrays]
) -> None:
    """Raises ValueError unless arrays have their axes and types, and every axis has one length."""
    lengths: dict[str, int] = {}
    for name in names:
        axes, dtype = kind.axes_of(name), kind.dtype_of(name)
        shape, found = _header(file, name)
        if entries[name].axes != axes or len(shape) != len(axes) or found.kind != dtype.kind:
            raise ValueError(f"{name}: expected {dtype.name} ({', '.join(axes)}), found {found.name} {shape}")
        for axis, length in zip(axes, shape, strict=True):
            if lengths.setdefault(axis, length) != length:
                raise ValueError(f"{name}: expected {lengths[axis]} along {axis}, found {length}")


def _header(file: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns shape and type of an array, without reading it."""
    with file.open(f"{name}.npy") as stream:
        if np.lib.format.read_magic(stream) == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    return shape, dtype


def concatenate(tables: Sequence[Table]) -> Table:
    """Returns the members of all tables of one program."""
    changed = {}
    for name in tables[0].arrays():
        axes = tables[0].axes_of(name)
        if "member" in axes:
            values = [getattr(table, name) for table in tables]
            changed[name] = np.concatenate(_alike(values, axes), axis=axes.index("member"))
    return dataclasses.replace(tables[0], **changed)


def _alike(values: list[np.ndarray], axes: tuple[str, ...]) -> list[np.ndarray]:
    """Pads curves with NaN to the same number of epochs."""
    if "epoch" not in axes:
        return values
    axis = axes.index("epoch")
    most = max(value.shape[axis] for value in values)
    padded = []
    for value in values:
        more = [(0, 0)] * value.ndim
        more[axis] = (0, most - value.shape[axis])
        padded.append(np.pad(value, more, constant_values=np.nan))
    return padded


# The view for users.


def to_xarray(cell: Cell, *, images: bool = False) -> xarray.Dataset:
    """Returns a cell as an xarray data set: a variable for each quantity and training curve.

    The axes of the grid, such as rho and seed, are coordinates of `member`. `images` adds the results of the images.
    """
    import pandas as pd

    try:
        import xarray
    except ModuleNotFoundError as error:
        problem = f"dataset: expected the package xarray, found none; python -m pip install {to_install('xarray')}"
        raise ModuleNotFoundError(problem, name="xarray") from error
    results = cell.results
    settings = pd.DataFrame(results.settings()).replace("", np.nan)
    variables: dict[str, Any] = {}
    for number, key in enumerate(results.quantity.tolist()):
        name = key.replace("/", "_")
        variables[name] = ("rule", "member", "part", "group"), results.values[..., number], _attributes(key)
    for number, name in enumerate(results.measure.tolist()):
        variables[f"curve_{name}"] = ("member", "epoch"), results.curves[..., number]
    variables["status"] = ("member",), results.status
    variables["best_epoch"] = ("rule", "member"), results.best_epoch
    coordinates: dict[str, Any] = {
        "member": results.member,
        "rule": results.rule,
        "part": results.part,
        "group": results.group,
        "class": results.class_name,
        "epoch": np.arange(1, results.curves.shape[1] + 1),
    }
    for name in map(str, settings):
        coordinates[name] = ("member",), settings[name].infer_objects().to_numpy()
    if images:
        table = cell.images
        for name, value in table.arrays().items():
            if table.axes_of(name)[0] != "image" and name not in ("member", "score"):
                variables[name] = table.axes_of(name), value
            elif name != "member":
                coordinates[name] = table.axes_of(name), value
    return xarray.Dataset(variables, coordinates, {"program": str(results.program)})


def _attributes(key: str) -> dict[str, str]:
    known = find_quantity(key)
    return {} if known is None else {"long_name": known.title, "units": known.unit, "description": known.meaning}
