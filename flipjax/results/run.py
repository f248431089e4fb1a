"""A run folder as one labelled data set: its cells, and the tables that follow from them."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flipjax.config.identity import digest_of
from flipjax.metrics.registry import Quantity
from flipjax.results.arrays import AxisValue, MemberResults
from flipjax.results.cells import Cell, to_xarray
from flipjax.results.estimates import INTERVAL_IN_WORDS, aggregate
from flipjax.results.learning import mark_unlearnt, never_predicted
from flipjax.results.quantities import IMAGE_QUANTITIES, SCENE_IMAGE_QUANTITIES, find_quantity, key_of
from flipjax.results.record import RECORD, known_record, planned_members
from flipjax.results.resamples import IMAGES_INTERVAL, Resamples
from flipjax.results.rows import LEFT_OUT, NOT_LEARNT, axes_of, kept_records, member_quantities
from flipjax.results.scores import SCORE_COLUMNS, SCORES, score_rows
from flipjax.results.store import BLANK, GALLERY, STORED, read
from flipjax.results.tables import history_table, image_tables, join, results_table, typed
from flipjax.results.verdicts import FEWEST_SEEDS, Differences, differences_of
from flipjax.support.files import DamagedError, replacing
from flipjax.support.terminal import listed

if TYPE_CHECKING:
    import xarray

MOST_IMAGE_ROWS = 2_000_000
"""Most rows of images.parquet: one per member, selection rule and image."""
MOST_SCORED_MEMBERS = 2000
"""Most members of a run for a page to compare scores."""
MOST_RESAMPLED_MEMBERS = 200
"""Most members of a run for the means on a page to have intervals over images."""
MOST_SHOWN_SETTINGS = 12
"""Most settings beside rho and seed for a page to show all of them one by one."""
SAMPLED_SETTINGS = 4
"""Number of settings that a page shows if there are more than MOST_SHOWN_SETTINGS."""
FLIP = "fg_flip"
"""Flip in all test images."""
RARE_FLIP = "group/rare/fg_flip"
"""Flip in the rare groups, which orders the settings of a page."""
SHOWN_TABLES = ".results .members .history .images .scores .summary .differences .dataset"
"""The tables that a run shows of itself."""


class StoredRun:
    """The results of a run folder, read once, and the tables that follow from them; see `load`.

    Each table follows from another:

    - `marked`: `results` with the status of members that did not learn.
    - `summary`: means of `marked`, of all selection rules.
    - `differences`: tests of `marked`; its tables are `trend`, `comparison` and `selection`.
    - `first_rule_rows`: rows of `marked` under the first selection rule, for the page.
    - `first_rule_means`: means of `first_rule_rows`.
    - `member_rows`: `first_rule_rows` with all quantities of a member in one row.

    See `flipjax.run` for an example.
    """

    def __init__(self, folder: Path):
        """Reads the results; raises as `load`."""
        self.folder = folder
        self.config_record = known_record(folder)
        """config.json; empty if it cannot be read."""
        self.cells: dict[str, Cell] = {}
        """The stored results, by their path below `cells/`."""
        for path, cell in _read_cells(folder):
            _require_same_config(cell, self.config_record)
            self.cells[path] = cell
        # The members without results of an ended run, such as those of a program that failed.
        self._blank = [read(path, MemberResults) for path in sorted(folder.glob(f"cells/*/{BLANK}"))]
        stored = sum(len(cell.members) for cell in self.cells.values())
        stored += sum(len(results.member) for results in self._blank)
        planned = planned_members(self.config_record, stored=stored)
        # results.csv is written after the results of all members, so that with it none may be absent.
        if (folder / "results.csv").is_file() and stored < planned:
            expected = f"{folder / 'cells'}: expected the results of {planned} members"
            raise DamagedError(f"{expected}; found {stored}; the run's command makes them again")
        if not self.cells:
            raise FileNotFoundError(f"{folder}: expected a run folder with results; make one with flipjax sweep")

    def __repr__(self) -> str:
        """Shows the folder and the number of members."""
        return f"<{type(self).__name__} {self.folder}: {len(self.members)} members; {SHOWN_TABLES}>"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def classes(self) -> int:
        """The number of foreground classes."""
        return self.example.groups.classes

    @property
    def example(self) -> Cell:
        """The first cell; a page takes its names of classes and scenes."""
        return next(iter(self.cells.values()))

    @cached_property
    def test_counts(self) -> dict[str, int]:
        """The number of test images of each group, by its name in words."""
        results = self.example.results
        images = self.example.images
        counts = np.bincount(images.image_group[images.inside("test")], minlength=results.groups.count)
        named = dict(zip(results.group.tolist(), results.group_titles, strict=True))
        return {named[str(group)]: int(count) for group, count in enumerate(counts)}

    @property
    def is_balanced(self) -> bool:
        """Whether the groups are equally frequent in the test images."""
        return len(set(self.test_counts.values())) == 1

    def setting_of(self, member: str) -> dict[str, AxisValue]:
        """Returns a member's value of every axis; '' for an axis that its method does not use."""
        for results in (*(cell.results for cell in self.cells.values()), *self._blank):
            if member in results.places:
                row = results.places[member]
                return results.settings()[row]
        raise KeyError(f"member: expected one of the run {self.folder}; found {member!r}")

    @cached_property
    def results(self) -> pd.DataFrame:
        """The rows of results.csv, one per member, rule, split and group."""
        tables = [results_table(cell.results) for cell in self.cells.values()]
        tables += [results_table(results) for results in self._blank]
        return typed(join(tables))

    @cached_property
    def members(self) -> pd.DataFrame:
        """One row per member: varied axes, status, epochs, and the epoch kept by the first rule."""
        # The rows of a member begin with those of the first rule, and the first of them is kept.
        rows = self.results.drop_duplicates("member").set_index("member")
        varied = []
        for name in axes_of(self.results):
            if name != "selection" and rows[name].nunique(dropna=False) > 1:
                varied.append(name)
        return rows[[*varied, "status", "epochs", "best_epoch"]]

    @cached_property
    def history(self) -> pd.DataFrame:
        """The rows of history.csv, one per member and epoch."""
        return join([history_table(cell.results) for cell in self.cells.values()])

    @cached_property
    def dataset(self) -> xarray.Dataset:
        """The members' quantities and training curves as one xarray data set; needs xarray.

        Dimensions are member, rule, part, group and epoch; the axes of the grid are coordinates of member. `sel` takes
        an axis that is made an index, as in `run.dataset.set_xindex("rho").sel(rho=0.9).fg_flip.mean("member")`.
        """
        parts = [to_xarray(cell) for cell in self.cells.values()]
        if len(parts) == 1:
            return parts[0]
        import xarray

        return xarray.concat(parts, "member", join="outer", data_vars="all")

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The rows of scores.csv, one per member and score, computed from the stored images."""
        return score_rows(self.cells.values(), self.results)

    @cached_property
    def marked(self) -> pd.DataFrame:
        """The rows of `results`, with status NOT_LEARNT where it applies."""
        return mark_unlearnt(self.results, self.cells)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Means over seeds on the test images with intervals, one row per setting, selection rule and quantity."""
        return aggregate(self.marked, resamples=Resamples(self.cells))

    @cached_property
    def differences(self) -> Differences:
        """Trends over rho, and comparisons of methods and of selection rules, with the verdicts of the page."""
        return differences_of(self.marked)

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row per member, selection rule, split and image."""
        parts = [*self.image_parts()]
        if not parts:
            return pd.DataFrame()
        return pd.concat(parts, ignore_index=True)

    def image_parts(self) -> Iterator[pd.DataFrame]:
        """Yields the images of each split by each selection rule."""
        for cell in self.cells.values():
            yield from image_tables(cell, self.results)

    @cached_property
    def first_rule_rows(self) -> pd.DataFrame:
        """The rows of `marked` under the first selection rule."""
        return self.marked[self.marked["selection"] == self.marked["selection"].iloc[0]]

    @cached_property
    def member_rows(self) -> pd.DataFrame:
        """One row per member with all its quantities (`member_quantities`), under the first selection rule."""
        return member_quantities(self.first_rule_rows)

    @cached_property
    def first_rule_means(self) -> pd.DataFrame:
        """The rows of `summary` under the first selection rule; a run of many members has no intervals over images."""
        if len(self.member_rows) > MOST_RESAMPLED_MEMBERS:
            return aggregate(self.first_rule_rows)
        return aggregate(self.first_rule_rows, resamples=Resamples(self.cells))

    @cached_property
    def trend(self) -> pd.DataFrame:
        """Differences between the highest and the lowest rho, with verdicts."""
        return self.differences.trend

    @cached_property
    def comparison(self) -> pd.DataFrame:
        """Differences of methods from the first one, with verdicts."""
        return self.differences.comparison

    @cached_property
    def selection(self) -> pd.DataFrame:
        """Differences of the other selection rules from the first, with verdicts."""
        return self.differences.selection

    @cached_property
    def compared_scores(self) -> pd.DataFrame:
        """The rows of `scores`; empty for a run of more than MOST_SCORED_MEMBERS."""
        if len(self.member_rows) > MOST_SCORED_MEMBERS:
            return pd.DataFrame()
        return self.scores

    @cached_property
    def never_predicted(self) -> dict[str, list[str]]:
        """The classes that a member never predicts, by member with any."""
        classes_of: dict[str, list[str]] = {}
        for cell in self.cells.values():
            classes_of.update(never_predicted(cell))
        return classes_of

    @cached_property
    def notes_on_missing(self) -> list[str]:
        """A line for each file, member or table that the run lacks."""
        notes = []
        if not (self.folder / "results.csv").is_file():
            notes.append("results.csv: the run has not ended; these are the results of the cells that have")
        if not self.config_record:
            notes.append(f"{RECORD}: cannot be read; how the run was made is not known")
        planned = planned_members(self.config_record, stored=len(self.member_rows))
        if len(self.member_rows) < planned:
            notes.append(f"{planned - len(self.member_rows)} of the {planned} planned members have no results")
        for status in LEFT_OUT:
            names = self.member_rows["member"][self.member_rows["status"] == status]
            if status != NOT_LEARNT and len(names):
                notes.append(f"{status}, and left out of all means: {listed(names)}")
        if len(self.member_rows) > MOST_SCORED_MEMBERS:
            reason = f"left out for more than {MOST_SCORED_MEMBERS} members"
            notes.append(f"scores.csv: {reason}; flipjax.results.scores makes it")
        return notes

    def kept(self) -> pd.DataFrame:
        """Returns the records of members that enter means."""
        return kept_records(self.member_rows)

    def has_mean(self, quantity: str) -> bool:
        """Returns whether any setting has a mean of a quantity."""
        return bool(self.first_rule_means["mean"][self.first_rule_means["quantity"] == quantity].notna().any())

    @cached_property
    def sampled(self) -> StoredRun:
        """The run limited to SAMPLED_SETTINGS settings beside rho and seed if it has more than MOST_SHOWN_SETTINGS.

        They are spread evenly from the least to the most Flip in the rare groups at the highest rho. Charts of hundreds
        of settings would be slow to draw and hard to read.
        """
        settings = self._sampled_settings()
        if settings is None:
            return self

        def limit(table: pd.DataFrame) -> pd.DataFrame:
            """Returns the rows of the sampled settings; all rows where the table lacks the axes that tell them."""
            if {*settings} <= {*table}:
                return table.merge(settings)
            return table

        # The copy shares what is read already. An assigned table takes the place of its cached property: these are the
        # ones that charts of single settings draw; the others stay as of the whole run.
        limited = copy.copy(self)
        limited.first_rule_rows = limit(self.first_rule_rows)
        limited.member_rows = limit(self.member_rows)
        limited.first_rule_means = limit(self.first_rule_means)
        limited.trend = limit(self.trend)
        limited.comparison = limit(self.comparison)
        limited.selection = limit(self.selection)
        if len(self.history):
            limited.history = self.history.merge(limited.member_rows[["member"]])
        return limited

    def _sampled_settings(self) -> pd.DataFrame | None:
        """Returns the axes of the settings of `sampled`, a row each; None if all are shown."""
        names = [name for name in axes_of(self.first_rule_rows) if name not in ("rho", "seed", "selection")]
        flips = self.first_rule_means[self.first_rule_means["quantity"] == RARE_FLIP]
        if "rho" in flips:
            flips = flips[flips["rho"] == flips["rho"].max()]
        settings = flips.sort_values("mean")
        if len(settings) <= MOST_SHOWN_SETTINGS or not names:
            return None
        # Settings without a mean come last and show little: they are taken only where too few have one.
        candidates = max(SAMPLED_SETTINGS, settings["mean"].count())
        places = np.linspace(0, candidates - 1, SAMPLED_SETTINGS).astype(int)
        return settings[names].iloc[places].sort_index()

    def statuses(self) -> str:
        """Returns a sentence on the number of members of each status."""
        counts = self.member_rows["status"].value_counts().sort_index()
        noun = "members"
        if len(self.member_rows) == 1:
            noun = "member"
        return f"{len(self.member_rows)} {noun}: {', '.join(f'{count} {status}' for status, count in counts.items())}."

    def note(self, *, interval: bool = True, dots: bool = False) -> str:
        """Returns a note on the numbers of seeds and images, the kind of interval, and a chart's small dots."""
        flips = self.first_rule_means[self.first_rule_means["quantity"] == FLIP]
        fewest_seeds = min(flips["n"])
        most_seeds = max(flips["n"])
        note = f"Seeds: {most_seeds}"
        if fewest_seeds != most_seeds:
            note = f"Seeds: {fewest_seeds} to {most_seeds}"
        note += f"; test images: {self._test_images_in_words()}"
        # A chart with dots draws intervals only with the seeds that a verdict needs: the dots show fewer seeds better.
        is_drawn = not dots or most_seeds >= FEWEST_SEEDS
        if interval and is_drawn:
            note += _interval_note(flips)
        note += "."
        if dots and most_seeds > 1:
            note += " Small dots: single seeds."
        return note

    def _test_images_in_words(self) -> str:
        """Returns the number of test images of a member, or the numbers if members differ."""
        rows = self.first_rule_rows
        test = rows[(rows["split"] == "test") & (rows["group"] == "all")]
        # Blank, and so text, where every member diverged.
        counts = sorted(pd.to_numeric(test["n_images"], errors="coerce").dropna().unique())
        if not counts:
            return "none"
        return " or ".join(f"{count:.0f}" for count in counts)


