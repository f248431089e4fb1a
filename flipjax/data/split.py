"""Splits a pool into train, val and test, once for all correlation levels and members, with NumPy.

Every draw sorts 64-bit words of PCG64 seeded by (seed, name). NumPy keeps that stream stable across versions, unlike
`Generator.permutation`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flipjax.config import ConfigError, SplitSpec
from flipjax.config.naming import check_sizes
from flipjax.data.part_names import FREE, PARTS

if TYPE_CHECKING:
    from flipjax.data.pool import Catalog


class SplitPart(NamedTuple):
    """One part of the split: int32 indices, in drawn order."""

    objects: np.ndarray
    """(n,), objects, or photos of a photo pool."""
    scenes: np.ndarray
    """(m,), scene photos; none in a photo pool."""


class Split(NamedTuple):
    """The three parts, which share no object or scene photo."""

    train: SplitPart
    """What training sets of any rho are drawn from."""
    val: SplitPart
    """What an epoch is chosen on, and what DFR refits the head on."""
    test: SplitPart
    """What results are computed on."""


def split_pool(catalog: Catalog, *, n_val: int, n_test: int, seed: int) -> Split:
    """Divides a pool into train, val and test, once for every rho and member.

    Val gets n_val / (F S) objects of each class (each is shown in all S scenes), or of each group in a photo pool; test
    likewise; the rest is for training. Fixed parts are kept: val and test draw from their own fixed objects first, then
    from free ones. A fixed object that is not drawn is left out and never used for training.

    In a composite pool, the free photos of each scene are divided in proportion to the images that each part can show
    beyond its fixed photos, so that a photo repeats about equally often in each part. Val and test get at most as many
    as they can show once, every part gets some, and the rest is for training.

    In a photo pool with clusters, whole clusters are assigned to test and val until these have enough images of each
    group; the other images of these clusters are left out.

    Args:
        catalog: the pool's catalog.
        n_val: number of validation images, a positive multiple of the number of groups, F S.
        n_test: number of test images, the same.
        seed: the split's seed, >= 0, independent of members' seeds.

    Returns:
        The split.

    Raises:
        ValueError: a size is no positive multiple of F S, or the pool is too small; the message states its contents.
        ConfigError: a cluster has images in two fixed parts.
    """
    check_sizes(catalog.groups, SplitSpec(n_train=0, n_val=n_val, n_test=n_test))
    objects = _split_objects(catalog, {"test": n_test, "val": n_val}, seed)
    shown = {"train": len(objects["train"]), "val": n_val, "test": n_test}
    images_of_scene = {part: images // catalog.groups.scenes for part, images in shown.items()}
    scenes = _split_scenes(catalog, images_of_scene, seed)
    return Split(
        train=_part_of(objects["train"], scenes["train"]),
        val=_part_of(objects["val"], scenes["val"]),
        test=_part_of(objects["test"], scenes["test"]),
    )


def _part_of(objects: np.ndarray, scenes: np.ndarray) -> SplitPart:
    return SplitPart(objects.astype(np.int32), scenes.astype(np.int32))


def _split_objects(catalog: Catalog, sizes: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Divides the objects of each stratum; those of val and test alternate between the strata.

    Args:
        catalog: of the pool.
        sizes: images of test and val, in the order in which these parts draw their objects.
        seed: of the split.
    """
    stratum = strata(catalog)
    parts = catalog.object_split
    if catalog.clustered:
        parts = _parts_of_clusters(catalog, sizes, seed)
    objects: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    for c in range(len(strata_names(catalog))):
        order = shuffle(np.flatnonzero(stratum == c), seed, f"split objects {c}")
        part_in_order = parts[order]
        free = order[part_in_order == FREE]
        for part, size in sizes.items():
            count = size // catalog.groups.count
            fixed = order[part_in_order == PARTS.index(part)]
            drawn = np.concatenate([fixed, free])[:count]
            if len(drawn) < count:
                raise ValueError(_too_small(catalog, part, sizes))
            free = free[~np.isin(free, drawn)]
            objects[part].append(drawn)
        fixed = order[part_in_order == PARTS.index("train")]
        rest = np.concatenate([fixed, free])
        if catalog.kind == "composite" and len(rest) == 0:
            raise ValueError(_too_small(catalog, "train", sizes))
        objects["train"].append(rest)
    return {
        "train": np.concatenate(objects["train"]),
        "val": interleave(objects["val"]),
        "test": interleave(objects["test"]),
    }


