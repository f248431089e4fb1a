"""Lists the birds of CUB-200-2011 and the scenes of Places365, and pairs them in manifests.

A manifest is a CSV with the columns of the released ones. No image is opened.
"""

import io
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from flipjax.config import ConfigError
from flipjax.data.decoding.images import BadFileError, read_file, read_rows
from flipjax.data.part_names import FREE, PARTS
from flipjax.data.pool import PoolItem
from flipjax.data.split import shuffle

Item = TypeVar("Item")
NumberedBird = tuple[int, PoolItem]
"""CUB's id of a bird, and the bird."""

CLASS_NAMES = ("landbird", "waterbird")
SCENE_NAMES = ("land", "water")
CATEGORIES = (("bamboo_forest", "forest/broadleaf"), ("ocean", "lake/natural"))
"""The categories of Places365 that show land and water."""
WATER_WORDS = (
    "albatross|auklet|cormorant|frigatebird|fulmar|gadwall|grebe|guillemot|gull|jaeger|kittiwake|loon|mallard"
    "|merganser|pelican|puffin|tern"
)
"""Words of the names of CUB's waterbirds, a regular expression."""
LISTS = ("images.txt", "train_test_split.txt")
"""CUB's names and parts of its birds."""
NUMBERS = {"img_id": r"\d+", "y": "[01]", "split": "[0-2]", "place": "[01]", "group_id": "[0-3]"}
"""Fields of a row that are whole numbers; the others are paths."""
VAL_SHARE = Fraction(149, 1379)
"""Of the waterbirds of CUB's training set, those that the released manifests keep for validation."""


def class_of(name: str, *, fix_labels: bool = False) -> int:
    """Returns 1 for a waterbird, 0 for a landbird, by the name of its species.

    The classic Waterbirds lists match words such as 'tern' anywhere in a name, and so label the landbirds Eastern
    Towhee, Western Meadowlark and Western Wood Pewee as waterbirds.

    Args:
        name: 'NNN.Species_Name', or a path that begins with it.
        fix_labels: whether to match whole words, which makes the three landbirds.

    Example:
        >>> [class_of(name) for name in ("062.Herring_Gull", "021.Eastern_Towhee", "118.House_Sparrow")]
        [1, 1, 0]
        >>> class_of("021.Eastern_Towhee", fix_labels=True)
        0
    """
    pattern = rf"(?<![^._])({WATER_WORDS})(?![^._])" if fix_labels else WATER_WORDS
    return int(re.search(pattern, name.split("/")[0].lower()) is not None)


def read_birds(cub_dir: Path, *, fix_labels: bool = False) -> dict[int, PoolItem]:
    """Lists the birds that CUB's own images.txt and train_test_split.txt name, in their order.

    Args:
        cub_dir: CUB_200_2011, with the two lists.
        fix_labels: as in `class_of`.

    Returns:
        The birds, called 'species/file.jpg', by CUB's ids. Its test birds are fixed to test, the others are free.

    Raises:
        ConfigError: a list is missing or malformed.
    """
    try:
        names, parts = [_read_list(cub_dir / name) for name in LISTS]
        table = names.assign(part=parts["value"]).set_index(names.index.astype(int))
        ids = len({*names.index, *parts.index})
        different = names["value"].nunique()
        are_equal = ids == len(names) == len(parts) == different
        if names.empty or not are_equal or not table["part"].isin(["0", "1"]).all():
            lines = f"{len(names)} and {len(parts)} lines"
            raise ValueError(f"{ids} ids, {lines}, {different} names in {cub_dir}")
    except (ValueError, KeyError) as error:
        expected = f"ids and names of birds in CUB's {LISTS[0]}, and 'id 0' or 'id 1' of each in {LISTS[1]}"
        raise ConfigError("cub_dir", expected, error) from error
    birds = {}
    for number, name, trains in table.itertuples():
        y = class_of(name, fix_labels=fix_labels)
        part = PARTS.index("test") if trains == "0" else FREE
        birds[number] = PoolItem(name, bird_files(cub_dir, name), y, part=part)
    return birds


def _read_list(path: Path) -> pd.DataFrame:
    """Returns one of CUB's lists: a column `value` by id, both as text."""
    return pd.read_csv(io.BytesIO(read_file(path)), sep=r"\s+", names=["id", "value"], index_col="id", dtype=str)


def bird_files(cub_dir: Path, name: str) -> tuple[Path, Path]:
    """Returns the paths of a bird's photo and of its segmentation."""
    return cub_dir / "images" / name, (cub_dir / "segmentations" / name).with_suffix(".png")


