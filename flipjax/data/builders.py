"""How flipjax's own TFDS data sets are made: on all cores, in a fixed order, whole or not at all. Imports TFDS."""

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
    # TFDS shuffles a split of more than 1 GB through files, which it opens with TensorFlow alone: a thousand at once,
    # as many as a process may have. The order is the same with fewer.
    shuffle.BUCKETS_NUMBER = 100
    _io = SimpleNamespace(gfile=SimpleNamespace(GFile=open, exists=os.path.exists, remove=os.remove))
    _errors = SimpleNamespace(ResourceExhaustedError=MemoryError)
    shuffle.__dict__["tf"] = SimpleNamespace(io=_io, errors=_errors)


def encoded(
    items: Sequence[Item], encode: Callable[[Item], Out], *, what: str, show: bool = False
) -> Iterator[tuple[Item, Out]]:
    """Yields items with what `encode` makes of them, in order; with a line for those of which nothing is left.

    Args:
        items: of a split.
        encode: makes the files of an example, on all cores; raises BadFileError where it cannot.
        what: the items in words, a plural.
        show: whether a bar shows how far it is.

    Raises:
        BadFilesError: at the end; lists every item that could not be encoded.
    """
    problems: list[str] = []
    empty: list[str] = []
    yield from decoded(items, encode, what=what if show else "", problems=problems, empty=empty)
    if empty:
        say_line(f"{len(empty)} {what} left out, nothing of them is left: {listed(empty)}")
    if problems:
        raise BadFilesError(f"of {len(items)} {what}, {len(problems)} cannot be used", problems)


def check_files(items: Sequence[PoolItem]) -> None:
    """Raises BadFilesError, before any work, if files of items are missing."""
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
    """Makes a data set, unless it is there, and returns in words what it holds.

    It is made in a folder beside its place and then moved: two processes may make the same one, and what a killed one
    leaves is deleted by the next.

    Args:
        builder_class: of the data set.
        config: of the builder.
        sources: what the builder finds in `manual_dir`, by name.
        data_dir: where TFDS keeps data sets.

    Raises:
        BadFilesError: files are missing, or cannot be used.
        ConfigError: the sources are none, or do not hold enough.
        OSError: the disk is full, or cannot be written to.
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
            # TFDS says where it works, which is not where the data set will be.
            with contextlib.redirect_stdout(None):
                builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
            for path in Path(builder.data_dir).iterdir():
                path.rename(folder / path.name)
            shutil.rmtree(folder / "tfds")
            shutil.rmtree(manual_dir)
    except RuntimeError as error:
        # How array_record says that the disk is full.
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
