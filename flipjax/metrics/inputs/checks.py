"""Input checks of the metric kernels: convert NumPy, JAX or PyTorch arrays to NumPy or JAX, classes last.

Rank, shapes and dtypes are always checked; values only for concrete arrays, so not under jit or vmap.
"""

from __future__ import annotations

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from flipjax.metrics.inputs.classes import Background, LabelSpec, check_background
from flipjax.metrics.inputs.host import NARROW, Array, read_array

SCORES = ("logits", "probabilities")
"""Kinds of predictions that have a score for each class."""
_TOLERANCE = 5e-3
"""How far probabilities may be from a sum of 1: half a percent covers the rounding of float16 sums over 150 classes."""
_SAMPLES_OF_AXIS = 6
"""Least number of samples along each axis: a few pixels mostly show that logits are no probabilities."""
_WIDTH_OF_MASKS = 32
"""Length of a last axis from which on it may be the width of masks, in place of the classes of logits."""
_MOST_CLASSES = 1 << 12
"""Most classes of masks: the confusion matrix of one image then takes 64 MiB."""
_SHOWN_VALUES = 8
"""Most wrong values that a message lists."""
LOOKS_LIKE_PROBABILITIES = (
    "logits: found values in 0..1 that sum to 1 at each pixel. For probabilities pass kind='probabilities'."
)
"""The warning of logits that look like probabilities."""


def to_array(values: ArrayLike, *, name: str = "array") -> Array:
    """Returns JAX arrays as they are, and all other array-likes as `read_array` does; integers have 8 bits or more.

    Raises:
        TypeError: a dict of model outputs, a masked array, or what is no array.
    """
    if not isinstance(values, jax.Array):
        return read_array(values, name=name)
    if values.dtype.name in NARROW:
        return values.astype(NARROW[values.dtype.name])
    return values


def on_host(*arrays: object) -> bool:
    """Returns whether all are concrete arrays in host memory."""
    return all(_is_on_host(array) for array in arrays)


def _is_on_host(array: object) -> bool:
    """Returns whether this is an array of NumPy, or one of JAX on one CPU device."""
    if isinstance(array, np.ndarray):
        return True
    if not isinstance(array, jax.Array) or isinstance(array, Tracer):
        return False
    return [device.platform for device in array.devices()] == ["cpu"]


def check_scores(scores: ArrayLike, spec: LabelSpec, *, labels_shape: tuple[int, ...] | None = None) -> Array:
    """Checks logits or probabilities and their options; returns the array (..., *spatial, C).

    Args:
        scores: logits or probabilities.
        spec: their options.
        labels_shape: of the labels, if there are any.

    Raises:
        TypeError: not floating point.
        ValueError: too few axes or classes, labels of another shape, an invalid option, or invalid probabilities.
    """
    if spec.kind not in SCORES:
        raise ValueError(f"kind: expected {' or '.join(map(repr, SCORES))}, found {spec.kind!r}.")
    kind = spec.kind
    array = to_array(scores, name=kind)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(not_floating(kind, array.dtype))
    check_shape_of_scores(array.shape, spec, labels_shape=labels_shape)
    if spec.channels == "first":
        array = _channels_last(array, spec.spatial_ndim)
    if labels_shape is None and spec.ignore_index is not None:
        raise ValueError(f"ignore_index: expected None where no labels are read, found {spec.ignore_index}.")
    if array.size and on_host(array):
        if kind == "probabilities":
            _check_probabilities(np.asarray(array))
        else:
            _warn_of_no_logits(np.asarray(array), has_labels=labels_shape is not None)
    return array


def not_floating(kind: str, dtype: object) -> str:
    """Returns the message for scores of another type than floating point."""
    return f"{kind}: expected floating point, labels second, found {dtype}. For class indices pass kind='masks'."


