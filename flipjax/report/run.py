"""The images of a run by setting, and the error of a folder that no page can be made of."""

import dataclasses

from flipjax.metrics.images import Images
from flipjax.results.cells import cells_by_member
from flipjax.results.frames import Row, groups_of
from flipjax.results.rows import axes_of
from flipjax.results.run import StoredRun
from flipjax.results.text import setting_label, varying_axes


class ReportError(Exception):
    """Unusable run folder. The message states the file, the expected and the found content.

    Example:
        >>> raise ReportError("runs/a: expected a run of one level, found two")
        Traceback (most recent call last):
        flipjax.report.run.ReportError: runs/a: expected a run of one level, found two
    """

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class SettingImages:
    """The test images of the members of a setting, by the first rule."""

    title: str
    """Its values of the axes that vary."""
    axes: Row
    """Its values of all axes."""
    members: list[Images]
    """The images of each member."""


def images_by_setting(run: StoredRun) -> list[SettingImages]:
    """Returns settings in order of rho, each with its members; left-out members have none."""
    names = [name for name in axes_of(run.rows) if name != "seed"]
    cells = cells_by_member(run.cells)
    shown = [name for name in (*varying_axes(run.means), "rho") if name in names]
    settings = []
    for values, records in groups_of(run.kept(), names):
        images = [cells[member].images_of(member, "test") for member in records["member"] if member in cells]
        axes = dict(zip(names, values, strict=True))
        if images:
            settings.append(SettingImages(setting_label(axes, shown), axes, images))
    return sorted(settings, key=_rho_of)


def _rho_of(setting: SettingImages) -> float:
    return setting.axes.get("rho", 0.0)
