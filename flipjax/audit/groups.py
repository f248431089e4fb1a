"""Reads the groups of images from a column of their table, from their classes and scenes, or from their names.

`read_groups` takes the value of `--groups` and returns `ImageGroups` in one of three ways:

- `_by_class_and_scene`, from the columns class and scene: the most frequent scene of a class is its common one;
- `_by_code`, from a column of numbers 2 * class + scene;
- `_by_name`, from any other texts.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from flipjax.audit.image_table import NAME, match_names
from flipjax.audit.label_maps import read_table
from flipjax.audit.problems import AuditError
from flipjax.config.groups import TWO_BY_TWO, Groups, NamedGroups
from flipjax.support.terminal import listed

CLASS_AND_SCENE = ("class", "scene")
"""Columns whose values make the groups of a class in a scene."""
BOTH_COLUMNS = ",".join(CLASS_AND_SCENE)
"""The value of `--groups` that names both."""
TRAINING_CSV = (
    "a CSV with the columns class and scene, a row a training image or with their number in the column images"
)
"""The file that --training_groups takes, in the words of an error."""
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
    """The groups that the numbers stand for; None if the caller gave numbers and did not say.

    The audit then reads them as `flipjax.metrics.summarize` does: as 2 * class + scene if there are two foreground
    classes; otherwise as groups without common or rare ones."""
    scene_names: tuple[str, ...] = ()
    """Names of the scenes of `Groups`; empty for other groups."""
    columns: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Columns that images.csv has beside the group, such as `scene`: a text an image."""
    fact: str = ""
    """Sentences for the page on which scenes are common, or nothing."""


def read_groups(
    selector: str | None,
    names: Sequence[str],
    *,
    foreground: Sequence[str] | None,
    table: pd.DataFrame | None = None,
    training: Path | None = None,
    meaning: str = "names",
) -> ImageGroups:
    """Returns the group of each image.

    Args:
        selector: the value of `--groups`: a column of the table; BOTH_COLUMNS; or a regular expression that matches the
            group in a name. None for no groups.
        names: the images' names, in order.
        foreground: the names of the F foreground classes. None if these names are not yet known: groups are then not
            checked against them.
        table: the images' rows, as `flipjax.audit.image_table.read_image_rows` returns them.
        training: a table of training images by class and scene. The most frequent scene of a class is its common one.
            None uses the images themselves.
        meaning: of the selected texts: `names`; or `class_scene`, 2 * class + scene of two classes in two scenes. The
            columns class and scene always hold names.

    Raises:
        AuditError: images have no group, or classes or groups are unknown.
    """
    if meaning not in MEANINGS:
        raise AuditError(f"--groups_are: expected one of {', '.join(MEANINGS)}, found {meaning}")
    if selector is None:
        if training is not None:
            raise AuditError("--training_groups: expected --groups beside it, found none")
        if meaning != MEANINGS[0]:
            raise AuditError("--groups_are: expected --groups beside it, found none")
        return ImageGroups(numbers=None)
    # Without both columns in a table the text is an expression like any other; if it matches no name, the error lists
    # the table's columns.
    if table is not None and selector == BOTH_COLUMNS and {*CLASS_AND_SCENE} <= {*table}:
        return _by_class_and_scene(table, foreground, training)
    if training is not None:
        raise AuditError(f"--training_groups: expected groups of the columns class and scene, found {selector}")
    if table is not None and selector in table:
        texts = table[selector]
    else:
        texts = pd.Series(match_names(selector, names, option="--groups", table=table), list(names), dtype=object)
    if meaning == "class_scene":
        return _by_code(selector, texts.str.strip(), foreground)
    return _by_name(texts)