def check_shape_of_scores(
    shape: tuple[int, ...], spec: LabelSpec, *, labels_shape: tuple[int, ...] | None = None
) -> int:
    """Checks the shape of scores as they are given, with classes first or last; returns the number of classes.

    Raises:
        ValueError: as in `check_scores`.
    """
    kind = spec.kind
    spatial_ndim = spec.spatial_ndim
    if len(shape) < spatial_ndim + 1:
        expected = f"{spatial_ndim} spatial axes and one of classes"
        raise ValueError(f"{kind}: expected {expected}, found {shape}; class indices need kind='masks'.")
    if spec.channels == "first":
        axis = len(shape) - 1 - spatial_ndim
        shape = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    if labels_shape not in (None, shape[:-1]):
        hint = _shape_hint(labels_shape, shape, spec)
        raise ValueError(f"labels: expected shape {shape[:-1]}, as the {kind} {shape}, found {labels_shape}.{hint}")
    check_background(spec.background, shape[-1], name=kind)
    _check_size(shape[:-1], spec.spatial_ndim, name=kind)
    return shape[-1]


def _channels_last(array: Array, spatial_ndim: int) -> Array:
    """Returns scores (..., C, *spatial) as (..., *spatial, C)."""
    if isinstance(array, np.ndarray):
        return np.moveaxis(array, -1 - spatial_ndim, -1)
    return jnp.moveaxis(array, -1 - spatial_ndim, -1)


def check_logits(logits: ArrayLike, *, background: Background) -> jax.Array:
    """Returns checked logits (..., H, W, C) as a JAX array; raises the errors of `check_scores`."""
    return jnp.asarray(check_scores(logits, LabelSpec(background)))


def check_pair(
    predictions: ArrayLike, labels: ArrayLike, spec: LabelSpec, *, allow_masks: bool = True
) -> tuple[Array, Array, int]:
    """Checks predictions and labels; returns both and the number of classes.

    Raises:
        TypeError: labels or masks that are not integers, or scores that are not floating point.
        ValueError: invalid shapes, options or values; masks without `num_classes` under jit, or unless `allow_masks`.
    """
    truth = to_array(labels, name="labels")
    if allow_masks and spec.kind == "masks":
        values = to_array(predictions, name="predictions")
        classes = _check_masks(values, truth, spec)
        _check_range(values, classes, None, name="predictions")
    else:
        values = check_scores(predictions, spec, labels_shape=truth.shape)
        classes = values.shape[-1]
    check_labels(truth, classes, spec)
    return values, truth, classes


def check_labels(labels: Array, classes: int, spec: LabelSpec) -> None:
    """Raises a TypeError for labels that are not integers, and a ValueError for one that is no class."""
    _check_integers(labels, name="labels")
    _check_range(labels, classes, spec.ignore_index, name="labels")


def _check_masks(masks: Array, truth: Array, spec: LabelSpec) -> int:
    """Checks the layout of class indices (..., *spatial) and labels; returns the number of classes."""
    _check_integers(masks, name="predictions")
    _check_integers(truth, name="labels")
    check_shape_of_masks(masks.shape, spec, labels_shape=truth.shape)
    classes = spec.num_classes
    if classes is None:
        classes = _count_classes(masks, truth, spec)
    check_number_of_classes(classes, spec)
    return classes


def check_shape_of_masks(shape: tuple[int, ...], spec: LabelSpec, *, labels_shape: tuple[int, ...]) -> None:
    """Raises a ValueError for masks of another shape than the labels, or of too few axes or too many pixels."""
    if shape != labels_shape or len(shape) < spec.spatial_ndim:
        expected = f"the labels' shape {labels_shape}, of {spec.spatial_ndim} axes or more"
        raise ValueError(f"predictions: expected {expected}, found {shape}.")
    _check_size(shape, spec.spatial_ndim, name="predictions")


def check_number_of_classes(classes: int, spec: LabelSpec) -> None:
    """Raises a ValueError for more classes of masks than a confusion matrix can have, or for too few."""
    if classes > _MOST_CLASSES:
        advice = f"to leave out the last label pass ignore_index={classes - 1}"
        raise ValueError(f"num_classes: expected at most {_MOST_CLASSES}, found {classes}; {advice}.")
    check_background(spec.background, classes)


