"""Compares two audits of the same images by paired differences, and checks gates (limits on results).

`compare_audits` reads the counts that both audits stored, checks that they are of the same images and labels, takes the
differences of all numbers of their summaries (`Values`), tries the gates, and writes the files. The intervals of rates
and of mean IoU come from a formula (`_rate_intervals`), those of other numbers from resamples (`_bootstrap_intervals`).
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.audit import files
from flipjax.audit.arrays import check_folder
from flipjax.audit.gates import FORMS_OF_COMPARISONS, Limits, check_gates, failures, make_gates, try_gates, write_junit
from flipjax.audit.measurements import weigh_pixels
from flipjax.audit.problems import AuditError, naming
from flipjax.config.groups import NamedGroups
from flipjax.metrics import Decomposition
from flipjax.metrics.classes import Background
from flipjax.metrics.decomposition import read_leaves
from flipjax.metrics.evaluate import ratios_of, with_group
from flipjax.metrics.images import Images, read_images
from flipjax.metrics.intervals import paired_difference, paired_mean_difference
from flipjax.metrics.resampling import draw_images, percentile_ends
from flipjax.metrics.summary import Summary, summary_of, values_of
from flipjax.results.frames import records_of
from flipjax.results.text import TextTable, to_text, with_interval
from flipjax.support.files import make_folder, read_json, write_text
from flipjax.support.terminal import listed

PROGRAM = "flipjax.audit.compare"
"""What compare.json says of its origin."""
FILES = {"compare.json", "compare.csv"}
"""All files of a comparison."""
SHOWN = 12
"""Differences that are printed on the terminal besides those of MAIN, at most."""
MAIN = ("fg_correct", "fg_flip", "fg_miss", "mean_iou", "iou/foreground", "risk_auroc")
"""Quantities whose differences are always printed, first."""
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
    text: str
    """The differences as text."""
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
            pixel_size=_ordered(arrays, "pixel_size", order),
        )


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
    """Compares two audits of the same images and labels, and writes compare.csv and compare.json.

    Intervals are over images, or over the new audit's clusters. Those of rates and of mean IoU have a closed form
    (`flipjax.metrics.intervals.paired_difference`), [0, 0] where no image differs. Those of other quantities are 95%
    bootstrap intervals of paired differences, and missing where all resamples agree. Gates limit differences, by key
    of the summary or by `KEY:low` or `KEY:high`; one on an interval that is missing fails.

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
    stored_before, stored_after = _read_pair(old, new)
    pixel_size = stored_after.pixel_size
    if pixel_size is None:
        pixel_size = stored_before.pixel_size
    before = _read_images(stored_before, stored_after, pixel_size)
    after = _read_images(stored_after, stored_after, pixel_size)
    values = Values(summary_of(before), summary_of(after))
    gates = make_gates(fail_above, fail_below)
    check_gates(gates, values.keys, forms=FORMS_OF_COMPARISONS)
    check_folder(out, FILES)
    intervals = _difference_intervals(before, after, values.keys, clusters=stored_after.clusters, samples=samples)
    table = values.differences(intervals)
    tried = try_gates(gates, dict(zip(table.index, table["difference"].tolist(), strict=True)), intervals)
    make_folder(out)
    write_text(out / "compare.csv", table.to_csv(float_format="%.6g"))
    stored: dict[str, object] = {"program": PROGRAM, "old": str(old), "new": str(new), "images": len(after)}
    unit = "the images"
    if stored_after.clusters is not None:
        clusters = len(np.unique(stored_after.clusters))
        stored["clusters"] = clusters
        unit = f"{clusters} clusters"
    if tried:
        stored["passed"] = all(gate.passed for gate in tried)
    stored["differences"] = table.round(6).astype(object).where(table.notna(), None).to_dict("index")
    stored["gates"] = [gate.as_json() for gate in tried]
    write_text(out / "compare.json", json.dumps(stored, indent=2, ensure_ascii=False) + "\n")
    if junit:
        write_junit(junit, "flipjax audit --compare", tried)
    head = f"{len(after)} images; differences are new less old, with 95% intervals over {unit}."
    if np.array_equal(stored_before.decomposition.confusion, stored_after.decomposition.confusion):
        head = f"{head}\nBoth predictions have the same counts in every image: no rate differs."
    return Comparison(table, f"{head}\n\n{_text(table)}", failures(tried))


@dataclasses.dataclass(frozen=True)
class Values:
    """The summaries of two audits of the same images."""

    before: Summary
    """Those of the old audit."""
    after: Summary
    """Those of the new audit."""

    @property
    def keys(self) -> list[str]:
        """Keys of the numbers that can differ: no lists, and no counts of images."""
        return [key for key, value in self.after.items() if np.ndim(value) == 0 and "n_images" not in key]

    def differences(self, intervals: Mapping[str, Interval]) -> pd.DataFrame:
        """Returns the table of a `Comparison`."""
        table = pd.DataFrame(index=pd.Index(self.keys, name="quantity"))
        table["old"] = [float(self.before[key]) for key in self.keys]
        table["new"] = [float(self.after[key]) for key in self.keys]
        table["difference"] = table["new"] - table["old"]
        table["low"] = [intervals[key][0] for key in self.keys]
        table["high"] = [intervals[key][1] for key in self.keys]
        return table


def _difference_intervals(
    before: Images, after: Images, keys: Sequence[str], *, clusters: np.ndarray | None, samples: int
) -> dict[str, Interval]:
    """Returns the interval of each difference by key; NaN where it has none."""
    intervals: dict[str, Interval] = {}
    for group in after.group_names:
        intervals.update(_rate_intervals(before, after, group, clusters))
    other_keys = [key for key in keys if key not in intervals]
    if other_keys:
        intervals.update(_bootstrap_intervals(before, after, other_keys, clusters, samples))
    return intervals


def _rate_intervals(before: Images, after: Images, group: str, clusters: np.ndarray | None) -> dict[str, Interval]:
    """Returns the intervals of the differences of all rates and of mean IoU in a group of images, by key."""
    if clusters is not None:
        clusters = clusters[after.on_side(group)]
    old = before.of_group(group)
    new = after.of_group(group)
    old_ratios = ratios_of(old)
    intervals = {}
    for key, ratio in ratios_of(new).items():
        change = paired_difference(old_ratios[key], ratio, clusters=clusters)
        intervals[with_group(key, group)] = (change.low, change.high)
    change = paired_mean_difference(old.ratios.iou, new.ratios.iou, clusters=clusters)
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


def _text(table: pd.DataFrame) -> str:
    """Returns the main differences, and those whose interval does not hold 0, the largest first."""
    main = [key for key in MAIN if key in table.index]
    excludes_zero = (table["low"] > 0) | (table["high"] < 0)
    others = table[excludes_zero].drop(index=main, errors="ignore")
    largest = others["difference"].abs().sort_values(ascending=False, kind="stable").index[:SHOWN]
    shown = pd.concat([table.loc[main], others.loc[largest]]).dropna(subset=["difference"])
    rows = []
    for row in records_of(shown.rename_axis("quantity").reset_index()):
        change = with_interval(row, "difference", form="+.4f")
        rows.append([row["quantity"], f"{row['old']:.4f}", f"{row['new']:.4f}", change])
    return to_text(TextTable(["quantity", "old", "new", "new less old [95%]"], rows))
