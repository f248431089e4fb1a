"""`Anatomy`: which classes are mirror images or neighbours in a chain, and the renamings that follow. No JAX."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import operator
from collections.abc import Iterable, Sequence

import numpy as np

from flipjax.metrics.anatomy.names import are_vertebrae, is_of, name_chains, name_pairs
from flipjax.metrics.inputs.classes import background_classes, read_class_names
from flipjax.support.terminal import listed

Pair = tuple[int, int]
"""Two classes."""
Chain = tuple[int | None, ...]
"""Classes in the order of the body; None where a place has no class."""


@dataclasses.dataclass(frozen=True)
class Renaming:
    """One way to rename predicted classes.

    Example:
        >>> Anatomy(mirror=((1, 2),)).renamings[1]
        Renaming(kind='mirror', moves=((1, 2), (2, 1)), chain=None, places=0)
    """

    kind: str
    """`none`, `mirror` (each class becomes its mirror image), or `shift` (each class of one chain moves along it)."""
    moves: tuple[Pair, ...] = ()
    """Each class that changes, and the class that it becomes."""
    chain: int | None = None
    """Index of the chain that is shifted."""
    places: int = 0
    """The number of places by which the chain is shifted; below 0 towards its beginning."""

    def describe(self, class_names: Sequence[str]) -> str:
        """Returns the renaming in words, with the names of all C classes.

        Example:
            >>> Anatomy(chains=((1, 2, 3),)).renamings[1].describe(["background", "L1", "L2", "L3"])
            'shift of L1..L3 by +1'
        """
        if self.kind != "shift":
            return self.kind
        # Moves are in the order of the chain.
        first, after_first = self.moves[0]
        before_last, last = self.moves[-1]
        if self.places < 0:
            # Each class moves towards the beginning of the chain.
            first = after_first
            last = before_last
        return f"shift of {class_names[first]}..{class_names[last]} by {self.places:+d}"

    def fault(self, class_names: Sequence[str]) -> str:
        """Returns the fault that the renaming mends, in words; `none` of no renaming.

        Example:
            >>> Anatomy(chains=((1, 2, 3),)).renamings[1].fault(["background", "L1", "L2", "L3"])
            'labelled one vertebra too high'
        """
        if self.kind == "none":
            return self.kind
        if self.kind == "mirror":
            return "left and right exchanged"
        names = [class_names[c] for c, _ in self.moves]
        # Labels that must move towards the end are too near the beginning.
        return f"labelled {shift_in_words(names, -self.places)}"


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """Which classes are mirror images of each other, and which follow one another in the body.

    Hashable, so it can be a static argument of a jitted function. False if it holds neither pairs nor chains.

    Raises:
        TypeError: classes that are not integers.
        ValueError: a class that does not exist, is twice in pairs or in chains, or pairs and chains that are too short.

    Example:
        >>> Anatomy.from_names(["background", "kidney_left", "kidney_right", "L1", "L2", "L3"])
        Anatomy(mirror=((1, 2),), chains=((3, 4, 5),), num_classes=6)
    """

    mirror: tuple[Pair, ...] = ()
    """Pairs of classes that a mirrored image exchanges, such as the left and the right kidney."""
    chains: tuple[Chain, ...] = ()
    """Classes in anatomical order, such as the vertebrae from C1 to L5; None is a place without a class."""
    num_classes: int | None = None
    """C, background included; None: any number that holds the classes above."""

    def __post_init__(self) -> None:
        """Normalises and checks the fields."""
        mirror = tuple(_read_classes(pair, name="mirror", expected="pairs of classes") for pair in self.mirror)
        chains = tuple(_read_classes(chain, name="chains", expected="chains of classes") for chain in self.chains)
        object.__setattr__(self, "mirror", mirror)
        object.__setattr__(self, "chains", chains)
        for pair in mirror:
            if len(pair) != 2 or None in pair or pair[0] == pair[1]:
                raise ValueError(f"mirror: expected pairs of two different classes, found {pair}.")
        for chain in chains:
            if len(chain) < 2 or chain[0] is None or chain[-1] is None:
                raise ValueError(f"chains: expected two classes or more, one at either end, found {chain}.")
        self._check_classes("mirror", mirror)
        self._check_classes("chains", chains)

    def _check_classes(self, name: str, rows: tuple[Chain, ...]) -> None:
        """Raises a ValueError for a class that does not exist, or is twice in the rows."""
        classes = [c for row in rows for c in row if c is not None]
        for c in classes:
            if c < 0 or (self.num_classes is not None and c >= self.num_classes):
                last = ""
                if self.num_classes is not None:
                    last = str(self.num_classes - 1)
                raise ValueError(f"{name}: expected classes in 0..{last}, found {c}.")
            if classes.count(c) > 1:
                raise ValueError(f"{name}: expected each class once, found {c} twice.")

    @classmethod
    def from_names(cls, class_names: Sequence[str]) -> Anatomy:
        """Finds mirror pairs and chains in the names of all C classes, background included.

        Pairs differ in one word: left and right, or l and r, lt and rt, lh and rh, in any case and place.
        Chains have one number: `rib_left_1`, ..., and vertebrae from C1 to S5 are one chain in this order, of which
        T13 and L6 may be absent. Names such as `class1`, `tooth_11` and `tumor_stage_1`, and T1 and T2 alone, make no
        chain: `of_names` takes any.

        Raises:
            ValueError: not a sequence of names.

        Warns:
            UserWarning: a chain with a gap, such as L2 and L4 without L3. Shifts across it count its places.

        Example:
            >>> Anatomy.from_names(["background", "Left-Putamen", "Right-Putamen", "T12", "L2", "L1"])
            Anatomy(mirror=((1, 2),), chains=((3, 5, 4),), num_classes=6)
        """
        names = _check_names(class_names)
        return cls(name_pairs(names), name_chains(names), len(names))

    @classmethod
    def of_names(
        cls,
        class_names: Sequence[str],
        *,
        mirror: Iterable[Sequence[str]] = (),
        chains: Iterable[Sequence[str | None]] = (),
    ) -> Anatomy:
        """Returns an anatomy that is given in names.

        Args:
            class_names: of all C classes, background included.
            mirror: pairs of names.
            chains: names in anatomical order; None is a place without a class.

        Raises:
            ValueError: a name that is not in `class_names`, or pairs and chains that do not fit.

        Example:
            >>> Anatomy.of_names(["background", "aorta", "cava"], mirror=[("aorta", "cava")]).mirror
            ((1, 2),)
        """
        names = _check_names(class_names)
        given_pairs = [tuple(pair) for pair in mirror]
        given_chains = [tuple(chain) for chain in chains]
        _check_once(given_pairs, name="mirror")
        _check_once(given_chains, name="chains")
        pairs = tuple(_find_names(pair, names, name="mirror") for pair in given_pairs)
        rows = tuple(_find_names(chain, names, name="chains") for chain in given_chains)
        return cls(pairs, rows, len(names))  # pyright: ignore[reportArgumentType]  # Checked when it is made.

    def __bool__(self) -> bool:
        """Whether there is any pair or chain."""
        return bool(self.mirror or self.chains)

    def without(self, classes: Iterable[int]) -> Anatomy:
        """Returns the anatomy of the other classes: pairs with one of `classes` go, and chains keep its place.

        Example:
            >>> Anatomy(mirror=((1, 2),), chains=((1, 2, 3, 4),)).without([2, 4])
            Anatomy(mirror=(), chains=((1, None, 3),), num_classes=None)
        """
        gone = set(classes)
        mirror = tuple(pair for pair in self.mirror if not gone & {*pair})
        chains = []
        for chain in self.chains:
            kept = trim_chain(None if c in gone else c for c in chain)
            if len(kept) > 1:
                chains.append(kept)
        return Anatomy(mirror, tuple(chains), self.num_classes)

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers of places by which a label can shift along a chain, in ascending order and without 0.

        Example:
            >>> Anatomy(chains=((1, 2, 3), (4, 5))).steps
            (-2, -1, 1, 2)
        """
        longest = max((len(chain) for chain in self.chains), default=1) - 1
        return tuple(step for step in range(-longest, longest + 1) if step)

    @functools.cached_property
    def renamings(self) -> tuple[Renaming, ...]:
        """The renamings that `relabelling` tries, those that change least first: none, mirror, and shifts of one chain.

        Example:
            >>> anatomy = Anatomy(mirror=((1, 2),), chains=((3, 4, 5),))
            >>> [(renaming.kind, renaming.places) for renaming in anatomy.renamings]
            [('none', 0), ('mirror', 0), ('shift', 1), ('shift', -1), ('shift', 2), ('shift', -2)]
        """
        renamings = [Renaming("none")]
        if self.mirror:
            both_ways = [((first, second), (second, first)) for first, second in self.mirror]
            renamings.append(Renaming("mirror", tuple(itertools.chain.from_iterable(both_ways))))
        for step in sorted(self.steps, key=_shortest_then_forwards):
            for number, chain in enumerate(self.chains):
                moves = moves_along(chain, step)
                if moves:
                    renamings.append(Renaming("shift", moves, chain=number, places=step))
        return tuple(renamings)