def _count_classes(masks: Array, truth: Array, spec: LabelSpec) -> int:
    """Returns the fewest classes that masks and labels can have: two beside the background, or more."""
    if isinstance(masks, Tracer) or isinstance(truth, Tracer):
        raise ValueError("num_classes: expected the number of classes under jit, found None.")
    counted = np.asarray(truth)
    if spec.ignore_index is not None:
        counted = counted[counted != spec.ignore_index]
    largest = max(int(np.asarray(masks).max(initial=0)), int(counted.max(initial=0)))
    return fewest_classes(largest, spec)


def fewest_classes(largest: int, spec: LabelSpec) -> int:
    """Returns the fewest classes of masks and labels whose largest class is given."""
    background = spec.background_classes
    return max([2 + len(background), *(1 + c for c in background), 1 + largest])


def _check_size(shape: tuple[int, ...], spatial_ndim: int, *, name: str) -> None:
    """Raises ValueError for images without pixels, or of more than int32 counts."""
    pixels = math.prod(shape[len(shape) - spatial_ndim :])
    if not 0 < pixels < 1 << 31:
        raise ValueError(f"{name}: expected images of 1 to 2^31 - 1 pixels, which int32 counts, found {pixels}.")


def _shape_hint(labels_shape: tuple[int, ...], shape: tuple[int, ...], spec: LabelSpec) -> str:
    """Returns what to pass in place of labels that do not fit scores of a shape (..., *spatial, C), or ''."""
    spatial_ndim = spec.spatial_ndim
    lead = len(shape) - spatial_ndim - 1
    before = shape[:lead]
    spatial = shape[lead:-1]
    after = shape[lead + 1 :]
    # The shapes of labels that have an advice. The last of equal shapes wins.
    advice = {
        (*before, shape[-1], *spatial): f"One-hot labels? Pass labels.argmax({lead}).",
        (*before, 1, *spatial): f"Pass labels.squeeze({lead}).",
        (*before, *spatial, 1): "Pass labels[..., 0].",
        shape: f"One-hot labels? Pass labels.argmax(-1), or channels first labels.argmax({lead}). Class indices in "
        "place of logits? Pass integers and kind='masks'.",
        (*before, 1, *after): f"Pass labels.squeeze({lead}) and channels='first'.",
    }
    if spec.channels == "last":
        order = (*range(lead), *range(lead + 1, len(shape)), lead)
        advice[(*before, *after)] = f"Are classes first? Pass channels='first', or np.transpose({spec.kind}, {order})."
    if labels_shape in advice:
        return f" {advice[labels_shape]}"
    size = labels_shape[-spatial_ndim:]
    if len(size) < spatial_ndim:
        return ""
    # Some networks return logits at a quarter of the size of the labels. Classes may also be first.
    for size_of_scores in (spatial, shape[-spatial_ndim:]):
        factors = {large / small for large, small in zip(size, size_of_scores, strict=True) if small}
        if len(factors) == 1 and factors != {1.0}:
            how = f"in PyTorch torch.nn.functional.interpolate(logits, size={size}), in JAX jax.image.resize"
            return f" The logits are {size_of_scores}, the labels {size}: resize first, {how}."
    return ""


def _check_integers(array: Array, *, name: str) -> None:
    """Raises TypeError unless an array holds integers."""
    if array.dtype.kind not in "iu":
        raise TypeError(not_integers(name, array.dtype))


def not_integers(name: str, dtype: object) -> str:
    """Returns the message for labels or masks of another type than integers."""
    return f"{name}: expected integers, found {dtype}; pass {name}.astype(int) or {name}.long()."


def _check_probabilities(scores: np.ndarray) -> None:
    """Raises a ValueError for values (..., C) that are not probabilities."""
    problem = _no_probabilities(scores)
    if problem:
        raise ValueError(not_probabilities(problem))


def not_probabilities(problem: str) -> str:
    """Returns the message for values that are no probabilities, by what is wrong with them."""
    return f"probabilities: expected values in 0..1 that sum to 1 at each pixel, found {problem}."