def selector_of(path: Path, table: pd.DataFrame) -> str:
    """Returns the columns that hold the groups, as `read_groups` takes them, if `--groups` names only the table.

    Raises:
        AuditError: the table has neither class and scene, nor a column group, nor one column beside the names.
    """
    columns = [column for column in map(str, table) if column != NAME]
    if {*CLASS_AND_SCENE} <= {*columns}:
        return BOTH_COLUMNS
    if len(columns) == 1:
        return columns[0]
    if "group" in columns:
        return "group"
    listing = ", ".join(columns) or "none"
    raise AuditError(f"{path}: expected one column beside name, found {listing}; pass --table {path} --groups COLUMN")


def _by_code(selector: str, texts: pd.Series, foreground: Sequence[str] | None) -> ImageGroups:
    """Returns the groups that numbers 2 * class + scene stand for."""
    if foreground is not None and len(foreground) != 2:
        classes = listed(foreground)
        raise AuditError(f"--groups_are class_scene: expected two classes in the foreground, found {classes}")
    wrong = {*texts} - CODES
    if wrong:
        problem = f"groups 0..3 (2 * class + scene) for two classes, found {listed(sorted(wrong))}"
        raise AuditError(f"{selector}: expected {problem}")
    return ImageGroups(numbers=texts.map(int).to_numpy(np.int64), all_groups=TWO_BY_TWO)


@dataclasses.dataclass(frozen=True)
class _SceneCounts:
    """How often each foreground class was counted in each scene."""

    image_counts: pd.DataFrame
    """Numbers of images by class (rows) and scene (columns)."""
    source: Path | str
    """The file of training images that were counted, or `the images`."""

    @property
    def class_names(self) -> list[str]:
        """The names of the F foreground classes, in order."""
        return self.image_counts.index.tolist()

    @property
    def scene_names(self) -> list[str]:
        """The names of the S scenes, in order."""
        return self.image_counts.columns.tolist()

    @property
    def usual(self) -> tuple[tuple[int, ...], ...]:
        """The number of the common scene of each class, as `Groups.usual` takes it; none for a class without one."""
        return tuple(_most_frequent(counts_of_class) for counts_of_class in self.image_counts.to_numpy())


def _by_class_and_scene(
    image_rows: pd.DataFrame, foreground: Sequence[str] | None, training: Path | None
) -> ImageGroups:
    """Returns F x S groups: the most frequent scene of a class is its common one.

    A class without one most frequent scene has no common or rare group. Where no class has one, or there is one scene,
    groups are names, `CLASS in SCENE`.
    """
    counts = _scene_counts(image_rows, foreground, training)
    some_class_has_a_common_scene = any(len(scenes) > 0 for scenes in counts.usual)
    if some_class_has_a_common_scene and len(counts.scene_names) > 1:
        groups = _common_and_rare(image_rows, counts)
    else:
        groups = _by_name(image_rows["class"] + " in " + image_rows["scene"])
    columns = {name: image_rows[name].tolist() for name in CLASS_AND_SCENE}
    return dataclasses.replace(groups, columns=columns, fact=_fact_on_scenes(image_rows, counts))


def _scene_counts(image_rows: pd.DataFrame, foreground: Sequence[str] | None, training: Path | None) -> _SceneCounts:
    """Counts the training images by class and scene, or without them the images themselves.

    Raises:
        AuditError: an image's class is not in the foreground, or the training images cannot be counted.
    """
    source: Path | str = "the images"
    counted = image_rows[[*CLASS_AND_SCENE]]
    if training is not None:
        source = training
        counted = pd.DataFrame(read_table(training))
    # Without the names of the foreground classes, those of the images are taken. A class that is in no image, only in
    # training images, then has no groups.
    class_names = foreground
    if class_names is None:
        class_names = sorted({*image_rows["class"]})
    unknown = [f"{name} ({text[:40]})" for name, text in image_rows["class"].items() if text not in class_names]
    if unknown:
        raise AuditError(f"--groups: expected classes of {', '.join(class_names)}, found others, {listed(unknown)}")
    counts = _count_scenes(counted, source)
    # The scene that is common in training may be in no image, and an image may show one that training lacks.
    scene_names = sorted({*image_rows["scene"], *map(str, counts)})
    image_counts = counts.reindex(index=list(class_names), columns=scene_names, fill_value=0)
    return _SceneCounts(image_counts=image_counts, source=source)


