"""`LabelSpec`: the classes of labels, the background among them, and class names. NumPy only."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import SupportsIndex, TypedDict

import numpy as np

Background = int | tuple[int, ...] | None
"""One class, several in ascending order, or None if every class is foreground."""
KINDS = ("logits", "probabilities", "masks")
"""What predictions may be."""


CHOICES = {"kind": KINDS, "channels": ("first", "last"), "spatial_ndim": (2, 3)}
"""Values of the fields of `LabelSpec` that have few."""


class ScoreOptions(TypedDict, total=False):
    """The fields of `LabelSpec` that do not say which classes there are, as keywords of a function."""

    background: Background
    ignore_index: int | None
    spatial_ndim: int
    kind: str
    channels: str


class LabelOptions(ScoreOptions, total=False):
    """The fields of `LabelSpec`, without the names of classes, as keywords of a function."""

    num_classes: int | None


@dataclasses.dataclass(frozen=True)
class LabelSpec:
    """Describes predictions and labels. Functions of `flipjax.metrics` take its fields as keywords. Hashable.

    Attributes:
        background: the background class, a tuple of them, or None if every class is foreground: then there is no miss
            or spill, and flip-risk averages over all pixels. Stored as `read_background` returns it.
        ignore_index: label of pixels to leave out; may lie outside 0..C-1.
        spatial_ndim: 2 for images, 3 for volumes.
        kind: of the predictions: `logits`; `probabilities`, a softmax over all classes; or `masks`, class indices.
        channels: `last`, or `first` for (..., C, *spatial) as in PyTorch.
        num_classes: C of masks; None: one more than the largest class found.
        class_names: names of all C classes, or of the foreground classes alone; None: see `class_names`.

    Raises:
        TypeError, ValueError: invalid fields.

    Example:
        >>> LabelSpec(background=[0], kind="masks", num_classes=4).foreground(4).tolist()
        [False, True, True, True]
    """

    background: Background = 0
    ignore_index: int | None = None
    spatial_ndim: int = 2
    kind: str = "logits"
    channels: str = "last"
    num_classes: int | None = None
    class_names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Normalises and checks the fields."""
        object.__setattr__(self, "background", read_background(self.background))
        if self.class_names is not None:
            object.__setattr__(self, "class_names", read_class_names(self.class_names))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                expected = " or ".join(map(repr, choices))
                raise ValueError(f"{name}: expected {expected}, found {getattr(self, name)!r}.")
        # Arrays of one integer have no hash, so they become integers.
        object.__setattr__(self, "ignore_index", _read_integer("ignore_index", self.ignore_index))
        object.__setattr__(self, "num_classes", _read_integer("num_classes", self.num_classes))
        if self.ignore_index is not None and not -(2**31) <= self.ignore_index < 2**31:
            raise ValueError(f"ignore_index: expected an int32, found {self.ignore_index}.")
        if self.num_classes is not None:
            check_background(self.background, self.num_classes)

    @property
    def background_classes(self) -> tuple[int, ...]:
        """The background classes in ascending order."""
        return background_classes(self.background)

    def foreground(self, classes: int) -> np.ndarray:
        """Returns whether each of C classes is foreground: bool (C,)."""
        return is_foreground(classes, self.background)

    def names(self, classes: int) -> tuple[str, ...]:
        """Returns the names of C classes; raises what `class_names` raises."""
        return class_names(self.class_names, classes=classes, background=self.background)

    def settle(self, classes: int, *, earlier: int | None = None) -> tuple[str, ...]:
        """Returns the names of all classes, once a batch shows how many there are.

        Args:
            classes: the number of classes of the batch's predictions.
            earlier: that of an earlier batch; None: no batch was.

        Raises:
            ValueError: another number than `num_classes` or an earlier batch says, or names that do not fit.
        """
        expected = earlier or self.num_classes or classes
        if classes != expected:
            raise ValueError(f"predictions: expected {expected} classes, found {classes}.")
        return self.names(classes)


def _read_integer(name: str, value: SupportsIndex | None) -> int | None:
    """Returns an integer; None stays None."""
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer or None, found {value!r}.") from None


def read_background(background: int | Iterable[int] | None) -> Background:
    """Normalises a background: one class, a tuple of two or more in ascending order, or None for no class.

    Raises:
        TypeError: not a class, classes or None.
        ValueError: a negative class.

    Example:
        >>> read_background([2, 0]), read_background((1,)), read_background(())
        ((0, 2), 1, None)
    """
    classes = background_classes(background)
    if not classes:
        return None
    if len(classes) == 1:
        return classes[0]
    return classes


