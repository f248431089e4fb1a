"""What a user's folder holds, before any image is opened: files of either layout, their classes, scenes and parts."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from flipjax.config import ConfigError
from flipjax.data.split import PARTS

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LAYOUTS = "cutouts/<class>/ and scenes/<scene>/ (composite), or images/, masks/ and metadata.csv (photo)"


class FolderError(ConfigError):
    """A folder that cannot be a pool; `problems` holds one line a file."""

    def __init__(self, root: Path, problems: Iterable[str]):
        """Joins the problems into one message."""
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(str(root), problem="\n  ".join([count, *self.problems]))


@dataclass(frozen=True)
class Item:
    """A photo or cut-out, or a scene photo: paths below the root, 'val' and so on as an index of PARTS, -1 for none."""

    path: str
    mask: str | None = None
    y: int = -1
    scene: int = -1
    split: int = -1


@dataclass(frozen=True)
class Listing:
    """A folder's images in the order of the pool's rows, and a line for each file that cannot be one."""

    root: Path
    kind: Literal["composite", "photo"]
    class_names: tuple[str, str]
    scene_names: tuple[str, str]
    objects: tuple[Item, ...]
    scenes: tuple[Item, ...]
    problems: tuple[str, ...]


def read_listing(root: Path, *, classes: tuple[str, ...] = (), scene_kinds: tuple[str, ...] = ()) -> Listing:
    """Lists a folder of either layout.

    Args:
        root: the folder. Composite: `cutouts/<class>/NAME.jpg` with `NAME.png` as its mask, or `NAME.png` alone with an
            alpha channel; `scenes/<scene>/*`; optionally `metadata.csv` with filename (below the root) and split.
            Photo: `images/`, `masks/` (the same names, .png) and `metadata.csv` with filename (below images/), class,
            scene and optionally split: train, val, test or empty.
        classes: the two class names, y = 0 first; empty: in the order of the alphabet.
        scene_kinds: the two scene names, the usual scene of class y at y; empty: in the order of the alphabet.

    Returns:
        The listing.

    Raises:
        ConfigError: root is no folder.
        FolderError: the folder has neither layout, or not exactly two classes and two scenes.
    """
    if not root.is_dir():
        raise ConfigError("config.pool.root", f"a folder with {LAYOUTS}", f"{str(root)!r}, which is none")
    parts = {
        "composite": [root / "cutouts", root / "scenes"],
        "photo": [root / "images", root / "masks", root / "metadata.csv"],
    }
    whole = [kind for kind, paths in parts.items() if all(path.exists() for path in paths)]
    if len(whole) != 1:
        found = sorted(path.name + "/" * path.is_dir() for path in root.iterdir() if not _hidden(path))
        raise FolderError(root, [f"expected {LAYOUTS}, {'not both' if whole else 'whole'}; found {_some(found)}"])
    read = _read_composite if whole == ["composite"] else _read_photo
    return read(root, classes, scene_kinds)


def _read_composite(root: Path, classes: tuple[str, ...], scene_kinds: tuple[str, ...]) -> Listing:
    problems: list[str] = []
    class_names = _two(root, "classes", _count_files(root / "cutouts"), classes)
    scene_names = _two(root, "scene_kinds", _count_files(root / "scenes"), scene_kinds)
    objects = [item for y, name in enumerate(class_names) for item in _cut_outs(root, name, y, problems)]
    scenes = [
        Item(path.relative_to(root).as_posix(), scene=kind)
        for kind, name in enumerate(scene_names)
        for path in _images(root, root / "scenes" / name, problems)
    ]
    if (root / "metadata.csv").exists():
        splits = _read_splits(root, {item.path for item in objects + scenes}, problems)
        objects = [replace(item, split=splits.get(item.path, -1)) for item in objects]
        scenes = [replace(item, split=splits.get(item.path, -1)) for item in scenes]
    return Listing(root, "composite", class_names, scene_names, tuple(objects), tuple(scenes), tuple(problems))


def _cut_outs(root: Path, name: str, y: int, problems: list[str]) -> Iterator[Item]:
    folder = root / "cutouts" / name
    stems: dict[str, list[str]] = {}
    for path in _images(root, folder, problems):
        stems.setdefault(path.stem, []).append(path.relative_to(root).as_posix())
    for stem, paths in stems.items():
        masks = [path for path in paths if path.lower().endswith(".png")]
        photos = [path for path in paths if path not in masks] or masks
        if len(photos) > 1 or len(masks) > 1:
            problems.append(f"{photos[0]}: the name {stem} stands for more than one photo: {', '.join(paths)}")
        elif not masks:
            problems.append(f"{photos[0]}: no mask; expected {stem}.png beside it (255 where the object is, else 0)")
        else:
            yield Item(photos[0], None if photos == masks else masks[0], y=y)


def _read_splits(root: Path, known: set[str], problems: list[str]) -> dict[str, int]:
    splits: dict[str, int] = {}
    for where, row in _rows(root, ("filename", "split"), problems):
        name = row["filename"]
        if name not in known:
            problems.append(f"{where}: {name!r} is no listed image of cutouts/ or scenes/")
        elif name in splits:
            problems.append(f"{where}: {name!r} is listed twice")
        else:
            splits[name] = _split(where, row, problems)
    return splits


def _read_photo(root: Path, classes: tuple[str, ...], scene_kinds: tuple[str, ...]) -> Listing:
    problems: list[str] = []
    rows = list(_rows(root, ("filename", "class", "scene"), problems))
    class_names = _two(root, "classes", Counter(row["class"] for _, row in rows), classes)
    scene_names = _two(root, "scene_kinds", Counter(row["scene"] for _, row in rows), scene_kinds)
    items: dict[str, Item] = {}
    masks: dict[str, str] = {}
    seen: dict[str, str] = {}
    for where, row in rows:
        name = row["filename"]
        path, mask = f"images/{name}", Path("masks", name).with_suffix(".png").as_posix()
        found = [
            f"{field} {row[field]!r} is none of {', '.join(names)}"
            for field, names in (("class", class_names), ("scene", scene_names))
            if row[field] not in names
        ]
        if name in seen:
            found.append(f"listed twice (first in {seen[name]})")
        elif mask in masks:
            found.append(f"shares its mask {mask} with {masks[mask]}")
        found += [f"no such file: {file}" for file in (path, mask) if not (root / file).is_file()]
        problems += [f"{where}: {name!r}: {reason}" for reason in found]
        seen.setdefault(name, where)
        masks.setdefault(mask, name)
        split = _split(where, row, problems)
        if not found:
            items[name] = Item(path, mask, class_names.index(row["class"]), scene_names.index(row["scene"]), split)
    listed = {"images": {f"images/{name}" for name in seen}, "masks": set(masks)}
    for folder, known in listed.items():
        paths = [path.relative_to(root) for path in sorted((root / folder).rglob("*")) if path.is_file()]
        shown = [path.as_posix() for path in paths if not any(map(_hidden, (path, *path.parents[:-1])))]
        problems += [f"{name}: no row of metadata.csv names it" for name in shown if name not in known]
    objects = tuple(items[name] for name in sorted(items))
    return Listing(root, "photo", class_names, scene_names, objects, (), tuple(problems))


def _rows(root: Path, required: tuple[str, ...], problems: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the rows of metadata.csv that have every required field, each with 'metadata.csv line N'."""
    try:
        text = (root / "metadata.csv").read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
        columns, lines = tuple(reader.fieldnames or ()), [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise FolderError(root, [f"metadata.csv: not encoded as UTF-8 ({error})"]) from error
    except csv.Error as error:
        raise FolderError(root, [f"metadata.csv: no CSV ({error})"]) from error
    missing = [name for name in required if name not in columns]
    if missing:
        expected = f"expected the columns {', '.join(required)}"
        raise FolderError(root, [f"metadata.csv: no column {', '.join(missing)}; {expected}; found {_some(columns)}"])
    for number, row in lines:
        where = f"metadata.csv line {number}"
        # Under the key None DictReader keeps the fields beyond the last column.
        if None in row:
            problems.append(f"{where}: {len(columns) + len(row[None])} fields for {len(columns)} columns")
            continue
        fields = {name: (value or "").strip() for name, value in row.items()}
        empty = [name for name in required if not fields[name] and name != "split"]
        if empty:
            problems.append(f"{where}: no {', '.join(empty)}")
        else:
            yield where, fields


def _split(where: str, row: dict[str, str], problems: list[str]) -> int:
    split = row.get("split", "")
    if split and split not in PARTS:
        problems.append(f"{where}: split: expected {', '.join(PARTS)} or nothing; found {split!r}")
    return PARTS.index(split) if split in PARTS else -1


def _two(root: Path, field: str, found: Counter[str], asked: tuple[str, ...]) -> tuple[str, str]:
    names = tuple(asked or sorted(found))
    counts = _some([f"{name} ({count})" for name, count in sorted(found.items())])
    if len(names) != 2 or len(set(names)) != 2:
        wanted = "" if not asked else f" asked for as config.pool.{field}"
        raise FolderError(root, [f"{field}: expected exactly two{wanted}; found {_some(asked) if asked else counts}"])
    absent = [name for name in names if not found[name]]
    if absent:
        raise FolderError(root, [f"{field}: no image of {', '.join(absent)}; found {counts}"])
    return names[0], names[1]


def _count_files(folder: Path) -> Counter[str]:
    folders = [path for path in folder.iterdir() if path.is_dir() and not _hidden(path)]
    return Counter({path.name: sum(not _hidden(file) for file in path.iterdir()) for path in folders})


def _images(root: Path, folder: Path, problems: list[str]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if _hidden(path):
            continue
        if path.is_dir():
            problems.append(f"{name}: a folder; images must lie in {folder.relative_to(root).as_posix()}/ itself")
        elif path.suffix.lower() not in SUFFIXES:
            problems.append(f"{name}: no image; expected {' '.join(SUFFIXES)}")
        else:
            yield path


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in ("Thumbs.db", "desktop.ini")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:12] + ["..."] * (len(names) > 12)) or "nothing"
