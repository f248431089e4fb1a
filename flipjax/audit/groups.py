"""The groups of the images: a CSV with the columns name and group, or name, class and scene."""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flipjax.audit.arrays import AuditError, listed
from flipjax.audit.read import check_names
from flipjax.files import csv_rows
from flipjax.groups import TWO_BY_TWO, Groups, NamedGroups

INTEGER = re.compile(r"\s*-?\d{1,18}\s*")
"""Of 64 bits; to int, 1_0 is ten, too."""
FORM = "a CSV with the columns name and group"
OR = "; or name, class and scene, or name and one other"
TRAINING = "a CSV with the columns class and scene, a row a training image or with their number in the column images"


class ImageGroups(NamedTuple):
    """The groups int64 (n,) of images, what they number, the names of scenes, further texts, and what was found."""

    numbers: np.ndarray
    all_groups: Groups | NamedGroups | None
    scene_names: tuple[str, ...] = ()
    columns: Mapping[str, Sequence[str]] = {}
    fact: str = ""


def read_groups(
    path: Path, names: Sequence[str], *, foreground: Sequence[str], positional: bool, training: Path | None = None
) -> tuple[ImageGroups, list[str]]:
    """Reads the group of each image.

    A name may be written with its file's ending or folders. For images that are known by position, names are positions
    from 0; or, where the table has other names and a row for each image, its rows are in the images' order and their
    names become the images'.

    Args:
        path: of the table.
        names: the images' names, in order.
        foreground: the names of the F foreground classes. Of two, integer groups are 0..3 (2 * class + scene).
        positional: whether the names are mere positions.
        training: a table of training images by class and scene: a class's scene that most of them show is common.
            None: that of the images themselves.

    Returns:
        The groups, and the images' names.

    Raises:
        AuditError: not such a table, images without a group, classes that are none, or groups out of range.
    """
    rows = _rows(path)
    known = set(names)
    places = {name: str(int(name)) for name in rows if positional and name.isdecimal() and INTEGER.fullmatch(name)}
    stems = {name: name if name in known else Path(name).stem for name in rows}
    images = [places.get(name, stems[name]) for name in rows]
    if positional and len(rows) == len(names) and len({*places.values()}) == len(places) and set(images) != known:
        images = names = list(check_names(path, rows))
    check_names(path, images)
    missing = [name for name in names if name not in set(images)]
    strangers = [name for name, image in zip(rows, images, strict=True) if image not in set(names)]
    if missing or strangers:
        found = [f"none for {listed(missing)}"] if missing else []
        found += [f"rows that name none, {listed(strangers)}"] if strangers else []
        raise AuditError(f"{path}: expected a group for each image; found {'; '.join(found)}")
    texts = dict(zip(images, rows.values(), strict=True))
    ordered = [texts[name] for name in names]
    if {"class", "scene"} <= set(ordered[0]):
        if training is None:
            told, where = Counter((row["class"], row["scene"]) for row in ordered), path
        else:
            told, where = _training_counts(training), training
        return _of_scenes(path, dict(zip(names, ordered, strict=True)), foreground, told, where), list(names)
    (column,) = ordered[0]
    if training is not None:
        raise AuditError(f"--training_groups: expected the columns class and scene in {path}, found {column}")
    values = {name: row[column] for name, row in zip(names, ordered, strict=True)}
    return _of_column(path, values, column, two=len(foreground) == 2), list(names)


