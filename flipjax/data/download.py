"""Downloads archives, resumes interrupted downloads, compares checksums and unpacks.

TFDS's download manager does not resume or check MD5, and unpacks with TensorFlow.
"""

import hashlib
import http.client
import re
import shutil
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple
from urllib.error import HTTPError

from flipjax.config import ConfigError
from flipjax.files import adding_folder
from flipjax.terminal import Bar, say

BLOCK = 1 << 20
ATTEMPTS = 5
"""Connections in a row without a byte, after which the command ends."""


class Archive(NamedTuple):
    """An archive on the web, .zip or .tar, compressed or not.

    Attributes:
        url: its address.
        members: a regular expression; only members whose names contain a match are unpacked.
        into: the folder to unpack into.
        flat: whether members lose their folders.
        md5: hex; empty where unknown.
    """

    url: str
    members: str = ""
    into: str = ""
    flat: bool = False
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
    place = folder / "unpacked"
    if place.is_dir():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    paths = [_download(archive, folder / PurePosixPath(archive.url).name) for archive in archives]
    with adding_folder(place) as target:
        for archive, path in zip(archives, paths, strict=True):
            say(f"unpacking {path}")
            _unpack(archive, path, target / archive.into)
    for path in paths:
        path.unlink()
    return place


def _download(archive: Archive, path: Path) -> Path:
    """Returns the path of a complete archive; a partial one ends in .part."""
    if path.is_file():
        return path
    part = path.with_name(f"{path.name}.part")
    part.touch()
    attempts, now, total = 0, part.stat().st_size, -1
    while now != total:
        if attempts == ATTEMPTS:
            raise OSError(f"{archive.url}: cut off after {now:,} of {total:,} bytes; the same command continues")
        before, total = now, _append(archive.url, part)
        now = part.stat().st_size
        attempts = 0 if now > before else attempts + 1
    problem = _problem(archive, part)
    if problem:
        part.unlink()
        raise ConfigError("--download", problem=f"{archive.url}: {problem}; nothing of it was kept")
    return part.rename(path)


def _append(url: str, part: Path) -> int:
    """Appends the missing bytes until the connection ends, and returns the size of the whole archive."""
    start = part.stat().st_size
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            # A server without range requests sends the whole archive again.
            start = start if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0
            total = start + int(answer.headers.get("Content-Length") or -1)
            with part.open("ab" if start else "wb") as stream, Bar(part.name, total=max(1, total - start)) as bar:
                for done, block in _blocks(answer, start):
                    stream.write(block)
                    note = f"{part.name}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
                    bar.advance(len(block), note, last=done == total)
            return total if total >= start else part.stat().st_size
    except HTTPError as error:
        # The partial file is already complete.
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return start
        raise OSError(f"{url}: {error}") from error


def _blocks(answer: http.client.HTTPResponse, done: int) -> Iterator[tuple[int, bytes]]:
    try:
        while block := answer.read(BLOCK):
            done += len(block)
            yield done, block
    except (http.client.IncompleteRead, ConnectionError, TimeoutError):
        return


def _problem(archive: Archive, path: Path) -> str:
    """Returns the problem with a complete download, or ''."""
    if archive.md5:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "md5").hexdigest()
        if found != archive.md5:
            return f"expected the MD5 {archive.md5}; found {found}"
    return "" if zipfile.is_zipfile(path) or tarfile.is_tarfile(path) else "expected a zip or tar archive; found none"


def _unpack(archive: Archive, path: Path, target: Path) -> None:
    try:
        for name, stream in _members(path):
            if re.search(archive.members, name):
                file = target / (PurePosixPath(name).name if archive.flat else name)
                if not file.resolve().is_relative_to(target.resolve()):
                    raise ConfigError("--download", problem=f"{path}: the name {name!r} leads out of the archive")
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("wb") as out:
                    shutil.copyfileobj(stream, out, BLOCK)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        path.unlink()
        raise ConfigError("--download", problem=f"{archive.url}: damaged ({error}); it was deleted") from error


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yields the files of an archive, in order; skips links."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    with archive.open(entry) as stream:
                        yield entry.filename, stream
        return
    with tarfile.open(path, "r|*") as archive:
        for entry in archive:
            stream = archive.extractfile(entry) if entry.isfile() else None
            if stream:
                yield entry.name, stream
