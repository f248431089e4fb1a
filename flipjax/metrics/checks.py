"""Door checks of the metric kernels: NumPy, JAX or PyTorch arrays come in, JAX arrays of a known layout leave.

Static properties (rank, shapes, dtypes) are checked always, values only where they can be read: not under jit or vmap.
"""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

# Without labels, a channels-first array is only recognisable where its last axis cannot be a number of classes.
_FEW_ROWS, _MANY_CLASSES = range(3, 8), 32


def to_array(values: Any) -> jax.Array | np.ndarray:
    """Return JAX and NumPy arrays unchanged, and PyTorch tensors and other array-likes as NumPy arrays.

    PyTorch is recognised by its methods and never imported. NumPy has no bfloat16, so such a tensor is widened first.
    """
    if isinstance(values, (jax.Array, np.ndarray)):
        return values
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if "bfloat16" in str(values.dtype):
            values = values.float()
    return np.asarray(values)


def check_logits(logits: Any, *, background: int, spatial_ndim: int) -> jax.Array:
    """Check logits (..., *spatial, C) and the options that go with them, and return the logits as a JAX array.

    Raises:
        TypeError: logits are not floating point.
        ValueError: too few axes or classes, axes that look channels-first, or an option out of range.
    """
    if spatial_ndim not in (2, 3):
        raise ValueError(f"spatial_ndim: expected 2 (H, W) or 3 (D, H, W), found {spatial_ndim!r}.")
    array = to_array(logits)
    shape = array.shape
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"logits: expected floating point, found {array.dtype} of shape {shape}. "
            "Predictions come first and labels second; class indices are not logits."
        )
    if len(shape) < spatial_ndim + 1:
        raise ValueError(
            f"logits: expected (..., *spatial, C) with {spatial_ndim} spatial axes, "
            f"so at least {spatial_ndim + 1} axes, found shape {shape}. For volumes or images pass spatial_ndim=3 or 2."
        )
    if shape[-1 - spatial_ndim] in _FEW_ROWS and shape[-1] >= _MANY_CLASSES:
        raise ValueError(f"logits: {_channels_first_hint(shape, spatial_ndim)}")
    if shape[-1] < 3:
        raise ValueError(
            f"logits: expected at least 3 classes (background and two that can be confused) on the last axis, "
            f"found {shape[-1]} in shape {shape}."
        )
    classes = shape[-1]
    if not 0 <= operator.index(background) < classes:
        raise ValueError(f"background: expected a class index in 0..{classes - 1}, found {background}.")
    return jnp.asarray(array)


def check_labels(labels: Any, logits: jax.Array, *, ignore_label: int | None, spatial_ndim: int) -> jax.Array:
    """Check integer labels (..., *spatial) against checked logits, and return them as a JAX array.

    Raises:
        TypeError: labels are not integers.
        ValueError: another shape than the logits', or a label outside 0..C-1 that is not ``ignore_label``.
    """
    if ignore_label is not None and not -(2**31) <= operator.index(ignore_label) < 2**31:
        raise ValueError(f"ignore_label: expected an int32, found {ignore_label}.")
    array = to_array(labels)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"labels: expected an integer dtype, found {array.dtype} of shape {array.shape}.")
    if array.shape != logits.shape[:-1]:
        raise ValueError(_shape_message(array.shape, logits.shape, spatial_ndim))
    if not isinstance(array, Tracer):
        _check_range(array, logits.shape[-1], ignore_label)
    return jnp.asarray(array)


def _shape_message(labels: tuple[int, ...], logits: tuple[int, ...], spatial_ndim: int) -> str:
    lead = len(logits) - spatial_ndim - 1
    message = (
        f"labels: expected shape {logits[:-1]}, that of the logits {logits} without their last axis, found {labels}."
    )
    if labels == logits[:lead] + logits[lead + 1 :]:
        return f"{message} The logits' {_channels_first_hint(logits, spatial_ndim)}"
    if labels == logits:
        return f"{message} One-hot labels? Pass labels.argmax(-1)."
    if labels == (*logits[:-1], 1):
        return f"{message} Pass labels[..., 0]."
    return message


def _channels_first_hint(shape: tuple[int, ...], spatial_ndim: int) -> str:
    lead = len(shape) - spatial_ndim - 1
    axes = (*range(lead), *range(lead + 1, len(shape)), lead)
    return (
        f"shape {shape} is channels-first, expected channels last: "
        f"pass np.transpose(logits, {axes}), for PyTorch logits.permute{axes}."
    )


def _check_range(labels: jax.Array | np.ndarray, classes: int, ignore_label: int | None) -> None:
    if labels.size == 0:
        return
    info = jnp.iinfo(labels.dtype)
    if ignore_label is not None and not info.min <= ignore_label <= info.max:
        ignore_label = None
    if isinstance(labels, np.ndarray):
        # Here, not on the device: a cast to int32 could wrap a wide integer into the valid range.
        low, high = _extremes(labels, ignore_label)
    else:
        with jax.ensure_compile_time_eval():
            low, high = map(int, _extremes_on_device(labels, ignore_label))
    if low >= 0 and high < classes:
        return
    values = np.unique(np.asarray(labels)).tolist()
    bad = [v for v in values if not 0 <= v < classes and v != ignore_label]
    shown = ", ".join(map(str, bad[:8])) + (", ..." if len(bad) > 8 else "")
    besides = "" if ignore_label is None else f" and ignore_label={ignore_label}"
    raise ValueError(
        f"labels: expected class indices 0..{classes - 1}{besides} for logits with {classes} classes, found {shown}. "
        f"To leave pixels out, pass their label: ignore_label={bad[-1]}."
    )


def _extremes(labels: Any, ignore_label: int | None) -> tuple[Any, Any]:
    if ignore_label is not None:
        labels = labels * (labels != ignore_label)
    return labels.min(), labels.max()


_extremes_on_device = jax.jit(_extremes, static_argnums=1)
