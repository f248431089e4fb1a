"""The sufficient statistic: what `decompose` returns, and the shares that follow from it. Needs no JAX by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from flipjax.metrics.classes import Background, is_foreground, read_background


@dataclasses.dataclass(frozen=True, eq=False)
class Decomposition:
    """Counts of truth against prediction, and the summed flip-risk, of each image.

    A pytree of two leaves: it maps, shards, stacks and indexes with `jax.tree.map`. The derived shares are NaN where
    their denominator is empty. With NumPy leaves they are NumPy float64, from exact integers; with JAX leaves float32.

    Attributes:
        confusion: int32 (..., C, C), pixels; rows are the truth, columns the prediction. Ignored pixels are not in it.
        risk_sum: float32 (...), nats: the entropy of the foreground classes summed over the predicted foreground.
        background: the class that is background, several in a tuple, or None: then nothing is missed and nothing is
            spill. Static.

    Source: Achara et al., arXiv 2604.13326, foreground decomposition and flip-risk.

    Example:
        >>> counts = np.array([[5, 1, 0], [2, 6, 2], [0, 0, 0]])
        >>> image = Decomposition(counts, np.float32(3.0))
        >>> print(image.correct, image.flip, image.miss, round(float(image.spill), 4), round(float(image.flip_risk), 4))
        0.6 0.2 0.2 0.1667 0.3333
    """

    confusion: Any
    risk_sum: Any
    background: Background = 0

    def __post_init__(self) -> None:
        """Brings the background to one form, so that equal sets are equal in a pytree."""
        object.__setattr__(self, "background", read_background(self.background))

    @property
    def correct(self) -> Any:
        """Share (...) of the true foreground that is predicted as what it is."""
        truth, _, same = self._cells()
        return self._ratio(self._count(truth & same), self._count(truth))

    @property
    def flip(self) -> Any:
        """Share (...) of the true foreground that is predicted as another foreground class."""
        truth, predicted, same = self._cells()
        return self._ratio(self._count(truth & predicted & ~same), self._count(truth))

    @property
    def miss(self) -> Any:
        """Share (...) of the true foreground that is predicted as background."""
        truth, predicted, _ = self._cells()
        return self._ratio(self._count(truth & ~predicted), self._count(truth))

    @property
    def spill(self) -> Any:
        """Share (...) of the true background that is predicted as foreground."""
        truth, predicted, _ = self._cells()
        return self._ratio(self._count(~truth & predicted), self._count(~truth))

    @property
    def flip_risk(self) -> Any:
        """Mean entropy (...) in nats over the predicted foreground that is not ignored."""
        _, predicted, _ = self._cells()
        return self._ratio(self.risk_sum, self._count(predicted))

    def _cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns which cells (C, C) have true foreground, predicted foreground, and the same class twice."""
        classes = self.confusion.shape[-1]
        foreground = is_foreground(classes, self.background)
        truth, predicted = np.meshgrid(foreground, foreground, indexing="ij")
        return truth, predicted, np.eye(classes, dtype=bool)

    def _count(self, cells: np.ndarray) -> Any:
        if isinstance(self.confusion, np.ndarray) or _on_host(self.confusion):
            return np.sum(np.asarray(self.confusion), axis=(-2, -1), where=cells, dtype=np.int64)
        return self.confusion.sum(axis=(-2, -1), where=cells)

    def _ratio(self, part: Any, whole: Any) -> Any:
        if isinstance(self.confusion, np.ndarray):
            return divide(part, whole)[()]
        import jax.numpy as jnp

        if _on_host(part, whole):
            return jnp.asarray(divide(part, whole, dtype=np.float32))
        return jnp.where(whole > 0, part / jnp.maximum(whole, 1), jnp.nan)


def concatenate(parts: Iterable[Decomposition]) -> Decomposition:
    """Returns the images of all parts, in order, as one decomposition with NumPy leaves, on which all shares are exact.

    Args:
        parts: one or more, leaves of any leading axes: (C, C) and () of one image, (n, C, C) and (n,) of a batch.

    Returns:
        A `Decomposition` with leaves int32 (images, C, C) and float32 (images,).

    Raises:
        ValueError: no part, or parts of different numbers of classes or backgrounds.

    Example:
        >>> from flipjax.metrics import decompose
        >>> labels = np.array([[0, 1, 2], [0, 0, 1]])
        >>> logits = np.eye(3, dtype=np.float32)[labels]
        >>> parts = [decompose(logits[None], labels[None]), decompose(logits, labels)]
        >>> concatenate(parts).confusion.shape
        (2, 3, 3)
    """
    parts = list(parts)
    if not parts:
        raise ValueError("parts: expected at least one decomposition, found none.")
    kinds = list(dict.fromkeys((part.confusion.shape[-1], part.background) for part in parts))
    if len(kinds) > 1:
        texts = ", ".join(f"{classes} classes with background {background}" for classes, background in kinds)
        raise ValueError(f"parts: expected one number of classes and one background, found {texts}.")
    classes, background = kinds[0]
    confusion = [np.asarray(part.confusion).reshape(-1, classes, classes) for part in parts]
    risk_sum = [np.asarray(part.risk_sum).reshape(-1) for part in parts]
    return Decomposition(np.concatenate(confusion), np.concatenate(risk_sum), background)


def divide(part: Any, whole: Any, *, dtype: type = np.float64) -> np.ndarray:
    """Returns shares on the host, where nothing is compiled for another number of images; NaN where a whole is empty.

    Example:
        >>> divide([1, 0], [4, 0]).tolist()
        [0.25, nan]
    """
    numerator, denominator = np.asarray(part, dtype), np.asarray(whole, dtype)
    empty = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan, dtype)
    return np.divide(numerator, denominator, out=empty, where=denominator > 0)


def flips_of(confusion: np.ndarray, *, background: Background = 0) -> np.ndarray:
    """Returns the confusion matrices (..., C, C) with the flips alone, the rest 0.

    Example:
        >>> flips_of(np.full((3, 3), 7)).tolist()
        [[0, 0, 0], [0, 0, 7], [0, 7, 0]]
    """
    C = confusion.shape[-1]
    inside = is_foreground(C, background)
    return confusion * (inside[:, None] & inside & ~np.eye(C, dtype=bool))


def _on_host(*arrays: Any) -> bool:
    from flipjax.metrics.checks import on_host

    return on_host(*arrays)
