"""A member's network: weights, logits and gradients, alone or packed, and its predictions on pool rows."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.custom_batching import custom_vmap
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec as P

from flipjax import intervene, losses, metrics
from flipjax.config import Experiment
from flipjax.config.methods import Knobs
from flipjax.config.ranges import functions_of
from flipjax.data.pool import Pool, gather, inputs_of
from flipjax.intervene.scenes import finish_surroundings, sum_surroundings
from flipjax.models.convolutions.tracing import spread
from flipjax.models.weights.initial import Weights, build, draw_weights, is_key, overlay, weight_shapes, weights_of
from flipjax.support.arrays import Array, PyTree

FLAT = 2**20
"""Most numbers in a vector of `flat`; copies of more would cost memory."""

EVALUATION_BATCH = 16
"""Most images of an evaluation batch.

On a CPU, images of 48 x 48 in batches of 16 take four fifths of the time in batches of 64.
"""
BATCH_PIXELS = 2**20
"""Most pixels of an evaluation batch that holds more images than a training batch."""

BATCH = "batch_devices"
"""The axis of a mesh whose devices share each batch."""

Out = TypeVar("Out")

NO_WEIGHTS = Weights({}, {})
"""The start of a run whose weights are all drawn from its key."""


@functools.cache
def outline(experiment: Experiment) -> tuple[nnx.GraphDef, PyTree]:
    """Returns the static half of the experiment's model and the shapes of its statistics, without allocating arrays."""
    model = nnx.eval_shape(lambda: build(experiment.model, experiment.num_classes, jax.random.key(0)))
    graph, _, statistics = nnx.split(model, nnx.Param, ...)
    return graph, nnx.to_pure_dict(statistics)


def model_of(experiment: Experiment, weights: Weights, *, training: bool) -> Any:
    """Returns the experiment's model with these weights."""
    graph, shapes = outline(experiment)
    statistics = jax.tree.map(_as_state, shapes, weights.statistics)
    model = nnx.merge(graph, weights.params, statistics)
    if training:
        model.train()
    else:
        model.eval()
    return model


def _as_state(shape: jax.ShapeDtypeStruct, leaf: jax.Array) -> jax.Array:
    """Returns a leaf of the statistics as the model has it: PRNG keys in place of the integers of `weights_of`."""
    return jax.random.wrap_key_data(leaf) if is_key(shape) else leaf


def apply(experiment: Experiment, weights: Weights, images: jax.Array, *, training: bool) -> tuple[jax.Array, PyTree]:
    """Returns logits (B, H, W, C) float32 of images (B, H, W, 3) in [0, 1], and the running statistics afterwards."""
    model = model_of(experiment, weights, training=training)
    logits = model(images)
    return logits, weights_of(model).statistics


def first_weights(experiment: Experiment, key: jax.Array, start: Weights) -> Weights:
    """Returns the parameters and other state in `start`; draws missing ones from `key`."""
    return Weights(*map(overlay, draw_weights(key, experiment.model, experiment.num_classes), start))


def flat(weights: Weights) -> Weights:
    """Returns weights with each short part of float32 in one vector, as states hold them: few arrays compile faster."""
    return Weights(_flat_part(weights.params), _flat_part(weights.statistics))


def _flat_part(part: PyTree) -> PyTree:
    """Returns a part of the weights in one vector, if it is short."""
    if not _is_short(part):
        return part
    vector, _ = ravel_pytree(part)
    return vector


def _is_short(part: PyTree) -> bool:
    """Whether a part of the weights fits into a vector of `flat`."""
    leaves = jax.tree.leaves(part)
    count = sum(leaf.size for leaf in leaves)
    return 0 < count <= FLAT and all(leaf.dtype == jnp.float32 for leaf in leaves)


def nested(experiment: Experiment, weights: Weights) -> Weights:
    """Returns weights, `flat` or not, as nested dicts of arrays."""
    shapes = weight_shapes(experiment.model, experiment.num_classes)
    return Weights(_nested_part(weights.params, shapes.params), _nested_part(weights.statistics, shapes.statistics))


def _nested_part(part: PyTree, shapes: PyTree) -> PyTree:
    """Returns a part of the weights as nested dicts of arrays of some shapes."""
    if isinstance(part, dict):
        return part
    return _nest(part, shapes)


