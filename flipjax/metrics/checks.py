"""Door checks of the metric kernels: NumPy, JAX or PyTorch arrays come in, NumPy or JAX arrays of a known layout leave.

Static properties (rank, shapes, dtypes) are checked always, values only where they can be read: not under jit or vmap.
"""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from flipjax.metrics.blocks import on_host
from flipjax.metrics.classes import background_classes, check_background
from flipjax.metrics.hints import MANY_CLASSES, channels_first_hint, looks_channels_first, resize_hint, shape_message

SCORES = ("logits", "probabilities")
KINDS = (*SCORES, "masks")
# Half a percent: sums of 150 classes in float16 stay within it.
_TOLERANCE = 5e-3
_SAMPLE = 6
_MOST_CLASSES = 1 << 12
"""Of masks: the confusion matrix of an image has their square, then 64 MiB."""
_FORKED: list[int] = []
"""This process, where it was forked after JAX had started: it lacks JAX's threads and would wait for them for ever."""


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
    if _FORKED:
        raise RuntimeError(
            "this process was forked after JAX had started, whose threads it lacks: start workers with "
            "multiprocessing.get_context('spawn'), a DataLoader's with multiprocessing_context='spawn'."
        )
    if isinstance(values, jax.Array):
        return values
    if isinstance(values, Mapping):
        keys = ", ".join(map(repr, values))
        raise TypeError(
            f"{name}: expected an array, found {type(values).__name__} with {keys}; pass one of its values."
        )
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
    check_options(options, kinds=SCORES)
    kind, spatial_ndim = options.kind, options.spatial_ndim
    array: Any = to_array(scores, name=kind)
    shape = array.shape
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
    check_background(options.background, shape[-1], name=kind)
    if array.size and on_host(array):
        _check_kind(np.asarray(array), kind, labelled=labels_shape is not None)
    return array


def check_logits(logits: Any, *, background: int | tuple[int, ...] | None, spatial_ndim: int) -> jax.Array:
    """Returns checked logits (..., *spatial, C) as a JAX array; raises what `check_scores` raises."""
    return jnp.asarray(check_scores(logits, Options(background_classes(background), spatial_ndim=spatial_ndim)))


def check_pair(
    predictions: Any, labels: Any, options: Options, *, kinds: tuple[str, ...] = KINDS
) -> tuple[Any, Any, int]:
    """Checks predictions of some kinds and labels; returns both and the number of classes.

    Raises:
        TypeError: labels or masks that are not integers, or what `check_scores` raises.
        ValueError: shapes, options or values that do not fit; classes of masks that, under jit, are not said.
    """
    check_options(options, kinds=kinds)
    truth = to_array(labels, name="labels")
    if options.kind == "masks":
        masks = to_array(predictions, name="predictions")
        classes = _check_masks(masks, truth, options)
        _check_range(masks, classes, None, name="predictions")
        _check_range(truth, classes, options.ignore_index, name="labels")
        return masks, truth, classes
    scores = check_scores(predictions, options, labels_shape=truth.shape)
    _check_integers(truth, name="labels")
    _check_range(truth, scores.shape[-1], options.ignore_index, name="labels")
    return scores, truth, scores.shape[-1]


def check_options(options: Options, *, kinds: tuple[str, ...] = KINDS) -> None:
    """Raises a ValueError, or for an `ignore_index` that is no integer a TypeError, where no arrays could have them."""
    for name, known in {"kind": kinds, "channels": ("first", "last"), "spatial_ndim": (2, 3)}.items():
        if getattr(options, name) not in known:
            expected = " or ".join(map(repr, known))
            raise ValueError(f"{name}: expected {expected}, found {getattr(options, name)!r}.")
    if options.ignore_index is not None and not -(2**31) <= operator.index(options.ignore_index) < 2**31:
        raise ValueError(f"ignore_index: expected an int32, found {options.ignore_index}.")


def _check_masks(masks: Any, truth: Any, options: Options) -> int:
    """Checks the layout of class indices (..., *spatial) and labels; returns the number of classes."""
    _check_integers(masks, name="predictions")
    _check_integers(truth, name="labels")
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
    return classes


def _check_integers(array: Any, *, name: str) -> None:
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(
            f"{name}: expected integers, found {array.dtype} of shape {array.shape}. Pass {name}.astype(int), for "
            f"PyTorch {name}.long()."
        )


def _check_kind(scores: np.ndarray, kind: str, *, labelled: bool) -> None:
    if kind == "probabilities":
        problem = _no_probabilities(scores)
        if problem:
            raise ValueError(f"probabilities: expected values in 0..1 that sum to 1 at each pixel, found {problem}.")
        return
    sample = scores[tuple(slice(None, None, max(1, size // _SAMPLE)) for size in scores.shape[:-1])]
    if not labelled and scores.shape[-1] >= MANY_CLASSES and _are_indices(sample) and _are_indices(scores):
        text = (
            f"logits: found the whole numbers {scores.min():g} to {scores.max():g} alone, in shape {scores.shape}. "
            "Class indices as floating point? They have no flip-risk; decompose takes integers with kind='masks'."
        )
    # One-hot scores are probabilities too, but of a model that is always sure: its entropies are not at stake.
    elif _no_probabilities(sample) or _no_probabilities(scores) or ((scores == 0) | (scores == 1)).all():
        return
    else:
        text = (
            "logits: found values in 0..1 that sum to 1 at each pixel. If they are probabilities, pass "
            "kind='probabilities': flip-risk is another number for them."
        )
    # To who called the kernel: with labels there is `check_pair` between.
    warnings.warn(text, stacklevel=5 if labelled else 4)


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


def _check_range(labels: Any, classes: int, ignore_index: int | None, *, name: str) -> None:
    if isinstance(labels, Tracer) or labels.size == 0:
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
    besides = "" if ignore_index is None else f" and ignore_index={ignore_index}"
    advice = f" To leave pixels out, pass their label: ignore_index={bad[-1]}." if name == "labels" else ""
    raise ValueError(
        f"{name}: expected class indices 0..{classes - 1}{besides} for {classes} classes, found {examples}.{advice}"
    )


def _extremes(labels: Any, ignore_index: int | None) -> tuple[Any, Any]:
    if ignore_index is not None:
        labels = labels * (labels != ignore_index)
    return labels.min(), labels.max()


_extremes_on_device = jax.jit(_extremes, static_argnums=1)


def _note_fork() -> None:
    devices = jax.config.jax_num_cpu_devices  # type: ignore[attr-defined]
    try:
        # JAX refuses another number once it has started; there is no other way to ask.
        jax.config.update("jax_num_cpu_devices", devices + 1)
        jax.config.update("jax_num_cpu_devices", devices)
    except RuntimeError:
        _FORKED.append(os.getpid())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
