"""The weights of a network: drawn from a key, and nested as its layers are."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from flipjax.config import ModelSpec
from flipjax.models.networks.registry import MODELS
from flipjax.support.arrays import PyTree


class Weights(NamedTuple):
    """The weights of a model, nested dicts of arrays; in states `training.network.forward.flat`."""

    params: PyTree
    """Parameters, which training changes by gradients."""
    statistics: PyTree
    """Running statistics, and keys of random numbers."""


def build(spec: ModelSpec, num_classes: int, key: jax.Array) -> nnx.Module:
    """Returns a network with weights drawn from `key`, by which Flax makes a network's `rngs`."""
    make = spec.build or functools.partial(MODELS[spec.name], spec)
    return make(num_classes=num_classes, rngs=nnx.Rngs(key))


def weights_of(model: nnx.Module) -> Weights:
    """Returns a model's parameters and other state, nested dicts of arrays; keys, such as dropout's, as integers."""
    _, params, statistics = nnx.split(model, nnx.Param, ...)
    plain = Weights(nnx.to_pure_dict(params), nnx.to_pure_dict(statistics))
    return jax.tree.map(_without_keys, plain)


def _without_keys(leaf: jax.Array) -> jax.Array:
    """Returns an array, or the integers of PRNG keys."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def is_key(leaf: jax.Array | jax.ShapeDtypeStruct) -> bool:
    """Returns whether an array holds PRNG keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def draw_weights(key: jax.Array, spec: ModelSpec, num_classes: int) -> Weights:
    """Returns a network's initial weights."""
    return weights_of(build(spec, num_classes, key))


@functools.cache
def weight_shapes(spec: ModelSpec, num_classes: int) -> Weights:
    """Returns the shapes of a network's weights, nested, without drawing any."""
    return jax.eval_shape(lambda: draw_weights(jax.random.key(0), spec, num_classes))


def overlay(drawn: PyTree, given: PyTree) -> PyTree:
    """Returns nested arrays, of `given` where it has them."""
    if not isinstance(drawn, dict):
        return jnp.asarray(given, drawn.dtype)
    joined = {}
    for name, leaf in drawn.items():
        if name in given:
            leaf = overlay(leaf, given[name])
        joined[name] = leaf
    return joined
