"""Flip metrics of segmentations: pure kernels over logits and labels, and summaries of their counts on the host.

Modules load lazily, so that summaries of stored counts need no JAX.
"""

# ruff: noqa: F401
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

_MODULES = {
    "accumulate": ("FlipMetric",),
    "classes": ("LabelSpec", "class_names"),
    "decomposition": ("concatenate",),
    # Decomposition from where it becomes a pytree.
    "kernels": ("Decomposition", "decompose", "error_map", "flip_risk", "logit_scores", "risk_map"),
    "regions": ("RegionSums", "region_sums", "rim"),
    "segment_table": (
        *("SegmentTables", "segment_tables", "segments"),
        *("error_budget", "segment_auroc", "segment_confusion", "segment_flips"),
    ),
    "summary": ("Interval", "bootstrap", "resampled", "summarize"),
}
__all__ = sorted(name for names in _MODULES.values() for name in names)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'flipjax.metrics' has no attribute {name!r}")
    module = next(module for module, names in _MODULES.items() if name in names)
    return getattr(importlib.import_module(f"flipjax.metrics.{module}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
