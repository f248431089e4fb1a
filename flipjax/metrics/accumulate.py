"""Decompositions of many batches as one, and an object that gathers them in other people's loops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from flipjax.metrics.checks import to_array
from flipjax.metrics.decomposition import Decomposition
from flipjax.metrics.kernels import decompose
from flipjax.metrics.summary import summarize


def concatenate(parts: Iterable[Decomposition]) -> Decomposition:
    """Return the images of all parts, in order, as one decomposition with NumPy leaves, on which all shares are exact.

    Args:
        parts: one or more, leaves of any leading axes: (C, C) and () of one image, (n, C, C) and (n,) of a batch.

    Returns:
        A `Decomposition` with leaves int32 (images, C, C) and float32 (images,).

    Raises:
        ValueError: no part, or parts of different numbers of classes or backgrounds.

    Example:
        >>> labels = np.array([[0, 1, 2], [0, 0, 1]])
        >>> logits = np.eye(3, dtype=np.float32)[labels]
        >>> parts = [decompose(logits[None], labels[None]), decompose(logits, labels)]
        >>> concatenate(parts).confusion.shape
        (2, 3, 3)
    """
    parts = list(parts)
    if not parts:
        raise ValueError("parts: expected at least one decomposition, found none.")
    kinds = sorted({(part.confusion.shape[-1], part.background) for part in parts})
    if len(kinds) > 1:
        texts = ", ".join(f"{classes} classes with background {background}" for classes, background in kinds)
        raise ValueError(f"parts: expected one number of classes and one background, found {texts}.")
    classes, background = kinds[0]
    confusion = [np.asarray(part.confusion).reshape(-1, classes, classes) for part in parts]
    risk_sum = [np.asarray(part.risk_sum).reshape(-1) for part in parts]
    return Decomposition(np.concatenate(confusion), np.concatenate(risk_sum), background)


class FlipMetric:
    """Gathers decompositions batch by batch, in the manner of torchmetrics: PyTorch, NumPy or JAX arrays come in.

    What is kept of an image is its confusion matrix and its sum of entropies, as NumPy arrays: it can be pickled, and
    gathered over processes by `torch.distributed.all_gather_object` and `merge`.

    With `DataLoader(num_workers=...)` pass `persistent_workers=True`, so that no worker is forked after JAX has
    started its threads: JAX would warn of a deadlock.

    Args:
        background: the class that is background.
        ignore_index: label of pixels that count nowhere.
        spatial_ndim: 2 for images, 3 for volumes.
        kind: of the predictions: `logits`, `probabilities` or `masks`.
        num_classes: for masks, the number of classes; else the predictions tell it.
        channels: `last`, or `first` for PyTorch's (N, C, H, W).
        class_names: as in `summarize`.

    Example:
        >>> metric = FlipMetric(channels="first", class_names=["cat", "dog"])
        >>> labels = np.array([[[0, 1, 2]]])
        >>> metric.update(np.moveaxis(np.eye(3)[labels], -1, 1), labels)
        >>> metric.update(np.moveaxis(np.eye(3)[labels], -1, 1), labels[:, :, ::-1])
        >>> metric.compute()["fg_correct"], metric.compute()["iou/cat"]
        (0.75, 1.0)
    """

    def __init__(
        self,
        *,
        background: int = 0,
        ignore_index: int | None = None,
        spatial_ndim: int = 2,
        kind: str = "logits",
        num_classes: int | None = None,
        channels: str = "last",
        class_names: Sequence[str] | None = None,
    ):
        """Start with no image."""
        if channels not in ("first", "last"):
            raise ValueError(f"channels: expected 'first' or 'last', found {channels!r}.")
        if kind == "masks" and num_classes is None:
            raise ValueError("num_classes: expected the number of classes, which masks do not tell, found None.")
        self.background = background
        self.ignore_index = ignore_index
        self.spatial_ndim = spatial_ndim
        self.kind = kind
        self.num_classes = num_classes
        self.channels = channels
        self.class_names = class_names
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._parts: list[Decomposition] = []
        self._groups: list[np.ndarray] = []

    def update(self, predictions: Any, labels: Any, groups: Any = None) -> None:
        """Add a batch.

        Args:
            predictions: as `decompose` takes them; (N, C, *spatial) with `channels="first"`.
            labels: (N, *spatial) integers.
            groups: (N,) integers as in `summarize`; with every batch or with none.

        Raises:
            TypeError, ValueError: what `decompose` raises, or groups that do not fit; then nothing is added.
        """
        predictions = to_array(predictions)
        if self.channels == "first" and self.kind != "masks":
            if predictions.ndim <= self.spatial_ndim:
                raise ValueError(f"predictions: expected (N, C, *spatial), found shape {predictions.shape}.")
            predictions = np.moveaxis(np.asarray(predictions), -1 - self.spatial_ndim, -1)
        part = concatenate(
            [
                decompose(
                    predictions,
                    labels,
                    background=self.background,
                    ignore_index=self.ignore_index,
                    spatial_ndim=self.spatial_ndim,
                    kind=self.kind,
                    num_classes=self.num_classes,
                )
            ]
        )
        images = len(part.risk_sum)
        if self._parts and (groups is None) == bool(self._groups):
            raise ValueError("groups: expected with every batch or with none.")
        if groups is not None:
            groups = np.atleast_1d(to_array(groups))
            if groups.shape != (images,):
                raise ValueError(f"groups: expected {images} integers, one an image, found shape {groups.shape}.")
            self._groups.append(groups)
        self._parts.append(part)

    @property
    def decomposition(self) -> Decomposition:
        """The decomposition of all images so far, NumPy leaves; a ValueError where there is none."""
        if not self._parts:
            raise ValueError("FlipMetric: expected at least one update, found none.")
        return concatenate(self._parts)

    def compute(self) -> dict[str, Any]:
        """Return what `summarize` says of all images so far."""
        groups = np.concatenate(self._groups) if self._groups else None
        return summarize(self.decomposition, groups, class_names=self.class_names)

    def merge(self, *others: FlipMetric) -> Self:
        """Add the images of others, in order, and return this metric.

        Raises:
            ValueError: where only one side has groups.
        """
        for other in others:
            if self._parts and other._parts and bool(self._groups) != bool(other._groups):
                raise ValueError("groups: expected on both sides of a merge or on neither.")
            self._parts.extend(other._parts)
            self._groups.extend(other._groups)
        return self

    def plot(self, ax: Any = None) -> tuple[Any, Any]:
        """Draw the shares of the true foreground, and return matplotlib's figure and axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from matplotlib import pyplot

        summary = self.compute()
        figure, ax = pyplot.subplots() if ax is None else (ax.figure, ax)
        names = ("correct", "flip", "miss")
        bars = ax.bar(names, [summary[f"fg_{name}"] for name in names], color=["#0072B2", "#E69F00", "#999999"])
        ax.bar_label(bars, fmt="{:.3f}")
        ax.set(ylim=(0, 1), ylabel="share of the true foreground", title=f"{summary['n_images']} images")
        return figure, ax