def _interval_note(means: pd.DataFrame) -> str:
    """Returns the kind of interval after a semicolon; empty for two seeds, whose means have none."""
    most_seeds = max(means["n"])
    if most_seeds > 2:
        return f"; {INTERVAL_IN_WORDS}"
    if most_seeds == 1 and means["images_low"].notna().any():
        return f"; {IMAGES_INTERVAL}"
    return ""


def load(run: str | Path) -> StoredRun:
    """Reads a run folder: `.results`, `.images`, `.scores`, `.history` and `.summary` are pandas data frames.

    Numbers are int64 or float64, with NaN for undefined. `units` returns the units of columns, and
    `flipjax.metrics.quantities` defines the quantities. `.dataset` is an xarray data set.

    See `flipjax.run` for an example.

    - `.results`, as results.csv, one row per member, selection rule, split and group: `member`; the axes, such as
      `rho`, `seed`, `method`; `split`; `group`, one of all 0 1 ... common rare, and `group_name`, such as 'cat on
      land'; `n_images`; the quantities, such as `fg_flip`, `iou_<class>`, `gap_mean`, `risk_auroc`; `status`, `epochs`,
      `best_epoch`, `selection`.
    - `.images`, one row per member, selection rule, split and image: `member`, `selection`, `split`; `image`, its index
      in the split; `object` and `scene_photo`, its rows in the pool; `pair`, the number that the images of one object
      share (-1: none); `group`, class * S + scene of S scenes; `correct`, `flip`, `miss`, `spill`, `flip_risk`,
      `foreground_pixels`, `pixels`, `largest_flip`; where scenes were swapped `swap_risk` and `repaired_flip`; then the
      other scores of `SCORES`, NaN where not stored; the member's `status`. A rule that kept no epoch has no
      numbers.
    - `.scores`, as scores.csv, one row per member and score: `member`, the axes, `selection`, `score`, `passes`,
      `threshold`, and `<measure>_<side>` for the measures of `flipjax.results.measures`, the sides all, common and
      rare.
    - `.history`, as history.csv, one row per member and epoch: `member`, `epoch`; `train_loss` and
      `valid_loss`, of the member's own method; `valid_cross_entropy` in nats and shares, which compare methods;
      `learning_rate`, `group_weight_<g>`.
    - `.summary`, one row per setting, selection rule and quantity: the axes except the seed, `selection`, `quantity`
      (as `group/rare/fg_flip`), `n`, `left_out`, `values`, `mean`, `low`, `high`,
      `images_low`, `images_high`, see `flipjax.results.estimates.aggregate`.
    - `.differences`, a `flipjax.results.verdicts.Differences`: data frames of the trends over rho and of the
      comparisons of methods and of selection rules, with the verdicts of the page.

    Args:
        run: the folder of a sweep.

    Raises:
        FileNotFoundError: the folder has no results.
        DamagedError: a file is damaged or belongs to another run, or results of a finished run are gone.
    """
    return StoredRun(Path(run))


