"""`FlipMetric` as a torchmetrics metric, for `MetricCollection` and Lightning. Needs PyTorch and torchmetrics."""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    import torch  # pyright: ignore[reportMissingImports]
    from torchmetrics import Metric  # pyright: ignore[reportMissingImports]
    from torchmetrics.utilities import dim_zero_cat  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError as error:
    needed = f"TorchFlipMetric: expected PyTorch and torchmetrics, found no {error.name}; pip install torchmetrics."
    raise ModuleNotFoundError(needed, name=error.name) from None

from flipjax.metrics.accumulate import Batch, FlipMetric
from flipjax.metrics.anatomy.flips import FLIP_KINDS
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.inputs.groups import Membership
from flipjax.metrics.summary.evaluate import Summary, summarize

STATES = ("confusion", "risk_sum", "groups", "clusters")
"""Names of the metric's states, which torchmetrics joins over processes."""
NAME_BYTES = 64
"""Bytes of the name of a group or a cluster, at most: processes exchange names as tensors of bytes."""


class TorchFlipMetric(Metric):
    """Computes the scalars of `summarize` as a `torchmetrics.Metric`, which also synchronises processes.

    Tensors are reduced on the device where they are, by PyTorch. Predictions never leave it: what reaches the host are
    the confusion matrix and the summed entropy of each image, and the names of groups and clusters. No CUDA device was
    at hand to try it: tests run on the CPU, where a pixel that reaches NumPy lets them fail.

    `compute` returns a dict of scalar tensors by key.

    Args:
        keys: scalar keys of `summarize`; None: all of them. Names of classes and groups are checked with a batch.
        channels: `first`, as in PyTorch, or `last`.
        **spec: arguments of `FlipMetric`.

    Raises:
        TypeError, ValueError: invalid fields, or unknown keys.

    Example:
        >>> metric = TorchFlipMetric(keys=("fg_correct", "dice/cat"), class_names=["cat", "dog"])
        >>> labels = torch.tensor([[[0, 1, 2]]])
        >>> metric.update(5.0 * torch.eye(3)[labels].movedim(-1, 1), labels)
        >>> metric.compute()
        {'fg_correct': tensor(1.), 'dice/cat': tensor(1.)}
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

    def update(self, preds: Any, target: Any, groups: Any = None, *, clusters: Any = None) -> None:
        """Adds a batch; see `FlipMetric.update`. Raises a ValueError for an unknown key, too."""
        # `self.batch` counts a batch and checks it beside the last; torchmetrics owns the state, to move and gather it.
        metric = self.batch
        if not self.confusion:
            metric.reset()
        metric.update(preds, target, groups, clusters=clusters)
        batch = metric.last_batch
        metric._batches = (batch,)
        if self.keys and not self.confusion:
            scalars = _scalars(metric.compute())
            unknown = set(self.keys) - scalars.keys()
            if unknown:
                raise ValueError(f"keys: expected keys of {', '.join(scalars)}, found {', '.join(sorted(unknown))}.")
        arrays = {"confusion": batch.images.confusion, "risk_sum": batch.images.risk_sum}
        for name, names in vars(batch.membership).items():
            if names is not None:
                arrays[name] = to_bytes(names, name=name)
        for name, array in arrays.items():
            getattr(self, name).append(torch.as_tensor(np.array(array), device=self.device))

    def compute(self) -> dict[str, Any]:
        """Returns the summary of all images as tensors by key."""
        summary = _scalars(self.batch.summarize_batch(self._images()))
        return {name: torch.tensor(summary[name], device=self.device) for name in self.keys or summary}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Returns the 95% intervals of `FlipMetric.intervals` over the images of all processes, or their clusters."""
        with self.sync_context(should_sync=self._to_sync, should_unsync=self._should_unsync):
            return self.batch.intervals_of_batch(self._images())

    def _images(self) -> Batch:
        """Returns all images in host memory; raises a ValueError before the first update."""
        # Lists of tensors, or after a synchronisation one tensor each.
        if not len(self.confusion):
            raise ValueError("TorchFlipMetric: expected at least one update, found none.")
        stored = {}
        for name in STATES:
            values = getattr(self, name)
            if len(values):
                stored[name] = dim_zero_cat(values).cpu().numpy()
        images = Decomposition(stored["confusion"], stored["risk_sum"], self.batch.spec.background)
        groups = None
        if "groups" in stored:
            groups = from_bytes(stored["groups"])
            if self.batch.all_groups is not None:
                groups = groups.astype(np.int64)
        clusters = None
        if "clusters" in stored:
            clusters = from_bytes(stored["clusters"])
        return Batch(images, Membership(groups, clusters))


def to_bytes(names: np.ndarray, *, name: str) -> np.ndarray:
    """Returns names, or numbers, (n,) as uint8 (n, NAME_BYTES); raises a ValueError for a longer one.

    Args:
        names: of groups or clusters.
        name: of the argument, for the message.

    Example:
        >>> from_bytes(to_bytes(np.array(["Köln", "west"], object), name="groups")).tolist()
        ['Köln', 'west']
    """
    encoded = [str(text).encode() for text in names.tolist()]
    longest = max(encoded, key=len, default=b"")
    if len(longest) > NAME_BYTES:
        raise ValueError(f"{name}: expected names of at most {NAME_BYTES} bytes, found {longest.decode()!r}.")
    return np.array(encoded, f"S{NAME_BYTES}").view(np.uint8).reshape(-1, NAME_BYTES)


def from_bytes(stored: np.ndarray) -> np.ndarray:
    """Returns the names that `to_bytes` stored."""
    texts = np.ascontiguousarray(stored, np.uint8).view(f"S{NAME_BYTES}").ravel()
    return np.array([text.decode() for text in texts.tolist()], object)


def _scalars(summary: Summary) -> dict[str, float]:
    """Returns the entries of a summary that are one number."""
    return {name: float(value) for name, value in summary.items() if isinstance(value, int | float)}
