"""Gates: limits on the numbers of an audit or of a comparison, which fail a call in continuous integration."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import numpy as np

from flipjax.audit.problems import AuditError
from flipjax.support.files import make_folder, replacing

Limits = Mapping[str, float] | Iterable[tuple[str, float]]
"""Limits by key, or pairs of a key and a limit, which may name a key more than once."""

ABOVE = "--fail_above"
"""The option of upper limits."""
BELOW = "--fail_below"
"""The option of lower limits."""
ENDS = ("low", "high")
"""The ends of an interval."""
OF_CLASSES = "iou/CLASS, flip/CLASS, miss/CLASS, flipped_segments/CLASS, missed_segments/CLASS"
"""Keys of classes."""
FORMS = f"{OF_CLASSES}, group/GROUP/KEY, group_difference/CLASS/GROUP, group_q/CLASS/GROUP"
"""Keys of an audit that are too many to list."""
FORMS_OF_COMPARISONS = f"{OF_CLASSES}, group/GROUP/KEY"
"""Keys of a comparison that are too many to list."""


@dataclasses.dataclass(frozen=True)
class Gate:
    """One limit."""

    option: str
    """ABOVE or BELOW: on which side of the limit a number fails."""
    name: str
    """A key of the summary, or `KEY:low` or `KEY:high` of its interval."""
    limit: float
    """The limit, which itself passes."""

    @property
    def key(self) -> str:
        """The key of the summary."""
        key, _, end = self.name.rpartition(":")
        if end in ENDS:
            return key
        return self.name

    @property
    def end(self) -> str:
        """Which end of the interval is limited: `low`, `high`, or '' for the number itself."""
        end = self.name.rpartition(":")[2]
        if end in ENDS and end != self.name:
            return end
        return ""

    def __str__(self) -> str:
        """Returns the gate as it is typed."""
        return f"{self.option} {self.name}={self.limit:g}"


@dataclasses.dataclass(frozen=True)
class TriedGate:
    """A gate and what it was tried on."""

    gate: Gate
    """The gate."""
    value: float
    """The number; NaN if it is undefined, which fails."""

    @property
    def passed(self) -> bool:
        """Whether the number is within the limit."""
        if self.gate.option == ABOVE:
            return self.value <= self.gate.limit
        return self.value >= self.gate.limit

    @property
    def line(self) -> str:
        """What was found, as one line."""
        if math.isnan(self.value):
            return f"{self.gate}: found no number"
        return f"{self.gate}: found {self.value:.6g}"

    def as_json(self) -> dict[str, object]:
        """Returns the row of summary.json."""
        value = None if math.isnan(self.value) else self.value
        return {"gate": str(self.gate), "limit": self.gate.limit, "value": value, "passed": self.passed}


def make_gates(above: Limits | None, below: Limits | None) -> list[Gate]:
    """Returns a gate for each limit, in order.

    Example:
        >>> [str(gate) for gate in make_gates([("fg_flip", 0.05), ("fg_flip:high", 0.1)], {"fg_correct": 0.8})]
        ['--fail_above fg_flip=0.05', '--fail_above fg_flip:high=0.1', '--fail_below fg_correct=0.8']
    """
    gates = []
    for option, limits in ((ABOVE, above), (BELOW, below)):
        gates += [Gate(option, name, float(limit)) for name, limit in _pairs(limits)]
    return gates


def _pairs(limits: Limits | None) -> list[tuple[str, float]]:
    """Returns the keys and limits, in order."""
    if limits is None:
        return []
    if not isinstance(limits, Mapping):
        return list(limits)
    # Pairs may be the keys of a mapping, as far as the checker knows.
    by_key = cast("Mapping[str, float]", limits)
    return list(by_key.items())


def check_gates(gates: Sequence[Gate], keys: Collection[str], *, forms: str = FORMS) -> None:
    """Raises AuditError for a gate on none of the `keys`, which have `forms`, or a limit that is no number."""
    for option in (ABOVE, BELOW):
        wrong = [gate.name for gate in gates if gate.option == option and gate.key not in keys]
        if wrong:
            short = ", ".join(sorted(key for key in keys if "/" not in key))
            form = f"a key of the summary ({short}; {forms}), or KEY:low or KEY:high"
            raise AuditError(f"{option}: expected {form}; found {', '.join(map(repr, wrong))}")
    for gate in gates:
        if math.isnan(gate.limit):
            raise AuditError(f"{gate.option}: expected KEY=LIMIT with a number, found {gate.name}=nan")


def try_gates(
    gates: Sequence[Gate],
    values: Mapping[str, float | list[float]],
    intervals: Mapping[str, tuple[float, float] | tuple[np.ndarray, np.ndarray]],
) -> list[TriedGate]:
    """Tries gates, checked by `check_gates`, on numbers by key and the ends of their intervals.

    Example:
        >>> gate = Gate(ABOVE, "fg_flip:high", 0.1)
        >>> [tried] = try_gates([gate], {"fg_flip": 0.0}, {"fg_flip": (0.0, 0.708)})
        >>> tried.passed, tried.line
        (False, '--fail_above fg_flip:high=0.1: found 0.708')
    """
    tried = []
    for gate in gates:
        # Without a number, or without an interval, a gate fails.
        value = values.get(gate.key, math.nan)
        if gate.end:
            low, high = intervals.get(gate.key, (math.nan, math.nan))
            value = low if gate.end == "low" else high
        # Keys of lists are no gates.
        assert not isinstance(value, list)
        tried.append(TriedGate(gate, float(value)))
    return tried


def failures(tried: Sequence[TriedGate]) -> list[str]:
    """Returns a line per failed gate."""
    return [tried_gate.line for tried_gate in tried if not tried_gate.passed]


def limits_in_words(tried: Sequence[TriedGate]) -> list[str]:
    """Returns a sentence for each limit that failed, and one for those that hold.

    Example:
        >>> tried = [TriedGate(Gate(ABOVE, "fg_flip", limit), 0.2) for limit in (0.1, 0.3)]
        >>> limits_in_words(tried)
        ['Limit failed: --fail_above fg_flip=0.1: found 0.2.', 'Limits that hold: --fail_above fg_flip=0.3.']
    """
    lines = [f"Limit failed: {line}." for line in failures(tried)]
    held = [str(tried_gate.gate) for tried_gate in tried if tried_gate.passed]
    if held:
        lines.append(f"Limits that hold: {'; '.join(held)}.")
    return lines


def write_junit(path: Path, suite: str, tried: Sequence[TriedGate], *, error: str = "") -> None:
    """Writes gates as a JUnit report, a test case each, which CI systems show.

    Args:
        path: the file.
        suite: the name of the test suite, such as `flipjax audit`.
        tried: the gates.
        error: what ended the call before its gates were tried, as a test case of its own.
    """
    failed = sum(not tried_gate.passed for tried_gate in tried)
    counts = {"tests": str(len(tried) + bool(error)), "failures": str(failed), "errors": str(int(bool(error)))}
    root = ElementTree.Element("testsuites", counts)
    element = ElementTree.SubElement(root, "testsuite", {"name": suite, **counts})
    for tried_gate in tried:
        case = ElementTree.SubElement(element, "testcase", {"classname": suite, "name": str(tried_gate.gate)})
        if not tried_gate.passed:
            ElementTree.SubElement(case, "failure", {"message": tried_gate.line})
    if error:
        case = ElementTree.SubElement(element, "testcase", {"classname": suite, "name": "run"})
        ElementTree.SubElement(case, "error", {"message": error})
    make_folder(path.parent)
    with replacing(path) as stream:
        stream.write(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
