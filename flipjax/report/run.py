"""Reads the tables of a run folder, and lists missing data."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.metrics.images import Images
from flipjax.results import estimates
from flipjax.results.cells import Cell, cells_by_member
from flipjax.results.estimates import INTERVAL_IN_WORDS
from flipjax.results.frames import Row, groups_of
from flipjax.results.learning import never_predicted
from flipjax.results.record import RECORD, known_record, planned_members
from flipjax.results.resamples import IMAGES_INTERVAL, Resamples
from flipjax.results.rows import LEFT_OUT, NOT_LEARNT, axes_of, kept_records, member_quantities
from flipjax.results.run_data import load, mark_unlearnt
from flipjax.results.text import setting_label, varying_axes
from flipjax.results.verdicts import FEWEST, JUDGED
from flipjax.support.files import JsonObject
from flipjax.support.terminal import listed

SCORED = 2000
"""Most members whose scores a report compares."""
RESAMPLED = 200
"""Most members with an interval over images."""
MOST = 12
"""Settings beside rho and seed that a page shows one by one, at most."""
SHOWN = 4
"""Settings that it shows of more than MOST."""
TABLES = ("summary", "trend", "comparison", "selection")
"""The tables of a run that `report/` holds as CSV files of these names."""


class ReportError(Exception):
    """Unusable run folder. The message states the file, the expected and the found content.

    Example:
        >>> raise ReportError("runs/a: expected a folder of the run, found a link")
        Traceback (most recent call last):
        flipjax.report.run.ReportError: runs/a: expected a folder of the run, found a link
    """

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class RunTables:
    """The tables of a run folder. All but `selection` use the first selection rule."""

    folder: Path
    """The run folder."""
    config: JsonObject
    """config.json."""
    rows: pd.DataFrame
    """The rows of results.csv."""
    records: pd.DataFrame
    """The rows of `member_quantities`."""
    summary: pd.DataFrame
    """The rows of `aggregate`."""
    trend: pd.DataFrame
    """The judged rows of `trend`."""
    comparison: pd.DataFrame
    """The judged rows of `compare` of methods."""
    selection: pd.DataFrame
    """The judged rows of `compare` of the other selection rules with the first."""
    history: pd.DataFrame
    """The rows of history.csv."""
    cells: dict[str, Cell]
    """The stored cells, by the name of their folder."""
    scores: pd.DataFrame
    """The rows of scores.csv."""
    never_predicted: dict[str, list[str]]
    """The classes that a member never predicts, by member with any."""
    missing: list[str]
    """A line for each missing item."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def classes(self) -> int:
        """The number of foreground classes."""
        return next(iter(self.cells.values())).groups.classes

    def kept(self) -> pd.DataFrame:
        """Returns the records of members that enter means."""
        return kept_records(self.records)

    def has(self, quantity: str) -> bool:
        """Returns whether any setting has a mean of a quantity."""
        return bool(self.summary["mean"][self.summary["quantity"] == quantity].notna().any())

    def shown(self) -> "RunTables":
        """Returns the run limited to SHOWN settings beside rho and seed if it has more than MOST.

        They are spread evenly from the least to the most Flip in the rare groups at the highest rho. Charts of hundreds
        of settings would be slow to draw and hard to read.
        """
        return self._shown

    @functools.cached_property
    def _shown(self) -> "RunTables":
        names = [name for name in axes_of(self.rows) if name not in ("rho", "seed", "selection")]
        means = self.summary[self.summary["quantity"] == JUDGED[0]]
        if "rho" in means:
            means = means[means["rho"] == means["rho"].max()]
        settings = means.sort_values("mean")
        if len(settings) <= MOST or not names:
            return self
        # NaN comes last, and settings without a mean show little.
        with_mean = max(SHOWN, settings["mean"].count())
        chosen = settings[names].iloc[np.linspace(0, with_mean - 1, SHOWN).astype(int)].sort_index()
        limited = {}
        for name in ("rows", "records", *TABLES):
            table = getattr(self, name)
            if {*names} <= {*table}:
                limited[name] = table.merge(chosen)
        if len(self.history):
            limited["history"] = self.history.merge(limited["records"][["member"]])
        return dataclasses.replace(self, **limited)

    def members(self) -> str:
        """Returns a sentence on the number of members of each status."""
        counts = self.records["status"].value_counts().sort_index()
        noun = "member" if len(self.records) == 1 else "members"
        return f"{len(self.records)} {noun}: {', '.join(f'{n} {status}' for status, n in counts.items())}."

    def note(self, *, interval: bool = True, dots: bool = False) -> str:
        """Returns a note on the numbers of seeds and images, the kind of interval, and a chart's small dots."""
        means = self.summary[self.summary["quantity"] == "fg_flip"]
        fewest = min(means["n"])
        most = max(means["n"])
        note = f"Seeds: {most}"
        if fewest != most:
            note = f"Seeds: {fewest} to {most}"
        test = self.rows[(self.rows["split"] == "test") & (self.rows["group"] == "all")]
        # Blank, and so text, where every member diverged.
        counts = sorted(pd.to_numeric(test["n_images"], errors="coerce").dropna().unique())
        images = " or ".join(f"{count:.0f}" for count in counts)
        note += f"; test images: {images or 'none'}"
        if interval and not (dots and most < FEWEST):
            # Charts draw intervals only with the seeds that a verdict needs, and tables none of two.
            if most > 2:
                note += f"; {INTERVAL_IN_WORDS}"
            elif most == 1 and means["images_low"].notna().any():
                note += f"; {IMAGES_INTERVAL}"
        note += "."
        if dots and most > 1:
            note += " Small dots: single seeds."
        return note


