"""A pool made from a user's own folder, composite or photo."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from flipjax.config import ConfigError, PoolSpec, check_value
from flipjax.data import build, images, store
from flipjax.data.build import PixelReader
from flipjax.data.folder.listing import read_listing
from flipjax.data.images import BadFileError, Pixels
from flipjax.data.pool import Catalog, Listing, Pool, PoolItem
from flipjax.files import sha256
from flipjax.threads import in_order


def load_folder(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Loads a folder; its decoded pool is kept and found again by the content of the files.

    The layouts are those of `flipjax.data.folder.listing.read_listing`, the pixels those of `decoder_of`.

    Args:
        spec: `root`, `size` (pixels a side), `classes` and `scene_kinds` (empty: all, in the order of the alphabet),
            and `usual`.

    Returns:
        The pool and its catalog.

    Raises:
        ConfigError: root is no folder, or size is out of range.
        BadFilesError: (a ConfigError) the folder is no pool, or files are bad; lists every one of them.
    """
    root, listing = list_folder(spec)
    key = _content_key(root, listing, spec)
    decoder = decoder_of(root, listing, size=spec.size)
    return build.load_pool(spec, key, lambda: (listing, decoder))


def list_folder(spec: PoolSpec) -> tuple[Path, Listing]:
    """Returns the folder of a pool and its listing; for errors see `load_folder`."""
    check_value("pool.size", spec.size)
    if not spec.root:
        raise ConfigError("config.pool.root", "a folder of photos: pass --config.pool.root=DIR", "none")
    root = Path(spec.root).expanduser()
    return root, read_listing(root, classes=spec.classes, scene_kinds=spec.scene_kinds)


def decoder_of(root: Path, listing: Listing, *, size: int) -> PixelReader:
    """Returns what decodes a folder's items.

    Photos are turned as their EXIF tag says and made RGB. Cut-outs and photos are squashed to size x size; a cut-out is
    premultiplied by its alpha before. Label masks take the nearest pixel. Scenes are cropped to their middle square.

    Args:
        root: the folder.
        listing: of it.
        size: pixels a side.
    """

    def open_image(name: str):
        return images.read_image(root / name, name=name, turn=True)

    def read_cut_out(item: PoolItem) -> Pixels:
        name, *mask = item.files
        photo = open_image(name)
        if mask:
            photo = images.rgb(photo, name)
            alpha, values = images.alpha_of(alpha_image := open_image(mask[0]), mask[0])
            images.check_sizes(photo, alpha_image, names=(name, mask[0]))
        elif not photo.has_transparency_data:
            raise BadFileError(f"{name}: no alpha channel, and no photo of that name whose mask it could be")
        else:
            photo = photo.convert("RGBA")
            alpha, values = images.alpha_of(photo, name)
        image, alpha = map(np.asarray, images.cut_out(photo, alpha, size))
        images.check_object(alpha > 127, item.files[-1])
        return Pixels(image, alpha, values, photo.width / photo.height)

    def read_photo(item: PoolItem) -> Pixels:
        name, mask = item.files
        options = {"value": 1 + item.y, "label": 1 + item.y, "size": size}
        return images.read_labelled(open_image(name), open_image(mask), names=(name, mask), **options)

    def read_scene(item: PoolItem) -> np.ndarray:
        (name,) = item.files
        return np.asarray(images.middle_square(images.rgb(open_image(name), name), size))

    return PixelReader(read_cut_out if listing.kind == "composite" else read_photo, read_scene)


def digests(root: Path, names: Sequence[str]) -> list[str]:
    """Returns a hex digest of each file's bytes; empty where it cannot be read, which decoding explains."""
    return list(in_order(partial(_digest, root), names))


def _content_key(root: Path, listing: Listing, spec: PoolSpec) -> str:
    """Returns 32 hex digits of the SHA-256 of the names, classes and bytes of all files, the size and the options."""
    options = (listing.kind, listing.class_names, listing.scene_names, listing.problems, spec.size)
    items = [*listing.objects, *listing.scenes]
    files = [name for item in items for name in item.files]
    return sha256(f"folder {store.FORMAT} {options}\n{items} {digests(root, files)}")[:32]


def _digest(root: Path, name: str) -> str:
    try:
        return sha256(images.read_file(root / name))
    except BadFileError:
        return ""
