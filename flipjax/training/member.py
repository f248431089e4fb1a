"""A member of a population: what decides its run, its model, and the state that training changes."""

import dataclasses
import enum
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from flipjax.config import Experiment
from flipjax.methods import Augmentation, Knobs
from flipjax.models import MODELS
from flipjax.training import optimise
from flipjax.training.optimise import Recipe


class Status(enum.IntEnum):
    """What became of a member; stored as int32."""

    RUNNING = 0
    STOPPED = 1
    DIVERGED = 2
    FINISHED = 3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Member:
    """The traced half of a run: key, training rows (n, 2) and groups (n,) int32, and how it learns from them."""

    key: jax.Array
    rows: jax.Array
    groups: jax.Array
    recipe: Recipe
    knobs: Knobs
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)


class Weights(NamedTuple):
    """What a model computes with: parameters and running statistics, nested dicts of arrays."""

    params: Any
    statistics: Any


NO_WEIGHTS = Weights({}, {})
"""What a run starts from whose weights are all drawn."""


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
    run); `lost` the epochs in a row up to now whose losses were beyond those of a guess. `best_score` and `best_epoch`
    are what patience waits for; `best` holds a `Best` for each selection rule.
    """

    weights: Weights
    average: Weights | None
    opt_state: Any
    group_weights: jax.Array
    image_weights: jax.Array | None
    epoch: jax.Array
    restart: jax.Array
    status: jax.Array
    lost: jax.Array
    best_score: jax.Array
    best_epoch: jax.Array
    best: dict[str, Best]

    @property
    def step(self) -> jax.Array:
        """Steps of the optimiser so far in the present run, int32."""
        return self.opt_state.count

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
    spec = experiment.model
    make = spec.build or functools.partial(MODELS[spec.name], spec)
    return make(num_classes=experiment.num_classes, rngs=nnx.Rngs(key))


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


def init_state(experiment: Experiment, member: Member, start: Weights = NO_WEIGHTS) -> State:
    """Returns a member's state before its first epoch: its key alone decides the weights that `start` does not give.

    `start` is nested as the model's weights are; parts may be absent.
    """
    weights = first_weights(experiment, jax.random.fold_in(member.key, 0), start)
    averaged = {"ema", "swa"} & set(experiment.active_knobs)
    unplayed = Best(weights, score=jnp.float32(jnp.inf), epoch=jnp.int32(0))
    return State(
        weights=weights,
        average=weights if averaged else None,
        opt_state=optimise.start(weights.params),
        group_weights=jnp.full((experiment.groups.count,), 1 / experiment.groups.count, jnp.float32),
        image_weights=jnp.ones(member.groups.shape, jnp.float32) if "jtt_epochs" in experiment.active_knobs else None,
        epoch=jnp.int32(0),
        restart=jnp.int32(0),
        status=jnp.int32(Status.RUNNING),
        lost=jnp.int32(0),
        best_score=jnp.float32(jnp.inf),
        best_epoch=jnp.int32(0),
        best=dict.fromkeys(experiment.train.selection, unplayed),
    )


def first_weights(experiment: Experiment, key: jax.Array, start: Weights) -> Weights:
    """Returns parameters and other state as `start` gives them, and as drawn from `key` where it has none."""
    return Weights(*map(_overlay, weights_of(build(experiment, key)), start))


def _overlay(drawn: Any, given: Any) -> Any:
    if not isinstance(drawn, dict):
        return jnp.asarray(given, drawn.dtype)
    return {name: _overlay(leaf, given[name]) if name in given else leaf for name, leaf in drawn.items()}