def _of_scenes(
    path: Path,
    rows: Mapping[str, Mapping[str, str]],
    foreground: Sequence[str],
    told: Mapping[tuple[str, str], int],
    where: Path,
) -> ImageGroups:
    """Returns F x S groups; of classes whose most frequent scene is not known, groups without a common side."""
    wrong = [f"{name} ({row['class'][:40]})" for name, row in rows.items() if row["class"] not in foreground]
    if wrong:
        raise AuditError(f"{path}: expected classes of {', '.join(foreground)}, found others, {listed(wrong)}")
    scenes = sorted({row["scene"] for row in rows.values()} | {scene for _, scene in told})
    columns = {name: [row[name] for row in rows.values()] for name in ("class", "scene")}
    counts = np.array([[told.get((name, scene), 0) for scene in scenes] for name in foreground])
    ties = (counts == counts.max(1, keepdims=True)).sum(1) > 1
    if ties.any() or len(scenes) < 2:
        named = [f"{row['class']} in {row['scene']}" for row in rows.values()]
        unsure = ", ".join(np.array(foreground)[ties])
        fact = f"Groups have no common side: no scene is the most frequent of {unsure} in {where} (--training_groups)."
        return _by_name(named)._replace(columns=columns, fact=fact)
    usual = counts.argmax(1).tolist()
    all_groups = Groups(len(foreground), len(scenes), tuple((scene,) for scene in usual), partial=True)
    places = [(foreground.index(row["class"]), scenes.index(row["scene"])) for row in rows.values()]
    numbers = np.array([all_groups.of(*place) for place in places], np.int64)
    pairs = ", ".join(f"{name} in {scenes[s]}" for name, s in zip(foreground[:10], usual, strict=False))
    fact = f"Common, most frequent in {where}: {pairs}{', ...' * (len(foreground) > 10)}."
    return ImageGroups(numbers, all_groups, tuple(scenes), columns, fact)


def _of_column(path: Path, values: Mapping[str, str], column: str, *, two: bool) -> ImageGroups:
    other = [f"{name} ({text[:40]})" for name, text in values.items() if not INTEGER.fullmatch(text)]
    if column != "group" or len(other) == len(values):
        return _by_name(list(values.values()))
    if other:
        raise AuditError(f"{path}: expected integer groups, found others, {listed(other)}")
    numbers = np.array([int(text) for text in values.values()], np.int64)
    if two and not set(numbers.tolist()) <= set(range(TWO_BY_TWO.count)):
        found = listed(sorted(set(numbers.tolist())))
        raise AuditError(f"{path}: expected groups 0..3 (2 * class + scene) for two foreground classes, found {found}")
    return ImageGroups(numbers, TWO_BY_TWO if two else None)


def _by_name(texts: Sequence[str]) -> ImageGroups:
    # Keys of the summary are made of groups' names and of slashes.
    names = [text.strip().replace("/", "_") for text in texts]
    present = sorted(set(names))
    return ImageGroups(np.array([present.index(name) for name in names], np.int64), NamedGroups(tuple(present)))


def _training_counts(path: Path) -> Counter[tuple[str, str]]:
    """Returns the training images of each class and scene."""
    told: Counter[tuple[str, str]] = Counter()
    for row in _table(path, TRAINING):
        if not {"class", "scene"} <= set(row) or not INTEGER.fullmatch(row.get("images", "1")):
            raise AuditError(f"{path}: expected {TRAINING}, found {', '.join(map(str, row))}")
        told[row["class"], row["scene"]] += int(row.get("images", "1"))
    return told


def _rows(path: Path) -> dict[str, dict[str, str]]:
    """Returns what says the group of each image, by the name in its row."""
    table = _table(path, FORM)
    columns = list(table[0]) if table else []
    others = [name for name in columns if name != "name"]
    for used in (["class", "scene"], ["group"], others[:1] if len(others) == 1 else ["group"]):
        if {"name", *used} <= set(columns):
            check_names(path, [row["name"] for row in table])
            return {row["name"]: {name: row[name] for name in used} for row in table}
    raise AuditError(f"{path}: expected {FORM}, found {', '.join(map(str, columns)) if table else 'no row'}{OR}")


def _table(path: Path, form: str) -> list[dict[str, str]]:
    if not path.is_file():
        raise AuditError(f"{path}: expected {form}, found no file there")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return [row for _, row in csv_rows(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AuditError(f"{path}: expected {form} ({error})") from error
