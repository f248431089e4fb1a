"""The map over members, which shards and stacks them so that one compiled program trains them all.

A CPU has one device per core, and each loops over its members; elsewhere `width` members run at once, packed side by
side in channels (`flipjax.models.pack`) or under vmap. The loop's trip count is data, so stopped or diverged members
cost nothing and the program compiles once for any number of them. In float32 a member under the loop equals the same
member trained alone bit for bit; the other forms agree to rounding. With more devices than members, several share each
batch (`flipjax.training.network.deal_batch`).

Programs take what is dealt to the devices first, then what all of them read.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from flipjax.backend import compiler
from flipjax.backend.compiler import Jitted
from flipjax.config import Experiment
from flipjax.data.correlation import Table
from flipjax.data.pool import Pool, at_strength
from flipjax.models.weights import Weights
from flipjax.support.arrays import Array, PyTree
from flipjax.training import run, stacks
from flipjax.training.devices import AXIS, Layout, deal, replicate, shard
from flipjax.training.member import Member, State, Status, init_state
from flipjax.training.network import NO_WEIGHTS
from flipjax.training.stacks import Rows, free, host_row, take_member

Records: TypeAlias = dict[str, jax.Array]
"""What an epoch records of a member, by name; see `flipjax.training.run.run_epoch`."""
EVALUATED_IN_A_CALL = 2
"""Members that a device evaluates in one call. Where a CPU has several devices, XLA keeps some hundred kilobytes of
every pass of a batch until the call ends."""


@dataclasses.dataclass(frozen=True)
class Population:
    """An experiment's members and their states, stacked by slot and sharded over devices.

    Attributes:
        experiment: determines the program.
        layout: the devices, and the members at once on each.
        members: leaves (slots, ...).
        states: leaves (slots, ...).
        slots: the slot of each member, (K,) int; other slots are padding.
    """

    experiment: Experiment
    layout: Layout
    members: Member
    states: State
    slots: np.ndarray

    @property
    def status(self) -> np.ndarray:
        """Status of each member, (K,) int32."""
        return np.asarray(self.states.status)[self.slots]


def create(
    experiment: Experiment,
    layout: Layout,
    members: Sequence[Member],
    states: State | None = None,
    start: Weights = NO_WEIGHTS,
) -> Population:
    """Stacks members, padded to a multiple of the devices.

    States are taken from `states`, leaves (K, ...) in member order, or initialised; see
    `flipjax.training.member.init_state` for `start`.
    """
    count = len(members)
    slot_count = count + -count % layout.devices
    # Slots past the members hold copies of the last one.
    member_of_slot = np.minimum(np.arange(slot_count), count - 1)
    stacked_members = stacks.put(layout, stacks.stack([members[number] for number in member_of_slot]))
    if states is None:
        states = _initial_states(experiment, members, start)
    leaves, structure = jax.tree.flatten(states)
    # The list alone holds the leaves now, unless the caller does.
    del states
    placed = jax.tree.unflatten(structure, _place_leaf_by_leaf(layout, leaves, member_of_slot))
    # The copies never run.
    status = np.array(placed.status)
    status[count:] = Status.STOPPED
    placed = dataclasses.replace(placed, status=stacks.put(layout, status))
    return Population(experiment, layout, stacked_members, placed, slots=np.arange(count))


def _initial_states(experiment: Experiment, members: Sequence[Member], start: Weights) -> State:
    """Initialises members one by one, and stacks their states on the host."""
    # With the same program as alone: under a map a member's last bits may differ.
    initialised = (start_program()(experiment, member, start) for member in members)
    return stacks.fill(state_shapes(experiment, members, start), initialised)


def _place_leaf_by_leaf(layout: Layout, leaves: list[Array], member_of_slot: np.ndarray) -> list[Array]:
    """Returns leaves (K, ...) by slot, on devices; empties the list, so that large states are never held twice."""
    placed = []
    while leaves:
        rows = leaves.pop(0)[member_of_slot]
        placed.append(stacks.put(layout, rows))
    return placed


def state_shapes(experiment: Experiment, members: Sequence[Member], start: Weights = NO_WEIGHTS) -> State:
    """Returns the shapes of the members' states, leaves (K, ...), as in `states_of`.

    Example:
        >>> from flipjax.config import ModelSpec
        >>> from flipjax.config import Recipe
        >>> from flipjax.config.methods import Knobs
        >>> rows, groups = jnp.zeros((8, 2), jnp.int32), jnp.zeros(8, jnp.int32)
        >>> member = Member(jax.random.key(0), rows, groups, Recipe(), Knobs())
        >>> state_shapes(Experiment(model=ModelSpec(width=4, depth=1)), [member] * 3).group_weights.shape
        (3, 4)
    """
    state = jax.eval_shape(functools.partial(init_state, experiment), members[0], start)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((len(members), *leaf.shape), leaf.dtype), state)


def start_program() -> Jitted:
    """Returns the program that initialises one member."""
    return compiler.program(init_state, static_argnums=0)


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
    """Returns the program that trains all members for an epoch, compiled for the speed of this machine's devices."""
    static = ("experiment", "layout")
    return compiler.program(_epoch, convolutions=layout.convolutions, static_argnames=static, donate_argnames="states")


