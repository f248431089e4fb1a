"""Stacks, maps and shards members, so that one compiled program trains them all.

A CPU has one device per core, and each loops over its members; elsewhere `width` members run at once, packed side by
side in channels (`flipjax.models.pack`) or under vmap. The loop's trip count is data, so stopped or diverged members
cost nothing and the program compiles once for any number of them. In float32 a member under the loop equals the same
member trained alone bit for bit; the other forms agree to rounding. With more devices than members, several share each
batch (`flipjax.training.network.deal_batch`).
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from flipjax.backend import compiler
from flipjax.config import Experiment
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool, at_strength
from flipjax.models.weights import Weights, is_key
from flipjax.training import run
from flipjax.training.devices import AXIS, Layout, deal, replicate, shard
from flipjax.training.member import Member, State, Status, init_state
from flipjax.training.network import NO_WEIGHTS

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Population:
    """An experiment's stacked members and states by slot, sharded over a layout; `slots[i]` is the slot of member i."""

    experiment: Experiment
    layout: Layout
    members: Member
    states: State
    slots: np.ndarray

    @property
    def status(self) -> np.ndarray:
        """Status of each member, (K,) int32."""
        return np.asarray(self.states.status)[self.slots]


@dataclasses.dataclass(frozen=True)
class Rows:
    """A leaf of stacked states in member order, copied from the devices only when indexed or made an array.

    JAX would keep on the host what NumPy reads of an array on several devices.
    """

    stacked: jax.Array
    slots: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the leaf, (K, ...)."""
        return len(self.slots), *self.stacked.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """Type of the leaf."""
        return self.stacked.dtype

    def __getitem__(self, members: Any) -> np.ndarray:
        """Copies the rows of one member or several."""
        slots = self.slots[members]
        rows = np.empty((*slots.shape, *self.shape[1:]), self.dtype)
        for part in self.stacked.addressable_shards:
            first, end, _ = part.index[0].indices(self.stacked.shape[0])
            held = (first <= slots) & (slots < end)
            # Where devices share batches, the compiler may divide other axes too.
            rows[(held, *part.index[1:])] = np.asarray(part.data)[slots[held] - first]
        return rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Copies all rows."""
        return self[:].astype(dtype or self.dtype, copy=False)


def create(
    experiment: Experiment,
    layout: Layout,
    members: Sequence[Member],
    states: State | None = None,
    start: Weights = NO_WEIGHTS,
) -> Population:
    """Stacks members, padded to a multiple of the devices.

    States are taken from `states`, leaves (K, ...) in member order, or initialised, with `start` as in
    `flipjax.training.member.init_state`.
    """
    count = len(members)
    slots = np.minimum(np.arange(count + -count % layout.devices), count - 1)
    stacked = _put(layout, _stack([members[slot] for slot in slots]))
    if states is None:
        # Initialise each member with the same program as alone: under a map its last bits may differ.
        begun = (start_program()(experiment, member, start) for member in members)
        states = _fill(blank(experiment, members, start), begun)
    idle = np.where(np.arange(len(slots)) < count, np.asarray(states.status)[slots], Status.STOPPED).astype(np.int32)
    # Leaf by leaf: large states are never held twice, unless the caller keeps them.
    leaves, structure = jax.tree.flatten(states)
    del states
    placed = jax.tree.unflatten(structure, [_put(layout, leaves.pop(0)[slots]) for _ in range(len(leaves))])
    placed = dataclasses.replace(placed, status=_put(layout, idle))
    return Population(experiment, layout, stacked, placed, np.arange(count))


def blank(experiment: Experiment, members: Sequence[Member], start: Weights = NO_WEIGHTS) -> State:
    """Returns the shapes of the members' states, leaves (K, ...), as in `states_of`."""
    one = jax.eval_shape(functools.partial(init_state, experiment), members[0], start)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((len(members), *leaf.shape), leaf.dtype), one)


def _fill(shapes: State, states: Iterable[State]) -> State:
    """Stacks states on the host, and holds one of them at a time."""
    stacked = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
    leaves = jax.tree.leaves(stacked)
    for index, state in enumerate(states):
        for rows, leaf in zip(leaves, jax.tree.leaves(state), strict=True):
            rows[index] = leaf
    return stacked


def _put(layout: Layout, tree: Tree) -> Tree:
    """Copies stacked leaves to the devices, which share no memory with them: such leaves cannot be donated."""
    return jax.device_put(tree, NamedSharding(layout.mesh, P(AXIS)), may_alias=False)


def start_program() -> Any:
    """Returns `init_state`, jitted as `epoch_program`."""
    return compiler.program(init_state, static_argnums=0)


def _stack(trees: Sequence[Any]) -> Any:
    """Stacks leaves on the host: on a device each shape would compile a program."""
    return jax.tree.map(functools.partial(_plainly, lambda *leaves: np.stack(leaves)), *trees)


