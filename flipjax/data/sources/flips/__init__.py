"""flips-1, a benchmark with a version: drawn images, masks, groups and index tables whose bytes never change.

`flipjax.data.benchmark("flips-1", rho=0.9)` gives a member's images to any framework, and `flipjax sweep --config
flips-1` trains on the same ones. Blossoms of two or four classes stand on two or four grounds; the class shows in the
petals and the coat, more clearly in some blossoms than in others. Each use compares digests with `digests.json`, so
that results from different machines and versions are about the same pixels.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib import metadata, resources

import numpy as np

from flipjax.config import ConfigError, PoolSpec
from flipjax.data.pool import Catalog, Pool, PoolItem
from flipjax.data.sources.flips import blossoms, grounds
from flipjax.data.sources.flips.exact import NUMBERS, draw_numbers
from flipjax.data.store import pool_of, with_usual
from flipjax.support.files import DamagedError

NAME = "flips-1"
"""Value of `config.pool.name`, and the name of the configuration."""
CLASSES = ("thrift", "aster", "clover", "mallow")
"""Names of the blossoms."""
SCENES = ("meadow", "pond", "dune", "scree")
"""Names of the grounds."""
SIZE = 48
"""Side of the images in pixels."""
OBJECTS = 400
"""Blossoms of each class."""
GROUNDS = 240
"""Scenes of each kind."""
AT_ONCE = 50
"""Images that are drawn at once, to bound memory."""
VERSIONS = ("numpy", "scipy", "jax")
"""Packages whose versions an error names."""


def load_flips(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Draws the pool of flips-1, and compares its bytes with the digests of this version.

    Args:
        spec: of a configuration from `configs/flips-1.py`.

    Returns:
        A composite pool and its catalog; NumPy arrays.

    Raises:
        ConfigError: a key of the pool differs from those of flips-1.
        DamagedError: other bytes were drawn; names the part, and the versions of this machine.
    """
    pool, catalog = draw_pool(spec)
    check_digests(catalog, digests_of_pool(pool))
    return pool, catalog


def draw_pool(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Returns what `load_flips` does, without a comparison of digests."""
    catalog = list_flips(spec)
    count = len(catalog.class_names)
    rgba = np.concatenate([_draw_blossoms(number) for number in range(count)])
    arrays = {
        "images": rgba[..., :3],
        "masks": rgba[..., 3],
        "labels": (1 + catalog.object_class).astype(np.uint8),
        "scenes": np.concatenate([_draw_grounds(number) for number in range(count)]),
        "aspects": np.full(len(rgba), np.nan, np.float32),
    }
    return pool_of(arrays, "composite"), catalog


def list_flips(spec: PoolSpec) -> Catalog:
    """Returns the catalog of flips-1 without drawing it; see `load_flips`."""
    for field, expected in (("size", SIZE), ("usual", ())):
        if getattr(spec, field) != expected:
            raise ConfigError(
                f"config.pool.{field}", f"{expected!r} for {NAME}, whose images are fixed", getattr(spec, field)
            )
    count = len(spec.classes)
    if (spec.classes, spec.scene_kinds) not in [(CLASSES[:n], SCENES[:n]) for n in (2, 4)]:
        expected = f"the first two or four of {', '.join(CLASSES)}, and as many scenes, for {NAME}"
        raise ConfigError("config.pool.classes", expected, f"{spec.classes} on {spec.scene_kinds}")
    objects = []
    scenes = []
    for number in range(count):
        objects += [PoolItem(f"{CLASSES[number]}_{i:04d}", y=number) for i in range(OBJECTS)]
        scenes += [PoolItem(f"{SCENES[number]}_{i:04d}", scene=number) for i in range(GROUNDS)]
    return with_usual(Catalog(NAME, "composite", CLASSES[:count], SCENES[:count], objects, scenes), ())


def _draw_blossoms(number: int) -> np.ndarray:
    """Draws all blossoms of a class."""
    numbers = draw_numbers(1, f"blossoms {number}", (OBJECTS, NUMBERS))
    kind = blossoms.KINDS[number]
    parts = []
    for first in range(0, OBJECTS, AT_ONCE):
        parts.append(blossoms.draw_blossoms(kind, numbers[first : first + AT_ONCE], size=SIZE))
    return np.concatenate(parts)


def _draw_grounds(number: int) -> np.ndarray:
    """Draws all grounds of a scene."""
    numbers = draw_numbers(1, f"grounds {number}", (GROUNDS, NUMBERS))
    lattices = draw_numbers(1, f"noise {number}", (GROUNDS, 2, 13, 13))
    kind = grounds.KINDS[number]
    parts = []
    for first in range(0, GROUNDS, AT_ONCE):
        part = slice(first, first + AT_ONCE)
        parts.append(grounds.draw_grounds(kind, numbers[part], lattices[part], size=SIZE))
    return np.concatenate(parts)


def digests_of_pool(pool: Pool) -> dict[str, str]:
    """Returns the digest of each array of a pool."""
    return {f"pool: {name}": digest_of_array(getattr(pool, name)) for name in ("images", "masks", "labels", "scenes")}


def check_digests(catalog: Catalog, digests: Mapping[str, str]) -> None:
    """Compares digests with those of this version; digests.json has training images of some levels and seeds alone.

    The others follow from the same tables and pool.

    Raises:
        DamagedError: one differs; names its part, and the versions of this machine.
    """
    recorded = recorded_digests()[form_of(catalog)]
    for name, digest in digests.items():
        if recorded.get(name, digest) != digest:
            versions = ", ".join(f"{package} {_version(package)}" for package in VERSIONS)
            here = f"Python {platform.python_version()}, {versions} on {platform.machine()}"
            expected = f"bytes with the digest {recorded[name]}, found {digest} with {here}"
            raise DamagedError(
                f"{NAME}, {form_of(catalog)}, {name}: expected {expected}; results from them cannot be compared"
            )


def recorded_digests() -> dict[str, dict[str, str]]:
    """Returns the digests of this version by form, '2 x 2' or '4 x 4', and part."""
    return json.loads(
        resources.files("flipjax.data.sources.flips").joinpath("digests.json").read_text(encoding="utf-8")
    )


def digest_of_array(array: np.ndarray) -> str:
    """Returns 16 hex digits of the SHA-256 of an array's type, shape and little-endian values."""
    values = np.ascontiguousarray(array)
    values = values.astype(values.dtype.newbyteorder("<"), copy=False)
    total = hashlib.sha256(f"{values.dtype.str} {values.shape}\n".encode())
    total.update(values.reshape(-1).view(np.uint8).data)
    return total.hexdigest()[:16]


def form_of(catalog: Catalog) -> str:
    """Returns '2 x 2' or '4 x 4', the classes and scenes of a catalog."""
    return f"{len(catalog.class_names)} x {len(catalog.scene_names)}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