def _common_and_rare(image_rows: pd.DataFrame, counts: _SceneCounts) -> ImageGroups:
    """Returns the group of each image among F x S groups, of which the usual scenes make the common ones."""
    class_names = counts.class_names
    scene_names = counts.scene_names
    if len(class_names) < 2:
        raise AuditError(f"--groups: expected two classes or more in the foreground, found {listed(class_names)}")
    all_groups = Groups(len(class_names), len(scene_names), counts.usual, partial=True)
    class_of_image = pd.Index(class_names).get_indexer(pd.Index(image_rows["class"]))
    scene_of_image = pd.Index(scene_names).get_indexer(pd.Index(image_rows["scene"]))
    numbers = all_groups.of(class_of_image, scene_of_image)
    return ImageGroups(numbers=numbers, all_groups=all_groups, scene_names=tuple(scene_names))


def _fact_on_scenes(image_rows: pd.DataFrame, counts: _SceneCounts) -> str:
    """Returns sentences on the common scene of each class, and on the images' classes that have none."""
    pairs = []
    without = []
    for name, scenes in zip(counts.class_names, counts.usual, strict=True):
        if scenes:
            pairs.append(f"{name} in {counts.scene_names[scenes[0]]}")
        elif name in set(image_rows["class"]):
            without.append(name)
    fact = f"Common, most frequent in {counts.source}: {listed(pairs)}."
    if without:
        fact += f" Without one most frequent scene, so neither common nor rare: {', '.join(sorted(without))}."
    return fact


def _count_scenes(table: pd.DataFrame, source: Path | str) -> pd.DataFrame:
    """Returns the numbers of images by class (rows) and scene (columns).

    Raises:
        AuditError: the table lacks the column class or scene, or its column images holds no counts.
    """
    image_counts = pd.Series(1, table.index)
    if "images" in table:
        image_counts = pd.to_numeric(table["images"], errors="coerce")
    are_counts = (image_counts >= 0) & (image_counts % 1 == 0)
    if not {*CLASS_AND_SCENE} <= {*table} or not are_counts.all():
        raise AuditError(f"{source}: expected {TRAINING_CSV}, found {', '.join(map(str, table))}")
    return image_counts.groupby([table["class"], table["scene"]]).sum().unstack(fill_value=0)


def _most_frequent(scene_counts: np.ndarray) -> tuple[int, ...]:
    """Returns the number of a class's most frequent scene; none if several are as frequent, or all counts are 0."""
    most_frequent = np.flatnonzero((scene_counts == scene_counts.max()) & (scene_counts > 0))
    if len(most_frequent) != 1:
        return ()
    return (int(most_frequent[0]),)


def _by_name(texts: pd.Series) -> ImageGroups:
    """Returns groups that have the texts as names: images with the same text are one group."""
    # Summary keys join group names with slashes.
    group_names = texts.str.split().str.join(" ").str.replace("/", "_")
    unnamed = group_names.index[group_names == ""]
    if len(unnamed):
        raise AuditError(f"--groups: expected a group for each image, found none for {listed(unnamed)}")
    # Texts that differ only in what was replaced, blanks and slashes, would silently become one group.
    spellings_of_name = texts.groupby(group_names).nunique()
    ambiguous_names = spellings_of_name.index[spellings_of_name > 1]
    if len(ambiguous_names):
        spellings = sorted(texts[group_names.isin(ambiguous_names)].unique())
        found = listed(map(repr, spellings))
        raise AuditError(f"--groups: expected names that differ in more than spaces, / and _; found {found}")
    numbers, present = pd.factorize(group_names, sort=True)
    return ImageGroups(numbers=numbers.astype(np.int64), all_groups=NamedGroups(tuple(present)))
