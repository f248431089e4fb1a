"""Compares two audits of the same images by paired differences, and checks limits on them.

`compare_audits` reads the counts that both audits stored (`flipjax.audit.comparison.stored`), takes the differences of
all numbers of their summaries and of each class (`flipjax.audit.comparison.changes`), tries the limits, and writes the
files. The intervals of rates and of their means over classes come from a formula (`_rate_intervals`), those of other
numbers from resamples (`_bootstrap_intervals`).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.audit.comparison.changes import Change, changes_table, find_changes
from flipjax.audit.comparison.report import make_document
from flipjax.audit.comparison.stored import ComparedAudits, read_compared
from flipjax.audit.page import folder as files
from flipjax.audit.statistics.limits import (
    FORMS_OF_COMPARISONS,
    Limit,
    LimitsByKey,
    check_limits,
    failures,
    limits_in_words,
    make_limits,
    with_numbers,
    write_junit,
)
from flipjax.audit.statistics.objects import SegmentCounts
from flipjax.metrics.decomposition import Ratio
from flipjax.metrics.images import Images
from flipjax.metrics.statistics.draws import draw_images, percentile_ends
from flipjax.metrics.statistics.paired import paired_difference, paired_mean_difference
from flipjax.metrics.summary.evaluate import mean_ratios_of, ratios_of, summary_of, values_of, with_group
from flipjax.page.document import Document, terminal_text, write_summary
from flipjax.support.files import make_folder, write_json, write_text
from flipjax.support.frames import DIGITS, write_csv

PROGRAM = "flipjax.audit.compare"
"""What compare.json says of its origin."""
FILES = {"compare.json", "compare.csv", "changes.csv", "index.html", "summary.md"}
"""All files of a comparison."""
SEED = 0
"""Seed of the resamples."""
Interval = tuple[float, float]
"""The ends of an interval."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Differences of two audits of the same images, new minus old."""

    table: pd.DataFrame
    """A row per quantity: `old`, `new`, `difference`, and `low` and `high` of its interval."""
    changes: Sequence[Change]
    """Flips and misses of each class, over all images and in each group."""
    findings: Sequence[str]
    """What got worse, what got better, and what the totals hide, in sentences."""
    text: str
    """The sentences and the main differences as text."""
    failed: list[str]
    """A line for each limit that failed."""


def mark_failed(folder: Path, error: str) -> None:
    """Replaces compare.json of an earlier comparison in the folder, so that no error leaves an old pass."""
    files.mark_failed(folder, error, name="compare.json", program=PROGRAM)


def compare_audits(
    old: Path,
    new: Path,
    *,
    out: Path,
    samples: int = 1000,
    fail_above: LimitsByKey | None = None,
    fail_below: LimitsByKey | None = None,
    junit: Path | None = None,
) -> Comparison:
    """Compares two audits of the same images and labels, and writes a page, compare.csv, compare.json and changes.csv.

    Intervals are over images, or over the new audit's clusters. Those of rates and of their means over classes have a
    closed form (`flipjax.metrics.statistics.paired.paired_difference`), [0, 0] where no image differs. Those of
    other quantities are 95% bootstrap intervals of paired differences, and missing where all resamples agree. Identical
    predictions differ by 0 [0, 0] in every number. Limits are on differences, by key of the summary or by `KEY:low` or
    `KEY:high`. A limit on an interval that is missing fails.

    Args:
        old: the folder of an audit.
        new: the folder of another one.
        out: a new folder, or the folder of an earlier comparison.
        samples: the number of resamples of other quantities than rates.
        fail_above: upper limits by key.
        fail_below: lower limits by key.
        junit: a file for the limits as JUnit test cases.

    Raises:
        AuditError: the folders hold no audits of the same images, or `out` cannot be used.
    """
    compared = read_compared(old, new)
    old_values = values_of_audit(compared.old, compared.old_segments)
    new_values = values_of_audit(compared.new, compared.new_segments)
    keys = comparable_keys(old_values, new_values)
    limits = make_limits(fail_above, fail_below)
    check_limits(limits, keys, forms=FORMS_OF_COMPARISONS)
    files.check_folder(out, FILES)

    intervals = _difference_intervals(compared, keys, samples=samples)
    table = pd.DataFrame(index=pd.Index(keys, name="quantity"))
    table["old"] = [float(old_values[key]) for key in keys]
    table["new"] = [float(new_values[key]) for key in keys]
    table["difference"] = table["new"] - table["old"]
    if compared.identical:
        # Also of numbers that neither audit has.
        table["difference"] = 0.0
    table["low"] = [intervals[key][0] for key in keys]
    table["high"] = [intervals[key][1] for key in keys]
    changes = find_changes(compared)
    tried = with_numbers(limits, dict(zip(keys, table["difference"].tolist(), strict=True)), intervals)
    unit = "the images"
    if compared.clusters is not None:
        unit = f"{len(np.unique(compared.clusters))} clusters"
    document = make_document(
        compared,
        changes,
        table,
        facts=[
            f"{len(compared.names)} images; differences are new less old, with 95% intervals over {unit}.",
            f"Old: {old}. New: {new}.",
        ],
        limits=limits_in_words(tried),
        options={"old": str(old), "new": str(new), "samples": samples},
    )

    make_folder(out)
    write_text(out / "compare.csv", table.to_csv(float_format="%.6g"))
    write_csv(out / "changes.csv", changes_table(changes).round(DIGITS))
    stored = {
        "program": PROGRAM,
        "old": str(old),
        "new": str(new),
        **_as_json(compared, table, changes, document, tried),
    }
    write_json(out / "compare.json", stored, ensure_ascii=False)
    write_summary(out, document)
    if files.draws_pages():
        from flipjax.page.html import write_page  # Imported here, because tables need no drawing packages.

        write_page(out, document)
    if junit:
        write_junit(junit, "flipjax audit --compare", tried)
    return Comparison(table, changes, document.lines, terminal_text(document), failures(tried))