def clusters_of(catalog: Catalog) -> np.ndarray:
    """Returns the number of each object's cluster, int64 (N,); an object without a name is a cluster of its own."""
    names = [name or f"\0{index}" for index, name in enumerate(catalog.object_clusters)]
    return np.unique(names, return_inverse=True)[1]


def _parts_of_clusters(catalog: Catalog, sizes: dict[str, int], seed: int) -> np.ndarray:
    """Returns the part of each object, that of its cluster; these are drawn until test and val have enough images."""
    clusters = clusters_of(catalog)
    counts = np.zeros((clusters.max() + 1, catalog.groups.count), np.int64)
    np.add.at(counts, (clusters, strata(catalog)), 1)
    parts = _fixed_parts_of_clusters(catalog, clusters)
    order = shuffle(np.arange(len(counts)), seed, "split clusters")
    for part, size in sizes.items():
        number = PARTS.index(part)
        missing = size // catalog.groups.count - counts[parts == number].sum(0)
        for cluster in order:
            if parts[cluster] == FREE and counts[cluster][missing > 0].any():
                parts[cluster] = number
                missing -= counts[cluster]
    parts[parts == FREE] = PARTS.index("train")
    return parts[clusters]


def _fixed_parts_of_clusters(catalog: Catalog, clusters: np.ndarray) -> np.ndarray:
    """Returns the fixed part of each cluster, FREE if none of its objects has one."""
    parts = np.full(clusters.max() + 1, FREE)
    for item, cluster in zip(catalog.objects, clusters, strict=True):
        if item.part == FREE:
            continue
        if parts[cluster] not in (FREE, item.part):
            found = f"{item.cluster!r} in {PARTS[parts[cluster]]} and, with {item.name}, in {PARTS[item.part]}"
            raise ConfigError("clusters", "all images of a cluster in one part", found)
        parts[cluster] = item.part
    return parts


def strata(catalog: Catalog) -> np.ndarray:
    """Returns the strata to balance, int32 (N,): classes in a composite pool, groups in a photo pool."""
    if catalog.kind == "composite":
        return catalog.object_class
    return catalog.groups.of(catalog.object_class, catalog.object_scene)


def strata_names(catalog: Catalog) -> list[str]:
    """Returns the names of the values of `strata`."""
    if catalog.kind == "composite":
        return list(catalog.class_names)
    return [f"{name} in {scene}" for name in catalog.class_names for scene in catalog.scene_names]


def shuffle(items: np.ndarray, seed: int, name: str) -> np.ndarray:
    """Shuffles items by the random words of (seed, name), see `random_words`."""
    return items[np.argsort(random_words(seed, name, count=len(items)), kind="stable")]


def random_words(seed: int, name: str, *, count: int) -> np.ndarray:
    """Returns uint64 (count,) of PCG64 seeded by (seed, name); NumPy raises ValueError if the seed is negative."""
    words_of_name = np.frombuffer(hashlib.sha256(name.encode()).digest(), "<u4").tolist()
    return np.random.PCG64(np.random.SeedSequence([seed, *words_of_name])).random_raw(count)


def interleave(columns: list[np.ndarray]) -> np.ndarray:
    """Returns the first items of all columns, then the second ones, and so on."""
    return np.stack(columns, axis=1).reshape(-1, *columns[0].shape[1:])


