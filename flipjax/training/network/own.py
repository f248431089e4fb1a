"""Checks a configuration's own losses, augmentations, optimiser and model on shapes."""

import dataclasses
import functools
import re
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import ClosedJaxpr

from flipjax.config import ConfigError, Experiment
from flipjax.config.naming import known_groups
from flipjax.config.plan import Plan
from flipjax.config.ranges import functions_of, name_of
from flipjax.models.weights.initial import Weights, draw_weights, is_key
from flipjax.support.arrays import PyTree
from flipjax.training.network.forward import apply

Shape = jax.ShapeDtypeStruct


def check_functions(plan: Plan) -> None:
    """Raises ConfigError if a configuration's functions do not fit, for pools whose classes it states.

    A sweep checks those of other pools once these are loaded.
    """
    for program in plan.programs:
        groups = known_groups(program.experiment.pool)
        if groups is not None:
            experiment = dataclasses.replace(program.experiment, groups=groups)
            check_own(experiment)
            check_quantities(experiment, plan.quantities)


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
    if callable(experiment.train.optimizer):
        _check_optimizer(experiment, experiment.train.optimizer, key)


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


def _check_optimizer(experiment: Experiment, own: Callable, key: Shape) -> None:
    """Raises ConfigError if the user's optimiser does not fit the network's parameters, or is impure."""
    field = "config.train.optimizer"
    name = name_of(own)
    rate = Shape((), jnp.float32)
    params = jax.eval_shape(lambda key: draw_weights(key, experiment.model, experiment.num_classes), key).params

    def init(rate: jax.Array, params: PyTree) -> PyTree:
        optimiser = own(rate)
        if not isinstance(optimiser, optax.GradientTransformation):
            found = f"an object of type {type(optimiser).__name__}"
            raise ConfigError(field, f"{name} to return an optax.GradientTransformation", found)
        return optimiser.init(params)

    def update(rate: jax.Array, gradients: PyTree, state: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
        return own(rate).update(gradients, state, params)

    first, state = _trace_purely(field, name, init, (rate, params))
    step, (updates, next_state) = _trace_purely(field, name, update, (rate, params, state, params))
    _compare_leaves(field, f"{name} to return updates of the parameters' types and shapes", updates, params)
    _compare_leaves(field, f"{name} to return a state of the first state's types and shapes", next_state, state)
    for place, leaf in _by_place(state).items():
        if is_key(leaf):
            raise ConfigError(field, f"{name} to have a state of numbers", f"a PRNG key at {place}")
    effects = first.effects | step.effects
    if effects:
        raise ConfigError(field, f"{name} to be pure", f"side effects: {', '.join(sorted(map(str, effects)))}")
    if _reads_first_input(first) and not _reads_first_input(step):
        found = "one that keeps the first, as optax.inject_hyperparams does"
        raise ConfigError(field, f"{name} to use the learning rate of each step", found)


def _reads_first_input(program: ClosedJaxpr) -> bool:
    """Whether a program uses the first of its inputs."""
    first = program.jaxpr.invars[0]
    read = [variable for equation in program.jaxpr.eqns for variable in equation.invars]
    return any(variable is first for variable in (*read, *program.jaxpr.outvars))


def _by_place(tree: PyTree) -> dict[str, Shape]:
    """Returns the leaves of a tree of shapes by their place."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _compare_leaves(field: str, expected: str, shapes: PyTree, expected_shapes: PyTree) -> None:
    """Raises ConfigError for the first leaf that is not of the expected type and shape; `expected` is in words."""
    leaves = _by_place(shapes)
    expected_leaves = _by_place(expected_shapes)
    for place in expected_leaves | leaves:
        result, wanted = (_described(tree.get(place)) for tree in (leaves, expected_leaves))
        if result != wanted:
            raise ConfigError(field, expected, f"{result} in place of {wanted} at {place or 'its only array'}")
    if jax.tree.structure(shapes) != jax.tree.structure(expected_shapes):
        raise ConfigError(field, expected, "the same arrays in another structure")


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
    _, result = _trace_purely(field, name_of(function), function, inputs)
    _compare(field, function, result, expected)


def _trace_purely(field: str, name: str, function: Callable, inputs: tuple[PyTree, ...]) -> tuple[ClosedJaxpr, PyTree]:
    """Returns a function's jaxpr and result shapes; raises ConfigError if it leaks, or differs when traced again."""
    with jax.checking_leaks():
        program, result = _trace(field, function, *inputs)
    traced_again, _ = _trace(field, function, *inputs)
    same_text = _without_addresses(program) == _without_addresses(traced_again)
    if not same_text or not all(map(np.array_equal, program.consts, traced_again.consts)):
        found = "another program each time; random numbers come from jax.random and a key"
        raise ConfigError(field, f"{name} to be pure", found)
    return program, result


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
    except ConfigError:
        raise
    except Exception as error:  # The function is the user's, and may raise anything.
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/jax/" not in frame.filename]
        found = f"{type(error).__name__}: {text} ({frames[-1].filename}:{frames[-1].lineno})"
        raise ConfigError(field, "a pure function of arrays, which JAX can trace", found) from error


def _described(tree: PyTree) -> str:
    """Returns the types and shapes of a tree's leaves as text."""
    return str(jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)).replace("'", "")
