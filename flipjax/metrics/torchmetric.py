"""`FlipMetric` as a torchmetrics metric, for `MetricCollection` and Lightning. Needs PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torchmetrics import Metric  # pyright: ignore[reportMissingImports]
from torchmetrics.utilities import dim_zero_cat  # pyright: ignore[reportMissingImports]

from flipjax.metrics.accumulate import Batch, FlipMetric
from flipjax.metrics.anatomy.flips import FLIP_KINDS
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.summary.evaluate import Summary, summarize

STATES = ("confusion", "risk_sum", "groups")
"""Names of the metric's states, which torchmetrics joins over processes."""
NAME_BYTES = 64
"""Bytes of the name of a group, at most: processes exchange names as tensors of bytes."""


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
        metric = self.batch
        if not self.confusion:
            metric.reset()
        metric.update(preds, target, groups)
        batch = metric.last_batch
        metric._batches = (batch,)
        if self.keys and not self.confusion:
            scalars = _scalars(metric.compute())
            unknown = set(self.keys) - scalars.keys()
            if unknown:
                raise ValueError(f"keys: expected keys of {', '.join(scalars)}, found {', '.join(sorted(unknown))}.")
        arrays = [batch.images.confusion, batch.images.risk_sum]
        if batch.groups is not None:
            arrays.append(to_bytes(batch.groups))
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
        groups = None
        if "groups" in stored:
            groups = from_bytes(stored["groups"])
            if self.batch.all_groups is not None:
                groups = groups.astype(np.int64)
        summary = _scalars(self.batch.summarize_batch(Batch(images, groups, None)))
        return {name: torch.tensor(summary[name], device=self.device) for name in self.keys or summary}


def to_bytes(names: np.ndarray) -> np.ndarray:
    """Returns names, or numbers, (n,) as uint8 (n, NAME_BYTES); raises a ValueError for a longer one.

    Example:
        >>> from_bytes(to_bytes(np.array(["Köln", "west"], object))).tolist()
        ['Köln', 'west']
    """
    encoded = [str(name).encode() for name in names.tolist()]
    longest = max(encoded, key=len, default=b"")
    if len(longest) > NAME_BYTES:
        raise ValueError(f"groups: expected names of at most {NAME_BYTES} bytes, found {longest.decode()!r}.")
    return np.array(encoded, f"S{NAME_BYTES}").view(np.uint8).reshape(-1, NAME_BYTES)


def from_bytes(stored: np.ndarray) -> np.ndarray:
    """Returns the names that `to_bytes` stored."""
    texts = np.ascontiguousarray(stored, np.uint8).view(f"S{NAME_BYTES}").ravel()
    return np.array([text.decode() for text in texts.tolist()], object)


def _scalars(summary: Summary) -> dict[str, float]:
    """Returns the entries of a summary that are one number."""
    return {name: float(value) for name, value in summary.items() if isinstance(value, int | float)}
