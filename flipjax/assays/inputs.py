"""The images of an assay: a folder or arrays, with the attribute as scene, read at the size that networks train on."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from flipjax.assays.options import Options
from flipjax.assays.statistics.association import more_often, usual_values
from flipjax.assays.statistics.units import AssayUnits
from flipjax.config import ConfigError, PoolSpec
from flipjax.data.part_names import FREE
from flipjax.data.pool import Catalog, gather
from flipjax.data.sources.arrays import ArrayData
from flipjax.data.sources.folder import load_folder
from flipjax.data.sources.layouts import LAYOUTS, list_folder
from flipjax.data.splits.folds import FoundImages, find_images
from flipjax.data.store import BadFilesError, pool_digest, with_usual

SIZE = 48
"""The side at which images are read by default: networks train in minutes."""


@dataclasses.dataclass(frozen=True)
class AssayImages:
    """The images of an assay.

    Attributes:
        data: the pool, with the attribute as scene and the usual values that its counts show.
        attribute: the name of the attribute.
        found: the fold, group and cluster of each image, in the order of the pool's objects.
        source: where they come from, in words.
        notes: what was set aside, a sentence each.
    """

    data: ArrayData
    attribute: str
    found: FoundImages
    source: str
    notes: tuple[str, ...] = ()

    @property
    def catalog(self) -> Catalog:
        """The pool's catalog."""
        return self.data.catalog

    @property
    def size(self) -> int:
        """The side of the images in pixels."""
        return int(self.data.pool.images.shape[1])

    @property
    def count(self) -> int:
        """The number of images."""
        return len(self.found.groups)

    @property
    def units(self) -> AssayUnits:
        """The class, value and cluster of each image."""
        groups = self.catalog.groups
        return AssayUnits(
            np.asarray(groups.class_of(self.found.groups)),
            np.asarray(groups.scene_of(self.found.groups)),
            self.found.clusters,
            groups.classes,
            groups.scenes,
        )

    @property
    def aspects(self) -> np.ndarray | None:
        """Width by height of the photos before they became square, (n,); None if unknown."""
        aspects = self.data.pool.aspects
        if aspects is None:
            return None
        return np.asarray(aspects)

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images, float32 (n, H, W, 3) in [0, 1], and masks, int32 (n, H, W)."""
        images, masks = gather(self.data.pool, self.found.rows)
        return np.asarray(images), np.asarray(masks)


def read_images(data: ArrayData | str | Path, options: Options) -> AssayImages:
    """Reads the images of an assay.

    Args:
        data: a folder as `flipjax data check` reads it, or `flipjax.data.from_arrays(...)` whose scenes are the values
            of the attribute.
        options: of the assay; `size`, `classes`, `values`, `usual`, `clusters`, `rho`, `folds` and `seed` matter.

    Raises:
        ConfigError: the images cannot be used; the message names the file, column or argument.
    """
    size = options.size or SIZE
    if isinstance(data, ArrayData):
        if options.clusters:
            expected = "none for arrays, whose clusters are from_arrays(clusters=)"
            raise ConfigError("clusters", expected, options.clusters)
        source = f"arrays ({data.pool.images.shape[1]} x {data.pool.images.shape[1]} pixels)"
    else:
        source = str(data)
        data = _read_folder(Path(data), options, size)
    data = _resized(data, size)
    _check_masks(data)
    catalog, notes = _without_parts(data.catalog)
    catalog = dataclasses.replace(catalog, usual=_usual_of(catalog, options))
    notes += _notes_on_usual_by_order(catalog, options)
    data = ArrayData(data.pool, catalog)
    try:
        found = find_images(data.catalog, folds=options.folds, seed=options.seed, rho=options.rho)
    except ValueError as error:
        raise ConfigError("--folds", problem=str(error).removeprefix("config.split.folds: ")) from error
    return AssayImages(data, options.attribute, found, source, tuple(notes))


def _read_folder(folder: Path, options: Options, size: int) -> ArrayData:
    """Returns a folder's pool, with the attribute as scene and its usual values."""
    if not folder.is_dir():
        raise ConfigError("DIR", f"a folder with {LAYOUTS}", folder)
    has_table = (folder / "metadata.csv").exists()
    if options.clusters and not has_table:
        raise ConfigError("--clusters", "a folder with metadata.csv, which has the column", options.clusters)
    scene_column = "scene"
    if has_table:
        scene_column = options.attribute
    spec = PoolSpec(
        name="folder",
        root=str(folder),
        size=size,
        classes=options.classes,
        scene_kinds=options.values,
        scene_column=scene_column,
        cluster_column=options.clusters,
    )
    try:
        listed = list_folder(spec)
        names = []
        for values in _usual_of(listed, options):
            names.append(tuple(listed.scene_names[value] for value in values))
        pool, catalog = load_folder(dataclasses.replace(spec, usual=tuple(names)))
    except BadFilesError as error:
        # The reader calls the values scenes, a word that the user did not type.
        problems = [problem.replace("scene_kinds:", f"{options.attribute}:") for problem in error.problems]
        raise BadFilesError(folder, problems) from error
    return ArrayData(jax.tree.map(np.asarray, pool), catalog)


def _names_of_usual(options: Options) -> tuple[tuple[str, ...], ...]:
    """Returns the names of the usual values of each class that were asked for."""
    return tuple(tuple(names.split("+")) for names in options.usual)