def _split_scenes(catalog: Catalog, images_of_scene: dict[str, int], seed: int) -> dict[str, np.ndarray]:
    """Divides the scene photos of each kind: test and val get what their images show, train the rest.

    Args:
        catalog: of the pool.
        images_of_scene: how many images of each part show each scene.
        seed: of the split.
    """
    if catalog.kind == "photo":
        # Photos have their scene, so a photo pool has no scene photos.
        return {part: np.empty(0, np.int64) for part in PARTS}
    scenes: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    for kind, name in enumerate(catalog.scene_names):
        order = shuffle(np.flatnonzero(catalog.scene_kind == kind), seed, f"split scenes {kind}")
        part_in_order = catalog.scene_split[order]
        free = order[part_in_order == FREE]
        fixed = {part: order[part_in_order == number] for number, part in enumerate(PARTS)}
        # A part without fixed photos gets a free one; the others go by the images that exceed the fixed photos.
        least = {part: int(len(photos) == 0) for part, photos in fixed.items()}
        need = {part: max(0, images_of_scene[part] - len(photos)) for part, photos in fixed.items()}
        spare = len(free) - sum(least.values())
        if spare < 0:
            few = f"{len(order)} scene photos of kind {name!r} ({len(free)} free)"
            raise ValueError(f"the pool holds {few}; each of train, val and test needs at least one")
        for part in ("test", "val"):
            share = spare * need[part] // max(1, sum(need.values()))
            count = max(least[part], min(need[part], least[part] + share))
            scenes[part] += [fixed[part], free[:count]]
            free = free[count:]
        scenes["train"] += [fixed["train"], free]
    return {part: np.concatenate(photos) for part, photos in scenes.items()}


def count_content(catalog: Catalog, part: SplitPart | None = None) -> dict[str, int]:
    """Counts the content of a part, or of the whole pool, by name.

    Returns:
        The number of photos in each group; in a composite pool, of objects in each class and of scene photos of each
        scene.
    """
    stratum = strata(catalog)
    kinds = catalog.scene_kind
    if part:
        stratum = stratum[part.objects]
        kinds = kinds[part.scenes]
    names = strata_names(catalog)
    counts = np.bincount(stratum, minlength=len(names))
    if catalog.kind == "composite":
        names += [f"{name} scenes" for name in catalog.scene_names]
        counts = np.concatenate([counts, np.bincount(kinds, minlength=len(catalog.scene_names))])
    return dict(zip(names, counts.tolist(), strict=True))


def count_fixed(catalog: Catalog) -> np.ndarray:
    """Counts the objects of each stratum that are free, and fixed to train, val and test: int64 (strata, 4)."""
    stratum = strata(catalog)
    counts = []
    for c in range(len(strata_names(catalog))):
        # FREE is -1, so that free objects are counted first.
        counts.append(np.bincount(1 + catalog.object_split[stratum == c], minlength=1 + len(PARTS)))
    return np.array(counts)


def _too_small(catalog: Catalog, part: str, sizes: dict[str, int]) -> str:
    """Returns the error message of a pool that is too small for a part, with its contents."""
    counts = count_fixed(catalog)
    held = []
    for name, (free, train, val, test) in zip(strata_names(catalog), counts.tolist(), strict=True):
        text = f"{name} {free + train + val + test}"
        if counts[:, 1:].any():
            text += f" (free {free}, fixed train {train}, val {val}, test {test})"
        held.append(text)
    if counts[:, 2:].any():
        limit = ""
    elif catalog.clustered:
        limit = "; the images of a cluster stay in one part"
    else:
        spare = counts[:, 0]
        if catalog.kind == "composite":
            # An object of each class is kept for training.
            spare = spare - (counts[:, 1] == 0)
        limit = f"; the largest n_val + n_test is {catalog.groups.count * max(0, spare.min())}"
    stratum = "class" if catalog.kind == "composite" else "group"
    return (
        f"config.split.n_val {sizes['val']}, config.split.n_test {sizes['test']}: each must hold as many images of "
        f"each {stratum}, and too few are left for {part}; the pool holds {', '.join(held)}{limit}"
    )
