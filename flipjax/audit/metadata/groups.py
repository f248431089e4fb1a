"""Reads the groups of images from a column of their table, from their classes and scenes, or from their names.

`read_groups` takes the value of `--groups` and returns `ImageGroups` in one of two ways:

- `_by_class_and_scene`, from the columns class and scene: the most frequent scene of a class is its common one, or that
  of the column usual;
- `_by_name`, from any other texts: names of groups.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.audit.formats.problems import AuditError
from flipjax.audit.metadata.image_groups import ImageGroups
from flipjax.audit.metadata.user_tables import match_names
from flipjax.config.groups import Groups, NamedGroups
from flipjax.support.terminal import listed

CLASS_AND_SCENE = ("class", "scene")
"""Columns whose values make the groups of a class in a scene."""
BOTH_COLUMNS = ",".join(CLASS_AND_SCENE)
"""The value of `--groups` that names both."""
USUAL = "usual"
"""Column of the scene that training showed most with an image's class."""
NO_GROUP = "no group"
"""The group of images whose cell is empty."""


def read_groups(
    selector: str | None,
    names: Sequence[str],
    *,
    foreground: Sequence[str] | None,
    table: pd.DataFrame | None = None,
) -> ImageGroups:
    """Returns the group of each image.

    Args:
        selector: the value of `--groups`: a column of the table; BOTH_COLUMNS; or a regular expression that matches the
            group in a name. None for no groups.
        names: the images' names, in order.
        foreground: the names of the F foreground classes. None if these names are not yet known: groups are then not
            checked against them.
        table: the images' rows, of `flipjax.audit.metadata.user_tables.read_user_tables`.

    Raises:
        AuditError: images have no group, or classes or groups are unknown.
    """
    if selector is None:
        return ImageGroups(numbers=None)
    columns = None
    if table is not None:
        columns = [*map(str, table)]
        # Without both columns in a table the text is an expression like any other; if it matches no name, the error
        # lists the table's columns.
        if selector == BOTH_COLUMNS and {*CLASS_AND_SCENE} <= {*columns}:
            return _by_class_and_scene(table, foreground)
        if selector in columns:
            return _by_name(table[selector], column=selector)
    if str(selector).lower().endswith(".csv") or Path(selector).is_file():
        advice = f"pass --table {selector} --groups COLUMN"
        raise AuditError(f"--groups: expected a column or a regular expression, found a file; {advice}")
    return _by_name(pd.Series(match_names(selector, names, option="--groups", columns=columns), list(names), dtype=str))


@dataclasses.dataclass(frozen=True)
class _Scenes:
    """The scenes of F foreground classes."""

    class_names: tuple[str, ...]
    """The names of the foreground classes, in order."""
    scene_names: tuple[str, ...]
    """The names of the S scenes, in order."""
    usual: tuple[tuple[int, ...], ...]
    """The number of the common scene of each class, as `Groups.usual` takes it; none for a class without one."""
    source: str
    """What says which scenes are common, in words."""


def _by_class_and_scene(image_rows: pd.DataFrame, foreground: Sequence[str] | None) -> ImageGroups:
    """Returns F x S groups, of which a class's usual scene makes the common one.

    A class without a usual scene has no common or rare group. Where no class has one, or there is one scene, groups are
    names, `CLASS in SCENE`.
    """
    without = image_rows.index[(image_rows[[*CLASS_AND_SCENE]] == "").any(axis=1)]
    if len(without):
        raise AuditError(f"--groups: expected a class and a scene for each image, found none for {listed(without)}")
    scenes = _read_scenes(image_rows, foreground)
    if any(scenes.usual) and len(scenes.scene_names) > 1:
        groups = _common_and_rare(image_rows, scenes)
    else:
        groups = _by_name(image_rows["class"] + " in " + image_rows["scene"])
    columns = {name: image_rows[name].tolist() for name in CLASS_AND_SCENE}
    return dataclasses.replace(groups, columns=columns, fact=_fact_on_scenes(image_rows, scenes))


def _read_scenes(image_rows: pd.DataFrame, foreground: Sequence[str] | None) -> _Scenes:
    """Returns the scenes of the foreground classes: usual are those of the column `usual`, or the most frequent ones.

    Raises:
        AuditError: an image's class is not in the foreground, or a class has several usual scenes.
    """
    # Without the names of the foreground classes, those of the images are taken. A class that is in no image then has
    # no groups.
    class_names = foreground
    if class_names is None:
        class_names = sorted({*image_rows["class"]})
    unknown = [f"{name} ({text[:40]})" for name, text in image_rows["class"].items() if text not in class_names]
    if unknown:
        raise AuditError(f"--groups: expected classes of {', '.join(class_names)}, found others, {listed(unknown)}")
    if USUAL in image_rows:
        usual_of_class = _usual_of_classes(image_rows)
        # The scene that is common in training may be in no image.
        scene_names = sorted({*image_rows["scene"], *usual_of_class.values()})
        usual: list[tuple[int, ...]] = []
        for name in class_names:
            if name in usual_of_class:
                usual.append((scene_names.index(usual_of_class[name]),))
            else:
                usual.append(())
        return _Scenes(tuple(class_names), tuple(scene_names), tuple(usual), f"by the column {USUAL}")
    scene_names = sorted({*image_rows["scene"]})
    counts = pd.crosstab(image_rows["class"], image_rows["scene"])
    image_counts = counts.reindex(index=list(class_names), columns=scene_names, fill_value=0).to_numpy()
    usual = [_most_frequent(counts_of_class) for counts_of_class in image_counts]
    return _Scenes(tuple(class_names), tuple(scene_names), tuple(usual), "most frequent in the images")


