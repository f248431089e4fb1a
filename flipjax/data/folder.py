"""Loads composite and photo pools from a folder.

`list_folder` finds out which of the two layouts a folder has, and lists its images in a catalog; the catalog's problems
say what is wrong with the folder. `decoder_of` reads the pixels of an item. `load_folder` joins both through the cache
of `flipjax.data.store`; `check_folder` decodes all images to describe them and to find bad ones.
"""

import dataclasses
import itertools
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from PIL.Image import Image

from flipjax.config import ConfigError, PoolSpec
from flipjax.data import images, store
from flipjax.data.images import BadFileError, Pixels, read_table
from flipjax.data.overview import Overview, make_overview
from flipjax.data.pool import Catalog, Pool, PoolItem
from flipjax.data.split import PARTS
from flipjax.data.store import BadFilesError, Reader, decoded, names_of, with_usual
from flipjax.support.files import sha256
from flipjax.support.terminal import listed

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Endings of the names of a composite folder's images."""
CONTENT = {"composite": ("cutouts", "scenes"), "photo": ("images", "masks", "metadata.csv")}
"""What a folder of each layout must contain."""
LAYOUTS = "cutouts/<class>/ and scenes/<scene>/ (composite), or images/, masks/ and metadata.csv (photo)"
"""Both layouts, for messages."""
HIDDEN = (".", "Thumbs.db", "desktop.ini")
"""Beginnings of the names of files and folders that are no part of a pool."""


