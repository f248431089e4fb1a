"""Reads groups and clusters of images from a CSV or from their names."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from flipjax.audit.arrays import AuditError, check_names, read_table, stem_of
from flipjax.groups import TWO_BY_TWO, Groups, NamedGroups
from flipjax.support.terminal import listed

FORM = "a CSV with the columns name and group; or name, class and scene, or name and one other"
TRAINING = "a CSV with the columns class and scene, a row a training image or with their number in the column images"


class ImageGroups(NamedTuple):
    """Groups int64 (n,) of images, their numbering, scene names, further texts, a sentence, and the table.

    `table` maps columns to the images' values.
    """

    numbers: np.ndarray | None
    all_groups: Groups | NamedGroups | None = None
    scene_names: tuple[str, ...] = ()
    columns: Mapping[str, Sequence[str]] = {}
    fact: str = ""
    table: pd.DataFrame = pd.DataFrame()


def match_names(pattern: str, names: Sequence[str], *, option: str) -> list[str]:
    """Returns the first group, or the whole match, of a regular expression in each name.

    Raises:
        AuditError: the expression is invalid, or does not match some names.

    Example:
        >>> match_names("[a-z]+", ["rome_01", "paris_02"], option="--groups")
        ['rome', 'paris']
    """
    form = f"{option}: expected a CSV or a column of it, or a regular expression that is found in each image's name"
    try:
        found = [re.search(pattern, name) for name in names]
    except re.error as error:
        raise AuditError(f"{form}; found {pattern!r} ({error})") from error
    if missing := [name for name, match in zip(names, found, strict=True) if match is None]:
        raise AuditError(f"{form}; {pattern!r} is not in {listed(missing)}")
    return [match[min(1, len(match.groups()))] or "" for match in found if match]


def read_clusters(given: str, groups: ImageGroups, names: Sequence[str]) -> np.ndarray:
    """Returns the cluster of each image, int64 (n,), from a column of the groups' table or a match in its name.

    Raises:
        AuditError: neither exists, or all images are in one cluster.
    """
    texts = groups.table[given] if given in groups.table else match_names(given, names, option="--clusters")
    numbers, present = pd.factorize(np.array(texts, object), sort=True)
    if len(present) < 2:
        raise AuditError(f"--clusters: expected at least two clusters, which are resampled, found {listed(present)}")
    return numbers.astype(np.int64)


def read_groups(
    given: str | None, names: Sequence[str], *, foreground: Sequence[str], training: Path | None = None
) -> ImageGroups:
    """Returns the group of each image.

    Names in a table may include file endings or folders. Images known by position are named by their index from 0.

    Args:
        given: the path of a table, or a regular expression that matches the group in a name; None for no groups.
        names: the images' names, in order.
        foreground: the names of the F foreground classes. For two, groups 0..3 are 2 * class + scene.
        training: a table of training images by class and scene. The most frequent scene of a class is its common one.
            None uses the images themselves.

    Raises:
        AuditError: the table has another format, images have no group, or classes or groups are unknown.
    """
    if given is None:
        if training:
            raise AuditError("--training_groups: expected --groups beside it, found none")
        return ImageGroups(None)
    path = Path(given)
    if not path.exists() and path.suffix.lower() != ".csv":
        found = match_names(given, names, option="--groups")
        return _by_name(pd.Series(found, list(names), dtype=object))
    table = pd.DataFrame(read_table(path))
    others = [name for name in map(str, table) if name != "name"]
    column = others[0] if len(others) == 1 else "group"
    scenic = {"class", "scene"} <= set(table)
    if "name" not in table or not (scenic or column in table):
        raise AuditError(f"{path}: expected {FORM}, found {', '.join(map(str, table)) or 'no row'}")
    known = {*names}
    images = check_names(path, [name if name in known else stem_of(Path(name)) for name in table["name"]])
    if known != {*images}:
        missing, strangers = (listed(sorted(each)) or "none" for each in (known.difference(images), {*images} - known))
        raise AuditError(f"{path}: expected a group for each image; lacking are {missing}, of no image {strangers}")
    table = table.set_index(pd.Index(images)).loc[list(names)]
    if scenic:
        seen = table[["class", "scene"]] if training is None else pd.DataFrame(read_table(training))
        found = _of_scenes(path, table, foreground, seen, training or path)
    elif training is not None:
        raise AuditError(f"--training_groups: expected the columns class and scene in {path}, found {column}")
    else:
        found, numbers = _by_name(table[column]), table[column].str.strip()
        others = {*numbers} - {*"0123"}
        if column == "group" and len(foreground) == 2 and others != {*numbers}:
            if others:
                problem = f"groups 0..3 (2 * class + scene) for two classes, found {listed(sorted(others))}"
                raise AuditError(f"{path}: expected {problem}")
            found = ImageGroups(numbers.map(int).to_numpy(np.int64), TWO_BY_TWO)
    return found._replace(table=table)


def _of_scenes(path: Path, table: pd.DataFrame, classes: Sequence[str], seen: pd.DataFrame, where: Path) -> ImageGroups:
    """Returns F x S groups. A class without one most frequent scene has no common or rare group."""
    if wrong := [f"{name} ({text[:40]})" for name, text in table["class"].items() if text not in classes]:
        raise AuditError(f"{path}: expected classes of {', '.join(classes)}, found others, {listed(wrong)}")
    images = pd.to_numeric(seen.get("images", pd.Series("1", seen.index)), errors="coerce")
    if not {"class", "scene"} <= set(seen) or not ((images >= 0) & (images % 1 == 0)).all():
        raise AuditError(f"{where}: expected {TRAINING}, found {', '.join(map(str, seen))}")
    counts = images.groupby([seen["class"], seen["scene"]]).sum().unstack(fill_value=0)
    scenes = sorted({*table["scene"], *map(str, counts)})
    counts = counts.reindex(index=list(classes), columns=scenes, fill_value=0)
    columns = {name: table[name].tolist() for name in ("class", "scene")}
    tops = (counts.eq(counts.max(axis=1), axis=0) & (counts > 0)).to_numpy()
    usual = tuple(tuple(np.flatnonzero(row).tolist()) if row.sum() == 1 else () for row in tops)
    own = {name: scenes[found[0]] for name, found in zip(classes, usual, strict=True) if found}
    pairs = [f"{name} in {scene}" for name, scene in own.items()]
    fact = f"Common, most frequent in {where}: {listed(pairs) or 'no class in one scene'}."
    if unsure := sorted({*table["class"]}.difference(own)):
        fact += f" Without one most frequent scene, so neither common nor rare: {', '.join(unsure)}."
    if not own or len(scenes) < 2:
        return _by_name(table["class"] + " in " + table["scene"])._replace(columns=columns, fact=fact)
    all_groups = Groups(len(classes), len(scenes), usual, partial=True)
    y, s = counts.index.get_indexer(pd.Index(table["class"])), counts.columns.get_indexer(pd.Index(table["scene"]))
    return ImageGroups(all_groups.of(y, s), all_groups, tuple(scenes), columns, fact)


def _by_name(texts: pd.Series) -> ImageGroups:
    # Summary keys join group names with slashes.
    cleaned = texts.str.split().str.join(" ").str.replace("/", "_")
    if len(unnamed := cleaned.index[cleaned == ""]):
        raise AuditError(f"--groups: expected a group for each image, found none for {listed(unnamed)}")
    alike = texts.groupby(cleaned).nunique()
    if (alike > 1).any():
        found = listed(map(repr, sorted(texts[cleaned.isin(alike.index[alike > 1])].unique())))
        raise AuditError(f"--groups: expected names that differ in more than spaces, / and _; found {found}")
    numbers, present = pd.factorize(cleaned, sort=True)
    return ImageGroups(numbers.astype(np.int64), NamedGroups(tuple(present)))