def read_scenes(places_dir: Path) -> list[PoolItem]:
    """Lists the scenes of the four categories, called as a manifest calls them, sorted by kind and name.

    Args:
        places_dir: Places365 as manifests name it ('b/bamboo_forest/NAME.jpg'), in its 'standard' layout
            ('train/forest-broadleaf/NAME.jpg', 'val/...'), or a mixture.

    Raises:
        ConfigError: there is no scene of one kind.
    """
    scenes: list[PoolItem] = []
    for kind, categories in enumerate(CATEGORIES):
        folders: list[Path] = []
        files: dict[str, Path] = {}
        for category in categories:
            for folder in _folders(places_dir, category):
                folders.append(folder)
                for path in folder.glob("[!.]*"):
                    if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
                        files.setdefault(f"/{category[0]}/{category}/{path.name}", path)
        if not files:
            raise ConfigError("places_dir", f"scenes of {SCENE_NAMES[kind]} in any of {', '.join(map(str, folders))}")
        scenes += [PoolItem(name, (path,), scene=kind) for name, path in sorted(files.items())]
    return scenes


def scene_file(places_dir: Path, name: str) -> Path:
    """Returns the path of a scene from its name in a manifest, in either layout; the named path if it is in none.

    Example:
        >>> scene_file(Path("absent"), "/f/forest/broadleaf/00000002.jpg").as_posix()
        'absent/f/forest/broadleaf/00000002.jpg'
    """
    path = PurePosixPath(name.lstrip("/"))
    category = "/".join(path.parts[1:-1])
    paths = [places_dir / path, *(folder / path.name for folder in _folders(places_dir, category))]
    return next((candidate for candidate in paths if candidate.is_file()), paths[0])


def _folders(places_dir: Path, category: str) -> list[Path]:
    """Returns the folders that may hold a category, in either layout."""
    flat = category.replace("/", "-")
    return [places_dir / category[:1] / category, places_dir / "train" / flat, places_dir / "val" / flat]


class ManifestRow(NamedTuple):
    """An image of a manifest; the names are those of the released ones."""

    img_id: int
    """CUB's id of the bird."""
    img_filename: str
    """Species and file of the bird."""
    y: int
    """0 landbird, 1 waterbird."""
    split: int
    """Index in PARTS."""
    place: int
    """0 land, 1 water."""
    group_id: int
    """2 * y + place."""
    place_filename: str
    """Category and file of the scene."""


def read_manifest(path: Path, *, fix_labels: bool = False) -> list[ManifestRow]:
    """Reads a manifest.

    Args:
        path: of the CSV.
        fix_labels: whether to relabel landbirds that the classic lists call waterbirds (see `class_of`).

    Returns:
        Its rows, in order.

    Raises:
        BadFileError: the file is no CSV, lacks a column or has a bad row; names the first.
    """
    rows: dict[str, ManifestRow] = {}
    for table_row in read_rows(path, ManifestRow._fields):
        try:
            row = _row(table_row.cells, fix_labels)
            if rows.setdefault(row.img_filename, row) is not row:
                raise ValueError(f"img_filename: {row.img_filename} is listed twice")
        except ValueError as error:
            raise BadFileError(f"{path} line {table_row.line}: {error}") from error
    return list(rows.values())


def images_per_class(birds: int, rho: float) -> tuple[int, int]:
    """Returns the number of images of a class in a part, and of those in its usual scene, from the number of birds.

    The reference's rule reproduces the released counts. The training size depends slightly on rho (2,458 images at rho
    0.95, 2,460 at 0.5); a sweep over the composite pool has one size at every rho.

    Example:
        >>> images_per_class(1230, 0.95), images_per_class(1230, 0.5), images_per_class(149, 0.5)
        ((1229, 1167), (1230, 615), (148, 74))
    """
    share = Fraction(str(rho))
    usual = int(birds * share)
    total = int(usual / share)
    if share < 1:
        total = min(total, int((birds - usual) / (1 - share)))
    return total, int(total * share)


