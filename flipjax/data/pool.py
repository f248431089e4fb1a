"""Pools, the uint8 images shared by all members, and catalogs, which describe them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from flipjax.config.groups import Groups
from flipjax.data.decoding.images import OBJECT_ALPHA
from flipjax.data.part_names import FREE
from flipjax.support.arrays import Array, PyTree

PoolKind = Literal["composite", "photo"]
"""Whether images are cut-outs over scenes, or photos."""
CueName = Literal["scene", "marker", "tint", "texture"]
"""What correlates with the class in the synthetic pool."""

TINTED = 0.35
"""Share of a tint's colour in an image."""
TEXTURE_GREY = 128
"""Value of a texture, of 255, that leaves the pixels behind it as they are."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Features:
    """The features of images that a network sees in place of their pixels; a pytree.

    Attributes:
        maps: float16 (2, P, h, w, K), of P images as they are, and of their mirror images, mirrored back; on the host,
            whose memory the devices of a CPU share.
        places: int32 (N, max(1, M)), the place among the P of an object (or photo) on each scene photo; -1: not there.
        encoder: what makes features of other images, nested arrays of `flipjax.models.networks.frozen`.
        projection: its last step, fitted on training images.
    """

    maps: Array
    places: jax.Array
    encoder: PyTree
    projection: tuple[jax.Array, ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Pool:
    """The pixels of a pool; a pytree whose `kind` and `cue` are static.

    A composite pool holds cut-outs and scene photos; a pair of indices makes an image. A photo pool holds whole photos.
    Cues other than scenes replace the scene photos by layers: a marker or tint over the image, or a texture behind the
    object. A pool with a `strength` blends each image with that of no cue: the same object without its layer, or on the
    mean scene.

    Attributes:
        kind: 'composite' or 'photo'.
        images: uint8 (N, H, W, 3). Photos, or cut-outs premultiplied by their alpha, so that no channel exceeds it.
        masks: uint8 (N, H, W). Photo: labels 0..F. Composite: alpha 0..255.
        labels: uint8 (N,). 1 + y of each object.
        scenes: uint8 (M, H, W, 3) of M scene photos; M = 0 in a photo pool.
        aspects: float32 (N,), aspect ratio (width / height) of each photo, or of the photo that a cut-out comes from,
            before it was resized to a square; None if unknown.
        cue: the attribute that goes with the class: 'scene', or layers of 'marker', 'tint' or 'texture'.
        backdrops: uint8 (N, H, W, 3), the scene behind each object for other cues; where scenes are the cue, their mean
            (1, H, W, 3) in a pool with a strength, else None.
        strength: float32 () in [0, 1], weight of the image with its cue; None: images are not blended.
        features: what the network sees in place of the images; None: the images.
    """

    kind: PoolKind = field(metadata={"static": True})
    images: jax.Array
    masks: jax.Array
    labels: jax.Array
    scenes: jax.Array
    aspects: jax.Array | None = None
    cue: CueName = field(default="scene", metadata={"static": True})
    backdrops: jax.Array | None = None
    strength: jax.Array | None = None
    features: Features | None = None


@dataclass(frozen=True)
class PoolItem:
    """An object, photo or scene photo of a pool, before it is decoded.

    Attributes:
        name: unique among the objects, or among the scene photos.
        files: what its reader opens: paths of the photo and of its mask if separate; in TFDS the split and the index.
        y: class; -1 for a scene photo.
        scene: kind of scene; -1 for an object that can be shown in any.
        part: the fixed part, an index of `flipjax.data.part_names.PARTS`, or FREE.
        cluster: items of one cluster, such as a patient, stay in one part or fold; empty: a cluster of its own.
    """

    name: str
    files: tuple[Any, ...] = ()
    y: int = -1
    scene: int = -1
    part: int = FREE
    cluster: str = ""

    @property
    def is_scene_photo(self) -> bool:
        """Whether it is a scene photo, which has no class."""
        return self.y < 0


@dataclass(frozen=True, eq=False)
class Catalog:
    """The content of a source, in the order of the rows of its `Pool`, on the host.

    Attributes:
        source: description of the source.
        kind: 'composite' or 'photo'.
        class_names: the F class names, y = 0 first.
        scene_names: the S scene names.
        objects: the N photos or cut-outs.
        scenes: the M scene photos; none in a photo pool.
        problems: a line for each unusable file of the source.
        usual: the usual scenes of each class that a configuration names; empty: those by order, see `Groups`.
        content: digest of the pool's arrays and this catalog; empty if the pool is drawn, or not yet made.
    """

    source: str
    kind: PoolKind
    class_names: tuple[str, ...]
    scene_names: tuple[str, ...]
    objects: Sequence[PoolItem]
    scenes: Sequence[PoolItem] = ()
    problems: tuple[str, ...] = ()
    usual: tuple[tuple[int, ...], ...] = ()
    content: str = ""

    @cached_property
    def object_class(self) -> np.ndarray:
        """Class y of each object, int32 (N,)."""
        return np.array([item.y for item in self.objects], np.int32)

    @cached_property
    def object_scene(self) -> np.ndarray:
        """Scene of each photo, int32 (N,); -1 throughout a composite pool."""
        return np.array([item.scene for item in self.objects], np.int32)

    @cached_property
    def object_split(self) -> np.ndarray:
        """Fixed part of each object, int32 (N,), as `PoolItem.part`."""
        return np.array([item.part for item in self.objects], np.int32)

    @cached_property
    def object_names(self) -> tuple[str, ...]:
        """N names, unique."""
        return tuple(item.name for item in self.objects)

    @cached_property
    def object_clusters(self) -> tuple[str, ...]:
        """N names of clusters, empty where an object is its own."""
        return tuple(item.cluster for item in self.objects)

    @cached_property
    def scene_kind(self) -> np.ndarray:
        """Kind of each scene photo, int32 (M,)."""
        return np.array([item.scene for item in self.scenes], np.int32)

    @cached_property
    def scene_split(self) -> np.ndarray:
        """Fixed part of each scene photo, int32 (M,), as `PoolItem.part`."""
        return np.array([item.part for item in self.scenes], np.int32)

    @cached_property
    def scene_photo_names(self) -> tuple[str, ...]:
        """M names, unique."""
        return tuple(item.name for item in self.scenes)

    @property
    def clustered(self) -> bool:
        """Whether photos have clusters, whose images stay in one part."""
        return any(self.object_clusters)

    @property
    def groups(self) -> Groups:
        """The groups of its classes and scenes."""
        return Groups(len(self.class_names), len(self.scene_names), self.usual)


def gather(pool: Pool, rows: jax.Array | np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Makes the images and masks of rows of an index table.

    A composite is cut-out + scene * (1 - alpha), under a marker or tint layer; its mask is the object's label where
    alpha > 127. Sums are integers below 2**24, divided once, so that jit, eager and NumPy agree; strength 1 gives the
    same bits as none.

    Args:
        pool: the pool.
        rows: integer (..., 2), object (or photo) index and scene-photo index. A photo pool ignores the second (-1).
            Indices are not checked under jit.

    Returns:
        Images, float32 (..., H, W, 3) in [0, 1], and masks, int32 (..., H, W) with labels 0..F.

    Example:
        >>> half = np.full((1, 1, 1, 3), 100, np.uint8)
        >>> pool = Pool(kind="composite", images=half, masks=np.full((1, 1, 1), 128, np.uint8),
        ...             labels=np.array([2], np.uint8), scenes=np.full((1, 1, 1, 3), 255, np.uint8))
        >>> images, masks = jax.jit(gather)(pool, np.array([[0, 0]]))
        >>> print((images * 255).round(2)[0, 0, 0], masks[0, 0, 0])  # 100 + 255 * 127 / 255
        [227. 227. 227.] 2
    """
    rows = jnp.asarray(rows)
    images = jnp.asarray(pool.images)[rows[..., 0]].astype(jnp.float32)
    masks = jnp.asarray(pool.masks)[rows[..., 0]]
    if pool.kind == "photo":
        return images / 255, masks.astype(jnp.int32)
    labels = jnp.asarray(pool.labels)[rows[..., 0], None, None].astype(jnp.int32)
    scene_cover = 255 - masks[..., None].astype(jnp.float32)
    images = (255 * images + _behind(pool, rows) * scene_cover) / 255**2
    return _over(pool, images, rows), jnp.where(masks > OBJECT_ALPHA, labels, 0)


