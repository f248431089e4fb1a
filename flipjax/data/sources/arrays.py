"""Makes pools from arrays in memory."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from flipjax.config import ConfigError
from flipjax.data.decoding.images import OBJECT_ALPHA
from flipjax.data.part_names import FREE, PARTS
from flipjax.data.pool import Catalog, Pool, PoolItem
from flipjax.data.store import (
    SIDE_FACTOR,
    pool_digest,
    pool_of,
    problem_of_names,
    say_usual,
    usual_by_order,
    with_usual,
)
from flipjax.metrics.inputs.checks import to_array
from flipjax.support.terminal import one_line

ROOT_DIGITS = 16
"""Hex digits of a pool's digest that stand for its folder in a configuration."""


class ArrayData(NamedTuple):
    """Images in memory, the argument `data` of `flipjax.make_train` and `flipjax.run`.

    Its arrays are copies of the caller's, and cannot be changed.
    """

    pool: Pool
    """uint8 pixels, NumPy arrays."""
    catalog: Catalog
    """Classes, scenes and fixed parts of its images, and their digest."""

    def __repr__(self) -> str:
        """Returns five lines: what the pool is, its images by class and by scene, its parts, and its digest."""
        catalog = self.catalog
        size = "x".join(map(str, self.pool.images.shape[1:3]))
        photos = ""
        scenes = catalog.object_scene
        if catalog.kind == "composite":
            photos = f", {len(catalog.scenes)} scene photos"
            scenes = catalog.scene_kind
        names_of_parts = {FREE: "free", **dict(enumerate(PARTS))}
        fixed = Counter(names_of_parts[part] for part in catalog.object_split.tolist())
        lines = [
            f"ArrayData: a {catalog.kind} pool of {len(catalog.objects)} images of {size}{photos}",
            f"  classes: {_counted(catalog.class_names, catalog.object_class)}",
            f"  scenes: {_counted(catalog.scene_names, scenes)}",
            f"  parts: {', '.join(f'{count} {part}' for part, count in fixed.items())}",
            f"  content: {catalog.content}",
        ]
        return "\n".join(lines)


def _counted(names: Sequence[str], numbers: np.ndarray) -> str:
    """Returns each name with how often its number occurs."""
    counts = np.bincount(numbers, minlength=len(names)).tolist()
    return ", ".join(f"{name} {count}" for name, count in zip(names, counts, strict=True))


def keys_of(data: ArrayData | None) -> dict[str, object]:
    """Returns the values that make `data` the pool of a configuration, by dotted key; none without data."""
    if data is None:
        return {}
    catalog = data.catalog
    usual = []
    for scenes in catalog.groups.usual:
        usual.append(tuple(catalog.scene_names[scene] for scene in scenes))
    return {
        "pool.name": "arrays",
        "pool.size": int(data.pool.images.shape[1]),
        "pool.root": catalog.content[:ROOT_DIGITS],
        "pool.classes": catalog.class_names,
        "pool.scene_kinds": catalog.scene_names,
        "pool.cue": "scene",
        "pool.usual": tuple(usual),
    }


