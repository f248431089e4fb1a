"""Many image files to arrays on disk: on all cores, in shards that a later run takes over, with progress."""

import collections
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from flipjax.data.prepare import BadFileError
from flipjax.data.prepared import Blocks
from flipjax.files import replacing

Job = TypeVar("Job")
Out = TypeVar("Out")

SHARD = 64
"""Jobs in a shard."""
AHEAD = 8
"""Results for each core that wait to be taken, at most."""
SECONDS_BETWEEN_LINES = 5.0
NAMED = 10
"""Bad or missing files that a message names."""


class PreparingError(ValueError):
    """Files that cannot be used: how many, and the first ten; `problems` holds a line for each."""

    def __init__(self, problems: Iterable[str], *, heading: str):
        """Makes the message; `heading` says in words what the problems are and begins after their count."""
        self.problems = tuple(problems)
        more = [f"... and {len(self.problems) - NAMED} more"] if len(self.problems) > NAMED else []
        super().__init__("\n  ".join([f"{len(self.problems)} {heading}:", *self.problems[:NAMED], *more]))


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
        """Deletes the files."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _read(self, name: str, keep: np.ndarray | None = None) -> Iterator[np.ndarray]:
        start = 0
        for path in self._paths:
            with np.load(path, allow_pickle=False) as shard:
                block = shard[name]
            yield block if keep is None else block[keep[start : start + len(block)]]
            start += len(block)


def run(
    jobs: Sequence[Job],
    work: Callable[[Job], Mapping[str, np.ndarray]],
    *,
    out: Path,
    files: Callable[[Job], Iterable[Path]],
    key: str,
    what: str,
    stream: TextIO | None = None,
) -> Shards:
    """Does every job, on all cores; what an earlier run has done is taken over, shard by shard.

    Threads, because Pillow and NumPy release the interpreter lock in all that takes long.

    Args:
        jobs: any number; each is printed by `repr` the same in every run.
        work: makes the rows of one job: the same names, shapes and dtypes for each. Raises BadFileError, as
            'path: reason', where a file cannot be used.
        out: folder of the shards.
        files: the files that a job reads; a shard is made anew where the size or the time of one has changed.
        key: tells apart all else that the rows depend on: version of the work, size, options.
        what: the jobs' name in messages, a plural.
        stream: where progress goes; stderr unless given. A bar on a terminal, plain lines elsewhere.

    Returns:
        The shards; `remove` them when their content stands elsewhere.

    Raises:
        PreparingError: files are missing (said before any work), or cannot be used; names the first ten.
        OSError: `out` cannot be written to.
    """
    shards = [jobs[start : start + SHARD] for start in range(0, len(jobs), SHARD)]
    paths = [out / f"{digest}.npz" for digest in _digests(shards, files, key, what)]
    out.mkdir(parents=True, exist_ok=True)
    problems: dict[int, list[str]] = {}
    todo = [index for index, path in enumerate(paths) if not path.is_file()]
    done = len(jobs) - sum(len(shards[index]) for index in todo)
    with Reporter(what, total=len(jobs), done=done, stream=stream) as reporter:
        for index, found in _in_threads(lambda i: _make(shards[i], work, paths[i]), todo):
            problems[index] = found
            reporter.advance(len(shards[index]), bad=len(found))
    bad = [line for index in sorted(problems) for line in problems[index]]
    if bad:
        raise PreparingError(bad, heading=f"of {len(jobs)} {what} cannot be used")
    return Shards(paths, len(jobs))


def fingerprint(jobs: Sequence[Job], *, files: Callable[[Job], Iterable[Path]], key: str, what: str) -> str:
    """Returns 32 hex digits that tell whether anything has changed: the jobs, their files' sizes and times, the key.

    Arguments and PreparingError (missing files) as of `run`.
    """
    return _digests([jobs], files, key, what)[0]


def in_order(work: Callable[[Job], Out], jobs: Iterable[Job]) -> Iterator[Out]:
    """Maps over jobs on all cores, in order; only a few results are ahead of what is taken."""
    with ThreadPoolExecutor(cores()) as threads:
        running: collections.deque[Future[Out]] = collections.deque()
        try:
            for job in jobs:
                running.append(threads.submit(work, job))
                if len(running) > AHEAD * cores():
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)


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


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Reporter:
    """Progress with the time left, as a context manager: a live bar on a terminal, plain lines elsewhere."""

    def __init__(self, what: str, *, total: int, done: int = 0, stream: TextIO | None = None):
        """Starts the clock; `done` of the `total` were made by an earlier run."""
        self._stream = stream or sys.stderr
        self._what, self._total, self._before, self._done, self._bad = what, total, done, done, 0
        self._start = time.monotonic()
        self._spoken = self._start
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(file=self._stream),
            disable=not self._stream.isatty(),
        )
        self._task = self._bar.add_task(what, total=total, completed=done, note="")
        if done:
            self._say(f"{what}: {done} of {total} were made by an earlier run")

    def __enter__(self) -> Self:
        """Starts the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the bar."""
        self._bar.stop()

    def advance(self, count: int, *, bad: int) -> None:
        """Counts jobs that are done, and how many of them found a bad file."""
        self._done += count
        self._bad += bad
        now = time.monotonic()
        rate = (self._done - self._before) / max(now - self._start, 1e-9)
        left = int((self._total - self._done) / rate)
        note = f"{rate:.0f}/s, {left // 60}:{left % 60:02d} left" + (f", {self._bad} bad" if self._bad else "")
        self._bar.update(self._task, completed=self._done, note=note)
        if now - self._spoken > SECONDS_BETWEEN_LINES or self._done == self._total:
            self._spoken = now
            self._say(f"{self._what}: {self._done} of {self._total}, {note}")

    def _say(self, text: str) -> None:
        if not self._stream.isatty():
            print(text, file=self._stream, flush=True)


def _digests(shards: Sequence[Sequence[Job]], files: Callable[[Job], Iterable[Path]], key: str, what: str) -> list[str]:
    digests, missing = [], []
    for shard in shards:
        content = hashlib.sha256(f"{key}\n".encode())
        for job in shard:
            content.update(f"{job!r}\n".encode())
            for path in files(job):
                try:
                    stat = path.stat()
                    content.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
                except OSError as error:
                    missing.append(f"{path}: {error.strerror}")
        digests.append(content.hexdigest()[:32])
    if missing:
        raise PreparingError(dict.fromkeys(missing), heading=f"files are missing for {sum(map(len, shards))} {what}")
    return digests


def _in_threads(make: Callable[[int], list[str]], todo: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    with ThreadPoolExecutor(cores()) as threads:
        running: dict[Future[list[str]], int] = {threads.submit(make, index): index for index in todo}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            threads.shutdown(cancel_futures=True)


def _make(shard: Sequence[Job], work: Callable[[Job], Mapping[str, np.ndarray]], path: Path) -> list[str]:
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
