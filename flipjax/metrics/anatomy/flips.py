"""Flips of anatomy: pixels that are mirrored or shifted along a chain, and the renaming that mends most. No JAX."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flipjax.metrics.anatomy.relations import Anatomy, Renaming, moves_along
from flipjax.metrics.decomposition import Decomposition, divide, margins, numpy_if_on_host, pixel_ratios
from flipjax.metrics.inputs.classes import background_classes, is_foreground
from flipjax.metrics.inputs.host import Array

FLIP_KINDS = ("flip_mirror", "flip_shift", "flip_other")
"""Keys of `pooled_kinds`."""


class FlipKinds(NamedTuple):
    """Flipped pixels of each image by kind; the three shares sum to Flip.

    Counts of decompositions on the host are NumPy int64, and shares float64; under jit int32 and float32.

    Example:
        >>> confusion = np.array([[9, 0, 0], [0, 2, 6], [0, 0, 0]])  # Rows: background, kidney left, kidney right.
        >>> kinds = flip_kinds(Decomposition(confusion, np.zeros(())), Anatomy(mirror=((1, 2),)))
        >>> print(kinds.mirrored, kinds.flipped, kinds.foreground, kinds.mirror, kinds.other)
        6 6 8 0.75 0.0
    """

    mirrored: Array
    """(...) pixels predicted as the mirror image of their class."""
    shifted: Array
    """(..., S) pixels predicted further along the chain of their class, for each of the S `Anatomy.steps`."""
    flipped: Array
    """(...) pixels predicted as another foreground class."""
    foreground: Array
    """(...) pixels of the true foreground."""

    @property
    def mirror(self) -> Array:
        """Share (...) of the true foreground that is mirrored; NaN without true foreground."""
        return _share(self.mirrored, self.foreground)

    @property
    def shift(self) -> Array:
        """Share (...) of the true foreground that is shifted along a chain; NaN without true foreground."""
        return _share(self.shifted.sum(-1), self.foreground)

    @property
    def other(self) -> Array:
        """Share (...) of the true foreground that flips otherwise; NaN without true foreground."""
        return _share(self.flipped - self.mirrored - self.shifted.sum(-1), self.foreground)


def flip_kinds(decomposition: Decomposition, anatomy: Anatomy) -> FlipKinds:
    """Counts the flipped pixels that are mirrored, shifted along a chain, or neither. Works under jit and vmap.

    A pixel whose prediction is both the mirror image of its class and in the same chain counts as mirrored.

    Args:
        decomposition: leaves of shape (..., C, C) and (...).
        anatomy: of foreground classes.

    Raises:
        ValueError: the anatomy has another number of classes, or a class that does not exist or is background.

    Example:
        >>> confusion = np.array([[9, 0, 0, 0, 0], [0, 2, 6, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 3], [0, 0, 0, 0, 0]])
        >>> anatomy = Anatomy(mirror=((1, 2),), chains=((3, 4),))
        >>> kinds = flip_kinds(Decomposition(confusion, np.zeros(())), anatomy)
        >>> print(kinds.mirror, kinds.shift, round(kinds.other, 4), dict(zip(anatomy.steps, kinds.shifted.tolist())))
        0.5 0.25 0.0833 {-1: 0, 1: 3}
    """
    confusion = numpy_if_on_host(decomposition.confusion)
    _check_anatomy(anatomy, decomposition)
    truth, prediction = _both_ways(anatomy.mirror)
    mirrored = confusion[..., truth, prediction].sum(-1)
    steps = _step_table(anatomy, confusion.shape[-1])
    by_step = [confusion[..., *np.nonzero(steps == step)].sum(-1) for step in anatomy.steps]
    xp = confusion.__array_namespace__()
    if by_step:
        shifted = xp.stack(by_step, axis=-1)
    else:
        shifted = xp.zeros((*confusion.shape[:-2], 0), mirrored.dtype)
    flip = pixel_ratios(confusion, background=decomposition.background).flip
    return FlipKinds(mirrored, shifted, flipped=flip.part, foreground=flip.whole)


def pooled_kinds(decomposition: Decomposition, anatomy: Anatomy) -> dict[str, float]:
    """Returns the shares of `flip_kinds` over the pixels of all images: `flip_mirror`, `flip_shift`, `flip_other`.

    Example:
        >>> confusion = np.array([[[9, 0, 0], [0, 1, 3], [0, 0, 0]], [[9, 0, 0], [0, 4, 0], [0, 0, 0]]])
        >>> pooled_kinds(Decomposition(confusion, np.zeros(2)), Anatomy(mirror=((1, 2),)))
        {'flip_mirror': 0.375, 'flip_shift': 0.0, 'flip_other': 0.0}
    """
    kinds = flip_kinds(decomposition, anatomy)
    axes_of_images = tuple(range(np.ndim(kinds.flipped)))
    pooled = FlipKinds(*(np.asarray(counts).sum(axes_of_images, dtype=np.int64) for counts in kinds))
    return {
        "flip_mirror": float(pooled.mirror),
        "flip_shift": float(pooled.shift),
        "flip_other": float(pooled.other),
    }


class Relabelling(NamedTuple):
    """The renaming that makes most foreground pixels of each image correct, and the errors after it.

    Counts of decompositions on the host are NumPy int64, and shares float64; under jit int32 and float32.

    Example:
        >>> confusion = np.array([[9, 0, 0], [0, 2, 6], [0, 0, 0]])  # Rows: background, kidney left, kidney right.
        >>> best = relabelling(Decomposition(confusion, np.zeros(())), Anatomy(mirror=((1, 2),)))
        >>> print(best.renaming, best.mended, best.flip, round(best.mended_share, 3))
        1 4 0.25 0.667
    """

    renaming: Array
    """(...) index of the renaming in `Anatomy.renamings`; 0, no renaming, wins a draw."""
    mended: Array
    """(...) flipped pixels that become correct, minus correct pixels that become flipped."""
    flipped: Array
    """(...) flipped pixels before."""
    flip: Array
    """(...) Flip after the renaming; NaN without true foreground."""
    mean_dice: Array
    """(...) mean Dice after the renaming, over the foreground classes in truth or prediction; NaN if there is none."""

    @property
    def mended_share(self) -> Array:
        """Share (...) of the flips that the renaming mends; NaN without flips."""
        return _share(self.mended, self.flipped)


def relabelling(decomposition: Decomposition, anatomy: Anatomy) -> Relabelling:
    """Chooses for each image the one of `Anatomy.renamings` that makes most foreground pixels correct.

    Predicted classes are renamed: all mirror pairs at once, or one chain by some places. Classes shifted past the end
    of the chain, or into a gap, keep their name. A renaming of -1 mends labels that are shifted by +1. Works under jit
    and vmap.

    Args:
        decomposition: as in `flip_kinds`.
        anatomy: of foreground classes.

    Raises:
        ValueError: as in `flip_kinds`.

    Example:
        >>> confusion = np.array([[9, 0, 0, 0], [0, 0, 6, 0], [0, 0, 0, 3], [0, 0, 0, 1]])
        >>> anatomy = Anatomy(chains=((1, 2, 3),))
        >>> best = relabelling(Decomposition(confusion, np.zeros(())), anatomy)
        >>> anatomy.renamings[best.renaming].describe(["background", "L1", "L2", "L3"])
        'shift of L1..L3 by -1'
        >>> print(best.mended, best.flipped, best.flip, round(best.mean_dice, 4))
        8 9 0.1 0.619
    """
    confusion = numpy_if_on_host(decomposition.confusion)
    _check_anatomy(anatomy, decomposition)
    xp = confusion.__array_namespace__()
    gains = xp.stack([_gain(confusion, renaming) for renaming in anatomy.renamings], axis=-1)
    renaming = gains.argmax(-1)
    mended = gains.max(-1)
    flip = pixel_ratios(confusion, background=decomposition.background).flip
    flip_after = _share(flip.part - mended, flip.whole)
    inside = is_foreground(confusion.shape[-1], decomposition.background)
    sources = xp.asarray(_source_table(anatomy, len(inside)))[renaming]
    mean_dice = _renamed_dice(confusion, sources, inside)
    return Relabelling(renaming, mended, flipped=flip.part, flip=flip_after, mean_dice=mean_dice)


def _step_table(anatomy: Anatomy, classes: int) -> np.ndarray:
    """Returns the number of places along a chain from the true to the predicted class, (C, C).

    It is 0 for mirror images, and for classes that are in no chain together.
    """
    steps = np.zeros((classes, classes), np.int64)
    for chain in anatomy.chains:
        for step in anatomy.steps:
            for c, other in moves_along(chain, step):
                steps[c, other] = step
    for c, other in anatomy.mirror:
        steps[c, other] = 0
        steps[other, c] = 0
    return steps


def _source_table(anatomy: Anatomy, classes: int) -> np.ndarray:
    """Returns the predictions that become each class under each renaming, int (renamings, C, 2); -1 for none."""
    table = np.full((len(anatomy.renamings), classes, 2), -1)
    for number, renaming in enumerate(anatomy.renamings):
        renamed = np.arange(classes)
        for c, other in renaming.moves:
            renamed[c] = other
        for c in range(classes):
            # At most two: the class that moves here, and the class itself if it keeps its name.
            sources = np.flatnonzero(renamed == c)
            table[number, c, : len(sources)] = sources
    return table


def _both_ways(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Returns the true and the predicted class of each pair, in both directions: int (2, 2 * pairs)."""
    directed = [*pairs, *((right, left) for left, right in pairs)]
    # Reshaped, because an array of no pairs would lack the axis of two.
    return np.array(directed, int).reshape(-1, 2).T


