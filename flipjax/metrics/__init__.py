"""Flip metrics of a segmentation: pure kernels over logits and labels, and host-side summaries of what they return."""

from flipjax.metrics.accumulate import FlipMetric, concatenate
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.kernels import decompose, error_map, flip_risk, risk_map
from flipjax.metrics.names import class_names
from flipjax.metrics.summary import Interval, bootstrap, summarize

__all__ = [
    "Decomposition",
    "FlipMetric",
    "Interval",
    "bootstrap",
    "class_names",
    "concatenate",
    "decompose",
    "error_map",
    "flip_risk",
    "risk_map",
    "summarize",
]
