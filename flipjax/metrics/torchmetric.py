"""`FlipMetric` as a torchmetrics metric, for `MetricCollection` and Lightning. Needs PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torchmetrics import Metric  # pyright: ignore[reportMissingImports]
from torchmetrics.utilities import dim_zero_cat  # pyright: ignore[reportMissingImports]

from flipjax.metrics.accumulate import FlipMetric
from flipjax.metrics.anatomy_flips import FLIP_KINDS
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.summary import Summary, summarize

STATES = ("confusion", "risk_sum", "groups")
"""Names of the metric's states, which torchmetrics joins over processes."""


class TorchFlipMetric(Metric):
    """Computes the scalars of `summarize` as a `torchmetrics.Metric`, which also synchronises processes.

    `compute` returns a dict of scalar tensors by key.

    Args:
        keys: scalar keys of `summarize`; None: all of them. Names of classes and groups are checked with a batch.
        channels: `first`, as in PyTorch, or `last`.
        **spec: arguments of `FlipMetric`.

    Raises:
        TypeError, ValueError: invalid fields, or unknown keys.
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    def __init__(self, *, keys: tuple[str, ...] | None = None, channels: str = "first", **spec: Any):
        """Starts empty."""
        super().__init__()
        self.keys = keys
        nothing = Decomposition(np.zeros((0, 3, 3), np.int64), np.zeros(0))
        scalars = {*_scalars(summarize(nothing, np.zeros(0, np.int64))), *FLIP_KINDS}
        heads = {key.partition("/")[0] for key in scalars}
        for key in keys or ():
            if key not in scalars and ("/" not in key or key.partition("/")[0] not in heads):
                raise ValueError(f"keys: expected keys of summarize that are one number, found {key}.")
        self.batch = FlipMetric(channels=channels, **spec)
        for name in STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, preds: Any, target: Any, groups: Any = None) -> None:
        """Adds a batch; see `FlipMetric.update`. Raises a ValueError for an unknown key, too."""
        # `self.batch` counts a batch and checks it beside the last; torchmetrics owns the state, to move and gather it.
        batch = self.batch
        if not self.confusion:
            batch.reset()
        batch.update(preds, target, groups)
        batch._parts = batch._parts[-1:]
        batch._groups = batch._groups[-1:]
        if self.keys and not self.confusion:
            scalars = _scalars(batch.compute())
            unknown = set(self.keys) - scalars.keys()
            if unknown:
                raise ValueError(f"keys: expected keys of {', '.join(scalars)}, found {', '.join(sorted(unknown))}.")
        arrays = [batch.decomposition.confusion, batch.decomposition.risk_sum, *batch._groups]
        for name, array in zip(STATES, arrays, strict=False):
            getattr(self, name).append(torch.as_tensor(np.array(array), device=self.device))

    def compute(self) -> dict[str, Any]:
        """Returns the summary of all images as tensors by key."""
        if not self.confusion:
            raise ValueError("TorchFlipMetric: expected at least one update, found none.")
        stored = {}
        for name in STATES:
            values = getattr(self, name)
            if values:
                stored[name] = np.asarray(dim_zero_cat(values).cpu())
        images = Decomposition(stored["confusion"], stored["risk_sum"], self.batch.spec.background)
        groups = []
        if "groups" in stored:
            groups.append(stored["groups"])
        summary = _scalars(self.batch._summary(images, groups))
        return {name: torch.tensor(summary[name], device=self.device) for name in self.keys or summary}


def _scalars(summary: Summary) -> dict[str, float]:
    return {name: float(value) for name, value in summary.items() if isinstance(value, int | float)}
