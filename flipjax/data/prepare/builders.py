"""Builds flipjax's own TFDS data sets from folders of archives, on all cores and in a fixed order."""

import contextlib
import importlib.util
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import shuffle

from flipjax.data.pool import PoolItem
from flipjax.data.store import BadFilesError, decoded
from flipjax.support.files import adding_folder
from flipjax.support.terminal import listed, printable, say

Example: TypeAlias = dict[str, Any]
"""The features of an image by name, as TFDS encodes them."""


@contextlib.contextmanager
def shuffling_needs_no_tensorflow() -> Iterator[None]:
    """While it lasts TFDS shuffles large splits by Python's own functions, unless TensorFlow is installed."""
    if importlib.util.find_spec("tensorflow") is not None:
        yield
        return
    before = shuffle.BUCKETS_NUMBER, shuffle.__dict__["tf"]
    # TFDS shuffles splits above 1 GB through a thousand files, more than a process may open. The order does not depend
    # on their number.
    shuffle.BUCKETS_NUMBER = 100
    # What it takes from TensorFlow.
    io = SimpleNamespace(gfile=SimpleNamespace(GFile=open, exists=os.path.exists, remove=os.remove))
    errors = SimpleNamespace(ResourceExhaustedError=MemoryError)
    shuffle.__dict__["tf"] = SimpleNamespace(io=io, errors=errors)
    try:
        yield
    finally:
        shuffle.BUCKETS_NUMBER, shuffle.__dict__["tf"] = before


class ArchiveBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The base of flipjax's data sets; needs no TensorFlow with `file_format="array_record"`.

    A subclass implements `_info` by `info_of`, `_split_generators` and `encode`.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}  # noqa: RUF012 - TFDS's way.
    MANUAL_DOWNLOAD_INSTRUCTIONS = "manual_dir must have what flipjax/data/README.md lists."

    def info_of(
        self, classes: Sequence[str], scenes: Sequence[str], homepage: str, **features: tfds.features.FeatureConnector
    ) -> tfds.core.DatasetInfo:
        """Returns the info of a data set, whose examples have `features` besides those of all."""
        side = getattr(self.builder_config, "size", 0) or None
        shared = {
            "image": tfds.features.Image(shape=(side, side, 3)),
            "mask": tfds.features.Image(shape=(side, side, 1), encoding_format="png"),
            "class": tfds.features.ClassLabel(names=classes, doc="-1 where there is none"),
            "scene": tfds.features.ClassLabel(names=scenes, doc="-1 where there is none"),
            "group": tfds.features.Scalar(np.int32, doc="class * scenes + scene; -1 where one of them is none"),
            "aspect": tfds.features.Scalar(np.float32, doc="width by height of the photo before resizing"),
        }
        content = tfds.features.FeaturesDict({**shared, **features})
        return self.dataset_info_from_configs(description=self.__doc__, features=content, homepage=homepage)

    def encode(self, item: Any) -> Example:
        """Returns an example of `info_of` without class, scene and group; `id` is its key. May raise BadFileError."""
        raise NotImplementedError

    def _generate_examples(self, items: Sequence[PoolItem], plural: str) -> Iterator[tuple[str | int, Example]]:
        """Yields the key and the features of each item's example, in order; messages call the items `plural`.

        Raises:
            BadFilesError: items are unusable; those whose object vanishes are left out.
        """
        problems: list[str] = []
        empty: list[str] = []
        features: Any = self.info.features
        scenes = len(features["scene"].names)
        for item, example in decoded(items, self.encode, plural, problems, empty):
            group = -1
            if min(item.y, item.scene) >= 0:
                group = item.y * scenes + item.scene
            yield example["id"], {**example, "class": item.y, "scene": item.scene, "group": group}
        if empty:
            say(printable(f"{len(empty)} {plural} left out, nothing of them is left: {listed(empty)}"))
        if problems:
            raise BadFilesError(f"of {len(items)} {plural}, {len(problems)} cannot be used", problems)


def check_files(items: Sequence[PoolItem]) -> None:
    """Raises BadFilesError if files of the items are missing, before any is decoded."""
    files = dict.fromkeys(itertools.chain.from_iterable(item.files for item in items))
    missing = [f"{path}: no such file" for path in files if not os.path.isfile(path)]
    if missing:
        raise BadFilesError(f"files are missing for {len(items)} images", missing)


def prepare_data_set(
    builder_class: type[ArchiveBuilder], config: tfds.core.BuilderConfig, sources: Mapping[str, Path], data_dir: Path
) -> str:
    """Makes a data set, unless it exists, and returns a sentence about its content.

    Works in a folder beside the final one, then moves it, so that two processes may make the same data set. The next
    process deletes what a killed one left.

    Args:
        builder_class: the builder.
        config: its configuration.
        sources: the content of `manual_dir`, by name.
        data_dir: where TFDS keeps data sets.

    Raises:
        BadFilesError: files are missing or unusable.
        ConfigError: the sources are no data set, or too small.
        OSError: the disk is full or not writable.
    """
    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    config = builder_class.builder_configs.get(config.name, config)
    final = Path(builder_class(config=config, data_dir=data_dir).data_dir)
    if final.is_dir():
        return f"prepared already, nothing to do (remove {final} to make it anew); {_describe(final)}"
    try:
        with adding_folder(final) as folder:
            manual_dir = folder / "tfds/manual"
            manual_dir.mkdir(parents=True)
            for name, path in sources.items():
                (manual_dir / name).symlink_to(path.resolve())
            builder: Any = builder_class(config=config, data_dir=folder / "tfds", file_format="array_record")
            # TFDS would print its working folder instead of the final one.
            with contextlib.redirect_stdout(None), shuffling_needs_no_tensorflow():
                builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
            for path in Path(builder.data_dir).iterdir():
                path.rename(folder / path.name)
            shutil.rmtree(folder / "tfds")
    except RuntimeError as error:
        # array_record raises this when the disk is full.
        raise OSError(f"cannot write the data set: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            final.parent.rmdir()
            final.parent.parent.rmdir()
    return _describe(final)


def _describe(folder: Path) -> str:
    """Returns a sentence about a data set: its images, and how a sweep names it."""
    builder: Any = tfds.builder_from_directory(folder)
    counts = ", ".join(f"{split} {info.num_examples:,}" for split, info in builder.info.splits.items())
    root = f"{builder.name}/{builder.builder_config.name}"
    return f"{folder}: {counts}; a sweep reads it by config.pool.root = {root!r}"
