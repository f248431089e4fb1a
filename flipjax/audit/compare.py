"""Compares two audits of the same images by paired differences, and checks gates (limits on results).

`compare_audits` reads the counts that both audits stored, checks that they are of the same images and labels, takes the
differences of all numbers of their summaries (`Values`) and of each class (`flipjax.audit.changes`), tries the gates,
and writes the files. The intervals of rates and of mean IoU come from a formula (`_rate_intervals`), those of other
numbers from resamples (`_bootstrap_intervals`).
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.audit import files
from flipjax.audit.changes import Change, ComparedAudits, changes_table, find_changes, make_document
from flipjax.audit.gates import (
    FORMS_OF_COMPARISONS,
    Limits,
    check_gates,
    failures,
    limits_in_words,
    make_gates,
    try_gates,
    write_junit,
)
from flipjax.audit.measurements import weigh_pixels
from flipjax.audit.objects import SegmentCounts
from flipjax.audit.problems import AuditError, naming
from flipjax.config.groups import NamedGroups
from flipjax.metrics import Decomposition
from flipjax.metrics.classes import Background
from flipjax.metrics.decomposition import Ratio, read_leaves
from flipjax.metrics.evaluate import ratios_of, summary_of, values_of, with_group
from flipjax.metrics.images import Images, read_images
from flipjax.metrics.intervals import paired_difference, paired_mean_difference
from flipjax.metrics.resampling import draw_images, percentile_ends
from flipjax.report.document import terminal_text, write_summary
from flipjax.results.frames import DIGITS, write_csv
from flipjax.support.files import make_folder, read_json, write_text
from flipjax.support.terminal import listed

PROGRAM = "flipjax.audit.compare"
"""What compare.json says of its origin."""
FILES = {"compare.json", "compare.csv", "changes.csv", "index.html", "summary.md"}
"""All files of a comparison."""
SAME_SIZE = 1e-4
"""Relative difference between pixel sizes below which they count as equal; spacings are stored rounded."""
SEED = 0
"""Seed of the resamples."""
Interval = tuple[float, float]
"""The ends of an interval."""


@dataclasses.dataclass(frozen=True)
class Stored:
    """A stored audit of n images, in order of their names."""

    names: list[str]
    """The images' names."""
    decomposition: Decomposition
    """Counts of pixels, leaves (n, C, C) and (n,)."""
    class_names: tuple[str, ...]
    """The C classes' names."""
    group_names: np.ndarray | None
    """The group of each image, or None."""
    clusters: np.ndarray | None
    """The cluster of each image, or None."""
    segments: SegmentCounts | None
    """Segments of each image by class and outcome; None if they are not stored."""
    pixel_size: np.ndarray | None
    """The area (mm2) or volume (mm3) of a pixel of each image; None if it is not known, or not stored."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes and their background, for messages."""
        return (*self.class_names, f"background {self.decomposition.background}")

    @property
    def label_pixels(self) -> np.ndarray:
        """Pixels of each image by true class, int (n, C)."""
        return np.asarray(self.decomposition.confusion).sum(-1)


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
    """A line per failed gate."""


def mark_failed(folder: Path, error: str) -> None:
    """Replaces compare.json of an earlier comparison in the folder, so that no error leaves an old pass."""
    files.mark_failed(folder, error, name="compare.json", program=PROGRAM)


def read_audit(folder: Path) -> Stored:
    """Reads a stored audit.

    Raises:
        AuditError: the folder holds no audit.
    """
    path = folder / "decomposition.npz"
    if not path.is_file():
        raise AuditError(f"--compare: expected the folder of an audit, which has {path.name}, found {folder}")
    background = _read_background(folder)
    with naming(path), path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        arrays = dict(stored)
        names = [*map(str, arrays.pop("names"))]
        order = sorted(range(len(names)), key=names.__getitem__)
        confusion = _put_in_order(arrays["confusion"], order)
        counts = Decomposition(confusion, _put_in_order(arrays["risk_sum"], order), background)
        read_leaves(counts)
        return Stored(
            names=sorted(names),
            decomposition=counts,
            class_names=tuple(map(str, arrays["class_names"])),
            group_names=_ordered(arrays, "group_names", order),
            clusters=_ordered(arrays, "clusters", order),
            segments=_read_segments(arrays, order),
            pixel_size=_ordered(arrays, "pixel_size", order),
        )