def _warn_of_no_logits(scores: np.ndarray, *, has_labels: bool) -> None:
    """Warns of logits (..., C) that look like class indices or probabilities."""
    # Points a warning at the kernel's caller; with labels `check_pair` adds a frame.
    stacklevel = 4
    if has_labels:
        stacklevel = 5
    # All pixels are read only if a sample of them looks like another kind.
    sample = scores[tuple(slice(None, None, max(1, size // _SAMPLES_OF_AXIS)) for size in scores.shape[:-1])]
    may_be_masks = not has_labels and scores.shape[-1] >= _WIDTH_OF_MASKS
    if may_be_masks and _are_indices(sample) and _are_indices(scores):
        text = "logits: found whole numbers alone. Class indices have no flip-risk; decompose takes kind='masks'."
        warnings.warn(text, stacklevel=stacklevel)
        return
    if _no_probabilities(sample) or _no_probabilities(scores):
        return
    # One-hot scores are probabilities too, but have no entropy to distort.
    if not ((scores == 0) | (scores == 1)).all():
        warnings.warn(LOOKS_LIKE_PROBABILITIES, stacklevel=stacklevel)


def _are_indices(scores: np.ndarray) -> bool:
    """Returns whether scores (..., C) are whole numbers that are not one-hot, as class indices are."""
    whole = bool(((scores >= 0) & (scores == np.floor(scores))).all())
    return whole and not ((scores > 0).sum(-1) == 1).all()


def _no_probabilities(scores: np.ndarray) -> str:
    """Returns why values (..., C) are not probabilities, or an empty string; NaN is ignored."""
    scores = scores.astype(np.float32, copy=False)
    problem = problem_of_range(np.fmin.reduce(scores, axis=None), np.fmax.reduce(scores, axis=None))
    if problem:
        return problem
    # Values are in range (sums of infinite logits would warn), but BLAS may flag lanes beside them.
    with np.errstate(invalid="ignore"):
        sums = (scores @ np.ones(scores.shape[-1], np.float32)).ravel()
    return problem_of_sum(sums[np.argmax(np.nan_to_num(np.abs(sums - 1)))])


def problem_of_range(low: float, high: float) -> str:
    """Returns why values between two ends are not probabilities, or an empty string."""
    if low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
        return ""
    return f"{low:.4g} to {high:.4g}; for logits pass kind='logits'"


def problem_of_sum(worst: float) -> str:
    """Returns why values are not probabilities by the sum of a pixel that is farthest from 1, or an empty string."""
    if abs(worst - 1) > _TOLERANCE:
        advice = "take a softmax over all classes, not a sigmoid for each"
        if worst > 1:
            advice += "; classes that overlap (multi-label) need one label map and kind='masks'"
        return f"a sum of {worst:.4g}; {advice}"
    return ""


def _check_range(labels: Array, classes: int, ignore_index: int | None, *, name: str) -> None:
    """Raises ValueError for a label that is no class and not ignored, if labels are known."""
    if isinstance(labels, Tracer) or labels.size == 0:
        return
    info = jnp.iinfo(labels.dtype)
    if ignore_index is not None and not info.min <= ignore_index <= info.max:
        ignore_index = None
    if on_host(labels):
        # On the host: a cast to int32 on the device could wrap a large value into the valid range.
        low, high = _extremes(np.asarray(labels), ignore_index)
    else:
        with jax.ensure_compile_time_eval():
            low, high = map(int, _extremes_on_device(labels, ignore_index))
    if low >= 0 and high < classes:
        return
    raise ValueError(no_classes(np.unique(np.asarray(labels)).tolist(), classes, ignore_index, name=name))


def no_classes(values: list[int], classes: int, ignore_index: int | None, *, name: str) -> str:
    """Returns the message for labels with values that are no class and not ignored."""
    bad = [value for value in values if not 0 <= value < classes and value != ignore_index]
    expected = f"class indices 0..{classes - 1}"
    if ignore_index is not None:
        expected += f" and ignore_index={ignore_index}"
    advice = ""
    if name == "labels":
        advice = f" To leave pixels out, pass their label: ignore_index={bad[-1]}."
    return f"{name}: expected {expected}, found {bad[:_SHOWN_VALUES]}.{advice}"


def _extremes(labels: Array, ignore_index: int | None) -> tuple[Array, Array]:
    """Returns the least and the largest label; ignored ones count as 0, which is a class."""
    if ignore_index is not None:
        labels = labels * (labels != ignore_index)
    return labels.min(), labels.max()


_extremes_on_device = jax.jit(_extremes, static_argnums=1)
