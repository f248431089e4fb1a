"""A run's results as data: plain dicts of NumPy arrays, which pandas, polars, DuckDB and Arrow take as they are."""

import importlib.util
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.files import replacing
from flipjax.results.cells import Row, StoredCell, load_cell
from flipjax.results.frames import read_csv
from flipjax.results.image_columns import image_columns
from flipjax.results.quantities import COLUMNS, IMAGE_QUANTITIES, SCENE_IMAGE_QUANTITIES, column, quantity_of
from flipjax.results.resampling import Resamples
from flipjax.results.score_tables import SCORE_COLUMNS, SCORES, image_scores
from flipjax.results.seeds import aggregate

Columns = dict[str, np.ndarray]

MOST_IMAGES = 2_000_000


class RunData:
    """The tables of a run folder, each read when it is asked for; see `load`."""

    def __init__(self, folder: Path, rows: Sequence[Row]):
        """Takes the folder and the rows of its results.csv."""
        self.folder = folder
        self._rows = list(rows)

    @cached_property
    def members(self) -> Columns:
        """A row a member, selection rule, split and group: results.csv; `quantities.COLUMNS` has its columns."""
        return columns_of(self._rows)

    @cached_property
    def history(self) -> Columns:
        """A row a member and epoch: history.csv; losses in nats, shares in [0, 1]. No columns where it is not there."""
        path = self.folder / "history.csv"
        return columns_of(read_csv(path) if path.is_file() else [])

    @cached_property
    def summary(self) -> Columns:
        """A row a setting, selection rule and quantity: the mean over seeds of the test images, with its interval."""
        return columns_of(aggregate(self._rows, resamples=Resamples(dict(_cells(self.folder)))))

    @cached_property
    def scores(self) -> Columns:
        """A row a member, selection rule and score of images: scores.csv, described by `SCORES` and `SCORE_COLUMNS`."""
        path = self.folder / "scores.csv"
        return columns_of(read_csv(path) if path.is_file() else [])

    @cached_property
    def images(self) -> Columns:
        """A row a member, selection rule, split and image.

        `image` is its place in the split, `object` and `scene_photo` its rows in the pool, `pair` the number that the
        images of one object share (-1: none), `group` is 2 * class + scene; then the columns of `image_columns`, and a
        column for each of `SCORES`, NaN where it is not stored.
        """
        parts = [part for _, cell in _cells(self.folder) for part in _image_parts(cell, self._rows)]
        if not parts:
            return {}
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def load(run: str | Path) -> RunData:
    """Reads a run folder: `.members`, `.images`, `.scores`, `.history`, `.summary`.

    Each is a dict of NumPy arrays of one length: numbers int64 or float64 (NaN where one does not exist), texts str.
    `units` gives the unit of a column.

    Args:
        run: the folder that a sweep wrote.

    Raises:
        FileNotFoundError: it holds no results.csv.
    """
    folder = Path(run)
    path = folder / "results.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: expected a run folder with results.csv; make one with flipjax sweep")
    return RunData(folder, read_csv(path))


def columns_of(rows: Sequence[Row]) -> Columns:
    """Returns rows as columns: int64, float64 with NaN for blanks, or str where any value is a text.

    Example:
        >>> columns_of([{"member": "a", "flip": 0.5, "n": 3}, {"member": "b", "flip": "", "n": 4}])["flip"].tolist()
        [0.5, nan]
    """
    return {name: _column([row.get(name, "") for row in rows]) for name in (rows[0] if rows else ())}


def _column(values: Sequence[Any]) -> np.ndarray:
    if any(isinstance(value, str) and value for value in values):
        return np.array([str(value) for value in values], object)
    if all(isinstance(value, int) for value in values):
        return np.array(values, np.int64)
    return np.array([np.nan if value == "" else value for value in values], np.float64)