def from_arrays(
    images: ArrayLike,
    masks: ArrayLike,
    classes: ArrayLike,
    scenes: ArrayLike,
    *,
    class_names: Sequence[str],
    scene_names: Sequence[str],
    usual: Sequence[str | tuple[str, ...]] = (),
    parts: Sequence[str] | None = None,
    aspects: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
) -> ArrayData:
    """Makes a photo pool from arrays, with the checks of a folder.

    A scene is any attribute that may correlate with the class, such as a site, scanner or marker.

    Args:
        images: (n, H, H, 3), or grey (n, H, H) or (n, H, H, 1), uint8 or floats in [0, 1]. They are copied.
        masks: (n, H, H), bool for the pixels of the image's class, or integers, 0 for background, else 1 + class.
        classes: (n,), numbers from 0 or names.
        scenes: (n,), numbers from 0 or names.
        class_names: F names.
        scene_names: S names.
        usual: the usual scene of each class, or a tuple of several; empty: scene i mod S for class i.
        parts: (n,), the part of each image, `train`, `val` or `test`, or "" of a free image; None: all are free.
        aspects: (n,), width by height of each photo before it became square, for `config.train.crop_in = "photo"`.
        clusters: (n,), integers or names, such as patients, whose images stay in one part; None: each image is its own.

    Returns:
        Images in memory, the argument `data` of `flipjax.run`, `flipjax.make_train`, `flipjax.tune` and others.

    Raises:
        ConfigError: names the argument, what was expected and what was found.

    Example:
        >>> photos = np.zeros((8, 16, 16, 3), np.uint8)
        >>> left = np.tile(np.arange(16) < 4, (8, 16, 1))
        >>> names = {"class_names": ("cat", "dog"), "scene_names": ("indoor", "outdoor")}
        >>> data = from_arrays(photos, left, [0, 1] * 4, ["indoor"] * 4 + ["outdoor"] * 4, **names)
        >>> data.catalog.kind, data.pool.masks.max().item(), len(data.catalog.content)
        ('photo', 2, 32)
    """
    photos = _pixels("images", images, 3)
    given_masks = _host("masks", masks)
    y, class_names = _attribute("classes", classes, class_names, count=len(photos))
    scene, scene_names = _attribute("scenes", scenes, scene_names, count=len(photos))
    objects = _photo_items(
        y,
        scene,
        parts=_parts(parts, count=len(photos)),
        clusters=_clusters(clusters, count=len(photos)),
    )
    # A photo shows its own scene: the pool has no photos of scenes alone.
    arrays = {"images": photos, "masks": _label_masks(given_masks, photos, y, class_names), "scenes": photos[:0]}
    if aspects is not None:
        arrays["aspects"] = _aspects(aspects, count=len(photos))
    return _finish(Catalog("arrays", "photo", class_names, scene_names, objects), arrays, usual=usual)


def from_cut_outs(
    cut_outs: ArrayLike,
    classes: ArrayLike,
    scenes: ArrayLike,
    scene_kinds: ArrayLike,
    *,
    class_names: Sequence[str],
    scene_names: Sequence[str],
    usual: Sequence[str | tuple[str, ...]] = (),
) -> ArrayData:
    """Makes a composite pool from arrays, whose objects can be shown in any scene.

    Args:
        cut_outs: (n, H, H, 4), uint8 or floats in [0, 1]; the last channel is alpha.
        classes: (n,) as in `from_arrays`.
        scenes: photos of scenes, (m, H, H, 3), or grey as in `from_arrays`.
        scene_kinds: (m,), the scene of each photo, numbers from 0 or names.
        class_names: as in `from_arrays`.
        scene_names: as in `from_arrays`.
        usual: as in `from_arrays`.

    Raises:
        ConfigError: names the argument, what was expected and what was found.

    Example:
        >>> discs = np.zeros((8, 16, 16, 4), np.uint8)
        >>> discs[:, 4:12, 4:12] = (200, 80, 40, 255)  # Opaque in the middle.
        >>> sky = np.full((6, 16, 16, 3), 180, np.uint8)
        >>> names = {"class_names": ("cat", "dog"), "scene_names": ("indoor", "outdoor")}
        >>> data = from_cut_outs(discs, ["cat", "dog"] * 4, sky, [0, 1] * 3, **names)
        >>> data.catalog.kind, data.pool.images.shape, data.pool.scenes.shape, data.catalog.groups.rare
        ('composite', (8, 16, 16, 3), (6, 16, 16, 3), (1, 2))
    """
    rgba = _pixels("cut_outs", cut_outs, 4)
    photos = _pixels("scenes", scenes, 3)
    y, class_names = _attribute("classes", classes, class_names, count=len(rgba))
    kinds, scene_names = _attribute("scene_kinds", scene_kinds, scene_names, count=len(photos))
    if photos.shape[1:3] != rgba.shape[1:3]:
        raise ConfigError("scenes", f"the size of the cut-outs, {rgba.shape[1:3]}", photos.shape[1:3])
    alpha = rgba[..., 3]
    _expect_objects("cut_outs", alpha > OBJECT_ALPHA)
    # Colours times alpha / 255, rounded: 127 is half of 255. A product of two bytes and 127 fit 16 bits.
    premultiplied = (rgba[..., :3].astype(np.uint16) * alpha[..., None] + 127) // 255
    objects = [PoolItem(f"cut-out {number}", y=int(class_number)) for number, class_number in enumerate(y)]
    scene_items = [PoolItem(f"scene {number}", scene=int(kind)) for number, kind in enumerate(kinds)]
    catalog = Catalog("arrays", "composite", class_names, scene_names, objects, scene_items)
    # The masks of a composite pool are alpha, since an object is blended into its scene.
    arrays = {"images": premultiplied.astype(np.uint8), "masks": alpha, "scenes": photos}
    return _finish(catalog, arrays, usual=usual)


