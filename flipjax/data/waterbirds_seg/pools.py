"""From lists of birds and scenes to a prepared pool: composite (cut-outs, scenes), or photo (a manifest's images)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from flipjax.config import ConfigError
from flipjax.data import preparing
from flipjax.data.pool import Catalog
from flipjax.data.preparing import Task
from flipjax.data.split import PARTS, shuffle
from flipjax.data.waterbirds_seg import pixels
from flipjax.data.waterbirds_seg.archives import CLASS_NAMES, SCENE_NAMES, Bird, bird_files, scene_file
from flipjax.data.waterbirds_seg.manifest import Row

VERSION = 1
"""Raise it when other pixels are made of the same files."""


class Thing(NamedTuple):
    """A bird, a scene photo, or a bird in a scene: names, class and scene (-1: none), and part (-1: free)."""

    bird: str
    scene_photo: str
    y: int
    scene: int
    part: int


class Content(NamedTuple):
    """What a pool holds: objects are birds (composite) or birds in scenes (photo), scenes are of a composite pool."""

    kind: Literal["composite", "photo"]
    objects: list[Thing]
    scenes: list[Thing]


class Job(NamedTuple):
    """A thing and the files of its pixels, as text."""

    thing: Thing
    bird: tuple[str, ...]
    scene: tuple[str, ...]


def of_archives(birds: Sequence[Bird], photos: Sequence[tuple[str, int]], *, scenes: int) -> Content:
    """Returns a composite pool's content: all birds of CUB, its test birds fixed to test, and free scenes.

    Args:
        birds: of CUB.
        photos: scene photos and their kinds.
        scenes: of each kind, drawn by seed 0; 0: all.
    """
    drawn = []
    for kind in (0, 1):
        names = np.array([name for name, k in photos if k == kind])
        chosen = shuffle(names, 0, f"waterbirds scenes {kind}")
        drawn += [Thing("", name, -1, kind, -1) for name in sorted(chosen[: scenes or None].tolist())]
    return _checked(Content("composite", [Thing(bird.name, "", bird.y, -1, bird.part) for bird in birds], drawn))


def of_parts(rows: Sequence[Row]) -> Content:
    """Returns a composite pool's content: the birds and scenes of manifests, each in the part of its first row."""
    birds, scenes = {}, {}
    for row in rows:
        birds.setdefault(row.img_filename, Thing(row.img_filename, "", row.y, -1, row.split))
        scenes.setdefault(row.place_filename, Thing("", row.place_filename, -1, row.place, row.split))
    return _checked(Content("composite", list(birds.values()), list(scenes.values())))


def of_manifest(rows: Sequence[Row]) -> Content:
    """Returns a photo pool's content: the composites of a manifest, in its parts if each has all four groups.

    A line says so where a part lacks a group, and all images are free.
    """
    whole = {(row.split, row.group_id) for row in rows} == {(part, group) for part in range(3) for group in range(4)}
    if not whole:
        print("the manifest's parts do not each have all four groups: any image may train, validate or test")
    objects = [thing_of(row) if whole else thing_of(row)._replace(part=-1) for row in rows]
    return _checked(Content("photo", objects, []))


def thing_of(row: Row) -> Thing:
    """Returns the composite that a row of a manifest names, in its part."""
    return Thing(row.img_filename, row.place_filename, row.y, row.place, row.split)


def make(content: Content, *, cub_dir: Path, places_dir: Path, size: int, out: Path, facts: Mapping[str, Any]) -> None:
    """Makes a pool's pixels and writes it, as `flipjax.data.preparing.make_pool`, with its errors.

    Args:
        content: of the pool.
        cub_dir: CUB_200_2011.
        places_dir: Places365.
        size: pixels a side.
        out: the pool's folder.
        facts: kept with the pool, as of `write_pool`.
    """
    objects, scenes = (make_jobs(things, cub_dir, places_dir) for things in (content.objects, content.scenes))
    preparing.make_pool(
        out,
        Task(objects, partial(_object, size=size), "birds" if content.kind == "composite" else "composites"),
        Task(scenes, partial(_scene, size=size), "scenes"),
        files=files_of,
        key=f"{VERSION} {content.kind} {size}",
        size=size,
        make_catalog=partial(make_catalog, content),
        facts=facts,
    )


