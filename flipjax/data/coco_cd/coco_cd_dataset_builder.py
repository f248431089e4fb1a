"""COCO-CD as a data set of TensorFlow Datasets, written and read without TensorFlow."""

import dataclasses
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from flipjax.data import preparing
from flipjax.data.coco_cd.categories import CLASSES, SCENES
from flipjax.data.coco_cd.pixels import read_photo
from flipjax.data.coco_cd.selection import Photo, check_layout, read_selection
from flipjax.data.coco_cd.splits import N_TEST, N_VAL, reference_split
from flipjax.threads import in_order


@dataclasses.dataclass(eq=False)
class CocoCDConfig(tfds.core.BuilderConfig):
    """A split of COCO-CD by the reference's rule.

    Attributes:
        rho: level of the training set; None: all photos that are in neither val nor test.
        n_val: validation photos of each group.
        n_test: test photos of each group.
    """

    rho: float | None = None
    n_val: int = N_VAL
    n_test: int = N_TEST


class Builder(tfds.core.GeneratorBasedBuilder):
    """Photos with image, mask (0 background, 1 cat, 2 dog), class, scene, group (2 * class + scene) and id."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 - as TFDS declares it.
    BUILDER_CONFIGS = [  # noqa: RUF012
        CocoCDConfig(name="photos", description="The reference's val and test; every other photo trains."),
        CocoCDConfig(name="corr0.5", rho=0.5, description="The reference's training set at rho 0.5."),
        CocoCDConfig(name="corr0.95", rho=0.95, description="The reference's training set at rho 0.95."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Unpack COCO 2017 (https://cocodataset.org/#download): train2017.zip, val2017.zip, annotations_trainval2017.zip and
    stuff_annotations_trainval2017.zip, so that the folder holds train2017/, val2017/ and annotations/ with
    instances_*2017.json and stuff_*2017.json. Or pass coco_root= and stuff_dir= to tfds.builder.
    """

    def __init__(
        self,
        *,
        coco_root: str | Path | None = None,
        stuff_dir: str | Path | None = None,
        file_format: str | tfds.core.FileFormat | None = "array_record",
        **kwargs: Any,
    ):
        """Names the folders; both are needed to prepare the data set, not to read it.

        Args:
            coco_root: has train2017/, val2017/ and annotations/; the `manual_dir` of the download configuration unless
                given.
            stuff_dir: has stuff_*2017.json; annotations/ unless given.
            file_format: of the records.
            **kwargs: of `tfds.core.GeneratorBasedBuilder`.
        """
        self._coco_root, self._stuff_dir = coco_root, stuff_dir
        super().__init__(file_format=file_format, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png", use_colormap=True),
                    "class": tfds.features.ClassLabel(names=CLASSES),
                    "scene": tfds.features.ClassLabel(names=SCENES),
                    "group": tfds.features.Scalar(np.int32, doc="2 * class + scene; 0 and 3 are common"),
                    "id": tfds.features.Scalar(np.int64, doc="of the image in COCO"),
                }
            ),
            homepage="https://cocodataset.org",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        coco_root = Path(self._coco_root or dl_manager.manual_dir).expanduser()
        stuff_dir = Path(self._stuff_dir).expanduser() if self._stuff_dir else None
        check_layout(coco_root, stuff_dir)
        selection = read_selection(coco_root, stuff_dir)
        config = self.builder_config
        assert isinstance(config, CocoCDConfig)
        parts = reference_split(
            [photo.image_id for photo in selection.photos],
            [photo.group for photo in selection.photos],
            rho=config.rho,
            n_val=config.n_val,
            n_test=config.n_test,
        )
        photo_of = {photo.image_id: photo for photo in selection.photos}
        photos = {part: [photo_of[i] for i in ids] for part, ids in parts.items()}
        drawn = list(itertools.chain(*photos.values()))
        preparing.check_files(drawn, files=lambda photo: [coco_root / photo.file_name])
        return {part: self._generate_examples(coco_root, these) for part, these in photos.items()}

    def _generate_examples(self, coco_root: Path, photos: Sequence[Photo]) -> Iterator[tuple[int, dict[str, Any]]]:
        encoded = in_order(lambda photo: _encode(coco_root, photo), photos)
        for photo, (image, mask) in zip(photos, encoded, strict=True):
            yield (
                photo.image_id,
                {
                    "image": image,
                    "mask": mask,
                    "class": photo.y,
                    "scene": photo.scene,
                    "group": photo.group,
                    "id": photo.image_id,
                },
            )


def _encode(coco_root: Path, photo: Photo) -> tuple[bytes, bytes]:
    """Returns the photo's file and its mask as PNG; a photo without three channels as PNG, too: readers need them."""
    path = coco_root / photo.file_name
    image, mask = read_photo(coco_root, photo)
    with Image.open(path) as stored:
        return (path.read_bytes() if stored.mode == "RGB" else _png(image)), _png(mask)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()
