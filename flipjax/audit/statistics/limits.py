"""Limits on the numbers of an audit, of a comparison or of a metric, which fail a call in CI."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

from flipjax.audit.formats.problems import AuditError
from flipjax.audit.statistics.summary import SummaryInterval, SummaryValue
from flipjax.metrics.summary.names import PER_CLASS_OF_AUDITS
from flipjax.support.files import make_folder, replacing

LimitsByKey = Mapping[str, float] | Iterable[tuple[str, float]]
"""Limits by key, or pairs of a key and a limit, which may name a key more than once."""

ABOVE = "--fail_above"
"""The option of upper limits."""
BELOW = "--fail_below"
"""The option of lower limits."""
ENDS = ("low", "high")
"""The ends of an interval."""
OF_CLASSES = ", ".join(f"{beginning}CLASS" for beginning in PER_CLASS_OF_AUDITS)
"""Keys of classes."""
FORMS = f"{OF_CLASSES}, group/GROUP/KEY, group_difference/CLASS/GROUP, group_q/CLASS/GROUP"
"""Keys of an audit that are too many to list."""
FORMS_OF_COMPARISONS = f"{OF_CLASSES}, group/GROUP/KEY"
"""Keys of a comparison that are too many to list."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """A limit on a number, and the number once it is known."""

    option: str
    """ABOVE or BELOW: on which side of the limit a number fails."""
    name: str
    """A key of the summary, or `KEY:low` or `KEY:high` of its interval."""
    limit: float
    """The limit, which itself passes."""
    value: float = math.nan
    """The number; NaN before it is known, and if it is undefined, which fails."""

    @property
    def key(self) -> str:
        """The key of the summary."""
        return self._split()[0]

    @property
    def end(self) -> str:
        """Which end of the interval is limited: `low`, `high`, or '' for the number itself."""
        return self._split()[1]

    def _split(self) -> tuple[str, str]:
        """Returns the key and the end that the name joins."""
        key, colon, end = self.name.rpartition(":")
        if colon and end in ENDS:
            return key, end
        return self.name, ""

    @property
    def passed(self) -> bool:
        """Whether the number is within the limit."""
        if self.option == ABOVE:
            return self.value <= self.limit
        return self.value >= self.limit

    @property
    def line(self) -> str:
        """What was found, as one line."""
        if math.isnan(self.value):
            return f"{self}: found no number"
        return f"{self}: found {self.value:.6g}"

    def __str__(self) -> str:
        """Returns the limit as it is typed."""
        return f"{self.option} {self.name}={self.limit:g}"

    def as_json(self) -> dict[str, object]:
        """Returns the row of summary.json."""
        value = None
        if not math.isnan(self.value):
            value = self.value
        return {"gate": str(self), "limit": self.limit, "value": value, "passed": self.passed}


def make_limits(above: LimitsByKey | None, below: LimitsByKey | None) -> list[Limit]:
    """Returns the limits of both options, in order.

    Example:
        >>> [str(limit) for limit in make_limits([("fg_flip", 0.05), ("fg_flip:high", 0.1)], {"fg_correct": 0.8})]
        ['--fail_above fg_flip=0.05', '--fail_above fg_flip:high=0.1', '--fail_below fg_correct=0.8']
    """
    limits = []
    for option, by_key in ((ABOVE, above), (BELOW, below)):
        limits += [Limit(option, name, float(limit)) for name, limit in _pairs(by_key)]
    return limits


def _pairs(limits: LimitsByKey | None) -> list[tuple[str, float]]:
    """Returns the keys and limits, in order."""
    if limits is None:
        return []
    if not isinstance(limits, Mapping):
        return list(limits)
    # Pairs may be the keys of a mapping, as far as the checker knows.
    return list(cast("Mapping[str, float]", limits).items())


def check_limits(limits: Sequence[Limit], keys: Collection[str], *, forms: str = FORMS) -> None:
    """Raises AuditError for a limit on none of the `keys`, or one that is no number.

    Args:
        limits: of `make_limits`.
        keys: that a limit may name.
        forms: of the keys that are too many for the message, which it shows.
    """
    for option in (ABOVE, BELOW):
        wrong = [limit.name for limit in limits if limit.option == option and limit.key not in keys]
        if wrong:
            short = ", ".join(sorted(key for key in keys if "/" not in key))
            form = f"a key of the summary ({short}; {forms}), or KEY:low or KEY:high"
            raise AuditError(f"{option}: expected {form}; found {', '.join(map(repr, wrong))}")
    for limit in limits:
        if math.isnan(limit.limit):
            raise AuditError(f"{limit.option}: expected KEY=LIMIT with a number, found {limit.name}=nan")


def with_numbers(
    limits: Sequence[Limit], values: Mapping[str, SummaryValue], intervals: Mapping[str, SummaryInterval]
) -> list[Limit]:
    """Returns limits, checked by `check_limits`, with the numbers or the ends of intervals that they are on.

    Example:
        >>> [limit] = with_numbers([Limit(ABOVE, "fg_flip:high", 0.1)], {"fg_flip": 0.0}, {"fg_flip": (0.0, 0.708)})
        >>> limit.passed, limit.line
        (False, '--fail_above fg_flip:high=0.1: found 0.708')
    """
    tried = []
    for limit in limits:
        # Without a number, or without an interval, a limit fails.
        value = values.get(limit.key, math.nan)
        if limit.end:
            low, high = intervals.get(limit.key, (math.nan, math.nan))
            value = high
            if limit.end == "low":
                value = low
        # No limit is on a list.
        assert not isinstance(value, list)
        tried.append(dataclasses.replace(limit, value=float(value)))
    return tried


def try_limits(
    summary: Mapping[str, SummaryValue],
    intervals: Mapping[str, SummaryInterval],
    *,
    fail_above: LimitsByKey | None = None,
    fail_below: LimitsByKey | None = None,
) -> list[Limit]:
    """Tries limits on numbers in Python, as `flipjax audit --fail_above` and `--fail_below` do.

    Args:
        summary: numbers by key: of `FlipMetric.compute`, or `summary` of a closed `flipjax.audit.stream`.
        intervals: 95% intervals by key: of `FlipMetric.intervals`, or `intervals` of the stream.
        fail_above: upper limits by key, or by `KEY:low` or `KEY:high` of its interval; an interval that is missing
            fails.
        fail_below: lower limits, likewise.

    Returns:
        Each limit, in order, which says whether it is `passed`, and in a `line` what was found.

    Raises:
        AuditError: a key that the summary lacks, or a limit that is no number.

    Example:
        >>> import numpy as np
        >>> from flipjax.metrics import FlipMetric
        >>> labels = np.array([[[0, 1, 1], [0, 2, 2]]] * 6)  # Six slices of three patients from two sites.
        >>> masks = labels.copy()
        >>> masks[4:, 0] = [0, 2, 2]  # Both slices of patient c: class 1 is taken for class 2.
        >>> metric = FlipMetric(kind="masks", num_classes=3, class_names=["liver", "spleen"])
        >>> for batch in (slice(0, 2), slice(2, 6)):
        ...     sites = ["north", "north", "north", "north", "south", "south"][batch]
        ...     metric.update(masks[batch], labels[batch], sites, clusters=["a", "a", "b", "b", "c", "c"][batch])
        >>> limits = try_limits(
        ...     metric.compute(),
        ...     metric.intervals(),
        ...     fail_above={"group/south/flip/liver": 0.5, "fg_flip:high": 0.9},
        ...     fail_below={"fg_correct": 0.8},
        ... )
        >>> [limit.passed for limit in limits], limits[0].line
        ([False, True, True], '--fail_above group/south/flip/liver=0.5: found 1')
    """
    limits = make_limits(fail_above, fail_below)
    numbers = [key for key, value in summary.items() if not isinstance(value, list)]
    check_limits(limits, numbers)
    return with_numbers(limits, summary, intervals)


def failures(limits: Sequence[Limit]) -> list[str]:
    """Returns a line for each limit that failed."""
    return [limit.line for limit in limits if not limit.passed]


def limits_in_words(limits: Sequence[Limit]) -> list[str]:
    """Returns a sentence for each limit that failed, and one for those that hold.

    Example:
        >>> limits_in_words([Limit(ABOVE, "fg_flip", limit, value=0.2) for limit in (0.1, 0.3)])
        ['Limit failed: --fail_above fg_flip=0.1: found 0.2.', 'Limits that hold: --fail_above fg_flip=0.3.']
    """
    lines = [f"Limit failed: {line}." for line in failures(limits)]
    held = [str(limit) for limit in limits if limit.passed]
    if held:
        lines.append(f"Limits that hold: {'; '.join(held)}.")
    return lines


def write_junit(path: Path, suite: str, limits: Sequence[Limit], *, error: str = "") -> None:
    """Writes limits as a JUnit report, a test case each, which CI systems show.

    Args:
        path: the file.
        suite: the name of the test suite, such as `flipjax audit`.
        limits: of `with_numbers`.
        error: what ended the call before its limits were tried, as a test case of its own.
    """
    errors = 0
    if error:
        errors = 1
    counts = {"tests": str(len(limits) + errors), "failures": str(len(failures(limits))), "errors": str(errors)}
    root = ElementTree.Element("testsuites", counts)
    element = ElementTree.SubElement(root, "testsuite", {"name": suite, **counts})
    for limit in limits:
        case = ElementTree.SubElement(element, "testcase", {"classname": suite, "name": str(limit)})
        if not limit.passed:
            ElementTree.SubElement(case, "failure", {"message": limit.line})
    if error:
        case = ElementTree.SubElement(element, "testcase", {"classname": suite, "name": "run"})
        ElementTree.SubElement(case, "error", {"message": error})
    make_folder(path.parent)
    with replacing(path) as stream:
        stream.write(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
