"""Errors of an audit: what a user can mend, in one sentence, and lists of broken files."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flipjax.audit.pairs import Pair

OPTIONS = ("background", "class_names", "ignore_index", "min_size", "num_classes", "spacing")
"""Arguments of metrics and of `stream` that are options of the command."""
LISTED = 10
"""Broken files that an error names; of a whole folder of the wrong kind, each would say the same."""


class AuditError(ValueError):
    """Unusable input or option. The message names it, with the expected and the found value."""

    exit_code = 2


class BrokenFileError(AuditError):
    """One file that cannot be used. An audit looks at the other files, too, before it ends with a list of them."""


@contextlib.contextmanager
def naming(name: object) -> Iterator[None]:
    """Converts errors of damaged files to a BrokenFileError that names the file."""
    try:
        yield
    except (AuditError, ImportError, MemoryError):
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        text = f"{name}: damaged, of another type than its name says, or unreadable ({cause})"
        raise BrokenFileError(text) from error


@contextlib.contextmanager
def in_options(pair: "Pair | None" = None) -> Iterator[None]:
    """Converts a metric's error to an AuditError that names the file and spells arguments as options.

    Args:
        pair: the image whose values are wrong; None where no file is at fault.

    Example:
        >>> with in_options():
        ...     raise ValueError("num_classes: expected 3 classes; pass ignore_index=255.")
        Traceback (most recent call last):
        flipjax.audit.problems.AuditError: --num_classes: expected 3 classes; pass --ignore_index 255
    """
    try:
        yield
    except AuditError:
        raise
    except (TypeError, ValueError) as error:
        name, _, problem = str(error).rstrip(".").replace("background=None", "--background none").partition(": ")
        problem = re.sub(r"\b(kind|ignore_index|num_classes|channels)=['\"]?(\w+)['\"]?", r"--\1 \2", problem)
        if name in OPTIONS:
            raise AuditError(f"--{name}: {problem}") from error
        if pair is None:
            raise AuditError(f"{name}: {problem}") from error
        if name == "labels":
            file = pair.labels
            option = "--label_map"
        else:
            file = pair.prediction
            option = "--prediction_map"
        if "expected class indices" in problem:
            problem += f"; where they are other numbers, {option} maps them to classes"
        raise AuditError(f"{file}: {problem}") from error


def raise_broken(broken: Sequence[BrokenFileError]) -> None:
    """Raises one error that lists the broken files, if there are any, and counts those after the first ten.

    Example:
        >>> raise_broken([BrokenFileError("a.png: empty"), BrokenFileError("b.png: empty")])
        Traceback (most recent call last):
        flipjax.audit.problems.AuditError: 2 broken files: a.png: empty; b.png: empty
    """
    if len(broken) == 1:
        raise broken[0]
    if broken:
        text = "; ".join(map(str, broken[:LISTED]))
        if len(broken) > LISTED:
            text += f"; and {len(broken) - LISTED} more"
        raise AuditError(f"{len(broken)} broken files: {text}")
