"""Public kernels: `decompose`, `flip_risk`, `error_map`, `risk_map` and `logit_scores`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.metrics import checks, pixels
from flipjax.metrics.checks import on_host
from flipjax.metrics.classes import Background, LabelSpec
from flipjax.metrics.decomposition import Decomposition, divide

LOGIT_SCORES = ("flip_risk", "max_softmax", "margin", "energy", "p_norm")
NORM = 5
"""The p of the p-norm; its authors tune it on labelled images."""
SCORES = 1 << 21
"""Most scores in a block: 8 MiB of float32."""
_ALIGNMENT = 64
"""Bytes: XLA:CPU reads arrays aligned to this in place and copies others."""
SHORTEST = 1 << 10
"""Pixels of the shortest block."""

# Registered here because `decomposition` does not import JAX.
jax.tree_util.register_dataclass(Decomposition, data_fields=["confusion", "risk_sum"], meta_fields=["background"])


def decompose(
    logits: Any,
    labels: Any,
    *,
    background: Background = 0,
    ignore_index: int | None = None,
    spatial_ndim: int = 2,
    kind: str = "logits",
    channels: str = "last",
    num_classes: int | None = None,
) -> Decomposition:
    """Computes the confusion matrix and the summed flip-risk of each image in one pass over the logits.

    The prediction is the first largest logit. NaN counts as the largest, as in `numpy.argmax`, and makes the `risk_sum`
    of its image NaN. Infinite logits are valid. Logits below 1.2e-38, subnormal in float32, count as 0.
    Under jit or vmap label values are not checked: labels outside 0..C-1 are then not counted.
    Outside jit, host arrays are padded to a few block sizes, so that new image sizes compile nothing. Counts are exact;
    only the rounding of `risk_sum` depends on the blocks.

    Args:
        logits: (..., *spatial, C) floating point of any precision, with two classes or more beside the background;
            computed in float32. NumPy, JAX or PyTorch (CPU). For `kind="masks"` class indices (..., *spatial).
        labels: (..., *spatial) integers in 0..C-1, or `ignore_index`.
        background: the background class, a tuple of them, or None: then there is no miss or spill, and flip-risk is
            over all pixels.
        ignore_index: label of pixels to leave out of all counts and of flip-risk; may lie outside 0..C-1.
        spatial_ndim: 2 for images, 3 for volumes.
        kind: `logits`; `probabilities`, a softmax over all classes; or `masks`, whose `risk_sum` is NaN.
        channels: `last`, or `first` for (..., C, *spatial), as in PyTorch.
        num_classes: C of masks; None: one more than the largest class.

    Returns:
        A `Decomposition` with leaves of shape (..., C, C) and (...).

    Raises:
        TypeError: logits that are not floating point, or labels that are not integers.
        ValueError: invalid rank, shape, C, background or values.

    Warns:
        UserWarning: logits that look like probabilities; outside jit.

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
    spec = LabelSpec(background, ignore_index, spatial_ndim, kind, channels, num_classes)
    scores, labels, C = checks.check_pair(logits, labels, spec)
    count = partial(pixels.count, classes=C, background=spec.background_classes, ignore_index=ignore_index, kind=kind)
    lead = labels.ndim - spatial_ndim
    if labels.size and on_host(scores, labels):
        confusion, risk_sum = _sum_blocks(count, _cut(scores, labels, C, spatial_ndim), labels.shape[:lead])
    else:
        program = partial(count, spatial_ndim=spatial_ndim)
        confusion, risk_sum = pixels.run(program, jnp.asarray(scores), jnp.asarray(labels), kept=lead)
    return Decomposition(jnp.asarray(confusion), jnp.asarray(risk_sum, jnp.float32), spec.background)


