"""Flip metrics of segmentations: pure kernels over logits and labels, and summaries of their counts on the host.

Modules load lazily, so that summaries of stored counts need no JAX.
"""

from flipjax.support import lazy

_NAMES = {
    ".accumulate": "FlipMetric",
    ".anatomy": "Anatomy Renaming",
    ".anatomy_flips": "FlipKinds Relabelling flip_kinds relabelling",
    ".classes": "LabelSpec class_names",
    ".counts": "FlipCounts",
    ".decomposition": "concatenate",
    # Decomposition from where it becomes a pytree.
    ".kernels": "Decomposition decompose error_map flip_risk logit_scores risk_map",
    ".regions": "RegionSums region_sums",
    ".segment_rates": "error_budget segment_auroc segment_confusion segment_flips",
    ".segment_table": "SegmentTables segment_tables segments",
    ".resampling": "Interval bootstrap resampled",
    ".summary": "summarize",
}
__getattr__, __dir__, __all__ = lazy.lazy_names(__name__, _NAMES)  # pyright: ignore[reportUnsupportedDunderAll]
