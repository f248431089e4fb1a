"""Pools by name, each loaded or listed by the module of its kind."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flipjax.config import PoolSpec
    from flipjax.data.pool import Catalog, Pool


# The modules of pools load JAX, so import them only when a pool is made.
def _load_synthetic(spec: "PoolSpec") -> "tuple[Pool, Catalog]":
    from flipjax.data.sources.synthetic import load_synthetic

    return load_synthetic(spec)


def _load_flips(spec: "PoolSpec") -> "tuple[Pool, Catalog]":
    from flipjax.data.sources.flips import load_flips

    return load_flips(spec)


def _load_folder(spec: "PoolSpec") -> "tuple[Pool, Catalog]":
    from flipjax.data.sources.folder import load_folder

    return load_folder(spec)


def _load_tfds(spec: "PoolSpec") -> "tuple[Pool, Catalog]":
    from flipjax.data.sources.tfds import load_tfds

    return load_tfds(spec)


POOLS: "dict[str, Callable[[PoolSpec], tuple[Pool, Catalog]]]" = {
    "coco_cd": _load_tfds,
    "flips-1": _load_flips,
    "folder": _load_folder,
    "synthetic": _load_synthetic,
    "tfds": _load_tfds,
    "waterbirds_seg": _load_tfds,
}
"""Pools by the value of `config.pool.name`: functions of a `PoolSpec` that return a `Pool` and its `Catalog`.

Example:
    >>> from flipjax.config import POOL_NAMES
    >>> {*POOLS} == {*POOL_NAMES} - {"arrays"}  # These are given from Python.
    True
"""


def list_pool(spec: "PoolSpec") -> "Catalog":
    """Returns the catalog of a pool as a sweep would use it, without reading or drawing images.

    Raises:
        ConfigError: the pool is missing, or has other classes or scenes than the configuration.

    Example:
        >>> from flipjax.config import PoolSpec
        >>> list_pool(PoolSpec(objects=4)).object_names[:2]
        ('mossling_0000', 'ripplet_0000')
    """
    from flipjax.data.store import BadFilesError, with_usual

    catalog = _listed(spec)
    if catalog.problems:
        raise BadFilesError(catalog.source, catalog.problems)
    return with_usual(catalog, spec.usual)


def _listed(spec: "PoolSpec") -> "Catalog":
    """Returns the catalog of a pool, perhaps with problems and without usual scenes."""
    if spec.name == "synthetic":
        from flipjax.data.sources.synthetic import list_synthetic

        return list_synthetic(spec)
    if spec.name == "flips-1":
        from flipjax.data.sources.flips import list_flips

        return list_flips(spec)
    if spec.name == "folder":
        from flipjax.data.sources.layouts import list_folder

        return list_folder(spec)
    from flipjax.data.sources.tfds import list_tfds

    return list_tfds(spec)
