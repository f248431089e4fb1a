"""COCO-CD: cats and dogs of COCO 2017, indoors and outdoors."""

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from flipjax.config import ConfigError, valid_rho
from flipjax.data import preparing
from flipjax.data.coco_cd.categories import CLASSES, SCENES
from flipjax.data.coco_cd.pixels import squash
from flipjax.data.coco_cd.selection import Photo, check_layout, read_selection
from flipjax.data.coco_cd.splits import N_TEST, N_VAL, count_groups, describe, reference_split
from flipjax.data.pool import Catalog
from flipjax.data.preparing import PreparingError, Task
from flipjax.data.split import PARTS

NAME = "coco_cd"
VERSION = 1
"""Raise it when other pixels are made of the same files."""
FEWEST = 3
"""Photos that a group must have: one for each part."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `prepare` reads to the command line."""
    parser.add_argument(
        "--coco_root", type=Path, required=True, metavar="DIR", help="has train2017/, val2017/ and annotations/"
    )
    parser.add_argument(
        "--stuff_dir",
        type=Path,
        metavar="DIR",
        help="has stuff_train2017.json and stuff_val2017.json (default: annotations/)",
    )
    parser.add_argument(
        "--split",
        choices=("free", "reference"),
        default="free",
        help="free: a sweep draws val and test from its own seed and sizes; reference: val and test are the paper's",
    )
    parser.add_argument(
        "--rho",
        type=float,
        help="with --split reference: keep only the paper's training set of this level (default: all that is left)",
    )
    parser.add_argument("--val_per_group", type=int, default=N_VAL, help=f"with --split reference (default {N_VAL})")
    parser.add_argument("--test_per_group", type=int, default=N_TEST, help=f"with --split reference (default {N_TEST})")


def prepare(options: argparse.Namespace) -> int:
    """Makes the pool; the same command again takes over what an interrupted one has made.

    Args:
        options: `size` and `out` beside those of `add_arguments`.

    Returns:
        0, the exit code.

    Raises:
        ConfigError: an option is out of range, or a package is missing.
        PreparingError: files are missing, damaged or of another size, or a group has too few images.
        OSError: the disk is too small or cannot be written to.
    """
    if options.rho is not None and (options.split != "reference" or not valid_rho(options.rho)):
        raise ConfigError(
            "--rho", problem=f"expected a number in [0.5, 1], with --split reference; found {options.rho}"
        )
    for name in ("val_per_group", "test_per_group"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name}", problem=f"expected a number >= 1; found {getattr(options, name)}")
    coco_root = options.coco_root.expanduser()
    stuff_dir = options.stuff_dir and options.stuff_dir.expanduser()
    try:
        check_layout(coco_root, stuff_dir)
        selection = read_selection(coco_root, stuff_dir, say=_say)
    except ImportError as error:
        raise ConfigError("flipjax[coco]", problem=str(error)) from error
    counts = count_groups([photo.group for photo in selection.photos])
    left_out = ", ".join(f"{why} {count}" for why, count in sorted(selection.left_out.items()))
    _say(f"{len(selection.photos)} photos: {describe(counts)}; left out: {left_out or 'none'}")
    photos, parts = _split(selection.photos, counts, options)
    level = "" if options.rho is None else f" at rho {options.rho:g}"
    work = partial(squash, coco_root=coco_root, size=options.size)
    preparing.make_pool(
        options.out,
        Task(photos, work, "photos"),
        Task((), work, "scenes"),
        files=partial(_files, coco_root),
        key=f"{VERSION} {options.size}",
        size=options.size,
        make_catalog=partial(make_catalog, photos, parts),
        facts={"name": NAME, "holds": f"photos of {coco_root}, {options.split} split{level}"},
    )
    return 0


def make_catalog(photos: Sequence[Photo], parts: Sequence[int], keep: np.ndarray) -> Catalog:
    """Returns the catalog of a photo pool.

    Args:
        photos: of the selection.
        parts: that are fixed: -1 free, 0 train, 1 val, 2 test.
        keep: bool (photos,), leaves photos out.
    """
    photos, parts = list(itertools.compress(photos, keep)), list(itertools.compress(parts, keep))
    return Catalog(
        kind="photo",
        class_names=CLASSES,
        scene_names=SCENES,
        object_class=np.array([photo.y for photo in photos], np.int32),
        object_scene=np.array([photo.scene for photo in photos], np.int32),
        scene_kind=np.zeros(0, np.int32),
        object_names=tuple(photo.file_name for photo in photos),
        scene_photo_names=(),
        object_split=np.array(parts, np.int32),
        scene_split=np.zeros(0, np.int32),
    )


def _split(
    photos: Sequence[Photo], counts: Mapping[str, int], options: argparse.Namespace
) -> tuple[list[Photo], list[int]]:
    """Returns the photos of the pool and the part that each is fixed to."""
    reference = options.split == "reference"
    fewest = options.val_per_group + options.test_per_group if reference else FEWEST
    short = [f"{name}: {count}" for name, count in counts.items() if count < fewest]
    if short:
        raise PreparingError(short, heading=f"of 4 groups have fewer than {fewest} photos")
    if not reference:
        return list(photos), [-1] * len(photos)
    drawn = reference_split(
        [photo.image_id for photo in photos],
        [photo.group for photo in photos],
        rho=options.rho,
        n_val=options.val_per_group,
        n_test=options.test_per_group,
    )
    part_of = {i: PARTS.index(part) for part, ids in drawn.items() for i in ids}
    kept = [photo for photo in photos if photo.image_id in part_of]
    return kept, [part_of[photo.image_id] for photo in kept]


def _files(coco_root: Path, photo: Photo) -> list[Path]:
    return [coco_root / photo.file_name]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
