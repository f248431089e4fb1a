"""A user's table of images, a row an image, and texts that a regular expression finds in the images' names."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath

import pandas as pd

from flipjax.audit.label_maps import read_table
from flipjax.audit.names import check_names, stem_of
from flipjax.audit.problems import AuditError
from flipjax.support.terminal import listed

NAME = "name"
"""The column of image names."""


def read_image_rows(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """Returns the rows of a CSV with the column `name`, one an image and in their order.

    Names in the table may include file endings or folders.

    Raises:
        AuditError: the table has no column `name`, repeats an image, lacks one, or has one that is not audited.
    """
    table = pd.DataFrame(read_table(path))
    if NAME not in table:
        columns = ", ".join(map(str, table)) or "no row"
        raise AuditError(f"{path}: expected a CSV with the column {NAME} and columns of the images, found {columns}")
    audited = {*names}
    named = check_names(path, [_resolved(name, audited) for name in table[NAME]])
    if audited != {*named}:
        lacking = _listed_or_none(audited.difference(named))
        of_no_image = _listed_or_none({*named} - audited)
        raise AuditError(f"{path}: expected a group for each image; lacking are {lacking}, of no image {of_no_image}")
    return table.set_index(pd.Index(named)).loc[list(names)]


def _listed_or_none(names: Collection[str]) -> str:
    """Returns names in order, or `none`."""
    if not names:
        return "none"
    return listed(sorted(names))


def _resolved(name: str, audited: Collection[str]) -> str:
    """Returns the image that a table means: by its name, by a path, or by the last part of a path."""
    path = PurePath(name)
    for candidate in (name, stem_of(path)):
        if candidate in audited:
            return candidate
    return stem_of(PurePath(path.name))


def match_names(pattern: str, names: Sequence[str], *, option: str, table: pd.DataFrame | None = None) -> list[str]:
    """Returns the first group, or the whole match, of a regular expression in each name.

    Args:
        pattern: the expression.
        names: of the images.
        option: that gave the expression.
        table: the images' rows, whose columns an error names.

    Raises:
        AuditError: the expression is invalid, or does not match some names.

    Example:
        >>> match_names("[a-z]+", ["rome_01", "paris_02"], option="--groups")
        ['rome', 'paris']
    """
    if table is None:
        expected = "a CSV or a column of it, or a regular expression that is found in each image's name"
    else:
        columns = ", ".join(column for column in map(str, table) if column != NAME) or "none"
        expected = f"a column of the table ({columns}), or a regular expression found in each image's name"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise AuditError(f"{option}: expected {expected}; found {pattern!r} ({error})") from error
    # 0 is the whole match, 1 the first group.
    group = min(1, compiled.groups)
    matches = []
    without_match = []
    for name in names:
        match = compiled.search(name)
        if match is None:
            without_match.append(name)
        else:
            matches.append(match[group] or "")
    if without_match:
        raise AuditError(f"{option}: expected {expected}; {pattern!r} is not in {listed(without_match)}")
    return matches
