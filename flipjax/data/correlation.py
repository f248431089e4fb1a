"""Correlation levels as index tables: who trains on what, in which scene. Host numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from flipjax.data.split import PARTS, Split, SplitPart, interleave, shuffle, strata, strata_names
from flipjax.groups import TWO_BY_TWO

if TYPE_CHECKING:
    from flipjax.data.pool import Catalog


class Table(NamedTuple):
    """An index table: one row an image.

    Attributes:
        rows: int32 (n, 2), object (or photo) index and scene-photo index (-1 in a photo pool); for `gather`.
        groups: int32 (n,), 2 * y + scene.
        pairs: int32 (n,), id of the counterfactual pair; -1 where there is none.
        refit: bool (n,), whether DFR refits a head on the image; the others select. Half of each group of an evaluation
            table, pairs kept together; none of a training table.
    """

    rows: np.ndarray
    groups: np.ndarray
    pairs: np.ndarray
    refit: np.ndarray


def training_table(
    catalog: Catalog, split: Split, *, rho: float, seed: int, n_train: int, rhos: Sequence[float] = ()
) -> Table:
    """Draws one member's training set: n = n_train / 2 images of each class, round(rho * n) of them in its usual scene.

    The draws are nested. In a composite pool the seed orders the objects of each class, and rank k is common while
    k < round(rho * n); slot k of scene kind s shows the seed's scene photo k modulo their number, whichever class
    stands there. So every rho uses the same objects and the same multiset of scene photos. In a photo pool the seed
    orders each group, and the first round(rho * n) of the usual one and the first rest of the rare one are taken. In
    both, row i belongs to the same class at every rho, and only the rows that must change do.

    Args:
        catalog: the pool's catalog.
        split: its split.
        rho: share of each class in its usual scene, in [0.5, 1].
        seed: the member's seed, >= 0.
        n_train: number of training images, even.
        rhos: all levels of the grid, of which an error names the largest n_train; empty: this one alone.

    Returns:
        A table of n_train rows, the classes alternating; the trainer shuffles.

    Raises:
        ValueError: an argument is out of range, or the pool is too small: says what it holds, the largest n_train and
            the rho that this n_train allows.

    Example:
        >>> from flipjax.data.pool import Catalog
        >>> from flipjax.data.split import split_pool
        >>> y = np.repeat(np.arange(2), 12)
        >>> free, names = np.full(24, -1), tuple(map(str, range(24)))
        >>> catalog = Catalog(
        ...     kind="composite", class_names=("cat", "dog"), scene_names=("land", "water"),
        ...     object_class=y, object_scene=free, object_split=free, object_names=names,
        ...     scene_kind=y, scene_split=free, scene_photo_names=names)
        >>> split = split_pool(catalog, n_val=4, n_test=4, seed=0)
        >>> largest_n_train(catalog, split, rhos=[0.5, 0.9])
        20
        >>> table = training_table(catalog, split, rho=0.9, seed=0, n_train=20)
        >>> print(np.bincount(table.groups), np.bincount(evaluation_table(catalog, split, "test").groups))
        [9 1 1 9] [1 1 1 1]
    """
    _check_rho(catalog, rho)
    if n_train < 2 or n_train % 2:
        raise ValueError(f"n_train: expected a positive even number (two equal classes), found {n_train}")
    n = n_train // 2
    m = round(rho * n)
    if not _limits(catalog, split).allow(m, n):
        raise ValueError(_impossible(catalog, split, rho, n_train, rhos or [rho]))
    draw = _photo_rows if catalog.kind == "photo" else _composite_rows
    columns = [draw(catalog, split.train, y, m, n, seed) for y in (0, 1)]
    usual = np.arange(n) < m
    groups = [TWO_BY_TWO.of(y, np.where(usual, y, 1 - y)) for y in (0, 1)]
    return _table(interleave(columns), interleave(groups), np.full(n_train, -1), np.zeros(n_train, bool))


def evaluation_table(catalog: Catalog, split: Split, part: Literal["val", "test"]) -> Table:
    """Lists a part's images, the four groups equally often; depends on the split alone.

    Composite: the objects alternate between the classes, and each stands in scene 0, then in scene 1 (rows 2 i and
    2 i + 1 are pair i). The part's photos of a kind pass behind the objects of class 0, then of class 1, and come again
    when all were used. Photo: the part's photos, groups alternating, without pairs.

    Args:
        catalog: the pool's catalog.
        split: its split.
        part: 'val' or 'test'.

    Returns:
        A table of n_val or n_test rows.

    Raises:
        ValueError: another part is asked for.
    """
    if part not in PARTS[1:]:
        raise ValueError(f"part: expected 'val' or 'test', found {part!r}")
    chosen: SplitPart = getattr(split, part)
    y = catalog.object_class[chosen.objects]
    n = len(chosen.objects)
    if catalog.kind == "photo":
        rows = np.stack([chosen.objects, np.full(n, -1)], axis=1)
        groups = strata(catalog)[chosen.objects]
        return _table(rows, groups, np.full(n, -1), half_of_each_group(groups))
    slots = np.arange(n) // 2 + y * (n // 2)
    photos = [_cycle(chosen.scenes[catalog.scene_kind[chosen.scenes] == s], n)[slots] for s in (0, 1)]
    rows = [np.stack([chosen.objects, photos[s]], axis=1) for s in (0, 1)]
    groups = interleave([TWO_BY_TWO.of(y, scene) for scene in (0, 1)])
    return _table(interleave(rows), groups, np.repeat(np.arange(n), 2), half_of_each_group(groups))


def largest_n_train(catalog: Catalog, split: Split, *, rhos: Sequence[float]) -> int:
    """Returns the largest n_train that every rho allows: the size at which a grid's levels can be compared.

    Args:
        catalog: the pool's catalog.
        split: its split.
        rhos: the levels, each in [0.5, 1].

    Returns:
        An even number of images; 0 where no size is possible.

    Raises:
        ValueError: no rho, or one out of range.
    """
    if not len(rhos):
        raise ValueError("rhos: expected at least one rho, found none")
    for rho in rhos:
        _check_rho(catalog, rho)
    limits = _limits(catalog, split)
    return 2 * max(n for n in range(limits.total + 1) if all(limits.allow(round(rho * n), n) for rho in rhos))


def count_groups(catalog: Catalog, split: Split) -> dict[str, tuple[int, ...]]:
    """Counts what each part holds.

    Args:
        catalog: the pool's catalog.
        split: its split.

    Returns:
        For 'train', 'val', 'test': the numbers of photos of groups 0..3; in a composite pool, of objects of class 0
        and 1 and scene photos of kind 0 and 1.
    """
    counts = {}
    for name, part in zip(PARTS, split, strict=True):
        objects = np.bincount(strata(catalog)[part.objects], minlength=len(strata_names(catalog)))
        kinds = np.bincount(catalog.scene_kind[part.scenes], minlength=2) if catalog.kind == "composite" else []
        counts[name] = (*map(int, objects), *map(int, kinds))
    return counts


class _Limits(NamedTuple):
    """The most images of a class that train can show: in its usual scene, in the other, and in all."""

    usual: int
    rare: int
    total: int

    def allow(self, m: int, n: int) -> bool:
        return m <= self.usual and n - m <= self.rare and n <= self.total


def _limits(catalog: Catalog, split: Split) -> _Limits:
    counts = np.bincount(strata(catalog)[split.train.objects], minlength=len(strata_names(catalog)))
    if catalog.kind == "composite":
        return _Limits(*[int(counts.min())] * 3)
    usual = int(min(counts[0], counts[3]))
    rare = int(min(counts[1], counts[2]))
    return _Limits(usual, rare, usual + rare)


def _composite_rows(catalog: Catalog, train: SplitPart, y: int, m: int, n: int, seed: int) -> np.ndarray:
    objects = train.objects[catalog.object_class[train.objects] == y]
    objects = shuffle(np.sort(objects), seed, f"train objects {y}")[:n]
    photos = []
    for s in (y, 1 - y):
        of_kind = np.sort(train.scenes[catalog.scene_kind[train.scenes] == s])
        photos.append(_cycle(shuffle(of_kind, seed, f"train scenes {s}"), n))
    return np.stack([objects, np.where(np.arange(n) < m, *photos)], axis=1)


def _photo_rows(catalog: Catalog, train: SplitPart, y: int, m: int, n: int, seed: int) -> np.ndarray:
    stratum = strata(catalog)[train.objects]
    usual, rare = (shuffle(np.sort(train.objects[stratum == g]), seed, f"train photos {g}") for g in (3 * y, 1 + y))
    # The rare photos stand in reverse, so that a photo keeps its row when rho drops the last ones.
    photos = np.concatenate([usual[:m], rare[: n - m][::-1]])
    return np.stack([photos, np.full(n, -1)], axis=1)


def half_of_each_group(groups: np.ndarray) -> np.ndarray:
    """Returns which images are in the first half, bool (n,): every other one of each group, beginning with its first.

    Example:
        >>> half_of_each_group(np.array([0, 0, 1, 1, 3, 3, 2, 2])).astype(int).tolist()
        [1, 0, 1, 0, 1, 0, 1, 0]
    """
    half = np.zeros(len(groups), bool)
    for group in np.unique(groups):
        half[np.flatnonzero(groups == group)[::2]] = True
    return half


def _table(rows: np.ndarray, groups: np.ndarray, pairs: np.ndarray, refit: np.ndarray) -> Table:
    return Table(rows.astype(np.int32), groups.astype(np.int32), pairs.astype(np.int32), refit)


def _cycle(items: np.ndarray, n: int) -> np.ndarray:
    return items[np.arange(n) % len(items)]


def _check_rho(catalog: Catalog, rho: float) -> None:
    accepts, text = catalog.groups.rho_range
    if not accepts(rho):
        raise ValueError(f"rho: expected {text}, found {rho}")


def _impossible(catalog: Catalog, split: Split, rho: float, n_train: int, rhos: Sequence[float]) -> str:
    n = n_train // 2
    levels = ", ".join(f"{level:g}" for level in sorted(set(rhos)))
    limits = _limits(catalog, split)
    heads = strata_names(catalog)
    if catalog.kind == "composite":
        heads += [f"{name} scenes" for name in catalog.scene_names]
    parts = "; ".join(
        f"{part} " + ", ".join(f"{head} {count}" for head, count in zip(heads, counts, strict=True))
        for part, counts in count_groups(catalog, split).items()
    )
    possible = [m for m in range(round(n / 2), n + 1) if limits.allow(m, n)]
    allowed = "no rho is possible"
    if possible:
        allowed = f"rho must lie in [{max(0.5, possible[0] / n):.6g}, {possible[-1] / n:.6g}]"
    return (
        f"n_train {n_train} at rho {rho:g} needs {round(rho * n)} images of each class in its usual scene and "
        f"{n - round(rho * n)} in the other; the pool holds: {parts}. Largest n_train at rho {levels}: "
        f"{largest_n_train(catalog, split, rhos=rhos)}, which config.split.n_train = 0 takes. With n_train {n_train}: "
        f"{allowed}"
    )