def _epoch(
    experiment: Experiment, layout: Layout, members: Member, states: State, pool: Pool, table: Table
) -> tuple[State, Records]:
    """Trains the running members of every device for one epoch."""
    of_device = functools.partial(_epoch_of_device, _as_laid_out(experiment, layout), layout.width)
    return shard(layout, of_device, P(AXIS), P(AXIS), P(), P())(members, states, pool, table)


def _as_laid_out(experiment: Experiment, layout: Layout) -> Experiment:
    """Returns an experiment whose networks run side by side in channels if the members of the layout do."""
    return dataclasses.replace(experiment, packed=layout.packed)


def _epoch_of_device(
    experiment: Experiment, width: int, members: Member, states: State, pool: Pool, table: Table
) -> tuple[State, Records]:
    """Trains a device's running members for one epoch, `width` at a time."""
    # Traced once, for its shapes and for the loop.
    train_one = jax.jit(functools.partial(run.run_epoch, experiment), inline=True)
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
    program = compiler.program(run.second_run, convolutions=layout.convolutions, static_argnums=0)
    restarted = []
    for turn, slot in enumerate(due):
        # One program per member, as in `_initial_states`; devices work in parallel.
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
    """Refits the heads of the members of every device; `halves` are as in `flipjax.training.run.Data`."""
    of_device = functools.partial(_refit_of_device, experiment)
    return shard(layout, of_device, P(AXIS), P(AXIS), P(), P())(members, states, pool, halves)


def _refit_of_device(
    experiment: Experiment, members: Member, states: State, pool: Pool, halves: tuple[Array, Array]
) -> State:
    """Refits the heads of a device's members, one at a time: no networks are side by side, so none are packed."""

    def refit_one(inputs: tuple[Member, State]) -> State:
        member, state = inputs
        return run.refit(experiment, member, state, pool, halves)

    return jax.lax.map(refit_one, (members, states))


def states_of(population: Population) -> State:
    """Returns the states in member order, leaves (K, ...) of lazy `Rows`: copy them before the next epoch."""
    return jax.tree.map(lambda leaf: Rows(leaf, population.slots), population.states)


def map_selected(
    population: Population, function: Callable, pool: Pool, *arguments: PyTree, later: Callable | None = None
) -> PyTree:
    """Evaluates `function(experiment, weights, pool, *arguments)` on every member's weights kept by each rule.

    The pool shows each member's cue. Rules that kept the same epoch of a member share one result, which the loop
    computes once. The weights stay; the results on the devices are freed once they are copied to the host.

    Args:
      population: trained.
      function: pure; static.
      pool: of the images, on all devices.
      *arguments: what else the function takes, the same for all members, on all devices.
      later: a function for rules after the first, which returns None for some leaves.

    Returns:
      Numpy leaves (S, K, ...), with rules in the order of `experiment.train.selection`; (1, K, ...) for those that
      `later` omits.
    """
    best = [population.states.best[rule] for rule in population.experiment.train.selection]
    computed_by = _first_rule_of_same_epoch(np.stack([np.asarray(kept.epoch) for kept in best]))
    results = []
    for rule, kept in enumerate(best):
        function_of_rule = function
        if rule > 0 and later is not None:
            function_of_rule = later
        is_computed = computed_by[rule] == rule
        results.append(_map_rule(population, function_of_rule, kept.weights, is_computed, pool, *arguments))
    gather = functools.partial(_gather_rules, computed_by[:, population.slots])
    # The first rule's tree leads: where it has a leaf, those of later rules may have None, which `gather` is given.
    return jax.tree.map(gather, *results)


def _map_rule(
    population: Population,
    function: Callable,
    weights: Weights,
    is_computed: np.ndarray,
    pool: Pool,
    *arguments: PyTree,
) -> PyTree:
    """Evaluates a function on the weights that one rule kept, call by call.

    Args:
      population: trained.
      function: as in `map_selected`.
      weights: leaves (slots, ...).
      is_computed: the slots whose weights are evaluated, (slots,) bool.
      pool: as in `map_selected`.
      *arguments: as in `map_selected`.

    Returns:
      Numpy leaves (K, ...) in member order, zeros for members that are not evaluated.
    """
    layout = population.layout
    program = selected_program(layout)
    strengths = population.members.cue_strength
    calls = _slots_of_calls(layout, len(is_computed))
    results_of_calls = []
    for slots in calls:
        is_in_call = np.zeros(len(is_computed), bool)
        is_in_call[slots] = True
        dealt = weights, stacks.put(layout, is_computed & is_in_call), strengths
        result = program(population.experiment, layout, function, *dealt, pool, *arguments)
        results_of_calls.append(_on_host(result, slots))
    # The place of each member in the order of the calls.
    places = np.argsort(np.concatenate(calls))[population.slots]

    def join(*rows_of_calls: np.ndarray) -> np.ndarray:
        return np.concatenate(rows_of_calls)[places]

    return jax.tree.map(join, *results_of_calls)


