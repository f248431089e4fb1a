"""Decodes the images of a listing into a pool on all cores, and caches it on disk atomically."""

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np

from flipjax.config import ConfigError, PoolSpec
from flipjax.data import store
from flipjax.data.images import BadFileError, EmptyObjectError, Pixels
from flipjax.data.naming import groups_of
from flipjax.data.pool import Catalog, Listing, Pool, PoolItem, catalog_of
from flipjax.data.store import Arrays
from flipjax.files import DamagedError, adding_folder, cache_folder
from flipjax.terminal import Bar, one_line, printable
from flipjax.threads import in_order

Item = TypeVar("Item", bound=PoolItem)
Out = TypeVar("Out")

SHARED = 5
"""Files of the same problem that are listed one by one."""
MANY = 12
"""What a line names of many."""
RESERVED = ("foreground", "background")
"""Names that stand beside the classes in tables of results."""


class PixelReader(NamedTuple):
    """Reads the pixels of items; raises BadFileError for an unusable file.

    Attributes:
        read_object: returns the pixels of a photo or cut-out.
        read_scene: returns an image, uint8 (size, size, 3).
    """

    read_object: Callable[[PoolItem], Pixels]
    read_scene: Callable[[PoolItem], np.ndarray]


class BadFilesError(ConfigError):
    """A source of images that cannot form a pool; `problems` holds one line per file."""

    exit_code = 1

    def __init__(self, source: object, problems: Iterable[str]):
        """Joins the problems into one message."""
        self.problems = tuple(map(one_line, problems))
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(printable(str(source)), problem="\n  ".join([count, *shared_lines(self.problems)]))


def shared_lines(problems: Sequence[str]) -> list[str]:
    """Returns problems as lines; combines more than SHARED files with the same problem into one line.

    Example:
        >>> shared_lines([f"masks/{i}.png: no image" for i in range(9)])
        ['masks/0.png and 8 other files: no image']
    """
    by_reason: dict[str, list[str]] = {}
    for problem in map(one_line, problems):
        name, _, reason = problem.partition(": ")
        by_reason.setdefault(reason.replace(PurePosixPath(name).stem, "NAME"), []).append(problem)
    lines = []
    for same in by_reason.values():
        name, _, reason = same[0].partition(": ")
        lines += [f"{name} and {len(same) - 1} other files: {reason}"] if len(same) > SHARED else same
    return lines


def load_pool(
    spec: PoolSpec, key: str, list_items: Callable[[], tuple[Listing, PixelReader]], *, leave_out: bool = False
) -> tuple[Pool, Catalog]:
    """Returns a cached pool, or makes it and caches it.

    A damaged cached pool is made again. That, and a pool that cannot be cached, prints a line on stderr.

    Args:
        spec: `size`, and `cache`, the folder of cached pools.
        key: a file name unique to the pool: a hash of its files, size and options.
        list_items: returns the listing; called only if the pool must be made.
        leave_out: whether to skip objects that vanish at this size, with a line on stderr, instead of an error.

    Raises:
        BadFilesError: (a ConfigError) files are bad; lists all of them.
        ConfigError: the pool is larger than memory.
    """
    path = cache_folder() / "pools" / key
    try:
        return _to_device(spec, *store.read_pool(path))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except DamagedError as error:
        say_line(f"pool: warning: the stored pool {path} is damaged ({error}); making it again")
    pool = build_pool(*list_items(), size=spec.size, leave_out=leave_out)
    shutil.rmtree(path, ignore_errors=True)
    try:
        with adding_folder(path) as folder:
            store.write_pool(folder, *pool)
        # Memory-mapped, so that the host keeps no copy besides the device's.
        pool = store.read_pool(path)
    except OSError as error:
        say_line(f"pool: warning: the decoded pool cannot be kept ({error}); XDG_CACHE_HOME names another folder")
    return _to_device(spec, *pool)


