"""The history of a stream: the scores that a monitor has seen, so that a restart goes on where it ended.

A stream that began anew after each restart would have a new budget of false alarms each time. The file has a line with
the monitor's digest, then one for each image: its score, and its cluster if any.
"""

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TextIO

from flipjax.monitor.files import digest_of
from flipjax.monitor.lines import LONGEST
from flipjax.monitor.threshold import Monitor
from flipjax.support.files import DamagedError, check_regular, replacing


@dataclasses.dataclass(frozen=True, slots=True)
class SeenImage:
    """An image of a stream, as a line of its history holds it."""

    score: float
    """NaN without predicted foreground."""
    cluster: object = None
    """Its cluster, or None."""

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Reads a line; raises ValueError, TypeError or KeyError for one that is no image's."""
        fields = json.loads(line)
        score = fields["score"]
        if score is None:
            score = math.nan
        cluster = fields.get("cluster")
        if cluster is not None and not isinstance(cluster, str | int | float):
            raise ValueError(f"cluster: expected a text or a number, found {type(cluster).__name__}")
        return cls(float(score), cluster)

    def line(self) -> str:
        """Returns its line."""
        fields: dict[str, object] = {"score": None if math.isnan(self.score) else self.score}
        if self.cluster is not None:
            fields["cluster"] = self.cluster
        return json.dumps(fields)


class History:
    """A file of scores, to which each image of a stream is added as it comes. A context manager."""

    def __init__(self, path: Path, monitor: Monitor):
        """Opens the history of a monitor's stream, or begins one.

        Raises:
            DamagedError: the file is no history, or that of another monitor.
            OSError: it cannot be read or written.
        """
        self._path = path
        self._digest = digest_of(monitor)
        self._seen: list[SeenImage] = []
        if path.exists():
            self._read()
        self._file: TextIO | None = None

    def _read(self) -> None:
        """Reads the images; a last line that was cut by a crash is left out."""
        try:
            check_regular(self._path)
            with self._path.open("rb") as stream:
                lines = _whole_lines(stream)
                digest = json.loads(next(lines, b""))["monitor"]
                self._seen += map(SeenImage.read, lines)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise DamagedError(f"{self._path}: expected a history as `flipjax monitor watch` writes it") from error
        if digest != self._digest:
            raise DamagedError(f"{self._path}: expected the history of this monitor, found that of another")

    def seen(self) -> Iterator[SeenImage]:
        """Yields the images of the stream so far."""
        yield from self._seen

    def __enter__(self) -> Self:
        """Begins to write; what a crash had cut is written whole."""
        with replacing(self._path) as stream:
            stream.write(json.dumps({"monitor": self._digest}).encode() + b"\n")
            for image in self._seen:
                stream.write(image.line().encode() + b"\n")
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def add(self, score: float, cluster: object = None) -> None:
        """Adds an image."""
        if self._file is None:
            raise ValueError("history: expected to be open, found it closed.")
        self._file.write(SeenImage(score, cluster).line() + "\n")
        self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()


def _whole_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yields the lines of a file that end with a line break; raises ValueError for one of LONGEST bytes."""
    while line := stream.readline(LONGEST):
        if len(line) == LONGEST:
            raise ValueError(f"expected lines of fewer than {LONGEST:,} bytes")
        if line.endswith(b"\n"):
            yield line
