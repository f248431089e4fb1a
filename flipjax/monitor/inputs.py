"""What a monitor reads: tables of scores, JSON lines as they come, predictions as files appear in a folder."""

import csv
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from flipjax.audit.arrays import ArrayReader, AuditError, Limits, StoredArray, read_headers
from flipjax.audit.read import Source, check_size, encoding_alone, open_source, read_scores
from flipjax.files import csv_rows
from flipjax.monitor.threshold import Reading

SCORES = ("score", "flip_risk")
LOSSES = ("loss", "flip")
"""What a column or a key may be called; the second is what an audit calls it."""
LONGEST = 1 << 20
"""Bytes of a line."""
SECONDS = 1.0
"""Between two looks at a folder."""

Complain = Callable[[str], None]


class Record(NamedTuple):
    """An image: its name, its score (NaN without region), and its loss (NaN where unknown)."""

    id: Any
    score: float
    loss: float = math.nan


def read_table(path: Path) -> list[Record]:
    """Reads scores from an npy file (n,), from a CSV file with a column of SCORES, or else from JSON lines.

    Raises:
        AuditError: another content; names the line.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise AuditError(f"{path}: expected a file of scores (.npy, .csv, or JSON lines), found none")
    if path.suffix.lower() == ".npy":
        stored = read_headers(path, limits=Limits())[""]
        if len(stored.shape) != 1 or stored.dtype.kind not in "fiu":
            raise AuditError(f"{path}: expected scores (n,), found {stored.dtype} of shape {stored.shape}")
        with ArrayReader() as reader:
            return [Record(index, score) for index, score in enumerate(reader.read(stored).astype(float).tolist())]
    if path.suffix.lower() != ".csv":
        with path.open("rb") as stream:
            return list(read_lines(stream, complain=lambda problem: _refuse(f"{path} {problem}")))
    with path.open(newline="", encoding="utf-8-sig") as stream:
        try:
            rows = list(csv_rows(stream))
        except (csv.Error, ValueError) as error:
            raise AuditError(f"{path}: {error}") from error
    return [_record_of(row, index, f"{path} line {number}") for index, (number, row) in enumerate(rows)]


def _record_of(row: Mapping[str, str], index: int, where: str) -> Record:
    try:
        return _record(row, row.get("name", index))
    except ValueError as error:
        raise AuditError(f"{where}: {error}") from error


def read_lines(stream: BinaryIO, *, complain: Complain) -> Iterator[Record]:
    """Yields the records of JSON lines as they come; a line that is none is named, by its number, and passed over."""
    number = 0
    while line := stream.readline(LONGEST):
        number += 1
        long = len(line) == LONGEST
        while long and line and not line.endswith(b"\n"):
            line = stream.readline(LONGEST)
        try:
            if long:
                raise ValueError(f"expected fewer than {LONGEST:,} bytes")
            if line.strip():
                record = _record(json.loads(line), number)
                # An id of NaN could be read, and not be written again.
                json.dumps(record.id, allow_nan=False)
                yield record
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            complain(f"line {number}: {error}")


def watch_folder(folder: Path, reading: Reading, *, once: bool, complain: Complain) -> Iterator[Record]:
    """Yields the images of npy and npz files as they appear in a folder, each file when it has stopped growing.

    Args:
        folder: files whose names begin with a dot are left alone.
        reading: how predictions are read.
        once: whether to end after the files that are there; else it has no end.
        complain: is told of files that cannot be used, which are passed over.
    """
    states: dict[Path, tuple[int, int] | None] = {}
    with ArrayReader() as reader:
        while True:
            for path in sorted(folder.glob("*.np[yz]")):
                if path.name.startswith(".") or states.get(path, ()) is None:
                    continue
                try:
                    before = states.get(path)
                    status = path.stat()
                    states[path] = status.st_size, status.st_mtime_ns
                    if once or states[path] == before:
                        states[path] = None
                        source = open_source(path, wanted=reading.kind, rank=3, reader=reader, limits=Limits())
                        yield from read_predictions(source, reading, reader)
                except (AuditError, OSError) as error:
                    complain(str(error))
            if once:
                return
            time.sleep(SECONDS)


def find_reading(source: Source, *, kind: str, channels: str | None, background: int) -> Reading:
    """Returns how predictions are read, from the first of them; AuditError where that cannot be told."""
    encoding = encoding_alone(source.images[0], kind=kind, channels=channels, background=background)
    if not 0 <= background < encoding.classes:
        raise AuditError(f"--background: expected a class in 0..{encoding.classes - 1}, found {background}")
    return Reading(kind, encoding.channels, encoding.classes, background)


def read_predictions(source: Source, reading: Reading, reader: ArrayReader) -> Iterator[Record]:
    """Yields the flip-risk of each image of a source, named by its file and its place there.

    Raises:
        AuditError: as an audit does; classes or axes that are not those of the `reading`.
    """
    names = source.names or tuple(f"{source.path.stem}:{row}" for row in range(len(source.images)))
    for name, array in zip(names, source.images, strict=True):
        yield Record(name, _score(array, reading, reader))


def _score(array: StoredArray, reading: Reading, reader: ArrayReader) -> float:
    # Scores that come as numbers need no JAX.
    from flipjax.metrics import flip_risk

    options = {"kind": reading.kind, "background": reading.background}
    encoding = encoding_alone(array, channels=reading.channels, **options)
    if encoding.classes != reading.classes:
        where = f"on the {encoding.channels} axis of shape {array.shape}"
        raise AuditError(f"{array}: expected {reading.classes} classes {where}, found {encoding.classes}")
    check_size(array, encoding.classes, Limits())
    scores = read_scores(reader, array, encoding)
    try:
        return float(flip_risk(scores, **options))
    except ValueError as error:
        raise AuditError(f"{array}: {error}") from error


def _record(values: Any, number: Any) -> Record:
    if not isinstance(values, Mapping):
        raise ValueError(f"expected an object with id and score, found {type(values).__name__}")
    scores = [values[name] for name in SCORES if name in values]
    if not scores:
        raise ValueError(f"expected {' or '.join(SCORES)}, found {', '.join(map(str, values))}")
    losses = [values[name] for name in LOSSES if name in values]
    return Record(values.get("id", number), *map(_number, (*scores[:1], *losses[:1])))


def _number(value: Any) -> float:
    if value is None or value == "":
        return math.nan
    number = math.inf if isinstance(value, bool) else float(value)
    if math.isinf(number):
        raise ValueError(f"expected a number, or null for an image without region, found {value}")
    return number


def _refuse(problem: str) -> None:
    raise AuditError(problem)
