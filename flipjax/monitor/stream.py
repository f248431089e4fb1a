"""Fits a monitor to scores from a CSV or JSON lines, and watches a stream of scores."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flipjax.config import ConfigError
from flipjax.monitor.drift import LONGEST_DELAY, DriftTest, Verdict, alarm_delay, judge
from flipjax.monitor.files import load_monitor, save_monitor
from flipjax.monitor.history import open_state
from flipjax.monitor.lines import LOSSES, ScoredImage, check_stdin, read_lines, read_table
from flipjax.monitor.threshold import ERROR_LOSS, RARELY_EMPTY, Monitor, detection, fit
from flipjax.support.files import DamagedError
from flipjax.support.terminal import printable, say

RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Flag rates of the table of `fit_monitor`."""
RISES = (0.5, 1.0, 2.0)
"""Rises of the scores, in standard deviations, for which `fit` reports the alarm delay."""
BEFORE = (0, 100, 1000)
"""Normal images that come before the rise."""


def fit_monitor(
    scores: str,
    *,
    out: Path,
    flag_rate: float | None = None,
    risk: float | None = None,
    false_alarm: float = 0.01,
    clusters: str | None = None,
) -> str:
    """Fits a monitor to a CSV or JSON lines, writes it and returns a summary.

    Args:
        scores: a CSV, or `-` for JSON lines on standard input.
        out: a new file, or a monitor to replace.
        flag_rate: as in `fit`.
        risk: as in `fit`; needs losses.
        false_alarm: as in `fit`.
        clusters: the column or key that names an image's patient, film or other unit of similar images.

    Raises:
        ConfigError: an option that cannot be used, a line that cannot be read, or `out` that is no monitor.
    """
    if os.path.lexists(out):
        try:
            load_monitor(out)
        except (DamagedError, OSError) as error:
            raise ConfigError("--out", "a new file, or a monitor to replace", out) from error
    if scores == "-":
        images = list(read_lines(check_stdin(), complain=_refuse))
    else:
        images = read_table(Path(scores))
    values = np.array([image.score for image in images])
    losses = np.array([image.loss for image in images])
    if risk is not None and np.isnan(losses).all():
        raise ConfigError("--risk", f"scores with losses: a column or key {' or '.join(LOSSES)}")
    cluster_names = None
    if clusters is not None:
        cluster_names = _clusters_of(images, clusters)
    try:
        monitor = fit(
            values,
            losses=losses,
            flag_rate=flag_rate,
            risk=risk,
            false_alarm=false_alarm,
            clusters=cluster_names,
            cluster_key=clusters or "",
        )
    except ValueError as error:
        name, _, problem = str(error).partition(": ")
        raise ConfigError(f"--{name}", problem=problem) from error
    save_monitor(monitor, out)
    return "\n".join([f"Wrote {out}.", *_summary(monitor, values, losses, risk)])


def _clusters_of(images: Sequence[ScoredImage], key: str) -> list[str]:
    """Returns the cluster of each image."""
    try:
        return [image.cluster(key) for image in images]
    except ValueError as error:
        raise ConfigError("--clusters", problem=str(error)) from error


def _summary(monitor: Monitor, scores: np.ndarray, losses: np.ndarray, risk: float | None) -> list[str]:
    """Returns the summary of a fit: thresholds, bounds, the treatment of empty images and the alarm delay."""
    from flipjax.page.tables import TextTable, to_text

    header = ["flag_rate", "threshold", "flagged", "precision", "recall"]
    lines = ["", to_text(TextTable(header, _threshold_rows(monitor, scores, losses))).rstrip(), ""]
    lines.append("On the reference images, with 95% intervals (Wilson).")
    keys = " or ".join(LOSSES)
    lines.append(f"Precision and recall are of errors (loss above {ERROR_LOSS}) and need a key {keys}.")
    if risk is not None:
        lines.append(f"--risk {risk:g} bounds the mean loss of the unflagged reference images, not that of new images.")
    verb = "are"
    if not monitor.flags_empty:
        verb = f"(over {RARELY_EMPTY:.0%}) are not"
    lines.append(f"Images without predicted foreground {verb} flagged; in the drift test they rank above all scores.")
    ranked = "images"
    if monitor.cluster_key:
        ranked = f"clusters ({monitor.cluster_key})"
    delays = TextTable(["rise", *(f"after {before:,}" for before in BEFORE)], _delay_rows(monitor))
    return [
        *lines,
        "",
        f"Median {ranked} until the drift alarm (inf: more than {LONGEST_DELAY}), by the rise of their scores in",
        "standard deviations and by the normal ones that came before it:",
        "",
        to_text(delays).rstrip(),
    ]


