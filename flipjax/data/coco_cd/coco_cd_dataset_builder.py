"""COCO-CD: cats and dogs of COCO 2017, indoors and outdoors, with masks of the animals."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image

from flipjax.data import build, builders, images
from flipjax.data.coco_cd.annotations import label_mask
from flipjax.data.coco_cd.categories import CLASSES, N_TEST, N_VAL, SCENES
from flipjax.data.coco_cd.selection import Photo, describe_groups, read_selection, reference_split
from flipjax.data.images import BadFileError

SPLITS = {"train": "train", "val": "validation", "test": "test"}


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


class Builder(builders.ArchiveBuilder):
    """COCO-CD."""

    BUILDER_CONFIGS = [  # noqa: RUF012 - TFDS's way.
        CocoCDConfig(name="photos", description="The reference's validation and test; every other photo trains."),
        CocoCDConfig(name="corr0.5", rho=0.5, description="The reference's training set at rho 0.5."),
        CocoCDConfig(name="corr0.95", rho=0.95, description="The reference's training set at rho 0.95."),
        CocoCDConfig(name="undivided", divided=False, description="Every photo, in one split."),
    ]
    builder_config: CocoCDConfig

    def _info(self) -> tfds.core.DatasetInfo:
        """Returns the features."""
        size = self.builder_config.size or None
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3)),
                    "mask": tfds.features.Image(shape=(size, size, 1), encoding_format="png", use_colormap=True),
                    "class": tfds.features.ClassLabel(names=self.builder_config.classes),
                    "scene": tfds.features.ClassLabel(names=self.builder_config.scenes),
                    "group": tfds.features.Scalar(np.int32, doc="class * scenes + scene"),
                    "id": tfds.features.Scalar(np.int64, doc="of the image in COCO"),
                    "aspect": tfds.features.Scalar(np.float32, doc="width by height of the photo before resizing"),
                }
            ),
            homepage="https://cocodataset.org",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        """Returns the splits."""
        # Messages name the original folders instead of links to them.
        root = Path(epath.Path(dl_manager.manual_dir)).resolve()
        stuff_dir = root / "stuff_annotations" if (root / "stuff_annotations").is_dir() else None
        names = {"classes": self.builder_config.classes, "scenes": self.builder_config.scenes}
        selection = read_selection(root, stuff_dir, **names)
        photos = {photo.animals.image_id: photo for photo in selection.photos}
        groups = [self._group(photo) for photo in selection.photos]
        left_out = ", ".join(f"{why} {count}" for why, count in sorted(selection.left_out.items())) or "none"
        build.say_line(f"{len(photos)} photos: {describe_groups(groups, **names)}; left out: {left_out}")
        splits = {split: [photos[i] for i in ids] for split, ids in self._divide(list(photos), groups).items()}
        builders.check_files([photo for part in splits.values() for photo in part])
        return {split: self._generate_examples(part, split) for split, part in splits.items()}

    def _group(self, photo: Photo) -> int:
        return photo.y * len(self.builder_config.scenes) + photo.scene

    def _divide(self, ids: list[int], groups: list[int]) -> dict[str, list[int]]:
        config = self.builder_config
        if not config.divided:
            return {"train": ids}
        parts = reference_split(ids, groups, rho=config.rho, n_val=config.n_val, n_test=config.n_test)
        return {SPLITS[part]: drawn for part, drawn in parts.items()}

    def _generate_examples(self, photos: Sequence[Photo], split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the examples of a split in the order of the photos."""
        encode = partial(_encode, size=self.builder_config.size)
        for photo, (image, mask) in builders.encoded(photos, encode, what=f"{split} photos", show=self.show_progress):
            key = photo.animals.image_id
            labels = {"class": photo.y, "scene": photo.scene, "group": self._group(photo), "id": key}
            aspect = photo.animals.width / photo.animals.height
            yield key, {"image": image, "mask": mask, "aspect": aspect} | labels


def _encode(photo: Photo, *, size: int) -> tuple[bytes, bytes]:
    """Returns the photo's file (a PNG if it is resized or has other than three channels) and its mask as PNG.

    EXIF orientation is ignored, since COCO's annotations refer to the stored pixels.
    """
    (path,) = photo.files
    animals = photo.animals
    data = images.read_file(path)
    stored = images.decode(data, name=str(path))
    if stored.size != (animals.width, animals.height):
        annotated = f"{animals.width} x {animals.height}"
        raise BadFileError(f"{path}: the photo has {stored.width} x {stored.height} pixels, its annotation {annotated}")
    labels = label_mask(animals.segments, animals.width, animals.height)
    if size:
        labels = images.squash_labels(labels, size, str(path))
    if size or stored.mode != "RGB":
        images.check_bits(stored, str(path))
        data = images.encode_png(images.squash(stored.convert("RGB"), size))
    return data, images.encode_png(Image.fromarray(labels))
