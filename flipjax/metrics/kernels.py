"""Kernels over logits and labels: `decompose`, `flip_risk`, `error_map`, `risk_map` and `logit_scores`.

They check their arrays, cut host arrays into blocks, and call the jitted functions of
`flipjax.metrics.pixels.reductions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Unpack, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from flipjax.metrics.decomposition import Decomposition, as_float32, divide
from flipjax.metrics.inputs import checks
from flipjax.metrics.inputs.checks import on_host
from flipjax.metrics.inputs.classes import Background, LabelOptions, LabelSpec
from flipjax.metrics.inputs.host import Array
from flipjax.metrics.pixels.blocks import Block, cut
from flipjax.metrics.pixels.reductions import count_pixels, find_errors, map_pixels, sum_scores

Program = Callable[..., tuple[jax.Array, ...]]
"""A jitted function of `flipjax.metrics.pixels.reductions` with its options bound: it takes the outputs of a model, and
labels if it needs them."""
Computed = tuple[Block, tuple[jax.Array, ...]]
"""A block, and the results of a program, which JAX may still compute."""

LOGIT_SCORES = ("flip_risk", "max_softmax", "margin", "energy", "p_norm")
"""Scores that follow from logits, in the order of `logit_scores`."""
NORM = 5
"""Exponent of the p-norm score, which its authors tune on labelled images."""

# Registered here because `decomposition` does not import JAX.
jax.tree_util.register_dataclass(Decomposition, data_fields=["confusion", "risk_sum"], meta_fields=["background"])


def decompose(
    logits: ArrayLike,
    labels: ArrayLike,
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
    of its image NaN. Infinite logits are valid. Logits between -1.2e-38 and 1.2e-38 count as 0: they are
    subnormal in float32, which XLA:CPU does not compute with.
    Under jit or vmap label values are not checked: labels outside 0..C-1 are then not counted.
    Outside jit, host arrays are padded to a few block sizes, so that new image sizes compile nothing. Counts are exact;
    only the rounding of `risk_sum` depends on the blocks.

    Arrays of JAX are reduced on their device, to which labels of NumPy are copied. Tensors of PyTorch are read in host
    memory: one on a CPU as it is, and one on a GPU is copied there with all of its pixels. In bfloat16 either is copied
    to float32. `FlipMetric` and `TorchFlipMetric` reduce a tensor on the device where it is.

    Args:
        logits: (..., *spatial, C) floating point of any precision, with two classes or more beside the background;
            computed in float32. NumPy, JAX or PyTorch. For `kind="masks"` class indices (..., *spatial).
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
    spec = LabelSpec(
        background=background,
        ignore_index=ignore_index,
        spatial_ndim=spatial_ndim,
        kind=kind,
        channels=channels,
        num_classes=num_classes,
    )
    scores, labels, C = checks.check_pair(logits, labels, spec)
    program = partial(count_pixels, spec=spec, classes=C)
    counts, risk_sums = _sum_images(program, scores, labels, spec, classes=C)
    return Decomposition(jnp.asarray(counts), as_float32(risk_sums), spec.background)


def flip_risk(logits: ArrayLike, **options: Unpack[LabelOptions]) -> jax.Array:
    """Computes the mean entropy of the foreground classes over the predicted foreground of each image, without labels.

    `Decomposition.flip_risk` differs where `ignore_index` leaves pixels out.

    Args:
        logits: (..., *spatial, C) floating point of any precision, read as `decompose` reads them; computed in
            float32.
        **options: `background`, `spatial_ndim`, `kind` and `channels` of `LabelSpec`.

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
    spec = LabelSpec(**options)
    scores = checks.check_scores(logits, spec)
    return _foreground_means(scores, spec)[0]


def error_map(logits: ArrayLike, labels: ArrayLike, **options: Unpack[LabelOptions]) -> jax.Array:
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
    spec = LabelSpec(**options)
    scores, labels, C = checks.check_pair(logits, labels, spec)
    (codes,) = _map_images(partial(find_errors, spec=spec, classes=C), scores, labels, spec, classes=C)
    # Unlike `jnp.asarray`, compiles nothing for a new shape.
    return jax.device_put(codes)