def _counts_of(catalog: Catalog) -> np.ndarray:
    """Returns the photos of each class with each value, int64 (F, V)."""
    counts = np.zeros((len(catalog.class_names), len(catalog.scene_names)), np.int64)
    np.add.at(counts, (catalog.object_class, catalog.object_scene), 1)
    return counts


def _usual_of(catalog: Catalog, options: Options) -> tuple[tuple[int, ...], ...]:
    """Returns the values that go with each class: those asked for, or by the counts of photos or the order of cut-outs.

    Raises:
        ConfigError: other values than those of the photos, or not for each class, were asked for.
    """
    if not options.usual and catalog.kind == "composite":
        return catalog.groups.usual
    if not options.usual:
        return usual_values(_counts_of(catalog))
    try:
        return with_usual(catalog, _names_of_usual(options)).groups.usual
    except ConfigError as error:
        classes = ", ".join(catalog.class_names)
        expected = f"some of {', '.join(catalog.scene_names)} for each of {classes}, such as A,B or A+C,B"
        raise ConfigError("--usual", expected, ",".join(options.usual)) from error


def _notes_on_usual_by_order(catalog: Catalog, options: Options) -> list[str]:
    """Returns a sentence if the usual values are unknown: of cut-outs, or if a value goes with no class."""
    if options.usual:
        return []
    pairs = []
    for class_name, values in zip(catalog.class_names, catalog.groups.usual, strict=True):
        pairs.append("+".join(catalog.scene_names[value] for value in values) + f" for {class_name}")
    by_order = f"usual are, by order, {', '.join(pairs)}; --usual sets others."
    if catalog.kind == "composite":
        return [f"Cut-outs are shown in any scene: {by_order}"]
    without_class = np.flatnonzero(~more_often(_counts_of(catalog)).any(0))
    if not len(without_class):
        return []
    names = ", ".join(catalog.scene_names[value] for value in without_class)
    return [f"No class shows {options.attribute} {names} more often than the others: {by_order}"]


def _without_parts(catalog: Catalog) -> tuple[Catalog, list[str]]:
    """Returns the catalog without fixed parts, since every image is tested, and a note if it had some.

    Raises:
        ConfigError: a cluster has images in several parts.
    """
    if (catalog.object_split == FREE).all():
        return catalog, []
    part_of: dict[str, int] = {}
    for item in catalog.objects:
        if item.cluster and part_of.setdefault(item.cluster, item.part) != item.part:
            expected = f"the images of {item.cluster} in one part"
            raise ConfigError("clusters", expected, "images of it in several parts of the column split")
    objects = [dataclasses.replace(item, part=FREE) for item in catalog.objects]
    scenes = [dataclasses.replace(item, part=FREE) for item in catalog.scenes]
    note = "The parts train, val and test of the data were set aside: every image is tested once."
    return dataclasses.replace(catalog, objects=objects, scenes=scenes), [note]


def _check_masks(data: ArrayData) -> None:
    """Raises ConfigError for an image whose mask shows another class than its own."""
    if data.catalog.kind == "composite":
        return
    masks = np.asarray(data.pool.masks)
    labels = np.asarray(data.pool.labels)[:, None, None]
    shows_another = ((masks != 0) & (masks != labels)).any((1, 2))
    if shows_another.any():
        name = data.catalog.object_names[int(np.flatnonzero(shows_another)[0])]
        images = f"several in {name} and {shows_another.sum() - 1} other images"
        raise ConfigError("masks", "one foreground class an image; crop the images, or leave the others out", images)


def _resized(data: ArrayData, size: int) -> ArrayData:
    """Returns the data at a smaller size: images by the mean of areas, masks of labels by the nearest pixel."""
    side = data.pool.images.shape[1]
    if side <= size:
        return data
    pool = data.pool
    # Masks of photos hold labels; those of cut-outs are opacities.
    mask_filter = Image.Resampling.BOX
    if pool.kind == "photo":
        mask_filter = Image.Resampling.NEAREST
    smaller = dataclasses.replace(
        pool,
        images=_shrunk(np.asarray(pool.images), size, Image.Resampling.BOX),
        masks=_shrunk(np.asarray(pool.masks), size, mask_filter),
        scenes=_shrunk(np.asarray(pool.scenes), size, Image.Resampling.BOX),
    )
    for number, name in enumerate(data.catalog.object_names):
        if not (smaller.masks[number] > 0).any():
            raise ConfigError("--size", f"a size at which the object of {name} does not vanish", size)
    aspects = np.zeros(0)
    if pool.aspects is not None:
        aspects = np.asarray(pool.aspects)
    arrays = {
        "images": smaller.images,
        "masks": smaller.masks,
        "labels": np.asarray(pool.labels),
        "scenes": smaller.scenes,
        "aspects": aspects,
    }
    return ArrayData(smaller, dataclasses.replace(data.catalog, content=pool_digest(arrays, data.catalog)))


def _shrunk(images: np.ndarray, size: int, resampling: Image.Resampling) -> np.ndarray:
    """Returns uint8 images (n, H, W) or (n, H, W, C) at a smaller size."""
    shrunk = np.empty((len(images), size, size, *images.shape[3:]), np.uint8)
    for number, image in enumerate(images):
        shrunk[number] = np.asarray(Image.fromarray(image).resize((size, size), resampling))
    return shrunk
