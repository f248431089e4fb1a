"""Decodes the images of a listing into a pool on all cores, and caches it on disk.

A cached pool is a folder named by its key: memory-mapped arrays, and `pool.json` with their digest. It may be deleted
at any time, since the pool can be made again.
"""

import contextlib
import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from math import inf, isqrt, prod
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.config import ConfigError, PoolSpec
from flipjax.config.naming import groups_of
from flipjax.data.decoding.images import BadFileError, EmptyObjectError, Pixels
from flipjax.data.pool import Catalog, Pool, PoolItem, PoolKind
from flipjax.support.files import DamagedError, adding_folder, cache_folder
from flipjax.support.terminal import Bar, listed, one_line, printable, say
from flipjax.support.threads import in_order

Item = TypeVar("Item", bound=PoolItem)
Out = TypeVar("Out")

SHARED = 5
"""Most files with the same problem that have a line each."""
RESERVED = ("foreground", "background")
"""Reserved names: rows of result tables besides the classes."""
FORMAT = 3
"""Version of stored pools, part of every key: increase it when the same files give other pixels or another record."""
ARRAYS = ("images", "masks", "labels", "scenes", "aspects")
"""Arrays of a stored pool."""
COLUMNS = ("object_class", "object_scene", "scene_kind", "object_split", "scene_split")
"""Arrays of a catalog that its digest covers."""
NAMES = ("kind", "class_names", "scene_names", "object_names", "scene_photo_names")
"""Attributes of a catalog that its digest covers, beside the arrays `COLUMNS`."""
RECORD = "pool.json"
"""Name of the file that describes a stored pool."""
BLOCK = 1 << 24
"""Values of an array that are hashed at once."""
SIDE_FACTOR = 8
"""What divides the side of images, which networks halve several times."""
SMALLEST_SIDE = 16
"""Smallest side of images, in pixels."""

Arrays = dict[str, np.ndarray]
"""Arrays of a pool by name."""
Reader = Callable[[PoolItem], Pixels]
"""Reads the pixels of an item; raises BadFileError if it is unusable."""


class BadFilesError(ConfigError):
    """A source of images that cannot form a pool; `problems` holds one line per file."""

    exit_code = 1

    def __init__(self, source: object, problems: Iterable[str]):
        """Joins the problems into one message."""
        self.problems = tuple(map(one_line, problems))
        count = f"{len(self.problems)} problem{'s' * (len(self.problems) > 1)}"
        lines = [count, *shared_lines(self.problems)]
        super().__init__(printable(str(source)), problem="\n  ".join(lines))


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
    for alike in by_reason.values():
        if len(alike) > SHARED:
            lines.append(alike[0].replace(": ", f" and {len(alike) - 1} other files: ", 1))
        else:
            lines += alike
    return lines


def load_pool(
    spec: PoolSpec, key: str, list_items: Callable[[], tuple[Catalog, Reader]], *, skip_empty: bool = False
) -> tuple[Pool, Catalog]:
    """Loads a pool from the cache, or decodes it and caches it.

    Args:
        spec: `size` and `usual`.
        key: a file name unique to the pool: a hash of its files, size and options.
        list_items: returns the catalog and a reader of its items; called only if the pool must be made.
        skip_empty: whether to leave out objects that vanish at this size, with a line on stderr, instead of an error.

    Returns:
        The pool on the device, and its catalog.

    Raises:
        BadFilesError: (a ConfigError) files are bad; lists all of them.
        ConfigError: the pool is larger than memory.
    """
    folder = _folder_of(key)
    cached = _read_cached(folder)
    if cached is None:
        catalog, read = list_items()
        made = build_pool(catalog, read, size=spec.size, skip_empty=skip_empty)
        cached = _write_cached(folder, *made)
    arrays, catalog = cached
    catalog = with_usual(catalog, spec.usual)
    if not catalog.usual:
        say_usual(usual_by_order(catalog, "config.pool.usual"))
    return jax.tree.map(jnp.asarray, pool_of(arrays, catalog.kind)), catalog


