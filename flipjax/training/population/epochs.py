"""The run of a population: epochs, JTT's second runs and DFR's refits of `training.epoch.loop`, mapped over members.

The loop's trip count is data, so stopped or diverged members cost nothing and the program compiles once for any number
of them.
"""

import dataclasses
import functools
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from flipjax.backend import compiler
from flipjax.backend.compiler import Jitted
from flipjax.config import Experiment
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool
from flipjax.models.weights.initial import Weights
from flipjax.support.arrays import Array
from flipjax.training.epoch import loop
from flipjax.training.member import Member, State, Status
from flipjax.training.network.forward import NO_WEIGHTS
from flipjax.training.population import stacks
from flipjax.training.population.devices import AXIS, Layout, deal, replicate, shard
from flipjax.training.population.members import Population, as_laid_out
from flipjax.training.population.stacks import host_row, take_member

Records: TypeAlias = dict[str, jax.Array]
"""Arrays that an epoch records of a member, by name; see `flipjax.training.epoch.loop.run_epoch`."""


def run_next_epoch(population: Population, pool: Pool, table: Table) -> tuple[Population, dict[str, np.ndarray]]:
    """Trains every running member for one epoch and validates it on an evaluation table.

    Returns:
      The population (the old one's arrays are donated) and the records of the epoch, leaves (K, ...) in member order,
      NaN for members that did not run.
    """
    population = _dealt(population)
    experiment = population.experiment
    layout = population.layout
    states, records = epoch_program(layout)(experiment, layout, population.members, population.states, pool, table)
    in_order = {name: np.asarray(leaf)[population.slots] for name, leaf in records.items()}
    return dataclasses.replace(population, states=states), in_order


def _dealt(population: Population) -> Population:
    """Returns the population with its running members spread evenly over the devices."""
    layout = population.layout
    running = np.asarray(population.states.status) == Status.RUNNING
    old_slot_of = deal(running, devices=layout.devices)
    if old_slot_of is None:
        # They are spread evenly already.
        return population
    # The inverse permutation: the new slot of each old one.
    new_slot_of = np.argsort(old_slot_of)

    def in_new_order(rows: np.ndarray) -> np.ndarray:
        return rows[old_slot_of]

    members, states = stacks.replace(layout, (population.members, population.states), in_new_order)
    return Population(population.experiment, layout, members, states, new_slot_of[population.slots])


def epoch_program(layout: Layout) -> Jitted:
    """Returns the program that trains all members for an epoch, compiled for the speed of this machine's devices.

    Example:
        >>> from flipjax.config import PopulationSpec
        >>> from flipjax.training.population.devices import make_layout
        >>> layout = make_layout(PopulationSpec(devices=1, map="loop"), members=3)
        >>> epoch_program(layout) is epoch_program(layout)  # It is compiled once, when it is first called.
        True
    """
    static = ("experiment", "layout")
    return compiler.program(_epoch, convolutions=layout.convolutions, static_argnames=static, donate_argnames="states")


def _epoch(
    experiment: Experiment, layout: Layout, members: Member, states: State, pool: Pool, table: Table
) -> tuple[State, Records]:
    """Trains the running members of every device for one epoch."""
    of_device = functools.partial(_epoch_of_device, as_laid_out(experiment, layout), layout.width)
    return shard(layout, of_device, P(AXIS), P(AXIS), P(), P())(members, states, pool, table)


