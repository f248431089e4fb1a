"""A pool made from a user's own folder, composite or photo."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from flipjax.config import ConfigError, PoolSpec, check_value
from flipjax.data import cache
from flipjax.data.folder.listing import FolderError, Listing, read_listing
from flipjax.data.pool import Catalog, Pool
from flipjax.data.prepare import prepare


def load(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Loads a folder; prepared pools are kept in a cache and found again by the content of the files.

    The layouts are those of `flipjax.data.listing.read_listing`; the pixels are prepared as by
    `flipjax.data.prepare.prepare`.

    Args:
        spec: `root`, `size` (pixels a side), `cache` (a folder; empty: ~/.cache/flipjax/pools), `classes` and
            `scene_kinds` (two names each, the usual scene of class y at y; empty: in the order of the alphabet).

    Returns:
        The pool and its catalog.

    Raises:
        ConfigError: root is no folder, or size is out of range.
        FolderError: (a ConfigError) the folder is no pool, or files are bad; lists every one of them.
    """
    check_value("pool.size", spec.size)
    if not spec.root:
        raise ConfigError("config.pool.root", "the path of a folder", "nothing")
    listing = read_listing(Path(spec.root).expanduser(), classes=spec.classes, scene_kinds=spec.scene_kinds)
    folder = Path(spec.cache).expanduser() if spec.cache else cache.default_folder()
    path = folder / f"{cache.content_key(listing, size=spec.size)}.npz"
    arrays = None if listing.problems else cache.read(path, listing, size=spec.size)
    if arrays is None:
        prepared = prepare(listing, size=spec.size)
        problems = listing.problems + prepared.problems
        if problems:
            raise FolderError(listing.root, problems)
        arrays = prepared.arrays
        cache.write(path, arrays)
    return Pool(kind=listing.kind, **{name: jnp.asarray(a) for name, a in arrays._asdict().items()}), catalog(listing)


def catalog(listing: Listing) -> Catalog:
    """Returns the catalog of a listing; names are paths below the root."""
    objects, scenes = listing.objects, listing.scenes
    return Catalog(
        kind=listing.kind,
        class_names=listing.class_names,
        scene_names=listing.scene_names,
        object_class=np.array([item.y for item in objects], np.int32),
        object_scene=np.array([item.scene for item in objects], np.int32),
        scene_kind=np.array([item.scene for item in scenes], np.int32),
        object_names=tuple(item.path for item in objects),
        scene_photo_names=tuple(item.path for item in scenes),
        object_split=np.array([item.split for item in objects], np.int32),
        scene_split=np.array([item.split for item in scenes], np.int32),
    )
