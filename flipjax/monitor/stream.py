"""Fits a monitor to scores from a CSV or JSON lines, and watches a stream of scores."""

import csv
import dataclasses
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from flipjax import monitor as monitors
from flipjax.config import ConfigError
from flipjax.monitor import Monitor, Verdict
from flipjax.support.files import DamagedError, csv_rows
from flipjax.support.terminal import printable, say

SCORES = ("score", "flip_risk")
LOSSES = ("loss", "flip")
"""Accepted names of each column or key; the second is the one that audits use."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
LONGEST = 1 << 20
"""Lines must be shorter, in bytes."""
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Flag rates of the table of `fit_monitor`."""
RISES = (0.5, 1.0, 2.0)
"""Rises of the scores, in standard deviations, for which `fit` reports the alarm delay."""


class ScoredImage(NamedTuple):
    """An image or region: the fields of its line with an id, score (NaN without foreground) and loss (NaN: unknown)."""

    values: dict[str, Any]
    score: float
    loss: float


def fit_monitor(
    scores: str, *, out: Path, flag_rate: float | None = None, risk: float | None = None, false_alarm: float = 0.01
) -> str:
    """Fits a monitor to a CSV or JSON lines, writes it and returns a summary.

    Args:
        scores: a CSV, or `-` for JSON lines on standard input.
        out: a new file, or a monitor to replace.
        flag_rate: as in `fit`.
        risk: as in `fit`; needs losses.
        false_alarm: as in `fit`.

    Raises:
        ConfigError: an option that cannot be used, a line that cannot be read, or `out` that is no monitor.
    """
    if os.path.lexists(out):
        try:
            monitors.load_monitor(out)
        except (DamagedError, OSError) as error:
            raise ConfigError("--out", "a new file, or a monitor to replace", out) from error
    images = list(read_lines(_stdin(), complain=_refuse) if scores == "-" else read_table(Path(scores)))
    values, losses = (np.array([getattr(image, name) for image in images]) for name in ("score", "loss"))
    if risk is not None and np.isnan(losses).all():
        raise ConfigError("--risk", f"scores with losses: a column or key {' or '.join(LOSSES)}")
    try:
        monitor = monitors.fit(values, losses=losses, flag_rate=flag_rate, risk=risk, false_alarm=false_alarm)
    except ValueError as error:
        name, _, problem = str(error).partition(": ")
        raise ConfigError(f"--{name}", problem=problem) from error
    monitors.save_monitor(monitor, out)
    return "\n".join([f"Wrote {out}.", *_summary(monitor, values, losses, risk)])


def _summary(monitor: Monitor, scores: np.ndarray, losses: np.ndarray, risk: float | None) -> list[str]:
    """Returns the summary of a fit: thresholds, bounds, the treatment of empty images and the alarm delay."""
    from flipjax.results.text import TextTable, to_text  # Imported here because `watch` does not need pandas.

    n, rows = len(monitor.scores), []
    others = {f"{rate:g}": monitors.fit(monitor.scores, flag_rate=rate) for rate in RATES if rate * (n + 1) >= 1}
    for name, other in {"fitted": monitor, **others}.items():
        own = dataclasses.replace(monitor, threshold=other.threshold)
        found = monitors.detection(own, scores, losses)
        shown = ["-" if math.isnan(each[0]) else "{:.2f} [{:.2f}, {:.2f}]".format(*each) for each in found]
        rows.append([name, f"{own.threshold:.6g}", *shown])
    table = to_text(TextTable(["flag_rate", "threshold", "flagged", "precision", "recall"], rows))
    lines = ["", table.rstrip(), "", "On the reference images, with 95% intervals (Wilson)."]
    keys = " or ".join(LOSSES)
    lines.append(f"Precision and recall are of errors (loss above {monitors.ERROR}) and need a key {keys}.")
    if risk is not None:
        lines.append(f"--risk {risk:g} bounds the mean loss of the unflagged reference images, not that of new images.")
    verb = "are" if monitor.flags_empty else f"(over {monitors.RARE:.0%}) are not"
    lines.append(f"Images without predicted foreground {verb} flagged; in the drift test they rank above all scores.")
    delays = {rise: monitors.alarm_delay(monitor, monitor.scores + rise * monitor.scores.std()) for rise in RISES}
    waits = ", ".join(f"{rise:g}: {delay:.0f}" for rise, delay in delays.items())
    text = f"by the rise of scores in standard deviations (inf: more than {monitors.LONGEST_DELAY})"
    return [*lines, f"Median images until the drift alarm, {text}: {waits}."]


