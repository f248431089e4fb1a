"""Checks a folder or arrays before a sweep."""

import dataclasses
import math
import os
from pathlib import Path
from typing import TypedDict, Unpack

from flipjax.config import ConfigError, ModelSpec, PoolSpec
from flipjax.config.checks import check_value
from flipjax.data.sources.arrays import ArrayData
from flipjax.data.sources.folder import check_folder, sweep_command
from flipjax.data.splits.overview import Overview, make_overview

SMALL_UNETS = "photos_grid"
"""The configuration that trains small U-Nets."""
FROZEN_FEATURES = "photos_grid:frozen"
"""The configuration that trains decoders of features of photos."""
FROZEN_SIZE = 96
"""Smallest side of photos for FROZEN_FEATURES: from 400 cats and dogs at 64 pixels, some members did not learn."""


class FolderOptions(TypedDict, total=False):
    """Keys of `config.pool` for a folder."""

    size: int
    classes: tuple[str, ...]
    scene_kinds: tuple[str, ...]
    usual: tuple[str | tuple[str, ...], ...]
    scene_column: str
    cluster_column: str


def check(data: ArrayData | str | Path, **options: Unpack[FolderOptions]) -> Overview:
    """Returns a pool's groups, the sizes that fit, and the call that sweeps it, as `flipjax data check DIR` prints.

    Args:
        data: arrays, of `from_arrays` or `from_cut_outs`; or a folder, every file of which is read.
        **options: of a folder, keys of `config.pool`: `size`, `classes`, `scene_kinds`, `usual`, `scene_column` and
            `cluster_column`.

    Returns:
        An overview, whose text is shown by `print` and in notebooks.

    Raises:
        ConfigError: no arrays and no folder, or an invalid option.
        BadFilesError: (a ConfigError) the folder is no pool.

    Example:
        >>> import numpy as np
        >>> from flipjax.data.sources.arrays import from_arrays
        >>> y, scene = np.divmod(np.arange(80) % 4, 2)
        >>> names = {"class_names": ("cat", "dog"), "scene_names": ("indoor", "outdoor")}
        >>> data = from_arrays(np.zeros((80, 16, 16)), np.ones((80, 16, 16), bool), y, scene, **names)
        >>> overview = check(data)
        >>> overview.fine, overview.changes["split.n_train"], overview.next[:27]
        (True, 22, "flipjax.run('photos_grid', ")
    """
    if isinstance(data, ArrayData):
        if options:
            raise ConfigError(min(options), "no option beside arrays, which have their size and names")
        return _check_arrays(data)
    if not isinstance(data, str | os.PathLike):
        raise ConfigError("data", "a folder, or arrays of from_arrays or from_cut_outs", type(data).__name__)
    for name, value in options.items():
        if name not in FolderOptions.__annotations__:
            raise ConfigError(name, "an option of a folder: size, classes, scene_kinds, usual, or a column")
        check_value(f"pool.{name}", value)
    spec = PoolSpec(name="folder", root=os.fspath(data), **options)
    overview = check_folder(spec)
    if overview.changes:
        stride = ModelSpec("frozen").stride
        frozen_size = max(FROZEN_SIZE, math.ceil(spec.size / stride) * stride)
        frozen_spec = dataclasses.replace(spec, size=frozen_size)
        overview = dataclasses.replace(
            overview,
            next=sweep_command(spec, overview, config=SMALL_UNETS),
            next_frozen=sweep_command(frozen_spec, overview, config=FROZEN_FEATURES),
        )
    return overview


def _check_arrays(data: ArrayData) -> Overview:
    """Describes a pool of arrays."""
    catalog = data.catalog
    title = f"arrays: a {catalog.kind} pool"
    size = int(data.pool.images.shape[1])
    overview = make_overview(catalog, title, (), size=size, usual_option="usual=")
    if overview.changes:
        overview = dataclasses.replace(overview, next=f"flipjax.run({SMALL_UNETS!r}, {overview.changes}, data=data)")
        if size >= FROZEN_SIZE and size % ModelSpec("frozen").stride == 0:
            call = f"flipjax.run({FROZEN_FEATURES!r}, {overview.changes}, data=data)"
            overview = dataclasses.replace(overview, next_frozen=call)
    return overview