def _read_cells(folder: Path) -> Iterator[tuple[str, Cell]]:
    """Yields each cell of a run folder with its path below `cells/`, or its parts if it is not merged yet."""
    for cell_folder in sorted(folder.glob("cells/*/")):
        merged = cell_folder / STORED
        if merged.exists():
            yield cell_folder.name, Cell(read(merged, MemberResults), merged)
            continue
        for part in sorted(cell_folder.glob("parts/*.npz")):
            # The sweep redoes a damaged part; until then its members are not done.
            with contextlib.suppress(DamagedError):
                yield f"{cell_folder.name}/{part.stem}", Cell(read(part, MemberResults), part)


def _require_same_config(cell: Cell, config_record: Mapping[str, object]) -> None:
    """Raises DamagedError if a cell belongs to another configuration than that of config.json."""
    # The identity of a program begins with the digest of its configuration.
    identity = str(cell.results.program)
    config = config_record.get("config")
    if identity and isinstance(config, dict) and not identity.startswith(f"{digest_of(config)}/"):
        raise DamagedError(f"{cell.path}: expected results of the configuration in config.json; found another run's")


def changed_after(folder: Path, file: Path) -> bool:
    """Returns whether the results, pictures or record of a run are newer than a file, or the file is not there."""
    if not file.is_file():
        return True
    file_time = file.stat().st_mtime_ns
    for pattern in (RECORD, f"cells/*/{STORED}", f"cells/*/{BLANK}", "cells/*/parts/*.npz", f"cells/*/{GALLERY}"):
        if any(path.stat().st_mtime_ns > file_time for path in folder.glob(pattern)):
            return True
    return False


