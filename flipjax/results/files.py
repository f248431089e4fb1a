"""The files of results: CSV tables and the decompositions of a cell, written atomically and the same byte for byte."""

import contextlib
import csv
import functools
import hashlib
import importlib
import io
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flipjax.files import DamagedError, csv_rows, read_arrays, replacing, write_arrays
from flipjax.metrics.decomposition import Decomposition
from flipjax.results.scene_swap import SceneSwap, scene_swap

Row = dict[str, Any]

PARTS = ("val", "test")
TEXTS = ("members", "selections", "class_names", "scene_names")
OPTIONAL: dict[str, Any] = {
    "scene_log_odds": np.float32,
    "scene_shares": np.float32,
    "centers": np.float32,
    "scores": np.float32,
    "masks": np.uint8,
    "refit": np.bool_,
}
TABLES = ("rows", "history")
DIGESTS = "results.sha256"
NAMES = ("member", "split", "group", "status", "selection", "values", "interval")
FORMULA = ("=", "+", "-", "@")
"""What a text begins with that a spreadsheet takes for a formula; an apostrophe before it makes it a text again."""


@dataclass(frozen=True)
class Part:
    """One split of a cell, for S selection rules, K members, n images and C classes.

    confusion int32 (S, K, n, C, C) and risk_sum float32 (S, K, n) as in `Decomposition`; groups int32 (n,), 2 * class +
    scene; pairs int32 (n,), the counterfactual pair or -1; rows int32 (n, 2), the pool's object and scene. Where scenes
    were swapped, scene_log_odds float32 (R, K, n, kinds, C - 1) of the first R rules, as a sweep writes it of the first
    alone, scene_shares float32 (D,), the weight of each of the D passes of a kind (None: one), and centers float32 (R,
    K, C - 1), as in `flipjax.intervene`: risk and repaired counts follow from them and `confusion`. Of the first rule
    alone: scores float32 (K, n, J), those of `StoredCell.score_names`, and masks uint8 (K, n, planes, bytes), the
    predicted classes as packed bits. refit bool (n,), the images on which DFR fitted heads.
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
    """The decompositions of one cell: all members of one static experiment, on the parts `val` and `test`.

    `rows` and `history` are the members' rows of results.csv and history.csv; `score_names` those of `Part.scores`;
    `program` is the identity of the program that they are of, as `flipjax.plan` makes it.
    """

    members: tuple[str, ...]
    selections: tuple[str, ...]
    class_names: tuple[str, ...]
    scene_names: tuple[str, ...]
    parts: Mapping[str, Part]
    rows: tuple[Row, ...] = ()
    history: tuple[Row, ...] = ()
    score_names: tuple[str, ...] = ()
    program: str = ""

    def decomposition(self, member: str, part: str, *, selection: str | None = None) -> Decomposition:
        """Returns the decomposition of a member on a split by a selection rule, the first by default, as a pytree.

        Its leaves are numpy, with one leading image axis. A KeyError names the valid choices.
        """
        # Loads JAX, and makes the class a pytree.
        importlib.import_module("flipjax.metrics.kernels")
        return self.counts(member, part, selection=selection)

    def counts(self, member: str, part: str, *, selection: str | None = None) -> Decomposition:
        """Returns what `decomposition` does, without JAX."""
        place = self._place(member, selection)
        return Decomposition(self.parts[part].confusion[place], self.parts[part].risk_sum[place])

    def scene_swap(self, member: str, part: str, *, selection: str | None = None) -> SceneSwap | None:
        """Returns a member's scene-swap risk and repaired counts, or None where no scenes were swapped."""
        log_odds = self.scene_log_odds(member, part, selection=selection)
        center = self.center(member, selection=selection)
        if log_odds is None or center is None:
            return None
        return scene_swap(self.counts(member, part, selection=selection), log_odds, center)

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
        selection = self.selections[0] if selection is None else selection
        if selection not in self.selections:
            raise KeyError(f"selection: expected one of {', '.join(self.selections)}; found {selection!r}")
        if member not in self.places:
            raise KeyError(f"member: expected one of {', '.join(self.members)}; found {member!r}")
        return self.selections.index(selection), self.places[member]

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """The place of each member by its name."""
        return {member: place for place, member in enumerate(self.members)}


def save_cell(path: str | Path, cell: StoredCell) -> None:
    """Writes `decomposition.npz`, with a digest."""
    arrays: dict[str, np.ndarray] = {field: np.array(getattr(cell, field), np.str_) for field in TEXTS}
    for name, part in cell.parts.items():
        arrays[f"{name}_risk_sum"] = np.asarray(part.risk_sum, np.float32)
        for field in ("confusion", "groups", "pairs", "rows"):
            arrays[f"{name}_{field}"] = np.asarray(getattr(part, field), np.int32)
        for field, dtype in OPTIONAL.items():
            if getattr(part, field) is not None:
                arrays[f"{name}_{field}"] = np.asarray(getattr(part, field), dtype)
    if cell.score_names:
        arrays["score_names"] = np.array(cell.score_names, np.str_)
    if cell.program:
        arrays["program"] = np.array(cell.program, np.str_)
    for name in TABLES:
        # Row by row: copies of them all would be the most that a large grid takes.
        text = ", ".join(json.dumps(_plain(row)) for row in getattr(cell, name))
        arrays[name] = np.frombuffer(f"[{text}]".encode(), np.uint8)
    write_arrays(path, arrays)


