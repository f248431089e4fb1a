"""Many image files to a pool on disk: on all cores, in shards that a later run takes over, with progress."""

import contextlib
import hashlib
import itertools
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from flipjax.config import ConfigError
from flipjax.data import prepared
from flipjax.data.pool import Catalog
from flipjax.data.prepare import BadFileError
from flipjax.data.prepared import Blocks
from flipjax.data.split import cell_names, cells
from flipjax.data.stored import CONTENT, MANIFEST, stored
from flipjax.files import replacing
from flipjax.terminal import Bar
from flipjax.threads import in_order

Rows = Mapping[str, np.ndarray]
Files = Callable[[Any], Iterable[Path]]

SHARD = 64
"""Jobs in a shard."""
SHARDS = "shards"
"""The folder of the shards, in that of the pool."""
SHARD_FILES = re.compile(r"[0-9a-f]{32}\.npz|\.[0-9a-f]{32}\.npz\.\d+\.tmp")
POOL_FILES = re.compile(
    rf"{re.escape(MANIFEST)}|\.{re.escape(MANIFEST)}\.\d+\.tmp|{SHARDS}|"
    rf"{CONTENT.pattern}|{prepared.PARTIAL.pattern}"
)
"""Names of what is written, whole or not."""
NAMED = 10
"""Bad or missing files that a message names."""


class PreparingError(ValueError):
    """Files that cannot be used: how many, and the first ten; `problems` holds a line for each."""

    def __init__(self, problems: Iterable[str], *, heading: str):
        """Makes the message; `heading` says in words what the problems are and begins after their count."""
        self.problems = tuple(problems)
        more = [f"... and {len(self.problems) - NAMED} more"] if len(self.problems) > NAMED else []
        super().__init__("\n  ".join([f"{len(self.problems)} {heading}:", *self.problems[:NAMED], *more]))


class Task(NamedTuple):
    """Jobs, the work that makes the rows of one, and their name in messages, a plural.

    `repr` prints a job the same in every run. The work returns the same names, shapes and dtypes for each; it raises
    BadFileError, as 'path: reason', where a file cannot be used.
    """

    jobs: Sequence[Any]
    work: Callable[[Any], Rows]
    what: str


class Shards:
    """What `run` made: rows of named arrays in the order of the jobs, in files that are read one after another."""

    def __init__(self, paths: Sequence[Path], rows: int):
        """Names the files."""
        self._paths, self.rows = tuple(paths), rows

    def column(self, name: str) -> np.ndarray:
        """Returns one array whole: for what is small beside the pixels."""
        return np.concatenate(list(self._read(name)))

    def blocks(self, name: str, keep: np.ndarray | None = None) -> Blocks:
        """Returns one array to be read block by block; `keep`, bool (rows,), leaves rows out."""
        first = next(self._read(name))
        rows = self.rows if keep is None else int(np.sum(keep))
        return Blocks((rows, *first.shape[1:]), lambda: self._read(name, keep))

    def remove(self) -> None:
        """Deletes the files and the shards that lie beside them, and the folder if nothing else is in it."""
        folder = self._paths[0].parent
        for path in folder.iterdir():
            if SHARD_FILES.fullmatch(path.name):
                path.unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()

    def _read(self, name: str, keep: np.ndarray | None = None) -> Iterator[np.ndarray]:
        start = 0
        for path in self._paths:
            with np.load(path, allow_pickle=False) as shard:
                block = shard[name]
            yield block if keep is None else block[keep[start : start + len(block)]]
            start += len(block)


