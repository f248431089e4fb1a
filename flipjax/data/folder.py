"""Loads composite and photo pools from a folder, and reports its bad files, mask values, counts and possible levels."""

import csv
import io
import os
import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from PIL.Image import Image

from flipjax.config import ConfigError, PoolSpec, SplitSpec, TrainSpec, check_value
from flipjax.data import images, store
from flipjax.data.correlation import largest_n_train
from flipjax.data.images import BadFileError, Pixels, read_file
from flipjax.data.pool import Catalog, Kind, Listing, Pool, PoolItem, catalog_of
from flipjax.data.split import PARTS, Split, count_content, count_fixed, split_pool, strata
from flipjax.data.store import BadFilesError, Reader, decoded, names_of, shared_lines, with_usual
from flipjax.files import csv_rows, sha256
from flipjax.groups import Groups
from flipjax.terminal import listed, printable
from flipjax.threads import in_order

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LAYOUTS = "cutouts/<class>/ and scenes/<scene>/ (composite), or images/, masks/ and metadata.csv (photo)"


N_TRAIN, GRID = 800, (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Training images and levels of configs/photos_grid.py."""
RHOS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

Names = tuple[str, ...]
Content = tuple[Names, Names, list[PoolItem], list[PoolItem]]
"""Names of classes and scenes, objects and scene photos."""


def load_folder(spec: PoolSpec) -> tuple[Pool, Catalog]:
    """Loads a folder, and caches its decoded pool under a digest of the files.

    `list_folder` describes the layouts, `decoder_of` the pixels.

    Args:
        spec: `root`, `size` (side in pixels), `classes` and `scene_kinds` (empty: all, alphabetically), and `usual`.

    Returns:
        The pool and its catalog.

    Raises:
        ConfigError: root is no folder, or size is out of range.
        BadFilesError: (a ConfigError) the folder is no pool, or files are bad; lists all of them.
    """
    listing = list_folder(spec)
    options = (listing.kind, listing.class_names, listing.scene_names, listing.problems, spec.size)
    items = [*listing.objects, *listing.scenes]
    contents = digests(listing, [name for item in items for name in item.files])
    key = sha256(f"folder {store.FORMAT} {options}\n{items} {contents}")[:32]
    return store.load_pool(spec, key, lambda: (listing, decoder_of(listing, size=spec.size)))


def decoder_of(listing: Listing, *, size: int) -> Reader:
    """Returns a reader for the items of a folder.

    Photos get their EXIF orientation and are converted to RGB. Cut-outs and photos are resized to size x size, cut-outs
    after premultiplication by alpha. Label masks take the nearest pixel. Scenes are cropped to their central square.

    Args:
        listing: of `list_folder`.
        size: side in pixels.
    """

    def open_image(name: str) -> Image:
        return images.read_image(Path(listing.source, name), name=name, turn=True)

    def read(item: PoolItem) -> Pixels:
        name, *mask = item.files
        photo = open_image(name)
        if item.y < 0:
            return images.read_scene(photo, name=name, size=size)
        if listing.kind == "photo":
            label = {"value": 1 + item.y, "label": 1 + item.y}
            return images.read_labelled(photo, open_image(mask[0]), names=(name, mask[0]), **label, size=size)
        if mask:
            photo, drawn = images.rgb(photo, name), open_image(mask[0])
            alpha, values = images.alpha_of(drawn, mask[0])
            images.check_sizes(photo, drawn, names=(name, mask[0]))
        elif not photo.has_transparency_data:
            raise BadFileError(f"{name}: no alpha channel, and no photo of that name whose mask it could be")
        else:
            photo = photo.convert("RGBA")
            alpha, values = images.alpha_of(photo, name)
        return images.cut_out(photo, alpha, name=item.files[-1], size=size, values=values)

    return read


def digests(listing: Listing, names: Sequence[str]) -> list[str]:
    """Returns a hex digest of each file's bytes; empty if it cannot be read, which decoding reports."""

    def digest(name: str) -> str:
        try:
            return sha256(images.read_file(Path(listing.source, name)))
        except BadFileError:
            return ""

    return list(in_order(digest, names))


def list_folder(spec: PoolSpec) -> Listing:
    """Lists a folder of either layout.

    Composite: `cutouts/<class>/NAME.jpg` with `NAME.png` as its mask, or `NAME.png` alone with an alpha channel;
    `scenes/<scene>/*`; optionally `metadata.csv` with filename (below the root) and split. Photo: `images/`, `masks/`
    (the same names, .png) and `metadata.csv` with filename (below images/), class, scene and optionally split: train,
    val, test or empty.

    Args:
        spec: as in `load_folder`.

    Raises:
        ConfigError: root is no folder, or size is out of range.
        BadFilesError: the folder has neither layout, or fewer than two classes or scenes.
    """
    check_value("pool.size", spec.size)
    if not spec.root:
        raise ConfigError("config.pool.root", "a folder of photos: pass --config.pool.root=DIR", "none")
    root = Path(spec.root).expanduser()
    if not os.path.isdir(root):
        raise ConfigError("config.pool.root", f"a folder with {LAYOUTS}", f"{str(root)!r}, which is none")
    parts: dict[Kind, list[Path]] = {
        "composite": [root / "cutouts", root / "scenes"],
        "photo": [root / "images", root / "masks", root / "metadata.csv"],
    }
    whole: list[Kind] = [kind for kind, paths in parts.items() if all(path.exists() for path in paths)]
    if len(whole) != 1:
        names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir() if not _hidden(path))
        raise BadFilesError(root, [f"expected {LAYOUTS}, {'not both' if whole else 'whole'}; found {listed(names)}"])
    problems: list[str] = []
    read = _read_composite if whole == ["composite"] else _read_photo
    class_names, scene_names, objects, scenes = read(root, spec, problems)
    return Listing(
        source=str(root),
        kind=whole[0],
        class_names=class_names,
        scene_names=scene_names,
        objects=objects,
        scenes=scenes,
        problems=tuple(problems),
    )


