"""COCO-CD: cats and dogs of COCO 2017, indoors and outdoors, with masks of the animals.

Images with one class, a known scene and a moderate foreground are selected, and the reference's split is drawn. Sweeps
use `flipjax.data.correlation`, whose sizes do not change with rho.
"""

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from flipjax.config import ConfigError
from flipjax.data.decoding import images
from flipjax.data.decoding.images import BadFileError
from flipjax.data.prepare.builders import ArchiveBuilder, Example, check_files
from flipjax.data.prepare.coco_cd.annotations import Photo, label_mask, read_instances, read_stuff, scene_of
from flipjax.data.prepare.coco_cd.reference import CLASSES, N_TEST, N_VAL, SCENES
from flipjax.data.prepare.downloads import Archive
from flipjax.support.terminal import say

COCO = "http://images.cocodataset.org"
"""Address of COCO's files."""
ANNOTATIONS = r"/(instances|stuff)_(train|val)2017\.json$"
"""What is unpacked of the archives of annotations."""
ARCHIVES = (
    Archive(f"{COCO}/zips/train2017.zip", md5="cced6f7f71b7629ddf16f17bbcfab6b2"),
    Archive(f"{COCO}/zips/val2017.zip", md5="442b8da7639aecaf257c1dceb8ba8c80"),
    Archive(f"{COCO}/annotations/annotations_trainval2017.zip", ANNOTATIONS, md5="f4bbac642086de4f52a3fdda2de5fa2c"),
    Archive(f"{COCO}/annotations/stuff_annotations_trainval2017.zip", ANNOTATIONS),
)
"""Archives of `--download`: 21 GB, and as much again unpacked."""

YEARS = ("train2017", "val2017")
"""COCO's two parts, which are pooled; folders of photos and ends of file names."""
FILTER_SIZE = 512
"""Pixels a side at which the foreground is measured."""
FOREGROUND = (0.01, 0.99)
"""Smallest and largest fraction of foreground, measured in a mask resized to FILTER_SIZE (nearest pixel)."""
SEED = 13
"""Seed of the reference's draw."""
CAPS = {0.95: 834}
"""Most training images of each class by rho: the released training set has fewer than the reference's rule gives."""


@dataclasses.dataclass(eq=False, kw_only=True)
class CocoCDConfig(tfds.core.BuilderConfig):
    """A split of COCO-CD.

    Attributes:
        divided: whether to draw validation and test by the reference's rule; otherwise `train` is the only split.
        rho: level of the training set; None: all photos outside validation and test.
        n_val: validation photos of each group.
        n_test: test photos of each group.
        size: pixels a side; 0: as large as each photo.
        classes: names of categories, y = 0 first.
        scenes: indoor, outdoor, or names of categories or supercategories of stuff.
    """

    divided: bool = True
    rho: float | None = None
    n_val: int = N_VAL
    n_test: int = N_TEST
    size: int = 0
    classes: tuple[str, ...] = CLASSES
    scenes: tuple[str, ...] = SCENES


def read_selection(
    coco_root: Path, stuff_dir: Path | None = None, *, classes: Sequence[str] = CLASSES, scenes: Sequence[str] = SCENES
) -> tuple[list[Photo], Counter[str]]:
    """Selects images from the four annotation files, and prints a line on stderr for each file.

    Args:
        coco_root: holds `annotations/` with `instances_*.json` and `stuff_*.json` of train2017 and val2017.
        stuff_dir: holds `stuff_*.json` in place of `annotations/`.
        classes: names of categories.
        scenes: indoor, outdoor, or names of categories or supercategories of stuff.

    Returns:
        The images in the order of their ids, and the number left out for each reason.

    Raises:
        BadFileError: an annotation file is truncated, damaged or another one.
        OSError: a file is missing or cannot be read.
    """
    animals: list[Photo] = []
    # Areas of the stuff of each scene, by image id.
    stuff: dict[int, list[float]] = {}
    instances_dir = (coco_root / "annotations").resolve()
    stuff_dir = (stuff_dir or instances_dir).resolve()
    for year in YEARS:
        for path in (instances_dir / f"instances_{year}.json", stuff_dir / f"stuff_{year}.json"):
            say(f"reading {path} ({path.stat().st_size / 1e6:,.0f} MB)")
    for year in YEARS:
        path = instances_dir / f"instances_{year}.json"
        photos = read_instances(path, coco_root / year, classes=classes, scenes=scenes)
        in_both_years = {photo.image_id for photo in animals} & {photo.image_id for photo in photos}
        if in_both_years:
            raise BadFileError(f"{path}: image {min(in_both_years)} is in {YEARS[0]}, too")
        animals += photos
        stuff.update(read_stuff(stuff_dir / f"stuff_{year}.json", scenes=scenes))
    return select(sorted(animals, key=lambda photo: photo.image_id), stuff)


