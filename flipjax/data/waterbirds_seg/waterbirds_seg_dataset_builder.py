"""Waterbirds-Seg: birds of CUB-200-2011, cut out, and scenes of Places365; or composites of both."""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from flipjax.data import builders, images
from flipjax.data.pool import PoolItem
from flipjax.data.split import PARTS, shuffle
from flipjax.data.waterbirds_seg import archives, pixels
from flipjax.data.waterbirds_seg.archives import bird_files, read_birds, read_scenes, scene_file
from flipjax.data.waterbirds_seg.manifest import Row, read_manifest
from flipjax.groups import Groups

SPLITS = ("train", "validation", "test")

Splits = dict[str, list[PoolItem]]


@dataclasses.dataclass(eq=False, kw_only=True)
class WaterbirdsSegConfig(tfds.core.BuilderConfig):
    """Options of the data set.

    Attributes:
        composites: whether to paste birds onto the scenes of a manifest; otherwise birds and scenes are separate.
        manifests: names of CSVs in manual_dir. Composites use the first; otherwise the birds and scenes of all of them
            keep their parts. None: all birds of CUB, its test birds fixed to test.
        scenes: scene photos of each kind where no manifest names them; 0: all.
        size: pixels a side; 0: as large as each photo.
        fix_labels: whether the three landbirds that the classic lists call waterbirds are landbirds.
    """

    composites: bool = False
    manifests: tuple[str, ...] = ()
    scenes: int = archives.SCENES
    size: int = 0
    fix_labels: bool = False


class Builder(builders.ArchiveBuilder):
    """Waterbirds-Seg."""

    BUILDER_CONFIGS = [  # noqa: RUF012 - TFDS's way.
        WaterbirdsSegConfig(name="cutouts", description="Birds with soft alpha, and scenes."),
        WaterbirdsSegConfig(
            name="manifest", composites=True, manifests=("metadata.csv",), description="The composites of a manifest."
        ),
    ]
    builder_config: WaterbirdsSegConfig

    def _info(self) -> tfds.core.DatasetInfo:
        """Returns the features."""
        size = self.builder_config.size or None
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "mask": tfds.features.Image(shape=(size, size, 1), encoding_format="png"),
                    "id": tfds.features.Text(),
                    "class": tfds.features.ClassLabel(names=archives.CLASS_NAMES, doc="of the bird; -1 none"),
                    "scene": tfds.features.ClassLabel(names=archives.SCENE_NAMES, doc="of the photo; -1 none"),
                    "group": tfds.features.Scalar(np.int32, doc="as in flipjax.groups; -1 where one of them is none"),
                    "part": tfds.features.ClassLabel(names=PARTS, doc="in which it may stand; -1 any"),
                    "aspect": tfds.features.Scalar(np.float32, doc="width by height of the photo before resizing"),
                }
            ),
            homepage="https://arxiv.org/abs/2604.13326",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        """Returns the splits: `birds` and `scenes`, or those of a manifest."""
        config = self.builder_config
        manual_dir = epath.Path(dl_manager.manual_dir)
        # Messages name the original folders instead of links to them.
        cub_dir = Path(manual_dir / "CUB_200_2011").resolve()
        places_dir = Path(manual_dir / "places365").resolve()
        read = partial(read_manifest, fix_labels=config.fix_labels)
        rows = [row for name in config.manifests for row in read(Path(manual_dir / name).resolve())]
        if config.composites:
            splits = composites_of(rows, cub_dir, places_dir)
        elif rows:
            splits = parts_of(rows, cub_dir, places_dir)
        else:
            splits = cut_outs_of(cub_dir, places_dir, scenes=config.scenes, fix_labels=config.fix_labels)
        builders.check_files([item for items in splits.values() for item in items])
        return {split: self._generate_examples(items, split) for split, items in splits.items() if items}

    def _generate_examples(self, items: Sequence[PoolItem], split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yields the examples of a split in the order of the items."""
        encode = partial(_encode, size=self.builder_config.size)
        what = f"{split} images" if self.builder_config.composites else split
        for item, (image, mask, aspect) in builders.encoded(items, encode, what=what, show=self.show_progress):
            group = Groups().of(item.y, item.scene) if min(item.y, item.scene) >= 0 else -1
            labels = {"id": item.name, "class": item.y, "scene": item.scene, "group": group, "part": item.part}
            yield item.name, {"image": image, "mask": mask, "aspect": aspect} | labels


def _encode(item: PoolItem, *, size: int) -> tuple[bytes, bytes, float]:
    """Returns image and mask of `pixels.draw_item` as PNG files, and the aspect."""
    image, mask, aspect = pixels.draw_item(item, size)
    return images.encode_png(image), images.encode_png(mask), aspect


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
        files = bird_files(cub_dir, row.img_filename), (scene_file(places_dir, row.place_filename),)
        birds.setdefault(row.img_filename, PoolItem(row.img_filename, files[0], row.y, part=row.split))
        views.setdefault(row.place_filename, PoolItem(row.place_filename, files[1], scene=row.place, part=row.split))
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
