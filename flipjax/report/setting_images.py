"""The test images of a run by setting, as charts of confusion, of scenes and of flip-risk need them."""

import dataclasses

from flipjax.metrics.images import Images
from flipjax.results.cells import cells_by_member
from flipjax.results.rows import axes_of
from flipjax.results.statistics.setting_tables import FirstRule
from flipjax.results.text import setting_label, varying_axes
from flipjax.support.frames import Row, groups_of


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