def watch_stream(path: Path) -> int:
    """Flags the images of standard input, prints a JSON line for each, and returns how many lines cannot be read.

    Args:
        path: a monitor.

    Raises:
        ConfigError: no standard input.
        DamagedError: no monitor.
    """
    monitor = monitors.load_monitor(path)
    counts = dict.fromkeys(("images", "flagged", "without foreground", "unreadable"), 0)
    alarm = ""

    def report(text: str) -> None:
        say(printable(f"flipjax monitor: {text}"))

    def complain(problem: str) -> None:
        counts["unreadable"] += 1
        report(problem)

    images, twins = itertools.tee(read_lines(_stdin(), complain=complain))
    verdicts = monitors.watch(monitor, (image.score for image in twins))
    try:
        for image, verdict in zip(images, verdicts, strict=False):
            counts["images"] += 1
            counts["flagged"] += verdict.flagged
            counts["without foreground"] += math.isnan(verdict.score)
            if verdict.alarm and not alarm:
                alarm = f"drift alarm at image {counts['images']} ({image.values['id']})"
                report(alarm)
            print(_line(image, verdict), flush=True)
    finally:
        report(f"{', '.join(f'{count} {name}' for name, count in counts.items())}; {alarm or 'no drift alarm'}")
    return counts["unreadable"]


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        raise ConfigError("standard input", "JSON lines", "it closed")
    return sys.stdin.buffer


def read_table(path: Path) -> list[ScoredImage]:
    """Reads scores from a CSV with a column of SCORES; an empty field is an image without predicted foreground.

    Raises:
        ConfigError: the file is not such a CSV; the message names the line.
        OSError: the file cannot be read.
    """
    number, images = 1, []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            for number, row in csv_rows(stream):
                images.append(_scored(_parsed(row), number))
    except (csv.Error, ValueError) as error:
        raise ConfigError("--scores", problem=f"{path} line {number}: {error}") from error
    return images


def read_lines(stream: BinaryIO, *, complain: Callable[[str], None]) -> Iterator[ScoredImage]:
    """Yields the image of each JSON line; reports unreadable lines by number to `complain`."""
    for number, line in enumerate(_cut_lines(stream), start=1):
        try:
            if len(line) == LONGEST:
                raise ValueError(f"expected fewer than {LONGEST:,} bytes")
            if line.strip():
                values = json.loads(line, object_pairs_hook=_once, parse_constant=_no_number)
                yield _scored(values, number)
        except (ValueError, RecursionError) as error:
            complain(f"line {number}: {error}")


def _cut_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yields the first LONGEST bytes of each line, so that an endless line cannot fill the memory."""
    while line := stream.readline(LONGEST):
        part = line
        while len(part) == LONGEST and not part.endswith(b"\n"):
            part = stream.readline(LONGEST)
        yield line


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"expected every key once, found {', '.join(name for name, _ in pairs)}")
    return values


def _no_number(text: str) -> Any:
    raise ValueError(f"expected a number, or null without predicted foreground, found {text}")


def _parsed(row: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields of a row: numbers, None for an empty one, or text."""
    fields = {name: text.strip() for name, text in row.items()}
    return {name: float(text) if NUMBER.fullmatch(text) else text or None for name, text in fields.items()}


def _scored(values: Any, number: int) -> ScoredImage:
    if not isinstance(values, Mapping):
        raise ValueError(f"expected an object with id and score, found {type(values).__name__}")
    score, loss = (next((name for name in names if name in values), "") for names in (SCORES, LOSSES))
    if not score:
        raise ValueError(f"expected {' or '.join(SCORES)}, found {', '.join(map(str, values))}")
    return ScoredImage({"id": number, **values}, _number(values[score]), _number(values.get(loss)))


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if type(value) not in (int, float) or abs(value) > sys.float_info.max:
        _no_number(str(value)[:40])
    return float(value)


def _line(image: ScoredImage, verdict: Verdict) -> str:
    score = None if math.isnan(verdict.score) else verdict.score
    drift = {name: float(f"{getattr(verdict, name):.6g}") for name in ("evidence", "p_value")}
    verdicts = {"score": score, "flagged": verdict.flagged, "drift": drift | {"alarm": verdict.alarm}}
    return json.dumps(image.values | verdicts)


def _refuse(problem: str) -> None:
    raise ConfigError("standard input", problem=problem)