def _epoch_of_device(
    experiment: Experiment, width: int, members: Member, states: State, pool: Pool, table: Table
) -> tuple[State, Records]:
    """Trains a device's running members for one epoch, `width` at a time."""
    # Traced once, for its shapes and for the loop.
    train_one = jax.jit(functools.partial(loop.run_epoch, experiment), inline=True)
    train = train_one
    if width > 1:
        train = jax.vmap(train_one, in_axes=(0, None, 0, None))
    running = states.status == Status.RUNNING
    count = len(running)
    # Positions of the running members, in as many entries as `width` at a time need if all run. The other entries are
    # out of bounds: JAX drops their writes, and their reads are not used.
    padded_count = count + -count % width
    running_positions = jnp.flatnonzero(running, size=padded_count, fill_value=count).astype(jnp.int32)
    first_member, first_state = take_member((members, states), 0)
    _, record_shapes = jax.eval_shape(train_one, first_member, pool, first_state, table)
    # NaN for members that do not run.
    records = jax.tree.map(lambda leaf: jnp.full((count, *leaf.shape), jnp.nan, leaf.dtype), record_shapes)

    def train_next(turn: jax.Array, carried: tuple[State, Records]) -> tuple[State, Records]:
        all_states, _ = carried
        positions = jax.lax.dynamic_slice(running_positions, (turn * width,), (width,))
        if width == 1:
            # A scalar, so that the member has no leading axis: `train` is then no vmap.
            positions = positions[0]
        member, state = take_member((members, all_states), positions)
        state_and_record = train(member, pool, state, table)

        def write(leaf: jax.Array, value: jax.Array) -> jax.Array:
            return leaf.at[positions].set(value, mode="drop")

        return jax.tree.map(write, carried, state_and_record)

    turns = (running.sum() + width - 1) // width
    return jax.lax.fori_loop(0, turns, train_next, (states, records))


def start_second_runs(population: Population, pool: Pool, start: Weights = NO_WEIGHTS) -> Population:
    """Starts the second run of every member whose first one (JTT) is over; leaves the others unchanged.

    If any starts, the old population's arrays are freed. See `flipjax.training.member.init_state` for `start`.
    """
    states = population.states
    layout = population.layout
    is_over = np.asarray(population.members.knobs.jtt_epochs) == np.asarray(states.epoch)
    is_first = np.asarray(states.restart) == 0
    is_running = np.asarray(states.status) == Status.RUNNING
    due = np.flatnonzero(is_over & is_first & is_running).tolist()
    if not due:
        return population
    program = compiler.program(loop.second_run, convolutions=layout.convolutions, static_argnums=0)
    restarted = []
    for turn, slot in enumerate(due):
        # One program per member, as in `flipjax.training.population.members.create`; devices work in parallel.
        device = layout.mesh.devices.flat[turn % layout.devices]
        member, state = host_row((population.members, states), slot)
        inputs = jax.device_put((member, pool, state, start), device)
        restarted.append(program(population.experiment, *inputs))

    def write_restarted(rows: np.ndarray, *restarted_rows: jax.Array) -> np.ndarray:
        """Writes a leaf of each of `restarted` into its rows by slot, a copy that `stacks.replace` made."""
        rows[due] = jax.device_get(restarted_rows)
        return rows

    return dataclasses.replace(population, states=stacks.replace(layout, states, write_restarted, *restarted))


def refit_heads(population: Population, pool: Pool, table: Table) -> Population:
    """Refits the heads of members with DFR, for every selection rule.

    The table's refit images fit the head, and its other images pick the ridge. The old population's arrays are donated.
    """
    layout = population.layout
    halves = replicate(layout, (table.rows[table.refit], table.rows[~table.refit]))
    program = compiler.program(
        _refit,
        convolutions=layout.convolutions,
        static_argnames=("experiment", "layout"),
        donate_argnames="states",
    )
    states = program(population.experiment, layout, population.members, population.states, pool, halves)
    return dataclasses.replace(population, states=states)


def _refit(
    experiment: Experiment, layout: Layout, members: Member, states: State, pool: Pool, halves: tuple[Array, Array]
) -> State:
    """Refits the heads of the members of every device; `halves` are as in `flipjax.training.epoch.loop.Data`."""
    of_device = functools.partial(_refit_of_device, experiment)
    return shard(layout, of_device, P(AXIS), P(AXIS), P(), P())(members, states, pool, halves)


def _refit_of_device(
    experiment: Experiment, members: Member, states: State, pool: Pool, halves: tuple[Array, Array]
) -> State:
    """Refits the heads of a device's members, one at a time: no networks are side by side, so none are packed."""

    def refit_one(inputs: tuple[Member, State]) -> State:
        member, state = inputs
        return loop.refit(experiment, member, state, pool, halves)

    return jax.lax.map(refit_one, (members, states))
