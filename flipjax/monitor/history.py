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
from typing import Self, TextIO

from flipjax.monitor.files import digest_of
from flipjax.monitor.threshold import Monitor
from flipjax.support.files import DamagedError, replacing


@dataclasses.dataclass(frozen=True)
class SeenImage:
    """An image of a stream, as a line of its history holds it."""

    score: float
    """NaN without predicted foreground."""
    cluster: object = None
    """Its cluster, or None."""

    @classmethod
    def read(cls, line: str) -> Self:
        """Reads a line; raises ValueError, TypeError or KeyError for one that is no image's."""
        fields = json.loads(line)
        score = fields["score"]
        if score is None:
            score = math.nan
        return cls(float(score), fields.get("cluster"))

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
        self._seen = self._read() if path.exists() else []
        self._file: TextIO | None = None

    def _read(self) -> list[SeenImage]:
        """Returns the images; a last line that was cut by a crash is left out."""
        lines = self._path.read_text(encoding="utf-8").split("\n")
        try:
            if json.loads(lines[0])["monitor"] != self._digest:
                raise DamagedError(f"{self._path}: expected the history of this monitor, found that of another")
            return [SeenImage.read(line) for line in lines[1:-1]]
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedError(f"{self._path}: expected a history as `flipjax monitor watch` writes it") from error

    def seen(self) -> Iterator[SeenImage]:
        """Yields the images of the stream so far."""
        yield from self._seen

    def __enter__(self) -> Self:
        """Begins to write; what a crash had cut is written whole."""
        lines = [json.dumps({"monitor": self._digest}), *(image.line() for image in self._seen)]
        with replacing(self._path) as stream:
            stream.write("".join(f"{line}\n" for line in lines).encode())
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
