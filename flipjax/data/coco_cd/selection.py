"""Which images are in the data set: one class, a known scene, a foreground neither tiny nor everything."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from flipjax.data.coco_cd.annotations import Animals, Segment, label_mask, read_instances, read_stuff
from flipjax.data.coco_cd.scenes import scene_of
from flipjax.data.prepare import BadFileError

YEARS = ("train2017", "val2017")
"""COCO's two parts, which are pooled; folders of photos and ends of file names."""
FILTER_SIZE = 512
FOREGROUND = (0.01, 0.99)
"""Share of the foreground, between which it must lie, in a mask resized to FILTER_SIZE (nearest pixel)."""


class Photo(NamedTuple):
    """An image of the data set.

    Attributes:
        image_id: COCO's id.
        file_name: below COCO's root, such as 'val2017/000000000139.jpg'.
        width: of the photo, pixels.
        height: of the photo, pixels.
        y: class, 0 cat, 1 dog.
        scene: 0 indoor, 1 outdoor.
        segments: a label and the run lengths of each animal.
    """

    image_id: int
    file_name: str
    width: int
    height: int
    y: int
    scene: int
    segments: tuple[Segment, ...]

    @property
    def group(self) -> int:
        """Group 2 * y + scene; 0 and 3 are common."""
        return 2 * self.y + self.scene


class Selection(NamedTuple):
    """The images of the data set in the order of their ids, and how many were left out why."""

    photos: tuple[Photo, ...]
    left_out: Counter[str]


def read_selection(instances_dir: Path, stuff_dir: Path) -> Selection:
    """Selects from the four annotation files, one after another.

    Args:
        instances_dir: holds `instances_train2017.json` and `instances_val2017.json`.
        stuff_dir: holds `stuff_train2017.json` and `stuff_val2017.json`.

    Returns:
        The selection.

    Raises:
        BadFileError: a file is truncated, damaged or another one.
        OSError: a file is missing or cannot be read.
        ImportError: pycocotools or ijson is missing.
    """
    photos: list[Photo] = []
    left_out: Counter[str] = Counter()
    for year in YEARS:
        animals = read_instances(instances_dir / f"instances_{year}.json", folder=year)
        part = select(animals, read_stuff(stuff_dir / f"stuff_{year}.json"))
        photos += part.photos
        left_out += part.left_out
    photos.sort()
    twice = [a for a, b in zip(photos, photos[1:], strict=False) if a.image_id == b.image_id]
    if twice:
        raise BadFileError(f"{instances_dir}: image {twice[0].image_id} is in both instances files")
    return Selection(tuple(photos), left_out)


def select(animals: Sequence[Animals], stuff: Mapping[int, Sequence[float]]) -> Selection:
    """Tells class and scene of images, and leaves out those that have none or too little or too much foreground.

    Args:
        animals: images with a cat, a dog or both.
        stuff: areas of indoor and outdoor stuff by image id, pixels; they are added to those of the things.

    Returns:
        The selection.
    """
    photos: list[Photo] = []
    left_out: Counter[str] = Counter()
    for image in animals:
        classes = {label - 1 for label, _ in image.segments}
        indoor, outdoor = np.add(image.areas, stuff.get(image.image_id, (0, 0))).tolist()
        scene = scene_of(indoor, outdoor, image.width * image.height)
        if len(classes) > 1:
            left_out["both classes"] += 1
        elif scene is None:
            left_out["unknown scene"] += 1
        elif not FOREGROUND[0] < foreground_share(image) < FOREGROUND[1]:
            left_out["foreground not within 1% and 99%"] += 1
        else:
            photos.append(
                Photo(
                    image_id=image.image_id,
                    file_name=image.file_name,
                    width=image.width,
                    height=image.height,
                    y=classes.pop(),
                    scene=scene,
                    segments=image.segments,
                )
            )
    return Selection(tuple(photos), left_out)


def foreground_share(image: Animals | Photo) -> float:
    """Returns the share of the pixels that show a cat or a dog, in the mask resized to FILTER_SIZE."""
    mask = Image.fromarray(label_mask(image.segments, image.width, image.height))
    small = np.asarray(mask.resize((FILTER_SIZE, FILTER_SIZE), Image.Resampling.NEAREST))
    return float(np.mean(small > 0))
