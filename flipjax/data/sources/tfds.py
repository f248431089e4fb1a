"""Reads a pool from a TFDS data set, such as one made by `flipjax data prepare`.

`load_tfds` finds the folder of the data set (`flipjax.data.sources.tfds_folders`), opens it (`_open_data_set`), lists
the names of its examples (`_catalog_of`), and hands the catalog with a function that reads an item (`_reader_of`) to
`flipjax.data.store`, which decodes the images and caches them. `list_tfds` stops at the catalog.

A feature that the catalog needs, as class and scene, is opened in `_open_data_set`, read into `_Example`, and becomes a
field of an item in `_items_of`. A feature that goes with the pixels, as the mask and the aspect, is read in
`_reader_of`.

TensorFlow Datasets is imported only to read a data set; TensorFlow is not needed.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL.Image import Image

from flipjax.config import ConfigError, PoolSpec
from flipjax.data import store
from flipjax.data.decoding import images
from flipjax.data.decoding.images import Pixels
from flipjax.data.part_names import FREE, PARTS
from flipjax.data.pool import Catalog, Pool, PoolItem
from flipjax.data.sources.tfds_folders import SCENES, find_data_set
from flipjax.data.store import Reader, names_of
from flipjax.support.files import sha256
from flipjax.support.restoring import imports_leave_no_trace
from flipjax.support.terminal import listed, printable

PART_OF_NAME = {"train": 0, "validation": 1, "val": 1, "test": 2}
"""The part, as in `PoolItem.part`, that a split or a value of the feature `part` names."""
MASKS_SAMPLED = 16
"""Masks of one class that are read to see whether masks hold labels or one foreground value."""
BINARY_VALUES = (1, 255)
"""Foreground values of masks that hold no labels."""

Features: TypeAlias = Mapping[str, Any]
"""The features of an example by name, as TFDS reads them."""


def load_tfds(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Loads a TFDS data set; caches the decoded pool under a key of its files.

    Each example of a photo pool has an image, a mask with one channel, a class and a scene. Foreground pixels are 1 +
    the class label, or one value in all masks (1 or 255). A data set with a split `scenes` is a composite pool: images
    are premultiplied by the mask, a soft alpha. EXIF orientation is ignored, since masks fit the stored pixels.

    The splits `train`, `validation` and `test` are fixed parts, as is a feature `part`. Without `validation`, examples
    of `train` may also validate. A single split is divided by the sweep.

    A feature `id` names the examples if no two have the same. A feature `aspect`, width by height of a photo before it
    was resized, is read where all images have one size.

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

    def list_items() -> tuple[Catalog, Reader]:
        return _catalog_and_reader(folder, spec)

    return store.load_pool(spec, _key_of_cache(folder, spec), list_items, skip_empty=True)


def list_tfds(spec: PoolSpec) -> Catalog:
    """Lists a data set without decoding images; raises as `load_tfds` does.

    The catalog of a cached pool is read without the data set, and lacks the photos that were left out.
    """
    folder = find_data_set(spec)
    catalog = store.cached_catalog(_key_of_cache(folder, spec))
    if catalog is None:
        catalog, _ = _catalog_and_reader(folder, spec)
    return catalog


def _key_of_cache(folder: Path, spec: PoolSpec) -> str:
    """Returns a digest of the data set's name, file names, sizes and times, and of the options: 32 hex digits.

    File contents are not read, since a version of a data set does not change, and the cached pool has its own digest.
    """
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())]
    options = (store.FORMAT, spec.size, spec.features, spec.classes, spec.scene_kinds)
    return sha256(f"tfds {folder.parts[-3:]} {files} {options}")[:32]


def _catalog_and_reader(folder: Path, spec: PoolSpec) -> tuple[Catalog, Reader]:
    """Returns the catalog and the reader of a data set."""
    data = _open_data_set(folder, spec)
    catalog = _catalog_of(data, spec)
    return catalog, _reader_of(catalog, data, spec)


def _open_data_set(folder: Path, spec: PoolSpec) -> "_DataSet":
    """Opens a data set without reading an example.

    Raises:
        ConfigError: it lacks a feature, or its files are in another format than array_record.
    """
    with imports_leave_no_trace():
        import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(folder)
    features = builder.info.features
    image_feature, mask_feature, class_feature, scene_feature = spec.features
    absent = [name for name in spec.features if name not in features]
    if absent:
        problem = f"{folder} has no feature {', '.join(absent)}; it has {listed(sorted(features))}"
        raise ConfigError("config.pool.features", problem=problem)
    # TFDS skips decoding, because flipjax decodes the bytes on all cores.
    skipped = tfds.decode.SkipDecoding()  # pyright: ignore[reportCallIssue]
    decoders = {image_feature: skipped, mask_feature: skipped}
    try:
        examples = {split: builder.as_data_source(split, decoders=decoders) for split in sorted(builder.info.splits)}
    except NotImplementedError as error:
        raise ConfigError("config.pool.root", problem=f"{folder}: expected array_record files: {error}") from error
    part_feature = None
    if "part" in features:
        part_feature = _named_feature(features, "part")
    id_feature = None
    if "id" in features:
        id_feature = _named_feature(features, "id")
    return _DataSet(
        source=str(folder),
        examples=examples,
        image_feature=image_feature,
        mask_feature=mask_feature,
        class_feature=_named_feature(features, class_feature),
        scene_feature=_named_feature(features, scene_feature),
        part_feature=part_feature,
        id_feature=id_feature,
        # TFDS declares the height only where all images have it: such photos were resized when the data set was made.
        have_one_size=features[image_feature].shape[0] is not None,
    )


@dataclasses.dataclass(frozen=True)
class _NamedFeature:
    """A feature whose values are names."""

    name: str
    """Name of the feature."""
    labels: list[str]
    """The names that its numbers stand for, in order; empty if the feature is no ClassLabel."""

    def read(self, example: Features) -> str | None:
        """Returns the name in an example; None for -1, by which TFDS says that there is no label."""
        value = example[self.name]
        if self.labels:
            if value < 0:
                return None
            return self.labels[value]
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return str(value)


def _named_feature(features: Features, name: str) -> _NamedFeature:
    """Returns a feature of a data set, whose `features` are as TFDS declares them."""
    labels = getattr(features[name], "names", None) or ()
    return _NamedFeature(name, list(labels))


@dataclasses.dataclass(frozen=True)
class _DataSet:
    """A data set of photos, or of cut-outs and scenes."""

    source: str
    """Its folder."""
    examples: dict[str, Sequence[Features]]
    """The examples of each split, which are read when they are asked for."""
    image_feature: str
    """Name of the feature with the photos."""
    mask_feature: str
    """Name of the feature with the masks."""
    class_feature: _NamedFeature
    """The class of a photo or a cut-out."""
    scene_feature: _NamedFeature
    """The scene of a photo or a scene photo."""
    part_feature: _NamedFeature | None
    """The fixed part of an example; None: its split is its part."""
    id_feature: _NamedFeature | None
    """The name of an example; None: it is named by its number."""
    have_one_size: bool
    """Whether all images have one size."""


@dataclasses.dataclass(frozen=True)
class _Example:
    """The names of an example, and where it is."""

    split: str
    """The split of the data set that it is in."""
    index: int
    """Its number in the split, from 0."""
    class_name: str | None
    """The name of its class; None where TFDS says that there is none."""
    scene: str | None
    """The name of its scene; None where TFDS says that there is none."""
    part: str | None
    """The name of its part; None without a feature `part`."""
    id: str | None
    """The name of its photo; None without a feature `id`."""

    @property
    def numbered_name(self) -> str:
        """The split and the number of the example."""
        return f"{self.split}/{self.index:06d}"


def _examples_of(data: _DataSet) -> list[_Example]:
    """Returns all examples, without their images."""
    examples = []
    for split, examples_of_split in data.examples.items():
        for index, example in enumerate(examples_of_split):
            part = None
            if data.part_feature:
                part = data.part_feature.read(example)
            photo_id = None
            if data.id_feature:
                photo_id = data.id_feature.read(example)
            class_name = data.class_feature.read(example)
            scene = data.scene_feature.read(example)
            examples.append(_Example(split, index, class_name=class_name, scene=scene, part=part, id=photo_id))
    return examples


def _catalog_of(data: _DataSet, spec: PoolSpec) -> Catalog:
    """Returns the catalog of a pool: the items of the classes and scenes that are asked for."""
    examples = _examples_of(data)
    objects = [example for example in examples if example.split != SCENES]
    scene_photos = [example for example in examples if example.split == SCENES]
    class_counts = Counter(example.class_name for example in objects)
    class_names = _names_of_pool(data.source, "classes", data.class_feature, class_counts, spec.classes)
    scene_counts = Counter(example.scene for example in scene_photos or objects)
    scene_names = _names_of_pool(data.source, "scene_kinds", data.scene_feature, scene_counts, spec.scene_kinds)
    if data.part_feature:
        part_of_name = PART_OF_NAME
    else:
        part_of_name = _parts_of_splits(data)
    of_classes = [example for example in objects if example.class_name in class_names]
    if scene_photos:
        of_scenes = [example for example in scene_photos if example.scene in scene_names]
        cut_outs = _items_of(of_classes, objects, part_of_name, class_names=class_names)
        scenes = _items_of(of_scenes, scene_photos, part_of_name, scene_names=scene_names)
        return Catalog(data.source, "composite", class_names, scene_names, cut_outs, scenes)
    chosen = [example for example in of_classes if example.scene in scene_names]
    photos = _items_of(chosen, objects, part_of_name, class_names=class_names, scene_names=scene_names)
    return Catalog(data.source, "photo", class_names, scene_names, photos)


def _names_of_pool(
    source: str, field: str, feature: _NamedFeature, counts: Mapping[str | None, int], asked: Sequence[str]
) -> tuple[str, ...]:
    """Returns the names of classes or scenes, in the order of the labels or else alphabetically.

    Args:
        source: the folder of the data set, for errors.
        field: of the configuration, which an error names.
        feature: with the classes or the scenes.
        counts: the number of examples of each name.
        asked: the names that the configuration lists; empty: all.
    """
    order = feature.labels or sorted(name for name in counts if name is not None)
    present = {name: counts[name] for name in order if counts[name]}
    return names_of(source, field, present, asked)


def _items_of(
    chosen: Sequence[_Example],
    examples: Sequence[_Example],
    part_of_name: Mapping[str, int],
    *,
    class_names: tuple[str, ...] = (),
    scene_names: tuple[str, ...] = (),
) -> list[PoolItem]:
    """Returns the items of the chosen ones of all `examples` of objects or of scene photos.

    An item is named by its id if the ids of all examples differ. Those that are not chosen count, so that an image has
    the same name in a pool of some classes as in a pool of all.
    """
    ids_differ = len({example.id for example in examples}) == len(examples)
    items = []
    for example in chosen:
        name = example.numbered_name
        if ids_differ and example.id is not None:
            name = printable(example.id)
        # Without a feature `part` the split is the part.
        name_of_part = example.part
        if name_of_part is None:
            name_of_part = example.split
        items.append(
            PoolItem(
                name,
                (example.split, example.index),
                y=_index_of(example.class_name, class_names),
                scene=_index_of(example.scene, scene_names),
                part=part_of_name.get(name_of_part, FREE),
            )
        )
    return sorted(items, key=_name_of_item)


def _name_of_item(item: PoolItem) -> str:
    return item.name


def _index_of(name: str | None, names: tuple[str, ...]) -> int:
    """Returns the index of a name among those of a pool; -1 for none, or in a pool without names."""
    if not names or name is None:
        return -1
    return names.index(name)


def _parts_of_splits(data: _DataSet) -> dict[str, int]:
    """Returns the part of each split's examples: a fixed one, or FREE where the sweep divides them."""
    splits = [split for split in data.examples if split != SCENES]
    if len(splits) < 2:
        # The sweep divides a single split, whatever its name.
        return dict.fromkeys(splits, FREE)
    if not PART_OF_NAME.keys() >= {*splits}:
        expected = "the splits train, validation and test, or a single one"
        raise ConfigError("config.pool.root", expected, f"{', '.join(splits)} in {data.source}")
    part_of_split = {split: PART_OF_NAME[split] for split in splits}
    if PARTS.index("val") not in part_of_split.values():
        # The sweep chooses examples for validation from train.
        part_of_split["train"] = FREE
    return part_of_split


