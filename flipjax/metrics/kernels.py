"""The sufficient statistic of a segmentation and the maps drawn from it, over logits, probabilities or masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.metrics import blocks, checks, pixels
from flipjax.metrics.checks import Options
from flipjax.metrics.classes import background_classes
from flipjax.metrics.decomposition import Decomposition

# Here, where JAX is loaded: what reads stored counts does without it.
jax.tree_util.register_dataclass(Decomposition, data_fields=["confusion", "risk_sum"], meta_fields=["background"])


def decompose(
    logits: Any,
    labels: Any,
    *,
    background: int | tuple[int, ...] | None = 0,
    ignore_index: int | None = None,
    spatial_ndim: int = 2,
    kind: str = "logits",
    channels: str = "last",
    num_classes: int | None = None,
) -> Decomposition:
    """Counts truth against prediction in each image and sums the flip-risk over its predicted foreground, in one pass.

    A pixel is predicted as its largest logit, the first of equals. A NaN logit counts as the largest, as in
    `numpy.argmax`, so the pixel is counted, and the `risk_sum` of its image is NaN. Logits may be infinite.
    Under jit or vmap the values of labels cannot be checked: a label outside 0..C-1 then counts nowhere.
    Outside jit, arrays in host memory run through programs of a few sizes: another image size, or a smaller last batch,
    compiles nothing. Counts do not depend on it; `risk_sum` is rounded in another order.

    Args:
        logits: (..., *spatial, C) floating point of any precision, with two classes or more beside the background;
            computed in float32. NumPy, JAX or PyTorch (CPU). For `kind="masks"` class indices (..., *spatial).
        labels: (..., *spatial) integers in 0..C-1, or `ignore_index`.
        background: the class that is background, several in a tuple, or None where no class is: then nothing is missed,
            nothing is spill, and flip-risk is over all pixels.
        ignore_index: label of pixels that leave every count and the flip-risk; may lie outside 0..C-1.
        spatial_ndim: 2 for images, 3 for volumes.
        kind: `logits`; `probabilities`, the softmax over all classes; or `masks`, which have no scores: their
            `risk_sum` is NaN.
        channels: `last`, or `first` for (..., C, *spatial), as in PyTorch.
        num_classes: C of masks; None: one more than the largest class.

    Returns:
        A `Decomposition` with leaves of shape (..., C, C) and (...).

    Raises:
        TypeError: logits that are not floating point, or labels that are not integers.
        ValueError: rank, shapes, C, background or values that do not fit.

    Warns:
        UserWarning: logits that are probabilities, by their values; outside jit.

    Source: Achara et al., arXiv 2604.13326, foreground decomposition and flip-risk.

    Example:
        >>> import numpy as np
        >>> labels = np.array([[0, 1, 1, 2]])
        >>> predicted = np.array([[0, 1, 2, 0]])
        >>> result = decompose(np.eye(3, dtype=np.float32)[predicted], labels)
        >>> result.confusion.tolist()
        [[1, 0, 0], [0, 1, 1], [1, 0, 0]]
        >>> print(f"{result.correct:.3f} {result.flip:.3f} {result.miss:.3f}")
        0.333 0.333 0.333
        >>> decompose(predicted, labels, kind="masks").confusion.tolist() == result.confusion.tolist()
        True
    """
    options = Options(background_classes(background), ignore_index, spatial_ndim, kind, num_classes, channels)
    if kind == "masks":
        return _decompose_masks(logits, labels, options)
    labels = checks.to_array(labels, name="labels")
    scores = checks.check_scores(logits, options, labels_shape=labels.shape)
    labels = checks.check_labels(labels, scores.shape[-1], options)
    if not scores.size or not blocks.on_host(scores, labels):
        confusion, risk_sum = pixels.count(
            jnp.asarray(scores), jnp.asarray(labels), options.background, ignore_index, spatial_ndim, kind
        )
        return Decomposition(confusion, risk_sum, options.background)
    C = scores.shape[-1]
    lead = labels.shape[: labels.ndim - spatial_ndim]
    confusion = np.zeros((math.prod(lead), C, C), np.int32)
    risk_sum = np.zeros(math.prod(lead))
    arrays, blanks = _with_blanks(scores, labels, C)
    with jax.ensure_compile_time_eval():
        for block in blocks.cut(arrays, blanks, spatial_ndim=spatial_ndim, lead=len(lead), width=C):
            counts, sums = pixels.count(*block.arrays, options.background, ignore_index, 1, kind)
            confusion[block.place[0]] += block.taken(counts)
            risk_sum[block.place[0]] += block.taken(sums)
    return Decomposition(
        jnp.asarray(confusion.reshape(*lead, C, C)),
        jnp.asarray(risk_sum.astype(np.float32).reshape(lead)),
        options.background,
    )


def flip_risk(
    logits: Any,
    *,
    background: int | tuple[int, ...] | None = 0,
    spatial_ndim: int = 2,
    kind: str = "logits",
    channels: str = "last",
) -> jax.Array:
    """Returns each image's mean entropy of the foreground classes over its predicted foreground: it needs no labels.

    Without labels no pixel can be ignored. Where `decompose` is given an `ignore_index`, its `flip_risk` leaves those
    pixels out and may differ from this one.

    Args:
        logits: (..., *spatial, C) floating point of any precision; computed in float32.
        background: the class that is background, several in a tuple, or None: the mean is then over all pixels.
        spatial_ndim: 2 for images, 3 for volumes.
        kind: `logits` or `probabilities`.
        channels: `last`, or `first` for (..., C, *spatial).

    Returns:
        (...) float32, nats, in 0..log F of F foreground classes; NaN for an image without predicted foreground,
            or with a NaN logit.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: rank, C, background or values that do not fit.

    Source: Achara et al., arXiv 2604.13326, flip-risk.

    Example:
        >>> import numpy as np
        >>> print(f"{flip_risk(np.array([[[0.0, 2.0, 2.0], [3.0, 1.0, 0.0]]])):.4f}")
        0.6931
    """
    options = Options(background_classes(background), spatial_ndim=spatial_ndim, kind=kind, channels=channels)
    scores = checks.check_scores(logits, options)
    return foreground_means(pixels.sum_risk, scores, options.background, spatial_ndim, kind)[0]


def error_map(
    logits: Any,
    labels: Any,
    *,
    background: int | tuple[int, ...] | None = 0,
    ignore_index: int | None = None,
    spatial_ndim: int = 2,
    kind: str = "logits",
    channels: str = "last",
    num_classes: int | None = None,
) -> jax.Array:
    """Says of each pixel what happened to it.

    Takes the arguments of `decompose`, and raises what it raises.

    Returns:
        (..., *spatial) uint8: 0 background (rightly so, or ignored), 1 correct, 2 flip, 3 miss, 4 spill.

    Source: Achara et al., arXiv 2604.13326, foreground decomposition.

    Example:
        >>> import numpy as np
        >>> predicted = np.array([[0, 1, 2, 0, 1]])
        >>> error_map(np.eye(3, dtype=np.float32)[predicted], np.array([[0, 1, 1, 2, 0]])).tolist()
        [[0, 1, 2, 3, 4]]
    """
    options = Options(background_classes(background), ignore_index, spatial_ndim, kind, num_classes, channels)
    if kind == "masks":
        scores, labels, classes = checks.check_masks(logits, labels, options)

        def codes(scores: jax.Array, labels: jax.Array) -> jax.Array:
            return pixels.errors_of_masks(scores, labels, classes, options.background, ignore_index)
    else:
        labels = checks.to_array(labels, name="labels")
        scores = checks.check_scores(logits, options, labels_shape=labels.shape)
        classes = scores.shape[-1]
        labels = checks.check_labels(labels, classes, options)

        def codes(scores: jax.Array, labels: jax.Array) -> jax.Array:
            return pixels.errors(scores, labels, options.background, ignore_index, kind)

    if not labels.size or not blocks.on_host(scores, labels):
        return codes(jnp.asarray(scores), jnp.asarray(labels))
    arrays, blanks = _with_blanks(scores, labels, classes)
    return _map(codes, arrays, blanks, spatial_ndim=spatial_ndim, width=classes, dtype=np.uint8)


def risk_map(
    logits: Any,
    *,
    background: int | tuple[int, ...] | None = 0,
    spatial_ndim: int = 2,
    kind: str = "logits",
    channels: str = "last",
) -> jax.Array:
    """Returns the entropy of the foreground classes at each pixel, whatever is predicted there.

    Takes the arguments of `flip_risk`, which is the mean of this map over the predicted foreground, and raises what it
    raises.

    Returns:
        (..., *spatial) float32, nats, in 0..log F of F foreground classes; NaN where a foreground logit is.

    Source: Achara et al., arXiv 2604.13326, flip-risk.

    Example:
        >>> import numpy as np
        >>> print(risk_map(np.array([[[0.0, 2.0, 2.0], [0.0, 99.0, -99.0]]])).round(4))
        [[0.6931 0.    ]]
    """
    options = Options(background_classes(background), spatial_ndim=spatial_ndim, kind=kind, channels=channels)
    scores = checks.check_scores(logits, options)

    def risks(scores: jax.Array) -> jax.Array:
        return pixels.risks(scores, options.background, kind)

    if not scores.size or not blocks.on_host(scores):
        return risks(jnp.asarray(scores))
    return _map(risks, [np.asarray(scores)], (0,), spatial_ndim=spatial_ndim, width=scores.shape[-1], dtype=np.float32)


def foreground_means(
    sums_of: Callable[..., tuple[jax.Array, ...]],
    scores: Any,
    background: pixels.Classes,
    spatial_ndim: int,
    *options: Any,
) -> list[jax.Array]:
    """Returns means (...) over the predicted foreground, by a program of `pixels` that counts and sums; NaN if none."""
    if not scores.size or not blocks.on_host(scores):
        count, *sums = sums_of(jnp.asarray(scores), None, background, spatial_ndim, *options)
        return [jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan) for total in sums]
    scores = np.asarray(scores)
    lead = scores.shape[: scores.ndim - spatial_ndim - 1]
    totals = np.zeros((0, math.prod(lead)))
    arrays = [scores, np.broadcast_to(np.True_, scores.shape[:-1])]
    with jax.ensure_compile_time_eval():
        for block in blocks.cut(arrays, (0, False), spatial_ndim=spatial_ndim, lead=len(lead), width=scores.shape[-1]):
            parts = [block.taken(part) for part in sums_of(*block.arrays, background, 1, *options)]
            totals = totals if len(totals) else np.zeros((len(parts), math.prod(lead)))
            totals[:, block.place[0]] += parts
    count, *sums = totals
    means = np.divide(sums, count, out=np.full(np.shape(sums), np.nan), where=count > 0)
    return [jnp.asarray(mean.astype(np.float32).reshape(lead)) for mean in means]


def _decompose_masks(predictions: Any, labels: Any, options: Options) -> Decomposition:
    masks, labels, classes = checks.check_masks(predictions, labels, options)
    lead = labels.shape[: labels.ndim - options.spatial_ndim]
    no_risk = jnp.asarray(np.full(lead, np.nan, np.float32))
    if not labels.size or not blocks.on_host(masks, labels):
        confusion = pixels.count_masks(
            jnp.asarray(masks), jnp.asarray(labels), classes, options.ignore_index, options.spatial_ndim
        )
        return Decomposition(confusion, no_risk, options.background)
    confusion = np.zeros((math.prod(lead), classes, classes), np.int32)
    arrays, blanks = _with_blanks(masks, labels, classes)
    with jax.ensure_compile_time_eval():
        for block in blocks.cut(arrays, blanks, spatial_ndim=options.spatial_ndim, lead=len(lead), width=classes):
            counts = pixels.count_masks(*block.arrays, classes, options.ignore_index, 1)
            confusion[block.place[0]] += block.taken(counts)
    return Decomposition(jnp.asarray(confusion.reshape(*lead, classes, classes)), no_risk, options.background)


def _with_blanks(scores: Any, labels: Any, classes: int) -> tuple[list[np.ndarray], tuple[int, int]]:
    """Returns predictions and labels as NumPy arrays, and what fills them up: a label that counts nowhere."""
    labels = np.asarray(labels)
    if np.iinfo(labels.dtype).max < classes:
        labels = labels.astype(np.int32)
    return [np.asarray(scores), labels], (0, int(np.iinfo(labels.dtype).max))


def _map(
    function: Callable[..., jax.Array],
    arrays: list[np.ndarray],
    blanks: tuple[int, ...],
    *,
    spatial_ndim: int,
    width: int,
    dtype: type,
) -> jax.Array:
    """Returns an array (..., *spatial) of what `function` makes of each pixel."""
    shape = arrays[-1].shape if len(arrays) > 1 else arrays[0].shape[:-1]
    lead = len(shape) - spatial_ndim
    output = np.empty((math.prod(shape[:lead]), math.prod(shape[lead:])), dtype)
    with jax.ensure_compile_time_eval():
        for block in blocks.cut(arrays, blanks, spatial_ndim=spatial_ndim, lead=lead, width=width):
            columns = block.place[1]
            output[block.place] = block.taken(function(*block.arrays))[:, : columns.stop - columns.start]
    return jnp.asarray(output.reshape(shape))