def _finish(catalog: Catalog, arrays: Mapping[str, np.ndarray], *, usual: Sequence[str | tuple[str, ...]]) -> ArrayData:
    """Returns the pool of arrays, which become read-only, and their catalog with its digest and usual scenes.

    Args:
        catalog: without digest and usual scenes.
        arrays: `images`, `masks` and `scenes` of a `Pool`, and `aspects` if they are known.
        usual: as in `from_arrays`.
    """
    image_labels = (1 + catalog.object_class).astype(np.uint8)
    unknown_aspects = np.full(len(image_labels), np.nan, np.float32)
    pool_arrays = {"labels": image_labels, "aspects": unknown_aspects, **arrays}
    # The digest is of the data alone: which scenes are usual is part of the configuration.
    catalog = dataclasses.replace(catalog, content=pool_digest(pool_arrays, catalog))
    catalog = with_usual(catalog, usual)
    if not catalog.usual:
        say_usual(usual_by_order(catalog, "usual="))
    # A later change would leave the digest as it is, and a run of other images would count as the same run.
    for array in pool_arrays.values():
        array.flags.writeable = False
    # NumPy arrays, so that JAX starts no device before training.
    return ArrayData(pool_of(pool_arrays, catalog.kind), catalog)


def _photo_items(y: np.ndarray, scene: np.ndarray, *, parts: list[int], clusters: list[str]) -> list[PoolItem]:
    """Returns the items of photos, which are named by their numbers."""
    items = []
    for number in range(len(y)):
        item = PoolItem(
            f"image {number}",
            y=int(y[number]),
            scene=int(scene[number]),
            part=parts[number],
            cluster=clusters[number],
        )
        items.append(item)
    return items


