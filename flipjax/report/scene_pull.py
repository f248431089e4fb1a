"""Charts of where the flips of a scene go: to the class that it usually shows, or to others."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from flipjax.config.groups import Groups
from flipjax.metrics.images import Images
from flipjax.metrics.scenes.flips import flip_cube, pull_chance, usual_table
from flipjax.page import panels
from flipjax.page.charts import Chart, Panel
from flipjax.page.style import FLIP
from flipjax.report.grid_panels import Line
from flipjax.report.over_rho import line_chart
from flipjax.results.cells import cells_by_member
from flipjax.results.rows import axes_of
from flipjax.results.statistics.setting_tables import FirstRule
from flipjax.results.text import setting_label, varying_axes
from flipjax.support.frames import Row, groups_of

PULL = Line("scene_pull", "pull of the scene", FLIP)


@dataclasses.dataclass(frozen=True)
class SettingImages:
    """The test images of the members of a setting, by the first rule.

    Example:
        >>> SettingImages("rho 0.9", {"rho": 0.9}, members=[]).axes["rho"]
        0.9
    """

    title: str
    """Its values of the axes that vary."""
    axes: Row
    """Its values of all axes."""
    members: list[Images]
    """The images of each member."""


def pull_charts(tables: FirstRule) -> list[Chart]:
    """Returns the pull over rho and the matrices of scenes and predicted classes; none for two classes."""
    if PULL.quantity not in set(tables.means["quantity"]):
        return []
    cell = next(iter(tables.cells.values()))
    chance = pull_chance(cell.groups)
    over_rho = line_chart(
        tables,
        "pull",
        "Pull of the scene",
        "Share of the flips in rare groups that go to a class whose usual scene the image shows.",
        [PULL],
        y="share of the flips in rare groups",
        reference=panels.ReferenceLevel(chance, f"chance, {chance:.2f}"),
    )
    scene_names = cell.results.scene_name.tolist()
    matrices = []
    for setting in images_by_setting(tables):
        flips = unusual_flips(setting.members, cell.groups)
        if flips.any():
            matrices.append(pull_panel(flips, cell.groups, cell.class_names[1:], scene_names, title=setting.title))
    caption = (
        "Predicted class of the flips in each scene that is unusual for the object. Framed: the class whose usual "
        f"scene it is; flips spread evenly put {chance:.0%} of all into the frames."
    )
    return [over_rho, Chart("pull_matrix", "Where a scene's flips go", caption, tables.note_on_counts(), matrices)]


def unusual_flips(members: Sequence[Images], groups: Groups) -> np.ndarray:
    """Returns flipped pixels of members of one setting in scenes that are unusual for their class.

    Returns:
        int (S, F), by scene and predicted class.
    """
    # Pixels by true class, scene and predicted class, (F, S, F).
    flips = np.sum([flip_cube(images.confusion, images.group, all_groups=groups) for images in members], axis=0)
    is_unusual = ~usual_table(groups)
    return (flips * is_unusual[..., None]).sum(0)


def pull_panel(
    flips: np.ndarray, groups: Groups, class_names: Sequence[str], scene_names: Sequence[str], *, title: str
) -> Panel:
    """Returns a panel of the flips in each scene by predicted class.

    Args:
        flips: pixels (S, F) of S scenes and F foreground classes, at least one.
        groups: of the images.
        class_names: of the foreground classes.
        scene_names: of the scenes.
        title: the setting.

    Example:
        >>> flips = np.array([[6, 2], [1, 1]])
        >>> panel = pull_panel(flips, Groups(2, 2), ["cat", "dog"], ["grass", "sand"], title="rho 0.9")
        >>> panel.text  # The first class is usual in the first scene, the second in the second.
        'rho 0.9: 70% in the frames.'
    """
    # By scene and class, as flips are.
    is_usual = usual_table(groups).T
    shares = flips / np.maximum(flips.sum(1, keepdims=True), 1)
    pull = flips[is_usual].sum() / flips.sum()
    title_with_pull = f"{title}: {pull:.0%} in the frames"
    return panels.cell_panel(
        shares,
        [[FLIP] * len(class_names)] * len(scene_names),
        scene_names,
        class_names,
        text=f"{title_with_pull}.",
        title=title_with_pull,
        y="flips on",
        framed=np.argwhere(is_usual),
    )


def images_by_setting(tables: FirstRule) -> list[SettingImages]:
    """Returns settings in order of rho, each with its members; left-out members have none."""
    axes = [name for name in axes_of(tables.rows) if name != "seed"]
    title_axes = varying_axes(tables.means)
    if "rho" in axes:
        title_axes.append("rho")
    cells = cells_by_member(tables.cells)
    settings = []
    for values, records in groups_of(tables.kept, axes):
        images = [cells[member].images_of(member, "test") for member in records["member"] if member in cells]
        if images:
            value_of_axis = dict(zip(axes, values, strict=True))
            settings.append(SettingImages(setting_label(value_of_axis, title_axes), value_of_axis, images))
    return sorted(settings, key=_rho_of)


def _rho_of(setting: SettingImages) -> float:
    return setting.axes.get("rho", 0.0)
