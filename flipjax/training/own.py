"""Checks a configuration's own losses, augmentations and model on shapes."""

import functools
import re
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.config import ConfigError, Experiment
from flipjax.models.weights import draw_weights
from flipjax.support.ranges import functions_of, name_of
from flipjax.training.network import apply

Shape = jax.ShapeDtypeStruct


def check_own(experiment: Experiment) -> None:
    """Raises ConfigError if a function of the configuration returns wrong shapes or dtypes, or is impure.

    A function that uses Python's or NumPy's random generator, a clock or a counter traces to a different program each
    time; one that keeps an array leaks a tracer.
    """
    B, H = experiment.train.batch_size, experiment.pool.size
    images, labels = Shape((B, H, H, 3), jnp.float32), Shape((B, H, H), jnp.int32)
    logits, groups = Shape((B, H, H, experiment.num_classes), jnp.float32), Shape((B,), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    for loss in functions_of(experiment.train.loss):
        _expect("config.train.loss", loss, (logits, labels, groups), Shape((B,), jnp.float32))
        _trace("config.train.loss", jax.grad(lambda *inputs, loss=loss: loss(*inputs).sum()), logits, labels, groups)
    for augmentation in functions_of(experiment.train.augment):
        _expect("config.train.augment", augmentation, (key, images, labels), (images, labels))
    model, field = experiment.model, "config.model.build"
    for training in (True, False) if model.build else ():
        weights = _trace(field, lambda key: draw_weights(key, model, experiment.num_classes), key)[1]
        answer = functools.partial(apply, experiment, training=training)
        _compare(field, model.build, _trace(field, answer, weights, images)[1][0], logits)


def check_quantities(experiment: Experiment, quantities: Sequence[Callable]) -> None:
    """Raises ConfigError if a user's own quantity does not return two numbers of each image, or is impure."""
    B, H = experiment.train.batch_size, experiment.pool.size
    logits, labels = Shape((B, H, H, experiment.num_classes), jnp.float32), Shape((B, H, H), jnp.int32)
    for quantity in quantities:
        ratio = as_ratio(quantity)
        _expect("config.quantities", ratio, (logits, labels), (Shape((B,), jnp.float32),) * 2)


def as_ratio(quantity: Callable) -> Callable:
    """Returns a user's own quantity, whose numerators and denominators of any type become float32."""

    @functools.wraps(quantity)
    def ratio(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jnp.asarray(part).astype(jnp.float32) for part in quantity(logits, labels))

    return ratio


def _expect(field: str, function: Callable, inputs: tuple[Any, ...], expected: Any) -> None:
    with jax.checking_leaks():
        first, result = _trace(field, function, *inputs)
    _compare(field, function, result, expected)
    again, _ = _trace(field, function, *inputs)
    # Printed functions include their memory address.
    same = len({re.sub(r" at 0x\w+", "", str(each)) for each in (first, again)}) == 1
    if not same or not all(map(np.array_equal, first.consts, again.consts)):
        found = "another program each time; random numbers come from jax.random and a key"
        raise ConfigError(field, f"{name_of(function)} to be pure", found)


def _compare(field: str, function: Any, result: Any, expected: Any) -> None:
    if _described(result) != _described(expected):
        raise ConfigError(field, f"{name_of(function)} to return {_described(expected)}", _described(result))


def _trace(field: str, function: Callable, *inputs: Any) -> Any:
    """Returns a function's jaxpr and result shapes; an error becomes one line with its source location."""
    try:
        # A new lambda each time, since JAX caches traces by function.
        return jax.make_jaxpr(lambda *arrays: function(*arrays), return_shape=True)(*inputs)
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        place = [frame for frame in traceback.extract_tb(error.__traceback__) if "/jax/" not in frame.filename][-1]
        found = f"{type(error).__name__}: {text} ({place.filename}:{place.lineno})"
        raise ConfigError(field, "a pure function of arrays, which JAX can trace", found) from error


def _described(tree: Any) -> str:
    return str(jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)).replace("'", "")