def risk_map(logits: ArrayLike, **options: Unpack[LabelOptions]) -> jax.Array:
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
    spec = LabelSpec(**options)
    scores = checks.check_scores(logits, spec)
    return jax.device_put(read_pixels(scores, spec).risk)


class PixelMaps(NamedTuple):
    """Maps (..., *spatial) of predictions."""

    prediction: Array
    """int32, the class."""
    confidence: Array
    """float32, the largest softmax over the foreground classes."""
    risk: Array
    """float32, nats, the entropy over the foreground classes."""
    probability: Array
    """float32, the largest softmax over all classes."""


def read_pixels(scores: Array, spec: LabelSpec) -> PixelMaps:
    """Reduces checked scores (..., *spatial, C) to maps in one pass, to NumPy arrays if they are on the host."""
    return PixelMaps(*_map_images(partial(map_pixels, spec=spec), scores, None, spec, classes=scores.shape[-1]))


def logit_scores(logits: ArrayLike, *, p: int = NORM, **options: Unpack[LabelOptions]) -> dict[str, jax.Array]:
    """Computes label-free scores of each image, means over its predicted foreground; high scores predict errors.

    - `flip_risk`: the entropy of the foreground classes, as `flipjax.metrics.flip_risk`.
    - `max_softmax`: 1 less the largest probability, over all classes (Hendrycks and Gimpel, arXiv 1610.02136).
    - `margin`: 1 less the gap between the two largest probabilities (Scheffer et al., 2001).
    - `energy`: minus the logarithm of the summed exponentials (Liu et al., arXiv 2010.03759); NaN for probabilities.
    - `p_norm`: minus the largest logit over the p-norm of all, the logits less their mean (Cattelan and Silva, arXiv
      2305.15508).

    Args:
        logits: (..., *spatial, C) floating point of any precision, read as `decompose` reads them; computed in
            float32.
        p: of the norm, an integer above 0.
        **options: `background`, `spatial_ndim`, `kind` and `channels` of `LabelSpec`.

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
    spec = LabelSpec(**options)
    scores = checks.check_scores(logits, spec)
    if not isinstance(p, int) or p < 1:
        raise ValueError(f"p: expected an integer above 0, found {p!r}.")
    return dict(zip(LOGIT_SCORES, _foreground_means(scores, spec, p=p), strict=True))


def _foreground_means(scores: Array, spec: LabelSpec, *, p: int | None = None) -> list[jax.Array]:
    """Returns means (...) over the predicted foreground, NaN if none: of the entropy, or with `p` of `LOGIT_SCORES`."""
    program = partial(sum_scores, spec=spec, p=p)
    foreground_pixels, *sums = _sum_images(program, scores, None, spec, classes=scores.shape[-1])
    return [as_float32(divide(total, foreground_pixels)) for total in sums]


def _sum_images(
    program: Program, scores: Array, labels: Array | None, spec: LabelSpec, *, classes: int
) -> Sequence[Array]:
    """Applies a program that returns sums over the pixels of each image, (...) or (..., C, C).

    Args:
        program: what to apply.
        scores: checked predictions.
        labels: checked labels, or None.
        spec: options of both.
        classes: C.

    Returns:
        The sums. Arrays on the host are read block by block; their sums are NumPy arrays, int32 and float64.
    """
    shape = _shape_of_pixels(scores, spec)
    lead = shape[: -spec.spatial_ndim]
    arrays = _known_arrays(scores, labels)
    if not math.prod(lead) or not on_host(*arrays):
        return _on_device(program, arrays, kept=len(lead))
    host_arrays = _host_arrays(arrays, classes)
    if labels is None:
        # Tells a program without labels which pixels of a block are no padding.
        host_arrays.append(np.broadcast_to(np.True_, shape))
    blocks = cut(host_arrays, spatial_ndim=spec.spatial_ndim, lead=len(lead), classes=classes)
    # Inside a caller's jit, constants are computed at once. NaN are meant: masks have no risk.
    with jax.ensure_compile_time_eval(), jax.debug_nans(False):
        sums = _add_sums(_compute(program, blocks), math.prod(lead))
    return [total.reshape((*lead, *total.shape[1:])) for total in sums]


def _map_images(
    program: Program, scores: Array, labels: Array | None, spec: LabelSpec, *, classes: int
) -> Sequence[Array]:
    """Applies a program that returns a number for each pixel, (..., *spatial); takes what `_sum_images` takes."""
    shape = _shape_of_pixels(scores, spec)
    lead = shape[: -spec.spatial_ndim]
    arrays = _known_arrays(scores, labels)
    if not math.prod(lead) or not on_host(*arrays):
        return _on_device(program, arrays, kept=len(shape))
    pixels = math.prod(shape[-spec.spatial_ndim :])
    blocks = cut(_host_arrays(arrays, classes), spatial_ndim=spec.spatial_ndim, lead=len(lead), classes=classes)
    with jax.ensure_compile_time_eval(), jax.debug_nans(False):
        maps = _join_maps(_compute(program, blocks), math.prod(lead), pixels)
    return [whole.reshape(shape) for whole in maps]


def _shape_of_pixels(scores: Array, spec: LabelSpec) -> tuple[int, ...]:
    """Returns the shape of predictions without the axis of classes: (..., *spatial)."""
    if spec.kind == "masks":
        return scores.shape
    return scores.shape[:-1]


def _known_arrays(scores: Array, labels: Array | None) -> list[Array]:
    """Returns the arrays that a program takes: scores, and labels if there are any."""
    if labels is None:
        return [scores]
    return [scores, labels]


def _host_arrays(arrays: Sequence[Array], classes: int) -> list[np.ndarray]:
    """Returns arrays as NumPy's, with integers of a type whose largest one, which pads blocks, is no class."""
    host_arrays = []
    for array in map(np.asarray, arrays):
        if array.dtype.kind in "iu" and np.iinfo(array.dtype).max < classes:
            array = array.astype(np.int32)
        host_arrays.append(array)
    return host_arrays


