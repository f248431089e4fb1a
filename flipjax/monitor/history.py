"""The state of a stream: the scores that a monitor has seen, so that a restart goes on where it ended.

A stream that began anew after each restart would have a new budget of false alarms each time.
"""

import dataclasses
import math
import os
from pathlib import Path

from flipjax.monitor.files import digest_of, read_record, write_record
from flipjax.monitor.threshold import Monitor
from flipjax.support.files import DamagedError, naming_malformed


@dataclasses.dataclass(frozen=True, slots=True)
class SeenImage:
    """An image of a stream."""

    score: float
    """NaN without predicted foreground."""
    cluster: str | None = None
    """Its cluster, if the monitor has clusters."""


@dataclasses.dataclass(frozen=True)
class StreamState:
    """A file with the images of a stream until its alarm, written anew after each one."""

    path: Path
    """The file."""
    monitor: Monitor
    """The monitor of the stream."""
    images: list[SeenImage]
    """The images so far."""

    def add(self, score: float, cluster: str | None = None) -> None:
        """Adds an image."""
        self.images.append(SeenImage(score, cluster))
        self.write()

    def write(self) -> None:
        """Writes the file: readers see the old one or the new one."""
        # JSON has no NaN.
        scores = [None if math.isnan(image.score) else image.score for image in self.images]
        clusters = [image.cluster for image in self.images]
        write_record(self.path, {"monitor": digest_of(self.monitor), "scores": scores, "clusters": clusters})


def open_state(path: Path, monitor: Monitor) -> StreamState:
    """Reads the state of a monitor's stream, or begins one.

    Raises:
        DamagedError: the file is no state, or that of another monitor.
        OSError: it cannot be read or written.
    """
    images: list[SeenImage] = []
    if os.path.lexists(path):
        with naming_malformed(path, "expected a history as `flipjax monitor watch` writes it"):
            stored = read_record(path)
            for score, cluster in zip(stored["scores"], stored["clusters"], strict=True):
                if score is None:
                    score = math.nan
                images.append(SeenImage(float(score), cluster))
            digest = stored["monitor"]
        if digest != digest_of(monitor):
            raise DamagedError(f"{path}: expected the history of this monitor, found that of another")
    state = StreamState(path, monitor, images)
    # Written at once, so that a folder without room is known before the first image.
    state.write()
    return state
