"""Downloads archives, and builds flipjax's own TFDS data sets from them on all cores, in a fixed order.

TFDS's download manager does not resume or check MD5, and unpacks with TensorFlow.
"""

import contextlib
import hashlib
import http.client
import importlib.util
import itertools
import os
import re
import shutil
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias
from urllib.error import HTTPError

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import shuffle

from flipjax.config import ConfigError
from flipjax.data.pool import PoolItem
from flipjax.data.store import BadFilesError, decoded
from flipjax.support.files import adding_folder
from flipjax.support.terminal import Bar, listed, printable, say

Example: TypeAlias = dict[str, Any]
"""The features of an image by name, as TFDS encodes them."""

BLOCK = 1 << 20
"""Bytes that are read at once."""
ATTEMPTS = 5
"""Consecutive connections without data after which the download fails."""

if importlib.util.find_spec("tensorflow") is None:
    # TFDS shuffles splits above 1 GB through a thousand files, more than a process may open. The order does not depend
    # on their number.
    shuffle.BUCKETS_NUMBER = 100
    _io = SimpleNamespace(gfile=SimpleNamespace(GFile=open, exists=os.path.exists, remove=os.remove))
    _errors = SimpleNamespace(ResourceExhaustedError=MemoryError)
    shuffle.__dict__["tf"] = SimpleNamespace(io=_io, errors=_errors)


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

    def _generate_examples(self, items: Sequence[PoolItem], what: str) -> Iterator[tuple[str | int, Example]]:
        """Yields the examples of a split in the order of the items, which `what` names in the plural."""
        problems: list[str] = []
        empty: list[str] = []
        features: Any = self.info.features
        scenes = len(features["scene"].names)
        for item, example in decoded(items, self.encode, what, problems, empty):
            group = -1
            if min(item.y, item.scene) >= 0:
                group = item.y * scenes + item.scene
            yield example["id"], {**example, "class": item.y, "scene": item.scene, "group": group}
        if empty:
            say(printable(f"{len(empty)} {what} left out, nothing of them is left: {listed(empty)}"))
        if problems:
            raise BadFilesError(f"of {len(items)} {what}, {len(problems)} cannot be used", problems)


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
            with contextlib.redirect_stdout(None):
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


class Archive(NamedTuple):
    """An archive on the web, .zip or .tar, compressed or not.

    Attributes:
        url: address of the archive.
        members: a regular expression; only members whose names contain a match are unpacked.
        into: the folder to unpack into.
        md5: hex; empty where unknown.
    """

    url: str
    members: str = ""
    into: str = ""
    md5: str = ""


def fetch(archives: Sequence[Archive], folder: Path) -> Path:
    """Downloads and unpacks archives, unless already done, and returns the folder with their content.

    The next call resumes a partial download. Archives are deleted once all are unpacked.

    Args:
        archives: in the order of unpacking.
        folder: where downloads are kept.

    Raises:
        ConfigError: a download is no archive or has the wrong checksum; it is deleted.
        OSError: the network fails or the disk is full.
    """
    unpacked = folder / "unpacked"
    if unpacked.is_dir():
        return unpacked
    folder.mkdir(parents=True, exist_ok=True)
    paths = [_download(archive, folder / PurePosixPath(archive.url).name) for archive in archives]
    with adding_folder(unpacked) as target:
        for archive, path in zip(archives, paths, strict=True):
            say(f"unpacking {path}")
            _unpack(archive, path, target / archive.into)
    for path in paths:
        path.unlink()
    return unpacked


def _download(archive: Archive, path: Path) -> Path:
    """Returns the path of a complete archive; a partial one ends in .part."""
    if path.is_file():
        return path
    part = path.with_name(f"{path.name}.part")
    part.touch()
    attempts = 0
    total = -1
    size = part.stat().st_size
    while size != total:
        if attempts == ATTEMPTS:
            raise OSError(f"{archive.url}: cut off after {size:,} of {total:,} bytes; the same command continues")
        total = _append(archive.url, part)
        before = size
        size = part.stat().st_size
        if size > before:
            attempts = 0
        else:
            attempts += 1
    with part.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    if archive.md5 not in ("", md5) or not (zipfile.is_zipfile(part) or tarfile.is_tarfile(part)):
        part.unlink()
        expected = "a zip or tar archive"
        if archive.md5:
            expected += f" with the MD5 {archive.md5}"
        raise ConfigError("--download", expected, f"{md5} of {archive.url}; nothing of it was kept")
    return part.rename(path)


def _append(url: str, part: Path) -> int:
    """Appends the missing bytes until the connection ends, and returns the size of the whole archive."""
    start = part.stat().st_size
    headers = {}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            # A server without range requests sends the whole archive again.
            if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                start = 0
            total = start + int(answer.headers.get("Content-Length") or -1)
            cut_off = contextlib.suppress(http.client.IncompleteRead, ConnectionError, TimeoutError)
            bar = Bar(total=max(1, total - start))
            mode = "wb"
            if start:
                mode = "ab"
            with part.open(mode) as stream, bar, cut_off:
                while block := answer.read(BLOCK):
                    stream.write(block)
                    note = f"{part.name}: {stream.tell() / 1e6:,.0f} of {total / 1e6:,.0f} MB"
                    bar.advance(len(block), note, last=stream.tell() == total)
            return total if total >= start else part.stat().st_size
    except HTTPError as error:
        # The partial file is already complete.
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return start
        raise OSError(f"{url}: {error}") from error


def _unpack(archive: Archive, path: Path, target: Path) -> None:
    """Unpacks the files of an archive, in order; skips the links of a tar."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as opened:
                opened.extractall(target, [name for name in opened.namelist() if re.search(archive.members, name)])
        else:
            with tarfile.open(path, "r|*") as opened:
                members = (entry for entry in opened if entry.isfile() and re.search(archive.members, entry.name))
                opened.extractall(target, members, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        path.unlink()
        raise ConfigError("--download", problem=f"{archive.url}: damaged ({error}); it was deleted") from error
