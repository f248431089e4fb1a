"""A run's results as pandas data frames, and the units of their columns."""

import importlib.util
import itertools
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

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
        # Some columns exist only for the first rule.
        parts = [*_image_parts(self)]
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
    """Writes `images.parquet` into a run folder, the rows of `RunData.images` with units, and returns its path.

    Returns None without pyarrow, without stored decompositions, or above MOST_IMAGES rows, which would delay large
    grids; `RunData.images` still computes them.
    """
    rows = sum(part.risk_sum.size for _, cell in read_cells(Path(run)) for part in cell.parts.values())
    if importlib.util.find_spec("pyarrow") is None or not 0 < rows <= MOST_IMAGES:
        return None
    import pyarrow
    from pyarrow import parquet

    path, parts = Path(run) / "images.parquet", _image_parts(load(run))
    first = next(parts)
    fields, known = pyarrow.Schema.from_pandas(first, preserve_index=False), units(map(str, first))
    schema = pyarrow.schema([each.with_metadata({"unit": known.get(each.name, "")}) for each in fields])
    with replacing(path) as stream, parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        for part in itertools.chain([first], parts):
            writer.write_table(pyarrow.Table.from_pandas(part.reindex(columns=first.columns), schema))
    return path


def _image_parts(run: RunData) -> Iterator[pd.DataFrame]:
    """Yields the images of each split by each selection rule."""
    for _, cell in read_cells(run.folder, results=run.members):
        for kind in itertools.product(cell.selections, cell.parts):
            yield _images_of(cell, run.members, *kind)


def _images_of(cell: StoredCell, rows: pd.DataFrame, rule: str, split: str) -> pd.DataFrame:
    """Returns the images of a split by a selection rule, member by member."""
    part, shape = cell.parts[split], (len(cell.members), len(cell.parts[split].groups))
    columns = {"member": np.array(cell.members)[:, None], "selection": np.array(rule), "split": np.array(split)}
    columns |= {"image": np.arange(shape[1]), "object": part.rows[:, 0], "scene_photo": part.rows[:, 1]}
    columns |= {"pair": part.pairs, "group": part.groups}
    swaps = [cell.scene_swap(member, split, selection=rule) for member in cell.members]
    known = [swap for swap in swaps if swap is not None]
    swap = SceneSwap(np.concatenate([s.risk for s in known]), concatenate(s.repaired for s in known)) if known else None
    counts = concatenate(cell.decomposition(member, split, selection=rule) for member in cell.members)
    of_images = image_columns(counts, cell.class_names, swap=swap)
    scores = dict(image_scores(cell, split, rows[rows["member"].isin(cell.places)], selection=rule))
    blank = np.full(shape[1], np.nan)
    of_images |= {
        name: np.concatenate([scores[member].get(name, blank) for member in cell.members])
        for name in SCORES
        if name not in of_images
    }
    columns |= {name: values.reshape(shape) for name, values in of_images.items()}
    frame = pd.DataFrame({name: np.broadcast_to(values, shape).ravel() for name, values in columns.items()})
    return frame.astype(dict.fromkeys(frame.select_dtypes("integer"), np.int64))