def _gather_rules(computed_by: np.ndarray, *leaves: np.ndarray | None) -> np.ndarray:
    """Returns one leaf by rule and member, (S, K, ...), each row from the rule in `computed_by` (S, K).

    `leaves` are (K, ...), a rule each. Where those of rules after the first are None, the result is (1, K, ...).

    Example:
        >>> rules = np.array([[0, 0], [1, 0]])  # The second rule kept the same epoch of the second member.
        >>> _gather_rules(rules, np.array([3, 5]), np.array([4, 0])).tolist()
        [[3, 5], [4, 5]]
        >>> _gather_rules(rules, np.array([3, 5]), None).tolist()
        [[3, 5]]
    """
    by_rule = np.stack([leaf for leaf in leaves if leaf is not None])
    # The first rule computes all of its members itself.
    rule_of_row = computed_by[: len(by_rule)]
    return by_rule[rule_of_row, np.arange(by_rule.shape[1])]


def _slots_of_calls(layout: Layout, count: int) -> list[np.ndarray]:
    """Returns the slots, of `count`, whose members are evaluated in each call: all in one where several run at once.

    Example:
        >>> from flipjax.config import PopulationSpec
        >>> from flipjax.training.devices import make_layout
        >>> layout = make_layout(PopulationSpec(devices=1, map="loop"), members=3)
        >>> [slots.tolist() for slots in _slots_of_calls(layout, 3)]
        [[0, 1], [2]]
    """
    if layout.width > 1:
        return [np.arange(count)]
    by_device = np.arange(count).reshape(layout.devices, -1)
    starts = range(0, by_device.shape[1], EVALUATED_IN_A_CALL)
    return [by_device[:, start : start + EVALUATED_IN_A_CALL].ravel() for start in starts]


def _on_host(tree: PyTree, slots: np.ndarray) -> PyTree:
    """Copies the rows of some slots to the host, and frees the arrays on the devices."""
    rows = jax.tree.map(lambda leaf: Rows(leaf, slots)[:], tree)
    free(tree)
    return rows


def _first_rule_of_same_epoch(epochs: np.ndarray) -> np.ndarray:
    """Returns the first rule that kept the same epoch as each rule, of epochs (S, slots) and in their shape.

    Example:
        >>> _first_rule_of_same_epoch(np.array([[3, 5], [4, 5], [3, 5]])).tolist()
        [[0, 0], [1, 0], [0, 0]]
    """
    # (S, S, slots): whether a rule, on the first axis, and a rule, on the second, kept one epoch.
    is_same_epoch = epochs[:, None] == epochs[None]
    # The first True: each rule is among those of its epoch.
    return is_same_epoch.argmax(axis=1)


def selected_program(layout: Layout) -> Jitted:
    """Returns the program that maps a function over weights, compiled for the speed of this machine's devices."""
    static = ("experiment", "layout", "function")
    return compiler.program(_map_selected, convolutions=layout.convolutions, static_argnames=static)


def _map_selected(
    experiment: Experiment,
    layout: Layout,
    function: Callable,
    weights: Weights,
    is_computed: jax.Array,
    strengths: jax.Array,
    pool: Pool,
    *arguments: PyTree,
) -> PyTree:
    """Maps a function over the stacked weights where `is_computed`, each with its cue; the others give zeros."""
    of_device = functools.partial(_map_selected_of_device, _as_laid_out(experiment, layout), layout.width, function)
    dealt = P(AXIS), P(AXIS), P(AXIS)
    shared = P(), *(P() for _ in arguments)
    return shard(layout, of_device, *dealt, *shared)(weights, is_computed, strengths, pool, *arguments)


def _map_selected_of_device(
    experiment: Experiment,
    width: int,
    function: Callable,
    weights: Weights,
    is_computed: jax.Array,
    strengths: jax.Array,
    pool: Pool,
    *arguments: PyTree,
) -> PyTree:
    """Maps a function over a device's weights, `width` at a time; see `_map_selected`."""
    # Traced once, for its shapes and for the loop.
    call = jax.jit(functools.partial(function, experiment), inline=True)
    shapes = jax.eval_shape(call, take_member(weights, 0), pool, *arguments)

    def call_one(inputs: tuple[Weights, jax.Array, jax.Array]) -> PyTree:
        member_weights, is_member_computed, strength = inputs

        def answer() -> PyTree:
            return call(member_weights, at_strength(pool, strength), *arguments)

        def zeros() -> PyTree:
            return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        # In a loop it skips the others. Of several at once it is a select, which computes all.
        return jax.lax.cond(is_member_computed, answer, zeros)

    batch_size = None
    if width > 1:
        batch_size = width
    return jax.lax.map(call_one, (weights, is_computed, strengths), batch_size=batch_size)
