"""Reads and writes the stored cells of a run (decomposition.npz), and checks that all files belong to one run."""

import contextlib
import functools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flipjax.groups import Groups
from flipjax.identity import digest_of
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.log_odds import SceneSwap, scene_swap
from flipjax.results.frames import Row, to_frame
from flipjax.results.rows import LEFT_OUT, NOT_LEARNT, kept_records
from flipjax.support.files import DamagedError, read_arrays, write_arrays
from flipjax.support.terminal import listed

PARTS = ("val", "test")
TEXTS = ("members", "selections", "class_names", "scene_names", "score_names")
TABLES = ("rows", "history")
REQUIRED = {"risk_sum": np.float32, "confusion": np.int32, "groups": np.int32, "pairs": np.int32, "rows": np.int32}
FLOATS = ("scene_log_odds", "scene_shares", "centers", "scores")
DTYPES: dict[str, Any] = REQUIRED | dict.fromkeys(FLOATS, np.float32) | {"masks": np.uint8, "refit": np.bool_}


@dataclass(frozen=True)
class StoredSplit:
    """One split of a cell, for S selection rules, K members, n images and C classes.

    confusion int32 (S, K, n, C, C) and risk_sum float32 (S, K, n) as in `Decomposition`; groups int32 (n,), class and
    scene as `StoredCell.groups` numbers them; pairs int32 (n,), the counterfactual set or -1; rows int32 (n, 2), the
    pool's object and scene. refit bool (n,), the images on which DFR fitted heads.

    With scene swap: scene_log_odds float32 (R, K, n, kinds, C - 1) for the first R rules (sweeps write one),
    scene_shares float32 (D,), the weights of the D passes of a kind (None: one pass), and centers float32 (R, K,
    C - 1), as in `flipjax.intervene`. Risk and repaired counts are computed from these and `confusion`.

    For the first rule only: scores float32 (K, n, J), named by `StoredCell.score_names`, and masks uint8 (K, n, planes,
    bytes), the predicted classes as packed bits.
    """

    confusion: np.ndarray
    risk_sum: np.ndarray
    groups: np.ndarray
    pairs: np.ndarray
    rows: np.ndarray
    scene_log_odds: np.ndarray | None = None
    scene_shares: np.ndarray | None = None
    centers: np.ndarray | None = None
    scores: np.ndarray | None = None
    masks: np.ndarray | None = None
    refit: np.ndarray | None = None


@dataclass(frozen=True)
class StoredCell:
    """Decompositions of all members of one static experiment, on the parts `val` and `test`.

    `rows` and `history` are the members' rows of results.csv and history.csv; `score_names` names `StoredSplit.scores`;
    `program` identifies their program, as in `flipjax.plan`. `usual` holds the usual scenes of each class; empty means
    the default, scene y mod S for class y.
    """

    members: tuple[str, ...]
    selections: tuple[str, ...]
    class_names: tuple[str, ...]
    scene_names: tuple[str, ...]
    parts: Mapping[str, StoredSplit]
    rows: tuple[Row, ...] = ()
    history: tuple[Row, ...] = ()
    score_names: tuple[str, ...] = ()
    program: str = ""
    usual: tuple[tuple[int, ...], ...] = ()

    @functools.cached_property
    def groups(self) -> Groups:
        """The groups of the images: the foreground classes in the scenes."""
        return Groups(len(self.class_names) - 1, len(self.scene_names), self.usual)

    def on_side(self, part: str, side: str) -> np.ndarray:
        """Returns which images are in `common` or `rare` groups: bool (n,); all for any other name."""
        ids = self.groups.named.get(side, range(self.groups.count))
        return np.isin(self.parts[part].groups, ids)

    def decomposition(self, member: str, part: str, *, selection: str | None = None) -> Decomposition:
        """Returns the decomposition of a member on a split by a selection rule, the first by default.

        Leaves are NumPy arrays with a leading image axis. It is a pytree once `flipjax.metrics.kernels` is imported.
        """
        place = self._place(member, selection)
        return Decomposition(self.parts[part].confusion[place], self.parts[part].risk_sum[place])

    def scene_swap(self, member: str, part: str, *, selection: str | None = None) -> SceneSwap | None:
        """Returns a member's scene-swap risk and repaired counts, or None where no scenes were swapped."""
        rule = {"selection": selection}
        log_odds, center = self.scene_log_odds(member, part, **rule), self.center(member, **rule)
        if log_odds is None or center is None:
            return None
        return scene_swap(self.decomposition(member, part, **rule), log_odds, center)

    def scene_log_odds(self, member: str, part: str, *, selection: str | None = None) -> np.ndarray | None:
        """Returns a member's log-odds on other scenes, (n, kinds, C - 1), or None where no scenes were swapped."""
        return self._of_rule(self.parts[part].scene_log_odds, member, selection)

    def center(self, member: str, *, selection: str | None = None) -> np.ndarray | None:
        """Returns a member's split point, (C - 1,), or None where no scenes were swapped."""
        return self._of_rule(self.parts[PARTS[0]].centers, member, selection)

    def _of_rule(self, stored: np.ndarray | None, member: str, selection: str | None) -> np.ndarray | None:
        rule, place = self._place(member, selection)
        return None if stored is None or rule >= len(stored) else stored[rule, place]

    def _place(self, member: str, selection: str | None) -> tuple[int, int]:
        return 0 if selection is None else self.selections.index(selection), self.places[member]

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """The index of each member, by name."""
        return {member: place for place, member in enumerate(self.members)}