def shift_in_words(names: Sequence[str], places: int) -> str:
    """Returns how far labels are shifted along a chain of these names, in the words of the body where they are known.

    Args:
        names: of the chain's classes.
        places: from the true class to the predicted one; above 0 towards the end of the chain.

    Example:
        >>> shift_in_words(["L1", "L2"], -1), shift_in_words(["rib_1", "rib_2"], 2), shift_in_words(["node_1"], 1)
        ('one vertebra too high', '2 ribs too low', 'one place too late')
    """
    # Vertebrae and ribs are numbered from the head down.
    before = "high"
    after = "low"
    if are_vertebrae(names):
        distance = _count("vertebra", "vertebrae", abs(places))
    elif is_of(names, "rib"):
        distance = _count("rib", "ribs", abs(places))
    else:
        distance = _count("place", "places", abs(places))
        before = "early"
        after = "late"
    if places > 0:
        return f"{distance} too {after}"
    return f"{distance} too {before}"


def _count(one: str, several: str, number: int) -> str:
    """Returns a number of things in words.

    Example:
        >>> _count("rib", "ribs", 1), _count("rib", "ribs", 2)
        ('one rib', '2 ribs')
    """
    if number == 1:
        return f"one {one}"
    return f"{number} {several}"


def _shortest_then_forwards(step: int) -> tuple[int, int]:
    """Returns what steps are sorted by: their length, then the one forwards before the one back."""
    return abs(step), -step