def load_folder(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Loads a folder, and caches its decoded pool under the sizes and times of its files.

    `list_folder` describes the layouts, `decoder_of` the pixels.

    Args:
        spec: `root`, `size` (side in pixels), `classes` and `scene_kinds` (empty: all, alphabetically), and `usual`.

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
        names = (photo_name, mask_name)
        photo = open_image(photo_name)
        if item.y < 0:
            return images.read_scene(photo, name=photo_name, size=size)
        if catalog.kind == "photo":
            label = 1 + item.y
            return images.read_labelled(photo, open_image(mask_name), names=names, value=label, label=label, size=size)
        if len(item.files) > 1:
            photo = images.rgb(photo, photo_name)
            mask = open_image(mask_name)
        elif photo.has_transparency_data:
            photo = photo.convert("RGBA")
            mask = photo
        else:
            raise BadFileError(f"{photo_name}: no alpha channel, and no photo of that name whose mask it could be")
        images.check_sizes(photo, mask, names=names)
        return images.cut_out(photo, images.alpha_of(mask, mask_name), name=mask_name, size=size)

    return read


def with_palettes_checked(catalog: Catalog) -> Catalog:
    """Returns a catalog of photos with a problem more if an index means different colours in different masks."""
    if catalog.kind != "photo":
        return catalog
    palettes = {}
    for item in catalog.objects:
        path = Path(catalog.source, item.files[-1])
        try:
            palettes[path] = images.read_mask_header(path).palette
        except BadFileError:
            continue  # Decoding reports it.
    try:
        clash = images.clashing_colours(palettes)
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


def list_folder(spec: PoolSpec) -> Catalog:
    """Lists a folder of either layout.

    Composite: `cutouts/<class>/NAME.jpg` with `NAME.png` as its mask, or `NAME.png` alone with an alpha channel;
    `scenes/<scene>/*`. Photo: `images/`, `masks/` (the same names, .png) and `metadata.csv` with filename (below
    images/), class, scene (the column `spec.scene_column`) and optionally split: train, val, test or empty. Photos with
    equal values of the column `spec.cluster_column` stay in one part.

    Args:
        spec: as in `load_folder`.

    Raises:
        ConfigError: root is no folder.
        BadFilesError: the folder has neither layout, or fewer than two classes or scenes; or metadata.csv is unusable.
    """
    root = Path(spec.root).expanduser()
    if not spec.root or not os.path.isdir(root):
        found = "none; pass --config.pool.root=DIR"
        if spec.root:
            found = f"{spec.root!r}, which is none"
        raise ConfigError("config.pool.root", f"a folder with {LAYOUTS}", found)
    kind = _layout_of(root)
    if kind == "composite":
        return _list_composite(root, spec)
    return _list_photos(root, spec)


def _layout_of(root: Path) -> str:
    """Returns the layout of a folder, a key of CONTENT; raises BadFilesError if it has neither or both."""
    kinds = [kind for kind, names in CONTENT.items() if all((root / name).exists() for name in names)]
    if len(kinds) == 1:
        return kinds[0]
    wanted = "whole"
    if kinds:
        wanted = "not both"
    names = []
    for path in _visible(root):
        if path.is_dir():
            names.append(f"{path.name}/")
        else:
            names.append(path.name)
    raise BadFilesError(root, [f"expected {LAYOUTS}, {wanted}; found {listed(names)}"])


def _list_composite(root: Path, spec: PoolSpec) -> Catalog:
    """Returns the catalog of a composite folder."""
    class_names = names_of(root, "classes", _file_counts(root / "cutouts"), spec.classes)
    scene_names = names_of(root, "scene_kinds", _file_counts(root / "scenes"), spec.scene_kinds)
    if spec.scene_column != "scene" or spec.cluster_column:
        found = spec.cluster_column or spec.scene_column
        raise ConfigError(
            "config.pool.scene_column", "a folder of photos with metadata.csv; this one is composite", found
        )
    problems = []
    if (root / "metadata.csv").exists():
        # Rather than a sweep that does not keep its parts.
        problems.append("metadata.csv: expected none in a composite folder")
    objects: list[PoolItem] = []
    for y, name in enumerate(class_names):
        objects += _cut_outs(root, name, y, problems)
    scenes = []
    for kind, folder in enumerate(scene_names):
        scenes += [PoolItem(name, (name,), scene=kind) for name in _images(root, f"scenes/{folder}", problems)]
    return Catalog(str(root), "composite", class_names, scene_names, objects, scenes, tuple(problems))


def _file_counts(folder: Path) -> dict[str, int]:
    """Returns the number of files in each folder of a folder, by name."""
    return {path.name: len(_visible(path)) for path in _visible(folder) if path.is_dir()}


def _cut_outs(root: Path, name: str, y: int, problems: list[str]) -> Iterator[PoolItem]:
    """Yields the cut-outs of a class: each is a photo and its mask, or a file with an alpha channel."""
    stems: dict[str, list[str]] = defaultdict(list)
    for path in _images(root, f"cutouts/{name}", problems):
        stems[PurePosixPath(path).stem].append(path)
    for stem, paths in stems.items():
        masks = [path for path in paths if path.lower().endswith(".png")]
        photos = [path for path in paths if path not in masks]
        if not photos:
            # A file with an alpha channel, which is its own mask.
            photos = masks
        if len(photos) > 1 or len(masks) != 1:
            expected = f"one photo {stem} and its mask {stem}.png (255 where the object is, else 0)"
            problems.append(f"{photos[0]}: expected {expected}; found {', '.join(paths)}")
        else:
            yield PoolItem(photos[0], tuple(dict.fromkeys([*photos, *masks])), y)


def _list_photos(root: Path, spec: PoolSpec) -> Catalog:
    """Returns the catalog of a photo folder."""
    problems: list[str] = []
    incomplete: list[str] = []
    rows = list(_rows(root, spec, problems, incomplete))
    class_names = names_of(root, "classes", Counter(sorted(row.class_name for row in rows)), spec.classes)
    scene_names = names_of(root, "scene_kinds", Counter(sorted(row.scene for row in rows)), spec.scene_kinds)
    items: list[PoolItem] = []
    row_of_file: dict[str, str] = {}
    for row in rows:
        refusal = _refused(row.filename)
        if refusal:
            problems.append(f"{row.where}: {row.filename!r}: {refusal}")
            continue
        files = _files_of(row.filename)
        reasons = []
        if row.class_name not in class_names:
            reasons.append(f"class {row.class_name!r} is none of {class_names}")
        if row.scene not in scene_names:
            reasons.append(f"{spec.scene_column} {row.scene!r} is none of {scene_names}")
        named_before = [file for file in files if file in row_of_file]
        if named_before:
            reasons.append(f"{named_before[0]} is that of {row_of_file[named_before[0]]}, too")
        reasons += [f"no such file: {file}" for file in files if not os.path.isfile(root / file)]
        problems += [f"{row.where}: {row.filename!r}: {reason}" for reason in reasons]
        for file in files:
            row_of_file[file] = row.where
        if not reasons:
            item = PoolItem(
                files[0],
                files,
                y=class_names.index(row.class_name),
                scene=scene_names.index(row.scene),
                part=row.part,
                cluster=row.cluster,
            )
            items.append(item)
    named = set(row_of_file)
    for filename in incomplete:
        named.update(_files_of(filename))
    paths = [*_visible(root / "images", deep=True), *_visible(root / "masks", deep=True)]
    present = {path.relative_to(root).as_posix() for path in paths if path.is_file()}
    problems += [f"{name}: no row of metadata.csv names it" for name in sorted(present - named)]
    items.sort(key=_name_of)
    return Catalog(str(root), "photo", class_names, scene_names, items, problems=tuple(problems))


def _name_of(item: PoolItem) -> str:
    return item.name


def _files_of(filename: str) -> tuple[str, str]:
    """Returns the names of a photo and its mask, relative to the root."""
    return f"images/{filename}", PurePosixPath("masks", filename).with_suffix(".png").as_posix()


@dataclasses.dataclass(frozen=True)
class _Row:
    """A complete row of metadata.csv."""

    where: str
    """Where it is, as 'metadata.csv line 3'."""
    filename: str
    """Name of the photo below images/."""
    class_name: str
    """Class of the object."""
    scene: str
    """The value of the column `config.pool.scene_column`."""
    part: int
    """Fixed part: -1 free, 0 train, 1 val, 2 test."""
    cluster: str
    """The value of the column `config.pool.cluster_column`; empty without one."""


def _rows(root: Path, spec: PoolSpec, problems: list[str], incomplete: list[str]) -> Iterator[_Row]:
    """Yields the complete rows of metadata.csv, and adds the file names of the others to `incomplete`."""
    required = ["filename", "class", spec.scene_column]
    if spec.cluster_column:
        required.append(spec.cluster_column)
    try:
        table = read_table(root / "metadata.csv", required)
    except BadFileError as error:
        raise BadFilesError(root, [str(error)]) from error
    for row in table:
        where = f"metadata.csv line {row.line}"
        fields = row.cells
        empty = [name for name in required if not fields[name]]
        if empty:
            problems.append(f"{where}: no {', '.join(empty)}")
            if not _refused(fields["filename"]):
                incomplete.append(fields["filename"])
            continue
        split = fields.get("split", "")
        if split not in ("", *PARTS):
            problems.append(f"{where}: split: expected {', '.join(PARTS)} or nothing; found {split!r}")
            split = ""
        cluster = ""
        if spec.cluster_column:
            cluster = fields[spec.cluster_column]
        yield _Row(
            where=where,
            filename=fields["filename"],
            class_name=fields["class"],
            scene=fields[spec.scene_column],
            part=("", *PARTS).index(split) - 1,
            cluster=cluster,
        )


def _images(root: Path, folder: str, problems: list[str]) -> Iterator[str]:
    """Yields the names of a folder's images, relative to the root."""
    for path in _visible(root / folder):
        name = f"{folder}/{path.name}"
        reason = _refused(name)
        if path.suffix.lower() not in SUFFIXES:
            reason = f"no image; expected {' '.join(SUFFIXES)}"
        if reason:
            problems.append(f"{name}: {reason}")
        else:
            yield name


def _refused(name: str) -> str:
    """Returns the reason why a file name is unusable, or ''."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return "expected a name below the folder"
    if not name.isprintable():
        return "control characters, or bytes that are no UTF-8, in its name"
    return ""


def _visible(folder: Path, *, deep: bool = False) -> list[Path]:
    """Lists a folder, without hidden files and folders; `deep`: and all below it."""
    if deep:
        paths = folder.rglob("*")
    else:
        paths = folder.iterdir()
    visible = []
    for path in sorted(paths):
        if not any(part.startswith(HIDDEN) for part in path.relative_to(folder).parts):
            visible.append(path)
    return visible


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