def select(animals: Sequence[Photo], stuff: Mapping[int, Sequence[float]]) -> tuple[list[Photo], Counter[str]]:
    """Assigns class and scene to images; skips those without either, or with too little or too much foreground.

    Args:
        animals: images with animals.
        stuff: areas of the stuff of each scene by image id, pixels; they are added to those of the things.
    """
    photos: list[Photo] = []
    left_out: Counter[str] = Counter()
    for photo in animals:
        labels = {segment.label for segment in photo.segments}
        areas = np.add(photo.areas, stuff.get(photo.image_id, 0)).tolist()
        scene = scene_of(areas, photo.width * photo.height)
        if len(labels) > 1:
            left_out["several classes"] += 1
        elif scene is None:
            left_out["unknown scene"] += 1
        elif not FOREGROUND[0] < foreground_share(photo) < FOREGROUND[1]:
            left_out["foreground not within 1% and 99%"] += 1
        else:
            photos.append(dataclasses.replace(photo, y=labels.pop() - 1, scene=scene))
    return photos, left_out


def foreground_share(photo: Photo) -> float:
    """Returns the fraction of foreground pixels in the mask resized to FILTER_SIZE."""
    mask = Image.fromarray(label_mask(photo.segments, photo.width, photo.height))
    small = mask.resize((FILTER_SIZE, FILTER_SIZE), Image.Resampling.NEAREST)
    return float(np.mean(np.asarray(small) > 0))


def reference_split(
    ids: Sequence[int], groups: Sequence[int], *, rho: float | None = None, n_val: int = N_VAL, n_test: int = N_TEST
) -> dict[str, list[int]]:
    """Draws val, test and the training set of one rho as the reference does.

    `random.Random(13)` samples n_val + n_test of the sorted ids of groups 0, 1, 2 and 3; the first n_val are val. From
    the remaining images each class gets n = min over classes of int(min(usual / rho, rare / (1 - rho))): int(n * rho)
    in its usual scene and the rest in the other, class by class, the usual scene first. So val and test are the same at
    every rho, but the size of train changes.

    Args:
        ids: image ids, unique, in any order.
        groups: group of each, y, then scene.
        rho: fraction of a class's training images in its usual scene, in [0.5, 1]; None: all remaining images.
        n_val: validation images of each group.
        n_test: test images of each group.

    Returns:
        Ids of the splits 'train', 'validation' and 'test', in drawn order.

    Raises:
        ConfigError: a group is too small; the message states all group sizes.

    Example:
        >>> parts = reference_split(range(40), [i % 4 for i in range(40)], rho=0.75, n_val=2, n_test=3)
        >>> {part: [sum(i % 4 == g for i in drawn) for g in range(4)] for part, drawn in parts.items()}
        {'train': [4, 2, 2, 4], 'validation': [2, 2, 2, 2], 'test': [3, 3, 3, 3]}
    """
    ids_of_group: list[list[int]] = [[], [], [], []]
    for image_id, group in sorted(zip(ids, groups, strict=True)):
        ids_of_group[group].append(image_id)
    if min(map(len, ids_of_group)) < n_val + n_test:
        need = f"the reference's split needs {n_val} + {n_test} images of each group for val and test"
        raise ConfigError("coco_cd", problem=f"{need}; there are {describe_groups(groups)}")
    draw = random.Random(SEED)
    train: list[int] = []
    validation: list[int] = []
    test: list[int] = []
    rest = []
    for ids_in_group in ids_of_group:
        sample = draw.sample(ids_in_group, n_val + n_test)
        validation += sample[:n_val]
        test += sample[n_val:]
        rest.append(sorted(set(ids_in_group) - set(sample)))
    if rho is None:
        train += itertools.chain.from_iterable(rest)
    else:
        cat_indoor, cat_outdoor, dog_indoor, dog_outdoor = rest
        sides = ((cat_indoor, cat_outdoor), (dog_outdoor, dog_indoor))
        n = min(_class_size(len(usual), len(rare), rho) for usual, rare in sides)
        n = min(n, CAPS.get(rho, n))
        in_usual = int(n * rho)
        for usual, rare in sides:
            train += draw.sample(usual, in_usual)
            train += draw.sample(rare, n - in_usual)
    return {"train": train, "validation": validation, "test": test}


