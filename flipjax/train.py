"""One member's training as pure functions; the member axis is `flipjax.population`'s.

An `Experiment` is static (it decides the program); a `Member` is data (it decides the run).
"""

import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from flipjax import augment, losses, optimise, sampling
from flipjax.config import Experiment
from flipjax.data.pool import Pool, gather
from flipjax.methods import Knobs
from flipjax.models import MODELS
from flipjax.optimise import Recipe

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
    """The traced half of a run: key, training rows (n, 2) and groups (n,) int32, optimiser, knobs of its method."""

    key: jax.Array
    rows: jax.Array
    groups: jax.Array
    recipe: Recipe
    knobs: Knobs


class Weights(NamedTuple):
    """What a model computes with: parameters and running statistics, nested dicts of arrays."""

    params: Any
    statistics: Any


class Best(NamedTuple):
    """The weights that a selection rule has kept: the lowest score so far, and its epoch (0: none yet)."""

    weights: Weights
    score: jax.Array
    epoch: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """All that training changes: a pytree of arrays, so that maps, shards and checkpoints need to know no more.

    `average` is None unless a method of the experiment averages weights, `image_weights` (n,) unless one draws images
    unevenly. `epoch` counts finished epochs; `restart` is its value when the present run began (0, or JTT's second
    run). `best_loss` and `best_epoch` are what patience waits for; `best` holds a `Best` for each selection rule.
    """

    weights: Weights
    average: Weights | None
    moments: Any
    group_weights: jax.Array
    image_weights: jax.Array | None
    epoch: jax.Array
    restart: jax.Array
    status: jax.Array
    best_loss: jax.Array
    best_epoch: jax.Array
    best: dict[str, Best]

    @property
    def evaluated(self) -> Weights:
        """The weights that are evaluated: the average, where there is one."""
        return self.weights if self.average is None else self.average


@functools.cache
def graph(experiment: Experiment) -> nnx.GraphDef:
    """Returns the static half of the experiment's model, without making arrays."""
    model = nnx.eval_shape(lambda: build(experiment, jax.random.key(0)))
    return nnx.split(model, nnx.Param, ...)[0]


def build(experiment: Experiment, key: jax.Array) -> nnx.Module:
    """Returns the experiment's model with weights drawn from `key`."""
    return MODELS[experiment.model.name](experiment.model, num_classes=NUM_CLASSES, rngs=nnx.Rngs(key))


def model_of(experiment: Experiment, weights: Weights, *, training: bool) -> Any:
    """Returns the experiment's model with these weights."""
    model = nnx.merge(graph(experiment), *weights)
    if training:
        model.train()
    else:
        model.eval()
    return model


def apply(
    experiment: Experiment, params: Any, statistics: Any, images: jax.Array, *, training: bool
) -> tuple[jax.Array, Any]:
    """Returns logits (B, H, W, C) float32 of images (B, H, W, 3) in [0, 1], and the running statistics afterwards."""
    model = model_of(experiment, Weights(params, statistics), training=training)
    logits = model(images)
    return logits, weights_of(model).statistics


def weights_of(model: nnx.Module) -> Weights:
    """Returns a model's parameters and its other state, nested dicts of arrays."""
    _, params, statistics = nnx.split(model, nnx.Param, ...)
    return Weights(nnx.to_pure_dict(params), nnx.to_pure_dict(statistics))


def init_state(experiment: Experiment, member: Member, start: Any = ({}, {})) -> State:
    """Returns a member's state before its first epoch: its key alone decides the weights that `start` does not give.

    Args:
      experiment: static.
      member: whose key is drawn from.
      start: parameters and statistics of `flipjax.models.weights.load`, nested alike; parts may be absent.
    """
    weights = first_weights(experiment, jax.random.fold_in(member.key, 0), start)
    averaged = {"ema", "swa"} & set(experiment.machinery)
    unplayed = Best(weights, score=jnp.float32(jnp.inf), epoch=jnp.int32(0))
    return State(
        weights=weights,
        average=weights if averaged else None,
        moments=optimise.start(weights.params),
        group_weights=jnp.full((NUM_GROUPS,), 1 / NUM_GROUPS, jnp.float32),
        image_weights=jnp.ones(member.groups.shape, jnp.float32) if "jtt_epochs" in experiment.machinery else None,
        epoch=jnp.int32(0),
        restart=jnp.int32(0),
        status=jnp.int32(Status.RUNNING),
        best_loss=jnp.float32(jnp.inf),
        best_epoch=jnp.int32(0),
        best=dict.fromkeys(experiment.train.selection, unplayed),
    )


def first_weights(experiment: Experiment, key: jax.Array, start: Any) -> Weights:
    """Returns parameters and other state as `start` gives them, and as drawn from `key` where it has none."""
    return Weights(*map(_overlay, weights_of(build(experiment, key)), start))


def _overlay(drawn: Any, given: Any) -> Any:
    if not isinstance(drawn, dict):
        return jnp.asarray(given, drawn.dtype)
    return {name: _overlay(leaf, given[name]) if name in given else leaf for name, leaf in drawn.items()}