def _refused(name: str) -> str:
    """Returns the reason why a file name is unusable, or ''."""
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        return "expected a name below the folder"
    return "" if name.isprintable() else "control characters, or bytes that are no UTF-8, in its name"


def _read_composite(root: Path, spec: PoolSpec, problems: list[str]) -> Content:
    class_names = names_of(root, "classes", _count_files(root / "cutouts"), spec.classes)
    scene_names = names_of(root, "scene_kinds", _count_files(root / "scenes"), spec.scene_kinds)
    objects = [item for y, name in enumerate(class_names) for item in _cut_outs(root, name, y, problems)]
    scenes = [
        PoolItem(name, (name,), scene=kind)
        for kind, folder in enumerate(scene_names)
        for name in _images(root, root / "scenes" / folder, problems)
    ]
    if (root / "metadata.csv").exists():
        parts = _read_parts(root, {item.name for item in objects + scenes}, problems)
        objects = [replace(item, part=parts.get(item.name, -1)) for item in objects]
        scenes = [replace(item, part=parts.get(item.name, -1)) for item in scenes]
    return class_names, scene_names, objects, scenes


def _cut_outs(root: Path, name: str, y: int, problems: list[str]) -> Iterator[PoolItem]:
    stems: dict[str, list[str]] = {}
    for path in _images(root, root / "cutouts" / name, problems):
        stems.setdefault(PurePosixPath(path).stem, []).append(path)
    for stem, paths in stems.items():
        masks = [path for path in paths if path.lower().endswith(".png")]
        photos = [path for path in paths if path not in masks] or masks
        if len(photos) > 1 or len(masks) > 1:
            problems.append(f"{photos[0]}: the name {stem} stands for more than one photo: {', '.join(paths)}")
        elif not masks:
            problems.append(f"{photos[0]}: no mask; expected {stem}.png beside it (255 where the object is, else 0)")
        else:
            yield PoolItem(photos[0], tuple(dict.fromkeys([photos[0], masks[0]])), y)


def _read_parts(root: Path, names: set[str], problems: list[str]) -> dict[str, int]:
    parts: dict[str, int] = {}
    for where, row in _rows(root, ("filename", "split"), problems):
        name = row["filename"]
        if name not in names:
            problems.append(f"{where}: {name!r} is no listed image of cutouts/ or scenes/")
        elif name in parts:
            problems.append(f"{where}: {name!r} is listed twice")
        else:
            parts[name] = _part(where, row, problems)
    return parts