def make_manifest(
    birds: Mapping[int, PoolItem], scenes: Sequence[PoolItem], *, rho: float, seed: int
) -> list[ManifestRow]:
    """Draws a manifest: `rho` of each class's training images in its usual scene, half of those of val and test.

    CUB's test birds are the test birds, and 149 / 1379 of the others are for val. Every bird and scene photo is used at
    most once. The draws of one seed are nested: the orders of birds and scene photos do not depend on rho, so a higher
    rho changes the scene of as few birds as possible, and val and test are the same.

    Args:
        birds: as in `read_birds`.
        scenes: as in `read_scenes`.
        rho: in [0.5, 1].
        seed: >= 0.

    Returns:
        Rows sorted by part and group, as in the released manifests.

    Raises:
        ConfigError: there are too few birds or scene photos; the message states their numbers.
    """
    # Both by class, or kind of scene, 0 or 1.
    birds_of_class: list[list[NumberedBird]] = []
    photos_of_kind: list[list[PoolItem]] = []
    for kind in (0, 1):
        of_class = [(number, bird) for number, bird in birds.items() if bird.y == kind]
        birds_of_class.append(_shuffled(of_class, seed, f"birds {kind}"))
        of_kind = [item for item in scenes if item.scene == kind]
        photos_of_kind.append(_shuffled(of_kind, seed, f"scenes {kind}"))
    birds_of_part = {part: [_birds_of(part, of_class) for of_class in birds_of_class] for part in PARTS}
    counts = {part: min(map(len, of_classes)) for part, of_classes in birds_of_part.items()}
    # Scene photos of each kind that a part may show.
    slots = {part: images_per_class(count, 0.5)[0] for part, count in counts.items()}
    slots["train"] = counts["train"]
    for part, of_classes in birds_of_part.items():
        _check_enough("cub_dir", CLASS_NAMES, of_classes, 2, f"birds of each class for {part}")
    expected = "scene photos of each kind, each shown once"
    _check_enough("places_dir", SCENE_NAMES, photos_of_kind, sum(slots.values()), expected)
    rows: list[ManifestRow] = []
    first_slot = 0
    for split, part in enumerate(PARTS):
        level = 0.5
        if part == "train":
            level = rho
        total, usual = images_per_class(counts[part], level)
        for y in (0, 1):
            for rank, (number, bird) in enumerate(birds_of_part[part][y][:total]):
                scene = 1 - y
                if rank < usual:
                    scene = y
                # Slot `rank` of a kind of scene belongs to one class or the other, so no scene is shown twice.
                photo = photos_of_kind[scene][first_slot + rank]
                rows.append(ManifestRow(number, bird.name, y, split, scene, 2 * y + scene, photo.name))
        first_slot += slots[part]
    return sorted(rows, key=lambda row: (row.split, row.group_id))


def _shuffled(items: Sequence[Item], seed: int, name: str) -> list[Item]:
    return [items[i] for i in shuffle(np.arange(len(items)), seed, f"manifest {name}")]


def _birds_of(part: str, birds: Sequence[NumberedBird]) -> list[NumberedBird]:
    """Returns the birds of a part, from all of a class in the order of a seed."""
    test = []
    free = []
    for number, bird in birds:
        if bird.part == PARTS.index("test"):
            test.append((number, bird))
        else:
            free.append((number, bird))
    n_val = max(2, round(len(free) * VAL_SHARE))
    return {"train": free[n_val:], "val": free[:n_val], "test": test}[part]


def _check_enough(
    field: str, names: Sequence[str], items: Sequence[Sequence[object]], least: int, expected: str
) -> None:
    """Raises ConfigError if there are fewer items than `least` of one of the names."""
    if min(map(len, items)) < least:
        counts = ", ".join(f"{name} {len(of_name)}" for name, of_name in zip(names, items, strict=True))
        raise ConfigError(field, f"at least {least} {expected}", counts)


def _row(fields: Mapping[str, str], fix_labels: bool) -> ManifestRow:
    """Returns a row of a manifest; raises ValueError for a field that is none."""
    values = {name: fields[name].strip() for name in ManifestRow._fields}
    for name, value in values.items():
        pattern = NUMBERS.get(name, ".+")
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{name}: expected {pattern}, found {value!r}")
    row = ManifestRow(
        img_id=int(values["img_id"]),
        img_filename=values["img_filename"],
        y=int(values["y"]),
        split=int(values["split"]),
        place=int(values["place"]),
        group_id=int(values["group_id"]),
        place_filename=values["place_filename"],
    )
    if row.group_id != 2 * row.y + row.place:
        raise ValueError(f"group_id: expected 2 * y + place = {2 * row.y + row.place}, found {row.group_id}")
    if fix_labels and class_of(row.img_filename) > class_of(row.img_filename, fix_labels=True):
        return row._replace(y=0, group_id=row.place)
    return row
