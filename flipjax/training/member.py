"""A member: the traced inputs of a run, and its training state."""

import dataclasses
import enum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flipjax.config import Experiment
from flipjax.pytrees import Augmentation, Cue, Knobs, Recipe
from flipjax.support.keys import Scalar
from flipjax.training.network import NO_WEIGHTS, Weights, first_weights, flat


class Status(enum.IntEnum):
    """Status of a member, stored as int32."""

    RUNNING = 0
    STOPPED = 1
    DIVERGED = 2
    FINISHED = 3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Member:
    """The traced half of a run: key, training rows (n, 2), groups (n,) int32, and the numbers that it trains with."""

    key: jax.Array
    rows: jax.Array
    groups: jax.Array
    recipe: Recipe
    knobs: Knobs
    augmentation: Augmentation = Augmentation()
    cue: Cue = Cue()

    @property
    def cue_strength(self) -> Scalar:
        """The weight of its cue."""
        return self.cue.cue_strength


class Best(NamedTuple):
    """The weights kept by a selection rule, their score (the lowest so far) and epoch (0: none yet)."""

    weights: Weights
    score: jax.Array
    epoch: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """The training state: a pytree of arrays, which maps, shards and checkpoints handle generically.

    Weights are `flat`. `average` is None unless a method of the experiment averages weights, and `image_weights` (n,)
    unless one draws images unevenly. `epoch` counts finished epochs; `restart` is its value at the start of the present
    run (0, or JTT's second run); `lost` counts the latest consecutive epochs whose losses exceed `run.MARGIN` times
    that of a uniform guess. `best` holds a `Best` per selection rule; the first one's epoch is for patience.
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
    best: dict[str, Best]

    @property
    def evaluated(self) -> Weights:
        """The weights to evaluate: the average if there is one."""
        return self.weights if self.average is None else self.average


def init_state(experiment: Experiment, member: Member, start: Weights = NO_WEIGHTS) -> State:
    """Returns a member's initial state; weights missing in `start` are drawn from its key.

    `start` is nested like the model's weights; parts may be absent.
    """
    weights = flat(first_weights(experiment, jax.random.fold_in(member.key, 0), start))
    averaged = {"ema", "swa"} & set(experiment.active_knobs)
    unplayed = Best(weights, score=jnp.float32(jnp.inf), epoch=jnp.int32(0))
    return State(
        weights=weights,
        average=weights if averaged else None,
        opt_state=optax.scale_by_adam().init(weights.params),
        group_weights=jnp.full((experiment.groups.count,), 1 / experiment.groups.count, jnp.float32),
        image_weights=jnp.ones(member.groups.shape, jnp.float32) if "jtt_epochs" in experiment.active_knobs else None,
        epoch=jnp.int32(0),
        restart=jnp.int32(0),
        status=jnp.int32(Status.RUNNING),
        lost=jnp.int32(0),
        best=dict.fromkeys(experiment.train.selection, unplayed),
    )