def inputs_of(
    pool: Pool, rows: jax.Array | np.ndarray, images: jax.Array, mirrored: jax.Array | None = None
) -> jax.Array:
    """Returns what the network sees of rows (..., 2), whose images `gather` made: these, or their features.

    Args:
        pool: the pool.
        rows: as `gather` takes them; those of features must be among their places.
        images: of these rows.
        mirrored: bool (...), where the images will be mirrored, so that features are those of mirror images; None:
            nowhere.
    """
    if pool.features is None:
        return images
    rows = jnp.asarray(rows)
    side = jnp.zeros(rows.shape[:-1], jnp.int32)
    if mirrored is not None:
        side = mirrored.astype(jnp.int32)
    places = jnp.asarray(pool.features.places)[rows[..., 0], rows[..., 1]]
    return jnp.asarray(pool.features.maps)[side, places].astype(jnp.float32)


def at_strength(pool: Pool, strength: jax.Array | float) -> Pool:
    """Returns the pool with a cue of this strength in [0, 1]; a pool that does not blend stays as it is."""
    if pool.strength is None:
        return pool
    return replace(pool, strength=jnp.float32(strength))


def scenes_alone(pool: Pool, photos: jax.Array | np.ndarray) -> jax.Array:
    """Returns scenes of a composite pool without objects: float32 (..., H, W, 3) in [0, 1].

    Layers of other cues are put over, or added to, the backdrops of the first objects.
    """
    photos = jnp.asarray(photos)
    rows = jnp.stack([photos % len(pool.images), photos], axis=-1)
    return _over(pool, _behind(pool, rows) / 255, rows)


