"""Limits that the numbers of an audit must keep: what a test of a model in continuous integration asks for."""

import math
from collections.abc import Sequence

import numpy as np

from flipjax.audit.arrays import AuditError
from flipjax.audit.results import Audit
from flipjax.groups import AnyGroups
from flipjax.metrics import Decomposition, summarize
from flipjax.metrics.classes import Background
from flipjax.results.quantities import AUDIT_QUANTITIES, REGION_QUANTITIES

Limit = tuple[str, float]
"""A key of the summary and the largest value it may have."""


def check_limits(
    limits: Sequence[Limit],
    class_names: Sequence[str],
    background: Background,
    groups: np.ndarray | None,
    all_groups: AnyGroups | None,
) -> None:
    """Raises AuditError where a key is none that an audit of such classes and groups has, before anything is read."""
    if not limits:
        return
    n, C = 1 if groups is None else len(groups), len(class_names)
    empty = Decomposition(np.zeros((n, C, C), np.int64), np.zeros(n), background)
    summary = summarize(empty, groups, class_names=class_names, all_groups=all_groups)
    known = [key for key, value in summary.items() if not isinstance(value, list)]
    known += [key for key in AUDIT_QUANTITIES | REGION_QUANTITIES if "<" not in key and key not in known]
    for key, _ in limits:
        if key not in known:
            short = ", ".join(name for name in known if "/" not in name)
            raise AuditError(
                f"--fail_above: expected a key of the summary ({short}; iou/CLASS, flip/CLASS), found {key!r}"
            )


def above_limits(audit: Audit, limits: Sequence[Limit]) -> list[str]:
    """Returns a line for each limit that is not kept; a number that does not exist keeps none."""
    lines = []
    for key, limit in limits:
        value = audit.summary.get(key, math.nan)
        if not value <= limit:
            found = "no number" if math.isnan(value) else f"{value:.6g}"
            lines.append(f"{key}: expected at most {limit:g}, found {found}")
    return lines
