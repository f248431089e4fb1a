"""Reads a pool from a TFDS data set, such as one made by `flipjax data prepare`.

TensorFlow Datasets is imported only to read a data set; TensorFlow is not needed.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL.Image import Image

from flipjax.config import ConfigError, PoolSpec
from flipjax.data import images, store
from flipjax.data.images import Pixels
from flipjax.data.pool import Catalog, Pool, PoolItem
from flipjax.data.split import PARTS
from flipjax.data.store import Reader, names_of
from flipjax.support.files import sha256
from flipjax.support.terminal import listed, printable

DEFAULTS = {"coco_cd": "photos", "waterbirds_seg": "cutouts"}
"""Default configurations of flipjax's own builders."""
SCENES = "scenes"
"""The split with the scene photos of a composite data set."""
FIXED = {"train": 0, "validation": 1, "val": 1, "test": 2}
"""Splits that are parts."""
TEXTS = ("y", "scene", "part", "id")
INFO = "dataset_info.json"
SAMPLE = 16
"""Masks from which the foreground's values are read."""


def load_tfds(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Loads a TFDS data set; caches the decoded pool under a key of its files.

    Each example of a photo pool has an image, a mask with one channel, a class and a scene. Foreground pixels are 1 +
    the class label, or one value in all masks (1 or 255). A data set with a split `scenes` is a composite pool: images
    are premultiplied by the mask, a soft alpha. EXIF orientation is ignored, since masks fit the stored pixels.

    The splits `train`, `validation` and `test` are fixed parts, as is a feature `part`. Without `validation`, examples
    of `train` may also validate. A single split is divided by the sweep.

    Args:
        spec: `name`, `root` ('NAME/CONFIG:VERSION'; by default the newest version), `data_dir` (empty: TFDS's default),
            `features` (names of image, mask, class and scene), `size`, `classes` and `scene_kinds` (empty: all, in the
            order of the labels; others are left out), and `usual`.

    Returns:
        The pool and its catalog.

    Raises:
        ConfigError: the data set, feature or name does not exist; lists the existing ones.
        BadFilesError: (a ConfigError) examples are unusable; lists them.
    """
    folder = find_data_set(spec)
    return store.load_pool(spec, _key(folder, spec), lambda: _open(folder, spec), leave_out=True)


def list_tfds(spec: PoolSpec) -> Catalog:
    """Lists a data set without decoding images; raises as `load_tfds` does."""
    return _open(find_data_set(spec), spec)[0]


def find_data_set(spec: PoolSpec) -> Path:
    """Returns the folder of a data set.

    Raises:
        ConfigError: it does not exist, with a list of all data sets.
    """
    data_dir = data_dir_of(spec.data_dir)
    root, advice = spec.root, ""
    if spec.name in DEFAULTS:
        names = [path.name for path in (data_dir / spec.name).glob("[!.]*")]
        root = root or (names[0] if len(names) == 1 else DEFAULTS[spec.name])
        root = f"{spec.name}/{root.removeprefix(f'{spec.name}/')}"
        advice = f"; flipjax data prepare {spec.name} makes one"
    # The newest version, unless the name has one; none that is being made.
    name, _, version = root.partition(":")
    if folders := [path.parent for path in (data_dir / name).glob(f"{version or '[!.]*'}/{INFO}")]:
        return max(folders, key=lambda path: [int(part) for part in path.name.split(".") if part.isdigit()])
    there = [path.parent for depth in ("*/*", "*/*/*") for path in data_dir.glob(f"{depth}/{INFO}")]
    names = [path.relative_to(data_dir).as_posix() for path in there]
    names = sorted(":".join(name.rsplit("/", 1)) for name in names if "/." not in f"/{name}")
    expected = f"NAME/CONFIG:VERSION of a data set in {data_dir}: {listed(names)}{advice}"
    raise ConfigError("config.pool.root", expected, repr(root))


def data_dir_of(text: str) -> Path:
    """Returns the folder of TFDS data sets, by default that of TFDS."""
    return Path(text or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def stored_bytes(spec: PoolSpec) -> int | None:
    """Returns the size of the pool's uint8 arrays from the data set's info, or None without a data set."""
    try:
        info = json.loads((find_data_set(spec) / INFO).read_text(encoding="utf-8"))
        counts = {split["name"]: sum(map(int, split["shardLengths"])) for split in info["splits"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    scenes = counts.pop(SCENES, 0)
    shapes = store.shapes_of(sum(counts.values()), scenes, spec.size)
    return sum(int(np.prod(shape)) for shape in shapes.values())


def _key(folder: Path, spec: PoolSpec) -> str:
    """Returns a digest of the data set's name, file names, sizes and times, and of the options: 32 hex digits.

    File contents are not read, since a version of a data set does not change, and the cached pool has its own digest.
    """
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())]
    options = (store.FORMAT, spec.size, spec.features, spec.classes, spec.scene_kinds)
    return sha256(f"tfds {folder.parts[-3:]} {files} {options}")[:32]


def _open(folder: Path, spec: PoolSpec) -> tuple[Catalog, Reader]:
    """Returns the catalog and the reader of a data set."""
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(folder)
    features = builder.info.features
    names = dict(zip(("image", "mask", "y", "scene"), spec.features, strict=True)) | {"part": "part", "id": "id"}
    absent = [name for name in spec.features if name not in features]
    if absent:
        problem = f"{folder} has no feature {', '.join(absent)}; it has {listed(sorted(features))}"
        raise ConfigError("config.pool.features", problem=problem)
    # TFDS skips decoding, because flipjax decodes the bytes on all cores.
    decoders = dict.fromkeys(spec.features[:2], tfds.decode.SkipDecoding())  # pyright: ignore[reportCallIssue]
    try:
        sources = {split: builder.as_data_source(split, decoders=decoders) for split in sorted(builder.info.splits)}
    except NotImplementedError as error:
        raise ConfigError("config.pool.root", problem=f"{folder}: expected array_record files: {error}") from error
    known = {role: features[names[role]] for role in TEXTS if names[role] in features}
    labels = {role: list[str](getattr(feature, "names", None) or ()) for role, feature in known.items()}
    # Photos of one shape were resized before.
    data = _DataSet(str(folder), sources, names, labels, features[names["image"]].shape[0] is not None)
    catalog = _list(data, spec)
    return catalog, _reader(catalog, data, spec)


class _DataSet(NamedTuple):
    """Examples by split, the feature of each role, the labels of those that are text, and whether images have one size.

    The labels of a feature that is no ClassLabel are empty.
    """

    source: str
    sources: dict[str, Sequence[Mapping[str, Any]]]
    names: dict[str, str]
    labels: dict[str, list[str]]
    resized: bool


def _list(data: _DataSet, spec: PoolSpec) -> Catalog:
    def text(example: Mapping[str, Any], role: str) -> str | None:
        value, labels = example[data.names[role]], data.labels[role]
        if labels:
            return labels[value] if value >= 0 else None
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    rows = [
        {"split": split, "index": index} | {role: text(example, role) for role in data.labels}
        for split, source in data.sources.items()
        for index, example in enumerate(source)
    ]
    objects = [row for row in rows if row["split"] != SCENES]
    scenes = [row for row in rows if row["split"] == SCENES]
    role, parts = ("part", FIXED) if "part" in data.labels else ("split", _parts(data))

    def known(field: str, role: str, rows: list[dict[str, Any]]) -> tuple[str, ...]:
        # In the order of the labels, or else alphabetically.
        counts = Counter(row[role] for row in rows)
        there = {name: counts[name] for name in data.labels[role] or sorted(counts) if counts[name]}
        return names_of(data.source, field, there, getattr(spec, field))

    def items(rows: list[dict[str, Any]], **names: Sequence[str]) -> list[PoolItem]:
        by_id = len({row.get("id") for row in rows}) == len(rows)
        chosen = []
        for row in rows:
            if all(row[each] in there for each, there in names.items()):
                name = printable(row["id"]) if by_id else f"{row['split']}/{row['index']:06d}"
                numbers = {each: there.index(row[each]) for each, there in names.items()}
                chosen.append(PoolItem(name, (row["split"], row["index"]), part=parts.get(row[role], -1), **numbers))
        return sorted(chosen, key=lambda item: item.name)

    class_names, scene_names = known("classes", "y", objects), known("scene_kinds", "scene", scenes or objects)
    if scenes:
        shown = items(objects, y=class_names), items(scenes, scene=scene_names)
        return Catalog(data.source, "composite", class_names, scene_names, *shown)
    return Catalog(data.source, "photo", class_names, scene_names, items(objects, y=class_names, scene=scene_names))


def _parts(data: _DataSet) -> dict[str, int]:
    """Returns the fixed part of each split's examples."""
    splits = [split for split in data.sources if split != SCENES]
    if len(splits) > 1 and not FIXED.keys() >= {*splits}:
        expected = "the splits train, validation and test, or a single one"
        raise ConfigError("config.pool.root", expected, f"{', '.join(splits)} in {data.source}")
    parts = {split: FIXED[split] for split in splits if len(splits) > 1}
    return parts if PARTS.index("val") in parts.values() else parts | {"train": -1}


def _reader(catalog: Catalog, data: _DataSet, spec: PoolSpec) -> Reader:
    def open_image(item: PoolItem, role: str) -> Image:
        split, index = item.files
        return images.decode(bytes(data.sources[split][index][data.names[role]]), name=f"{item.name} ({role})")

    order = data.labels["y"] or catalog.class_names
    foreground = [1 + order.index(name) for name in catalog.class_names]
    if catalog.kind == "photo" and (value := _binary(catalog, int(np.argmax(foreground)), open_image)):
        foreground = [value] * len(foreground)

    def read(item: PoolItem) -> Pixels:
        photo, size = open_image(item, "image"), spec.size
        if item.y < 0:
            return images.read_scene(photo, name=item.name, size=size)
        mask, names = open_image(item, "mask"), (item.name, item.name)
        if catalog.kind == "photo":
            value, label = foreground[item.y], 1 + item.y
            pixels = images.read_labelled(photo, mask, names=names, value=value, label=label, size=size)
        else:
            pixels = images.read_premultiplied(photo, mask, names=names, size=size)
        if data.resized:
            split, index = item.files
            pixels = pixels._replace(aspect=float(data.sources[split][index].get("aspect", np.nan)))
        return pixels

    return read


def _binary(catalog: Catalog, y: int, open_image: Callable[[PoolItem, str], Image]) -> int:
    """Returns the single foreground value of all masks, 1 or 255, from some of class y; 0 if masks hold labels."""
    some = [item for item in catalog.objects if item.y == y][:SAMPLE]
    values = {value for item in some for value in np.unique(images.labels_of(open_image(item, "mask"), item.name))}
    return next((value for value in (1, 255) if values <= {0, value}), 0)