def units(columns: Iterable[str]) -> dict[str, str]:
    """Returns the unit of each column that is a quantity.

    Example:
        >>> units(["member", "fg_flip", "flip_risk"])
        {'fg_flip': 'share', 'flip_risk': 'nats'}
    """
    quantities: dict[str, Quantity] = {**IMAGE_QUANTITIES, **SCENE_IMAGE_QUANTITIES, **SCORE_COLUMNS, **SCORES}
    unit_of = {}
    for name in columns:
        quantity = quantities.get(name) or find_quantity(key_of(name))
        if quantity is not None:
            unit_of[name] = quantity.unit
    return unit_of


def write_images(run: StoredRun) -> Path | None:
    """Writes the images of a run into its folder as `images.parquet`, and returns the path.

    Returns None without pyarrow. Returns None, too, without any rows, and above MOST_IMAGE_ROWS, because large grids
    would wait for it; then the file of an earlier run is removed. `StoredRun.images` still computes them.
    """
    if importlib.util.find_spec("pyarrow") is None:
        return None
    path = run.folder / "images.parquet"
    rows = sum(count_image_rows(cell) for cell in run.cells.values())
    if not 0 < rows <= MOST_IMAGE_ROWS:
        path.unlink(missing_ok=True)
        return None
    with replacing(path) as stream:
        run.images.to_parquet(stream, compression="zstd", index=False)
    return path


def count_image_rows(cell: Cell) -> int:
    """Returns the number of rows of a cell's images, one per selection rule, member and image."""
    return len(cell.rules) * len(cell.members) * len(cell.images.image_part)