def _usual_of_classes(image_rows: pd.DataFrame) -> dict[str, str]:
    """Returns the usual scene of each class by the column `usual`; empty cells say nothing."""
    usual: dict[str, str] = {}
    for class_name, scenes in image_rows.groupby("class")[USUAL]:
        named = sorted({*scenes} - {""})
        if len(named) > 1:
            raise AuditError(f"--groups: expected one usual scene of {class_name}, found {listed(named)}")
        usual.update({str(class_name): scene for scene in named})
    return usual


def _common_and_rare(image_rows: pd.DataFrame, scenes: _Scenes) -> ImageGroups:
    """Returns the group of each image among F x S groups, of which the usual scenes make the common ones."""
    if len(scenes.class_names) < 2:
        raise AuditError(
            f"--groups: expected two classes or more in the foreground, found {listed(scenes.class_names)}"
        )
    all_groups = Groups(len(scenes.class_names), len(scenes.scene_names), scenes.usual, partial=True)
    class_of_image = pd.Index(scenes.class_names).get_indexer(pd.Index(image_rows["class"]))
    scene_of_image = pd.Index(scenes.scene_names).get_indexer(pd.Index(image_rows["scene"]))
    numbers = all_groups.of(class_of_image, scene_of_image)
    return ImageGroups(numbers=numbers, all_groups=all_groups, scene_names=scenes.scene_names)


def _fact_on_scenes(image_rows: pd.DataFrame, scenes: _Scenes) -> str:
    """Returns sentences on the common scene of each class, and on the images' classes that have none."""
    pairs = []
    without = []
    for name, usual in zip(scenes.class_names, scenes.usual, strict=True):
        if usual:
            pairs.append(f"{name} in {scenes.scene_names[usual[0]]}")
        elif name in set(image_rows["class"]):
            without.append(name)
    fact = f"Common, {scenes.source}: {listed(pairs)}."
    if without:
        fact += f" Without one usual scene, so neither common nor rare: {', '.join(sorted(without))}."
    return fact


def _most_frequent(scene_counts: np.ndarray) -> tuple[int, ...]:
    """Returns the number of a class's most frequent scene; none if several are as frequent, or all counts are 0."""
    most_frequent = np.flatnonzero((scene_counts == scene_counts.max()) & (scene_counts > 0))
    if len(most_frequent) != 1:
        return ()
    return (int(most_frequent[0]),)


def _by_name(texts: pd.Series, *, column: str = "") -> ImageGroups:
    """Returns groups that have the texts as names: images with the same text are one group.

    Args:
        texts: one an image, with the images' names as index.
        column: that holds them, whose empty cells are the group `NO_GROUP`.
    """
    without = texts.index[texts == ""]
    facts = []
    if len(without) and not column:
        raise AuditError(f"--groups: expected a group for each image, found none for {listed(without)}")
    if len(without):
        facts.append(f"{len(without)} images have an empty cell in {column}: {NO_GROUP!r}, such as {without[0]}.")
        texts = texts.replace("", NO_GROUP)
    # Summary keys join group names with slashes.
    group_names = texts.str.split().str.join(" ").str.replace("/", "_")
    # Texts that differ only in what was replaced, blanks and slashes, would silently become one group.
    spellings_of_name = texts.groupby(group_names).nunique()
    ambiguous_names = spellings_of_name.index[spellings_of_name > 1]
    if len(ambiguous_names):
        spellings = sorted(texts[group_names.isin(ambiguous_names)].unique())
        found = listed(map(repr, spellings))
        raise AuditError(f"--groups: expected names that differ in more than spaces, / and _; found {found}")
    numbers, present = pd.factorize(group_names, sort=True)
    alike = alike_but_for_case(present)
    if alike:
        facts.append(f"Groups whose names differ in case alone: {listed(alike)}.")
    all_groups = NamedGroups(tuple(present))
    return ImageGroups(numbers=numbers.astype(np.int64), all_groups=all_groups, fact=" ".join(facts))


def alike_but_for_case(names: Collection[str]) -> list[str]:
    """Returns the names that differ from another one in case alone.

    Example:
        >>> alike_but_for_case(["SCANNER_2", "scanner_1", "scanner_2"])
        ['SCANNER_2', 'scanner_2']
    """
    spellings = defaultdict[str, list[str]](list)
    for name in names:
        spellings[name.casefold()].append(name)
    return [name for alike in spellings.values() if len(alike) > 1 for name in alike]


def fact_on_absent_classes(
    groups: ImageGroups, names: Sequence[str], labels: np.ndarray, class_names: Sequence[str]
) -> str:
    """Returns a sentence on images whose labels lack the class that their row names, or nothing.

    Args:
        groups: of n images, with their class.
        names: of the images.
        labels: their labelled pixels by class, (n, C).
        class_names: of all C classes.
    """
    if "class" not in groups.columns:
        return ""
    absent = []
    for name, class_name, pixels in zip(names, groups.columns["class"], labels, strict=True):
        if not pixels[list(class_names).index(class_name)]:
            absent.append(f"{name} ({class_name})")
    if not absent:
        return ""
    return f"{len(absent)} images whose labels have no pixel of the class that their row names: {listed(absent)}."