def names_in_vectors(experiment: Experiment) -> dict[str, dict[str, list[int]]]:
    """Returns the names and shapes of the arrays in each vector of `flat`, in order.

    Example:
        >>> from flipjax.config import ModelSpec
        >>> names_in_vectors(Experiment(model=ModelSpec(width=4, depth=1)))["params"]["head/bias"]
        [3]
    """
    names = {}
    for part, shapes in weight_shapes(experiment.model, experiment.num_classes)._asdict().items():
        if _is_short(shapes):
            leaves = jax.tree_util.tree_leaves_with_path(shapes)
            names[part] = {
                jax.tree_util.keystr(path, simple=True, separator="/"): list(leaf.shape) for path, leaf in leaves
            }
    return names


def _nest(vector: Array, shapes: PyTree) -> PyTree:
    """Cuts a vector into arrays of some shapes: on the host views, which compile nothing."""
    leaves, structure = jax.tree.flatten(shapes)
    ends = np.cumsum([leaf.size for leaf in leaves]).tolist()
    cuts = zip(leaves, ends, strict=True)
    return structure.unflatten(vector[end - leaf.size : end].reshape(leaf.shape) for leaf, end in cuts)


def deal_batch(images: jax.Array) -> jax.Array:
    """Shards images (B, ...) over the devices that share a batch; the identity if there are none."""
    mesh = jax.sharding.get_abstract_mesh()
    if BATCH not in mesh.axis_names:
        return images
    return jax.lax.with_sharding_constraint(images, P(BATCH))


def logits_of(experiment: Experiment, weights: Weights, images: jax.Array) -> jax.Array:
    """Returns logits (B, H, W, C) of images (B, H, W, 3) in evaluation mode, always computed in float32.

    Example:
        >>> from flipjax.config import ModelSpec
        >>> experiment = Experiment(model=ModelSpec(width=4, depth=1))
        >>> weights = jax.eval_shape(lambda: first_weights(experiment, jax.random.key(0), NO_WEIGHTS))
        >>> images = jax.ShapeDtypeStruct((2, 16, 24, 3), jnp.float32)
        >>> jax.eval_shape(lambda weights, images: logits_of(experiment, weights, images), weights, images).shape
        (2, 16, 24, 3)
    """
    experiment = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, dtype="float32"))

    def logits(weights: Weights, images: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("float32"):
            return apply(experiment, weights, images, training=False)[0]

    # Evaluation images are shared by all members, so they have no member axis.
    return _packable(logits, logits, experiment, common=(1,))(nested(experiment, weights), deal_batch(images))


def loss_and_gradients(
    experiment: Experiment, weights: Weights, batch: tuple[jax.Array, ...], knobs: Knobs, group_weights: jax.Array
) -> tuple[jax.Array, PyTree, PyTree, jax.Array]:
    """Returns the loss of a training batch, the parameters' gradients, and the updated statistics and group weights.

    The batch has images (B, H, W, 3), masks (B, H, W) and groups (B,), as from
    `flipjax.training.epoch.step.make_batch`.
    """
    knobs = jax.tree.map(jnp.asarray, knobs)
    batch_loss = functools.partial(losses.batch_loss, own_losses=functions_of(experiment.train.loss))
    alone = functools.partial(_loss_and_gradients, experiment, batch_loss)
    packed = functools.partial(_loss_and_gradients, experiment, jax.vmap(batch_loss))
    function = _packable(alone, packed, experiment)
    images, masks, groups = batch
    dealt = (deal_batch(images), deal_batch(masks), groups)
    return function(nested(experiment, weights), dealt, knobs, group_weights)


def _packable(alone: Callable, packed: Callable, experiment: Experiment, *, common: Collection[int] = ()) -> Callable:
    """Returns `alone`, which under a map over a packed experiment's members becomes one call of `packed`.

    Arguments of `packed` have a leading member axis, except unmapped ones at the positions `common`.
    """
    if not experiment.packed:
        return alone
    mapped = custom_vmap(alone)

    @mapped.def_vmap
    def rule(members: int, batched: PyTree, *arguments: PyTree) -> tuple[PyTree, PyTree]:
        spread_out = []
        for position, (argument, is_mapped) in enumerate(zip(arguments, batched, strict=True)):
            if position not in common or any(jax.tree.leaves(is_mapped)):
                argument = spread(members, is_mapped, argument)
            spread_out.append(argument)
        outputs = packed(*spread_out)
        return outputs, jax.tree.map(lambda _: True, outputs)

    return mapped


def _loss_and_gradients(
    experiment: Experiment,
    batch_loss: Callable,
    weights: Weights,
    batch: tuple[jax.Array, ...],
    knobs: Knobs,
    group_weights: jax.Array,
) -> tuple[jax.Array, PyTree, PyTree, jax.Array]:
    """Implements `loss_and_gradients`; a pack's losses are summed, which leaves each member's gradients unchanged."""
    images, masks, groups = batch

    def loss_of(params: PyTree) -> tuple[jax.Array, PyTree]:
        logits, statistics = apply(experiment, Weights(params, weights.statistics), images, training=True)
        member_losses, new_group_weights = batch_loss(logits, masks, groups, knobs, group_weights)
        return member_losses.sum(), (member_losses, statistics, new_group_weights)

    (_, outputs), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights.params)
    member_losses, statistics, new_group_weights = outputs
    return member_losses, gradients, statistics, new_group_weights