def flip_risk(logits: Any, **spec: Any) -> jax.Array:
    """Computes the mean entropy of the foreground classes over the predicted foreground of each image, without labels.

    `Decomposition.flip_risk` differs where `ignore_index` leaves pixels out.

    Args:
        logits: (..., *spatial, C) floating point of any precision; computed in float32.
        **spec: `background`, `spatial_ndim`, `kind` and `channels` of `LabelSpec`.

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
    read = LabelSpec(**spec)
    scores = checks.check_scores(logits, read)
    return foreground_means(scores, read)[0]


def error_map(logits: Any, labels: Any, **spec: Any) -> jax.Array:
    """Computes the error type of each pixel.

    Takes the arguments of `decompose` and raises the same errors.

    Returns:
        (..., *spatial) uint8: 0 true negative or ignored, 1 correct, 2 flip, 3 miss, 4 spill.

    Source: Achara et al., arXiv 2604.13326, foreground decomposition.

    Example:
        >>> import numpy as np
        >>> predicted = np.array([[0, 1, 2, 0, 1]])
        >>> error_map(np.eye(3, dtype=np.float32)[predicted], np.array([[0, 1, 1, 2, 0]])).tolist()
        [[0, 1, 2, 3, 4]]
    """
    read = LabelSpec(**spec)
    scores, labels, C = checks.check_pair(logits, labels, read)
    own = {"background": read.background_classes, "ignore_index": read.ignore_index, "kind": read.kind}
    errors = partial(pixels.errors, classes=C, **own)
    if not labels.size or not on_host(scores, labels):
        return pixels.run(errors, jnp.asarray(scores), jnp.asarray(labels), kept=labels.ndim)
    parts = _cut(scores, labels, C, read.spatial_ndim)
    (codes,) = _map_blocks(lambda *block: (errors(*block),), parts, labels.shape, read.spatial_ndim, [np.uint8])
    # Unlike `jnp.asarray`, compiles nothing for a new shape.
    return jax.device_put(codes)


def risk_map(logits: Any, **spec: Any) -> jax.Array:
    """Computes the entropy of the foreground classes at each pixel.

    Takes the arguments of `flip_risk`, which is the mean of this map over the predicted foreground, and raises the same
    errors.

    Returns:
        (..., *spatial) float32, nats, in 0..log F of F foreground classes; NaN where a foreground logit is.

    Source: Achara et al., arXiv 2604.13326, flip-risk.

    Example:
        >>> import numpy as np
        >>> print(risk_map(np.array([[[0.0, 2.0, 2.0], [0.0, 99.0, -99.0]]])).round(4))
        [[0.6931 0.    ]]
    """
    read = LabelSpec(**spec)
    scores = checks.check_scores(logits, read)
    if scores.size and on_host(scores):
        return jax.device_put(read_pixels(scores, read).risk)
    risks = partial(pixels.risks, background=read.background_classes, kind=read.kind)
    return pixels.run(risks, jnp.asarray(scores), kept=scores.ndim - 1)


class PixelMaps(NamedTuple):
    """Maps (..., *spatial): prediction int32; confidence and entropy over the foreground classes; largest softmax."""

    prediction: Any
    confidence: Any
    risk: Any
    probability: Any


def read_pixels(scores: Any, spec: LabelSpec) -> PixelMaps:
    """Reduces checked scores (..., *spatial, C) to maps in one pass, to NumPy arrays if they are on the host."""
    own = {"background": spec.background_classes, "kind": spec.kind}
    if not scores.size or not on_host(scores):
        return PixelMaps(*pixels.read(jnp.asarray(scores), **own))
    *shape, C = scores.shape
    lead = len(shape) - spec.spatial_ndim
    parts = cut([np.asarray(scores)], (0,), spatial_ndim=spec.spatial_ndim, lead=lead, width=C)
    dtypes = [np.int32, np.float32, np.float32, np.float32]
    return PixelMaps(*_map_blocks(partial(pixels.read, **own), parts, tuple(shape), spec.spatial_ndim, dtypes))


def logit_scores(logits: Any, *, p: int = NORM, **spec: Any) -> dict[str, jax.Array]:
    """Computes label-free scores of each image, means over its predicted foreground; high scores predict errors.

    - `flip_risk`: the entropy of the foreground classes, as `flipjax.metrics.flip_risk`.
    - `max_softmax`: 1 less the largest probability, over all classes (Hendrycks and Gimpel, arXiv 1610.02136).
    - `margin`: 1 less the gap between the two largest probabilities (Scheffer et al., 2001).
    - `energy`: minus the logarithm of the summed exponentials (Liu et al., arXiv 2010.03759); NaN for probabilities.
    - `p_norm`: minus the largest logit over the p-norm of all, the logits less their mean (Cattelan and Silva, arXiv
      2305.15508).

    Args:
        logits: (..., *spatial, C) floating point of any precision; computed in float32.
        p: of the norm, an integer above 0.
        **spec: `background`, `spatial_ndim`, `kind` and `channels` of `LabelSpec`.

    Returns:
        (...) float32 by name; NaN for an image without predicted foreground, or with a NaN logit. Gaps between logits
        above 128 count as 128.

    Raises:
        TypeError: logits that are not floating point.
        ValueError: rank, C, background, p or values that do not fit.

    Example:
        >>> import numpy as np
        >>> scores = logit_scores(np.log(np.array([[[0.2, 0.5, 0.3], [0.9, 0.05, 0.05]]])))
        >>> {name: round(score.item(), 3) for name, score in scores.items()}
        {'flip_risk': 0.662, 'max_softmax': 0.5, 'margin': 0.8, 'energy': 0.0, 'p_norm': -0.901}
    """
    read = LabelSpec(**spec)
    scores = checks.check_scores(logits, read)
    if not isinstance(p, int) or p < 1:
        raise ValueError(f"p: expected an integer above 0, found {p!r}.")
    return dict(zip(LOGIT_SCORES, foreground_means(scores, read, p=p), strict=True))


def foreground_means(scores: Any, spec: LabelSpec, *, p: int | None = None) -> list[jax.Array]:
    """Returns means (...) over the predicted foreground, NaN if none: of the entropy, with a `p` of all scores."""
    sums_of = partial(pixels.sum_scores, background=spec.background_classes, kind=spec.kind, p=p)
    if not scores.size or not on_host(scores):
        program = partial(sums_of, counted=None, spatial_ndim=spec.spatial_ndim)
        count, *sums = pixels.run(program, jnp.asarray(scores), kept=scores.ndim - 1 - spec.spatial_ndim)
        return [jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan) for total in sums]
    *shape, C = scores.shape
    lead = tuple(shape[: len(shape) - spec.spatial_ndim])
    arrays = [np.asarray(scores), np.broadcast_to(np.True_, shape)]
    parts = cut(arrays, (0, False), spatial_ndim=spec.spatial_ndim, lead=len(lead), width=C)
    count, *sums = _sum_blocks(sums_of, parts, lead)
    return [jnp.asarray(divide(total, count), jnp.float32) for total in sums]


def _cut(scores: Any, labels: Any, classes: int, spatial_ndim: int) -> Iterator[Block]:
    """Cuts predictions and labels into blocks, padded with a label that is not counted."""
    labels = np.asarray(labels)
    if np.iinfo(labels.dtype).max < classes:
        labels = labels.astype(np.int32)
    blanks = 0, int(np.iinfo(labels.dtype).max)
    lead = labels.ndim - spatial_ndim
    return cut([np.asarray(scores), labels], blanks, spatial_ndim=spatial_ndim, lead=lead, width=classes)


def _sum_blocks(
    program: Callable[..., tuple[jax.Array, ...]], parts: Iterable[Block], lead: tuple[int, ...]
) -> list[np.ndarray]:
    """Adds up the counts (int32) and sums (float64) of a program over the blocks of each image (...)."""
    totals: list[np.ndarray] = []
    with jax.ensure_compile_time_eval():
        for block in parts:
            sums = [block.taken(part) for part in program(*block.arrays, spatial_ndim=1)]
            # Keeps int32 and widens float32 to float64.
            totals = totals or [
                np.zeros((math.prod(lead), *part.shape[1:]), np.result_type(part.dtype, np.int32)) for part in sums
            ]
            for total, part in zip(totals, sums, strict=True):
                total[block.place[0]] += part
    return [total.reshape((*lead, *total.shape[1:])) for total in totals]


def _map_blocks(
    program: Callable[..., tuple[jax.Array, ...]],
    parts: Iterable[Block],
    shape: tuple[int, ...],
    spatial_ndim: int,
    dtypes: Sequence[type],
) -> list[np.ndarray]:
    """Maps a program over blocks of pixels to arrays (..., *spatial)."""
    lead = len(shape) - spatial_ndim
    outputs = [np.empty((math.prod(shape[:lead]), math.prod(shape[lead:])), dtype) for dtype in dtypes]
    with jax.ensure_compile_time_eval():
        for block in parts:
            columns = block.place[1].stop - block.place[1].start
            for output, part in zip(outputs, program(*block.arrays), strict=True):
                output[block.place] = block.taken(part)[:, :columns]
    return [output.reshape(shape) for output in outputs]


class Block(NamedTuple):
    """The place of a block in (images, pixels), and its padded arrays (rows, length, ...)."""

    place: tuple[slice, slice]
    arrays: list[np.ndarray]

    def taken(self, output: Any) -> np.ndarray:
        """Returns a program's output (rows, ...) without padded rows."""
        return np.asarray(output)[: self.place[0].stop - self.place[0].start]