def _checked(content: Content) -> Content:
    """Refuses what no split could be made of, naming what there is."""
    if content.kind == "photo":
        names = [f"{name} on {scene}" for name in CLASS_NAMES for scene in SCENE_NAMES]
        _check_parts("manifest", names, [(2 * thing.y + thing.scene, thing.part) for thing in content.objects])
    else:
        _check_parts(
            "cub_dir", [f"{name}s" for name in CLASS_NAMES], [(thing.y, thing.part) for thing in content.objects]
        )
        names = [f"{name} scenes" for name in SCENE_NAMES]
        _check_parts("places_dir", names, [(thing.scene, thing.part) for thing in content.scenes])
    return content


def _check_parts(field: str, names: Sequence[str], found: Sequence[tuple[int, int]]) -> None:
    counts = Counter(found)
    for index, name in enumerate(names):
        fixed = [counts[index, part] for part in range(len(PARTS))]
        if fixed.count(0) > counts[index, -1]:
            there = ", ".join(f"{count} of {part}" for part, count in zip(PARTS, fixed, strict=True))
            raise ConfigError(
                f"{field}",
                problem=f"train, val and test each need one of the {name}; there are {counts[index, -1]} of any part, "
                f"{there}",
            )


def make_catalog(content: Content, keep: np.ndarray) -> Catalog:
    """Returns the catalog of a content; `keep`, bool (objects,), leaves objects out."""
    objects = [thing for thing, kept in zip(content.objects, keep, strict=True) if kept]
    return Catalog(
        kind=content.kind,
        class_names=CLASS_NAMES,
        scene_names=SCENE_NAMES,
        object_class=np.array([thing.y for thing in objects], np.int32),
        object_scene=np.array([thing.scene for thing in objects], np.int32),
        scene_kind=np.array([thing.scene for thing in content.scenes], np.int32),
        object_names=tuple(thing.bird for thing in objects),
        scene_photo_names=tuple(thing.scene_photo for thing in content.scenes),
        object_split=np.array([thing.part for thing in objects], np.int32),
        scene_split=np.array([thing.part for thing in content.scenes], np.int32),
    )


def make_jobs(things: Sequence[Thing], cub_dir: Path, places_dir: Path) -> list[Job]:
    """Returns the things with the files of their pixels."""
    return [
        Job(
            thing,
            tuple(map(str, bird_files(cub_dir, thing.bird))) if thing.bird else (),
            (str(scene_file(places_dir, thing.scene_photo)),) if thing.scene_photo else (),
        )
        for thing in things
    ]


def files_of(job: Job) -> list[Path]:
    """Returns the files that a job reads."""
    return list(map(Path, (*job.bird, *job.scene)))


def draw(job: Job, size: int) -> tuple[Image.Image, Image.Image]:
    """Returns image (RGB) and mask (L) of a job: cut-out and alpha, composite and labels, or scene and zeros.

    Args:
        job: of a thing.
        size: pixels a side; 0: as large as the photo.

    Raises:
        BadFileError: a file is damaged, or sizes differ.
    """
    if not job.bird:
        scene = pixels.square(pixels.read_scene(Path(*job.scene)), size)
        return scene, Image.new("L", scene.size)
    bird, alpha = pixels.read_bird(*map(Path, job.bird))
    if not job.scene:
        return pixels.cut_out(bird, alpha, size)
    # Where the composite is squashed, a grey level here and there does not show.
    image = pixels.composite(bird, alpha, pixels.read_scene(Path(*job.scene)), exact=size == 0)
    return pixels.squash(image, size), pixels.label_mask(alpha, 1 + job.thing.y, size)


def _object(job: Job, *, size: int) -> dict[str, np.ndarray]:
    image, mask = map(np.asarray, draw(job, size))
    least = 1 if job.scene else pixels.THRESHOLD + 1
    return {"image": image, "mask": mask, "kept": np.array(mask.max() >= least)}


def _scene(job: Job, *, size: int) -> dict[str, np.ndarray]:
    return {"image": np.asarray(draw(job, size)[0])}