def _plain(row: Row) -> Row:
    """Returns the row as JSON can hold it: finite numbers, and for all else the text that a table has of it."""
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
    numbers = {name: value for name, value in values.items() if isinstance(value, int | float) and math.isfinite(value)}
    return {name: numbers.get(name, _text(value)) for name, value in values.items()}


def load_cell(path: str | Path, *, tables: bool = True) -> StoredCell:
    """Reads what `save_cell` wrote, without `tables` no rows; a DamagedError names the file where it is not that."""
    arrays = read_arrays(path)
    fields = [field for field in Part.__dataclass_fields__ if field not in OPTIONAL]
    expected = [*TEXTS, *TABLES, *(f"{part}_{field}" for part in PARTS for field in fields)]
    missing = [name for name in expected if name not in arrays]
    if missing:
        raise DamagedError(f"{path}: expected the arrays of a decomposition.npz; it lacks {', '.join(missing)}")
    parts = {part: Part(**{f: arrays.get(f"{part}_{f}") for f in Part.__dataclass_fields__}) for part in PARTS}  # type: ignore[arg-type]
    rows = {name: tuple(json.loads(arrays[name].tobytes())) for name in TABLES if tables}
    texts = {field: tuple(arrays[field].tolist()) for field in (*TEXTS, "score_names") if field in arrays}
    return StoredCell(**texts, parts=parts, **rows, program=str(arrays.get("program", "")))


def _text(cell: Any) -> str:
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, float):
        return repr(cell) if math.isfinite(cell) else ""
    text = str(cell)
    formula = isinstance(cell, str) and text[1:] and text[0] in FORMULA and not _is_number(text)
    return f"'{text}" if formula else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _cell(column: str, text: str) -> Any:
    # Only text that a number writes back unchanged is read as one, so that a value such as "007" stays as it is.
    for kind in () if column in NAMES else (int, float):
        with contextlib.suppress(ValueError):
            value = kind(text)
            if math.isfinite(value) and repr(value) == text:
                return value
    return text


def _columns(rows: list[Row]) -> list[str]:
    columns = list(rows[0])
    for names in dict.fromkeys(tuple(row) for row in rows):
        for before, name in itertools.pairwise(names):
            if name not in columns:
                columns.insert(columns.index(before) + 1, name)
    return columns


def write_csv(path: str | Path, rows: Iterable[Row]) -> None:
    """Writes rows as UTF-8 CSV; no rows leave no file: an earlier one is removed.

    A column that only some rows have comes after the one it follows there, and is blank elsewhere.
    """
    data = _encoded(list(rows))
    if not data:
        Path(path).unlink(missing_ok=True)
        return
    with replacing(path) as stream:
        stream.write(data)


def write_results(folder: Path, rows: Iterable[Row]) -> None:
    """Writes results.csv, and beside it its SHA-256 as `sha256sum` writes it, with which `read_csv` compares it."""
    data = _encoded(list(rows))
    before = folder / "results.csv"
    # Whenever this is cut short, the file there is one that the digests name.
    digests = [_digest(data), *([_digest(before.read_bytes())] if before.is_file() else [])]
    for path, text in (
        (folder / DIGESTS, _listing(digests)),
        (folder / "results.csv", data),
        (folder / DIGESTS, _listing(digests[:1])),
    ):
        with replacing(path) as stream:
            stream.write(text)


def _listing(digests: Iterable[str]) -> bytes:
    return "".join(f"{digest}  results.csv\n" for digest in digests).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _encoded(rows: list[Row]) -> bytes:
    if not rows:
        return b""
    text = io.StringIO()
    writer = csv.DictWriter(text, _columns(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(cell) for name, cell in row.items()} for row in rows)
    return text.getvalue().encode()


def read_csv(path: str | Path) -> list[Row]:
    """Reads a table that `write_csv` or `write_results` wrote: numbers come back as int or float, blanks as empty text.

    Raises:
      DamagedError: a results.csv that is not what was written.
      csv.Error, ValueError: no such table.
    """
    path = Path(path)
    data = path.read_bytes()
    listing = path.parent / DIGESTS
    if path.name == "results.csv" and listing.is_file() and _digest(data) not in listing.read_text(errors="replace"):
        raise DamagedError(f"{path}: not as the sweep wrote it; its command writes it again, or delete {DIGESTS}")
    rows = csv_rows(io.StringIO(data.decode(), newline=""))
    return [{name: _cell(name, cell) for name, cell in row.items()} for _, row in rows]
