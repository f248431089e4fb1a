"""Reads the groups of images from a column of their table, from their classes and scenes, or from their names.

`read_groups` takes what `--groups` says and returns `ImageGroups` in one of three ways: numbers of two classes in two
scenes (`_of_codes`); classes in scenes, whose common scenes are counted (`_of_scenes`); or any names (`_by_name`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.audit.image_table import NAME, match_names
from flipjax.audit.label_maps import read_table
from flipjax.audit.problems import AuditError
from flipjax.groups import TWO_BY_TWO, Groups, NamedGroups
from flipjax.support.terminal import listed

CLASS_AND_SCENE = ("class", "scene")
"""Columns whose values make the groups of a class in a scene."""
TRAINING = "a CSV with the columns class and scene, a row a training image or with their number in the column images"
"""What --training_groups takes, for messages."""
MEANINGS = ("names", "class_scene")
"""What the values of a column of groups are: names, or the numbers 2 * class + scene of two classes and scenes."""
CODES = {"0", "1", "2", "3"}
"""Values of a column of two classes in two scenes."""


@dataclasses.dataclass(frozen=True)
class ImageGroups:
    """The groups of n images."""

    numbers: np.ndarray | None
    """The group of each image, int64 (n,); None without groups."""
    all_groups: Groups | NamedGroups | None = None
    """What the numbers stand for; None: what they do in `flipjax.metrics.summarize`."""
    scene_names: tuple[str, ...] = ()
    """Names of the scenes of `Groups`; empty for other groups."""
    columns: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Columns that images.csv has beside the group, such as `scene`: a text an image."""
    fact: str = ""
    """A sentence for the page on how groups were found, or nothing."""


def read_groups(
    groups: str | None,
    names: Sequence[str],
    *,
    foreground: Sequence[str] | None,
    table: pd.DataFrame | None = None,
    training: Path | None = None,
    meaning: str = "names",
) -> ImageGroups:
    """Returns the group of each image.

    Args:
        groups: a column of the table; `class,scene`; or a regular expression that matches the group in a name; None for
            no groups.
        names: the images' names, in order.
        foreground: the names of the F foreground classes; None if they are not yet known, when they are not checked.
        table: the images' rows, as `flipjax.audit.image_table.read_image_rows` returns them.
        training: a table of training images by class and scene. The most frequent scene of a class is its common one.
            None uses the images themselves.
        meaning: of a column's values: `names`; or `class_scene`, 2 * class + scene of two classes in two scenes.

    Raises:
        AuditError: images have no group, or classes or groups are unknown.
    """
    if meaning not in MEANINGS:
        raise AuditError(f"--groups_are: expected one of {', '.join(MEANINGS)}, found {meaning}")
    if groups is None:
        if training is not None:
            raise AuditError("--training_groups: expected --groups beside it, found none")
        if meaning != MEANINGS[0]:
            raise AuditError("--groups_are: expected --groups beside it, found none")
        return ImageGroups(None)
    if table is not None and groups == ",".join(CLASS_AND_SCENE) and {*CLASS_AND_SCENE} <= {*table}:
        return _of_scenes(table, foreground, training)
    if training is not None:
        raise AuditError(f"--training_groups: expected groups of the columns class and scene, found {groups}")
    if table is not None and groups in table:
        texts = table[groups]
    else:
        texts = pd.Series(match_names(groups, names, option="--groups", table=table), list(names), dtype=object)
    if meaning == "class_scene":
        return _of_codes(groups, texts.str.strip(), foreground)
    return _by_name(texts)


def column_of(path: Path, table: pd.DataFrame) -> str:
    """Returns the groups of a table that `--groups` names without a column.

    Raises:
        AuditError: it has neither class and scene, nor a column group, nor one column beside the names.
    """
    columns = [column for column in map(str, table) if column != NAME]
    if {*CLASS_AND_SCENE} <= {*columns}:
        return ",".join(CLASS_AND_SCENE)
    if len(columns) == 1:
        return columns[0]
    if "group" in columns:
        return "group"
    listing = ", ".join(columns) or "none"
    raise AuditError(f"{path}: expected one column beside name, found {listing}; pass --table {path} --groups COLUMN")


def _of_codes(column: str, texts: pd.Series, foreground: Sequence[str] | None) -> ImageGroups:
    """Returns the groups that numbers 2 * class + scene stand for."""
    if foreground is not None and len(foreground) != 2:
        classes = listed(foreground)
        raise AuditError(f"--groups_are class_scene: expected two classes in the foreground, found {classes}")
    wrong = {*texts} - CODES
    if wrong:
        problem = f"groups 0..3 (2 * class + scene) for two classes, found {listed(sorted(wrong))}"
        raise AuditError(f"{column}: expected {problem}")
    return ImageGroups(texts.map(int).to_numpy(np.int64), TWO_BY_TWO)


