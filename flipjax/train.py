"""One member's training as pure functions; the member axis is `flipjax.population`'s.

An `Experiment` is static (it decides the program); a `Member` is data (it decides the run).
"""

import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from flipjax import augment, losses
from flipjax.config import Experiment
from flipjax.data.pool import Pool, gather
from flipjax.models import MODELS

NUM_CLASSES = 3
NUM_GROUPS = 4


class Status(enum.IntEnum):
    """What became of a member; stored as int32."""

    RUNNING = 0
    STOPPED = 1
    DIVERGED = 2
    FINISHED = 3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Member:
    """The traced half of a run: key, training rows (n, 2) and groups (n,) int32, learning rate, knobs of its method."""

    key: jax.Array
    rows: jax.Array
    groups: jax.Array
    learning_rate: jax.Array
    knobs: losses.Knobs


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """All that training changes: a pytree of arrays, so that maps, shards and checkpoints need to know no more.

    `epoch` counts finished epochs; `best_*` belong to the epoch (counted from 1; 0: none yet) with the lowest
    validation loss.
    """

    params: Any
    statistics: Any
    moments: Any
    group_weights: jax.Array
    epoch: jax.Array
    status: jax.Array
    best_params: Any
    best_statistics: Any
    best_loss: jax.Array
    best_epoch: jax.Array


@functools.cache
def graph(experiment: Experiment) -> nnx.GraphDef:
    """Returns the static half of the experiment's model, without making arrays."""
    model = nnx.eval_shape(lambda: build(experiment, jax.random.key(0)))
    return nnx.split(model, nnx.Param, ...)[0]


def build(experiment: Experiment, key: jax.Array) -> nnx.Module:
    """Returns the experiment's model with weights drawn from `key`."""
    return MODELS[experiment.model.name](experiment.model, num_classes=NUM_CLASSES, rngs=nnx.Rngs(key))


def apply(
    experiment: Experiment, params: Any, statistics: Any, images: jax.Array, *, training: bool
) -> tuple[jax.Array, Any]:
    """Returns logits (B, H, W, C) float32 of images (B, H, W, 3) in [0, 1], and the running statistics afterwards."""
    model = nnx.merge(graph(experiment), params, statistics)
    if training:
        model.train()
    else:
        model.eval()
    logits = model(images)
    return logits, arrays_of(model)[1]


def arrays_of(model: nnx.Module) -> tuple[Any, Any]:
    """Returns a model's parameters and its other state, nested dicts of arrays."""
    _, params, statistics = nnx.split(model, nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)


def init_state(experiment: Experiment, member: Member, start: Any = ({}, {})) -> State:
    """Returns a member's state before its first epoch: its key alone decides the weights that `start` does not give.

    Args:
      experiment: static.
      member: whose key is drawn from.
      start: parameters and statistics of `flipjax.models.weights.load`, nested alike; parts may be absent.
    """
    params, statistics = first_arrays(experiment, jax.random.fold_in(member.key, 0), start)
    return State(
        params=params,
        statistics=statistics,
        moments=optax.scale_by_adam().init(params),
        group_weights=jnp.full((NUM_GROUPS,), 1 / NUM_GROUPS, jnp.float32),
        epoch=jnp.int32(0),
        status=jnp.int32(Status.RUNNING),
        best_params=params,
        best_statistics=statistics,
        best_loss=jnp.float32(jnp.inf),
        best_epoch=jnp.int32(0),
    )


def first_arrays(experiment: Experiment, key: jax.Array, start: Any) -> tuple[Any, Any]:
    """Returns parameters and other state as `start` gives them, and as drawn from `key` where it has none."""
    drawn = arrays_of(build(experiment, key))
    return _overlay(drawn[0], start[0]), _overlay(drawn[1], start[1])


def _overlay(drawn: Any, given: Any) -> Any:
    if not isinstance(drawn, dict):
        return jnp.asarray(given, drawn.dtype)
    return {name: _overlay(leaf, given[name]) if name in given else leaf for name, leaf in drawn.items()}


