"""Lists the birds of CUB-200-2011, by species, and the scenes of Places365, without opening an image."""

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from flipjax.config import ConfigError
from flipjax.data.images import read_file
from flipjax.data.split import PARTS

CLASS_NAMES = ("landbird", "waterbird")
SCENE_NAMES = ("land", "water")
SCENES = 2662
"""Default number of scene photos of each kind, the number in the released manifests."""
CATEGORIES = (("bamboo_forest", "forest/broadleaf"), ("ocean", "lake/natural"))
"""The categories of Places365 that show land and water."""
# fmt: off
WATER_WORDS = frozenset((
    "albatross", "auklet", "cormorant", "frigatebird", "fulmar", "gadwall", "grebe", "guillemot", "gull", "jaeger",
    "kittiwake", "loon", "mallard", "merganser", "pelican", "puffin", "tern",
))
# fmt: on
"""Words of the names of CUB's waterbirds."""


class Bird(NamedTuple):
    """A photo of CUB: its id and name ('species/file.jpg'), class, and part as an index of PARTS (-1: free)."""

    number: int
    name: str
    y: int
    part: int


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
    species = name.split("/")[0].lower()
    if fix_labels:
        return int(not WATER_WORDS.isdisjoint(re.split(r"[._]", species)))
    return int(any(word in species for word in WATER_WORDS))


def read_birds(cub_dir: Path, *, fix_labels: bool = False) -> list[Bird]:
    """Lists the birds that CUB's own images.txt and train_test_split.txt name, in their order.

    Args:
        cub_dir: CUB_200_2011, with the two lists.
        fix_labels: as in `class_of`.

    Returns:
        The birds; CUB's test birds are fixed to test, the others are free.

    Raises:
        ConfigError: a list is missing or malformed.
    """
    names = _read_list(cub_dir / "images.txt")
    training = _read_list(cub_dir / "train_test_split.txt")
    if names.keys() != training.keys() or not set(training.values()) <= {"0", "1"}:
        raise ConfigError(
            "cub_dir",
            problem=f"expected a line 'id 0' or 'id 1' in train_test_split.txt for each id of images.txt; found "
            f"{len(training)} lines for {len(names)} images in {cub_dir}",
        )
    if len(set(names.values())) < len(names):
        twice = next(name for name, count in Counter(names.values()).items() if count > 1)
        raise ConfigError("cub_dir", f"every name once in {cub_dir}/images.txt", f"{twice!r} twice")
    test = PARTS.index("test")
    return [
        Bird(number, name, class_of(name, fix_labels=fix_labels), test if training[number] == "0" else -1)
        for number, name in names.items()
    ]


def bird_files(cub_dir: Path, name: str) -> tuple[Path, Path]:
    """Returns the paths of a bird's photo and of its segmentation."""
    return cub_dir / "images" / name, (cub_dir / "segmentations" / name).with_suffix(".png")


def read_scenes(places_dir: Path) -> list[tuple[str, int]]:
    """Lists the scenes of the four categories: names as a manifest writes them, and kinds, sorted by kind and name.

    Args:
        places_dir: Places365 as manifests name it ('b/bamboo_forest/NAME.jpg'), in its 'standard' layout
            ('train/forest-broadleaf/NAME.jpg', 'val/...'), or a mixture.

    Raises:
        ConfigError: there is no scene of one kind.
    """
    scenes = []
    for kind, categories in enumerate(CATEGORIES):
        names = {
            f"/{category[0]}/{category}/{path.name}"
            for category in categories
            for folder in _folders(places_dir, category)
            if folder.is_dir()
            for path in folder.iterdir()
            if path.suffix.lower() in (".jpg", ".jpeg", ".png") and not path.name.startswith(".")
        }
        if not names:
            folders = ", ".join(f"{folder}/" for category in categories for folder in _folders(Path(), category))
            raise ConfigError("places_dir", f"scenes of {SCENE_NAMES[kind]} in any of {folders} of {places_dir}")
        scenes += [(name, kind) for name in sorted(names)]
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
    return next((each for each in paths if each.is_file()), paths[0])


def _folders(places_dir: Path, category: str) -> list[Path]:
    flat = category.replace("/", "-")
    return [places_dir / category[:1] / category, places_dir / "train" / flat, places_dir / "val" / flat]


def _read_list(path: Path) -> dict[int, str]:
    try:
        entries = [line.split() for line in read_file(path).decode().splitlines() if line.strip()]
        table = {int(number): value for number, value in entries}
    except ValueError as error:
        raise ConfigError("cub_dir", problem=f"expected CUB's {path.name}, lines 'id value'; {error}") from error
    if not table or len(table) < len(entries):
        raise ConfigError("cub_dir", problem=f"expected lines of distinct ids in {path}; found {len(entries)} lines")
    return table
