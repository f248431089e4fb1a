"""Which birds and scenes a data set holds, with their files, classes and parts. Opens no image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flipjax.data.pool import PoolItem
from flipjax.data.split import shuffle
from flipjax.data.waterbirds_seg.archives import bird_files, read_birds, read_scenes, scene_file
from flipjax.data.waterbirds_seg.manifest import Row

SPLITS = ("train", "validation", "test")

Splits = dict[str, list[PoolItem]]


def cut_outs_of(cub_dir: Path, places_dir: Path, *, scenes: int, fix_labels: bool) -> Splits:
    """Returns all birds of CUB, its test birds fixed to test, and free scenes.

    Args:
        cub_dir: CUB_200_2011.
        places_dir: Places365.
        scenes: of each kind, drawn by seed 0; 0: all.
        fix_labels: as in `flipjax.data.waterbirds_seg.archives.class_of`.

    Raises:
        ConfigError: lists are malformed, or there is no scene of one kind.
    """
    birds = [
        PoolItem(bird.name, bird_files(cub_dir, bird.name), bird.y, part=bird.part)
        for bird in read_birds(cub_dir, fix_labels=fix_labels)
    ]
    listed = read_scenes(places_dir)
    views = []
    for kind in (0, 1):
        names = np.array([name for name, k in listed if k == kind])
        chosen = shuffle(names, 0, f"waterbirds scenes {kind}")[: scenes or None]
        views += [PoolItem(name, (scene_file(places_dir, name),), scene=kind) for name in sorted(chosen.tolist())]
    return {"birds": birds, "scenes": views}


def parts_of(rows: Sequence[Row], cub_dir: Path, places_dir: Path) -> Splits:
    """Returns the birds and scenes of manifests, each in the part of its first row."""
    birds: dict[str, PoolItem] = {}
    views: dict[str, PoolItem] = {}
    for row in rows:
        bird = PoolItem(row.img_filename, bird_files(cub_dir, row.img_filename), row.y, part=row.split)
        birds.setdefault(bird.name, bird)
        files = (scene_file(places_dir, row.place_filename),)
        view = PoolItem(row.place_filename, files, scene=row.place, part=row.split)
        views.setdefault(view.name, view)
    return {"birds": list(birds.values()), "scenes": list(views.values())}


def composites_of(rows: Sequence[Row], cub_dir: Path, places_dir: Path) -> Splits:
    """Returns the composites of a manifest: birds in scenes, in its parts; all are free if a part lacks a group."""
    whole = {(row.split, row.group_id) for row in rows} == {(part, group) for part in range(3) for group in range(4)}
    splits: Splits = {split: [] for split in SPLITS}
    for row in rows:
        files = (*bird_files(cub_dir, row.img_filename), scene_file(places_dir, row.place_filename))
        item = PoolItem(row.img_filename, files, row.y, row.place, row.split if whole else -1)
        splits[SPLITS[row.split]].append(item)
    return splits