def _on_device(program: Program, arrays: Sequence[Array], *, kept: int) -> tuple[jax.Array, ...]:
    """Applies a program to whole arrays on their device.

    On a mesh with Explicit axes the inside of the program is Auto, and its results are sharded as the first `kept` axes
    of the predictions.
    """
    on_device = [jnp.asarray(array) for array in arrays]
    sharding = jax.typeof(on_device[0]).sharding
    with jax.debug_nans(False):
        if jax.sharding.AxisType.Explicit not in sharding.mesh.axis_types:
            return program(*on_device)
        out = jax.NamedSharding(sharding.mesh, jax.P(*sharding.spec[:kept]))
        automatic = cast("Program", jax.sharding.auto_axes(program, out_sharding=out))
        return automatic(*on_device)


def _compute(program: Program, blocks: Iterable[Block]) -> Iterator[Computed]:
    """Yields each block with the results of a program once the next block has begun, so that JAX is never idle."""
    previous: Computed | None = None
    for block in blocks:
        begun = (block, program(*block.arrays))
        if previous is not None:
            yield previous
        previous = begun
    if previous is not None:
        yield previous


def _join_maps(computed: Iterable[Computed], images: int, pixels: int) -> list[np.ndarray]:
    """Returns the maps (images, pixels) of all blocks."""
    maps: list[np.ndarray] = []
    for block, results in computed:
        parts = [np.asarray(result) for result in results]
        if not maps:
            maps = [np.empty((images, pixels), part.dtype) for part in parts]
        for whole, part in zip(maps, parts, strict=True):
            target = whole[block.images, block.pixels]
            # Without the pixels that pad the block.
            target[...] = part.reshape(len(part), -1)[: target.shape[0], : target.shape[1]]
    return maps


def _add_sums(computed: Iterable[Computed], images: int) -> list[np.ndarray]:
    """Returns the sums (images, ...) over the pixels of all blocks."""
    sums: list[np.ndarray] = []
    for block, results in computed:
        parts = [np.asarray(result) for result in results]
        if not sums:
            # Keeps int32 and widens float32 to float64.
            sums = [np.zeros((images, *part.shape[1:]), np.result_type(part, np.int32)) for part in parts]
        for total, part in zip(sums, parts, strict=True):
            of_images = total[block.images]
            of_images += part[: len(of_images)]
    return sums
