"""The names of the classes, as summaries, tables and figures write them."""

from __future__ import annotations

from collections.abc import Sequence


def class_names(names: Sequence[str] | None, *, classes: int, background: int = 0) -> tuple[str, ...]:
    """Returns the names of all classes: those given, with the background's added where it lacks.

    Args:
        names: of all classes, or of the foreground classes alone; None: `background`, `class1`, ...
        classes: their number.
        background: the class that is background.

    Raises:
        ValueError: another number of names, names that are not different, or `foreground` or `mean`, which stand
            for all foreground classes together.

    Example:
        >>> class_names(["cat", "dog"], classes=3)
        ('background', 'cat', 'dog')
        >>> class_names(None, classes=3, background=2)
        ('class0', 'class1', 'background')
    """
    if names is None:
        return tuple("background" if c == background else f"class{c}" for c in range(classes))
    full = tuple(names)
    if len(full) == classes - 1:
        full = (*full[:background], "background", *full[background:])
    if len(full) != classes or len(set(full)) != classes or {"foreground", "mean"} & set(full):
        raise ValueError(
            f"class_names: expected {classes} different names, or {classes - 1} without the background's, none of "
            f"them 'foreground' or 'mean' (iou/foreground, gap/mean), found {names!r}."
        )
    return full