def _share(part: Array, whole: Array) -> Array:
    """Returns part / whole, NaN where the whole is 0; a scalar instead of an array without axes."""
    return divide(part, whole)[()]


def _check_anatomy(anatomy: Anatomy, decomposition: Decomposition) -> None:
    """Raises ValueError if the anatomy has another number of classes, or a class that is absent or background."""
    C = decomposition.confusion.shape[-1]
    if anatomy.num_classes not in (None, C):
        hint = "name all classes, background included"
        raise ValueError(f"anatomy: expected one of {C} classes, found one of {anatomy.num_classes}; {hint}.")
    background = background_classes(decomposition.background)
    for c in itertools.chain(*anatomy.mirror, *anatomy.chains):
        if c is None:
            # A gap in a chain.
            continue
        if c >= C:
            raise ValueError(f"anatomy: expected classes in 0..{C - 1}, found {c}.")
        if c in background:
            raise ValueError(f"anatomy: expected foreground classes, found {c}, which is background.")


def _gain(confusion: Array, renaming: Renaming) -> Array:
    """Returns how many more pixels (...) are correct after a renaming."""
    # The classes that change and the classes that they become; without moves both are empty.
    before, after = np.array(renaming.moves, int).reshape(-1, 2).T
    return confusion[..., after, before].sum(-1) - confusion[..., before, before].sum(-1)


def _renamed_dice(confusion: Array, sources: Array, inside: np.ndarray) -> Array:
    """Returns the mean Dice (...) of the foreground classes after a renaming.

    Args:
        confusion: (..., C, C).
        sources: int (..., C, 2), the predictions that become each class, from `_source_table`; -1 for none.
        inside: bool (C,), whether each class is foreground.
    """
    xp = confusion.__array_namespace__()
    counts = margins(confusion)
    is_source = sources >= 0
    columns = xp.maximum(sources, 0)
    same = xp.where(is_source, xp.take_along_axis(confusion, columns, axis=-1), 0).sum(-1)
    predicted = xp.take_along_axis(counts.predicted[..., None, :], columns, axis=-1)
    predicted = xp.where(is_source, predicted, 0).sum(-1)
    sizes = counts.truth + predicted
    present = (sizes > 0) & inside
    dice = divide(2 * same, sizes)
    return _share(dice.sum(-1, where=present), present.sum(-1))
