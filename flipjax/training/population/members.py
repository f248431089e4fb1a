"""The members of an experiment and their states, stacked so that one compiled program trains them all.

A CPU has one device per core, and each loops over its members. Elsewhere the fastest form is measured
(`flipjax.training.population.fastest`): a loop, or `width` members at once, packed side by side in channels
(`flipjax.models.packs.pack`) or under vmap. In float32 a member under the loop equals the same member trained alone bit
for bit; the other forms agree to rounding. With more devices than members, several share each batch
(`flipjax.training.network.forward.deal_batch`).

`flipjax.training.population.epochs` trains them; `flipjax.training.population.selected` evaluates the weights that they
kept. Their programs take what is divided among the devices first, then what all of them read.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from flipjax.backend import compiler
from flipjax.backend.compiler import Jitted
from flipjax.config import Experiment
from flipjax.models.weights.initial import Weights
from flipjax.support.arrays import Array
from flipjax.training.member import Member, State, Status, init_state
from flipjax.training.network.forward import NO_WEIGHTS
from flipjax.training.population import stacks
from flipjax.training.population.devices import Layout
from flipjax.training.population.stacks import Rows


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
        >>> rows, groups = np.zeros((8, 2), np.int32), np.zeros(8, np.int32)
        >>> member = Member(jax.random.key(0), rows, groups, Recipe(), Knobs())
        >>> state_shapes(Experiment(model=ModelSpec(width=4, depth=1)), [member] * 3).group_weights.shape
        (3, 4)
    """
    state = jax.eval_shape(functools.partial(init_state, experiment), members[0], start)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((len(members), *leaf.shape), leaf.dtype), state)


def start_program() -> Jitted:
    """Returns the program that initialises one member."""
    return compiler.program(init_state, static_argnums=0)


def states_of(population: Population) -> State:
    """Returns the states in member order, leaves (K, ...) of lazy `Rows`: copy them before the next epoch."""
    return jax.tree.map(lambda leaf: Rows(leaf, population.slots), population.states)


def as_laid_out(experiment: Experiment, layout: Layout) -> Experiment:
    """Returns an experiment whose networks run side by side in channels if the members of the layout do."""
    return dataclasses.replace(experiment, packed=layout.packed)