def background_classes(background: int | Iterable[int] | None) -> tuple[int, ...]:
    """Returns the background classes in ascending order; empty for None.

    Example:
        >>> background_classes(0), background_classes(None)
        ((0,), ())
    """
    if background is None:
        return ()
    if np.iterable(background):
        given = tuple(background)
    else:
        given = (background,)
    classes = set()
    for c in given:
        try:
            classes.add(operator.index(c))
        except TypeError:
            raise TypeError(_not_classes(background)) from None
        if isinstance(c, bool | np.bool_):
            raise TypeError(_not_classes(background))
    if classes and min(classes) < 0:
        raise ValueError(f"background: expected classes from 0 on, found {min(classes)}.")
    if classes and max(classes) >= 1 << 31:
        raise ValueError(f"background: expected classes below 2^31, found {max(classes)}.")
    return tuple(sorted(classes))


def _not_classes(background: object) -> str:
    """Returns the message for a background that is no class, classes or None."""
    return f"background: expected a class, a tuple of classes or None, found {background!r}."


def is_foreground(classes: int, background: int | Iterable[int] | None) -> np.ndarray:
    """Returns whether each of C classes is foreground: bool (C,).

    Example:
        >>> is_foreground(4, (0, 2)).tolist()
        [False, True, False, True]
    """
    return ~np.isin(np.arange(classes), background_classes(background))


def check_background(
    background: int | Iterable[int] | None, classes: int, *, name: str = "num_classes"
) -> tuple[int, ...]:
    """Checks that the background lies in 0..C-1 and leaves at least two foreground classes; returns its classes.

    Args:
        background: a class, classes or None.
        classes: the number of classes, C.
        name: the argument that has C classes, for the message.

    Raises:
        TypeError, ValueError: an invalid background, or too few other classes.
    """
    outside = background_classes(background)
    if outside and outside[-1] >= classes:
        raise ValueError(f"background: expected classes in 0..{classes - 1}, found {outside[-1]}.")
    if classes < len(outside) + 2:
        raise ValueError(f"{name}: expected two classes or more besides background={background}, found {classes}.")
    return outside


def read_class_names(names: object) -> tuple[str, ...]:
    """Returns names of classes in their order.

    Raises:
        ValueError: one text, or what has no order.

    Example:
        >>> read_class_names(["cat", "dog"])
        ('cat', 'dog')
    """
    if isinstance(names, str | Set | Mapping) or not np.iterable(names):
        raise ValueError(f"class_names: expected a sequence of names, found {names!r}.")
    return tuple(names)


def class_names(
    names: Sequence[str] | None, *, classes: int, background: int | Iterable[int] | None = 0
) -> tuple[str, ...]:
    """Returns the names of all classes, adding those of the background if missing.

    Args:
        names: of all classes, or of the foreground classes alone; None: `background`, `class1`, ...
        classes: their number.
        background: the class that is background, several (`background0`, ...) or None.

    Raises:
        ValueError: a wrong number of names, duplicates, or the reserved names `foreground` and `mean`.

    Example:
        >>> class_names(["cat", "dog"], classes=3)
        ('background', 'cat', 'dog')
        >>> class_names(None, classes=3, background=2)
        ('class0', 'class1', 'background')
        >>> class_names(["c", "d"], classes=4, background=(0, 2)), class_names(None, classes=3, background=None)
        (('background0', 'c', 'background2', 'd'), ('class0', 'class1', 'class2'))
    """
    outside = background_classes(background)
    foreground = [c for c in range(classes) if c not in outside]
    if names is None:
        given = tuple(f"class{c}" for c in foreground)
    else:
        given = read_class_names(names)
    if len(given) == len(foreground):
        given = _with_background(given, foreground, outside)
    if len(given) != classes or len(set(given)) != classes or {"foreground", "mean"} & set(given):
        expected = f"{classes} different names"
        if outside:
            expected += f", or {len(foreground)} without the background's"
        raise ValueError(f"class_names: expected {expected}, none of them foreground or mean, found {names!r}.")
    return given


def _with_background(names: Sequence[str], foreground: Sequence[int], outside: Sequence[int]) -> tuple[str, ...]:
    """Returns the names of all classes in order, from those of the foreground classes."""
    name_of = dict(zip(foreground, names, strict=True))
    for c in outside:
        name_of[c] = f"background{c}"
    if len(outside) == 1:
        name_of[outside[0]] = "background"
    return tuple(name_of[c] for c in sorted(name_of))
