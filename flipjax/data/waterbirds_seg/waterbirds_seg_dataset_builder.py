"""Waterbirds-Seg as a TFDS data set; needs no TensorFlow to be made, and none to be read with `as_data_source`.

Example, with CUB_200_2011/, places365/ and metadata.csv in DIR:

    from flipjax.data.waterbirds_seg.waterbirds_seg_dataset_builder import Builder

    builder = Builder(config="manifest")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=DIR))
    train = builder.as_data_source("train")
"""

import dataclasses
import hashlib
import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from flipjax.config import ConfigError
from flipjax.data import preparing
from flipjax.data.split import PARTS
from flipjax.data.waterbirds_seg import archives, manifest, pools
from flipjax.threads import in_order

PNG = {"format": "PNG", "compress_level": 1}


@dataclasses.dataclass(eq=False, kw_only=True)
class Config(tfds.core.BuilderConfig):
    """Which data set is made of the archives.

    Attributes:
        kind: 'cutouts' or 'manifest'.
        manifest: a CSV; empty: metadata.csv of manual_dir.
        size: pixels a side; 0: as large as each photo.
        fix_labels: the three landbirds that the classic lists call waterbirds are landbirds.
    """

    kind: str = "cutouts"
    manifest: str = ""
    size: int = 0
    fix_labels: bool = False


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of Waterbirds-Seg.

    Config `cutouts` has the splits `birds` (every bird of CUB: its photo times its soft alpha, and the alpha as mask)
    and `scenes`; `part` says in which part a bird may stand. Config `manifest` has `train`, `val` and `test`: the
    composites of a manifest, with masks of 0 background, 1 landbird, 2 waterbird.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 - as TFDS has it.
    BUILDER_CONFIGS = [  # noqa: RUF012
        Config(name="cutouts", kind="cutouts", description="Birds with soft alpha, and scenes."),
        Config(name="manifest", kind="manifest", description="The composites of a manifest."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put into manual_dir, or pass as cub_dir, places_dir and manifest:
    CUB_200_2011/ with images/, segmentations/ (an archive of its own), images.txt and train_test_split.txt, from
    https://www.vision.caltech.edu/datasets/cub_200_2011/; places365/ with the categories bamboo_forest,
    forest/broadleaf, ocean and lake/natural, from http://places2.csail.mit.edu/; and, for the config `manifest`,
    metadata.csv, a released manifest or one that `python -m flipjax.data manifest waterbirds_seg` wrote.
    """

    def __init__(
        self,
        *,
        config: str | Config | None = None,
        cub_dir: str | Path = "",
        places_dir: str | Path = "",
        manifest: str | Path = "",
        size: int = 0,
        fix_labels: bool = False,
        **kwargs: Any,
    ):
        """Names the data; options give the config a name of its own, so that no two data sets share a folder.

        Args:
            config: 'cutouts', 'manifest' or a `Config`.
            cub_dir: CUB_200_2011; empty: that folder of manual_dir.
            places_dir: Places365; empty: the folder places365 of manual_dir.
            manifest: as of `Config`.
            size: as of `Config`.
            fix_labels: as of `Config`.
            **kwargs: of `tfds.core.GeneratorBasedBuilder`, such as data_dir.

        Raises:
            ConfigError: config or manifest is none.
        """
        if not isinstance(config, Config):
            named = {each.name: each for each in self.BUILDER_CONFIGS}
            if (config or "cutouts") not in named:
                raise ConfigError("config", problem=f"expected one of {', '.join(named)}, found {config!r}")
            options = {"manifest": str(manifest), "size": size, "fix_labels": fix_labels}
            config = _with_options(named[config or "cutouts"], {key: value for key, value in options.items() if value})
        self.options, self.cub_dir, self.places_dir = config, cub_dir, places_dir
        super().__init__(config=config, file_format=kwargs.pop("file_format", "array_record"), **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.options.size or None
        labels = {
            "class": tfds.features.ClassLabel(names=archives.CLASS_NAMES, doc="of the bird; -1 none"),
            "scene": tfds.features.ClassLabel(names=archives.SCENE_NAMES, doc="of the photo; -1 none"),
            "group": tfds.features.Scalar(np.int32, doc="2 * class + scene; -1 where one of them is none"),
            "part": tfds.features.ClassLabel(names=PARTS, doc="in which it may stand; -1 any"),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "mask": tfds.features.Image(shape=(size, size, 1), encoding_format="png"),
                    "id": tfds.features.Text(),
                    **labels,
                }
            ),
            homepage="https://arxiv.org/abs/2604.13326",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        config = self.options
        cub_dir = Path(self.cub_dir or dl_manager.manual_dir / "CUB_200_2011")
        places_dir = Path(self.places_dir or dl_manager.manual_dir / "places365")
        archives.check_cub(cub_dir)
        if config.kind == "manifest":
            path = Path(config.manifest or dl_manager.manual_dir / "metadata.csv")
            rows = manifest.read_manifest(path, fix_labels=config.fix_labels)
            things = {part: [pools.thing_of(row) for row in rows if row.split == i] for i, part in enumerate(PARTS)}
        else:
            birds = archives.read_birds(cub_dir, fix_labels=config.fix_labels)
            content = pools.of_archives(birds, archives.read_scenes(places_dir), scenes=0)
            things = {"birds": content.objects, "scenes": content.scenes}
        jobs = {split: pools.make_jobs(these, cub_dir, places_dir) for split, these in things.items()}
        preparing.check_files([*itertools.chain(*jobs.values())], files=pools.files_of)
        return {split: self._generate_examples(these) for split, these in jobs.items() if these}

    def _generate_examples(self, jobs: list[pools.Job]) -> Iterator[tuple[str, dict[str, Any]]]:
        size = self.options.size
        for job, (image, mask) in zip(jobs, in_order(lambda job: _encode(job, size), jobs), strict=True):
            thing = job.thing
            yield (
                thing.bird or thing.scene_photo,
                {
                    "image": image,
                    "mask": mask,
                    "id": thing.bird or thing.scene_photo,
                    "class": thing.y,
                    "scene": thing.scene,
                    "group": 2 * thing.y + thing.scene if min(thing.y, thing.scene) >= 0 else -1,
                    "part": thing.part,
                },
            )


def _with_options(config: Config, options: dict[str, Any]) -> Config:
    """Returns a config with options, under a name that tells them; the manifest's content is part of it."""
    if not options:
        return config
    config = dataclasses.replace(config, **options)
    parts = [config.name]
    if config.manifest:
        path = Path(config.manifest)
        if not path.is_file():
            raise ConfigError("manifest", problem=f"expected a CSV, found {path}")
        # What `tfds.builder("waterbirds_seg/NAME")` can read as a name.
        parts += [
            re.sub(r"[^\w+.-]", "_", path.stem, flags=re.ASCII),
            hashlib.sha256(path.read_bytes()).hexdigest()[:8],
        ]
    parts += [str(config.size)] if config.size else []
    parts += ["fixed"] if config.fix_labels else []
    return dataclasses.replace(config, name="-".join(parts))


def _encode(job: pools.Job, size: int) -> tuple[bytes, bytes]:
    """Returns an image and its mask as PNG files."""
    image, mask = pools.draw(job, size)
    return _png(image), _png(mask)


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, **PNG)
    return stream.getvalue()