def predict(experiment: Experiment, weights: Weights, pool: Pool, rows: Array) -> jax.Array:
    """Returns logits (n, H, W, C) float32 on pool rows (n, 2)."""
    return evaluate(experiment, weights, pool, rows, lambda logits, labels: logits)


def evaluate(
    experiment: Experiment, weights: Weights, pool: Pool, rows: Array, measure: Callable = metrics.decompose
) -> PyTree:
    """Returns the decomposition, leading axis n, or another measure of logits and labels on pool rows (n, 2)."""

    def of_batch(batch: jax.Array) -> PyTree:
        images, labels = gather(pool, batch)
        return measure(logits_of(experiment, weights, inputs_of(pool, batch, images)), labels)

    return map_batches(of_batch, rows, largest=evaluation_batch(experiment))


def mean_surroundings(experiment: Experiment, weights: Weights, pool: Pool, rows: Array) -> jax.Array:
    """Returns `flipjax.intervene.mean_surroundings`, (1, H, W, channels), for pool rows (m, 2)."""
    size = min(evaluation_batch(experiment), rows.shape[0])
    # The mean leaves out a last, incomplete batch.
    batches: PyTree = rows[: rows.shape[0] // size * size].reshape(-1, size, 2)

    def add(sums: tuple[jax.Array, jax.Array], batch: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        images, _ = gather(pool, batch)
        logits = logits_of(experiment, weights, inputs_of(pool, batch, images))
        colours, counts = sum_surroundings(images, intervene.foreground(logits))
        return (sums[0] + colours, sums[1] + counts), None

    H, W, channels = pool.images.shape[1:]
    sums, _ = jax.lax.scan(add, (jnp.zeros((H, W, channels)), jnp.zeros((H, W, 1))), batches)
    return finish_surroundings(*sums)


def evaluation_batch(experiment: Experiment) -> int:
    """Returns the images of an evaluation batch: those that fit `BATCH_PIXELS`, or as many as a training batch has.

    Example:
        >>> from flipjax.config import PoolSpec, TrainSpec
        >>> photos = Experiment(pool=PoolSpec(size=512), train=TrainSpec(batch_size=4))
        >>> evaluation_batch(Experiment()), evaluation_batch(photos)
        (16, 4)
    """
    fitting = BATCH_PIXELS // experiment.pool.size**2
    return min(EVALUATION_BATCH, max(experiment.train.batch_size, fitting))


def map_batches(function: Callable[[jax.Array], Out], rows: Array, *, largest: int) -> Out:
    """Maps `function`, from rows (B, 2) to leaves (B, ...), over rows (n, 2); leaves (n, ...).

    Batches have equal sizes of at most `largest`; the first rows pad the last batch.
    """
    count = rows.shape[0]
    steps = math.ceil(count / largest)
    size = math.ceil(count / steps)
    padded = jnp.concatenate([rows, rows[: steps * size - count]])
    mapped = jax.lax.map(function, padded.reshape(steps, size, *rows.shape[1:]))
    return jax.tree.map(lambda leaf: leaf.reshape(steps * size, *leaf.shape[2:])[:count], mapped)
