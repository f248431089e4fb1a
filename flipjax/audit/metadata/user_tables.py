"""Reads a user's tables, with a row for each image or patient, and finds texts in images' names by an expression."""

import dataclasses
import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath

import pandas as pd

from flipjax.audit.formats.names import check_names, stem_of
from flipjax.audit.formats.problems import AuditError, open_table
from flipjax.support.tables import CsvTable
from flipjax.support.terminal import listed

NAME = "name"
"""The column of image names."""


def read_user_tables(
    paths: Sequence[Path], names: Sequence[str], *, clusters: str | None = None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the columns of all tables, a row of texts for each image, and sentences on rows of other images.

    The first table has the column `name`, with names that may include file endings or folders, or it has a row for each
    patient. Further ones have a row for each patient. `clusters` says which patient an image shows.

    Args:
        paths: of the tables.
        names: of the images, in order; the index of the rows.
        clusters: the value of `--clusters`: a column of patients, or an expression that finds them in names.

    Raises:
        AuditError: a table has no such column, repeats an image or a patient, or lacks one.
    """
    of_images = pd.DataFrame(index=pd.Index(names))
    facts: list[str] = []
    for number, path in enumerate(paths):
        table = open_table(path)
        if number == 0 and table.column(NAME) is not None:
            by_name = table.renamed([NAME])
            keyed = _KeyedTable(path, by_name, _image_keys(by_name, names), "image")
            keys_of_images = list(names)
        else:
            keyed, keys_of_images = _by_patient(path, table, names, of_images, clusters)
        rows = keyed.rows_of(keys_of_images)
        facts += keyed.facts(keys_of_images)
        again = [column for column in rows if column in of_images and column != clusters]
        if again:
            raise AuditError(f"{path}: expected other columns than those of {paths[0]}, found {listed(again)} again")
        new = [column for column in rows if column not in of_images]
        of_images = pd.concat([of_images, rows[new].set_index(of_images.index)], axis=1)
    return of_images, tuple(facts)


@dataclasses.dataclass(frozen=True)
class _KeyedTable:
    """A table, with the image or patient that each row describes."""

    path: Path
    """The table's file."""
    table: CsvTable
    """The table's rows."""
    keys: Sequence[str]
    """The image or patient of each row."""
    noun: str
    """`image` or `patient`."""

    def rows_of(self, keys: Sequence[str]) -> pd.DataFrame:
        """Returns the row of each key, in their order.

        Raises:
            AuditError: a key has no row, or several.
        """
        asked = {*keys}
        check_names(self.path, [key for key in self.keys if key in asked])
        lacking = asked.difference(self.keys)
        if lacking:
            others = _listed_or_none({*self.keys} - asked)
            raise AuditError(
                f"{self.path}: expected a row for each {self.noun}, found none for {listed(sorted(lacking))}; rows of "
                f"no {self.noun} of this audit: {others}"
            )
        frame = pd.DataFrame([row.cells for row in self.table.rows], columns=list(self.table.columns), dtype=str)
        return frame.set_index(pd.Index(self.keys)).loc[list(keys)]

    def facts(self, keys: Collection[str]) -> list[str]:
        """Returns a sentence on rows of other images or patients, if there are any."""
        others = sorted({*self.keys}.difference(keys))
        if not others:
            return []
        return [f"Left out of {self.path}: {len(others)} rows of other {self.noun}s, such as {others[0]}."]


def _listed_or_none(names: Collection[str]) -> str:
    """Returns names in order, or `none`."""
    if not names:
        return "none"
    return listed(sorted(names))


def _image_keys(table: CsvTable, names: Sequence[str]) -> list[str]:
    """Returns the image that each row means: by its name, by a path, or by the last part of a path."""
    audited = {*names}
    return [_resolved(row.cells[NAME], audited) for row in table.rows]


def _resolved(name: str, audited: Collection[str]) -> str:
    """Returns the image that a name in a table means, or its last part."""
    name = unicodedata.normalize("NFC", name)
    path = PurePath(name.replace("\\", "/"))
    for candidate in (name, stem_of(path)):
        if candidate in audited:
            return candidate
    return stem_of(PurePath(path.name))


def _by_patient(
    path: Path, table: CsvTable, names: Sequence[str], of_images: pd.DataFrame, clusters: str | None
) -> tuple[_KeyedTable, list[str]]:
    """Returns a table with a row for each patient, and the patient that each image shows.

    Raises:
        AuditError: `clusters` does not say which patient a row describes or an image shows.
    """
    columns = "no row"
    if table.columns:
        columns = listed(table.columns)
    expected = f"{path}: expected a CSV with the column {NAME} and columns of the images"
    if clusters is None:
        raise AuditError(f"{expected}, or with one row for each patient beside --clusters, found {columns}")
    if clusters in of_images:
        patients = of_images[clusters].tolist()
    elif clusters in table.columns:
        patients = _patients_in_names(path, [row.cells[clusters] for row in table.rows], names, clusters)
    else:
        patients = match_names(clusters, names, option="--clusters", columns=table.columns)
    column = clusters
    if column not in table.columns:
        column = _column_of(path, table, patients)
    keys = [row.cells[column] for row in table.rows]
    return _KeyedTable(path, table, keys, "patient"), patients


def _patients_in_names(path: Path, patients: Sequence[str], names: Sequence[str], column: str) -> list[str]:
    """Returns the patient of each image, whose name holds one as a whole word.

    Raises:
        AuditError: patients are numbers, which names hold for other reasons, too; or a name holds none, or several.
    """
    known = {*patients}
    advice = "pass --clusters REGEX, whose first group finds the patient in a name"
    if any(patient.isdigit() for patient in known):
        problem = f"the patients of {column} are numbers, which may stand for others in names"
        raise AuditError(
            f"{path}: expected a CSV with the column {NAME}, or one row for each patient; {problem}; {advice}"
        )
    patient_of_image = []
    for name in names:
        spans = [match.span() for match in re.finditer(r"[^\W_]+", name)]
        words = {name[start:end] for start, _ in spans for _, end in spans if start < end}
        of_name = sorted(words & known)
        if len(of_name) != 1:
            expected = f"expected a CSV with the column {NAME}, or one patient of {column} in each image's name"
            raise AuditError(f"{path}: {expected}; found {_listed_or_none(of_name)} in {name}; {advice}")
        patient_of_image += of_name
    return patient_of_image


def _column_of(path: Path, table: CsvTable, patients: Sequence[str]) -> str:
    """Returns the column that holds all patients, each once; raises AuditError without one, or with several."""
    asked = {*patients}
    columns = []
    for column in table.columns:
        cells = [row.cells[column] for row in table.rows]
        if asked <= {*cells} and len({*cells}) == len(cells):
            columns.append(column)
    if len(columns) != 1:
        shown = listed(sorted(asked))
        raise AuditError(
            f"{path}: expected one column of patients, a row each, which holds {shown} of --clusters; found "
            f"{_listed_or_none(columns)} among {listed(table.columns)}"
        )
    return columns[0]


def match_names(pattern: str, names: Sequence[str], *, option: str, columns: Sequence[str] | None = None) -> list[str]:
    """Returns the first group, or the whole match, of a regular expression in each name.

    Args:
        pattern: the expression.
        names: of the images.
        option: that gave the expression.
        columns: of the images' table, which an error names.

    Raises:
        AuditError: the expression is invalid, or does not match some names.

    Example:
        >>> match_names("[a-z]+", ["rome_01", "paris_02"], option="--groups")
        ['rome', 'paris']
    """
    if columns is None:
        expected = "a column of --table, or a regular expression that is found in each image's name"
    else:
        shown = ", ".join(column for column in columns if column != NAME) or "none"
        expected = f"a column of the table ({shown}), or a regular expression found in each image's name"
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