def _threshold_rows(monitor: Monitor, scores: np.ndarray, losses: np.ndarray) -> list[list[str]]:
    """Returns a row for the fitted threshold and for each flag rate that the reference can tell."""
    n = int((~np.isnan(scores)).sum())
    thresholds = {"fitted": monitor.threshold}
    for rate in RATES:
        if rate * (n + 1) >= 1:
            thresholds[f"{rate:g}"] = fit(scores, flag_rate=rate).threshold
    rows = []
    for name, threshold in thresholds.items():
        fractions = detection(dataclasses.replace(monitor, threshold=threshold), scores, losses)
        rows.append([name, f"{threshold:.6g}", *(fraction.text(".2f") for fraction in fractions)])
    return rows


def _delay_rows(monitor: Monitor) -> list[list[str]]:
    """Returns the delay of the alarm for each rise, after so many normal images."""
    rows = []
    for rise in RISES:
        risen = monitor.scores + rise * monitor.scores.std()
        rows.append([f"{rise:g}", *(f"{alarm_delay(monitor, risen, before=before):.0f}" for before in BEFORE)])
    return rows


@dataclasses.dataclass
class Counts:
    """What came of a stream so far."""

    images: int = 0
    """Images."""
    flagged: int = 0
    """How many of the images were flagged."""
    empty: int = 0
    """How many of the images have no predicted foreground."""
    unreadable: int = 0
    """Lines that could not be read."""
    alarm: str = ""
    """Where the drift alarm was raised; '' without one."""

    def add(self, verdict: Verdict) -> None:
        """Counts an image."""
        self.images += 1
        self.flagged += verdict.flagged
        self.empty += math.isnan(verdict.score)

    def __str__(self) -> str:
        """Returns the counts in words."""
        numbers = f"{self.images} images, {self.flagged} flagged, {self.empty} without foreground"
        return f"{numbers}, {self.unreadable} unreadable; {self.alarm or 'no drift alarm'}"


def watch_stream(path: Path, *, history: Path | None = None) -> int:
    """Flags the images of standard input, prints a JSON line for each, and returns how many lines cannot be read.

    Args:
        path: a monitor.
        history: a file that keeps the scores of the stream, with which a restart goes on where it ended; None begins a
            new stream, with its own budget of false alarms.

    Raises:
        ConfigError: no standard input.
        DamagedError: no monitor, or the history of another one.
    """
    monitor = load_monitor(path)
    test = DriftTest(monitor)
    state = None
    if history is not None:
        state = open_state(history, monitor)
        for seen in state.images:
            test.add(seen.score, seen.cluster)
        alarm = ""
        if test.alarm:
            alarm = ", with an alarm"
        _report(f"{history}: goes on after {len(state.images)} images{alarm}")
    counts = Counts()

    def complain(problem: str) -> None:
        counts.unreadable += 1
        _report(problem)

    try:
        for number, image in enumerate(read_lines(check_stdin(), complain=complain), 1):
            cluster = None
            try:
                if monitor.cluster_key:
                    cluster = image.cluster(monitor.cluster_key)
            except ValueError as error:
                complain(f"image {number}: {error}")
                continue
            if state is not None and not test.alarm:
                # After the alarm nothing changes.
                state.add(image.score, cluster)
            verdict = judge(monitor, test, image.score, cluster)
            counts.add(verdict)
            if verdict.alarm and not counts.alarm:
                counts.alarm = f"drift alarm at image {counts.images} ({image.values['id']})"
                _report(counts.alarm)
            print(_line(image, verdict), flush=True)
    finally:
        # Also if a signal ends the stream.
        _report(str(counts))
    return counts.unreadable


def _report(text: str) -> None:
    """Prints a line on standard error, since standard output has the answers."""
    say(printable(f"flipjax monitor: {text}"))


def _line(image: ScoredImage, verdict: Verdict) -> str:
    """Returns the line of an image that is written."""
    drift = {
        "evidence": float(f"{verdict.evidence:.6g}"),
        "p_value": float(f"{verdict.p_value:.6g}"),
        "alarm": verdict.alarm,
    }
    # JSON has no NaN.
    score = None
    if not math.isnan(verdict.score):
        score = verdict.score
    return json.dumps({**image.values, "score": score, "flagged": verdict.flagged, "drift": drift})


def _refuse(problem: str) -> None:
    raise ConfigError("standard input", problem=problem)