def _over(pool: Pool, images: jax.Array, rows: jax.Array) -> jax.Array:
    """Puts markers and tints over images in [0, 1]."""
    if pool.cue not in ("marker", "tint"):
        return images
    layers = jnp.asarray(pool.scenes)[rows[..., 1]].astype(jnp.float32) / 255
    if pool.cue == "tint":
        shares = TINTED
    else:
        # A marker hides what is behind it; elsewhere its layer is 0.
        shares = (layers > 0).any(-1, keepdims=True)
    if pool.strength is not None:
        shares = shares * pool.strength
    return images + shares * (layers - images)


def _behind(pool: Pool, rows: jax.Array) -> jax.Array:
    """Returns the pixels behind the objects, (..., H, W, 3) in 0..255."""
    scenes = jnp.asarray(pool.scenes)[rows[..., 1]].astype(jnp.float32)
    if pool.cue == "scene":
        if pool.strength is None:
            return scenes
        mean_scene = jnp.asarray(pool.backdrops)[0].astype(jnp.float32)
        return _blended(mean_scene, scenes, pool.strength)
    backdrops = jnp.asarray(pool.backdrops)[rows[..., 0]].astype(jnp.float32)
    if pool.cue != "texture":
        return backdrops
    textured = jnp.clip(backdrops + scenes - TEXTURE_GREY, 0, 255)
    if pool.strength is None:
        return textured
    return _blended(backdrops, textured, pool.strength)


def _blended(without_cue: jax.Array, with_cue: jax.Array, strength: jax.Array) -> jax.Array:
    """Returns pixels between those without and with the cue; both are integers, so that strength 1 gives the latter."""
    return without_cue + strength * (with_cue - without_cue)