def build_pool(listing: Listing, reader: PixelReader, *, size: int, leave_out: bool = False) -> tuple[Arrays, Catalog]:
    """Decodes every item.

    Args:
        listing: the items.
        reader: reads their pixels.
        size: side of the images in pixels.
        leave_out: as in `load_pool`.

    Returns:
        The arrays, and the catalog with its digest.

    Raises:
        BadFilesError: files are bad, or the listing has problems.
        ConfigError: the pool is larger than memory.
    """
    shapes = store.shapes_of(len(listing.objects), len(listing.scenes), size)
    store.check_memory(shapes, store.memory_limit())
    arrays = {name: np.zeros(shape, store.dtype_of(name)) for name, shape in shapes.items()}
    problems = list(listing.problems)
    objects: list[PoolItem] = []
    empty: list[str] = []
    kept = decoded(
        listing.objects, reader.read_object, what="images", problems=problems, empty=empty if leave_out else None
    )
    for row, (item, pixels) in enumerate(kept):
        arrays["images"][row], arrays["masks"][row], _, arrays["aspects"][row] = pixels
        arrays["labels"][row] = 1 + item.y
        objects.append(item)
    for row, (_, image) in enumerate(decoded(listing.scenes, reader.read_scene, what="scenes", problems=problems)):
        arrays["scenes"][row] = image
    if problems:
        raise BadFilesError(listing.source, problems)
    if empty:
        lost = f"nothing of the object is left at size {size}: {listed(empty)}"
        say_line(f"pool: {len(empty)} images left out, {lost}")
        arrays = {name: array if name == "scenes" else array[: len(objects)] for name, array in arrays.items()}
    return arrays, store.with_digest(arrays, catalog_of(dataclasses.replace(listing, objects=objects)))


def decoded(
    items: Sequence[Item],
    read: Callable[[Item], Out],
    *,
    what: str,
    problems: list[str],
    empty: list[str] | None = None,
) -> Iterator[tuple[Item, Out]]:
    """Yields each item with its decoded content, in order.

    Args:
        items: the items to read.
        read: reads an item; raises BadFileError if it is unusable.
        what: name of the items in the progress bar; empty: no bar.
        problems: collects a line for each unusable item.
        empty: collects the names of objects that vanish at this size; None: they are problems, too.
    """

    def attempt(item: Item) -> Out | BadFileError:
        try:
            return read(item)
        except BadFileError as error:
            return error

    bar = Bar(what, total=len(items)) if what and items else None
    with bar or contextlib.nullcontext():
        for done, (item, result) in enumerate(zip(items, in_order(attempt, items), strict=True), start=1):
            if isinstance(result, EmptyObjectError) and empty is not None:
                empty.append(item.name)
            elif isinstance(result, BadFileError):
                problems.append(str(result))
            else:
                yield item, result
            if bar:
                bar.advance(1, f"{what}: {done} of {len(items)}", last=done == len(items))


def say_line(text: str) -> None:
    """Prints a line on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def names_of(source: object, field: str, counts: Mapping[str, int], asked: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of at least two classes or scenes of a source.

    Args:
        source: description of the source.
        field: 'classes' or 'scene_kinds', a field of `config.pool`.
        counts: number of images for each existing name, in the default order.
        asked: the names in the wanted order; empty: all in the default order.

    Raises:
        BadFilesError: there are fewer than two, one has no image, or one is not allowed in results.
    """
    names = tuple(asked or counts)
    counted = listed([f"{name} ({count})" for name, count in counts.items()])
    if len(names) < 2 or len(set(names)) < len(names):
        origin = f" asked for as config.pool.{field}" if asked else ""
        choices = listed(asked) if asked else counted
        raise BadFilesError(source, [f"{field}: expected two or more that differ{origin}; found {choices}"])
    absent = [name for name in names if not counts.get(name)]
    if absent:
        raise BadFilesError(source, [f"{field}: no image of {', '.join(absent)}; found {counted}"])
    for name in names:
        if name in RESERVED or "$" in name or not name.isprintable() or not name.strip():
            reason = f"the results use {', '.join(RESERVED)}, figures read $ as a formula, and a blank is no name"
            raise BadFilesError(source, [f"{field}: the name {name!r} cannot be used: {reason}; rename it"])
    return names


def listed(names: Sequence[str]) -> str:
    """Returns up to a dozen names as text, or 'nothing'."""
    more = ["..."] if len(names) > MANY else []
    return ", ".join([*names[:MANY], *more]) or "nothing"


def _to_device(spec: PoolSpec, arrays: Arrays, catalog: Catalog) -> tuple[Pool, Catalog]:
    images, masks, labels, scenes, aspects = (
        jnp.asarray(arrays[name]) for name in ("images", "masks", "labels", "scenes", "aspects")
    )
    known = None if np.isnan(arrays["aspects"]).any() else aspects
    pool = Pool(kind=catalog.kind, images=images, masks=masks, labels=labels, scenes=scenes, aspects=known)
    return pool, with_usual(catalog, spec)


def with_usual(catalog: Catalog, spec: PoolSpec) -> Catalog:
    """Returns the catalog with the usual scenes of a configuration; raises as `groups_of` does."""
    usual = groups_of(catalog.class_names, catalog.scene_names, spec.usual).usual
    return dataclasses.replace(catalog, usual=usual)