def save_cell(path: str | Path, cell: StoredCell) -> None:
    """Writes `decomposition.npz` with a digest."""
    arrays: dict[str, np.ndarray] = {field: np.array(getattr(cell, field), np.str_) for field in TEXTS[:-1]}
    for name, part in cell.parts.items():
        stored = {field: getattr(part, field) for field in DTYPES}
        arrays |= {f"{name}_{f}": np.asarray(array, DTYPES[f]) for f, array in stored.items() if array is not None}
    arrays |= {name: np.array(getattr(cell, name), np.str_) for name in ("score_names", "program")}
    if any(own != (y % cell.groups.scenes,) for y, own in enumerate(cell.groups.usual)):
        arrays["usual"] = np.array(json.dumps(cell.groups.usual))
    for name in TABLES:
        # Row by row: copying all rows at once would dominate the memory of a large grid.
        text = bytearray()
        for row in getattr(cell, name):
            text += b", " if text else b"["
            text += json.dumps({column: _plain(value) for column, value in row.items()}).encode()
        arrays[name] = np.frombuffer(text + b"]" if text else b"[]", np.uint8)
    write_arrays(path, arrays)


def _plain(value: Any) -> int | float | str:
    """Returns a row's value for JSON: a number, blank if it is not finite, or a string."""
    value = value.item() if isinstance(value, np.generic) else value
    return (value if math.isfinite(value) else "") if isinstance(value, int | float) else str(value)


def load_cell(path: str | Path, *, tables: bool = True) -> StoredCell:
    """Reads a file of `save_cell`, without rows unless `tables`. Raises DamagedError if the file is invalid."""
    arrays = read_arrays(path)
    expected = [*TEXTS, *TABLES, "program", *(f"{part}_{field}" for part in PARTS for field in REQUIRED)]
    missing = [name for name in expected if name not in arrays]
    if missing:
        raise DamagedError(f"{path}: expected the arrays of a decomposition.npz; it lacks {', '.join(missing)}")
    parts = {part: StoredSplit(**{f: arrays.get(f"{part}_{f}") for f in DTYPES}) for part in PARTS}  # type: ignore[arg-type]
    rows = {name: tuple(json.loads(arrays[name].tobytes())) for name in TABLES if tables}
    texts = {field: tuple(arrays[field].tolist()) for field in TEXTS}
    usual = tuple(map(tuple, json.loads(str(arrays.get("usual", "[]")))))
    return StoredCell(**texts, parts=parts, **rows, program=str(arrays["program"]), usual=usual)


MISSED = 0.5
"""Members that miss a larger share of the true foreground count as not learnt."""
KEYS = {"results": ["member", "selection", "split", "group"], "history": ["member", "epoch"]}
"""Columns that identify a row of each table."""


