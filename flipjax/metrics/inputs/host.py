"""Reads arrays of any framework as NumPy arrays, for functions that compute on the host. Imports no JAX."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import jax

Array: TypeAlias = "np.ndarray | jax.Array"
"""An array that is read: of NumPy, on the host, or of JAX, perhaps traced."""

Outputs: TypeAlias = Any
"""What a model returns, or labels: an array of NumPy or JAX, or a tensor of PyTorch, whose type is not imported."""

NARROW = {"int2": np.int8, "uint2": np.uint8, "int4": np.int8, "uint4": np.uint8}
"""Integers of `ml_dtypes` that NumPy does not compute with, and the types that hold their values."""


def read_array(values: ArrayLike, *, name: str) -> np.ndarray:
    """Returns an array-like as a NumPy array in native byte order.

    PyTorch is detected by its methods, never imported. Its bfloat16 becomes float32, since NumPy has no bfloat16.

    Args:
        values: array-like.
        name: of the argument, for messages.

    Raises:
        TypeError: a mapping, a masked array, or what is no array, such as a traced one.

    Example:
        >>> read_array(np.ma.masked_equal([1, 255], 255), name="groups")
        Traceback (most recent call last):
        ...
        TypeError: groups: expected an array, found a masked one; pass array.filled(...).
    """
    if isinstance(values, Mapping):
        keys = ", ".join(map(repr, values))
        raise TypeError(f"{name}: expected an array, found a mapping; pass one of its values: {keys}.")
    if isinstance(values, np.ma.MaskedArray):
        # NumPy would count the values that the mask hides.
        raise TypeError(f"{name}: expected an array, found a masked one; pass array.filled(...).")
    try:
        if hasattr(values, "detach"):
            array = np.asarray(_on_cpu(values))
        else:
            array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise TypeError(f"{name}: expected an array, found {type(values).__name__} ({reason}).") from error
    if array.dtype.name in NARROW:
        return array.astype(NARROW[array.dtype.name])
    if array.dtype.isnative:
        return array
    return array.astype(array.dtype.newbyteorder("="))


def is_tensor(values: object) -> bool:
    """Returns whether this is a tensor of PyTorch, which is never imported to find out.

    Example:
        >>> is_tensor(np.zeros(3))
        False
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def _on_cpu(tensor: Any) -> ArrayLike:
    """Returns a PyTorch tensor in host memory, of a type that NumPy has; `Any`, as PyTorch is never imported."""
    tensor = tensor.detach().cpu()
    if "bfloat16" in str(tensor.dtype):
        return tensor.float()
    return tensor


def read_numbers(values: ArrayLike, *, name: str) -> np.ndarray:
    """Returns real numbers as float64; None is NaN.

    Raises:
        TypeError: no array, or one of other things than real numbers.

    Example:
        >>> read_numbers([1, None], name="scores").tolist()
        [1.0, nan]
    """
    array = read_array(values, name=name)
    # bfloat16 and other types of `ml_dtypes` have no kind of their own.
    if array.dtype.kind not in "biufOV" or array.dtype.names is not None:
        raise TypeError(f"{name}: expected real numbers, found {array.dtype}.")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected real numbers, found {array.dtype} ({error}).") from error


def read_integers(values: ArrayLike, *, n_images: int, name: str) -> np.ndarray:
    """Returns an integer of each image, (n_images,).

    Raises:
        ValueError: another number of values, or other things than integers.

    Example:
        >>> read_integers([1, 0], n_images=3, name="groups")
        Traceback (most recent call last):
        ...
        ValueError: groups: expected 3 integers, found int64 of shape (2,).
    """
    numbers = read_array(values, name=name)
    if numbers.shape != (n_images,) or numbers.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected {n_images} integers, found {numbers.dtype} of shape {numbers.shape}.")
    return numbers
