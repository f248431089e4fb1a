"""Downloads archives and unpacks them.

TFDS's download manager does not resume a download or check its MD5, and unpacks with TensorFlow.
"""

import contextlib
import hashlib
import http.client
import re
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.error import HTTPError

from flipjax.config import ConfigError
from flipjax.support.files import adding_folder
from flipjax.support.terminal import Bar, say

BLOCK = 1 << 20
"""Bytes that are read at once."""
ATTEMPTS = 5
"""Consecutive connections without new data after which the download fails. If none can be made, it fails at once."""
TIMEOUT = 60
"""Seconds without data after which a connection ends."""


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
    """Downloads an archive to `path`, unless it is there; a partial one ends in .part."""
    if path.is_file():
        return path
    part = path.with_name(f"{path.name}.part")
    part.touch()
    _complete(archive.url, part)
    _check_archive(archive, part)
    return part.rename(path)


def _complete(url: str, part: Path) -> None:
    """Downloads the missing bytes of a file, and connects again where it is cut off.

    Raises:
        OSError: no connection can be made, or ATTEMPTS of them bring no new bytes.
    """
    fruitless = 0
    total = -1
    size = part.stat().st_size
    while size != total:
        if fruitless == ATTEMPTS:
            raise OSError(f"{url}: cut off after {size:,} of {total:,} bytes; the same command continues")
        total = _append(url, part)
        before = size
        size = part.stat().st_size
        if size > before:
            fruitless = 0
        else:
            fruitless += 1


def _check_archive(archive: Archive, part: Path) -> None:
    """Raises ConfigError if a download is no archive or has the wrong checksum, and deletes it."""
    with part.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    is_archive = zipfile.is_zipfile(part) or tarfile.is_tarfile(part)
    if is_archive and archive.md5 in ("", md5):
        return
    part.unlink()
    expected = "a zip or tar archive"
    if archive.md5:
        expected += f" with the MD5 {archive.md5}"
    raise ConfigError("--download", expected=expected, found=f"{md5} of {archive.url}; nothing of it was kept")


def _append(url: str, part: Path) -> int:
    """Appends the missing bytes until the connection ends, and returns the size of the whole file."""
    present = part.stat().st_size
    request = urllib.request.Request(url)
    if present:
        request.add_header("Range", f"bytes={present}-")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                # A server without range requests sends the whole archive again.
                present = 0
            length = answer.headers.get("Content-Length")
            if length is None:
                # What comes until the connection ends is taken to be all.
                _write(answer, part, present=present, total=None)
                return part.stat().st_size
            total = present + int(length)
            _write(answer, part, present=present, total=total)
            return total
    except HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            # The partial file is already complete.
            return present
        raise OSError(f"{url}: {error}") from error


def _write(answer: http.client.HTTPResponse, part: Path, *, present: int, total: int | None) -> None:
    """Appends an answer to the first `present` bytes of a file, until the connection ends.

    Args:
        answer: the server's.
        part: the file, of `present` bytes; without any it is written anew.
        present: the bytes before those of the answer.
        total: the bytes of the whole file; None where the server does not say.
    """
    mode = "wb"
    if present:
        mode = "ab"
    of_total = ""
    missing = 1
    if total is not None:
        of_total = f" of {total / 1e6:,.0f}"
        missing = max(1, total - present)
    cut_off = contextlib.suppress(http.client.IncompleteRead, ConnectionError, TimeoutError)
    with part.open(mode) as stream, Bar(total=missing) as bar, cut_off:
        while block := answer.read(BLOCK):
            stream.write(block)
            note = f"{part.name}: {stream.tell() / 1e6:,.0f}{of_total} MB"
            bar.advance(len(block), note, last=stream.tell() == total)


def _unpack(archive: Archive, path: Path, target: Path) -> None:
    """Unpacks the files of an archive, in order; skips the links of a tar."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as opened:
                opened.extractall(target, [name for name in opened.namelist() if re.search(archive.members, name)])
        else:
            # As a stream: seeking back in a compressed archive would decompress it again from its beginning.
            with tarfile.open(path, "r|*") as opened:
                members = (entry for entry in opened if entry.isfile() and re.search(archive.members, entry.name))
                opened.extractall(target, members, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        path.unlink()
        raise ConfigError("--download", problem=f"{archive.url}: damaged ({error}); it was deleted") from error
