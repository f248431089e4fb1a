"""JTT by flips: after a first run, training starts anew with the images that it flips weighted up."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from flipjax.config import Experiment
from flipjax.data.pool import Pool
from flipjax.training.member import NO_WEIGHTS, Member, State, Status, Weights, init_state
from flipjax.training.placement import AXIS, Layout
from flipjax.training.population import Population, take_member
from flipjax.training.predict import evaluate

FLIPPED = 0.5
"""Share of an image's foreground above which JTT counts the image as flipped."""


def second_run(experiment: Experiment, member: Member, pool: Pool, state: State, start: Weights = NO_WEIGHTS) -> State:
    """Starts a member's training anew, with the images that it flips now weighted up (JTT-by-flip).

    Liu et al., 2021, up-weight what an early model misclassifies; here it is the images of whose foreground it flips
    more than half. The epochs go on counting; weights (`start`: see `init_state`), optimiser, selection and patience
    begin afresh.
    """
    flip = evaluate(experiment, state.weights, pool, member.rows).flip
    image_weights = jnp.where(flip > FLIPPED, member.knobs.jtt_weight, 1.0)
    fresh = init_state(experiment, member, start)
    return dataclasses.replace(fresh, image_weights=image_weights, epoch=state.epoch, restart=state.epoch)


def start_second_runs(
    experiment: Experiment, layout: Layout, population: Population, pool: Pool, start: Weights = NO_WEIGHTS
) -> Population:
    """Starts the second run of every member whose first one (JTT) is over; the others are left as they are.

    `start`: see `flipjax.training.member.init_state`.
    """
    states = population.states
    due = np.asarray(population.members.knobs.jtt_epochs) == np.asarray(states.epoch)
    due &= (np.asarray(states.restart) == 0) & (np.asarray(states.status) == Status.RUNNING)
    if not due.any():
        return population
    begin = jax.jit(functools.partial(second_run, experiment))
    begun = {}
    for turn, slot in enumerate(np.flatnonzero(due)):
        # One program for each member, as at the start; the devices work side by side.
        device = layout.mesh.devices.flat[turn % layout.devices]
        member, state = take_member((population.members, states), slot)
        begun[slot] = begin(*jax.device_put((member, pool, state, start), device))

    def merge(leaf: jax.Array, *fresh: jax.Array) -> np.ndarray:
        merged = np.array(leaf)
        merged[list(begun)] = jax.device_get(fresh)
        return merged

    merged = jax.tree.map(merge, states, *begun.values())
    return dataclasses.replace(population, states=jax.device_put(merged, NamedSharding(layout.mesh, P(AXIS))))