def claim(folder: Path) -> Path:
    """Returns a folder that a pool may be written to, `~` expanded.

    Raises:
        ConfigError: it holds anything but a pool, or what an interrupted run left of one; names the first.
        OSError: it cannot be read.
    """
    folder = folder.expanduser()
    shards = folder / SHARDS
    found = [path for path in folder.iterdir() if not POOL_FILES.fullmatch(path.name)] if folder.is_dir() else []
    found += [path for path in shards.iterdir() if not SHARD_FILES.fullmatch(path.name)] if shards.is_dir() else []
    if (manifest := folder / MANIFEST).exists() and stored(folder) is None:
        found.append(manifest)
    if found:
        raise ConfigError(
            "--out",
            problem=f"expected a new or empty folder, or a prepared pool; found other files in {folder}: {min(found)}",
        )
    return folder


def make_pool(
    out: Path,
    objects: Task,
    scenes: Task,
    *,
    files: Files,
    key: str,
    size: int,
    make_catalog: Callable[[np.ndarray], Catalog],
    facts: Mapping[str, Any],
) -> None:
    """Makes a pool's pixels and writes it; an interrupted run is continued, and nothing done where the pool is there.

    It says what it makes, what it leaves out and which other pool it replaces.

    Args:
        out: the pool's folder, as of `claim`.
        objects: makes rows `image`, uint8 (size, size, 3), `mask`, uint8 (size, size), and `kept`, bool: anything of
            the object is left.
        scenes: makes rows `image`; may have no jobs.
        files: as of `name_shards`.
        key: as of `name_shards`.
        size: pixels a side.
        make_catalog: returns the catalog of the objects that a mask, bool (objects,), keeps.
        facts: as of `write_pool`.

    Raises:
        PreparingError: files are missing, or cannot be used.
        OSError: the disk is full, or cannot be written to.
    """
    counts = f"{len(objects.jobs)} images, {len(scenes.jobs)} scenes at size {size}"
    paths = name_shards([objects, scenes], out=out / SHARDS, files=files, key=key)
    whole = make_catalog(np.ones(len(objects.jobs), bool))
    names = [path.name for part in paths for path in part]
    source = hashlib.sha256(f"{names} {whole.object_split.tolist()}".encode()).hexdigest()[:32]
    before = prepared.read_manifest(out)
    if before and before["facts"].get("source") == source:
        print(f"{out}: prepared already, nothing to do")
        return
    if before:
        _say(f"{out}: holds {prepared.describe(before)}, which is replaced")
    # Shards and pool stand side by side for a while; an object has three bytes a pixel and one of mask.
    need = 2 * size**2 * (4 * len(objects.jobs) + 3 * len(scenes.jobs))
    made = sum(path.stat().st_size for part in paths for path in part if path.is_file())
    _say(check_disk(out, max(0, need - made), what=counts))
    drawn = run(objects, paths[0])
    views = run(scenes, paths[1]) if scenes.jobs else None
    keep = drawn.column("kept")
    _say_left_out(list(itertools.compress(whole.object_names, ~keep)), objects.what, size)
    catalog = make_catalog(keep)
    arrays = {
        "images": drawn.blocks("image", keep),
        "masks": drawn.blocks("mask", keep),
        "labels": (1 + catalog.object_class).astype(np.uint8),
        "scenes": views.blocks("image") if views else np.zeros((0, size, size, 3), np.uint8),
    }
    written = prepared.write_pool(out, arrays, catalog, {**facts, "source": source})
    drawn.remove()
    held = np.bincount(cells(catalog), minlength=len(cell_names(catalog)))
    groups = ", ".join(f"{name} {count}" for name, count in zip(cell_names(catalog), held, strict=True))
    print(f"{out}: {prepared.describe(written)}: {groups}")


def name_shards(tasks: Sequence[Task], *, out: Path, files: Files, key: str) -> list[list[Path]]:
    """Returns where the shards of each task stand: another name, and so another shard, for all that changes its rows.

    Args:
        tasks: with their jobs.
        out: folder of the shards.
        files: the files that a job reads, whose sizes and times are part of the name.
        key: tells apart all else that the rows depend on: version of the work, size, options.

    Raises:
        PreparingError: files are missing; names the first ten.
    """
    paths, missing = [], []
    for task in tasks:
        paths.append([out / f"{_digest(shard, files, key, missing)}.npz" for shard in _split(task.jobs)])
    _refuse_missing(missing, [job for task in tasks for job in task.jobs])
    return paths