def _label_masks(masks: np.ndarray, images: np.ndarray, y: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Returns masks whose values are labels, uint8 (n, H, H), 1 + class or 0."""
    if masks.shape != images.shape[:3] or masks.dtype.kind not in "bui":
        raise ConfigError("masks", f"{images.shape[:3]} of bool or integers", f"{masks.shape} of {masks.dtype}")
    image_labels = 1 + y[:, None, None]
    labels = masks
    if masks.dtype == bool:
        labels = np.where(masks, image_labels, 0)
    if labels.min() < 0 or labels.max() > len(class_names):
        raise ConfigError("masks", f"labels from 0 to {len(class_names)}", f"{labels.min()} to {labels.max()}")
    _expect_objects("masks", labels == image_labels)
    return labels.astype(np.uint8)


def _parts(parts: Sequence[str] | None, *, count: int) -> list[int]:
    """Returns the number of each image's fixed part, or FREE."""
    if parts is None:
        return [FREE] * count
    numbers = {"": FREE, **{part: number for number, part in enumerate(PARTS)}}
    given = list(parts)
    if len(given) != count or not {*given} <= numbers.keys():
        raise ConfigError("parts", f"{count} of {', '.join(PARTS)} or nothing", given)
    return [numbers[part] for part in given]


def _clusters(clusters: ArrayLike | None, *, count: int) -> list[str]:
    """Returns the name of each image's cluster, empty for none."""
    if clusters is None:
        return [""] * count
    given = _host("clusters", clusters)
    expected = f"{count} integers or names, one for each image"
    if given.shape != (count,):
        raise ConfigError("clusters", expected, f"shape {given.shape}")
    names = given.tolist()
    for name in names:
        if not isinstance(name, int | str) or name == "":
            raise ConfigError("clusters", expected, repr(name))
    return [str(name) for name in names]


def _aspects(aspects: ArrayLike, *, count: int) -> np.ndarray:
    """Returns the ratios of width to height that a user gave, checked."""
    given = _host("aspects", aspects)
    if given.dtype.kind not in "iu" and not _is_floating(given):
        raise ConfigError("aspects", f"{count} numbers above 0", given.dtype)
    ratios = np.array(given, np.float32)
    if ratios.shape != (count,) or not (np.isfinite(ratios) & (ratios > 0)).all():
        raise ConfigError("aspects", f"{count} numbers above 0", aspects)
    return ratios


def _expect_objects(field: str, pixels: np.ndarray) -> None:
    """Raises ConfigError if an image shows nothing of its class."""
    empty = np.flatnonzero(~pixels.any((1, 2)))
    if len(empty):
        raise ConfigError(field, "an object of its class in each image", f"none in image {empty[0]}")


def _host(field: str, values: ArrayLike) -> np.ndarray:
    """Returns an array of any framework as a NumPy array; refuses masked arrays and mappings."""
    try:
        return np.asarray(to_array(values, name=field))
    except (TypeError, ValueError) as error:
        raise ConfigError(field, problem=str(error).removeprefix(f"{field}: ")) from error


def _is_floating(array: np.ndarray) -> bool:
    """Returns whether an array holds floats; JAX also knows bfloat16, which is no float to NumPy."""
    return jnp.issubdtype(array.dtype, jnp.floating)


def _pixels(field: str, values: ArrayLike, channels: int) -> np.ndarray:
    """Returns a copy of images as uint8 (n, H, H, channels); one channel becomes three equal ones."""
    images = _host(field, values)
    if channels == 3:
        images = _in_colour(images)
    if not _are_square(images) or images.shape[3] != channels or images.shape[1] % SIDE_FACTOR or not images.size:
        grey = ""
        if channels == 3:
            grey = ", or (n, H, H) in grey"
        raise ConfigError(field, f"(n, H, H, {channels}){grey}, H a multiple of {SIDE_FACTOR}", images.shape)
    return _as_bytes(field, images)


def _are_square(images: np.ndarray) -> bool:
    """Returns whether the shape of images is (n, H, H, channels)."""
    return images.ndim == 4 and images.shape[1] == images.shape[2]


def _in_colour(images: np.ndarray) -> np.ndarray:
    """Returns images with three channels; grey ones, (n, H, H) or (n, H, H, 1), have three equal channels."""
    if images.ndim == 3:
        images = images[..., None]
    if _are_square(images) and images.shape[3] == 1:
        return np.repeat(images, 3, axis=-1)
    # Images of another form stay, so that the error says their shape.
    return images


def _as_bytes(field: str, images: np.ndarray) -> np.ndarray:
    """Returns a copy of images in uint8; floats are from 0 to 1."""
    if images.dtype == np.uint8:
        return images.copy()
    if not _is_floating(images):
        raise ConfigError(field, "uint8, or floats in [0, 1]", images.dtype)
    if images.dtype.itemsize < 4:
        # In 16 bits the product with 255 would be rounded a first time.
        images = images.astype(np.float32)
    if not (images.min() >= 0 and images.max() <= 1):
        raise ConfigError(field, "uint8, or floats in [0, 1]", f"{images.dtype}, {images.min()} to {images.max()}")
    return np.rint(images * 255).astype(np.uint8)


def _attribute(
    field: str, values: ArrayLike, names: Sequence[str], *, count: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the index of each value, which is an index or a name, and the names."""
    given = _host(field, values)
    if given.shape != (count,):
        raise ConfigError(field, f"shape {(count,)}, a value for each image", given.shape)
    allowed: list[int] | list[str] = [*names]
    if given.dtype.kind in "iu":
        allowed = [*range(len(names))]
    unknown = {*given.tolist()}.difference(allowed)
    if unknown:
        raise ConfigError(field, f"numbers below {len(names)}, or {', '.join(names)}", min(unknown, key=str))
    numbers = np.array([allowed.index(value) for value in given.tolist()], np.int32)
    counts = Counter(names[int(number)] for number in numbers)
    problem = problem_of_names(counts, tuple(names))
    if problem:
        raise ConfigError(field, problem=one_line(problem))
    return numbers, tuple(names)
