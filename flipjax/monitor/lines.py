"""Reads scores from a CSV or from JSON lines."""

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn

from flipjax.config import ConfigError
from flipjax.support import tables

SCORES = ("score", "flip_risk")
"""Accepted names of the column or key of scores; the second is the one that audits use."""
LOSSES = ("loss", "flip")
"""Accepted names of the column or key of losses, likewise."""
SHOWN_CHARACTERS = 40
"""Characters of an unreadable value that a message shows, at most."""


@dataclasses.dataclass(frozen=True)
class ScoredImage:
    """An image or region of a line."""

    values: Mapping[str, object]
    """The fields of the line, with an id."""
    score: float
    """NaN without foreground."""
    loss: float
    """NaN if unknown."""

    def cluster(self, key: str) -> str:
        """Returns the name of its cluster.

        Raises:
            ValueError: the line has none.
        """
        name = self.values.get(key)
        if name is None or name == "":
            raise ValueError(f"expected {key}, which names the image's cluster, found {', '.join(self.values)}")
        return str(name)


def check_stdin() -> BinaryIO:
    """Returns standard input as bytes.

    Raises:
        ConfigError: it is closed.
    """
    if sys.stdin is None:
        raise ConfigError("standard input", "JSON lines", "it closed")
    return sys.stdin.buffer


def read_table(path: Path) -> list[ScoredImage]:
    """Reads scores from a CSV with a column of SCORES; an empty field is an image without predicted foreground.

    All other cells stay text, so that the patient 007 is not the patient 7.

    Raises:
        ConfigError: the file is not such a CSV; the message names the line.
        OSError: the file cannot be read.
    """
    try:
        table = tables.read_table(path).renamed((*SCORES, *LOSSES))
        score_column = _first_of(SCORES, table.columns)
        if not score_column:
            raise tables.TableError(f"line 1: expected {' or '.join(SCORES)}, found {', '.join(table.columns)}")
        scores = table.numbers(score_column)
        losses: list[float | None] = [None] * len(scores)
        loss_column = _first_of(LOSSES, table.columns)
        if loss_column:
            losses = table.numbers(loss_column)
    except tables.TableError as error:
        raise ConfigError("--scores", problem=f"{path}: {error}") from error
    images = []
    for row, score, loss in zip(table.rows, scores, losses, strict=True):
        images.append(ScoredImage({"id": row.line, **row.cells}, _number(score), _number(loss)))
    return images


def read_lines(stream: BinaryIO, *, complain: Callable[[str], None]) -> Iterator[ScoredImage]:
    """Yields the image of each JSON line; reports unreadable lines by number to `complain`."""
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line, parse_constant=_refuse_number)
            yield _scored(values, number)
        except (ValueError, RecursionError) as error:
            complain(f"line {number}: {error}")


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"expected a number, or null without predicted foreground, found {text}")


def _scored(values: object, number: int) -> ScoredImage:
    """Returns the image of a line with its score and its loss, if it has one.

    Args:
        values: what the line holds, which should be a JSON object.
        number: of the line, from 1; the image's id if the line has none.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"expected an object with id and score, found {type(values).__name__}")
    score_key = _first_of(SCORES, values)
    if not score_key:
        raise ValueError(f"expected {' or '.join(SCORES)}, found {', '.join(map(str, values))}")
    loss_key = _first_of(LOSSES, values)
    return ScoredImage({"id": number, **values}, _number(values[score_key]), _number(values.get(loss_key)))


def _first_of(names: Sequence[str], values: Container[str]) -> str:
    """Returns the first of some names that a line has, or ''."""
    for name in names:
        if name in values:
            return name
    return ""


def _number(value: object) -> float:
    """Returns a number, NaN for None; raises ValueError for anything else."""
    if value is None:
        return math.nan
    # A bool is no number here.
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > sys.float_info.max:
        _refuse_number(str(value)[:SHOWN_CHARACTERS])
    return float(value)
