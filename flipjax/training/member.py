"""A member: the traced inputs of a run, and its training state."""

import dataclasses
import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flipjax.config import Cue, Experiment, Recipe
from flipjax.config.keys import Scalar
from flipjax.config.methods import Augmentation, Knobs
from flipjax.support.arrays import PyTree
from flipjax.training import optimise
from flipjax.training.network.forward import NO_WEIGHTS, Weights, first_weights, flat

INITIAL_WEIGHTS = 0
"""The number folded into a member's key to draw its initial weights; epochs fold in 1, 2, ...
(`training.epoch.step`)."""

# `flipjax.config` declares these parts of a member without JAX.
for part in (Recipe, Knobs, Augmentation, Cue):
    jax.tree_util.register_dataclass(part)


class Status(enum.IntEnum):
    """Status of a member, stored as int32.

    Example:
        >>> Status(3).name, Status.DIVERGED == 2
        ('FINISHED', True)
    """

    RUNNING = 0
    STOPPED = 1
    """Its first rule ran out of patience."""
    DIVERGED = 2
    """A loss was not finite, or stayed above that of a guess."""
    FINISHED = 3
    """It trained for all epochs."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Member:
    """The traced half of a member's run, arrays and numbers; `Experiment` is the static half."""

    key: jax.Array
    """PRNG key, from which all draws of the member split."""
    rows: jax.Array
    """Training images, int32 (n, 2): indices of object (or photo) and scene photo in the `Pool`."""
    groups: jax.Array
    """Group of each row, int32 (n,)."""
    recipe: Recipe
    """The numbers of its optimiser."""
    knobs: Knobs
    """The numbers of its method."""
    augmentation: Augmentation = Augmentation()
    """The probabilities of its augmentations."""
    cue: Cue = Cue()
    """The strength of its cue."""

    @property
    def cue_strength(self) -> Scalar:
        """The weight of its cue."""
        return self.cue.cue_strength


class Best(NamedTuple):
    """What a selection rule kept."""

    weights: Weights
    """The weights with the lowest score so far."""
    score: jax.Array
    """The score of these weights; infinite if the rule has kept none yet."""
    epoch: jax.Array
    """The epoch of these weights, from 1; 0 if the rule has kept none yet."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """The training state: a pytree of arrays, which maps, shards and checkpoints handle generically."""

    weights: Weights
    """The network's weights. All weights of a state are `flat`: short parts as one vector each."""
    average: Weights | None
    """The moving average of the weights; None unless a method of the experiment averages them."""
    opt_state: PyTree
    """The state of `optimise.make_optimiser`."""
    step: jax.Array
    """Number of steps of the present run, int32."""
    group_weights: jax.Array
    """GroupDRO's, float32 (G,)."""
    image_weights: jax.Array | None
    """How often each training row is drawn, float32 (n,); None unless a method draws them unevenly."""
    epoch: jax.Array
    """Number of finished epochs, int32."""
    restart: jax.Array
    """Value of `epoch` at the start of the present run: 0, or that of JTT's second run."""
    status: jax.Array
    """A `Status`, int32."""
    lost: jax.Array
    """Number of the latest consecutive epochs with losses far above that of a uniform guess
    (`training.epoch.loop.settle`)."""
    best: dict[str, Best]
    """What each selection rule kept; the first one's epoch is for patience."""

    @property
    def evaluated(self) -> Weights:
        """The weights to evaluate: the average if there is one."""
        return self.weights if self.average is None else self.average


def init_state(experiment: Experiment, member: Member, start: Weights = NO_WEIGHTS) -> State:
    """Returns a member's initial state; weights missing in `start` are drawn from its key.

    `start` is nested like the model's weights; parts may be absent.

    Example:
        >>> from flipjax.config import ModelSpec
        >>> experiment = Experiment(model=ModelSpec(width=4, depth=1))
        >>> rows, groups = jnp.zeros((8, 2), jnp.int32), jnp.zeros(8, jnp.int32)
        >>> member = Member(jax.random.key(0), rows, groups, Recipe(), Knobs())
        >>> state = jax.eval_shape(lambda: init_state(experiment, member))  # Shapes alone; nothing is compiled.
        >>> state.group_weights.shape, state.epoch.dtype, list(state.best)
        ((4,), dtype('int32'), ['val_loss'])
    """
    weights = flat(first_weights(experiment, jax.random.fold_in(member.key, INITIAL_WEIGHTS), start))
    averages = "ema" in experiment.active_knobs or "swa" in experiment.active_knobs
    draws_unevenly = "jtt_epochs" in experiment.active_knobs
    optimiser = optimise.make_optimiser(experiment, member.recipe, rate=member.recipe.learning_rate)
    average = None
    if averages:
        average = weights
    image_weights = None
    if draws_unevenly:
        image_weights = jnp.ones(member.groups.shape, jnp.float32)
    none_yet = Best(weights, score=jnp.float32(jnp.inf), epoch=jnp.int32(0))
    return State(
        weights=weights,
        average=average,
        opt_state=optimiser.init(weights.params),
        step=jnp.int32(0),
        group_weights=jnp.full((experiment.groups.count,), 1 / experiment.groups.count, jnp.float32),
        image_weights=image_weights,
        epoch=jnp.int32(0),
        restart=jnp.int32(0),
        status=jnp.int32(Status.RUNNING),
        lost=jnp.int32(0),
        best=dict.fromkeys(experiment.train.selection, none_yet),
    )