def make_batch(
    experiment: Experiment, member: Member, pool: Pool, batch: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Makes a training batch: swap, gather, mirror, crop, CutMix and jitter, as the experiment and the member say.

    Returns:
      Images (B, H, W, 3) in [0, 1], masks (B, H, W) int32 and groups (B,) int32.
    """
    spec, knobs = experiment.train, member.knobs
    flip_key, crop_key, jitter_key, mix_key, swap_key = jax.random.split(key, 5)
    rows, groups = member.rows[batch], member.groups[batch]
    if "swap" in experiment.machinery:
        draw_key, swap_key = jax.random.split(swap_key)
        others, found = sampling.draw(draw_key, sampling.directory(member.groups % 2, size=2), 1 - groups % 2)
        options = {"partnered": found, "probability": knobs.swap}
        rows, groups = augment.background_swap(swap_key, rows, groups, member.rows[others, 1], **options)
    images, masks = augment.horizontal_flip(flip_key, *gather(pool, rows), probability=spec.hflip)
    if spec.crop:
        images, masks = augment.random_resized_crop(crop_key, images, masks, probability=spec.crop)
    if "cutmix" in experiment.machinery:
        images = _cutmix(mix_key, member, pool, images, masks, groups)
    if spec.jitter:
        images = augment.colour_jitter(jitter_key, images, probability=spec.jitter)
    return images, masks, groups


def _cutmix(
    key: jax.Array, member: Member, pool: Pool, images: jax.Array, masks: jax.Array, groups: jax.Array
) -> jax.Array:
    def mixed() -> jax.Array:
        draw_key, mix_key = jax.random.split(key)
        positions, found = sampling.draw(draw_key, sampling.directory(member.groups, size=NUM_GROUPS), groups ^ 1)
        options = {"partnered": found, "probability": member.knobs.cutmix}
        return augment.background_cutmix(mix_key, images, masks, *gather(pool, member.rows[positions]), **options)

    # In a loop over members this is a branch: only those that mix pay for it.
    return jax.lax.cond(member.knobs.cutmix > 0, mixed, lambda: images)


def train_step(
    experiment: Experiment, member: Member, pool: Pool, state: State, batch: jax.Array, key: jax.Array
) -> tuple[State, jax.Array]:
    """Takes one step of the optimiser.

    Args:
      experiment: static.
      member: whose rows are trained on.
      pool: shared by all members.
      state: before the step.
      batch: (B,) int32 positions in `member.rows`.
      key: of this step's augmentation.

    Returns:
      The state after the step (`epoch`, `status` and `best*` untouched) and the loss before it.
    """
    images, masks, groups = make_batch(experiment, member, pool, batch, key)

    def loss_of(params: Any) -> tuple[jax.Array, Any]:
        logits, statistics = apply(experiment, params, state.weights.statistics, images, training=True)
        loss, weights = losses.batch_loss(logits, masks, groups, member.knobs, state.group_weights)
        return loss, (statistics, weights)

    (loss, (statistics, group_weights)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.weights.params)
    step = state.moments.count
    total = total_steps(experiment, member)
    rate = optimise.rate_at(step, member.recipe, total=total)
    params, moments = optimise.update(gradients, state.moments, state.weights.params, member.recipe, rate=rate)
    weights = Weights(params, statistics)
    average = state.average
    if average is not None:
        kept = optimise.kept_share(step, ema=member.knobs.ema, swa=member.knobs.swa, total=total)
        average = jax.tree.map(lambda new, old: _mixed(new, old, kept), weights, average)
    return dataclasses.replace(
        state, weights=weights, average=average, moments=moments, group_weights=group_weights
    ), loss


def _mixed(new: jax.Array, old: jax.Array, kept: jax.Array) -> jax.Array:
    # Counts and keys among the statistics have no average.
    return new + kept * (old - new) if jnp.issubdtype(new.dtype, jnp.floating) else new


def total_steps(experiment: Experiment, member: Member) -> int:
    """Returns how many steps a whole run takes, over which schedules and averages stretch."""
    return experiment.train.epochs * (member.rows.shape[0] // experiment.train.batch_size)


def train_epoch(experiment: Experiment, member: Member, pool: Pool, state: State) -> tuple[State, jax.Array]:
    """Trains for one epoch: a scan over batches in a fresh order, plain, weighted or balanced as the knobs say.

    Images that fill no whole batch are left out.

    Returns:
      The state after the last step and the mean training loss.
    """
    size = experiment.train.batch_size
    steps = member.rows.shape[0] // size
    order_key, step_key = jax.random.split(jax.random.fold_in(member.key, state.epoch + 1))
    order = jax.random.permutation(order_key, member.rows.shape[0])
    if state.image_weights is not None:
        weighted = sampling.weighted_order(jax.random.fold_in(order_key, 1), state.image_weights)
        order = jnp.where(jnp.ptp(state.image_weights) > 0, weighted, order)
    if "balanced" in experiment.machinery:
        balanced = sampling.balanced_order(order, member.groups, num_groups=NUM_GROUPS)
        order = jnp.where(member.knobs.balanced > 0, balanced, order)
    order = order[: steps * size].reshape(steps, size)

    def step(state: State, inputs: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        return train_step(experiment, member, pool, state, *inputs)

    state, step_losses = jax.lax.scan(step, state, (order, jax.random.split(step_key, steps)))
    return state, step_losses.mean()


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