def train_step(
    experiment: Experiment, member: Member, pool: Pool, state: State, batch: jax.Array, key: jax.Array
) -> tuple[State, jax.Array]:
    """Takes one Adam step.

    Args:
      experiment: static.
      member: whose rows are trained on.
      pool: shared by all members.
      state: before the step.
      batch: (B,) int32 positions in `member.rows`.
      key: of this step's augmentation.

    Returns:
      The state after the step (`epoch`, `status` and `best_*` untouched) and the loss before it.
    """
    images, labels = augment.horizontal_flip(key, *gather(pool, member.rows[batch]), probability=experiment.train.hflip)

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        logits, statistics = apply(experiment, params, state.statistics, images, training=True)
        loss, weights = losses.batch_loss(logits, labels, member.groups[batch], member.knobs, state.group_weights)
        return loss, (statistics, weights)

    (loss, (statistics, weights)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, moments = optax.scale_by_adam().update(gradients, state.moments)
    updates = jax.tree.map(lambda update: -member.learning_rate * update, updates)
    params = optax.apply_updates(state.params, updates)
    return dataclasses.replace(
        state, params=params, statistics=statistics, moments=moments, group_weights=weights
    ), loss


def train_epoch(experiment: Experiment, member: Member, pool: Pool, state: State) -> tuple[State, jax.Array]:
    """Trains for one epoch: a scan over the batches of a fresh permutation.

    Images that fill no whole batch are left out.

    Returns:
      The state after the last step and the mean training loss.
    """
    size = experiment.train.batch_size
    steps = member.rows.shape[0] // size
    order_key, step_key = jax.random.split(jax.random.fold_in(member.key, state.epoch + 1))
    order = jax.random.permutation(order_key, member.rows.shape[0])[: steps * size].reshape(steps, size)

    def step(state: State, inputs: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        return train_step(experiment, member, pool, state, *inputs)

    state, step_losses = jax.lax.scan(step, state, (order, jax.random.split(step_key, steps)))
    return state, step_losses.mean()


def validation_loss(
    experiment: Experiment, member: Member, pool: Pool, state: State, rows: jax.Array, groups: jax.Array
) -> jax.Array:
    """Returns the member's own loss on rows (n, 2) in evaluation mode.

    It is the mean over groups, weighed by the member's group weights, which stay as they are.
    """

    def of_batch(batch: jax.Array) -> jax.Array:
        images, labels = gather(pool, batch)
        logits, _ = apply(experiment, state.params, state.statistics, images, training=False)
        return losses.image_loss(logits, labels, member.knobs)

    of_rows = map_batches(of_batch, rows, largest=evaluation_batch(experiment))
    means, _ = losses.group_means(of_rows, groups, num_groups=NUM_GROUPS)
    return (state.group_weights * means).sum()


def evaluation_batch(experiment: Experiment) -> int:
    """Returns how many images are evaluated at once: 64, or fewer large ones, but a training batch at least."""
    return min(64, max(experiment.train.batch_size, 2**20 // experiment.pool.size**2))


def map_batches(function: Callable[[jax.Array], Any], rows: jax.Array, *, largest: int = 64) -> Any:
    """Maps `function`, from rows (B, 2) to leaves (B, ...), over rows (n, 2); leaves (n, ...).

    Batches are equal and at most `largest`: the first rows fill up the last one.
    """
    count = rows.shape[0]
    steps = -(-count // largest)
    size = -(-count // steps)
    padded = jnp.concatenate([rows, rows[: steps * size - count]])
    mapped = jax.lax.map(function, padded.reshape(steps, size, *rows.shape[1:]))
    return jax.tree.map(lambda leaf: leaf.reshape(steps * size, *leaf.shape[2:])[:count], mapped)


def settle(experiment: Experiment, state: State, train_loss: jax.Array, valid_loss: jax.Array) -> State:
    """Ends an epoch: keeps the best parameters; stops a member that diverged, ran out of patience or is through."""
    epoch = state.epoch + 1
    better = valid_loss < state.best_loss
    best_epoch = jnp.where(better, epoch, state.best_epoch)
    # Read in this order: a later line overrules an earlier one.
    status = jnp.where(epoch >= experiment.train.epochs, Status.FINISHED, Status.RUNNING)
    status = jnp.where(epoch - best_epoch >= experiment.train.patience, Status.STOPPED, status)
    status = jnp.where(jnp.isfinite(train_loss) & jnp.isfinite(valid_loss), status, Status.DIVERGED)

    def keep(new: Any, old: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)

    return dataclasses.replace(
        state,
        epoch=epoch,
        status=status.astype(jnp.int32),
        best_params=keep(state.params, state.best_params),
        best_statistics=keep(state.statistics, state.best_statistics),
        best_loss=jnp.where(better, valid_loss, state.best_loss),
        best_epoch=best_epoch,
    )


def run_epoch(
    experiment: Experiment, member: Member, pool: Pool, state: State, rows: jax.Array, groups: jax.Array
) -> tuple[State, dict[str, jax.Array]]:
    """Trains for one epoch, validates on `rows` with `groups`, and settles the member.

    Returns:
      The state and the epoch's record: scalars `train_loss` and `valid_loss`, and `group_weights` (G,).
    """
    state, train_loss = train_epoch(experiment, member, pool, state)
    valid_loss = validation_loss(experiment, member, pool, state, rows, groups)
    record = {"train_loss": train_loss, "valid_loss": valid_loss, "group_weights": state.group_weights}
    return settle(experiment, state, train_loss, valid_loss), record