def units(columns: Mapping[str, Any]) -> dict[str, str]:
    """Returns the unit of each column that is a quantity.

    Example:
        >>> units({"member": [], "fg_flip": [], "flip_risk": []})
        {'fg_flip': 'share', 'flip_risk': 'nats'}
    """
    prefixes = tuple(column(key).partition("<")[0] for key in COLUMNS)
    quantities = {name: quantity_of(name) for name in columns if name.startswith(prefixes)}
    images = IMAGE_QUANTITIES | SCENE_IMAGE_QUANTITIES
    quantities |= {name: quantity for name, quantity in images.items() if name in columns}
    described = {name: quantity.unit for name, quantity in quantities.items()}
    described |= {name: score.unit for name, score in (SCORE_COLUMNS | SCORES).items() if name in columns}
    return {name: described[name] for name in columns if name in described}


def write_images(run: str | Path) -> Path | None:
    """Writes `images.parquet` into a run folder, the rows of `RunData.images`, and returns its path.

    None where pyarrow is not installed, no decomposition is stored, or there are more than MOST_IMAGES rows: a grid of
    thousands of members would wait for them, and has them by `RunData.images`.
    """
    if importlib.util.find_spec("pyarrow") is None:
        return None
    rows = sum(part.risk_sum.size for _, cell in _cells(Path(run)) for part in cell.parts.values())
    if not 0 < rows <= MOST_IMAGES:
        return None
    from pyarrow import parquet

    path = Path(run) / "images.parquet"
    rows = read_csv(Path(run) / "results.csv")
    with replacing(path) as stream:
        tables = (to_arrow(part) for _, cell in _cells(Path(run)) for part in _image_parts(cell, rows))
        first = next(tables)
        # A group of rows a member: memory does not grow with the grid.
        with parquet.ParquetWriter(stream, first.schema, compression="zstd") as writer:
            for table in itertools.chain([first], tables):
                writer.write_table(table)
    return path


def to_arrow(columns: Columns) -> Any:
    """Returns columns as a pyarrow table whose fields hold their units; needs the extra `arrow`."""
    import pyarrow

    unit = units(columns)
    fields = []
    arrays = []
    for name, values in columns.items():
        array = pyarrow.array(values.tolist() if values.dtype.kind in "UO" else values)
        arrays.append(array)
        fields.append(pyarrow.field(name, array.type, metadata={"unit": unit[name]} if name in unit else None))
    return pyarrow.table(arrays, schema=pyarrow.schema(fields))


def _cells(folder: Path) -> Iterator[tuple[str, StoredCell]]:
    for path in sorted(folder.glob("cells/*/decomposition.npz")):
        yield path.parent.name, load_cell(path, tables=False)


def _image_parts(cell: StoredCell, rows: Sequence[Row]) -> Iterator[Columns]:
    rows = [row for row in rows if row["member"] in cell.places]
    order: list[str] = []
    scores = {
        (selection, split): dict(image_scores(cell, split, rows, selection=selection))
        for selection in cell.selections
        for split in cell.parts
    }
    for member in cell.members:
        for selection in cell.selections:
            for split, part in cell.parts.items():
                n = len(part.groups)
                texts = {"member": member, "selection": selection, "split": split}
                ids: Columns = {name: np.array([text] * n, object) for name, text in texts.items()}
                ids |= {"image": np.arange(n), "object": part.rows[:, 0], "scene_photo": part.rows[:, 1]}
                ids |= {"pair": part.pairs, "group": part.groups}
                counts = cell.counts(member, split, selection=selection)
                swap = cell.scene_swap(member, split, selection=selection)
                columns = ids | image_columns(counts, cell.class_names, swap=swap)
                of_image = scores[selection, split][member]
                columns |= {name: of_image.get(name, np.full(n, np.nan)) for name in SCORES if name not in columns}
                # A later rule lacks what is asked of the first one alone.
                order = order or list(columns)
                columns = {name: columns.get(name, np.full(n, np.nan)) for name in order}
                yield {
                    name: values.astype(np.int64) if values.dtype.kind == "i" else values
                    for name, values in columns.items()
                }