def trim_chain(places: Iterable[int | None]) -> Chain:
    """Returns the places of a chain from its first to its last class.

    Example:
        >>> trim_chain([None, 3, None, 4, None])
        (3, None, 4)
    """
    chain = list(places)
    numbers = [number for number, place in enumerate(chain) if place is not None]
    if not numbers:
        return ()
    return tuple(chain[numbers[0] : numbers[-1] + 1])


def _read_classes(row: Iterable[int | None], *, name: str, expected: str) -> Chain:
    """Returns a pair or a chain as integers and None."""
    if isinstance(row, str) or not np.iterable(row):
        raise TypeError(f"{name}: expected {expected}, found {row!r}.")
    try:
        return tuple(None if c is None else operator.index(c) for c in row)
    except TypeError:
        text = f"{name}: expected class indices, found {tuple(row)!r}; of_names takes names."
        raise TypeError(text) from None


def _check_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Returns class names; raises ValueError unless they are texts that differ."""
    names = read_class_names(class_names)
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"class_names: expected names, found {name!r}.")
        if names.count(name) > 1:
            raise ValueError(f"class_names: expected different names, found {name!r} twice.")
    return names


def _check_once(rows: Sequence[tuple[str | None, ...]], *, name: str) -> None:
    """Raises a ValueError for a name that is given twice."""
    given = [class_name for row in rows for class_name in row if class_name is not None]
    for class_name in given:
        if given.count(class_name) > 1:
            raise ValueError(f"{name}: expected each class once, found {class_name!r} twice.")


def _find_names(row: Iterable[str | None], names: Sequence[str], *, name: str) -> Chain:
    """Returns the classes of a pair or a chain of names."""
    classes: list[int | None] = []
    for class_name in row:
        if class_name is None:
            classes.append(None)
            continue
        if class_name not in names:
            nearest = difflib.get_close_matches(str(class_name), names, n=1)
            hint = f"the classes are {listed(names)}."
            if nearest:
                hint = f"did you mean {nearest[0]!r}?"
            raise ValueError(f"{name}: expected names of classes, found {class_name!r}; {hint}")
        classes.append(names.index(class_name))
    return tuple(classes)


def moves_along(chain: Chain, step: int) -> tuple[Pair, ...]:
    """Returns each class of a chain that has another `step` places further, and that class."""
    moves = []
    for position, c in enumerate(chain):
        target = position + step
        if c is not None and 0 <= target < len(chain):
            other = chain[target]
            if other is not None:
                moves.append((c, other))
    return tuple(moves)


def check_anatomy(anatomy: Anatomy | str | None) -> None:
    """Raises a ValueError unless this is an anatomy, `names` (to be found in the class names) or None."""
    if not isinstance(anatomy, Anatomy) and anatomy not in ("names", None):
        raise ValueError(f"anatomy: expected an Anatomy, 'names' or None, found {anatomy!r}.")


def settle_anatomy(
    anatomy: Anatomy | str | None, class_names: Sequence[str], background: int | Iterable[int] | None
) -> Anatomy:
    """Returns the anatomy of the foreground: as it is given, found in the names of all C classes, or an empty one.

    Args:
        anatomy: as `check_anatomy` allows.
        class_names: of all C classes.
        background: the class that is background, several, or None.

    Warns:
        UserWarning: as `Anatomy.from_names`.

    Example:
        >>> names = ["background", "kidney left", "kidney right"]
        >>> settle_anatomy("names", names, 0).mirror, bool(settle_anatomy(None, names, 0))
        (((1, 2),), False)
    """
    if isinstance(anatomy, Anatomy):
        return anatomy
    if anatomy is None:
        return Anatomy(num_classes=len(class_names))
    return Anatomy.from_names(class_names).without(background_classes(background))