def _read_photo(root: Path, spec: PoolSpec, problems: list[str]) -> Content:
    rows = list(_rows(root, ("filename", "class", "scene"), problems))
    class_names = names_of(root, "classes", Counter(sorted(row["class"] for _, row in rows)), spec.classes)
    scene_names = names_of(root, "scene_kinds", Counter(sorted(row["scene"] for _, row in rows)), spec.scene_kinds)
    items: list[PoolItem] = []
    seen: dict[str, str] = {}
    for where, row in rows:
        name = row["filename"]
        if reason := _refused(name):
            problems.append(f"{where}: {name!r}: {reason}")
            continue
        files = (f"images/{name}", PurePosixPath("masks", name).with_suffix(".png").as_posix())
        reasons = [
            f"{field} {row[field]!r} is none of {', '.join(names)}"
            for field, names in (("class", class_names), ("scene", scene_names))
            if row[field] not in names
        ]
        reasons += [f"{file} is that of {seen[file]}, too" for file in files if file in seen][:1]
        reasons += [f"no such file: {file}" for file in files if not os.path.isfile(root / file)]
        problems += [f"{where}: {name!r}: {reason}" for reason in reasons]
        seen = dict.fromkeys(files, where) | seen
        part = _part(where, row, problems)
        if not reasons:
            y, scene = class_names.index(row["class"]), scene_names.index(row["scene"])
            items.append(PoolItem(files[0], files, y, scene, part))
    problems += [line for folder in ("images", "masks") for line in _unlisted(root, folder, seen)]
    return class_names, scene_names, sorted(items, key=lambda item: item.name), []


def _unlisted(root: Path, folder: str, known: Mapping[str, str]) -> list[str]:
    paths = [path.relative_to(root) for path in sorted((root / folder).rglob("*")) if path.is_file()]
    names = [path.as_posix() for path in paths if not any(map(_hidden, (path, *path.parents[:-1])))]
    return [f"{name}: no row of metadata.csv names it" for name in names if name not in known]


