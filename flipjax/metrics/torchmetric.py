"""FlipMetric as a metric of torchmetrics: in a MetricCollection, and where Lightning logs. Needs PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torchmetrics import Metric  # pyright: ignore[reportMissingImports]
from torchmetrics.utilities import dim_zero_cat  # pyright: ignore[reportMissingImports]

from flipjax.metrics.accumulate import FlipMetric
from flipjax.metrics.checks import to_array
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.summary import summarize

STATES = ("confusion", "risk_sum", "groups")


class TorchFlipMetric(Metric):
    """The numbers of `summarize` as a `torchmetrics.Metric`, gathered over processes by torchmetrics.

    `compute` returns a dict of tensors: those of `summarize` that are one number, by its keys, or those of `keys`.

    Args:
        keys: of `summarize`; None: all that are one number.
        channels: `first`, as in PyTorch, or `last`.
        **spec: of `FlipMetric`.

    Raises:
        TypeError, ValueError: a field that fits no batch, or keys that no summary has.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    def __init__(self, *, keys: tuple[str, ...] | None = None, channels: str = "first", **spec: Any):
        """Starts with no image."""
        super().__init__()
        self.keys = keys
        self.batch = FlipMetric(channels=channels, **spec)
        if keys is not None:
            self.batch.check_keys(keys)
        for name in STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, preds: Any, target: Any, groups: Any = None) -> None:
        """Adds a batch; takes and raises what `FlipMetric.update` does."""
        # It checks and counts one batch; what is kept is torchmetrics' to move and to gather.
        self.batch.reset()
        self.batch.update(preds, target, groups)
        part = self.batch.decomposition
        classes = self.confusion[0].shape[-1] if self.confusion else part.confusion.shape[-1]
        if part.confusion.shape[-1] != classes:
            raise ValueError(f"predictions: expected {classes} classes, found {part.confusion.shape[-1]}.")
        if self.confusion and (groups is None) == bool(self.groups):
            raise ValueError("groups: expected with every batch or with none.")
        arrays = [part.confusion, part.risk_sum, *([] if groups is None else [to_array(groups)])]
        for name, array in zip(STATES, arrays, strict=False):
            getattr(self, name).append(torch.as_tensor(np.array(array), device=self.device))

    def compute(self) -> dict[str, Any]:
        """Returns what `summarize` says of all images so far, tensors by key."""
        if not self.confusion:
            raise ValueError("TorchFlipMetric: expected at least one update, found none.")
        stored = {name: np.asarray(dim_zero_cat(values).cpu()) for name in STATES if (values := getattr(self, name))}
        images = Decomposition(stored["confusion"], stored["risk_sum"], self.batch.spec.background)
        summary = summarize(
            images, stored.get("groups"), class_names=self.batch.spec.class_names, all_groups=self.batch.all_groups
        )
        keys = self.keys or [name for name, value in summary.items() if isinstance(value, int | float)]
        return {name: torch.tensor(float(summary[name]), device=self.device) for name in keys}
