"""Door checks of the metric kernels: NumPy, JAX or PyTorch arrays come in, NumPy or JAX arrays of a known layout leave.

Static properties (rank, shapes, dtypes) are checked always, values only where they can be read: not under jit or vmap.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from flipjax.metrics.blocks import on_host
from flipjax.metrics.classes import background_classes, check_background
from flipjax.metrics.forks import refuse_forked
from flipjax.metrics.hints import MANY_CLASSES, channels_first_hint, looks_channels_first, resize_hint, shape_message

KINDS = ("logits", "probabilities", "masks")
# Half a percent: sums of 150 classes in float16 stay within it.
_TOLERANCE = 5e-3
_SAMPLE = 6
_MOST_CLASSES = 1 << 12
"""Of masks: the confusion matrix of an image has their square, then 64 MiB."""
OUTPUTS = ("out", "logits")
"""What torchvision and Hugging Face call the logits in a dict of outputs."""


class Options(NamedTuple):
    """What the kernels take beside arrays; hashable."""

    background: tuple[int, ...] = (0,)
    ignore_index: int | None = None
    spatial_ndim: int = 2
    kind: str = "logits"
    num_classes: int | None = None
    channels: str = "last"


def to_array(values: Any, *, name: str = "array") -> jax.Array | np.ndarray:
    """Returns JAX arrays unchanged, and NumPy arrays, PyTorch tensors and other array-likes as native NumPy arrays.

    PyTorch is recognised by its methods and never imported. NumPy has no bfloat16, so such a tensor is widened first.
    Arrays of the other byte order are swapped: a compiled program reads bytes as they lie.

    Raises:
        TypeError: a dict of a model's outputs, a masked array, or long double, by name.
        RuntimeError: in a child that was forked after JAX had started, where JAX would wait for ever.
    """
    refuse_forked()
    if isinstance(values, jax.Array):
        return values
    if isinstance(values, Mapping):
        keys = ", ".join(map(repr, values))
        likely = next((key for key in OUTPUTS if key in values), None)
        advice = "one of its values" if likely is None else f"output[{likely!r}]"
        raise TypeError(f"{name}: expected an array, found {type(values).__name__} with {keys}; pass {advice}.")
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected an array, found a masked array, whose mask would be lost; for labels pass "
            "array.filled(255) and ignore_index=255."
        )
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if "bfloat16" in str(values.dtype):
            values = values.float()
    array = np.asarray(values)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected at most float64, found {array.dtype}; pass array.astype(np.float32).")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_scores(scores: Any, options: Options, *, labels_shape: tuple[int, ...] | None = None) -> Any:
    """Checks logits or probabilities (..., *spatial, C) and the options that go with them, and returns the array.

    Raises:
        TypeError: not floating point.
        ValueError: too few axes or classes, axes that look channels-first, an option out of range, or values that are
            no probabilities.
    """
    kind = options.kind
    spatial_ndim = options.spatial_ndim
    array: Any = to_array(scores, name=kind)
    shape = array.shape
    check_spatial_ndim(spatial_ndim)
    check_channels(options.channels)
    # Without labels the question is of scores, which masks have none of.
    kinds = KINDS[:2] if labels_shape is None else KINDS
    if kind not in KINDS[:2]:
        raise ValueError(f"kind: expected {' or '.join(map(repr, kinds))}, found {kind!r}.")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{kind}: expected floating point, found {array.dtype} of shape {shape}. Predictions come first and labels "
            "second; class indices are not logits: for those pass kind='masks'."
        )
    if len(shape) < spatial_ndim + 1:
        raise ValueError(
            f"{kind}: expected (..., *spatial, C) with {spatial_ndim} spatial axes, "
            f"so at least {spatial_ndim + 1} axes, found shape {shape}. For volumes or images pass spatial_ndim=3 or "
            "2; for class indices pass integers and kind='masks', for PyTorch scores.long()."
        )
    if options.channels == "first":
        move = np.moveaxis if isinstance(array, np.ndarray) else jnp.moveaxis
        array = move(array, -1 - spatial_ndim, -1)
        shape = array.shape
    elif labels_shape != shape[:-1] and looks_channels_first(shape, spatial_ndim):
        resize = "" if labels_shape is None else resize_hint(labels_shape, shape, spatial_ndim)
        raise ValueError(f"{kind}: {channels_first_hint(shape, spatial_ndim)}{resize}")
    if labels_shape is not None and labels_shape != shape[:-1]:
        raise ValueError(shape_message(labels_shape, shape, spatial_ndim))
    check_background(options.background, shape[-1], name=kind, shape=shape)
    if array.size and on_host(array):
        _check_kind(np.asarray(array), kind, labelled=labels_shape is not None)
    return array


def check_logits(logits: Any, *, background: int | tuple[int, ...] | None, spatial_ndim: int) -> jax.Array:
    """Returns checked logits (..., *spatial, C) as a JAX array; raises what `check_scores` raises."""
    return jnp.asarray(check_scores(logits, Options(background_classes(background), spatial_ndim=spatial_ndim)))


def check_masks(predictions: Any, labels: Any, options: Options) -> tuple[Any, Any, int]:
    """Checks class indices (..., *spatial) against labels of their shape; returns both and the number of classes.

    Raises:
        TypeError: not integers.
        ValueError: other shapes, or classes that are out of range or, under jit, not said.
    """
    check_spatial_ndim(options.spatial_ndim)
    check_channels(options.channels)
    masks = to_array(predictions, name="predictions")
    truth = to_array(labels, name="labels")
    for name, array in (("predictions", masks), ("labels", truth)):
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise TypeError(
                f"{name}: expected integers for kind='masks', found {array.dtype} of shape {array.shape}. "
                f"Pass {name}.astype(int), for PyTorch {name}.long(); for logits leave kind out."
            )
    if masks.shape != truth.shape or masks.ndim < options.spatial_ndim:
        raise ValueError(
            f"predictions: expected class indices (..., *spatial) with {options.spatial_ndim} spatial axes, of the "
            f"labels' shape {truth.shape}, found {masks.shape}."
        )
    classes = options.num_classes
    if classes is None:
        if isinstance(masks, Tracer) or isinstance(truth, Tracer):
            raise ValueError("num_classes: expected the number of classes under jit, found None.")
        known = np.asarray(truth)
        known = known if options.ignore_index is None else known[known != options.ignore_index]
        least = max(1 + len(options.background), *options.background, 0)
        classes = 1 + max(least, *(int(array.max(initial=0)) for array in (np.asarray(masks), known)))
    classes = operator.index(classes)
    if classes > _MOST_CLASSES:
        raise ValueError(
            f"num_classes: expected at most {_MOST_CLASSES}, for the confusion matrix has their square, found "
            f"{classes}. A label of ignored pixels? Pass ignore_index={classes - 1}."
        )
    check_background(options.background, classes)
    if not isinstance(masks, Tracer):
        _check_range(masks, classes, None, name="predictions")
    return masks, _check_values(truth, classes, options.ignore_index), classes


def check_labels(labels: Any, classes: int, options: Options) -> Any:
    """Checks that labels are integers in 0..C-1 or `ignore_index`, and returns the array.

    Raises:
        TypeError: labels are not integers.
        ValueError: a label out of range.
    """
    array = to_array(labels, name="labels")
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"labels: expected an integer dtype, found {array.dtype} of shape {array.shape}. "
            "Pass labels.astype(int), for PyTorch labels.long()."
        )
    return _check_values(array, classes, options.ignore_index)


def check_spatial_ndim(spatial_ndim: int) -> None:
    """Raises a ValueError where there are neither two nor three spatial axes."""
    if spatial_ndim not in (2, 3):
        raise ValueError(f"spatial_ndim: expected 2 (H, W) or 3 (D, H, W), found {spatial_ndim!r}.")


def check_channels(channels: str) -> None:
    """Raises a ValueError where the axis of the classes is neither the first nor the last."""
    if channels not in ("first", "last"):
        raise ValueError(f"channels: expected 'first' or 'last', found {channels!r}.")


def check_ignore_index(ignore_index: int | None) -> None:
    """Raises a TypeError or a ValueError where it is neither None nor an int32."""
    if ignore_index is None:
        return
    try:
        fits = -(2**31) <= operator.index(ignore_index) < 2**31
    except TypeError:
        raise TypeError(f"ignore_index: expected an integer or None, found {ignore_index!r}.") from None
    if not fits:
        raise ValueError(f"ignore_index: expected an int32, found {ignore_index}.")


def _check_kind(scores: np.ndarray, kind: str, *, labelled: bool) -> None:
    if kind == "probabilities":
        problem = _no_probabilities(scores)
        if problem:
            raise ValueError(f"probabilities: expected values in 0..1 that sum to 1 at each pixel, found {problem}.")
        return
    sample = scores[tuple(slice(None, None, max(1, size // _SAMPLE)) for size in scores.shape[:-1])]
    if not labelled and scores.shape[-1] >= MANY_CLASSES and _are_indices(sample) and _are_indices(scores):
        warnings.warn(
            f"logits: found the whole numbers {scores.min():g} to {scores.max():g} alone, in shape {scores.shape}. "
            "Class indices as floating point? They have no flip-risk; decompose takes integers with kind='masks'.",
            stacklevel=4,
        )
        return
    # One-hot scores are probabilities too, but of a model that is always sure: its entropies are not at stake.
    if _no_probabilities(sample) or _no_probabilities(scores) or ((scores == 0) | (scores == 1)).all():
        return
    warnings.warn(
        "logits: found values in 0..1 that sum to 1 at each pixel. If they are probabilities, pass "
        "kind='probabilities': flip-risk is another number for them.",
        stacklevel=4,
    )


def _are_indices(scores: np.ndarray) -> bool:
    """Says whether scores (..., C) look like class indices, and their last axis like an image's: no one-hot scores."""
    whole = bool(((scores >= 0) & (scores == np.floor(scores))).all())
    return whole and not ((scores > 0).sum(-1) == 1).all()