def _of_scenes(table: pd.DataFrame, foreground: Sequence[str] | None, training: Path | None) -> ImageGroups:
    """Returns F x S groups: the most frequent scene of a class is its common one.

    A class without one most frequent scene has no common or rare group. Where no class has one, or there is one scene,
    groups are names, `CLASS in SCENE`.
    """
    source: Path | str = "the images"
    counted = table[[*CLASS_AND_SCENE]]
    if training is not None:
        source = training
        counted = pd.DataFrame(read_table(training))
    class_names = foreground
    if class_names is None:
        class_names = sorted({*table["class"]})
    unknown = [f"{name} ({text[:40]})" for name, text in table["class"].items() if text not in class_names]
    if unknown:
        raise AuditError(f"--groups: expected classes of {', '.join(class_names)}, found others, {listed(unknown)}")
    counts = _count_scenes(counted, source)
    scene_names = sorted({*table["scene"], *map(str, counts)})
    counts = counts.reindex(index=list(class_names), columns=scene_names, fill_value=0)
    usual = [_most_frequent(of_class) for of_class in counts.to_numpy()]
    fact = _fact_on_scenes(table, dict(zip(class_names, usual, strict=True)), scene_names, source)
    columns = {name: table[name].tolist() for name in CLASS_AND_SCENE}
    if not any(usual) or len(scene_names) < 2:
        by_name = _by_name(table["class"] + " in " + table["scene"])
        return dataclasses.replace(by_name, columns=columns, fact=fact)
    if len(class_names) < 2:
        raise AuditError(f"--groups: expected two classes or more in the foreground, found {listed(class_names)}")
    all_groups = Groups(len(class_names), len(scene_names), tuple(usual), partial=True)
    y = counts.index.get_indexer(pd.Index(table["class"]))
    scene = counts.columns.get_indexer(pd.Index(table["scene"]))
    return ImageGroups(all_groups.of(y, scene), all_groups, tuple(scene_names), columns, fact)


def _fact_on_scenes(
    table: pd.DataFrame, usual: Mapping[str, tuple[int, ...]], scene_names: Sequence[str], source: Path | str
) -> str:
    """Returns sentences on the common scene of each class, and on the images' classes that have none."""
    pairs = []
    without = []
    for name, scenes in usual.items():
        if scenes:
            pairs.append(f"{name} in {scene_names[scenes[0]]}")
        elif name in set(table["class"]):
            without.append(name)
    fact = f"Common, most frequent in {source}: {listed(pairs)}."
    if without:
        fact += f" Without one most frequent scene, so neither common nor rare: {', '.join(sorted(without))}."
    return fact


def _count_scenes(table: pd.DataFrame, source: Path | str) -> pd.DataFrame:
    """Returns the numbers of images by class (rows) and scene (columns); raises AuditError if the table has none."""
    images = pd.to_numeric(table.get("images", pd.Series("1", table.index)), errors="coerce")
    are_counts = (images >= 0) & (images % 1 == 0)
    if not {*CLASS_AND_SCENE} <= {*table} or not are_counts.all():
        raise AuditError(f"{source}: expected {TRAINING}, found {', '.join(map(str, table))}")
    return images.groupby([table["class"], table["scene"]]).sum().unstack(fill_value=0)


def _most_frequent(images: np.ndarray) -> tuple[int, ...]:
    """Returns the number of the most frequent of a class's scenes; none if several are as frequent, or all are 0."""
    most_frequent = np.flatnonzero((images == images.max()) & (images > 0))
    if len(most_frequent) != 1:
        return ()
    return (int(most_frequent[0]),)


def _by_name(texts: pd.Series) -> ImageGroups:
    """Returns groups of images by their texts."""
    # Summary keys join group names with slashes.
    cleaned = texts.str.split().str.join(" ").str.replace("/", "_")
    unnamed = cleaned.index[cleaned == ""]
    if len(unnamed):
        raise AuditError(f"--groups: expected a group for each image, found none for {listed(unnamed)}")
    alike = texts.groupby(cleaned).nunique()
    if (alike > 1).any():
        ambiguous = sorted(texts[cleaned.isin(alike.index[alike > 1])].unique())
        spelled = listed(map(repr, ambiguous))
        raise AuditError(f"--groups: expected names that differ in more than spaces, / and _; found {spelled}")
    numbers, present = pd.factorize(cleaned, sort=True)
    return ImageGroups(numbers.astype(np.int64), NamedGroups(tuple(present)))