def _as_json(
    compared: ComparedAudits,
    table: pd.DataFrame,
    changes: Sequence[Change],
    document: Document,
    limits: Sequence[Limit],
) -> dict[str, object]:
    """Returns the content of compare.json, after the program and the folders."""
    stored: dict[str, object] = {"images": len(compared.names)}
    if compared.clusters is not None:
        stored["clusters"] = len(np.unique(compared.clusters))
    stored["identical"] = compared.identical
    if limits:
        stored["passed"] = all(limit.passed for limit in limits)
    stored["findings"] = list(document.lines)
    stored["changes"] = _without_nan(changes_table(changes).round(DIGITS)).to_dict("records")
    stored["differences"] = _without_nan(table.round(DIGITS)).to_dict("index")
    stored["gates"] = [limit.as_json() for limit in limits]
    return stored


def _without_nan(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table whose undefined numbers are None, as JSON has no NaN."""
    return table.astype(object).where(table.notna(), None)


def values_of_audit(images: Images, segments: SegmentCounts | None) -> dict[str, float]:
    """Returns the numbers of an audit by key: those of the summary, and the rates of whole segments if they are stored.

    Lists, such as those of tenths of the images, are among them.
    """
    values = summary_of(images)
    for group in images.group_names:
        for key, ratio in _segment_ratios(images, segments, group).items():
            values[with_group(key, group)] = float(ratio.total().value)
    return values


def comparable_keys(old: Mapping[str, float], new: Mapping[str, float]) -> list[str]:
    """Returns the keys of the numbers of both audits that can differ: no lists, and no counts of images."""
    keys = []
    for key, value in new.items():
        if key in old and np.ndim(value) == 0 and "n_images" not in key:
            keys.append(key)
    return keys


def _segment_ratios(images: Images, segments: SegmentCounts | None, group: str) -> dict[str, Ratio]:
    """Returns what the rates of whole segments divide in each image of a group, by key; none if they are not stored."""
    if segments is None:
        return {}
    inside = images.in_group(group)
    ratios = segments.ratios(images.class_names, images.foreground.tolist())
    return {key: ratio.take(inside) for key, ratio in ratios.items()}


def _difference_intervals(compared: ComparedAudits, keys: Sequence[str], *, samples: int) -> dict[str, Interval]:
    """Returns the interval of each difference by key; NaN where it has none."""
    if compared.identical:
        return dict.fromkeys(keys, (0.0, 0.0))
    intervals: dict[str, Interval] = {}
    for group in compared.new.group_names:
        intervals.update(_rate_intervals(compared, group))
    other_keys = [key for key in keys if key not in intervals]
    if other_keys:
        intervals.update(_bootstrap_intervals(compared, other_keys, samples=samples))
    return intervals


def _rate_intervals(compared: ComparedAudits, group: str) -> dict[str, Interval]:
    """Returns the intervals of the differences of all rates and of their means over classes in a group, by key."""
    clusters = compared.clusters
    if clusters is not None:
        clusters = clusters[compared.new.in_group(group)]
    old = compared.old.of_group(group)
    new = compared.new.of_group(group)
    old_ratios = {**ratios_of(old), **_segment_ratios(compared.old, compared.old_segments, group)}
    new_ratios = {**ratios_of(new), **_segment_ratios(compared.new, compared.new_segments, group)}
    intervals = {}
    for key, ratio in new_ratios.items():
        if key in old_ratios:
            change = paired_difference(old_ratios[key], ratio, clusters=clusters)
            intervals[with_group(key, group)] = (change.low, change.high)
    old_means = mean_ratios_of(old)
    for key, ratio in mean_ratios_of(new).items():
        change = paired_mean_difference(old_means[key], ratio, clusters=clusters)
        intervals[with_group(key, group)] = (change.low, change.high)
    return intervals


def _bootstrap_intervals(compared: ComparedAudits, keys: Sequence[str], *, samples: int) -> dict[str, Interval]:
    """Returns percentile intervals of paired differences; NaN where all resamples agree, which says nothing."""
    generator = np.random.default_rng(SEED)
    counts = draw_images(generator, len(compared.new), samples=samples, clusters=compared.clusters)
    drawn_old = values_of(dataclasses.replace(compared.old, weights=counts), keys)
    drawn_new = values_of(dataclasses.replace(compared.new, weights=counts), keys)
    intervals = {}
    for key in keys:
        low, high = percentile_ends(drawn_new[key] - drawn_old[key]).tolist()
        if not low < high:
            low = math.nan
            high = math.nan
        intervals[key] = (low, high)
    return intervals