def check_files(jobs: Sequence[Any], *, files: Files) -> None:
    """Raises PreparingError if files of jobs are missing; names the first ten."""
    missing: list[str] = []
    _digest(jobs, files, "", missing)
    _refuse_missing(missing, jobs)


def run(task: Task, paths: Sequence[Path], *, stream: TextIO | None = None) -> Shards:
    """Does every job, on all cores; what an earlier run has done is taken over, shard by shard.

    Args:
        task: the jobs.
        paths: of its shards, as of `name_shards`.
        stream: where progress goes; stderr unless given. A bar on a terminal, plain lines elsewhere.

    Returns:
        The shards; `remove` them when their content stands elsewhere.

    Raises:
        PreparingError: files cannot be used; names the first ten.
        OSError: the folder cannot be written to.
    """
    shards, total = _split(task.jobs), len(task.jobs)
    todo = [index for index, path in enumerate(paths) if not path.is_file()]
    done = total - sum(len(shards[index]) for index in todo)
    bad: list[str] = []
    with Bar(task.what, total=total, stream=stream) as bar:
        if done:
            bar.say(f"{task.what}: {done} of {total} were made by an earlier run")
            bar.skip(done)
        results = in_order(lambda index: _make(shards[index], task.work, paths[index]), todo)
        for index, problems in zip(todo, results, strict=True):
            bad += problems
            done += len(shards[index])
            note = f"{task.what}: {done} of {total}" + (f", {len(bad)} bad" if bad else "")
            bar.advance(len(shards[index]), note, last=done == total)
    if bad:
        raise PreparingError(bad, heading=f"of {total} {task.what} cannot be used")
    return Shards(paths, total)


def check_disk(folder: Path, need: int, *, what: str) -> str:
    """Returns a line that says how many bytes `what` needs and what the disk of `folder` has free.

    Raises:
        OSError: the disk has less.
    """
    there = folder.expanduser().absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    text = f"{what}: up to {need / 1e6:,.0f} MB of disk while it is made; {there} has {free / 1e6:,.0f} MB free"
    if free < need:
        raise OSError(f"not enough disk: {text}")
    return text


def _split(jobs: Sequence[Any]) -> list[Sequence[Any]]:
    return [jobs[start : start + SHARD] for start in range(0, len(jobs), SHARD)]


def _digest(shard: Sequence[Any], files: Files, key: str, missing: list[str]) -> str:
    """Returns the name of a shard; adds a line to `missing` for each file that is not there."""
    content = hashlib.sha256(f"{key}\n".encode())
    for job in shard:
        content.update(f"{job!r}\n".encode())
        for path in files(job):
            try:
                stat = path.stat()
                content.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
            except OSError as error:
                missing.append(f"{path}: {error.strerror}")
    return content.hexdigest()[:32]


def _refuse_missing(missing: Sequence[str], jobs: Sequence[Any]) -> None:
    if missing:
        raise PreparingError(dict.fromkeys(missing), heading=f"files are missing for {len(jobs)} images")


def _make(shard: Sequence[Any], work: Callable[[Any], Rows], path: Path) -> list[str]:
    """Writes a shard if all its jobs succeed; returns a line for each that does not."""
    rows, problems = [], []
    for job in shard:
        try:
            rows.append(work(job))
        except BadFileError as error:
            problems.append(str(error))
    if not problems:
        with replacing(path) as stream:
            np.savez(stream, allow_pickle=False, **{name: np.stack([row[name] for row in rows]) for name in rows[0]})
    return problems


def _say_left_out(names: Sequence[str], what: str, size: int) -> None:
    if names:
        more = ", ..." if len(names) > NAMED else ""
        _say(f"{len(names)} {what} left out, nothing of them is left at size {size}: {', '.join(names[:NAMED])}{more}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