def _read_segments(arrays: Mapping[str, np.ndarray], order: Sequence[int]) -> SegmentCounts | None:
    """Returns the stored counts of segments in order of the images' names, or None if they are not stored."""
    fields = [field.name for field in dataclasses.fields(SegmentCounts)]
    if not {*fields} <= arrays.keys():
        return None
    return SegmentCounts(**{name: _put_in_order(arrays[name], order) for name in fields})


def _read_background(folder: Path) -> Background:
    """Returns the background of a finished audit, from its summary."""
    path = folder / "summary.json"
    with naming(path):
        summary = read_json(path)
        if "error" in summary:
            raise AuditError(f"--compare: expected an audit that was finished in {folder}, found {summary['error']}")
        background = summary["options"]["background"]
    if isinstance(background, list):
        return tuple(background)
    return background


def _ordered(arrays: Mapping[str, np.ndarray], name: str, order: Sequence[int]) -> np.ndarray | None:
    """Returns a stored array in order of the images' names, or None if it is not stored."""
    if name not in arrays:
        return None
    return _put_in_order(arrays[name], order)


def _put_in_order(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Puts the rows of an array in order, in place: a second array of as many counts may not fit in memory."""
    if len(array) != len(order):
        raise ValueError(f"expected a value for each of {len(order):,} images, found {len(array):,}")
    for index in np.ndindex(array.shape[1:]):
        column = array[(slice(None), *index)]
        column[:] = column[order]
    return array


def _read_pair(old: Path, new: Path) -> tuple[Stored, Stored]:
    """Reads both audits, which must have the same images, labels and sizes of pixels."""
    before = read_audit(old)
    after = read_audit(new)
    in_one_alone = sorted({*before.names} ^ {*after.names})
    if in_one_alone:
        listing = listed(in_one_alone)
        raise AuditError(f"--compare: expected the same images in {old} and {new}; in one alone are {listing}")
    if before.classes != after.classes:
        found = f"{before.classes} in {old} and {after.classes} in {new}"
        raise AuditError(f"--compare: expected the same classes, found {found}")
    relabelled = _names_where(after.names, (before.label_pixels != after.label_pixels).any(-1))
    if relabelled:
        raise AuditError(f"--compare: expected the same labels; {old} and {new} have others in {listed(relabelled)}")
    if before.pixel_size is not None and after.pixel_size is not None:
        resized = _names_where(after.names, ~np.isclose(before.pixel_size, after.pixel_size, rtol=SAME_SIZE))
        if resized:
            raise AuditError(f"--compare: expected the same spacing; {old} and {new} have others in {listed(resized)}")
    return before, after


def _names_where(names: Sequence[str], chosen: np.ndarray) -> list[str]:
    """Returns the names that are chosen, of bool (n,)."""
    return [name for name, is_chosen in zip(names, chosen.tolist(), strict=True) if is_chosen]


def _read_images(stored: Stored, after: Stored, pixel_size: np.ndarray | None) -> Images:
    """Returns the images of an audit in the groups of the new one, whose pixels count by their size."""
    numbers = None
    all_groups = None
    if after.group_names is not None:
        present, numbers = np.unique(after.group_names, return_inverse=True)
        all_groups = NamedGroups(tuple(map(str, present)))
    counts = weigh_pixels(stored.decomposition, pixel_size)
    return read_images(counts, numbers, class_names=after.class_names, all_groups=all_groups)


def _read_compared(old: Path, new: Path) -> ComparedAudits:
    """Reads two audits of the same images, labels and sizes of pixels."""
    before, after = _read_pair(old, new)
    pixel_size = before.pixel_size if after.pixel_size is None else after.pixel_size
    same_risk = np.array_equal(before.decomposition.risk_sum, after.decomposition.risk_sum, equal_nan=True)
    same_counts = np.array_equal(before.decomposition.confusion, after.decomposition.confusion)
    return ComparedAudits(
        names=after.names,
        before=_read_images(before, after, pixel_size),
        after=_read_images(after, after, pixel_size),
        old_segments=before.segments,
        new_segments=after.segments,
        clusters=after.clusters,
        identical=same_counts and same_risk,
    )


def compare_audits(
    old: Path,
    new: Path,
    *,
    out: Path,
    samples: int = 1000,
    fail_above: Limits | None = None,
    fail_below: Limits | None = None,
    junit: Path | None = None,
) -> Comparison:
    """Compares two audits of the same images and labels, and writes a page, compare.csv, compare.json and changes.csv.

    Intervals are over images, or over the new audit's clusters. Those of rates and of mean IoU have a closed form
    (`flipjax.metrics.intervals.paired_difference`), [0, 0] where no image differs. Those of other quantities are 95%
    bootstrap intervals of paired differences, and missing where all resamples agree. Identical predictions differ by 0
    [0, 0] in every number. Gates limit differences, by key of the summary or by `KEY:low` or `KEY:high`; one on an
    interval that is missing fails.

    Args:
        old: the folder of an audit.
        new: the folder of another one.
        out: a new folder, or the folder of an earlier comparison.
        samples: the number of resamples of other quantities than rates.
        fail_above: upper limits by key.
        fail_below: lower limits by key.
        junit: a file for the gates as JUnit test cases.

    Raises:
        AuditError: the folders hold no audits of the same images, or `out` cannot be used.
    """
    compared = _read_compared(old, new)
    values = Values(compared)
    gates = make_gates(fail_above, fail_below)
    check_gates(gates, values.keys, forms=FORMS_OF_COMPARISONS)
    files.check_folder(out, FILES)
    intervals = _difference_intervals(compared, values, samples=samples)
    table = values.differences(intervals)
    changes = find_changes(compared)
    tried = try_gates(gates, dict(zip(table.index, table["difference"].tolist(), strict=True)), intervals)
    unit = "the images"
    if compared.clusters is not None:
        unit = f"{len(np.unique(compared.clusters))} clusters"
    facts = [
        f"{len(compared.names)} images; differences are new less old, with 95% intervals over {unit}.",
        f"Old: {old}. New: {new}.",
    ]
    document = make_document(
        compared,
        changes,
        table,
        facts=facts,
        limits=limits_in_words(tried),
        options={"old": str(old), "new": str(new), "samples": samples},
    )
    make_folder(out)
    write_text(out / "compare.csv", table.to_csv(float_format="%.6g"))
    write_csv(out / "changes.csv", changes_table(changes).round(DIGITS))
    stored: dict[str, object] = {"program": PROGRAM, "old": str(old), "new": str(new), "images": len(compared.names)}
    if compared.clusters is not None:
        stored["clusters"] = len(np.unique(compared.clusters))
    stored["identical"] = compared.identical
    if tried:
        stored["passed"] = all(gate.passed for gate in tried)
    stored["findings"] = list(document.lines)
    stored["changes"] = _without_nan(changes_table(changes).round(DIGITS)).to_dict("records")
    stored["differences"] = _without_nan(table.round(DIGITS)).to_dict("index")
    stored["gates"] = [gate.as_json() for gate in tried]
    write_text(out / "compare.json", json.dumps(stored, indent=2, ensure_ascii=False) + "\n")
    write_summary(out, document)
    if files.draws_pages():
        from flipjax.report.html import write_page  # Imported here, because tables need no drawing packages.

        write_page(out, document)
    if junit:
        write_junit(junit, "flipjax audit --compare", tried)
    return Comparison(table, changes, document.lines, terminal_text(document), failures(tried))


def _without_nan(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table whose undefined numbers are None, as JSON has no NaN."""
    return table.astype(object).where(table.notna(), None)


class Values:
    """The numbers of two audits of the same images."""

    def __init__(self, compared: ComparedAudits):
        """Computes the numbers of both."""
        self.before = {**summary_of(compared.before), **_segment_rates(compared, compared.old_segments)}
        """Those of the old audit by key."""
        self.after = {**summary_of(compared.after), **_segment_rates(compared, compared.new_segments)}
        """Those of the new audit."""
        self.keys = []
        """Keys of the numbers that can differ: no lists, and no counts of images."""
        for key, value in self.after.items():
            if key in self.before and np.ndim(value) == 0 and "n_images" not in key:
                self.keys.append(key)
        self._identical = compared.identical

    def differences(self, intervals: Mapping[str, Interval]) -> pd.DataFrame:
        """Returns the table of a `Comparison`."""
        table = pd.DataFrame(index=pd.Index(self.keys, name="quantity"))
        table["old"] = [float(self.before[key]) for key in self.keys]
        table["new"] = [float(self.after[key]) for key in self.keys]
        table["difference"] = table["new"] - table["old"]
        if self._identical:
            # Also of numbers that neither audit has.
            table["difference"] = 0.0
        table["low"] = [intervals[key][0] for key in self.keys]
        table["high"] = [intervals[key][1] for key in self.keys]
        return table


def _segment_ratios(compared: ComparedAudits, counts: SegmentCounts | None, group: str) -> dict[str, Ratio]:
    """Returns what the rates of whole segments divide in each image of a group, by key; none if they are not stored."""
    if counts is None:
        return {}
    inside = compared.after.in_group(group)
    ratios = counts.ratios(compared.after.class_names, compared.after.foreground.tolist())
    return {key: ratio.take(inside) for key, ratio in ratios.items()}


def _segment_rates(compared: ComparedAudits, counts: SegmentCounts | None) -> dict[str, float]:
    """Returns the rates of whole segments over all images and in each group, by key."""
    rates = {}
    for group in compared.after.group_names:
        for key, ratio in _segment_ratios(compared, counts, group).items():
            rates[with_group(key, group)] = float(ratio.total().value)
    return rates


def _difference_intervals(compared: ComparedAudits, values: Values, *, samples: int) -> dict[str, Interval]:
    """Returns the interval of each difference by key; NaN where it has none."""
    if compared.identical:
        return dict.fromkeys(values.keys, (0.0, 0.0))
    intervals: dict[str, Interval] = {}
    for group in compared.after.group_names:
        intervals.update(_rate_intervals(compared, group))
    other_keys = [key for key in values.keys if key not in intervals]
    if other_keys:
        intervals.update(_bootstrap_intervals(compared.before, compared.after, other_keys, compared.clusters, samples))
    return intervals


def _rate_intervals(compared: ComparedAudits, group: str) -> dict[str, Interval]:
    """Returns the intervals of the differences of all rates and of mean IoU in a group of images, by key."""
    clusters = compared.clusters
    if clusters is not None:
        clusters = clusters[compared.after.in_group(group)]
    before = compared.before.of_group(group)
    after = compared.after.of_group(group)
    old_ratios = {**ratios_of(before), **_segment_ratios(compared, compared.old_segments, group)}
    new_ratios = {**ratios_of(after), **_segment_ratios(compared, compared.new_segments, group)}
    intervals = {}
    for key, ratio in new_ratios.items():
        if key in old_ratios:
            change = paired_difference(old_ratios[key], ratio, clusters=clusters)
            intervals[with_group(key, group)] = (change.low, change.high)
    change = paired_mean_difference(before.ratios.iou, after.ratios.iou, clusters=clusters)
    intervals[with_group("mean_iou", group)] = (change.low, change.high)
    return intervals


def _bootstrap_intervals(
    before: Images,
    after: Images,
    keys: Sequence[str],
    clusters: np.ndarray | None,
    samples: int,
) -> dict[str, Interval]:
    """Returns percentile intervals of paired differences; NaN where all resamples agree, which says nothing."""
    counts = draw_images(np.random.default_rng(SEED), len(after), samples=samples, clusters=clusters)
    drawn_before = values_of(dataclasses.replace(before, weights=counts), keys)
    drawn_after = values_of(dataclasses.replace(after, weights=counts), keys)
    intervals = {}
    for key in keys:
        low, high = percentile_ends(drawn_after[key] - drawn_before[key]).tolist()
        if not low < high:
            low = math.nan
            high = math.nan
        intervals[key] = (low, high)
    return intervals
