"""How convolutions are traced: for a CPU or not, as programs of their own, with gradients written out, over members."""

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from flipjax.support.arrays import PyTree

Arrays: TypeAlias = tuple[jax.Array, ...]
"""Inputs, saved values, outputs or gradients of a function whose gradient is written out."""


def for_cpu() -> bool:
    """Returns whether programs are traced for a CPU.

    Tests and benchmarks replace it, to trace programs for an accelerator that is not there.
    """
    return jax.default_backend() == "cpu"


def materialised(function: Callable) -> Callable:
    """Returns a function of arrays that XLA:CPU computes once: it writes the result out for all of its uses."""
    program = jax.jit(function)

    @functools.wraps(function)
    def call(*arrays: jax.Array) -> PyTree:
        if not for_cpu():
            return function(*arrays)
        with set_xla_metadata(inlineable="false"):
            return program(*arrays)

    return call


def with_gradient(function: Callable, backward: Callable[[Arrays, jax.Array], Arrays]) -> Callable:
    """Returns a function of arrays whose gradients are computed by `backward`.

    Args:
        function: of arrays, which returns an array.
        backward: a function of the tuple of these arrays and of the gradient of the result; returns the arrays'
            gradients.
    """
    differentiable = jax.custom_vjp(function)

    def forward(*inputs: jax.Array) -> tuple[jax.Array, Arrays]:
        return function(*inputs), inputs

    differentiable.defvjp(forward, backward)
    return differentiable


def spread(members: int, mapped: PyTree, values: PyTree) -> PyTree:
    """Repeats arrays for each member, except those that `mapped` marks as having a leading axis of members."""

    def of_all(is_mapped: bool, array: jax.Array) -> jax.Array:
        return array if is_mapped else jnp.broadcast_to(array, (members, *array.shape))

    return jax.tree.map(of_all, mapped, values)
