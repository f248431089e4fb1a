"""Trees stacked over members, leaves (K, ...): made on the host, placed on devices, and read row by row."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from flipjax.models.weights.initial import is_key
from flipjax.support.arrays import Array, PyTree
from flipjax.training.population.devices import AXIS, Layout

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Rows:
    """A stacked leaf in member order, copied from the devices only when indexed or made an array.

    JAX would keep on the host what NumPy reads of an array on several devices.

    Attributes:
        stacked: the leaf by slot, on devices.
        slots: the slot of each member, (K,) int.
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

    def __getitem__(self, members: int | slice | np.ndarray) -> np.ndarray:
        """Copies the rows of one member or several."""
        slots = self.slots[members]
        rows = np.empty((*slots.shape, *self.shape[1:]), self.dtype)
        for part in self.stacked.addressable_shards:
            first, end, _ = part.index[0].indices(self.stacked.shape[0])
            is_held = (first <= slots) & (slots < end)
            # Where devices share batches, the compiler may divide other axes too.
            rows[(is_held, *part.index[1:])] = np.asarray(part.data)[slots[is_held] - first]
        return rows

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Copies all rows."""
        return self[:].astype(dtype or self.dtype, copy=False)


def stack(trees: Sequence[Tree]) -> Tree:
    """Stacks leaves on the host: on a device each shape would compile a program.

    Example:
        >>> stacked = stack([{"loss": np.float32(0.5)}, {"loss": np.float32(0.25)}])
        >>> stacked["loss"].tolist(), take_member(stacked, 1)["loss"].item()
        ([0.5, 0.25], 0.25)
    """

    def stack_leaves(*leaves: np.ndarray) -> np.ndarray:
        return np.stack(leaves)

    return jax.tree.map(functools.partial(_on_words, stack_leaves), *trees)


def fill(shapes: Tree, trees: Iterable[Tree]) -> Tree:
    """Stacks trees on the host, and holds one of them at a time; `shapes` are those of the result."""
    stacked = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
    leaves = jax.tree.leaves(stacked)
    for index, tree in enumerate(trees):
        for rows, leaf in zip(leaves, jax.tree.leaves(tree), strict=True):
            rows[index] = leaf
    return stacked


def put(layout: Layout, tree: Tree) -> Tree:
    """Copies stacked leaves to the devices, which share no memory with them: such leaves cannot be donated."""
    return jax.device_put(tree, NamedSharding(layout.mesh, P(AXIS)), may_alias=False)


def replace(layout: Layout, tree: Tree, change: Callable[..., np.ndarray], *others: Tree) -> Tree:
    """Returns stacked trees with changed leaves: one at a time is on the host, and each old one is freed.

    Args:
        layout: of the devices.
        tree: stacked, on devices.
        change: a function of the rows of a leaf, by slot, and of the leaves of `others`.
        *others: further trees.
    """

    def replace_leaf(leaf: jax.Array, *other_leaves: Array) -> Array:
        rows = change(_by_slot(leaf)[:], *other_leaves)
        leaf.delete()
        return put(layout, rows)

    return jax.tree.map(functools.partial(_on_words, replace_leaf), tree, *others)


def host_row(tree: Tree, slot: int) -> Tree:
    """Copies the row of a slot of stacked trees to the host."""

    def row_of(leaf: jax.Array) -> np.ndarray:
        return _by_slot(leaf)[slot]

    return jax.tree.map(functools.partial(_on_words, row_of), tree)


def take_member(stacked: Tree, index: int | Array) -> Tree:
    """Indexes every leaf of stacked trees, for one member or several."""
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def free(tree: PyTree) -> None:
    """Frees the memory of device arrays, such as the states that only training needs."""
    for leaf in jax.tree.leaves(tree):
        leaf.delete()


def _by_slot(leaf: jax.Array) -> Rows:
    """Returns a leaf whose rows, in the order of slots, pass the host."""
    # A program that takes them from several devices makes these wait for one another, and XLA:CPU ends the process
    # where one of them still trains after 40 seconds.
    return Rows(leaf, np.arange(leaf.shape[0]))


def _on_words(function: Callable[..., PyTree], *leaves: Array) -> PyTree:
    """Applies a function of arrays to leaves, or to the words of PRNG keys."""
    first = leaves[0]
    if not isinstance(first, jax.Array) or not is_key(first):
        return function(*leaves)
    words = function(*map(jax.random.key_data, leaves))
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(first))