def cut(
    arrays: Sequence[np.ndarray], blanks: Sequence[Any], *, spatial_ndim: int, lead: int, width: int
) -> Iterator[Block]:
    """Cuts arrays that share their leading and spatial axes into blocks of one shape.

    Args:
        arrays: (..., *spatial, ...).
        blanks: the padding value of each.
        spatial_ndim: number of spatial axes.
        lead: number of leading axes; with none there is one image, and its blocks have one row.
        width: scores per pixel, which limit the pixels of a block.
    """
    shape = arrays[0].shape
    pixels = math.prod(shape[lead : lead + spatial_ndim])
    images = math.prod(shape[:lead])
    rows = [array.reshape(images, pixels, *array.shape[lead + spatial_ndim :]) for array in arrays]
    most = max(SHORTEST, 1 << (SCORES // width).bit_length() - 1)
    length = min(most, max(SHORTEST, 1 << (pixels - 1).bit_length()))
    height = most // length if lead else 1
    # One buffer serves all blocks in turn: fresh memory costs more than the copy.
    buffers = [_aligned((height, length, *array.shape[2:]), array.dtype) for array in rows]
    for first in range(0, images, height):
        for start in range(0, pixels, length):
            place = slice(first, min(first + height, images)), slice(start, min(start + length, pixels))
            pieces = zip(rows, buffers, blanks, strict=True)
            yield Block(place, [_filled(array[place], buffer, blank) for array, buffer, blank in pieces])


def _filled(array: np.ndarray, buffer: np.ndarray, blank: Any) -> np.ndarray:
    """Returns pixels (rows, length, ...): the array if XLA can read it in place, else a padded copy in the buffer."""
    if array.shape == buffer.shape and array.flags.c_contiguous and array.ctypes.data % _ALIGNMENT == 0:
        return array
    if array.shape != buffer.shape:
        buffer[...] = blank
    buffer[: array.shape[0], : array.shape[1]] = array
    return buffer


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
