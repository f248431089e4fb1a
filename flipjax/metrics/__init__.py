"""Flip metrics of segmentations: pure kernels over logits and labels, and summaries of their counts on the host.

Modules load lazily, so that summaries of stored counts need no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flipjax.metrics.accumulate import FlipMetric
    from flipjax.metrics.classes import LabelSpec, class_names
    from flipjax.metrics.decomposition import Decomposition, concatenate
    from flipjax.metrics.kernels import decompose, error_map, flip_risk, logit_scores, risk_map
    from flipjax.metrics.regions import RegionSums, region_sums, rim
    from flipjax.metrics.segment_table import (
        SegmentTables,
        error_budget,
        segment_auroc,
        segment_confusion,
        segment_flips,
        segment_tables,
        segments,
    )
    from flipjax.metrics.summary import Interval, bootstrap, resampled, summarize

__all__ = [
    "Decomposition",
    "FlipMetric",
    "Interval",
    "LabelSpec",
    "RegionSums",
    "SegmentTables",
    "bootstrap",
    "class_names",
    "concatenate",
    "decompose",
    "error_budget",
    "error_map",
    "flip_risk",
    "logit_scores",
    "region_sums",
    "resampled",
    "rim",
    "risk_map",
    "segment_auroc",
    "segment_confusion",
    "segment_flips",
    "segment_tables",
    "segments",
    "summarize",
]

# The others come from `kernels`: Decomposition from where it becomes a pytree.
_MODULES = {
    "accumulate": ("FlipMetric",),
    "classes": ("LabelSpec", "class_names"),
    "decomposition": ("concatenate",),
    "regions": ("RegionSums", "region_sums", "rim"),
    "segment_table": (
        "SegmentTables",
        "error_budget",
        "segment_auroc",
        "segment_confusion",
        "segment_flips",
        "segment_tables",
        "segments",
    ),
    "summary": ("Interval", "bootstrap", "resampled", "summarize"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'flipjax.metrics' has no attribute {name!r}")
    module = next((module for module, names in _MODULES.items() if name in names), "kernels")
    return getattr(importlib.import_module(f"flipjax.metrics.{module}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
