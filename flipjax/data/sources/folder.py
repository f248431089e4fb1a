"""Loads composite and photo pools from a folder.

`flipjax.data.sources.layouts.list_folder` lists the images of a folder in a catalog, and `decoder_of` reads the pixels
of one. `load_folder` joins both through the cache of `flipjax.data.store`; `check_folder` decodes all images to
describe them and to find bad ones.
"""

import dataclasses
import itertools
import shlex
from pathlib import Path

from PIL.Image import Image

from flipjax.config import PoolSpec
from flipjax.data import store
from flipjax.data.decoding import images, masks
from flipjax.data.decoding.images import BadFileError, Pixels
from flipjax.data.pool import Catalog, Pool, PoolItem
from flipjax.data.sources.layouts import list_folder
from flipjax.data.splits.overview import Overview, make_overview
from flipjax.data.store import Reader, decoded, with_usual
from flipjax.support.files import sha256


def load_folder(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Loads a folder, and caches its decoded pool under the sizes and times of its files.

    `flipjax.data.sources.layouts.list_folder` describes the layouts, `decoder_of` the pixels.

    Args:
        spec: as in `list_folder`, with `size` (side in pixels) and `usual`.

    Returns:
        The pool and its catalog.

    Raises:
        ConfigError: root is no folder.
        BadFilesError: (a ConfigError) the folder is no pool, or files are bad; lists all of them.
    """
    catalog = list_folder(spec)
    options = (catalog.kind, catalog.class_names, catalog.scene_names, catalog.problems, spec.size)
    items = [*catalog.objects, *catalog.scenes]
    names = itertools.chain.from_iterable(item.files for item in items)
    states = [_state_of(Path(catalog.source, name)) for name in names]
    key = sha256(f"folder {store.FORMAT} {Path(catalog.source).absolute()} {options}\n{items} {states}")[:32]

    def open_folder() -> tuple[Catalog, Reader]:
        return with_palettes_checked(catalog), decoder_of(catalog, size=spec.size)

    return store.load_pool(spec, key, open_folder)


def decoder_of(catalog: Catalog, *, size: int) -> Reader:
    """Returns a reader for the items of a folder.

    Photos get their EXIF orientation and are converted to RGB. Cut-outs and photos are resized to size x size, cut-outs
    after premultiplication by alpha. Label masks take the nearest pixel. Scenes are cropped to their central square.

    Args:
        catalog: of `list_folder`.
        size: side in pixels.
    """

    def open_image(name: str) -> Image:
        return images.read_image(Path(catalog.source, name), name=name, turn=True)

    def read(item: PoolItem) -> Pixels:
        # A cut-out with an alpha channel is one file, its own mask.
        photo_name = item.files[0]
        mask_name = item.files[-1]
        photo = open_image(photo_name)
        if item.is_scene_photo:
            return images.read_scene(photo, name=photo_name, size=size)
        if catalog.kind == "photo":
            return images.read_labelled(
                photo,
                open_image(mask_name),
                photo_name=photo_name,
                mask_name=mask_name,
                value=1 + item.y,
                label=1 + item.y,
                size=size,
            )
        if len(item.files) > 1:
            photo = images.rgb(photo, photo_name)
            mask = open_image(mask_name)
        elif photo.has_transparency_data:
            photo = photo.convert("RGBA")
            mask = photo
        else:
            raise BadFileError(f"{photo_name}: no alpha channel, and no photo of that name whose mask it could be")
        images.check_sizes(photo, mask, photo_name=photo_name, mask_name=mask_name)
        return images.cut_out(photo, images.alpha_of(mask, mask_name), name=mask_name, size=size)

    return read


def with_palettes_checked(catalog: Catalog) -> Catalog:
    """Returns the catalog of a folder, with a problem more if an index has different colours in masks of photos."""
    if catalog.kind != "photo":
        return catalog
    palettes = {}
    for item in catalog.objects:
        path = Path(catalog.source, item.files[-1])
        try:
            palettes[path] = masks.read_mask_header(path).palette
        except BadFileError:
            continue  # Decoding reports it.
    try:
        clash = masks.clashing_colours(palettes)
    except BadFileError:
        return catalog
    if not clash:
        return catalog
    problem = f"masks/: expected class indices, found colours: {clash}; save the indices of the classes"
    return dataclasses.replace(catalog, problems=(*catalog.problems, problem))


def _state_of(path: Path) -> str:
    """Returns the size and time of a file, which change with it; nothing if there is none, which decoding reports."""
    try:
        state = path.stat()
    except OSError:
        return ""
    return f"{state.st_size} {state.st_mtime_ns}"


def check_folder(spec: PoolSpec) -> Overview:
    """Reads every file of a folder as `load_folder` does, and describes it; bad files are among the problems.

    Args:
        spec: as in `load_folder`.

    Raises:
        ConfigError: root is no folder, or usual scenes are invalid.
        BadFilesError: (a ConfigError) the folder is no pool.
    """
    catalog = with_palettes_checked(with_usual(list_folder(spec), spec.usual))
    problems = list(catalog.problems)
    for _ in decoded([*catalog.objects, *catalog.scenes], decoder_of(catalog, size=spec.size), "images", problems):
        pass
    title = f"{catalog.source}: a {catalog.kind} folder"
    return make_overview(catalog, title, problems, size=spec.size, usual_option="--usual")


def sweep_command(spec: PoolSpec, overview: Overview, *, config: str) -> str:
    """Returns the command that sweeps a folder by a configuration, with the sizes of its overview."""
    values = {"pool.root": spec.root, "pool.size": spec.size, **overview.changes}
    for name in ("classes", "scene_kinds", "usual", "cluster_column"):
        if getattr(spec, name):
            values[f"pool.{name}"] = getattr(spec, name)
    if spec.scene_column != PoolSpec().scene_column:
        values["pool.scene_column"] = spec.scene_column
    options = [f"--config.{name}={value}" for name, value in values.items()]
    return shlex.join(["flipjax", "sweep", "--config", config, *options])