def _rows(root: Path, required: tuple[str, ...], problems: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the rows of metadata.csv that have every required field, each with 'metadata.csv line N'."""
    try:
        text = read_file(root / "metadata.csv", name="metadata.csv").decode("utf-8-sig")
        lines = list(csv_rows(io.StringIO(text, newline="")))
    except (BadFileError, UnicodeDecodeError, csv.Error) as error:
        raise BadFilesError(root, [f"metadata.csv: no CSV in UTF-8 ({error})"]) from error
    columns = tuple(lines[0][1]) if lines else ()
    missing = [name for name in required if name not in columns]
    if missing:
        expected = f"expected the columns {', '.join(required)}; found {listed(columns)}"
        advice = "; flipjax audit needs no scenes" if "scene" in missing else ""
        raise BadFilesError(root, [f"metadata.csv: no column {', '.join(missing)}; {expected}{advice}"])
    for number, row in lines:
        where = f"metadata.csv line {number}"
        fields = {name: value.strip() for name, value in row.items()}
        empty = [name for name in required if not fields[name] and name != "split"]
        if empty:
            problems.append(f"{where}: no {', '.join(empty)}")
        else:
            yield where, fields


def _part(where: str, row: dict[str, str], problems: list[str]) -> int:
    split = row.get("split", "")
    if split and split not in PARTS:
        problems.append(f"{where}: split: expected {', '.join(PARTS)} or nothing; found {split!r}")
    return PARTS.index(split) if split in PARTS else -1


def _count_files(folder: Path) -> Counter[str]:
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and not _hidden(path)]
    return Counter({path.name: sum(not _hidden(file) for file in path.iterdir()) for path in folders})


def _images(root: Path, folder: Path, problems: list[str]) -> Iterator[str]:
    """Yields the names of a folder's images, relative to the root."""
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if _hidden(path):
            continue
        if path.is_dir():
            problems.append(f"{name}: a folder; images must lie in {folder.relative_to(root).as_posix()}/ itself")
        elif path.suffix.lower() not in SUFFIXES:
            problems.append(f"{name}: no image; expected {' '.join(SUFFIXES)}")
        elif reason := _refused(name):
            problems.append(f"{name}: {reason}")
        else:
            yield name


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in ("Thumbs.db", "desktop.ini")


def check_folder(
    spec: PoolSpec, *, n_val: int | None = None, n_test: int | None = None, seed: int = 0
) -> tuple[str, bool]:
    """Reads every file of a folder as `load_folder` does, and reports.

    Args:
        spec: as in `load_folder`.
        n_val: number of validation images; None: the default, or fewer where the folder is small.
        n_test: the same for the test images.
        seed: the split's seed.

    Returns:
        The report, and whether nothing is wrong.

    Raises:
        ConfigError: root is no folder, or usual scenes are invalid.
    """
    try:
        listing = list_folder(spec)
    except BadFilesError as error:
        return str(error), False
    catalog = with_usual(catalog_of(listing), spec)
    problems = list(listing.problems)
    items = [*listing.objects, *listing.scenes]
    read = decoded(items, decoder_of(listing, size=spec.size), what="images", problems=problems)
    masks = Counter(pixels.values for _, pixels in read if pixels.values)
    lines = _heading(listing, catalog.groups, spec.size)
    lines += [f"\nBad files: {len(problems) or 'none'}", *(f"  {line}" for line in shared_lines(problems))]
    lines += ["\nMasks", *(f"  {count:6} {values}" for values, count in masks.most_common())]
    lines += _twins(listing)
    sizes, note = _sizes(catalog, n_val, n_test)
    try:
        split = split_pool(catalog, **sizes, seed=seed)
    except ValueError as error:
        lines += ["\nCounts", *_count_table(catalog, None), *_realised(catalog, None), "\nNo split", f"  {error}"]
        return printable("\n".join(lines)), False
    bad = ", the bad files as if they were good" if problems else ""
    lines.append(f"\nCounts for n_val {sizes['n_val']}, n_test {sizes['n_test']}, split seed {seed}{note}{bad}")
    lines += [*_count_table(catalog, split), *_realised(catalog, split), *_levels(catalog, split)]
    if not problems:
        lines += ["\nNext", f"  {_command(spec, catalog, split, sizes | {'seed': seed})}"]
    return printable("\n".join(lines)), not problems


def _command(spec: PoolSpec, catalog: Catalog, split: Split, sizes: Mapping[str, int]) -> str:
    """Returns the command that sweeps the folder, or a sentence that explains why there is none."""
    rhos = (low := round(catalog.groups.independence, 6), *(rho for rho in GRID if rho > low))
    largest = {rho: largest_n_train(catalog, split, rhos=[rho]) for rho in rhos}
    levels = tuple(rho for rho, n in largest.items() if n >= TrainSpec().batch_size)
    if not levels:
        return f"no sweep: no rho allows a batch of {TrainSpec().batch_size} training images; flipjax audit needs none"
    n_train = min(N_TRAIN, largest_n_train(catalog, split, rhos=levels)) // catalog.groups.classes
    changes: dict[str, tuple] = {"split.n_train": (n_train * catalog.groups.classes, N_TRAIN)}
    changes |= {f"split.{name}": (value, getattr(SplitSpec(), name)) for name, value in sizes.items()}
    changes |= {"axes.rho": (str(levels).replace(" ", ""), str(GRID).replace(" ", ""))}
    names = ("size", "classes", "scene_kinds", "usual")
    changes |= {f"pool.{name}": (getattr(spec, name), getattr(PoolSpec(), name)) for name in names}
    values = [f"--config.{name}={value}" for name, (value, usual) in changes.items() if value != usual]
    return shlex.join(["flipjax", "sweep", "--config", "photos_grid", f"--config.pool.root={spec.root}", *values])


def _heading(listing: Listing, groups: Groups, size: int) -> list[str]:
    count = f"{len(listing.objects)} photos"
    if listing.kind == "composite":
        count = f"{len(listing.objects)} cut-outs, {len(listing.scenes)} scene photos"
    lines = [f"{listing.source}: a {listing.kind} folder, {count}, read at {size} x {size} pixels"]
    for y, (name, own) in enumerate(zip(listing.class_names, groups.usual, strict=True)):
        scenes = ", ".join(listing.scene_names[scene] for scene in own)
        lines.append(f"  class {y} {name}, usual scene{'s' if len(own) > 1 else ''} {scenes}")
    return lines


def _twins(listing: Listing) -> list[str]:
    photos = [item.files[0] for item in (*listing.objects, *listing.scenes)]
    same = pd.Series(photos).groupby(digests(listing, photos), sort=False)
    twins = [f"  {listed(list(names))}" for digest, names in same if digest and len(names) > 1]
    return ["\nThe same image under several names (it may stand in two parts of the split)", *twins] if twins else []


def _sizes(catalog: Catalog, n_val: int | None, n_test: int | None) -> tuple[dict[str, int], str]:
    default = {name: getattr(SplitSpec(), name) for name in ("n_val", "n_test")}
    groups = catalog.groups.count
    counts = count_fixed(catalog)
    sizes = {}
    for column, (name, size) in enumerate(default.items(), start=2):
        # Val and test take at most half of the free images, which leaves some for training.
        free = counts[:, 0] * size // (2 * sum(default.values()))
        sizes[name] = groups * max(1, min(size // groups, int(np.min(counts[:, column] + free))))
    asked = {name: value for name, value in (("n_val", n_val), ("n_test", n_test)) if value is not None}
    small = len(asked) < 2 and sizes != {name: size // groups * groups for name, size in default.items()}
    note = " (too small for the default {n_val} and {n_test})".format(**default) if small else ""
    return sizes | asked, note


def _count_table(catalog: Catalog, split: Split | None) -> list[str]:
    parts = {"all": None} | (split._asdict() if split else {})
    counts = {name: count_content(catalog, part) for name, part in parts.items()}
    lines = [_table(pd.DataFrame.from_dict(counts, orient="index"))]
    fixed = Counter(np.concatenate([catalog.object_split, catalog.scene_split]).tolist())
    if len(fixed) > 1 or -1 not in fixed:
        counts = ", ".join(f"{part} {fixed[i]}" for i, part in enumerate(PARTS))
        lines.append(f"  fixed by metadata.csv: {counts}; free {fixed[-1]}")
    return lines


def _realised(catalog: Catalog, split: Split | None) -> list[str]:
    lines = ["\nRealised rho"]
    groups = catalog.groups
    low = groups.independence
    if catalog.kind == "composite":
        return [*lines, f"  any in [{low:.3g}, 1]: a cut-out can stand in any scene"]
    common = np.isin(strata(catalog), groups.common)
    rows = {"all": np.arange(len(catalog.object_class))} | ({"train": split.train.objects} if split else {})
    for name, index in rows.items():
        usual = common[index]
        shares = []
        for y, class_name in enumerate(catalog.class_names):
            of_class = usual[catalog.object_class[index] == y]
            share = f"{of_class.mean():.3f} ({of_class.sum()} of {len(of_class)})" if len(of_class) else "none"
            shares.append(f"{class_name} {share}")
        lines.append(f"  {name:6}  " + ", ".join(shares))
    if np.mean(common) < low:
        counts = np.bincount(strata(catalog), minlength=groups.count).reshape(groups.classes, -1)
        most = ",".join(catalog.scene_names[scene] for scene in counts.argmax(1))
        lines.append(f"  below {low:.3g}: the usual scenes may be others; try --usual {most}")
    return lines


def _levels(catalog: Catalog, split: Split) -> list[str]:
    low = round(catalog.groups.independence, 6)
    rhos = [low, *(rho for rho in RHOS if rho > low)]
    sizes = [largest_n_train(catalog, split, rhos=[rho]) for rho in rhos]
    levels = pd.Index([f"{rho:.3g}" for rho in rhos], name="rho")
    same = f"  the same at all of them: {largest_n_train(catalog, split, rhos=rhos)}"
    return ["\nLargest n_train", _table(pd.DataFrame([sizes], ["n_train"], levels)), same]


def _table(frame: pd.DataFrame) -> str:
    return textwrap.indent(frame.to_string(), "  ")