def read_cells(folder: Path, **tables: pd.DataFrame) -> Iterator[tuple[str, StoredCell]]:
    """Yields the cells of a run folder with their folder names, or their shards if these are not merged yet.

    Args:
        folder: the run folder.
        **tables: `results` and `history`, compared with the cells' own rows. Without tables the cells have no rows.

    Raises:
        DamagedError: a cell is damaged, a file belongs to another run, or members of `results` are in no cell.
    """
    results = tables.get("results", pd.DataFrame())
    # A truncated row has no status.
    missing = {*results["member"][~results["status"].isin([*LEFT_OUT, ""])]} if len(results) else set()
    expected = _expected_program(folder)
    for place in sorted(folder.glob("cells/*/")):
        path = place / "decomposition.npz"
        cells = {place.name: _read_cell(folder, path, expected, tables)} if path.exists() else {}
        for part in () if cells else sorted(place.glob("parts/*.npz")):
            # The sweep redoes a damaged part; until then its members are not done.
            with contextlib.suppress(DamagedError):
                cells[f"{place.name}/{part.stem}"] = _read_cell(folder, part, expected, tables)
        missing.difference_update(*(cell.members for cell in cells.values()))
        yield from cells.items()
    if missing:
        found = "found none; the run's command makes them again"
        raise DamagedError(f"{folder / 'cells'}: expected the decompositions of {listed(sorted(missing))}; {found}")


def _read_cell(folder: Path, path: Path, expected: str, tables: Mapping[str, pd.DataFrame]) -> StoredCell:
    cell = load_cell(path, tables=bool(tables))
    if cell.program and not cell.program.startswith(expected):
        raise DamagedError(f"{path}: expected a cell of the configuration in config.json; found one of another run")
    own = {"results": cell.rows, "history": cell.history}
    for name, table in tables.items():
        if len(table) and own[name]:
            _check_rows(folder / f"{name}.csv", table, to_frame(own[name]), cell=path)
    return cell


def _expected_program(folder: Path) -> str:
    """Returns the prefix of the program identities of a run, empty if its configuration cannot be read."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"{digest_of(json.loads((folder / 'config.json').read_bytes())['config'])}/"
    return ""


def _check_rows(path: Path, table: pd.DataFrame, own: pd.DataFrame, *, cell: Path) -> None:
    """Raises DamagedError if a cell's own rows differ from the table at `path`.

    Members that failed in the table or are missing from it are skipped, because their cell was written later.
    """
    keys = KEYS[path.stem]
    if not {*keys} <= {*table}:
        raise DamagedError(f"{path}: expected the columns {', '.join(keys)}; found {', '.join(map(str, table))}")
    done = kept_records(table) if "status" in table else table
    stored = done[done["member"].isin(own["member"])].set_index(keys).sort_index()
    own = own[own["member"].isin(done["member"])].set_index(keys).sort_index()
    same = stored.index.equals(own.index) and {*own} <= {*stored}
    if not same or not all(_same(stored[column], own[column]) for column in own):
        found = "others, of another run or version; the run's command writes it again"
        raise DamagedError(f"{path}: expected the rows of {cell}; found {found}")


def _same(first: pd.Series, second: pd.Series) -> bool:
    """Returns whether two columns agree: numbers up to the rounding of a table, strings exactly."""
    if pd.api.types.is_numeric_dtype(first) and pd.api.types.is_numeric_dtype(second):
        numbers = [column.to_numpy(np.float64) for column in (first, second)]
        return np.allclose(*numbers, rtol=1e-6, atol=1e-6, equal_nan=True)
    texts = [["" if value != value else str(value) for value in column.tolist()] for column in (first, second)]
    return texts[0] == texts[1]


def mark_unlearnt(rows: pd.DataFrame, cells: Mapping[str, StoredCell]) -> pd.DataFrame:
    """Returns rows of results.csv with status NOT_LEARNT for members that hardly find the object.

    These miss more than MISSED of the true foreground, or have a lower foreground IoU than predicting it everywhere.
    """
    reach: dict[str, float] = {}
    for cell in cells.values():
        truth = cell.parts["test"].confusion[0, 0].sum((0, 2), dtype=np.int64)
        reach |= dict.fromkeys(cell.members, float(truth[1:].sum() / max(1, truth.sum())))
    whole = kept_records(rows[(rows["split"] == "test") & (rows["group"] == "all")])
    lost = (whole["fg_miss"] > MISSED) | (whole["iou_foreground"] < whole["member"].map(reach).astype(np.float64))
    names = {*zip(whole["member"][lost], whole["selection"][lost], strict=True)}
    marked = [pair in names for pair in zip(rows["member"], rows["selection"], strict=True)]
    return rows.assign(status=rows["status"].mask(np.array(marked, bool), NOT_LEARNT))
