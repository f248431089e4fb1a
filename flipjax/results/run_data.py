"""A run's results as pandas data frames, and the units of their columns."""

import importlib.util
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax.metrics.decomposition import concatenate
from flipjax.metrics.log_odds import SceneSwap
from flipjax.results.cells import StoredCell, mark_unlearnt, read_cells
from flipjax.results.estimates import Resamples, aggregate
from flipjax.results.frames import read_csv
from flipjax.results.quantities import IMAGE_QUANTITIES, SCENE_IMAGE_QUANTITIES, find_quantity, key_of
from flipjax.results.rows import image_columns
from flipjax.results.scores import SCORE_COLUMNS, SCORES, image_scores, score_rows
from flipjax.support.files import DamagedError, replacing

MOST_IMAGES = 2_000_000
PART = 2**16
"""Images whose rows are made, and written to images.parquet, at a time."""


class RunData:
    """The tables of a run folder, read lazily; see `load`."""

    def __init__(self, folder: Path, members: pd.DataFrame):
        """Takes the folder and its results.csv."""
        self.folder = folder
        self.members = members

    def __repr__(self) -> str:
        """Summarises the run and lists its tables."""
        names = ("member", "selection", "split")
        counts = ", ".join(f"{self.members[name].nunique()} {name}s" for name in names)
        tables = ".members .images .scores .history .summary"
        return f"<RunData {self.folder}: {counts}; data frames: {tables}>"

    @cached_property
    def history(self) -> pd.DataFrame:
        """history.csv, one row per member and epoch; empty without the file."""
        path = self.folder / "history.csv"
        table = read_csv(path) if path.is_file() else pd.DataFrame()
        # Reading the cells verifies it.
        list(read_cells(self.folder, history=table))
        return table

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The rows of scores.csv, one per member and score, computed from the stored cells."""
        cells = read_cells(self.folder, results=self.members)
        return score_rows((cell for _, cell in cells), self.members)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Means over seeds on the test images with intervals, one row per setting, selection rule and quantity."""
        cells = dict(read_cells(self.folder, results=self.members))
        return aggregate(mark_unlearnt(self.members, cells), resamples=Resamples(cells))

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row per member, selection rule, split and image."""
        cells = read_cells(self.folder, results=self.members)
        parts = [part for _, cell in cells for part in _image_parts(cell, self.members)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def load(run: str | Path) -> RunData:
    """Reads a run folder: `.members`, `.images`, `.scores`, `.history` and `.summary` are pandas data frames.

    Numbers are int64 or float64, with NaN for undefined. `units` returns the units of columns, and
    `flipjax.results.quantities` defines them.

    - `.members`, results.csv, one row per member, selection rule, split and group: `member`; the axes, such as `rho`,
      `seed`, `method`; `split`; `group`, one of all 0 1 ... common rare; `n_images`; the quantities, such as
      `fg_flip`, `iou_<class>`, `gap_mean`, `risk_auroc`; `status`, `epochs`, `best_epoch`, `selection`.
    - `.images`, one row per member, selection rule, split and image: `member`, `selection`, `split`; `image`, its index
      in the split; `object` and `scene_photo`, its rows in the pool; `pair`, the number that the images of one object
      share (-1: none); `group`, class * S + scene of S scenes; `correct`, `flip`, `miss`, `spill`, `flip_risk`,
      `foreground_pixels`, `pixels`, `largest_flip`; where scenes were swapped `swap_risk` and `repaired_flip`; then the
      other scores of `SCORES`, NaN where not stored.
    - `.scores`, as scores.csv, one row per member and score: `member`, the axes, `selection`, `score`, `passes`,
      `threshold`, and `<measure>_<side>` for the measures of `quantities.SCORE_QUANTITIES`, the sides all, common and
      rare.
    - `.history`, history.csv, one row per member and epoch: `member`, `epoch`, losses in nats, shares, `learning_rate`,
      `group_weight_<g>`.
    - `.summary`, one row per setting, selection rule and quantity: the axes except the seed, `selection`, `quantity`
      (as `group/rare/fg_flip`), `n`, `left_out`, `values`, `mean`, `low`, `high`,
      `images_low`, `images_high`, see `flipjax.results.estimates.aggregate`.

    Args:
        run: the folder of a sweep.

    Raises:
        FileNotFoundError: the folder has no results.csv.
        DamagedError: results.csv was changed; when other tables are read, a cell is missing or a file belongs to
            another run.
    """
    path = Path(run) / "results.csv"
    members = read_csv(path)
    if not {"member", "split", "group", "n_images", "status", "selection"} <= {*members}:
        raise DamagedError(f"{path}: expected the columns of results.csv; found {', '.join(map(str, members))}")
    return RunData(path.parent, members)


def units(columns: Iterable[str]) -> dict[str, str]:
    """Returns the unit of each column that is a quantity.

    Example:
        >>> units(["member", "fg_flip", "flip_risk"])
        {'fg_flip': 'share', 'flip_risk': 'nats'}
    """
    named = IMAGE_QUANTITIES | SCENE_IMAGE_QUANTITIES | SCORE_COLUMNS | SCORES
    found = {name: named.get(name) or find_quantity(key_of(name)) for name in columns}
    return {name: quantity.unit for name, quantity in found.items() if quantity is not None}


def write_images(run: str | Path) -> Path | None:
    """Writes `images.parquet` into a run folder, the rows of `RunData.images`, and returns its path.

    Returns None without pyarrow, without stored decompositions, or above MOST_IMAGES rows, which would delay large
    grids; `RunData.images` still computes them.
    """
    if importlib.util.find_spec("pyarrow") is None:
        return None
    rows = sum(part.risk_sum.size for _, cell in read_cells(Path(run)) for part in cell.parts.values())
    if not 0 < rows <= MOST_IMAGES:
        return None
    from pyarrow import parquet

    path = Path(run) / "images.parquet"
    members = read_csv(Path(run) / "results.csv")
    tables = (_arrow_table(part) for _, cell in read_cells(Path(run)) for part in _image_parts(cell, members))
    first = next(tables)
    with replacing(path) as stream, parquet.ParquetWriter(stream, first.schema, compression="zstd") as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)
    return path


def _arrow_table(frame: pd.DataFrame) -> Any:
    """Returns a data frame as a pyarrow table with units in its field metadata."""
    import pyarrow

    arrays = {str(name): pyarrow.array(values.to_numpy()) for name, values in frame.items()}
    metadata = {name: {"unit": unit} for name, unit in units(arrays).items()}
    fields = [pyarrow.field(name, array.type, metadata=metadata.get(name)) for name, array in arrays.items()]
    return pyarrow.table(list(arrays.values()), schema=pyarrow.schema(fields))


def _image_parts(cell: StoredCell, rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yields the images of every rule and split, of as many members at a time as have about PART images."""
    rows = rows[rows["member"].isin(cell.places)]
    kinds = [*itertools.product(cell.selections, cell.parts)]
    scores = {(rule, split): dict(image_scores(cell, split, rows, selection=rule)) for rule, split in kinds}
    step = max(1, PART // sum(len(cell.parts[split].groups) for _, split in kinds))
    for start in range(0, len(cell.members), step):
        members = cell.members[start : start + step]
        blocks = [_image_block(cell, members, *kind, scores[kind]) for kind in kinds]
        # Some columns exist only for the first rule.
        columns = {
            name: np.concatenate([block.get(name, np.full(block["image"].shape, np.nan)) for block in blocks], axis=1)
            for name in blocks[0]
        }
        frame = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
        yield frame.astype(dict.fromkeys(frame.select_dtypes("integer"), np.int64))


def _image_block(
    cell: StoredCell, members: Sequence[str], rule: str, split: str, scores: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Returns the columns (members, n) of the n images of a split."""
    part, shape = cell.parts[split], (len(members), len(cell.parts[split].groups))
    columns = {"member": np.array(members)[:, None], "selection": np.array(rule), "split": np.array(split)}
    columns |= {"image": np.arange(shape[1]), "object": part.rows[:, 0], "scene_photo": part.rows[:, 1]}
    columns |= {"pair": part.pairs, "group": part.groups}
    swaps = [cell.scene_swap(member, split, selection=rule) for member in members]
    known = [swap for swap in swaps if swap is not None]
    swap = SceneSwap(np.concatenate([s.risk for s in known]), concatenate(s.repaired for s in known)) if known else None
    counts = concatenate(cell.decomposition(member, split, selection=rule) for member in members)
    of_images = image_columns(counts, cell.class_names, swap=swap)
    blank = np.full(shape[1], np.nan)
    of_images |= {
        name: np.concatenate([scores[member].get(name, blank) for member in members])
        for name in SCORES
        if name not in of_images
    }
    columns |= {name: values.reshape(shape) for name, values in of_images.items()}
    return {name: np.broadcast_to(values, shape) for name, values in columns.items()}
