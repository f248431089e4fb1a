"""`FlipMetric`: accumulates decompositions over the batches of an evaluation loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike

from flipjax.config.groups import AnyGroups
from flipjax.metrics.anatomy.flips import pooled_kinds
from flipjax.metrics.anatomy.relations import Anatomy, check_anatomy, settle_anatomy
from flipjax.metrics.decomposition import Decomposition, concatenate
from flipjax.metrics.images import read_images
from flipjax.metrics.inputs.classes import LabelOptions, LabelSpec
from flipjax.metrics.inputs.groups import Membership, join_memberships, read_membership
from flipjax.metrics.inputs.host import is_tensor
from flipjax.metrics.kernels import decompose
from flipjax.metrics.summary.evaluate import Summary, rate_intervals, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


SHARED = ("background", "ignore_index", "kind", "spatial_ndim")
"""Fields of `LabelSpec` that are equal in all metrics of a merge."""
MOST_LISTED = 8
"""Most images that an error lists."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """N images of a batch."""

    images: Decomposition
    """Their decomposition, NumPy leaves (N, C, C) and (N,)."""
    membership: Membership
    """Their groups and clusters."""


class FlipMetric:
    """Accumulates decompositions over batches of PyTorch, NumPy or JAX arrays, with the interface of torchmetrics.

    A tensor of PyTorch, and an array of JAX, is reduced on the device where it is: predictions never leave it. What
    reaches the host, and is kept as NumPy arrays, are the confusion matrix and the summed entropy of each image, and
    the names of groups and clusters. Labels that are a tensor lie on the device of the predictions.

    It can be pickled, so `torch.distributed.all_gather_object` and `merge` combine processes. For torchmetrics and
    Lightning use `TorchFlipMetric`.

    With `DataLoader(num_workers=...)` pass `persistent_workers=True`, so that no worker is forked after JAX has
    started its threads; `update` raises an error in such a worker, which would otherwise hang.

    Args:
        class_names: names of all C classes, or of the foreground classes alone; else `background`, `class1`, ...
        all_groups: None: groups have any names. `Groups()`: groups are numbers 2 * class + scene of two classes, as in
            `summarize`. `NamedGroups`: all names, so that the summary also has groups without images.
        anatomy: mirror pairs and chains of classes, which add `flip_mirror`, `flip_shift` and `flip_other` to the
            summary; "names" finds them in the class names, None looks for none.
        **options: further fields of `LabelSpec`; masks need `num_classes`.

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
        class_names: Sequence[str] | None = None,
        all_groups: AnyGroups | None = None,
        anatomy: Anatomy | str | None = "names",
        **options: Unpack[LabelOptions],
    ):
        """Starts empty.

        Raises:
            TypeError, ValueError: invalid fields.
        """
        self.spec = LabelSpec(class_names=class_names, **options)
        if self.spec.kind == "masks" and self.spec.num_classes is None:
            raise ValueError("num_classes: expected the number of classes for masks, found None.")
        check_anatomy(anatomy)
        self.all_groups = all_groups
        self.anatomy = anatomy
        self._options = options
        self.reset()

    def reset(self) -> None:
        """Removes all images."""
        self._batches: tuple[Batch, ...] = ()

    def update(
        self,
        predictions: ArrayLike,
        labels: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        clusters: ArrayLike | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            predictions: as `decompose` takes them; (N, C, *spatial) with `channels="first"`.
            labels: (N, *spatial) integers.
            groups: N names of groups, texts or integers, such as sites; with `all_groups` names or numbers of these.
                Copied; with every batch or with none.
            clusters: N names of clusters, texts or integers, such as patients or films, whose images are not
                independent: `intervals` counts them as one. With every batch or with none.

        Raises:
            TypeError, ValueError: invalid arrays as in `decompose`, NaN scores, a different C, or invalid groups. The
                batch is then not added.
        """
        images = self._decompose(predictions, labels)
        self._check_images(images)
        earlier = None
        if self._batches:
            earlier = self._batches[0].membership
        membership = read_membership(
            groups,
            clusters,
            n_images=len(images.risk_sum),
            classes=images.confusion.shape[-1],
            background=images.background,
            all_groups=self.all_groups,
            earlier=earlier,
        )
        self._batches += (Batch(images, membership),)

    def _decompose(self, predictions: ArrayLike, labels: ArrayLike) -> Decomposition:
        """Returns the decomposition of a batch, reduced on the device of the predictions, with NumPy leaves."""
        if is_tensor(predictions):
            from flipjax.metrics.pixels.tensors import decompose_tensors  # Imported here: PyTorch is no dependency.

            return decompose_tensors(predictions, labels, self.spec)
        return concatenate([decompose(predictions, labels, **self._options)])

    def _check_images(self, images: Decomposition) -> None:
        """Raises a ValueError for another number of classes than before, or for NaN scores."""
        earlier = None
        if self._batches:
            earlier = self._batches[0].images.confusion.shape[-1]
        self.spec.settle(images.confusion.shape[-1], earlier=earlier)
        broken = np.flatnonzero(np.isnan(images.risk_sum))
        if len(broken) and self.spec.kind != "masks":
            raise ValueError(
                f"{self.spec.kind}: expected numbers, found NaN in images {broken[:MOST_LISTED].tolist()}."
            )

    @property
    def decomposition(self) -> Decomposition:
        """The decomposition of all images, with NumPy leaves; raises a ValueError before the first update."""
        return _join(self._batches).images

    @property
    def last_batch(self) -> Batch:
        """The images of the last update."""
        return self._batches[-1]

    def compute(self) -> Summary:
        """Returns the summary of all images; see `summarize`."""
        return self.summarize_batch(_join(self._batches))

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Returns the 95% intervals of all rates and of mean IoU and Dice in `compute`, over images or their clusters.

        Source: `flipjax.metrics.statistics.intervals`.

        Example:
            >>> metric = FlipMetric(kind="masks", num_classes=3)
            >>> labels = np.array([[[0, 1, 2]]] * 3)
            >>> metric.update(labels, labels, groups=["north", "north", "south"])
            >>> low, high = metric.intervals()["fg_flip"]
            >>> round(high, 3), sorted(key for key in metric.intervals() if key.endswith("/fg_flip"))
            (0.708, ['group/north/fg_flip', 'group/south/fg_flip'])
        """
        return self.intervals_of_batch(_join(self._batches))

    def intervals_of_batch(self, batch: Batch) -> dict[str, tuple[float, float]]:
        """Returns the intervals of the numbers of a batch; see `intervals`."""
        numbers, all_groups = batch.membership.numbered_groups(self.all_groups)
        images = read_images(batch.images, numbers, class_names=self.spec.class_names, all_groups=all_groups)
        return rate_intervals(images, images.group_names, batch.membership.numbered_clusters)

    def __call__(self, predictions: ArrayLike, labels: ArrayLike, groups: ArrayLike | None = None) -> Summary:
        """Adds a batch as `update` does and returns the summary of this batch."""
        self.update(predictions, labels, groups)
        return self.summarize_batch(self.last_batch)

    def summarize_batch(self, batch: Batch) -> Summary:
        """Returns the numbers of a batch, with the kinds of flips if classes have mirror images or chains."""
        images = batch.images
        numbers, all_groups = batch.membership.numbered_groups(self.all_groups)
        summary = summarize(images, numbers, class_names=self.spec.class_names, all_groups=all_groups)
        class_names = self.spec.names(images.confusion.shape[-1])
        anatomy = settle_anatomy(self.anatomy, class_names, self.spec.background)
        if anatomy:
            summary.update(pooled_kinds(images, anatomy))
        return summary

    def merge(self, *others: FlipMetric) -> Self:
        """Adds the images of other metrics, in order, and returns this metric.

        Raises:
            ValueError: different options, numbers or names of classes, or only some with groups. Nothing is added then.
        """
        metrics = (self, *others)
        filled = [metric._batches[0] for metric in metrics if metric._batches]
        named = [metric for metric in metrics if metric.spec.class_names is not None]
        for name in SHARED:
            _check_same(name, [getattr(metric.spec, name) for metric in metrics])
        _check_same("all_groups", [metric.all_groups for metric in metrics])
        _check_same("anatomy", [metric.anatomy for metric in metrics])
        _check_same("classes", [batch.images.confusion.shape[-1] for batch in filled])
        _check_same("with groups", [batch.membership.groups is not None for batch in filled])
        _check_same("with clusters", [batch.membership.clusters is not None for batch in filled])
        if filled:
            classes = filled[0].images.confusion.shape[-1]
            _check_same("class_names", [metric.spec.names(classes) for metric in named])
        else:
            _check_same("class_names", [metric.spec.class_names for metric in named])
        self._batches = tuple(batch for metric in metrics for batch in metric._batches)
        return self

    def plot(self, ax: Axes | None = None) -> tuple[Figure | SubFigure, Axes]:
        """Draws the shares of the true foreground, and returns matplotlib's figure and axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from matplotlib import pyplot

        summary = self.compute()
        colours = {"correct": "#0072B2", "flip": "#E69F00", "miss": "#999999"}
        if ax is None:
            ax = pyplot.subplots()[1]
        bars = ax.bar([*colours], [summary[f"fg_{name}"] for name in colours], color=[*colours.values()])
        ax.bar_label(bars, fmt="{:.3f}")
        ax.set(ylim=(0, 1), ylabel="share of the true foreground", title=f"{summary['n_images']} images")
        return ax.figure, ax


def _join(batches: Sequence[Batch]) -> Batch:
    """Returns the images of all batches; raises a ValueError for none."""
    if not batches:
        raise ValueError("FlipMetric: expected at least one update, found none.")
    images = concatenate([batch.images for batch in batches])
    return Batch(images, join_memberships([batch.membership for batch in batches]))


def _check_same(name: str, values: Sequence[object]) -> None:
    """Raises a ValueError if the metrics of a merge differ."""
    different = list(dict.fromkeys(values))
    if len(different) > 1:
        raise ValueError(f"{name}: expected the same in all metrics of a merge, found {different}.")