def read_run(workdir: str | Path) -> RunTables:
    """Reads a run folder.

    Raises:
        FileNotFoundError: the folder has no results.
        DamagedError: a cell is missing or damaged, or a file belongs to another run.
    """
    folder = Path(workdir)
    missing: list[str] = []
    data = load(folder)
    stored = data.members
    if not (stored["split"] == "test").any():
        raise FileNotFoundError(f"{folder}: expected a run folder with test rows; make one with flipjax sweep")
    if not (folder / "results.csv").is_file():
        missing.append("results.csv: the run has not ended; these are the results of the cells that have")
    config = known_record(folder)
    if not config:
        missing.append(f"{RECORD}: cannot be read; how the run was made is not known")
    rows = mark_unlearnt(stored, data.cells)
    first = rows[rows["selection"] == rows["selection"].iloc[0]]
    records = member_quantities(first)
    _count_members(records, config, missing)
    scores = pd.DataFrame()
    if sum(len(cell.members) for cell in data.cells.values()) <= SCORED:
        scores = data.scores
    else:
        missing.append(f"scores.csv: left out for more than {SCORED} members; flipjax.results.scores makes it")
    resamples = None
    if len(records) <= RESAMPLED:
        resamples = Resamples(data.cells)
    summary = estimates.aggregate(first, resamples=resamples)
    differences = data.differences
    never: dict[str, list[str]] = {}
    for cell in data.cells.values():
        never.update(never_predicted(cell))
    return RunTables(
        folder=folder,
        config=config,
        rows=first,
        records=records,
        summary=summary,
        trend=differences.trend,
        comparison=differences.comparison,
        selection=differences.selection,
        history=data.history,
        cells=data.cells,
        scores=scores,
        never_predicted=never,
        missing=missing,
    )


def _count_members(records: pd.DataFrame, config: JsonObject, missing: list[str]) -> None:
    """Notes planned members without results, and those that are in no mean."""
    planned = planned_members(config, stored=len(records))
    if len(records) < planned:
        missing.append(f"{planned - len(records)} of the {planned} planned members have no results")
    for status in LEFT_OUT:
        names = records["member"][records["status"] == status]
        if status != NOT_LEARNT and len(names):
            missing.append(f"{status}, and left out of all means: {listed(names)}")


@dataclasses.dataclass(frozen=True)
class SettingImages:
    """The test images of the members of a setting, by the first rule."""

    title: str
    """Its values of the axes that vary."""
    axes: Row
    """Its values of all axes."""
    members: list[Images]
    """The images of each member."""


def images_by_setting(run: RunTables) -> list[SettingImages]:
    """Returns settings in order of rho, each with its members; left-out members have none."""
    names = [name for name in axes_of(run.rows) if name != "seed"]
    cells = cells_by_member(run.cells)
    shown = [name for name in (*varying_axes(run.summary), "rho") if name in names]
    settings = []
    for values, records in groups_of(run.kept(), names):
        images = [cells[member].images_of(member, "test") for member in records["member"] if member in cells]
        axes = dict(zip(names, values, strict=True))
        if images:
            settings.append(SettingImages(setting_label(axes, shown), axes, images))
    return sorted(settings, key=_rho_of)


def _rho_of(setting: SettingImages) -> float:
    return setting.axes.get("rho", 0.0)
