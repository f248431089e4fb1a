"""What is done to a population between epochs and after the last: JTT's second runs, DFR's refitted heads."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from flipjax import epoch
from flipjax.config import Experiment
from flipjax.data.pool import Pool
from flipjax.population import AXIS, Layout, Population, shard
from flipjax.refit import refit
from flipjax.train import Best, Member, State, Status


def start_second_runs(
    experiment: Experiment, layout: Layout, population: Population, pool: Pool, start: Any = ({}, {})
) -> Population:
    """Starts the second run of every member whose first one (JTT) is over; the others are left as they are.

    `start` as of `flipjax.train.init_state`.
    """
    states = population.states
    due = np.asarray(population.members.knobs.jtt_epochs) == np.asarray(states.epoch)
    due &= (np.asarray(states.restart) == 0) & (np.asarray(states.status) == Status.RUNNING)
    if not due.any():
        return population
    begin = jax.jit(functools.partial(epoch.second_run, experiment))
    begun = {}
    for turn, slot in enumerate(np.flatnonzero(due)):
        # One program for each member, as at the start; the devices work side by side.
        device = layout.mesh.devices.flat[turn % layout.devices]
        own = jax.tree.map(lambda leaf, slot=slot: leaf[slot], (population.members, states))
        member, state, pixels, given = jax.device_put((*own, pool, start), device)
        begun[slot] = begin(member, pixels, state, given)
    host = jax.tree.map(np.array, states)
    for slot, state in begun.items():
        jax.tree.map(lambda stacked, leaf, slot=slot: stacked.__setitem__(slot, np.asarray(leaf)), host, state)
    return dataclasses.replace(population, states=jax.device_put(host, NamedSharding(layout.mesh, P(AXIS))))


def refit_heads(
    experiment: Experiment, layout: Layout, population: Population, pool: Pool, rows: jax.Array
) -> Population:
    """Refits the heads of the members that ask for it (DFR), for every selection rule, on validation rows (n, 2)."""
    states = _refit_heads(experiment, layout, population.members, population.states, pool, rows)
    return dataclasses.replace(population, states=states)


@functools.partial(jax.jit, static_argnames=("experiment", "layout"))
def _refit_heads(
    experiment: Experiment, layout: Layout, members: Member, states: State, pool: Pool, rows: jax.Array
) -> State:
    def local(members: Member, states: State, pool: Pool, rows: jax.Array) -> State:
        def one(inputs: tuple[Member, State]) -> State:
            member, state = inputs

            def fitted(best: Best) -> Best:
                return best._replace(weights=refit(experiment, best.weights, pool, rows))

            def all_fitted(best: dict[str, Best]) -> dict[str, Best]:
                return {rule: fitted(kept) for rule, kept in best.items()}

            best = jax.lax.cond(member.knobs.dfr > 0, all_fitted, lambda best: best, state.best)
            return dataclasses.replace(state, best=best)

        return jax.lax.map(one, (members, states))

    return shard(layout, local, P(AXIS), P(AXIS), P(), P())(members, states, pool, rows)
