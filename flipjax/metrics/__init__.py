"""Flip metrics of segmentations: pure kernels over logits and labels, and summaries of their counts on the host.

Modules load lazily, so that summaries of stored counts need no JAX.
"""

import importlib
from typing import Any

_NAMES = {
    "accumulate": "FlipMetric",
    "classes": "LabelSpec class_names",
    "decomposition": "concatenate",
    # Decomposition from where it becomes a pytree.
    "kernels": "Decomposition decompose error_map flip_risk logit_scores risk_map",
    "regions": "RegionSums region_sums",
    "segment_table": "SegmentTables error_budget segment_auroc segment_confusion segment_flips segment_tables segments",
    "summary": "Interval bootstrap resampled summarize",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'flipjax.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(f"flipjax.metrics.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
