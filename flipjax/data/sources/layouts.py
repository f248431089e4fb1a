"""Lists a folder of images in a catalog: the classes, scenes and fixed parts of its files, and what is wrong with it.

A folder has one of two layouts, which `list_folder` describes. No pixels are read.
"""

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from flipjax.config import ConfigError, PoolSpec
from flipjax.data.decoding.images import BadFileError, read_rows
from flipjax.data.part_names import FREE, PARTS
from flipjax.data.pool import Catalog, PoolItem
from flipjax.data.store import BadFilesError, names_of
from flipjax.support.terminal import listed

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
"""Endings of the names of a composite folder's images."""
CONTENT = {"composite": ("cutouts", "scenes"), "photo": ("images", "masks", "metadata.csv")}
"""What a folder of each layout must contain."""
LAYOUTS = "cutouts/<class>/ and scenes/<scene>/ (composite), or images/, masks/ and metadata.csv (photo)"
"""Both layouts, for messages."""
HIDDEN = (".", "Thumbs.db", "desktop.ini")
"""Beginnings of the names of files and folders that are no part of a pool."""


def list_folder(spec: PoolSpec) -> Catalog:
    """Lists a folder of either layout.

    Composite: `cutouts/<class>/NAME.jpg` with `NAME.png` as its mask, or `NAME.png` alone with an alpha channel;
    `scenes/<scene>/*`. Photo: `images/`, `masks/` (the same names, .png) and `metadata.csv` with filename (below
    images/), class, scene (the column `spec.scene_column`) and optionally split: train, val, test or empty. Photos with
    equal values of the column `spec.cluster_column` stay in one part.

    Args:
        spec: `root`, `classes` and `scene_kinds` (empty: all, alphabetically), `scene_column` and `cluster_column`.

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
    expected = f"{LAYOUTS}, whole"
    if kinds:
        expected = f"{LAYOUTS}, not both"
    names = []
    for path in _visible(root):
        if path.is_dir():
            names.append(f"{path.name}/")
        else:
            names.append(path.name)
    raise BadFilesError(root, [f"expected {expected}; found {listed(names)}"])


def _list_composite(root: Path, spec: PoolSpec) -> Catalog:
    """Returns the catalog of a composite folder."""
    class_names = names_of(root, "classes", _file_counts(root / "cutouts"), spec.classes)
    scene_names = names_of(root, "scene_kinds", _file_counts(root / "scenes"), spec.scene_kinds)
    if spec.scene_column != "scene" or spec.cluster_column:
        expected = "a folder of photos with metadata.csv; this one is composite"
        raise ConfigError("config.pool.scene_column", expected, spec.cluster_column or spec.scene_column)
    problems = []
    if (root / "metadata.csv").exists():
        # A sweep would not keep the parts that it names.
        problems.append("metadata.csv: expected none in a composite folder")
    objects: list[PoolItem] = []
    for y, name in enumerate(class_names):
        objects += _cut_outs(root, name, y, problems)
    scenes = []
    for kind, scene_name in enumerate(scene_names):
        names = _images(root, f"scenes/{scene_name}", problems)
        scenes += [PoolItem(name, (name,), scene=kind) for name in names]
    return Catalog(str(root), "composite", class_names, scene_names, objects, scenes, tuple(problems))


def _file_counts(folder: Path) -> dict[str, int]:
    """Returns the number of files in each folder of a folder, by name."""
    return {path.name: len(_visible(path)) for path in _visible(folder) if path.is_dir()}


def _cut_outs(root: Path, class_name: str, y: int, problems: list[str]) -> Iterator[PoolItem]:
    """Yields the cut-outs of a class; adds a line to `problems` for each file that is none.

    A cut-out is a photo and its mask, or a file with an alpha channel.
    """
    paths_of_stem: dict[str, list[str]] = defaultdict(list)
    for path in _images(root, f"cutouts/{class_name}", problems):
        paths_of_stem[PurePosixPath(path).stem].append(path)
    for stem, paths in paths_of_stem.items():
        mask_paths = [path for path in paths if path.lower().endswith(".png")]
        photos = [path for path in paths if path not in mask_paths]
        if not photos:
            # A file with an alpha channel, which is its own mask.
            photos = mask_paths
        if len(photos) > 1 or len(mask_paths) != 1:
            expected = f"one photo {stem} and its mask {stem}.png (255 where the object is, else 0)"
            problems.append(f"{photos[0]}: expected {expected}; found {', '.join(paths)}")
        else:
            yield PoolItem(photos[0], tuple(dict.fromkeys([*photos, *mask_paths])), y)


def _list_photos(root: Path, spec: PoolSpec) -> Catalog:
    """Returns the catalog of a photo folder."""
    rows = _read_metadata(root, spec)
    complete = [row for row in rows if not row.empty_columns]
    class_names = names_of(root, "classes", Counter(sorted(row.class_name for row in complete)), spec.classes)
    scene_names = names_of(root, "scene_kinds", Counter(sorted(row.scene for row in complete)), spec.scene_kinds)
    problems: list[str] = []
    items: list[PoolItem] = []
    row_of_file: dict[str, str] = {}
    for row in rows:
        problems_of_row = _problems_of_values(row, class_names, scene_names, scene_column=spec.scene_column)
        if not row.empty_columns:
            problems_of_row += _problems_of_files(row, root, row_of_file)
        row_of_file.update(dict.fromkeys(row.files, row.where))
        if problems_of_row:
            problems += problems_of_row
            continue
        item = PoolItem(
            row.files[0],
            row.files,
            y=class_names.index(row.class_name),
            scene=scene_names.index(row.scene),
            part=row.part,
            cluster=row.cluster,
        )
        items.append(item)
    paths = [*_visible(root / "images", deep=True), *_visible(root / "masks", deep=True)]
    present = {path.relative_to(root).as_posix() for path in paths if path.is_file()}
    problems += [f"{name}: no row of metadata.csv names it" for name in sorted(present - row_of_file.keys())]
    items.sort(key=_name_of)
    return Catalog(str(root), "photo", class_names, scene_names, items, problems=tuple(problems))


def _name_of(item: PoolItem) -> str:
    return item.name


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row of metadata.csv."""

    where: str
    """Where it is, as 'metadata.csv line 3'."""
    filename: str
    """Name of the photo below images/."""
    class_name: str
    """Class of the object."""
    scene: str
    """The value of the column `config.pool.scene_column`."""
    split: str
    """The name of a part, or nothing of a photo that is free."""
    cluster: str
    """The value of the column `config.pool.cluster_column`; empty without one."""
    empty_columns: tuple[str, ...]
    """Names of the required columns without a value."""

    @property
    def part(self) -> int:
        """The number of the part, FREE without one."""
        if not self.split:
            return FREE
        return PARTS.index(self.split)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the photo and its mask, relative to the root; none if the file name is unusable."""
        if not self.filename or _refused(self.filename):
            return ()
        return f"images/{self.filename}", PurePosixPath("masks", self.filename).with_suffix(".png").as_posix()


def _read_metadata(root: Path, spec: PoolSpec) -> list[_Row]:
    """Reads metadata.csv; raises BadFilesError if it is no table with the required columns."""
    required = ["filename", "class", spec.scene_column]
    if spec.cluster_column:
        required.append(spec.cluster_column)
    try:
        table = read_rows(root / "metadata.csv", required)
    except BadFileError as error:
        raise BadFilesError(root, [str(error)]) from error
    rows = []
    for table_row in table:
        cells = table_row.cells
        cluster = ""
        if spec.cluster_column:
            cluster = cells[spec.cluster_column]
        row = _Row(
            where=f"metadata.csv line {table_row.line}",
            filename=cells["filename"],
            class_name=cells["class"],
            scene=cells[spec.scene_column],
            split=cells.get("split", ""),
            cluster=cluster,
            empty_columns=tuple(name for name in required if not cells[name]),
        )
        rows.append(row)
    return rows


def _problems_of_values(
    row: _Row, class_names: Sequence[str], scene_names: Sequence[str], *, scene_column: str
) -> list[str]:
    """Returns a line for each value of a row that is missing or none of those allowed."""
    if row.empty_columns:
        return [f"{row.where}: no {', '.join(row.empty_columns)}"]
    problems = []
    if row.split not in ("", *PARTS):
        problems.append(f"{row.where}: split: expected {', '.join(PARTS)} or nothing; found {row.split!r}")
    if row.class_name not in class_names:
        problems.append(f"{row.where}: {row.filename!r}: class {row.class_name!r} is none of {class_names}")
    if row.scene not in scene_names:
        problems.append(f"{row.where}: {row.filename!r}: {scene_column} {row.scene!r} is none of {scene_names}")
    return problems


def _problems_of_files(row: _Row, root: Path, row_of_file: dict[str, str]) -> list[str]:
    """Returns a line for each reason why the files of a row cannot be used; `row_of_file` has those of earlier rows."""
    reasons = []
    refusal = _refused(row.filename)
    if refusal:
        reasons.append(refusal)
    named_before = [file for file in row.files if file in row_of_file]
    if named_before:
        reasons.append(f"{named_before[0]} is that of {row_of_file[named_before[0]]}, too")
    reasons += [f"no such file: {file}" for file in row.files if not os.path.isfile(root / file)]
    return [f"{row.where}: {row.filename!r}: {reason}" for reason in reasons]


def _images(root: Path, folder: str, problems: list[str]) -> Iterator[str]:
    """Yields the names of a folder's images, relative to the root; adds a line to `problems` for each other file."""
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
    """Returns why a file name is unusable, or "" of one that is usable."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return "expected a name below the folder"
    if not name.isprintable():
        return "control characters, or bytes that are no UTF-8, in its name"
    return ""


def _visible(folder: Path, *, deep: bool = False) -> list[Path]:
    """Lists the files and folders in a folder that are not hidden; if `deep`, also those in its folders."""
    if deep:
        paths = folder.rglob("*")
    else:
        paths = folder.iterdir()
    visible = []
    for path in sorted(paths):
        if not any(part.startswith(HIDDEN) for part in path.relative_to(folder).parts):
            visible.append(path)
    return visible
