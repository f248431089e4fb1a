"""A run folder as one labelled data set: its result files, and the tables that follow from them."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from flipjax.config.identity import digest_of
from flipjax.config.program import Value
from flipjax.metrics.registry import Quantity
from flipjax.metrics.summary.names import IMAGE_QUANTITIES, SCENE_IMAGE_QUANTITIES, find_quantity, key_of
from flipjax.results.arrays import MemberResults
from flipjax.results.cells import Cell, to_xarray
from flipjax.results.learning import mark_unlearnt
from flipjax.results.record import RECORD, known_record, planned_members
from flipjax.results.rows import axes_of
from flipjax.results.scores import SCORE_COLUMNS, SCORES, score_rows
from flipjax.results.statistics.estimates import aggregate
from flipjax.results.statistics.resamples import Resamples
from flipjax.results.statistics.setting_tables import FirstRule, first_rule_of
from flipjax.results.statistics.verdicts import Differences, differences_of
from flipjax.results.store import BLANK, GALLERY, STORED
from flipjax.results.tables import concatenate, history_table, image_tables, results_table, with_dtypes
from flipjax.results.unfinished import Unfinished, read_unfinished
from flipjax.support.files import DamagedError, replacing
from flipjax.support.npz import read_arrays

if TYPE_CHECKING:
    import xarray

END = ("status", "epochs")
"""Columns that say how the training of a member ended."""
MOST_IMAGE_ROWS = 2_000_000
"""Most rows of images.parquet: one per member, selection rule and image."""


class StoredRun:
    """The results of a run folder, read once, and the tables that follow from them; see `load`.

    See `flipjax.run` for an example.
    """

    def __init__(self, folder: Path, *, training: bool = False):
        """Reads the results; raises as `load`. In training, members without results are left out."""
        self.folder = folder
        self.config_record = known_record(folder)
        """config.json; empty if it cannot be read."""
        self.cells: dict[str, Cell] = {}
        """The stored results, by their path below `cells/`."""
        for path, cell in _read_cells(folder):
            _require_same_config(cell, self.config_record)
            self.cells[path] = cell
        # A run that has ended lists its missing members, such as those of a program that failed, without quantities.
        self._results_of_missing: list[MemberResults] = []
        if not training:
            for path in sorted(folder.glob(f"cells/*/{BLANK}")):
                self._results_of_missing.append(read_arrays(path, MemberResults))
            self._require_complete()
        self.unfinished: Unfinished | None = None
        """The members without results, if the run still trains or was interrupted; None if it has ended."""
        if not training:
            self.unfinished = read_unfinished(folder, [name for cell in self.cells.values() for name in cell.members])
        if not self.cells and self.unfinished is None:
            raise FileNotFoundError(f"{folder}: expected a run folder with results; make one with flipjax sweep")

    def _require_complete(self) -> None:
        """Raises DamagedError if a run that has ended does not list all of its members."""
        if not (self.folder / "results.csv").is_file():
            return
        # results.csv is written after the results of all members, so that with it none may be absent.
        listed_members = sum(len(results.member) for results in self._results_of_programs)
        planned = planned_members(self.config_record, otherwise=listed_members)
        if listed_members < planned:
            expected = f"{self.folder / 'cells'}: expected the results of {planned} members"
            raise DamagedError(f"{expected}; found {listed_members}; the run's command makes them again")

    def __repr__(self) -> str:
        """Shows the folder and the number of members, or how far the run is."""
        if self.unfinished is not None:
            return f"<{type(self).__name__} {self.folder}: {self.unfinished}>"
        return f"<{type(self).__name__} {self.folder}: {len(self.members)} members>"

    def _require_results(self) -> None:
        """Raises FileNotFoundError if no member has results yet."""
        if not self.cells:
            raise FileNotFoundError(f"{self.folder}: expected results; found a run that is {self.unfinished}")

    @property
    def _results_of_programs(self) -> list[MemberResults]:
        """The results of the members of each program: first the stored ones, then those of missing members."""
        return [*(cell.results for cell in self.cells.values()), *self._results_of_missing]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def example(self) -> Cell:
        """The first cell, for what all cells of a run share, such as the names of classes and scenes."""
        self._require_results()
        return next(iter(self.cells.values()))

    @property
    def classes(self) -> int:
        """The number of foreground classes."""
        return self.example.groups.classes

    def setting_of(self, member: str) -> Mapping[str, Value]:
        """Returns a member's value of every axis; '' for an axis that its method does not use."""
        for results in self._results_of_programs:
            if member in results.index_of_member:
                row = results.index_of_member[member]
                return results.settings()[row]
        program = None
        if self.unfinished is not None:
            program = self.unfinished.program_of(member)
        if program is not None:
            return program.setting_of(member).columns
        raise KeyError(f"member: expected one of the run {self.folder}; found {member!r}")

    @cached_property
    def results(self) -> pd.DataFrame:
        """The rows of results.csv, one per member, selection rule, split and group.

        Columns: `member`; the axes, such as `rho`, `seed`, `method`; `split`; `group`, one of all 0 1 ... common rare,
        and `group_name`, such as 'cat on land'; `n_images`; the quantities, such as `fg_flip`, `iou_<class>`,
        `gap_mean`, `risk_auroc`; `status`, `epochs`, `best_epoch`, `selection`.
        """
        self._require_results()
        return with_dtypes(concatenate([results_table(results) for results in self._results_of_programs]))

    @cached_property
    def members(self) -> pd.DataFrame:
        """One row per member: varied axes, status, epochs, and the epoch kept by the first rule.

        Of a run without results yet, the last one is left out.
        """
        if self.unfinished is not None and not self.cells:
            rows = self.unfinished.members.set_index("member")
            varied = [name for name in rows if rows[name].nunique(dropna=False) > 1 and name not in END]
            return rows[[*varied, *END]]
        # The rows of a member begin with those of the first rule, and the first of them is kept.
        rows = self.results.drop_duplicates("member").set_index("member")
        varied = []
        for name in axes_of(self.results):
            if name != "selection" and rows[name].nunique(dropna=False) > 1:
                varied.append(name)
        return rows[[*varied, "status", "epochs", "best_epoch"]]

    @cached_property
    def history(self) -> pd.DataFrame:
        """The rows of history.csv, one per member and epoch.

        Columns: `member`, `epoch`; the loss of the member's own method, `train_loss`, `valid_loss` and
        `valid_loss_at_rho`; what compares methods, `valid_cross_entropy` (nats), `valid_worst_group_iou`, `valid_flip`
        and `valid_risk` (mean flip-risk, nats); `learning_rate`, `group_weight_<g>`.
        Of a run that is not at its end, the rows so far.
        """
        tables = [history_table(cell.results) for cell in self.cells.values()]
        if self.unfinished is not None:
            tables.append(self.unfinished.history)
        return concatenate(tables)

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row per member, selection rule, split and image.

        Columns: `member`, `selection`, `split`; `image`, its index in the split; `object` and `scene_photo`, its rows
        in the pool; `pair`, the number that the images of one object share (-1: none); `group`, class * S + scene of S
        scenes; `correct`, `flip`, `miss`, `spill`, `flip_risk`, `foreground_pixels`, `pixels`, `largest_flip`; where
        scenes were swapped `swap_risk` and `repaired_flip`; then the other scores of `SCORES`, NaN where not stored;
        the member's `status`. A rule that kept no epoch has no numbers.
        """
        tables: list[pd.DataFrame] = []
        for cell in self.cells.values():
            tables += image_tables(cell, self.results)
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The rows of scores.csv, one per member and score, computed from the stored images.

        Columns: `member`, the axes, `selection`, `score`, `passes`, `threshold`, and `<measure>_<side>` for the
        measures of `flipjax.metrics.summary.measures`, the sides all, common and rare.
        """
        return score_rows(self.cells, self.results)

    @cached_property
    def dataset(self) -> xarray.Dataset:
        """The members' quantities and training curves as one xarray data set; needs xarray.

        Dimensions are `member`, `rule`, `part`, `group` and `epoch`: `rule` is what the tables call selection, `part`
        what they call split. The axes of the grid are coordinates of `member`. `sel` takes an axis that is made an
        index, as in `run.dataset.set_xindex("rho").sel(rho=0.9).fg_flip.mean("member")`.
        """
        of_cells = [to_xarray(cell) for cell in self.cells.values()]
        if len(of_cells) == 1:
            return of_cells[0]
        import xarray

        return xarray.concat(of_cells, "member", join="outer", data_vars="all")

    @cached_property
    def _marked(self) -> pd.DataFrame:
        """The rows of `results`, with status NOT_LEARNT where it applies."""
        return mark_unlearnt(self.results, self.cells)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Means over seeds on the test images with intervals, one row per setting, selection rule and quantity.

        Columns: the axes except the seed, `selection`, `quantity` (as `group/rare/fg_flip`), `n`, `left_out`, `values`,
        `mean`, `low`, `high`, `images_low`, `images_high`, see `flipjax.results.statistics.estimates.aggregate`.
        """
        return aggregate(self._marked, resamples=Resamples(self.cells))

    @cached_property
    def differences(self) -> Differences:
        """Trends over rho, and comparisons of methods and of selection rules, with the verdicts of the page."""
        return differences_of(self._marked)

    @cached_property
    def first_rule(self) -> FirstRule:
        """The tables under the first selection rule, which the page shows."""
        return first_rule_of(self._marked, self.differences, self.history, self.cells)


def load(run: str | Path) -> StoredRun:
    """Reads a run folder: `.results`, `.images`, `.scores`, `.history` and `.summary` are pandas data frames.

    Each table of `StoredRun` says which columns it has. Numbers are int64 or float64, with NaN for undefined. `units`
    returns the units of columns, and `flipjax.metrics.quantities` defines the quantities. `.differences`
    holds the data frames of trends and comparisons, and `.dataset` is an xarray data set.

    See `flipjax.run` for an example.

    Args:
        run: the folder of a sweep.

    Raises:
        FileNotFoundError: the folder has no results.
        DamagedError: a file is damaged or belongs to another run, or results of a finished run are gone.
    """
    return StoredRun(Path(run))


def _read_cells(folder: Path) -> Iterator[tuple[str, Cell]]:
    """Yields each result file of a run folder, or each part of one not merged yet, with its path below `cells/`."""
    for cell_folder in sorted(folder.glob("cells/*/")):
        merged = cell_folder / STORED
        if merged.exists():
            yield cell_folder.name, Cell(read_arrays(merged, MemberResults), merged)
            continue
        for part in sorted(cell_folder.glob("parts/*.npz")):
            # The sweep redoes a damaged part; until then its members are not done.
            with contextlib.suppress(DamagedError):
                yield f"{cell_folder.name}/{part.stem}", Cell(read_arrays(part, MemberResults), part)


def _require_same_config(cell: Cell, config_record: Mapping[str, object]) -> None:
    """Raises DamagedError if a result file belongs to another configuration than that of config.json."""
    # The identity of a program begins with the digest of its configuration. Results that no sweep made have none.
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

    Returns None without pyarrow, without any rows, and above MOST_IMAGE_ROWS, because large grids would wait for it;
    then a file of earlier results is removed. `StoredRun.images` still computes them.
    """
    path = run.folder / "images.parquet"
    rows = sum(count_image_rows(cell) for cell in run.cells.values())
    if not 0 < rows <= MOST_IMAGE_ROWS or importlib.util.find_spec("pyarrow") is None:
        path.unlink(missing_ok=True)
        return None
    with replacing(path) as stream:
        run.images.to_parquet(stream, compression="zstd", index=False)
    return path


def count_image_rows(cell: Cell) -> int:
    """Returns the number of rows of a result file's images, one per selection rule, member and image."""
    return len(cell.rules) * len(cell.members) * len(cell.images.image_part)
