"""Finds TFDS data sets on disk by their names, from file names and `dataset_info.json` alone.

A data set lies in DATA_DIR/NAME/CONFIG/VERSION; without a version the newest is taken. TensorFlow Datasets is not
imported. `flipjax.data.sources.tfds` reads what is found.
"""

import os
from pathlib import Path

import numpy as np

from flipjax.config import ConfigError, PoolSpec
from flipjax.data import store
from flipjax.support.files import read_json
from flipjax.support.terminal import listed

DEFAULT_CONFIGURATIONS = {"coco_cd": "photos", "waterbirds_seg": "cutouts"}
"""The configuration of each of flipjax's own builders that is read unless another is named."""
SCENES = "scenes"
"""The split with the scene photos of a composite data set."""
INFO = "dataset_info.json"
"""Name of the file in which TFDS describes a data set."""


def find_data_set(spec: PoolSpec) -> Path:
    """Returns the folder of a data set.

    Raises:
        ConfigError: it does not exist, with a list of all data sets.
    """
    data_dir = data_dir_of(spec.data_dir)
    root = spec.root
    advice = ""
    if spec.name in DEFAULT_CONFIGURATIONS:
        root = _root_of_builder(spec, data_dir)
        advice = f"; flipjax data prepare {spec.name} makes one"
    name, _, version = root.partition(":")
    # TFDS begins the name of a version with a dot while it is being made.
    version_pattern = version or "[!.]*"
    folders = [path.parent for path in (data_dir / name).glob(f"{version_pattern}/{INFO}")]
    if folders:
        return max(folders, key=_version_of)
    expected = f"NAME/CONFIG:VERSION of a data set in {data_dir}: {listed(_data_sets_in(data_dir))}{advice}"
    raise ConfigError("config.pool.root", expected, repr(root))


def _root_of_builder(spec: PoolSpec, data_dir: Path) -> str:
    """Returns NAME/CONFIG:VERSION of a data set of flipjax's own builder, of which `root` may leave out NAME.

    Without `root` it is the only configuration in the folder, or the builder's default.
    """
    root = spec.root
    if not root:
        configurations = [path.name for path in (data_dir / spec.name).glob("[!.]*")]
        root = DEFAULT_CONFIGURATIONS[spec.name]
        if len(configurations) == 1:
            root = configurations[0]
    return f"{spec.name}/{root.removeprefix(f'{spec.name}/')}"


def _version_of(folder: Path) -> list[int]:
    """Returns the version of a data set, by which folders sort."""
    return [int(part) for part in folder.name.split(".") if part.isdigit()]


def _data_sets_in(data_dir: Path) -> list[str]:
    """Returns the names of all data sets, NAME/CONFIG:VERSION, without those that are being made."""
    names = []
    for depth in ("*/*", "*/*/*"):
        for path in data_dir.glob(f"{depth}/{INFO}"):
            folder = path.parent.relative_to(data_dir)
            if not any(part.startswith(".") for part in folder.parts):
                names.append(f"{folder.parent.as_posix()}:{folder.name}")
    return sorted(names)


def data_dir_of(text: str) -> Path:
    """Returns the folder of TFDS data sets that a text names, by default that of TFDS."""
    return Path(text or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def stored_bytes(spec: PoolSpec) -> int | None:
    """Returns the size of the pool's uint8 arrays from the data set's info, or None without a data set."""
    try:
        info = read_json(find_data_set(spec) / INFO)
        examples = {split["name"]: sum(map(int, split["shardLengths"])) for split in info["splits"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    scenes = examples.pop(SCENES, 0)
    shapes = store.shapes_of(sum(examples.values()), scenes, spec.size)
    return sum(int(np.prod(shape)) for shape in shapes.values())
