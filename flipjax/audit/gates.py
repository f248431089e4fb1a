"""Gates: limits on the numbers of an audit or on the differences of two, which decide the exit code."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flipjax.audit.arrays import AuditError

ENDS = ("low", "high")


class Gate(NamedTuple):
    """A limit: `key` of the summary, `end` of its interval or '', and whether it fails above the limit or below."""

    key: str
    end: str
    limit: float
    above: bool

    def __str__(self) -> str:
        """Returns the gate as the command line spells it."""
        return f"--fail_{'above' if self.above else 'below'} {self.name}={self.limit:g}"

    @property
    def name(self) -> str:
        """The key, and the end of its interval behind a colon."""
        return f"{self.key}:{self.end}" if self.end else self.key


def read_gates(above: Mapping[str, float] | None, below: Mapping[str, float] | None) -> list[Gate]:
    """Returns gates from limits by key; `KEY:low` and `KEY:high` are the ends of an interval."""
    gates = []
    for limits, is_above in ((above or {}, True), (below or {}, False)):
        for name, limit in limits.items():
            key, _, end = name.rpartition(":")
            gates.append(Gate(*((key, end) if end in ENDS and key else (name, "")), float(limit), is_above))
    return gates


def check_gates(gates: Sequence[Gate], known: Collection[str]) -> None:
    """Raises AuditError where a key is none of those known."""
    for gate in gates:
        if gate.key not in known:
            short = ", ".join(sorted(name for name in known if "/" not in name))
            option = str(gate).partition(" ")[0]
            raise AuditError(
                f"{option}: expected a key of the summary ({short}; iou/CLASS, flip/CLASS), or KEY:low or KEY:high; "
                f"found {gate.name!r}"
            )


def try_gates(
    gates: Sequence[Gate], values: Mapping[str, Any], intervals: Mapping[str, tuple[Any, Any]]
) -> list[dict[str, Any]]:
    """Returns a row for each gate: its key, limit, value (None if there is none) and whether it passed.

    A number that does not exist passes no gate.
    """
    rows = []
    for gate in gates:
        found = intervals.get(gate.key, (math.nan,) * 2)[ENDS.index(gate.end)] if gate.end else values.get(gate.key)
        value = float(np.nan if found is None or np.ndim(found) else found)
        passed = value <= gate.limit if gate.above else value >= gate.limit
        known = None if math.isnan(value) else value
        rows.append({"gate": str(gate), "limit": gate.limit, "value": known, "passed": passed})
    return rows


def failures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns a line for each gate that failed."""
    lines = []
    for row in rows:
        if not row["passed"]:
            found = "no number" if row["value"] is None else f"{row['value']:.6g}"
            lines.append(f"{row['gate']}: found {found}")
    return lines
