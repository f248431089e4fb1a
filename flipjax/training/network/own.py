"""Checks a configuration's own losses, augmentations and model on shapes."""

import functools
import re
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from flipjax.config import ConfigError, Experiment
from flipjax.config.ranges import functions_of, name_of
from flipjax.models.weights.initial import Weights, draw_weights
from flipjax.support.arrays import PyTree
from flipjax.training.network.forward import apply

Shape = jax.ShapeDtypeStruct


def check_own(experiment: Experiment) -> None:
    """Raises ConfigError if a function of the configuration returns wrong shapes or dtypes, or is impure.

    A function that uses Python's or NumPy's random generator, a clock or a counter traces to a different program each
    time; one that keeps an array leaks a tracer. The seconds since 1970 are not seen: float32 has one number for two
    minutes of them.

    Example:
        >>> from flipjax.config import TrainSpec
        >>> def mean_logit(logits, labels, groups):
        ...     return logits.mean()
        >>> check_own(Experiment(train=TrainSpec(loss=mean_logit)))
        Traceback (most recent call last):
        flipjax.config.ConfigError: config.train.loss: expected mean_logit to return float32[16]; found float32[]
    """
    batch = _batch_shapes(experiment)
    key = jax.eval_shape(lambda: jax.random.key(0))
    number_per_image = Shape(batch.groups.shape, jnp.float32)
    for loss in functions_of(experiment.train.loss):
        inputs = (batch.logits, batch.labels, batch.groups)
        _require_pure("config.train.loss", loss, inputs, number_per_image)
        _trace("config.train.loss", jax.grad(_summed(loss)), *inputs)
    for augmentation in functions_of(experiment.train.augment):
        changed = (batch.images, batch.labels)
        _require_pure("config.train.augment", augmentation, (key, *changed), changed)
    if experiment.model.build:
        _check_network(experiment, batch, key)


class BatchShapes(NamedTuple):
    """The shapes of a training batch."""

    images: Shape
    """(B, H, H, 3) float32."""
    labels: Shape
    """(B, H, H) int32."""
    logits: Shape
    """(B, H, H, C) float32."""
    groups: Shape
    """(B,) int32."""


def _batch_shapes(experiment: Experiment) -> BatchShapes:
    """Returns the shapes of the experiment's training batch."""
    B = experiment.train.batch_size
    H = experiment.pool.size
    return BatchShapes(
        images=Shape((B, H, H, 3), jnp.float32),
        labels=Shape((B, H, H), jnp.int32),
        logits=Shape((B, H, H, experiment.num_classes), jnp.float32),
        groups=Shape((B,), jnp.int32),
    )


def _summed(loss: Callable) -> Callable:
    """Returns the sum of a loss over the images of a batch, which has a gradient."""

    def summed(logits: jax.Array, labels: jax.Array, groups: jax.Array) -> jax.Array:
        return loss(logits, labels, groups).sum()

    return summed


def _check_network(experiment: Experiment, batch: BatchShapes, key: Shape) -> None:
    """Raises ConfigError if the user's network does not map images to logits, in training and in evaluation."""
    field = "config.model.build"
    model = experiment.model

    def draw(key: jax.Array) -> Weights:
        return draw_weights(key, model, experiment.num_classes)

    for training in (True, False):
        _, weights = _trace(field, draw, key)
        answer = functools.partial(apply, experiment, training=training)
        _, (logits, _) = _trace(field, answer, weights, batch.images)
        _compare(field, model.build, logits, batch.logits)


def check_quantities(experiment: Experiment, quantities: Sequence[Callable]) -> None:
    """Raises ConfigError if a user's own quantity does not return two numbers of each image, or is impure."""
    batch = _batch_shapes(experiment)
    number_per_image = Shape(batch.groups.shape, jnp.float32)
    for quantity in quantities:
        ratio = as_ratio(quantity)
        _require_pure("config.quantities", ratio, (batch.logits, batch.labels), (number_per_image, number_per_image))


def as_ratio(quantity: Callable) -> Callable:
    """Returns a user's own quantity, whose numerators and denominators of any type become float32."""

    @functools.wraps(quantity)
    def ratio(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(jnp.asarray(part).astype(jnp.float32) for part in quantity(logits, labels))

    return ratio


def _require_pure(field: str, function: Callable, inputs: tuple[PyTree, ...], expected: PyTree) -> None:
    """Raises ConfigError if a function returns other shapes than expected, or is another program when traced again."""
    with jax.checking_leaks():
        program, result = _trace(field, function, *inputs)
    _compare(field, function, result, expected)
    traced_again, _ = _trace(field, function, *inputs)
    same_text = _without_addresses(program) == _without_addresses(traced_again)
    if not same_text or not all(map(np.array_equal, program.consts, traced_again.consts)):
        found = "another program each time; random numbers come from jax.random and a key"
        raise ConfigError(field, f"{name_of(function)} to be pure", found)


def _without_addresses(program: ClosedJaxpr) -> str:
    """Returns the text of a program, where printed functions include their memory address."""
    return re.sub(r" at 0x\w+", "", str(program))


def _compare(field: str, function: Callable | None, result: PyTree, expected: PyTree) -> None:
    """Raises ConfigError if the shapes that a function returns are not those expected."""
    if _described(result) != _described(expected):
        raise ConfigError(field, f"{name_of(function)} to return {_described(expected)}", _described(result))


def _trace(field: str, function: Callable, *inputs: PyTree) -> tuple[ClosedJaxpr, PyTree]:
    """Returns a function's jaxpr and result shapes; an error becomes one line with its source location."""
    try:
        # A new lambda each time, since JAX caches traces by function.
        return jax.make_jaxpr(lambda *arrays: function(*arrays), return_shape=True)(*inputs)
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/jax/" not in frame.filename]
        found = f"{type(error).__name__}: {text} ({frames[-1].filename}:{frames[-1].lineno})"
        raise ConfigError(field, "a pure function of arrays, which JAX can trace", found) from error


def _described(tree: PyTree) -> str:
    """Returns the types and shapes of a tree's leaves as text."""
    return str(jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)).replace("'", "")
