"""Errors of an audit: what a user can mend, in one sentence, and lists of broken files."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from flipjax.support.tables import CsvTable, TableError, read_table

LISTED = 10
"""Broken files that an error names. In a folder of the wrong kind each file would say the same."""


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
    except Exception as error:  # Decoders raise errors of many types on damaged files.
        cause = f"{type(error).__name__}: {error}"
        text = f"{name}: damaged, of another type than its name says, or unreadable ({cause})"
        raise BrokenFileError(text) from error


def raise_broken(broken: Sequence[BrokenFileError]) -> None:
    """Raises one error that lists the broken files, if there are any, and counts those after the first ten.

    Example:
        >>> raise_broken([BrokenFileError("a.png: empty"), BrokenFileError("b.png: empty")])
        Traceback (most recent call last):
        flipjax.audit.formats.problems.AuditError: 2 broken files: a.png: empty; b.png: empty
    """
    if len(broken) == 1:
        raise broken[0]
    if broken:
        text = "; ".join(map(str, broken[:LISTED]))
        if len(broken) > LISTED:
            text += f"; and {len(broken) - LISTED} more"
        raise AuditError(f"{len(broken)} broken files: {text}")


def open_table(path: Path) -> CsvTable:
    """Reads a CSV of a user; raises BrokenFileError if it is no table."""
    try:
        return read_table(path)
    except (TableError, OSError) as error:
        raise BrokenFileError(f"{path}: {error}") from error