def _reader_of(catalog: Catalog, data: _DataSet, spec: PoolSpec) -> Reader:
    """Returns the function that reads the pixels of an item, as `flipjax.data.store` calls it."""

    def example_of(item: PoolItem) -> Features:
        # What `_items_of` stores in place of paths.
        split, index = item.files
        return data.examples[split][index]

    def open_image(item: PoolItem, feature: str) -> Image:
        return images.decode(bytes(example_of(item)[feature]), name=f"{item.name} ({feature})")

    mask_values = _mask_values(catalog, data, open_image)

    def read(item: PoolItem) -> Pixels:
        photo = open_image(item, data.image_feature)
        size = spec.size
        if item.is_scene_photo:
            return images.read_scene(photo, name=item.name, size=size)
        mask = open_image(item, data.mask_feature)
        if catalog.kind == "photo":
            pixels = images.read_labelled(
                photo,
                mask,
                photo_name=item.name,
                mask_name=item.name,
                value=mask_values[item.y],
                label=1 + item.y,
                size=size,
            )
        else:
            pixels = images.read_premultiplied(photo, mask, image_name=item.name, alpha_name=item.name, size=size)
        if data.have_one_size:
            pixels = pixels._replace(aspect=float(example_of(item).get("aspect", np.nan)))
        return pixels

    return read


def _mask_values(catalog: Catalog, data: _DataSet, open_image: Callable[[PoolItem, str], Image]) -> list[int]:
    """Returns the value of foreground pixels in the masks of each class.

    It is 1 + the class label. In photos it is one of BINARY_VALUES for all classes, if some masks of the class with the
    largest label hold no other value. Those of the first class are ambiguous: its label plus 1 is a binary value, too.

    Args:
        catalog: of the data set.
        data: the data set.
        open_image: decodes an image of an item, given the name of a feature.
    """
    labels = data.class_feature.labels or catalog.class_names
    values = [1 + labels.index(name) for name in catalog.class_names]
    if catalog.kind != "photo":
        return values
    class_of_largest_label = int(np.argmax(values))
    items_of_class = [item for item in catalog.objects if item.y == class_of_largest_label]
    present: set[int] = set()
    for item in items_of_class[:MASKS_SAMPLED]:
        mask = images.labels_of(open_image(item, data.mask_feature), item.name)
        present.update(np.unique(mask).tolist())
    for value in BINARY_VALUES:
        if present <= {0, value}:
            return [value] * len(values)
    return values