def cached_catalog(key: str) -> Catalog | None:
    """Returns the catalog of a cached pool, whose arrays are not compared with their digest; None without a pool."""
    try:
        return _catalog_in((_folder_of(key) / RECORD).read_bytes())
    except (OSError, ValueError, TypeError, KeyError):
        # `load_pool` makes a damaged pool again.
        return None


def _folder_of(key: str) -> Path:
    return cache_folder() / "pools" / key


def _catalog_in(text: bytes) -> Catalog:
    """Returns the catalog of a stored pool's record."""
    record = json.loads(text)
    for name in ("class_names", "scene_names"):
        record[name] = tuple(record[name])
    for name in ("objects", "scenes"):
        record[name] = [PoolItem(**item) for item in record[name]]
    return Catalog(**record)


def _read_cached(folder: Path) -> tuple[Arrays, Catalog] | None:
    """Returns a cached pool; None if there is none, or a damaged one, of which a line on stderr tells."""
    try:
        return read_pool(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DamagedError as error:
        say(f"pool: warning: the stored pool {folder} is damaged ({error}); making it again")
        return None


def _write_cached(folder: Path, arrays: Arrays, catalog: Catalog) -> tuple[Arrays, Catalog]:
    """Stores a pool and returns it memory-mapped, so that the host keeps no copy besides the device's.

    Where it cannot be stored, it is returned as it is, with a line on stderr.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with adding_folder(folder) as partial:
            for name, array in arrays.items():
                np.save(partial / f"{name}.npy", array)
            (partial / RECORD).write_text(json.dumps(asdict(catalog)), encoding="utf-8")
        return read_pool(folder)
    except OSError as error:
        say(f"pool: warning: the decoded pool cannot be kept ({error}); XDG_CACHE_HOME names another folder")
        return arrays, catalog


def build_pool(catalog: Catalog, read: Reader, *, size: int, skip_empty: bool = False) -> tuple[Arrays, Catalog]:
    """Decodes every item.

    Args:
        catalog: of the items.
        read: reads the pixels of an item.
        size: side of the images in pixels.
        skip_empty: as in `load_pool`.

    Returns:
        The arrays, and their catalog with its digest and without files.

    Raises:
        BadFilesError: files are bad, or the catalog has problems.
        ConfigError: the pool is larger than memory.
    """
    shapes = shapes_of(len(catalog.objects), len(catalog.scenes), size)
    check_memory(shapes)
    arrays = {name: np.zeros(shape, dtype_of(name)) for name, shape in shapes.items()}
    problems = list(catalog.problems)
    empty: list[str] = []
    objects: list[PoolItem] = []
    scenes: list[PoolItem] = []
    items = [*catalog.objects, *catalog.scenes]
    for item, pixels in decoded(items, read, "images", problems, empty if skip_empty else None):
        described = replace(item, files=())
        if item.is_scene_photo:
            arrays["scenes"][len(scenes)] = pixels.image
            scenes.append(described)
        else:
            row = len(objects)
            arrays["images"][row] = pixels.image
            arrays["masks"][row] = pixels.mask
            arrays["aspects"][row] = pixels.aspect
            arrays["labels"][row] = 1 + item.y
            objects.append(described)
    if problems:
        raise BadFilesError(catalog.source, problems)
    if empty:
        say(f"pool: {len(empty)} images left out, nothing of the object is left at size {size}: {listed(empty)}")
        for name in arrays.keys() - {"scenes"}:
            arrays[name] = arrays[name][: len(objects)]
    catalog = replace(catalog, objects=objects, scenes=scenes)
    return arrays, replace(catalog, content=pool_digest(arrays, catalog))


def decoded(
    items: Sequence[Item], read: Callable[[Item], Out], what: str, problems: list[str], empty: list[str] | None = None
) -> Iterator[tuple[Item, Out]]:
    """Yields each usable item with its decoded content, in order; fills the lists `problems` and `empty`.

    Args:
        items: the items to read.
        read: reads an item; raises BadFileError if it is unusable.
        what: name of the items, for progress.
        problems: gets a line for each unusable item.
        empty: gets the names of objects that vanish at this size; None: they are problems, too.
    """

    def attempt(item: Item) -> Out | BadFileError:
        try:
            return read(item)
        except BadFileError as error:
            return error

    with Bar(total=len(items)) as bar:
        for done, (item, result) in enumerate(zip(items, in_order(attempt, items), strict=True), start=1):
            if isinstance(result, EmptyObjectError) and empty is not None:
                empty.append(item.name)
            elif isinstance(result, BadFileError):
                problems.append(str(result))
            else:
                yield item, result
            bar.advance(1, f"{what}: {done} of {len(items)}", last=done == len(items))


def names_of(source: object, field: str, counts: Mapping[str, int], asked: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of at least two classes or scenes of a source.

    Args:
        source: description of the source.
        field: 'classes' or 'scene_kinds', a field of `config.pool`.
        counts: number of images for each existing name, in the default order.
        asked: the names in the wanted order; empty: all in the default order.

    Raises:
        BadFilesError: fewer than two names, a name without images, or a reserved name.
    """
    problem = problem_of_names(counts, asked)
    if problem:
        raise BadFilesError(source, [f"{field}: {problem}"])
    return tuple(asked or counts)


def problem_of_names(counts: Mapping[str, int], asked: Sequence[str]) -> str:
    """Returns why `names_of` refuses names, or nothing if it takes them."""
    names = tuple(asked or counts)
    counted = listed([f"{name} ({count})" for name, count in counts.items()])
    absent = [name for name in names if not counts.get(name)]
    bad = [name for name in names if name in RESERVED or "$" in name or not name.isprintable() or not name.strip()]
    if len({*names}) < max(2, len(names)):
        found = counted
        if asked:
            found = listed(asked)
        return f"expected two or more that differ; found {found}"
    if absent:
        return f"no image of {', '.join(absent)}; found {counted}"
    if bad:
        reason = f"the results use {', '.join(RESERVED)}, figures read $ as a formula, and a blank is no name"
        return f"the name {bad[0]!r} cannot be used: {reason}; rename it"
    return ""


def pool_of(arrays: Mapping[str, np.ndarray], kind: PoolKind) -> Pool:
    """Returns the pool of `ARRAYS`, NumPy arrays, without aspects if one of them is unknown."""
    fields: dict[str, Any] = dict(arrays)
    if np.isnan(arrays["aspects"]).any():
        fields["aspects"] = None
    return Pool(kind=kind, **fields)


@functools.cache
def say_usual(text: str) -> None:
    """Says a line about usual scenes on stderr, once."""
    say(text)


def usual_by_order(catalog: Catalog, option: str) -> str:
    """Returns which scenes are usual where nobody chose them, and the option that sets others."""
    pairs = []
    for name, scenes in zip(catalog.class_names, catalog.groups.usual, strict=True):
        pairs.append(f"{name} in {' and '.join(catalog.scene_names[scene] for scene in scenes)}")
    return f"pool: usual scenes, by order: {', '.join(pairs)}; {option} sets others"


def with_usual(catalog: Catalog, usual: Sequence[str | tuple[str, ...]]) -> Catalog:
    """Returns the catalog with the usual scenes of a configuration; raises as `groups_of` does, of none given too."""
    groups = groups_of(catalog.class_names, catalog.scene_names, usual)
    if not usual:
        return replace(catalog, usual=())
    return replace(catalog, usual=groups.usual)


def shapes_of(objects: int, scenes: int, size: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a pool's arrays; `dtype_of` gives their dtypes."""
    return {
        "images": (objects, size, size, 3),
        "masks": (objects, size, size),
        "labels": (objects,),
        "scenes": (scenes, size, size, 3),
        "aspects": (objects,),
    }


def dtype_of(name: str) -> type:
    """Returns the dtype of a pool's array."""
    if name == "aspects":
        return np.float32
    return np.uint8


def read_pool(folder: Path) -> tuple[Arrays, Catalog]:
    """Memory-maps a cached pool and compares its digest.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such pool.
        DamagedError: its content differs from its digest.
        ConfigError: it is too large for memory; raised before it is read.
    """
    text = (folder / RECORD).read_bytes()
    try:
        # Memory maps go to the device without a second copy on the host.
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        if any(array.dtype != dtype_of(name) for name, array in arrays.items()):
            raise ValueError("arrays of another type")
        catalog = _catalog_in(text)
        check_memory({name: array.shape for name, array in arrays.items()})
        if pool_digest(arrays, catalog) != catalog.content:
            raise ValueError("the digest of its arrays is another one")
        return arrays, catalog
    except ConfigError:
        raise
    except Exception as error:  # NumPy's parser of headers can raise almost anything on corrupt bytes.
        raise DamagedError(f"{type(error).__name__}: {error}") from error


def drawn_shapes(spec: PoolSpec, objects: int, scenes: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a drawn pool's arrays, with backdrops if its cue needs them."""
    shapes = shapes_of(objects, scenes, spec.size)
    if spec.cue != "scene":
        shapes["backdrops"] = (objects, spec.size, spec.size, 3)
    elif spec.blended:
        # The mean scene.
        shapes["backdrops"] = (1, spec.size, spec.size, 3)
    return shapes


def check_memory(shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ConfigError if a pool whose arrays have these shapes is larger than memory."""
    limit = memory_limit()
    objects, size, *_ = shapes["images"]
    total = sum(map(prod, shapes.values()))
    if total <= limit.available:
        return
    # Networks halve the side several times, and need some pixels.
    fitting_size = isqrt(int(size**2 * limit.available / total)) // SIDE_FACTOR * SIDE_FACTOR
    largest = "no size fits"
    if fitting_size >= SMALLEST_SIDE:
        largest = f"the largest size that fits is {fitting_size}"
    content = f"{total / 1e6:,.0f} MB ({objects:,} objects or photos, {shapes['scenes'][0]:,} scenes)"
    memory = f"{limit.owner} has {limit.available / 1e6:,.0f} MB"
    raise ConfigError("config.pool.size", problem=f"the pool at size {size} has {content}, and {memory}; {largest}")


class MemoryLimit(NamedTuple):
    """The memory that a pool may fill."""

    available: float
    """Bytes; infinity if unknown."""
    owner: str
    """The device or machine that has it, in words."""


def memory_limit() -> MemoryLimit:
    """Returns the memory of the device that holds a pool; each device of a CPU holds a copy."""
    devices = jax.local_devices()
    device_bytes = (devices[0].memory_stats() or {}).get("bytes_limit")
    if device_bytes:
        return MemoryLimit(device_bytes, f"the device {devices[0].device_kind}")
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        kilobytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return MemoryLimit(1024 * int(kilobytes) // len(devices), f"each of {len(devices)} CPU devices")
    return MemoryLimit(inf, "the machine")


def pool_digest(arrays: Mapping[str, np.ndarray], catalog: Catalog) -> str:
    """Returns a digest of shapes, blocks (hashed on all cores) and the catalog without its source: 32 hex digits."""
    values = {name: getattr(catalog, name) for name in NAMES}
    for name in COLUMNS:
        values[name] = getattr(catalog, name).tolist()
    if catalog.clustered:
        values["object_clusters"] = catalog.object_clusters
    total = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name in ARRAYS:
        total.update(f"{name} {arrays[name].shape}\n".encode())
        flat = np.ascontiguousarray(arrays[name]).reshape(-1)
        blocks = (flat[start : start + BLOCK] for start in range(0, len(flat), BLOCK))
        for digest in in_order(_digest_of_block, blocks):
            total.update(digest)
    return total.hexdigest()[:32]


def _digest_of_block(block: np.ndarray) -> bytes:
    return hashlib.sha256(block.data).digest()