def _class_size(usual: int, rare: int, rho: float) -> int:
    """Returns the largest number of a class's images of which a fraction rho is in its usual scene."""
    if rho == 1:
        return usual
    return int(min(usual / rho, rare / (1 - rho)))


def describe_groups(groups: Sequence[int], classes: Sequence[str] = CLASSES, scenes: Sequence[str] = SCENES) -> str:
    """Returns the number of images in each group as text.

    Example:
        >>> describe_groups([0, 0, 3])
        'cat indoor 2, cat outdoor 0, dog indoor 0, dog outdoor 1'
    """
    names = [f"{name} {scene}" for name in classes for scene in scenes]
    return ", ".join(f"{name} {list(groups).count(group)}" for group, name in enumerate(names))


class Builder(ArchiveBuilder):
    """COCO-CD (Achara et al., 2026): cats and dogs of COCO 2017, indoors or outdoors, with masks of the animals."""

    BUILDER_CONFIGS = [  # noqa: RUF012 - TFDS's way.
        CocoCDConfig(name="photos", description="The reference's validation and test; every other photo trains."),
        CocoCDConfig(name="corr0.5", rho=0.5, description="The reference's training set at rho 0.5."),
        CocoCDConfig(name="corr0.95", rho=0.95, description="The reference's training set at rho 0.95."),
        CocoCDConfig(name="undivided", divided=False, description="Every photo, in one split."),
    ]
    builder_config: CocoCDConfig  # pyright: ignore[reportIncompatibleMethodOverride]

    def _info(self) -> tfds.core.DatasetInfo:
        """Returns the features."""
        key = tfds.features.Scalar(np.int64, doc="of the image in COCO")
        config = self.builder_config
        return self.info_of(config.classes, config.scenes, "https://cocodataset.org", id=key)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        """Returns the splits."""
        config = self.builder_config
        # Messages name the original folders instead of links to them.
        root = Path(epath.Path(dl_manager.manual_dir)).resolve()
        names = {"classes": config.classes, "scenes": config.scenes}
        stuff_dir = root / "stuff_annotations"
        if not stuff_dir.is_dir():
            stuff_dir = None
        selected, reasons = read_selection(root, stuff_dir, **names)
        photos = {photo.image_id: photo for photo in selected}
        groups = [photo.y * len(config.scenes) + photo.scene for photo in selected]
        left_out = ", ".join(f"{why} {count}" for why, count in sorted(reasons.items())) or "none"
        say(f"{len(photos)} photos: {describe_groups(groups, **names)}; left out: {left_out}")
        parts = {"train": list(photos)}
        if config.divided:
            parts = reference_split(list(photos), groups, rho=config.rho, n_val=config.n_val, n_test=config.n_test)
        items = {split: [photos[i] for i in ids] for split, ids in parts.items()}
        check_files([*itertools.chain.from_iterable(items.values())])
        return {split: self._generate_examples(of_split, f"{split} photos") for split, of_split in items.items()}

    def encode(self, item: Photo) -> Example:
        """Returns id and file of a photo (a PNG if it is resized or has other than three channels), mask and aspect.

        EXIF orientation is ignored, since COCO's annotations refer to the stored pixels.
        """
        (path,) = item.files
        size = self.builder_config.size
        data = images.read_file(path)
        stored = images.decode(data, name=str(path))
        if stored.size != (item.width, item.height):
            sizes = f"{stored.width} x {stored.height} pixels, its annotation {item.width} x {item.height}"
            raise BadFileError(f"{path}: the photo has {sizes}")
        mask = label_mask(item.segments, item.width, item.height)
        if size:
            mask = images.squash_labels(mask, size, str(path))
        if size or stored.mode != "RGB":
            data = images.encode_png(images.squash(images.rgb(stored, str(path)), size))
        return {
            "id": item.image_id,
            "image": data,
            "mask": images.encode_png(Image.fromarray(mask)),
            "aspect": stored.width / stored.height,
        }
