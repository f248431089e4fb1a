"""Reads groups and clusters of images from the columns of a CSV, or from the images' names."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from flipjax.audit.label_maps import read_table
from flipjax.audit.names import check_names, stem_of
from flipjax.audit.problems import AuditError
from flipjax.groups import TWO_BY_TWO, Groups, NamedGroups
from flipjax.support.terminal import listed

NAME = "name"
"""The column of image names."""
SCENIC = ("class", "scene")
"""Columns that make groups of a class in a scene."""
TRAINING = "a CSV with the columns class and scene, a row a training image or with their number in the column images"
"""What --training_groups takes."""
MEANINGS = ("names", "class_scene")
"""What the values of a column of groups are: names, or the numbers 2 * class + scene of two classes and scenes."""
CODES = {"0", "1", "2", "3"}
"""Values of a column of two classes in two scenes."""
MOST_IN_CLUSTER = 0.5
"""Clusters are likely where names have at most this share of different beginnings."""


@dataclasses.dataclass(frozen=True)
class ImageGroups:
    """The groups of n images."""

    numbers: np.ndarray | None
    """Group of each image, int64 (n,); None without groups."""
    all_groups: Groups | NamedGroups | None = None
    """What the numbers are of; None: as in `flipjax.metrics.summarize`."""
    scene_names: tuple[str, ...] = ()
    """Names of the scenes of `Groups`."""
    columns: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    """Texts of the images for images.csv, by column."""
    fact: str = ""
    """A sentence on the groups, or nothing."""


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
    form = f"{option}: expected a CSV or a column of it, or a regular expression that is found in each image's name"
    if table is not None:
        columns = ", ".join(column for column in map(str, table) if column != NAME) or "none"
        form = (
            f"{option}: expected a column of the table ({columns}), or a regular expression found in each image's name"
        )
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise AuditError(f"{form}; found {pattern!r} ({error})") from error
    matches = []
    without_match = []
    for name in names:
        match = compiled.search(name)
        if match is None:
            without_match.append(name)
        else:
            matches.append(match[min(1, compiled.groups)] or "")
    if without_match:
        raise AuditError(f"{form}; {pattern!r} is not in {listed(without_match)}")
    return matches


def read_images(path: Path, names: Sequence[str]) -> pd.DataFrame:
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
    images = check_names(path, [_resolved(name, audited) for name in table[NAME]])
    if audited != {*images}:
        lacking = _listed_or_none(audited.difference(images))
        foreign = _listed_or_none({*images} - audited)
        raise AuditError(f"{path}: expected a group for each image; lacking are {lacking}, of no image {foreign}")
    return table.set_index(pd.Index(images)).loc[list(names)]


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


def read_clusters(clusters: str, table: pd.DataFrame | None, names: Sequence[str]) -> np.ndarray:
    """Returns the cluster of each image, int64 (n,), from a column of their table or a match in its name.

    Raises:
        AuditError: neither exists, an image has none, or all images are in one cluster.
    """
    if table is not None and clusters in table:
        texts = table[clusters].str.strip()
        without = texts.index[texts == ""].tolist()
        if without:
            raise AuditError(f"--clusters: expected a cluster for each image, found none for {listed(without)}")
    else:
        texts = match_names(clusters, names, option="--clusters", table=table)
    numbers, present = pd.factorize(np.array(texts, object), sort=True)
    if len(present) < 2:
        raise AuditError(f"--clusters: expected at least two clusters, which are resampled, found {listed(present)}")
    return numbers.astype(np.int64)


def likely_clusters(names: Sequence[str]) -> str:
    """Returns a warning if images share the beginnings of their names, as slices of a patient do; else nothing.

    Example:
        >>> likely_clusters([f"p{patient}_{k}" for patient in range(3) for k in range(4)])[:57]
        "12 names have 3 beginnings, such as 'p0_': if these are p"
        >>> likely_clusters(["a", "b", "c"]), likely_clusters(["i1", "i2", "i3"])
        ('', '')
    """
    for pattern in (r"^(.+)/", r"^(.+[^0-9])[0-9]+$", r"^(.+_)[^_]+$"):
        matches = [re.search(pattern, name) for name in names]
        beginnings = [match[1] for match in matches if match]
        several = len({*beginnings})
        if len(beginnings) == len(names) and 2 <= several <= MOST_IN_CLUSTER * len(names):
            return (
                f"{len(names)} names have {several} beginnings, such as {beginnings[0]!r}: if these are patients or "
                f"films, pass --clusters '{pattern}', as intervals and tests else take images for independent."
            )
    return ""


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
        table: the images' rows, of `read_images`.
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
    scenic = table is not None and groups == ",".join(SCENIC) and {*SCENIC} <= {*table}
    if training is not None and not scenic:
        raise AuditError(f"--training_groups: expected groups of the columns class and scene, found {groups}")
    if table is not None and scenic:
        seen = table[[*SCENIC]]
        if training is not None:
            seen = pd.DataFrame(read_table(training))
        return _of_scenes(table, foreground, seen, training)
    if table is None or groups not in table:
        texts = pd.Series(match_names(groups, names, option="--groups", table=table), list(names), dtype=object)
    else:
        texts = table[groups]
    if meaning == "class_scene":
        return _of_codes(groups, texts.str.strip(), foreground)
    return _by_name(texts)


def column_of(path: Path, table: pd.DataFrame) -> str:
    """Returns the groups of a table that `--groups` names without a column.

    Raises:
        AuditError: it has neither class and scene, nor a column group, nor one column beside the names.
    """
    columns = [column for column in map(str, table) if column != NAME]
    if {*SCENIC} <= {*columns}:
        return ",".join(SCENIC)
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


def _of_scenes(
    table: pd.DataFrame, classes: Sequence[str] | None, seen: pd.DataFrame, training: Path | None
) -> ImageGroups:
    """Returns F x S groups. A class without one most frequent scene has no common or rare group."""
    source = training or "the images"
    if classes is None:
        classes = sorted({*table["class"]})
    wrong = [f"{name} ({text[:40]})" for name, text in table["class"].items() if text not in classes]
    if wrong:
        raise AuditError(f"--groups: expected classes of {', '.join(classes)}, found others, {listed(wrong)}")
    counts = _count_scenes(seen, source)
    scenes = sorted({*table["scene"], *map(str, counts)})
    counts = counts.reindex(index=list(classes), columns=scenes, fill_value=0)
    usual = []
    common = {}
    for name, most_frequent in zip(classes, _most_frequent(counts), strict=True):
        if len(most_frequent) == 1:
            usual.append(tuple(most_frequent))
            common[name] = scenes[most_frequent[0]]
        else:
            usual.append(())
    pairs = [f"{name} in {scene}" for name, scene in common.items()]
    fact = f"Common, most frequent in {source}: {listed(pairs) or 'no class in one scene'}."
    unsure = sorted({*table["class"]}.difference(common))
    if unsure:
        fact += f" Without one most frequent scene, so neither common nor rare: {', '.join(unsure)}."
    columns = {name: table[name].tolist() for name in SCENIC}
    if not common or len(scenes) < 2:
        by_name = _by_name(table["class"] + " in " + table["scene"])
        return dataclasses.replace(by_name, columns=columns, fact=fact)
    if len(classes) < 2:
        raise AuditError(f"--groups: expected two classes or more in the foreground, found {listed(classes)}")
    all_groups = Groups(len(classes), len(scenes), tuple(usual), partial=True)
    y = counts.index.get_indexer(pd.Index(table["class"]))
    scene = counts.columns.get_indexer(pd.Index(table["scene"]))
    return ImageGroups(all_groups.of(y, scene), all_groups, tuple(scenes), columns, fact)


def _count_scenes(seen: pd.DataFrame, source: object) -> pd.DataFrame:
    """Returns the numbers of images by class (rows) and scene (columns); raises AuditError if the table has others."""
    images = pd.to_numeric(seen.get("images", pd.Series("1", seen.index)), errors="coerce")
    if not {*SCENIC} <= {*seen} or not ((images >= 0) & (images % 1 == 0)).all():
        raise AuditError(f"{source}: expected {TRAINING}, found {', '.join(map(str, seen))}")
    return images.groupby([seen["class"], seen["scene"]]).sum().unstack(fill_value=0)


def _most_frequent(counts: pd.DataFrame) -> list[list[int]]:
    """Returns the numbers of the most frequent scenes of each class, several if they are as frequent."""
    most = (counts.eq(counts.max(axis=1), axis=0) & (counts > 0)).to_numpy()
    return [np.flatnonzero(row).tolist() for row in most]


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
