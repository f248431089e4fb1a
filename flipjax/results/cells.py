"""Result files: the results of a program's members, of which images are read when they are asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flipjax.config.groups import Groups
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.images import Images
from flipjax.metrics.scenes.swap import training_evidence
from flipjax.metrics.summary.names import column, find_quantity
from flipjax.results.arrays import ImageResults, MemberResults
from flipjax.support.extras import to_install
from flipjax.support.npz import read_arrays

if TYPE_CHECKING:
    import xarray


@dataclasses.dataclass(frozen=True)
class Cell:
    """The results of a program's members, or of some of them; images are read when they are asked for.

    Raises:
        ValueError: neither `path` nor `stored_images` is given.
    """

    results: MemberResults
    """What tables need, in memory."""
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
        return read_arrays(self.path, ImageResults, without=without)

    def images_of(self, member: str, part: str, rule: str | None = None) -> Images:
        """Returns the images of a part for a member and a selection rule, by default the first."""
        return select(self.results, self.images, member, part, rule)

    def decomposition(self, member: str, part: str, rule: str | None = None) -> Decomposition:
        """Returns the decomposition of a member on a part by a selection rule, by default the first."""
        images = self.images_of(member, part, rule)
        return Decomposition(images.confusion, images.risk_sum)


def cells_by_member(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """Returns the cell of each member, of cells by their path below `cells/`."""
    return {member: cell for cell in cells.values() for member in cell.members}


def select(results: MemberResults, images: ImageResults, member: str, part: str, rule: str | None = None) -> Images:
    """Returns the images of a part for a member and a selection rule, by default the first."""
    number = 0
    if rule is not None:
        number = results.rule.tolist().index(rule)
    index = results.index_of_member[member]
    inside = images.inside(part)
    log_odds = None
    center = None
    # Only the first rule was asked on other scenes.
    if number == 0 and images.log_odds is not None and images.center is not None:
        log_odds = images.log_odds[index, inside]
        center = images.center[index]
    evidence = None
    if images.trained is not None:
        training_groups = np.repeat(np.arange(results.groups.count), images.trained[index])
        evidence = training_evidence(training_groups, results.groups)
    return Images(
        results.class_names,
        results.groups,
        group=images.image_group[inside],
        confusion=images.confusion[number, index, inside],
        risk_sum=images.risk_sum[number, index, inside],
        weights=np.ones((1, int(inside.sum()))),
        pair=images.pair[inside],
        regions=images.regions(number, index, inside),
        log_odds=log_odds,
        center=center,
        own=images.own_ratios(number, index, inside),
        evidence=evidence,
    )


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
    variables = {}
    for number, key in enumerate(results.quantity.tolist()):
        axes = ("rule", "member", "part", "group")
        variables[column(key)] = xarray.Variable(axes, results.values[..., number], _attributes(key))
    for number, name in enumerate(results.measure.tolist()):
        variables[f"curve_{name}"] = xarray.Variable(("member", "epoch"), results.curves[..., number])
    variables["status"] = xarray.Variable("member", results.status)
    variables["best_epoch"] = xarray.Variable(("rule", "member"), results.best_epoch)
    coordinates = {
        "member": xarray.Variable("member", results.member),
        "rule": xarray.Variable("rule", results.rule),
        "part": xarray.Variable("part", results.part),
        "group": xarray.Variable("group", results.group),
        "class": xarray.Variable("class", results.class_name),
        "epoch": xarray.Variable("epoch", np.arange(1, results.curves.shape[1] + 1)),
    }
    settings = pd.DataFrame(results.settings()).replace("", np.nan)
    for name in map(str, settings):
        coordinates[name] = xarray.Variable("member", settings[name].infer_objects().to_numpy())
    if images:
        of_images = cell.images
        for name, value in of_images.arrays().items():
            axes = of_images.axes_of(name)
            if name == "member":
                continue
            if axes[0] == "image" or name == "score":
                coordinates[name] = xarray.Variable(axes, value)
            else:
                variables[name] = xarray.Variable(axes, value)
    return xarray.Dataset(variables, coordinates, {"program": str(results.program)})


def _attributes(key: str) -> dict[str, str]:
    """Returns what a quantity means, as the attributes of its variable."""
    quantity = find_quantity(key)
    if quantity is None:
        return {}
    return {"long_name": quantity.title, "units": quantity.unit, "description": quantity.meaning}
