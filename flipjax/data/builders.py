"""Builds flipjax's own TFDS data sets atomically, on all cores, in a fixed order. Imports TFDS."""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import shuffle

from flipjax.data.build import BadFilesError, decoded, listed, say_line
from flipjax.data.pool import PoolItem
from flipjax.files import adding_folder

Item = TypeVar("Item", bound=PoolItem)
Out = TypeVar("Out")


if importlib.util.find_spec("tensorflow") is None:
    # TFDS shuffles splits above 1 GB through a thousand files, more than a process may open. The order does not depend
    # on their number.
    shuffle.BUCKETS_NUMBER = 100
    _io = SimpleNamespace(gfile=SimpleNamespace(GFile=open, exists=os.path.exists, remove=os.remove))
    _errors = SimpleNamespace(ResourceExhaustedError=MemoryError)
    shuffle.__dict__["tf"] = SimpleNamespace(io=_io, errors=_errors)


class ArchiveBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The base of flipjax's data sets; needs no TensorFlow with `file_format="array_record"`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}  # noqa: RUF012 - TFDS's way.
    MANUAL_DOWNLOAD_INSTRUCTIONS = "manual_dir must have what the README beside this builder lists."
    show_progress = False


def encoded(
    items: Sequence[Item], encode: Callable[[Item], Out], *, what: str, show: bool = False
) -> Iterator[tuple[Item, Out]]:
    """Yields items and their encoded examples, in order; prints a line about items whose object is empty.

    Args:
        items: the items of a split.
        encode: makes the files of an example, on all cores; may raise BadFileError.
        what: a plural noun for the items.
        show: whether to show a progress bar.

    Raises:
        BadFilesError: at the end; lists all items that could not be encoded.
    """
    problems: list[str] = []
    empty: list[str] = []
    yield from decoded(items, encode, what=what if show else "", problems=problems, empty=empty)
    if empty:
        say_line(f"{len(empty)} {what} left out, nothing of them is left: {listed(empty)}")
    if problems:
        raise BadFilesError(f"of {len(items)} {what}, {len(problems)} cannot be used", problems)


def check_files(items: Sequence[PoolItem]) -> None:
    """Raises BadFilesError if files of the items are missing."""
    files = dict.fromkeys(path for item in items for path in item.files)
    missing = [f"{path}: no such file" for path in files if not os.path.isfile(path)]
    if missing:
        raise BadFilesError(f"files are missing for {len(items)} images", missing)


def prepare_data_set(
    builder_class: type[tfds.core.GeneratorBasedBuilder],
    config: tfds.core.BuilderConfig,
    sources: Mapping[str, Path],
    *,
    data_dir: Path,
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
    place = Path(builder_class(config=config, data_dir=data_dir).data_dir)
    if place.is_dir():
        return f"prepared already, nothing to do (remove {place} to make it anew); {_describe(place)}"
    try:
        with adding_folder(place) as folder:
            manual_dir = folder / "manual"
            manual_dir.mkdir()
            for name, path in sources.items():
                (manual_dir / name).symlink_to(path.resolve())
            builder: Any = builder_class(config=config, data_dir=folder / "tfds", file_format="array_record")
            builder.show_progress = True
            # TFDS would print its working folder instead of the final one.
            with contextlib.redirect_stdout(None):
                builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
            for path in Path(builder.data_dir).iterdir():
                path.rename(folder / path.name)
            shutil.rmtree(folder / "tfds")
            shutil.rmtree(manual_dir)
    except RuntimeError as error:
        # array_record raises this when the disk is full.
        raise OSError(f"cannot write the data set: {error}") from error
    finally:
        for parent in (place.parent, place.parent.parent):
            with contextlib.suppress(OSError):
                parent.rmdir()
    return _describe(place)


def _describe(place: Path) -> str:
    builder: Any = tfds.builder_from_directory(place)
    counts = ", ".join(f"{split} {info.num_examples:,}" for split, info in builder.info.splits.items())
    root = f"{builder.name}/{builder.builder_config.name}"
    return f"{place}: {counts}; a sweep reads it by config.pool.root = {root!r}"
