"""A function of the weights that each selection rule kept, such as their evaluation, mapped over a population."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from flipjax.backend import compiler
from flipjax.backend.compiler import Jitted
from flipjax.config import Experiment
from flipjax.data.pool import Pool, at_strength
from flipjax.models.weights.initial import Weights
from flipjax.support.arrays import PyTree
from flipjax.training.population import stacks
from flipjax.training.population.devices import AXIS, Layout, shard
from flipjax.training.population.members import Population, as_laid_out
from flipjax.training.population.stacks import Rows, free, take_member

EVALUATED_IN_A_CALL = 2
"""Members that a device evaluates in one call. Where a CPU has several devices, XLA keeps some hundred kilobytes of
every pass of a batch until the call ends."""


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
        >>> from flipjax.training.population.devices import make_layout
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
    """Returns the program that maps a function over weights, compiled for the speed of this machine's devices.

    Example:
        >>> from flipjax.config import PopulationSpec
        >>> from flipjax.training.population.devices import make_layout
        >>> layout = make_layout(PopulationSpec(devices=1, map="loop"), members=3)
        >>> selected_program(layout) is selected_program(layout)  # It is compiled once, when it is first called.
        True
    """
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
    of_device = functools.partial(_map_selected_of_device, as_laid_out(experiment, layout), layout.width, function)
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

        # A loop skips the others. Where several train at once it is a select, which computes all.
        return jax.lax.cond(is_member_computed, answer, zeros)

    batch_size = None
    if width > 1:
        batch_size = width
    return jax.lax.map(call_one, (weights, is_computed, strengths), batch_size=batch_size)