def _no_probabilities(scores: np.ndarray) -> str:
    """Returns what speaks against values (..., C) being probabilities; NaN does not."""
    scores = scores.astype(np.float32, copy=False)
    low = np.fmin.reduce(scores, axis=None)
    high = np.fmax.reduce(scores, axis=None)
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        return f"{low:.4g} to {high:.4g}; for logits pass kind='logits'"
    sums = (scores @ np.ones(scores.shape[-1], np.float32)).ravel()
    worst = sums[np.argmax(np.nan_to_num(np.abs(sums - 1)))]
    if abs(worst - 1) > _TOLERANCE:
        return f"a sum of {worst:.4g}; take a softmax over all classes, not a sigmoid for each"
    return ""


def _check_values(labels: Any, classes: int, ignore_index: int | None) -> Any:
    check_ignore_index(ignore_index)
    if not isinstance(labels, Tracer):
        _check_range(labels, classes, ignore_index, name="labels")
    return labels


def _check_range(labels: Any, classes: int, ignore_index: int | None, *, name: str) -> None:
    if labels.size == 0:
        return
    info = jnp.iinfo(labels.dtype)
    if ignore_index is not None and not info.min <= ignore_index <= info.max:
        ignore_index = None
    if on_host(labels):
        # Here, not on the device: a cast to int32 could wrap a wide integer into the valid range.
        low, high = _extremes(np.asarray(labels), ignore_index)
    else:
        with jax.ensure_compile_time_eval():
            low, high = map(int, _extremes_on_device(labels, ignore_index))
    if low >= 0 and high < classes:
        return
    values = np.unique(np.asarray(labels)).tolist()
    bad = [v for v in values if not 0 <= v < classes and v != ignore_index]
    examples = ", ".join(map(str, bad[:8])) + (", ..." if len(bad) > 8 else "")
    if name == "predictions":
        raise ValueError(
            f"predictions: expected class indices 0..{classes - 1} (num_classes={classes}), found {examples}."
        )
    besides = "" if ignore_index is None else f" and ignore_index={ignore_index}"
    raise ValueError(
        f"labels: expected class indices 0..{classes - 1}{besides} for {classes} classes, found {examples}. "
        f"To leave pixels out, pass their label: ignore_index={bad[-1]}."
    )


def _extremes(labels: Any, ignore_index: int | None) -> tuple[Any, Any]:
    if ignore_index is not None:
        labels = labels * (labels != ignore_index)
    return labels.min(), labels.max()


_extremes_on_device = jax.jit(_extremes, static_argnums=1)
