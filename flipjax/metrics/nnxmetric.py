"""`FlipCounts` as a metric of Flax NNX, for `nnx.MultiMetric` and loops with `nnx.jit`. Needs Flax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from flax import nnx
from numpy.typing import ArrayLike

from flipjax.metrics.counts import FlipCounts
from flipjax.metrics.inputs.classes import LabelSpec, ScoreOptions
from flipjax.metrics.summary.evaluate import Summary


class NnxFlipMetric(nnx.Metric):
    """Sums the counts of batches, and computes the keys of `FlipCounts.compute`.

    Logits and counts stay on their device until `compute`. Works under `nnx.jit`, and under `nnx.vmap` over seeds,
    where `compute` returns arrays of seeds.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> metric = NnxFlipMetric(3, class_names=["cat", "dog"])
        >>> labels = jnp.array([[[0, 1, 2, 2]]])
        >>> update = nnx.jit(lambda metric, logits, labels: metric.update(logits=logits, labels=labels))
        >>> update(metric, jax.nn.one_hot(jnp.array([[[0, 1, 1, 2]]]), 3), labels)
        >>> metric.compute()["flip/dog"]
        0.5
    """

    def __init__(self, num_classes: int, *, class_names: Sequence[str] | None = None, **options: Unpack[ScoreOptions]):
        """Starts empty.

        Args:
            num_classes: the number of classes, C.
            class_names: names of all C classes, or of the foreground classes alone; None: `background`, `class1`, ...
            **options: further fields of `LabelSpec`.

        Raises:
            TypeError, ValueError: invalid fields.
        """
        self.spec = LabelSpec(num_classes=num_classes, class_names=class_names, **options)
        self.spec.names(num_classes)
        self.counts = nnx.metrics.MetricState(self._empty())

    def _empty(self) -> FlipCounts:
        """Returns counts of no image."""
        return FlipCounts.empty(num_classes=self.spec.num_classes, background=self.spec.background)

    def reset(self) -> None:
        """Removes all images."""
        self.counts.set_value(self._empty())

    def update(self, *, logits: ArrayLike, labels: ArrayLike, mask: ArrayLike | None = None, **_: object) -> None:
        """Adds a batch, as `FlipCounts.from_model_output` takes it; other arguments are those of other metrics.

        Raises:
            TypeError, ValueError: invalid arrays, or another number of classes. The batch is then not added.
        """
        spec = self.spec
        num_classes = None
        if spec.kind == "masks":
            num_classes = spec.num_classes
        batch = FlipCounts.from_model_output(
            logits,
            labels,
            mask=mask,
            background=spec.background,
            ignore_index=spec.ignore_index,
            spatial_ndim=spec.spatial_ndim,
            kind=spec.kind,
            channels=spec.channels,
            num_classes=num_classes,
        )
        self.counts.set_value(self.counts.get_value().merge(batch))

    def compute(self) -> Summary:
        """Returns the summary of all images; see `FlipCounts.compute`."""
        return self.counts.get_value().compute(class_names=self.spec.class_names)