def _plainly(function: Callable, *leaves: Any) -> Any:
    """Applies a function of arrays to leaves, or to the words of PRNG keys."""
    if not (isinstance(leaves[0], jax.Array) and is_key(leaves[0])):
        return function(*leaves)
    words = function(*map(jax.random.key_data, leaves))
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(leaves[0]))


def epoch_program(layout: Layout) -> Any:
    """Returns `_epoch`, jitted for the speed of this machine's devices."""
    static = ("experiment", "layout")
    return compiler.program(_epoch, convolutions=layout.convolutions, static_argnames=static, donate_argnames="states")


def _epoch(
    experiment: Experiment, layout: Layout, members: Member, states: State, *shared: Any
) -> tuple[State, dict[str, jax.Array]]:
    width = layout.width
    # Traced once, for its shapes and for the loop.
    one = jax.jit(functools.partial(run.run_epoch, dataclasses.replace(experiment, packed=layout.packed)), inline=True)
    train = one if width == 1 else jax.vmap(one, in_axes=(0, None, 0, None))

    def local(members: Member, states: State, pool: Pool, table: Table) -> Any:
        running = states.status == Status.RUNNING
        share = len(running)
        # Positions past those that run are out of bounds: JAX drops their writes, and their reads are not used.
        order = jnp.flatnonzero(running, size=share + -share % width, fill_value=share).astype(jnp.int32)
        first, state = take_member((members, states), 0)
        blank = jax.eval_shape(one, first, pool, state, table)[1]
        records = jax.tree.map(lambda leaf: jnp.full((share, *leaf.shape), jnp.nan, leaf.dtype), blank)

        def chunk(index: jax.Array, carry: tuple[State, dict]) -> tuple[State, dict]:
            where = jax.lax.dynamic_slice(order, (index * width,), (width,))
            where = where[0] if width == 1 else where
            member, state = take_member((members, carry[0]), where)
            new = train(member, pool, state, table)
            return jax.tree.map(lambda leaf, value: leaf.at[where].set(value, mode="drop"), carry, new)

        return jax.lax.fori_loop(0, (running.sum() + width - 1) // width, chunk, (states, records))

    return shard(layout, local, P(AXIS), P(AXIS), P(), P())(members, states, *shared)


def run_epoch(population: Population, pool: Pool, table: Table) -> tuple[Population, dict[str, np.ndarray]]:
    """Trains every running member for one epoch and validates it on an evaluation table.

    Returns:
      The population (the old one's arrays are donated) and the records of the epoch, leaves (K, ...) in member order,
      NaN for members that did not run.
    """
    experiment, layout = population.experiment, population.layout
    running = np.asarray(population.states.status) == Status.RUNNING
    order = deal(running, devices=layout.devices)
    if order is not None:
        slots = np.argsort(order)[population.slots]
        dealt = _replace(layout, (population.members, population.states), lambda rows: rows[order])
        population = Population(experiment, layout, *dealt, slots)
    states, records = epoch_program(layout)(experiment, layout, population.members, population.states, pool, table)
    records = {name: np.asarray(leaf)[population.slots] for name, leaf in records.items()}
    return dataclasses.replace(population, states=states), records


def start_second_runs(population: Population, pool: Pool, start: Weights = NO_WEIGHTS) -> Population:
    """Starts the second run of every member whose first one (JTT) is over; leaves the others unchanged.

    If any starts, the old population's arrays are freed. `start`: see `flipjax.training.member.init_state`.
    """
    states, layout = population.states, population.layout
    due = np.asarray(population.members.knobs.jtt_epochs) == np.asarray(states.epoch)
    due &= (np.asarray(states.restart) == 0) & (np.asarray(states.status) == Status.RUNNING)
    if not due.any():
        return population
    begun = {}
    program = compiler.program(run.second_run, convolutions=layout.convolutions, static_argnums=0)
    for turn, slot in enumerate(np.flatnonzero(due).tolist()):
        # One program per member, as in `create`; devices work in parallel.
        device = layout.mesh.devices.flat[turn % layout.devices]
        member, state = host_row((population.members, states), slot)
        begun[slot] = program(population.experiment, *jax.device_put((member, pool, state, start), device))

    def merge(rows: np.ndarray, *fresh: jax.Array) -> np.ndarray:
        rows[list(begun)] = jax.device_get(fresh)
        return rows

    return dataclasses.replace(population, states=_replace(layout, states, merge, *begun.values()))


def host_row(tree: Tree, slot: int) -> Tree:
    """Copies the row of a slot of stacked trees to the host."""
    return jax.tree.map(functools.partial(_plainly, lambda leaf: _rows(leaf)[slot]), tree)


def _rows(leaf: jax.Array) -> Rows:
    """Returns a leaf whose rows, in the order of slots, pass the host."""
    # A program that takes them from several devices makes these wait for one another, and XLA:CPU ends the process
    # where one of them still trains after 40 seconds.
    return Rows(leaf, np.arange(leaf.shape[0]))


def _replace(layout: Layout, tree: Tree, change: Callable, *others: Tree) -> Tree:
    """Returns stacked trees with changed leaves: one at a time is on the host, and each old one is freed."""

    def replace(leaf: jax.Array, *other: Any) -> jax.Array:
        rows = change(_rows(leaf)[:], *other)
        leaf.delete()
        return _put(layout, rows)

    return jax.tree.map(functools.partial(_plainly, replace), tree, *others)


def refit_heads(population: Population, pool: Pool, table: Table) -> Population:
    """Refits the heads of members with DFR, for every selection rule.

    The table's refit images fit the head, and its other images pick the ridge. The old population's arrays are donated.
    """
    experiment, layout = population.experiment, population.layout
    halves = replicate(layout, (table.rows[table.refit], table.rows[~table.refit]))
    static = ("experiment", "layout")
    program = compiler.program(
        _refit, convolutions=layout.convolutions, static_argnames=static, donate_argnames="states"
    )
    states = program(experiment, layout, population.members, population.states, pool, halves)
    return dataclasses.replace(population, states=states)


def _refit(experiment: Experiment, layout: Layout, members: Member, states: State, *shared: Any) -> State:
    def local(members: Member, states: State, pool: Pool, halves: tuple[Any, Any]) -> State:
        refit = functools.partial(run.refit, experiment, pool=pool, halves=halves)
        return jax.lax.map(lambda inputs: refit(*inputs), (members, states))

    return shard(layout, local, P(AXIS), P(AXIS), P(), P())(members, states, *shared)


def states_of(population: Population) -> State:
    """Returns the states in member order, leaves (K, ...) of `Rows`, which are lost when the population is donated."""
    return jax.tree.map(lambda leaf: Rows(leaf, population.slots), population.states)


def free(tree: Any) -> None:
    """Frees the memory of device arrays, such as the states that only training needs."""
    for leaf in jax.tree.leaves(tree):
        leaf.delete()


def take_member(stacked: Tree, index: Any) -> Tree:
    """Indexes every leaf of stacked trees, for one member or several."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def map_selected(population: Population, function: Callable, *shared: Any, later: Callable | None = None) -> Any:
    """Evaluates `function(experiment, weights, *shared)` on every member's weights kept by each rule.

    The pool shows each member's cue. Rules that kept the same epoch of a member share one result, which the loop
    computes once.

    Args:
      population: trained.
      function: pure; static.
      *shared: the pool and further arguments, on all devices.
      later: a function for rules after the first, which returns None for some leaves.

    Returns:
      Numpy leaves (S, K, ...), with rules in the order of `experiment.train.selection`; (1, K, ...) for those that
      `later` omits.
    """
    experiment, strengths = population.experiment, population.members.cue_strength
    best = [population.states.best[rule] for rule in experiment.train.selection]
    epochs = np.stack([np.asarray(selected.epoch) for selected in best])
    first = (epochs[:, None] == epochs).argmax(1)
    values = []
    for index, selected in enumerate(best):
        stacked = selected.weights, _put(population.layout, first[index] == index), strengths
        asked = later if later and index else function
        values.append(selected_program(population.layout)(experiment, population.layout, asked, *stacked, *shared))

    def gathered(*leaves: jax.Array | None) -> np.ndarray:
        known = [leaf for leaf in leaves if leaf is not None]
        stacked = np.stack([Rows(leaf, population.slots)[:] for leaf in known])
        free(known)
        return stacked[first[: len(stacked), population.slots], np.arange(len(population.slots))]

    return jax.tree.map(gathered, *values)


def selected_program(layout: Layout) -> Any:
    """Returns `_map_selected`, jitted for the speed of this machine's devices."""
    static = ("experiment", "layout", "function")
    return compiler.program(_map_selected, convolutions=layout.convolutions, static_argnames=static)


def _map_selected(experiment: Experiment, layout: Layout, function: Callable, *given: Any) -> Any:
    """Maps over stacked weights, whether they are wanted, and strengths of the cue; the pool and others are shared."""
    call = jax.jit(functools.partial(function, dataclasses.replace(experiment, packed=layout.packed)), inline=True)

    def local(*given: Any) -> Any:
        stacked, (pool, *shared) = given[:3], given[3:]
        shapes = jax.eval_shape(call, take_member(stacked[0], 0), pool, *shared)
        blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def one(inputs: tuple[Weights, jax.Array, jax.Array]) -> Any:
            weights, wanted, strength = inputs
            return jax.lax.cond(wanted, lambda: call(weights, at_strength(pool, strength), *shared), lambda: blank)

        return jax.lax.map(one, stacked, batch_size=layout.width if layout.width > 1 else None)

    return shard(layout, local, *[P(AXIS)] * 3, *[P()] * (len(given) - 3))(*given)
